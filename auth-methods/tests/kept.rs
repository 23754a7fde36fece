//! What userpass and approle leave in storage: no password, no secret ID, and nothing at all of what was removed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use obol_mount::{
    AttemptCounter, Attempts, Backend, MountContext, Operation, Reply, RequestInfo, Response,
    Result, RouteTable, Standing,
};
use obol_storage::{Barrier, Batch, Engine, Memory, RootKey, View};
use serde_json::{Map, Value, json};

/// A mount, and requests to it as the core makes them.
struct Mount {
    view: View,
    backend: Arc<dyn Backend>,
    table: RouteTable,
    now: SystemTime,
}

impl Mount {
    async fn of(kind: &str, attempts: Attempts) -> Self {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let root = RootKey::generate().unwrap();
        let barrier = Barrier::new(engine);
        barrier.initialize(&root).await.unwrap();
        barrier.unseal(&root).await.unwrap();
        let view = View::new(Arc::new(barrier), "mount/0b01/").unwrap();
        let context = MountContext {
            storage: view.clone(),
            shared: view.sub("shared/").unwrap(),
            uuid: "0b01".into(),
            options: BTreeMap::new(),
            attempts,
        };
        let kinds = obol_auth_methods::kinds();
        let kind = kinds.into_iter().find(|known| known.name == kind).unwrap();
        let backend = (kind.open)(context).await.unwrap();
        Self {
            view,
            table: backend.clone().routes().unwrap(),
            backend,
            now: SystemTime::now(),
        }
    }

    async fn ask(&self, operation: Operation, path: &str, body: Value) -> Result<Response> {
        let Value::Object(body) = body else {
            panic!("a body is an object")
        };
        let (route, params) = self.table.find(path).unwrap();
        let request = RequestInfo {
            id: "a-request".into(),
            operation,
            mount: "auth/test/".into(),
            path: path.to_owned(),
            caller: None,
            peer: None,
            token: None,
            authorization: None,
            end_point: None,
            wrap_ttl: None,
            upload: None,
            now: self.now,
        };
        route.call(Arc::new(request), &params, body).await
    }

    async fn write(&self, path: &str, body: Value) -> Map<String, Value> {
        let response = self.ask(Operation::Update, path, body).await.unwrap();
        response.reply.to_data().unwrap_or_default()
    }

    /// Logs in and commits what the login wants durable, as the core does with the token.
    async fn log_in(&self, path: &str, body: Value) -> Result<()> {
        let response = self.ask(Operation::Update, path, body).await?;
        let Reply::Login(login) = response.reply else {
            panic!("no login")
        };
        self.view.commit(login.commit).await?;
        Ok(())
    }

    /// Everything that rests, path and value, as one text.
    async fn kept(&self) -> Vec<(String, String)> {
        let all = self.view.scan("", None, 10_000).await.unwrap();
        all.into_iter()
            .map(|(path, entry)| {
                let value = String::from_utf8_lossy(&entry.value).into_owned();
                (path, value)
            })
            .collect()
    }

    async fn paths(&self) -> Vec<String> {
        self.kept()
            .await
            .into_iter()
            .map(|(path, _)| path)
            .collect()
    }
}

/// Says that everybody is locked when it is told to, and counts what it hears.
#[derive(Default)]
struct Told {
    is_locked: AtomicBool,
    failed: AtomicU64,
    unknown: AtomicU64,
}

#[async_trait]
impl AttemptCounter for Told {
    async fn look(&self, _: &str, _: u64) -> Result<Standing> {
        Ok(Standing {
            is_locked: self.is_locked.load(Ordering::SeqCst),
            ..Standing::default()
        })
    }

    async fn failed(&self, _: &str, is_known: bool, _: &Standing, _: u64) -> Result<()> {
        match is_known {
            true => self.failed.fetch_add(1, Ordering::SeqCst),
            false => self.unknown.fetch_add(1, Ordering::SeqCst),
        };
        Ok(())
    }

    async fn passed(&self, _: &str, _: &Standing, _: u64, _: &mut Batch) -> Result<bool> {
        Ok(true)
    }
}

#[tokio::test]
async fn a_password_rests_as_a_hash_and_goes_with_its_user() {
    let mount = Mount::of("userpass", Attempts::uncounted()).await;
    mount
        .write("users/Grace", json!({"password": "correct horse"}))
        .await;
    mount
        .log_in("login/GRACE", json!({"password": "correct horse"}))
        .await
        .unwrap();
    let kept = mount.kept().await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].0, "user/grace");
    assert!(!kept[0].1.contains("correct horse") && kept[0].1.contains("argon2id"));
    mount
        .ask(Operation::Delete, "users/grace", json!({}))
        .await
        .unwrap();
    assert_eq!(mount.paths().await, [""; 0]);
}

#[tokio::test]
async fn a_user_who_goes_while_the_password_is_compared_gets_no_token() {
    let mount = Mount::of("userpass", Attempts::uncounted()).await;
    mount.write("users/grace", json!({"password": "pw"})).await;
    let body = json!({"password": "pw"});
    let response = mount
        .ask(Operation::Update, "login/grace", body)
        .await
        .unwrap();
    let Reply::Login(login) = response.reply else {
        panic!("no login")
    };
    mount
        .ask(Operation::Delete, "users/grace", json!({}))
        .await
        .unwrap();
    assert!(mount.view.commit(login.commit).await.is_err());
}

