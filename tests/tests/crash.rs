//! `half-written`: SIGKILL in the middle of everything, many times. What was acknowledged is there; of what was not,
//! all or nothing is.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "rocksdb")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use obol_tests::kerberos::{self, LOGIN, negotiate_many};
use obol_tests::{Client, Server, ServerOptions, realm, ticket};
use serde_json::{Value, json};

const WRITERS: usize = 64;
const ROUNDS: usize = 20;

/// Runs `work` in many threads until the server is killed under them; a round ends after at least `enough`
/// acknowledgements, at a moment that differs from round to round. `work` gets its number and how often it was called,
/// and returns false when the server no longer answers.
fn killed_under(
    server: &Server,
    round: usize,
    writers: usize,
    enough: usize,
    work: impl Fn(usize, usize) -> Option<usize> + Sync,
) {
    let done = AtomicUsize::new(0);
    let killed = AtomicBool::new(false);
    thread::scope(|scope| {
        for n in 0..writers {
            let (work, done, killed) = (&work, &done, &killed);
            scope.spawn(move || {
                for i in 0.. {
                    if killed.load(Ordering::Relaxed) {
                        return;
                    }
                    match work(n, i) {
                        Some(acknowledged) => drop(done.fetch_add(acknowledged, Ordering::Relaxed)),
                        None => return,
                    }
                }
            });
        }
        obol_tests::holds("writes are acknowledged", || {
            done.load(Ordering::Relaxed) >= enough
        });
        // Not a wait for anything: the kill falls on another instruction each time.
        thread::sleep(Duration::from_micros(
            u64::try_from(round * 733 % 5000).unwrap(),
        ));
        server.kill();
        killed.store(true, Ordering::Relaxed);
    });
}

#[test]
fn half_written_every_acknowledged_secret_is_there_and_none_is_torn() {
    let server = Server::ready(ServerOptions::on_disk());
    let kv = json!({"type": "kv", "options": {"version": "2"}});
    server.root().post("sys/mounts/secret", kv).expect(204);
    for round in 0..ROUNDS {
        // The last acknowledged version of each writer's secret.
        let acknowledged: Mutex<BTreeMap<usize, (u64, usize)>> = Mutex::default();
        let root = server.root();
        killed_under(&server, round, WRITERS, WRITERS * 3, |n, i| {
            let body = json!({"data": {"round": round, "writer": n, "i": i, "pad": "x".repeat(i % 7 * 200)}});
            let path = format!("secret/data/crash/{round}/{n}");
            let reply = root.request("POST", &path).json(&body).try_send().ok()?;
            let version = reply.expect(200).data()["version"].as_u64().unwrap();
            acknowledged.lock().unwrap().insert(n, (version, i));
            Some(1)
        });
        server.start_again();
        server.unseal();
        let root = server.root();
        let acknowledged = acknowledged.into_inner().unwrap();
        assert!(!acknowledged.is_empty());
        for (n, (version, i)) in acknowledged {
            let path = format!("crash/{round}/{n}");
            let metadata = root.get(&format!("secret/metadata/{path}")).data();
            let current = metadata["current_version"].as_u64().unwrap();
            // One more may have been written and not acknowledged.
            assert!(
                current == version || current == version + 1,
                "round {round}, writer {n}: {version} and {current}"
            );
            for (version, i) in (version..=current).zip(i..) {
                let read = root
                    .get(&format!("secret/data/{path}?version={version}"))
                    .data();
                let data = &read["data"];
                assert_eq!(
                    (&data["writer"], &data["i"]),
                    (&json!(n), &json!(i)),
                    "round {round}"
                );
                assert_eq!(data["pad"].as_str().unwrap().len(), i % 7 * 200);
                assert_eq!(read["metadata"]["version"], version);
            }
            let versions = metadata["versions"].as_object().unwrap();
            assert!(
                versions
                    .keys()
                    .all(|v| v.parse::<u64>().unwrap() <= current)
            );
        }
    }
}

