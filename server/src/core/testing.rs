//! A server in memory for the tests of the core: real in every part but the network, with one more secrets engine
//! (`vending`), whose outside world is a list that tests can look at and break.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use obol_mount::fields::{Flag, Ttl};
use obol_mount::{
    Backend, Cx, Data, Error, Family, Kind, Lease, LeaseIntent, LeaseRenewal, Leased, MountContext,
    OpenFuture, Operation, Result, RouteTable, Routes, Secret, get,
};
use obol_storage::seal::Seal;
use obol_storage::{Engine, Memory, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::leases::Patience;
use super::request::Incoming;
use super::sealing::DevSetup;
use super::{Core, Live, Settings};

/// What the engine made outside, and whether the outside lets it.
#[derive(Default)]
pub(crate) struct Outside {
    pub(crate) made: Mutex<BTreeSet<u64>>,
    next: AtomicU64,
    /// Nothing can be taken back.
    pub(crate) stuck: AtomicBool,
    /// The engine fails after it has acted and before it answers.
    pub(crate) dies: AtomicBool,
    pub(crate) renewals: AtomicU64,
    pub(crate) tries: AtomicU64,
}

pub(crate) struct World {
    pub(crate) core: Arc<Core>,
    pub(crate) outside: Arc<Outside>,
    pub(crate) root: String,
}

/// An answer, as a client sees it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl World {
    /// A server with the engine at `vend/`; what fails is tried again after a second, three times.
    pub(crate) async fn new() -> Self {
        let outside = Arc::new(Outside::default());
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let core = core_on(&engine, &outside);
        let dev = DevSetup {
            root_token_id: Some(Secret::new("root".into())),
        };
        core.initialize(1, 1, Some(dev)).await.unwrap();
        let world = Self {
            core,
            outside,
            root: "root".into(),
        };
        world
            .post("sys/mounts/vend", json!({"type": "vending"}))
            .await
            .expect(204);
        world
    }

    pub(crate) fn live(&self) -> Arc<Live> {
        self.core.live().unwrap()
    }

    pub(crate) async fn ask(
        &self,
        token: &str,
        operation: Operation,
        path: &str,
        data: Value,
    ) -> Answer {
        let outgoing = self
            .core
            .handle(Incoming {
                id: "test".into(),
                operation,
                raw_path: path.into(),
                data: data.as_object().cloned().unwrap_or_default(),
                token: Some(Secret::new(token.into())),
                authorization: None,
                peer: None,
                port: None,
                end_point: None,
                wrap: None,
                help: false,
                headers: Vec::new(),
                open_metrics: false,
                upload: None,
            })
            .await;
        Answer {
            status: outgoing.status,
            body: serde_json::from_slice(&outgoing.body).unwrap_or_default(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&self.root, Operation::Read, path, Value::Null)
            .await
    }

    pub(crate) async fn list(&self, path: &str) -> Answer {
        self.ask(&self.root, Operation::List, path, Value::Null)
            .await
    }

    pub(crate) async fn post(&self, path: &str, data: Value) -> Answer {
        self.ask(&self.root, Operation::Update, path, data).await
    }

    /// A child of root.
    pub(crate) async fn token(&self, data: Value) -> String {
        let answer = self.post("auth/token/create", data).await.expect(200);
        answer.body["auth"]["client_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) async fn lives(&self, token: &str) -> bool {
        let answer = self
            .ask(
                token,
                Operation::Read,
                "auth/token/lookup-self",
                Value::Null,
            )
            .await;
        answer.status == 200
    }

    /// A lease of the engine, for a token. Returns its id.
    pub(crate) async fn vend(&self, token: &str, data: Value) -> String {
        let answer = self
            .ask(token, Operation::Read, "vend/creds/app", data)
            .await
            .expect(200);
        answer.body["lease_id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn made(&self) -> usize {
        self.outside.made.lock().unwrap().len()
    }

    /// Waits for something that happens in the background.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let began = SystemTime::now();
        while !holds().await {
            assert!(
                began.elapsed().unwrap() < Duration::from_secs(30),
                "still not: {what}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Nothing is left behind, and nothing is missing.
    pub(crate) async fn is_consistent(&self) {
        let live = self.live();
        assert_eq!(live.tokens.inconsistencies(100).await.unwrap(), []);
        assert_eq!(live.lease_inconsistencies(100).await.unwrap(), []);
    }

    /// Every key below a folder of storage.
    pub(crate) async fn keys(&self, folder: &str) -> Vec<String> {
        let view = View::new(self.core.barrier.clone(), folder).unwrap();
        let all = view.scan("", None, usize::MAX).await.unwrap();
        all.into_iter().map(|(path, _)| path).collect()
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

fn core_on(engine: &Arc<dyn Engine>, outside: &Arc<Outside>) -> Arc<Core> {
    let mut kinds = obol_secrets_engines::kinds();
    kinds.push(vending(outside.clone()));
    let patience = Patience {
        first: Duration::from_secs(1),
        tries: 3,
    };
    Core::with_kinds(
        engine.clone(),
        Seal::Shamir,
        Settings::default(),
        kinds.into(),
        patience,
    )
    .unwrap()
}

fn vending(outside: Arc<Outside>) -> Kind {
    Kind {
        name: "vending",
        aliases: &[],
        family: Family::Secrets,
        about: "Makes things outside, for a time",
        open: Arc::new(move |context: MountContext| -> OpenFuture {
            let outside = outside.clone();
            Box::pin(async move {
                Ok(Arc::new(Vending {
                    outside,
                    storage: context.storage,
                }) as Arc<dyn Backend>)
            })
        }),
        docs: || routes().docs(),
    }
}

struct Vending {
    outside: Arc<Outside>,
    storage: View,
}

#[async_trait]
impl Backend for Vending {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }

    async fn renew_lease(
        &self,
        internal: &Map<String, Value>,
        _: Duration,
    ) -> Result<LeaseRenewal> {
        assert!(internal["thing"].is_u64());
        self.outside.renewals.fetch_add(1, Ordering::Relaxed);
        Ok(LeaseRenewal::default())
    }

    async fn revoke_lease(&self, internal: &Map<String, Value>) -> Result<()> {
        self.outside.tries.fetch_add(1, Ordering::Relaxed);
        if self.outside.stuck.load(Ordering::Relaxed) {
            return Err(Error::bad_gateway("the outside does not answer"));
        }
        let thing = internal["thing"].as_u64().unwrap();
        self.outside.made.lock().unwrap().remove(&thing);
        Ok(())
    }
}

fn routes() -> Routes<Vending> {
    Routes::new().at("creds/{name}", "A thing for a time", get(vend))
}

#[derive(Deserialize, JsonSchema)]
struct Wish {
    #[serde(default)]
    ttl: Ttl,
    #[serde(default)]
    max_ttl: Ttl,
    #[serde(default)]
    fixed: Flag,
}

#[derive(Serialize, JsonSchema)]
struct Thing {
    thing: u64,
    also: BTreeMap<String, String>,
}

async fn vend(cx: Cx<Vending>, wish: Wish) -> Result<Leased<Data<Thing>>> {
    let thing = cx.outside.next.fetch_add(1, Ordering::Relaxed);
    let internal = Map::from_iter([("thing".to_owned(), json!(thing))]);
    let intent = LeaseIntent::write(&cx.storage, &internal, cx.request.now_unix()).await?;
    cx.outside.made.lock().unwrap().insert(thing);
    if cx.outside.dies.load(Ordering::Relaxed) {
        return Err(Error::internal("gone in the middle"));
    }
    Ok(Leased {
        answer: Data(Thing {
            thing,
            also: BTreeMap::new(),
        }),
        lease: Lease {
            ttl: wish.ttl.0,
            max_ttl: wish.max_ttl.0,
            renewable: !wish.fixed.0,
            internal,
            intent: Some(intent),
            ..Lease::default()
        },
    })
}
