//! A mount on a real barrier, driven through its routes as the server's core drives it.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use obol_mount::{
    Backend, Caller, Error, Lease, MountContext, Operation, Reply, RequestInfo, Result, RouteTable,
    TokenKind,
};
use obol_secrets_engines::kinds;
use obol_storage::{Barrier, Batch, Commit, Engine, EngineError, Memory, RootKey, View};
use serde_json::{Map, Value};

/// A mounted engine.
pub struct Mount {
    pub backend: Arc<dyn Backend>,
    pub view: View,
    table: RouteTable,
}

/// A request, as a client means it.
#[derive(Clone)]
pub struct Ask {
    verb: Verb,
    path: String,
    data: Map<String, Value>,
    caller: Option<Caller>,
    now: SystemTime,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Verb {
    Get,
    Post,
    Patch,
    Delete,
    List,
}

/// An answer, as a client sees it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// `null` when there is no body.
    pub data: Value,
    pub warnings: Vec<String>,
    /// What the core made of the verb.
    pub operation: Operation,
    /// A lease, or the hint how long the answer may be kept.
    pub lease: Option<Lease>,
}

impl Mount {
    pub async fn open(kind: &str, options: &[(&str, &str)]) -> Self {
        Self::on(view().await, kind, options).await.unwrap()
    }

    pub async fn kv_v1() -> Self {
        Self::open("kv", &[("version", "1")]).await
    }

    pub async fn kv() -> Self {
        Self::open("kv", &[("version", "2")]).await
    }

    pub async fn on(view: View, kind: &str, options: &[(&str, &str)]) -> Result<Self> {
        let kind = kinds()
            .into_iter()
            .find(|known| known.name == kind)
            .unwrap();
        let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        let context = MountContext {
            storage: view.clone(),
            shared: View::new(view.barrier().clone(), "kind/").unwrap(),
            uuid: "c0ffee".to_owned(),
            options: options.collect::<BTreeMap<_, _>>(),
            attempts: Default::default(),
        };
        let backend = (kind.open)(context).await?;
        let table = Arc::clone(&backend).routes()?;
        Ok(Self {
            backend,
            view,
            table,
        })
    }

    pub async fn ask(&self, ask: Ask) -> Result<Answer> {
        let path = ask.path.trim_end_matches('/');
        let (route, params) = self.table.find(path).ok_or_else(Error::not_found)?;
        let operation = match ask.verb {
            Verb::Get => Operation::Read,
            Verb::Delete => Operation::Delete,
            Verb::List => Operation::List,
            Verb::Post => Operation::Update,
            Verb::Patch => Operation::Patch,
        };
        let request = |operation| {
            Arc::new(RequestInfo {
                id: "6f1c".to_owned(),
                operation,
                mount: "secret/".into(),
                path: path.to_owned(),
                caller: ask.caller.clone(),
                peer: None,
                token: None,
                authorization: None,
                end_point: None,
                wrap_ttl: None,
                upload: None,
                now: ask.now,
            })
        };
        let mut operation = operation;
        if operation == Operation::Update
            && route.can_tell_create()
            && !route.exists(request(operation), &params, &ask.data).await?
        {
            operation = Operation::Create;
        }
        let response = route.call(request(operation), &params, ask.data).await?;
        let (status, data) = match response.reply {
            Reply::Empty => (204, Value::Null),
            reply => match reply.to_data() {
                Some(data) => (200, Value::Object(data)),
                None => panic!("a secrets engine answered {reply:?}"),
            },
        };
        let status = response.status.unwrap_or(status);
        Ok(Answer {
            status,
            data,
            warnings: response.warnings,
            operation,
            lease: response.lease,
        })
    }