#[test]
fn half_written_no_token_is_there_without_its_indexes_nor_an_index_without_its_token() {
    let server = Server::ready(ServerOptions::on_disk());
    kerberos::set_up(&server, realm());
    let tickets = ticket("grace");
    let root_accessor = server.root().get("auth/token/lookup-self").data()["accessor"]
        .as_str()
        .unwrap()
        .to_owned();
    for round in 0..ROUNDS {
        let logins = Mutex::new(negotiate_many(realm(), &tickets, 24));
        let used = Mutex::new(Vec::new());
        let tokens = Mutex::new(Vec::new());
        let revoked = Mutex::new(Vec::new());
        let root = server.root();
        killed_under(&server, round, 24, 40, |n, i| {
            let send = |client: &Client, path: &str, body: Value| {
                client.request("POST", path).json(&body).try_send().ok()
            };
            if n < 6 {
                // Logins with real tickets, while there are any.
                let Some(header) = logins.lock().unwrap().pop() else {
                    return Some(1);
                };
                let request = root
                    .without_token()
                    .request("POST", LOGIN)
                    .header("Authorization", &header);
                let reply = request.json(&json!({})).try_send().ok()?.expect(200);
                tokens.lock().unwrap().push(reply.client_token());
                used.lock().unwrap().push(header);
                return Some(1);
            }
            // A token, a child of it, something of its own; every third time all of it goes again.
            let reply = send(
                &root,
                "auth/token/create",
                json!({"policies": ["root"], "ttl": "1h"}),
            )?
            .expect(200);
            let parent = root.with_token(reply.client_token());
            let child = send(
                &parent,
                "auth/token/create",
                json!({"policies": ["default"], "ttl": "1h"}),
            )?
            .expect(200)
            .client_token();
            let child = root.with_token(child);
            send(&child, "cubbyhole/mine", json!({"i": i.to_string()}))?.expect(204);
            if i % 3 == 2 {
                send(&root, "auth/token/revoke", json!({"token": parent.token()}))?.expect(204);
                revoked
                    .lock()
                    .unwrap()
                    .extend([parent.token().to_owned(), child.token().to_owned()]);
                return Some(4);
            }
            tokens
                .lock()
                .unwrap()
                .extend([parent.token().to_owned(), child.token().to_owned()]);
            Some(3)
        });
        server.start_again();
        server.unseal();
        let root = server.root();

        // Every accessor leads to a token that leads back to it.
        let accessors: BTreeSet<String> = root
            .list("auth/token/accessors")
            .keys()
            .into_iter()
            .collect();
        for accessor in &accessors {
            let reply = root.post(
                "auth/token/lookup-accessor",
                json!({ "accessor": accessor }),
            );
            assert_eq!(
                reply.status,
                200,
                "round {round}: {accessor}: {}",
                reply.text()
            );
            assert_eq!(reply.data()["accessor"], accessor.as_str());
        }
        // Every acknowledged token lives and is found by its accessor.
        for token in tokens.into_inner().unwrap() {
            let seen = root.with_token(token).get("auth/token/lookup-self").data();
            assert!(
                accessors.contains(seen["accessor"].as_str().unwrap()),
                "round {round}: a token without its accessor"
            );
        }
        for token in revoked.into_inner().unwrap() {
            root.with_token(token)
                .get("auth/token/lookup-self")
                .expect(403);
        }
        // A proof whose login was acknowledged is spent.
        for header in used.into_inner().unwrap().iter().take(6) {
            kerberos::login_with(&server, header).expect(401);
        }
        // Whatever came of the rest, all of it can be taken away again: parents with their children, and logins with
        // the mount's other tokens.
        if round % 5 == 4 {
            for accessor in accessors.iter().filter(|a| **a != root_accessor) {
                let reply = root.post(
                    "auth/token/revoke-accessor",
                    json!({ "accessor": accessor }),
                );
                assert!(matches!(reply.status, 200 | 204), "{}", reply.text());
            }
            assert_eq!(
                root.list("auth/token/accessors").keys(),
                std::slice::from_ref(&root_accessor),
                "round {round}"
            );
        }
    }
}

