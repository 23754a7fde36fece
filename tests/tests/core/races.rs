//! What must hold when many do the same thing at the same moment.

use std::collections::BTreeSet;
use std::sync::{Barrier, Mutex};
use std::thread;

use obol_tests::Client;
use obol_tests::http::Reply;
use serde_json::json;

use super::{root, server, token};

/// Does something from many threads at once.
fn at_once<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(count);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|n| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    start.wait();
                    work(n)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies
        .iter()
        .filter(|reply| reply.status == status)
        .count()
}

#[test]
fn num_uses_race_32_clients_spend_exactly_as_many_uses_as_there_are() {
    for uses in [1, 7] {
        for _ in 0..3 {
            let client = token(json!({"num_uses": uses, "policies": ["default"]}));
            let replies = at_once(32, |_| client.get("auth/token/lookup-self"));
            assert_eq!(
                count(&replies, 200),
                uses,
                "{:?}",
                replies.iter().map(|r| r.status).collect::<Vec<_>>()
            );
            assert!(replies.iter().all(|r| matches!(r.status, 200 | 403 | 503)));
            client.get("auth/token/lookup-self").expect(403);
            root()
                .post("auth/token/lookup", json!({"token": client.token()}))
                .expect(403);
        }
    }
}

#[test]
fn a_use_is_spent_by_a_refused_request_too() {
    let client = token(json!({"num_uses": 2, "policies": ["default"]}));
    client.get("sys/policies/acl").expect(403);
    client.get("auth/token/lookup-self").expect(200);
    client.get("auth/token/lookup-self").expect(403);
    // A limited token makes no children: they would have uses without end.
    token(json!({"num_uses": 2, "policies": ["root"]}))
        .post("auth/token/create", json!({}))
        .expect(400);
}

#[test]
fn child_outlives_parent_children_that_are_born_while_the_parent_dies_die_too() {
    let policy = "path \"auth/token/*\" { capabilities = [\"update\", \"sudo\"] }";
    root()
        .put("sys/policies/acl/breeding", json!({ "policy": policy }))
        .expect(204);
    for round in 0..6 {
        let parent = token(json!({"policies": ["breeding"]}));
        let children = Mutex::new(Vec::new());
        at_once(16, |n| {
            if n == 0 {
                if round % 2 == 1 {
                    thread::yield_now();
                }
                root()
                    .post("auth/token/revoke", json!({"token": parent.token()}))
                    .expect(204);
                return;
            }
            for _ in 0..4 {
                let reply = parent.post("auth/token/create", json!({}));
                match reply.status {
                    200 => children.lock().unwrap().push(reply.client_token()),
                    403 | 503 => {}
                    other => panic!("{other}: {}", reply.text()),
                }
            }
        });
        for child in children.into_inner().unwrap() {
            server()
                .client()
                .with_token(child)
                .get("auth/token/lookup-self")
                .expect(403);
        }
    }
}

#[test]
fn of_two_writes_with_the_same_expected_version_one_wins() {
    let root = root();
    root.post("secret/data/cas/x", json!({"data": {"n": 0}}))
        .expect(200);
    for version in 1..4 {
        let replies = at_once(16, |n| {
            root.post(
                "secret/data/cas/x",
                json!({"data": {"n": n}, "options": {"cas": version}}),
            )
        });
        assert_eq!(count(&replies, 200), 1);
        assert_eq!(count(&replies, 400), 15);
    }
}

#[test]
fn every_one_of_many_concurrent_writes_is_a_version() {
    let root = root();
    root.post("secret/metadata/versions/x", json!({"max_versions": 100}))
        .expect(204);
    let versions: BTreeSet<u64> = at_once(32, |n| {
        let reply = root.post("secret/data/versions/x", json!({"data": {"n": n}}));
        reply.data()["version"].as_u64().unwrap()
    })
    .into_iter()
    .collect();
    assert_eq!(versions, (1..=32).collect());
}

#[test]
fn mounts_and_policies_that_are_changed_by_many_are_all_there() {
    let root = root();
    let replies = at_once(12, |n| {
        root.post(
            &format!("sys/mounts/many-{n}"),
            json!({"type": "kv", "options": {"version": "2"}}),
        )
    });
    assert_eq!(count(&replies, 204), 12);
    let mounts = root.get("sys/mounts").data();
    assert!((0..12).all(|n| mounts.contains_key(&format!("many-{n}/"))));
    // The same one is there once.
    let replies = at_once(12, |_| {
        root.post(
            "sys/mounts/only-one",
            json!({"type": "kv", "options": {"version": "2"}}),
        )
    });
    assert_eq!((count(&replies, 204), count(&replies, 400)), (1, 11));
    at_once(12, |n| {
        root.delete(&format!("sys/mounts/many-{n}")).expect(204)
    });
    assert!(
        root.get("sys/mounts")
            .data()
            .keys()
            .all(|path| !path.starts_with("many-"))
    );

    at_once(12, |n| {
        let policy = format!("path \"x/{n}\" {{ capabilities = [\"read\"] }}");
        root.put(
            &format!("sys/policies/acl/many-{n}"),
            json!({ "policy": policy }),
        )
        .expect(204);
    });
    let names = root.list("sys/policies/acl").keys();
    assert!((0..12).all(|n| names.contains(&format!("many-{n}"))));
}

#[test]
fn a_server_that_is_sealed_under_load_answers_503_and_comes_back_whole() {
    let server = super::with_kv();
    let root: &Client = &server.root();
    let acknowledged = Mutex::new(Vec::new());
    at_once(16, |n| {
        if n == 0 {
            root.put("sys/seal", json!({})).expect(204);
            return;
        }
        for i in 0..20 {
            let path = format!("secret/data/load/{n}-{i}");
            let reply = root.post(&path, json!({"data": {"n": n, "i": i}}));
            match reply.status {
                200 => acknowledged.lock().unwrap().push((path, n, i)),
                503 => {}
                other => panic!("{other}: {}", reply.text()),
            }
        }
    });
    root.get("secret/data/load/1-1").expect(503);
    server.unseal();
    for (path, n, i) in acknowledged.into_inner().unwrap() {
        assert_eq!(root.get(&path).data()["data"], json!({"n": n, "i": i}));
    }
}
