//! A mount of any method on memory storage behind a real barrier, driven through its route table as the core does.
#![allow(dead_code)]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use obol_mount::{
    Backend, Error, Login, MountContext, Operation, Renewal, Reply, RequestInfo, Response, Result,
    RouteTable,
};
use obol_storage::{Barrier, Engine, Memory, RootKey, View};
use serde_json::{Map, Value, json};

/// An opened mount and the server around it.
pub struct Mount {
    kind: &'static str,
    engine: Arc<dyn Engine>,
    root: RootKey,
    pub view: View,
    backend: Arc<dyn Backend>,
    table: RouteTable,
    pub now: SystemTime,
    pub peer: Option<IpAddr>,
}

impl Mount {
    /// A fresh mount without any configuration.
    pub async fn fresh(kind: &'static str) -> Self {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let root = RootKey::generate().unwrap();
        Barrier::new(engine.clone())
            .initialize(&root)
            .await
            .unwrap();
        Self::open(kind, engine, root).await
    }

    async fn open(kind: &'static str, engine: Arc<dyn Engine>, root: RootKey) -> Self {
        let barrier = Arc::new(Barrier::new(engine.clone()));
        barrier.unseal(&root).await.unwrap();
        let view = View::new(barrier, "auth/0b01/").unwrap();
        let opened = obol_auth_methods::kinds()
            .into_iter()
            .find(|known| known.name == kind)
            .unwrap();
        let context = MountContext {
            storage: view.clone(),
            shared: view.clone(),
            uuid: "0b01".into(),
            options: Default::default(),
            attempts: Default::default(),
        };
        let backend = (opened.open)(context).await.unwrap();
        Self {
            kind,
            engine,
            root,
            view,
            table: backend.clone().routes().unwrap(),
            backend,
            now: SystemTime::now(),
            peer: Some("192.0.2.7".parse().unwrap()),
        }
    }

    /// The same storage with a server of its own: after a restart, or on another node.
    pub async fn another_server(&self) -> Self {
        let root = RootKey::from_bytes(self.root.expose()).unwrap();
        Self::open(self.kind, self.engine.clone(), root).await
    }

    pub async fn write(&self, path: &str, body: Value) -> Result<Response> {
        self.request(Operation::Update, path, body).await
    }

    pub async fn delete(&self, path: &str) -> Result<Response> {
        self.request(Operation::Delete, path, json!({})).await
    }

    /// The `data` of an answer.
    pub async fn read(&self, path: &str) -> Result<Value> {
        self.request(Operation::Read, path, json!({}))
            .await
            .map(data)
    }

    pub async fn list(&self, path: &str) -> Result<Value> {
        self.request(Operation::List, path, json!({}))
            .await
            .map(data)
    }

    /// Logs in, and settles the login as the core does.
    pub async fn login(&self, path: &str, body: Value) -> Result<Login> {
        let response = self.write(path, body).await?;
        let Reply::Login(mut login) = response.reply else {
            panic!("a login answers with a login: {response:?}")
        };
        self.view
            .commit(std::mem::take(&mut login.commit))
            .await
            .unwrap();
        Ok(*login)
    }

    pub async fn request(&self, operation: Operation, path: &str, body: Value) -> Result<Response> {
        let (route, params) = self.table.find(path).ok_or_else(Error::not_found)?;
        let Value::Object(body) = body else {
            panic!("a body is an object")
        };
        let request = RequestInfo {
            id: request_id(),
            operation,
            mount: format!("auth/{}/", self.kind).into(),
            path: path.to_owned(),
            caller: None,
            peer: self.peer,
            token: None,
            authorization: None,
            end_point: None,
            wrap_ttl: None,
            upload: None,
            now: self.now,
        };
        route.call(Arc::new(request), &params, body).await
    }

    /// Renews a token of this login, with the policies that it was issued with.
    pub async fn renew(&self, login: &Login) -> Result<Renewal> {
        let mut policies = login.policies.clone();
        policies.extend(login.token.policies.iter().cloned());
        policies.push("default".into());
        self.backend.renew(&login.internal, &policies).await
    }
}

pub fn data(response: Response) -> Value {
    match response.reply.to_data() {
        Some(data) => Value::Object(data),
        None => panic!("no data: {:?}", response.reply),
    }
}

/// The fields of `base`, with those of `more` in their place.
pub fn with(mut base: Value, more: Value) -> Value {
    let fields: &mut Map<String, Value> = base.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    base
}

fn request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("request-id-{:06}", NEXT.fetch_add(1, Ordering::Relaxed))
}