#[test]
fn half_written_a_revocation_that_was_cut_off_is_finished_after_the_unseal() {
    let server = Server::ready(ServerOptions::on_disk());
    for round in 0..6 {
        let root = server.root();
        let parent = root
            .post(
                "auth/token/create",
                json!({"policies": ["root"], "ttl": "1h"}),
            )
            .client_token();
        let parent = root.with_token(parent);
        let children = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let child = parent
                            .post("auth/token/create", json!({"policies": ["default"]}))
                            .client_token();
                        children.lock().unwrap().push(child);
                    }
                });
            }
        });
        thread::scope(|scope| {
            let revoke = root
                .request("POST", "auth/token/revoke")
                .json(&json!({"token": parent.token()}));
            let revoking = scope.spawn(move || revoke.try_send());
            obol_tests::holds("the parent is dead", || {
                parent
                    .request("GET", "auth/token/lookup-self")
                    .try_send()
                    .is_ok_and(|r| r.status == 403)
            });
            thread::sleep(Duration::from_micros(
                u64::try_from(round * 1511 % 4000).unwrap(),
            ));
            server.kill();
            drop(revoking.join().unwrap());
        });
        server.start_again();
        server.unseal();
        parent.get("auth/token/lookup-self").expect(403);
        for child in children.into_inner().unwrap() {
            let child = root.with_token(child);
            obol_tests::holds("the children die too", || {
                child.get("auth/token/lookup-self").status == 403
            });
        }
    }
}

#[test]
fn half_written_mounts_that_were_being_made_or_removed_are_there_or_not() {
    let server = Server::ready(ServerOptions::on_disk());
    for round in 0..8 {
        let made = Mutex::new(BTreeSet::new());
        let removed = Mutex::new(BTreeSet::new());
        let root = server.root();
        killed_under(&server, round, 8, 12, |n, i| {
            let path = format!("crash-{round}-{n}-{i}");
            let kv = json!({"type": "kv", "options": {"version": "2"}});
            root.request("POST", &format!("sys/mounts/{path}"))
                .json(&kv)
                .try_send()
                .ok()?
                .expect(204);
            root.request("POST", &format!("{path}/data/x"))
                .json(&json!({"data": {}}))
                .try_send()
                .ok()?
                .expect(200);
            if i % 2 == 0 {
                made.lock().unwrap().insert(path);
                return Some(2);
            }
            root.request("DELETE", &format!("sys/mounts/{path}"))
                .try_send()
                .ok()?
                .expect(204);
            removed.lock().unwrap().insert(path);
            Some(3)
        });
        server.start_again();
        server.unseal();
        let mounts = server.root().get("sys/mounts").data();
        for path in made.into_inner().unwrap() {
            assert!(mounts.contains_key(&format!("{path}/")), "{path} is gone");
            server.root().get(&format!("{path}/data/x")).expect(200);
        }
        for path in removed.into_inner().unwrap() {
            assert!(!mounts.contains_key(&format!("{path}/")), "{path} is back");
            server.root().get(&format!("{path}/data/x")).expect(404);
        }
        for path in mounts.keys().filter(|path| path.starts_with("crash-")) {
            server
                .root()
                .delete(&format!("sys/mounts/{path}"))
                .expect(204);
        }
    }
}

#[test]
fn half_written_an_init_that_was_cut_off_is_whole_or_can_be_done_again() {
    for delay in [0, 200, 500, 1000, 2000, 4000, 8000, 16_000] {
        let server = Server::start(ServerOptions::on_disk());
        let client = server.client();
        let reply = thread::scope(|scope| {
            let init = client
                .request("PUT", "sys/init")
                .json(&json!({"secret_shares": 1, "secret_threshold": 1}));
            let init = scope.spawn(move || init.try_send());
            thread::sleep(Duration::from_micros(delay));
            server.kill();
            init.join().unwrap()
        });
        server.start_again();
        let initialized = client.get("sys/init").json()["initialized"]
            .as_bool()
            .unwrap();
        match reply {
            Ok(reply) => {
                let made = reply.expect(200).json();
                assert!(initialized);
                client
                    .put("sys/unseal", json!({"key": made["keys"][0]}))
                    .expect(200);
                client
                    .with_token(made["root_token"].as_str().unwrap())
                    .get("sys/mounts")
                    .expect(200);
            }
            // Nobody has the keys: it must not have happened, or the storage is lost for good.
            Err(_) if !initialized => {
                server.init();
                server.unseal();
                server.root().get("sys/mounts").expect(200);
            }
            // Between the commit and the answer: nothing of value was stored yet; the operator starts over with an
            // empty directory. It is told apart from a server that works.
            Err(_) => assert_eq!(client.get("sys/seal-status").json()["sealed"], true),
        }
    }
}