    /// Asks, and expects success.
    pub async fn done(&self, ask: Ask) -> Answer {
        let path = ask.path.clone();
        match self.ask(ask).await {
            Ok(answer) => answer,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// The status, whatever comes.
    pub async fn status(&self, ask: Ask) -> u16 {
        self.ask(ask)
            .await
            .map_or_else(|error| error.status(), |answer| answer.status)
    }

    /// The status and the text of a refusal.
    pub async fn refused(&self, ask: Ask) -> (u16, String) {
        let error = self.ask(ask).await.unwrap_err();
        (error.status(), error.messages().join("; "))
    }

    /// Every path that the mount keeps.
    pub async fn kept(&self) -> BTreeSet<String> {
        let all = self.view.scan("", None, usize::MAX).await.unwrap();
        all.into_iter().map(|(path, _)| path).collect()
    }

    /// Whether any value that the mount keeps holds `text` once it is decrypted.
    pub async fn holds(&self, text: &str) -> bool {
        let all = self.view.scan("", None, usize::MAX).await.unwrap();
        all.iter()
            .any(|(_, entry)| String::from_utf8_lossy(&entry.value).contains(text))
    }

    pub async fn forget(&self, token_id: &str) {
        let mut batch = Batch::new();
        self.backend.forget_token(token_id, &mut batch);
        self.view.commit(batch).await.unwrap();
    }
}

pub fn get(path: impl Into<String>) -> Ask {
    Ask::new(Verb::Get, path)
}

pub fn post(path: impl Into<String>, data: Value) -> Ask {
    Ask::new(Verb::Post, path).with(data)
}

pub fn patch(path: impl Into<String>, data: Value) -> Ask {
    Ask::new(Verb::Patch, path).with(data)
}

pub fn delete(path: impl Into<String>) -> Ask {
    Ask::new(Verb::Delete, path)
}

pub fn list(path: impl Into<String>) -> Ask {
    Ask::new(Verb::List, path)
}

impl Ask {
    fn new(verb: Verb, path: impl Into<String>) -> Self {
        Self {
            verb,
            path: path.into(),
            data: Map::new(),
            caller: None,
            now: start(),
        }
    }

    /// Body or query.
    pub fn with(mut self, data: Value) -> Self {
        let Value::Object(data) = data else {
            panic!("a request's data is an object")
        };
        self.data = data;
        self
    }

    pub fn by(mut self, caller: &Caller) -> Self {
        self.caller = Some(caller.clone());
        self
    }

    /// The server's clock stands at so many seconds after the start.
    pub fn at(mut self, seconds: u64) -> Self {
        self.now = start() + Duration::from_secs(seconds);
        self
    }
}

/// 2018-03-22T02:24:06.945319214Z, the time of an example in Vault's documentation.
pub fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_521_685_446, 945_319_214)
}

pub fn caller(token_id: &str, kind: TokenKind) -> Caller {
    Caller {
        token_id: token_id.into(),
        accessor: "accessor".into(),
        kind,
        display_name: "token".into(),
        policies: Arc::new(["default".to_owned()]),
        entity_id: "".into(),
        metadata: Arc::default(),
        is_root: false,
        issued: 0,
        ttl: 0,
    }
}

/// A mount's view on a fresh, unsealed barrier.
pub async fn view() -> View {
    let barrier = Arc::new(Barrier::new(Arc::new(Restless::default())));
    let root = RootKey::generate().unwrap();
    barrier.initialize(&root).await.unwrap();
    barrier.unseal(&root).await.unwrap();
    View::new(barrier, "logical/c0ffee/").unwrap()
}

/// The memory engine, but other tasks run before and after each of its operations, as they do where
/// an operation takes time.
#[derive(Default)]
struct Restless(Memory);

#[async_trait]
impl Engine for Restless {
    fn name(&self) -> &'static str {
        "restless memory"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, EngineError> {
        tokio::task::yield_now().await;
        let value = self.0.get(key).await;
        tokio::task::yield_now().await;
        value
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, EngineError> {
        self.0.list(prefix, after, limit).await
    }

    async fn scan(
        &self,
        start: &str,
        end: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, EngineError> {
        self.0.scan(start, end, limit).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), EngineError> {
        tokio::task::yield_now().await;
        let done = self.0.commit(commit).await;
        tokio::task::yield_now().await;
        done
    }

    async fn close(&self) -> Result<(), EngineError> {
        self.0.close().await
    }
}