#[tokio::test]
async fn a_locked_name_is_refused_as_a_wrong_secret_is_and_the_right_one_is_not_looked_at() {
    let told = Arc::new(Told::default());
    let users = Mount::of("userpass", Attempts::new(told.clone())).await;
    users.write("users/grace", json!({"password": "pw"})).await;
    let roles = Mount::of("approle", Attempts::new(told.clone())).await;
    roles.write("role/r", json!({"role_id": "r"})).await;
    let issued = roles
        .write("role/r/secret-id", json!({"num_uses": 1}))
        .await;
    let right = json!({"role_id": "r", "secret_id": issued["secret_id"]});
    let wrong = json!({"role_id": "r", "secret_id": "wrong"});

    let wrong_password = users.log_in("login/grace", json!({"password": "x"})).await;
    let wrong_secret = roles.log_in("login", wrong).await;
    told.is_locked.store(true, Ordering::SeqCst);
    let before = roles.kept().await;
    let locked_password = users.log_in("login/grace", json!({"password": "pw"})).await;
    let locked_secret = roles.log_in("login", right.clone()).await;
    assert_eq!(roles.kept().await, before);
    for (wrong, locked) in [
        (wrong_password, locked_password),
        (wrong_secret, locked_secret),
    ] {
        let (wrong, locked) = (wrong.unwrap_err(), locked.unwrap_err());
        assert_eq!(
            (wrong.status(), wrong.messages()),
            (locked.status(), locked.messages())
        );
    }
    assert_eq!(told.failed.load(Ordering::SeqCst), 4);
    users
        .log_in("login/nobody", json!({"password": "x"}))
        .await
        .unwrap_err();
    roles
        .log_in("login", json!({"role_id": "x", "secret_id": "y"}))
        .await
        .unwrap_err();
    assert_eq!(told.unknown.load(Ordering::SeqCst), 2);
    told.is_locked.store(false, Ordering::SeqCst);
    roles.log_in("login", right).await.unwrap();
}

#[tokio::test]
async fn secret_ids_rest_as_hashes_and_leave_nothing_when_they_are_spent() {
    let mount = Mount::of("approle", Attempts::uncounted()).await;
    mount
        .write(
            "role/r",
            json!({"role_id": "the role", "secret_id_ttl": "1h"}),
        )
        .await;
    let before = mount.paths().await;
    let issued = mount
        .write("role/r/secret-id", json!({"num_uses": 2}))
        .await;
    let secret_id = issued["secret_id"].as_str().unwrap();
    for (path, value) in mount.kept().await {
        assert!(
            !path.contains(secret_id) && !value.contains(secret_id),
            "{path}"
        );
    }
    let body = json!({"role_id": "the role", "secret_id": secret_id});
    mount.log_in("login", body.clone()).await.unwrap();
    assert_ne!(mount.paths().await, before);
    mount.log_in("login", body.clone()).await.unwrap();
    assert_eq!(mount.paths().await, before);
    assert_eq!(mount.log_in("login", body).await.unwrap_err().status(), 400);
}

#[tokio::test]
async fn a_login_that_was_captured_before_its_commit_cannot_be_committed_twice() {
    let mount = Mount::of("approle", Attempts::uncounted()).await;
    mount.write("role/r", json!({"role_id": "r"})).await;
    let issued = mount
        .write("role/r/secret-id", json!({"num_uses": 5}))
        .await;
    let body = json!({"role_id": "r", "secret_id": issued["secret_id"]});
    let mut commits = Vec::new();
    for _ in 0..2 {
        let response = mount.ask(Operation::Update, "login", body.clone()).await;
        let Reply::Login(login) = response.unwrap().reply else {
            panic!("no login")
        };
        // The turn is over before the commit is done, as it is between two servers.
        commits.push(login.commit);
    }
    let second = commits.pop().unwrap();
    mount.view.commit(commits.pop().unwrap()).await.unwrap();
    assert!(mount.view.commit(second).await.is_err());
}

#[tokio::test]
async fn a_role_that_is_deleted_and_secret_ids_whose_time_is_over_leave_nothing() {
    let mut mount = Mount::of("approle", Attempts::uncounted()).await;
    let empty = mount.paths().await;
    mount.write("role/a", json!({"secret_id_ttl": "10s"})).await;
    mount.write("role/b", json!({"secret_id_ttl": "10s"})).await;
    let with_roles = mount.paths().await;
    // More than a page of the tidying.
    for _ in 0..300 {
        mount.write("role/a/secret-id", json!({})).await;
        mount.write("role/b/secret-id", json!({})).await;
    }
    mount.backend.tidy(mount.now).await.unwrap();
    assert_eq!(mount.paths().await.len(), with_roles.len() + 600 * 3);
    mount
        .ask(Operation::Delete, "role/b", json!({}))
        .await
        .unwrap();
    mount.now += Duration::from_secs(11);
    mount.backend.tidy(mount.now).await.unwrap();
    mount
        .ask(Operation::Delete, "role/a", json!({}))
        .await
        .unwrap();
    assert_eq!(mount.paths().await, empty);
}
