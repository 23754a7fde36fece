//! A mount of the method, and requests to it as the core makes them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::{
    Backend, Error, Login, MountContext, Operation, Reply, RequestInfo, Response, Result,
    RouteTable, Secret,
};
use obol_storage::{Barrier, Engine, Memory, RootKey, View};
use obol_testbed::OpenLdap;
use obol_testbed::ldap::people::{GROUP_DN, USER_DN};
use obol_testbed::ldap::{BIND_DN, BIND_PASSWORD};
use obol_testbed::realm::HTTP_SERVICE;
use serde_json::{Map, Value, json};

use crate::world::world;

/// An opened mount and the server around it.
pub struct Mount {
    pub engine: Arc<dyn Engine>,
    root: RootKey,
    pub view: View,
    pub backend: Arc<dyn Backend>,
    table: RouteTable,
    pub now: SystemTime,
    pub peer: Option<IpAddr>,
}

impl Mount {
    /// A fresh mount without any configuration.
    pub async fn fresh() -> Self {
        world();
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let root = RootKey::generate().unwrap();
        Barrier::new(engine.clone())
            .initialize(&root)
            .await
            .unwrap();
        Self::open(engine, root).await
    }

    /// A mount that is configured for the realm's service, with LDAPS and two groups.
    pub async fn ready() -> Self {
        Self::ready_with(&world().realm.ldap).await
    }

    /// The same with a directory of the test's own.
    pub async fn ready_with(ldap: &OpenLdap) -> Self {
        let mount = Self::fresh().await;
        mount.write("config", config()).await.unwrap();
        mount.write("config/ldap", ldap_config(ldap)).await.unwrap();
        mount
            .write("groups/engineers", json!({"policies": "dev,shared"}))
            .await
            .unwrap();
        mount
            .write("groups/scientists", json!({"policies": ["lab", "shared"]}))
            .await
            .unwrap();
        mount
    }

    async fn open(engine: Arc<dyn Engine>, root: RootKey) -> Self {
        let barrier = Arc::new(Barrier::new(engine.clone()));
        barrier.unseal(&root).await.unwrap();
        let view = View::new(barrier, "auth/0b01/").unwrap();
        let kind = obol_auth_methods::kinds()
            .into_iter()
            .find(|kind| kind.name == "kerberos")
            .unwrap();
        let context = MountContext {
            storage: view.clone(),
            shared: view.clone(),
            uuid: "0b01".into(),
            options: Default::default(),
            attempts: Default::default(),
        };
        let backend = (kind.open)(context).await.unwrap();
        Self {
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
        Self::open(self.engine.clone(), root).await
    }

    pub async fn write(&self, path: &str, body: Value) -> Result<Response> {
        self.request(Operation::Update, path, body, None).await
    }

    pub async fn delete(&self, path: &str) -> Result<Response> {
        self.request(Operation::Delete, path, json!({}), None).await
    }

    /// The `data` of an answer.
    pub async fn read(&self, path: &str) -> Result<Value> {
        self.request(Operation::Read, path, json!({}), None)
            .await
            .map(data)
    }

    pub async fn list(&self, path: &str) -> Result<Value> {
        self.request(Operation::List, path, json!({}), None)
            .await
            .map(data)
    }

    /// Logs in with the token in the header, and settles the login as the core does.
    pub async fn login(&self, token: &[u8]) -> Result<Login> {
        self.login_with(Some(header(token)), json!({})).await
    }

    pub async fn login_with(&self, authorization: Option<String>, body: Value) -> Result<Login> {
        let response = self
            .request(Operation::Update, "login", body, authorization)
            .await?;
        let Reply::Login(login) = response.reply else {
            panic!("a login answers with a login: {response:?}")
        };
        self.settle(*login).await
    }

    /// What the core does with a login: one commit with the token, or the mount's own error.
    async fn settle(&self, mut login: Login) -> Result<Login> {
        match self.view.commit(std::mem::take(&mut login.commit)).await {
            Ok(()) => Ok(login),
            Err(obol_storage::Error::Conflict { .. }) => {
                Err(login.on_conflict.take().unwrap().refuse())
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// The policies that a login gives.
    pub async fn policies(&self, token: &[u8]) -> Result<Vec<String>> {
        self.login(token).await.map(|login| login.policies)
    }

    pub async fn request(
        &self,
        operation: Operation,
        path: &str,
        body: Value,
        authorization: Option<String>,
    ) -> Result<Response> {
        let (route, params) = self.table.find(path).ok_or_else(Error::not_found)?;
        let Value::Object(body) = body else {
            panic!("a body is an object")
        };
        let request = RequestInfo {
            id: request_id(),
            operation,
            mount: "auth/kerberos/".into(),
            path: path.to_owned(),
            caller: None,
            peer: self.peer,
            token: None,
            authorization: authorization.map(Secret::new),
            end_point: None,
            wrap_ttl: None,
            upload: None,
            now: self.now,
        };
        route.call(Arc::new(request), &params, body).await
    }

    /// Renews a token of this login, with the policies that it was issued with.
    pub async fn renew(&self, login: &Login) -> Result<obol_mount::Renewal> {
        let mut policies = login.policies.clone();
        policies.extend(login.token.policies.iter().cloned());
        policies.push("default".into());
        self.backend.renew(&login.internal, &policies).await
    }

    pub async fn tidy_at(&self, after: Duration) {
        self.backend.tidy(self.now + after).await.unwrap();
    }

    /// Every path that this mount has in storage.
    pub async fn paths(&self) -> Vec<String> {
        let entries = self.view.scan("", None, 10_000).await.unwrap();
        entries.into_iter().map(|(path, _)| path).collect()
    }
}

pub fn data(response: Response) -> Value {
    match response.reply.to_data() {
        Some(data) => Value::Object(data),
        None => panic!("no data: {:?}", response.reply),
    }
}

pub fn header(token: &[u8]) -> String {
    format!("Negotiate {}", STANDARD.encode(token))
}

/// The configuration of the realm's service.
pub fn config() -> Value {
    json!({
        "keytab": STANDARD.encode(world().realm.keytab()),
        "service_account": HTTP_SERVICE,
    })
}

/// The configuration of a directory, by LDAPS, bound as the service account.
pub fn ldap_config(ldap: &OpenLdap) -> Value {
    json!({
        "url": ldap.ldaps_url(),
        "certificate": ldap.ca_pem(),
        "binddn": BIND_DN,
        "bindpass": BIND_PASSWORD,
        "userdn": USER_DN,
        "userattr": "uid",
        "groupdn": GROUP_DN,
        "groupattr": "cn",
        "connection_timeout": "5s",
        "request_timeout": "5s",
    })
}

/// The fields of `base`, with those of `more` in their place.
pub fn with(mut base: Value, more: Value) -> Value {
    let fields: &mut Map<String, Value> = base.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    base
}

/// The id in the message of a refusal.
pub fn id_in(error: &Error) -> String {
    let text = error.messages().join(" ");
    let (_, rest) = text
        .split_once("(request ")
        .unwrap_or_else(|| panic!("no request id: {text}"));
    rest.split(')').next().unwrap().to_owned()
}

fn request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("request-id-{:06}", NEXT.fetch_add(1, Ordering::Relaxed))
}
