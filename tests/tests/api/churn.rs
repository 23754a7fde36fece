//! A hundred clients create, use, renew and revoke tokens and leases while the server is killed and started again.
//! What was acknowledged holds, and nothing is left behind that belongs to nothing.
#![cfg(feature = "rocksdb")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use obol_tests::{Client, Reply, Server, ServerOptions, holds};
use serde_json::{Value, json};

const CLIENTS: usize = 100;
const ROUNDS: usize = 11;
const ROUND: Duration = Duration::from_secs(5);

/// What clients were told, and what must therefore be so.
#[derive(Default)]
struct Told {
    living: Mutex<Vec<String>>,
    revoked: Mutex<Vec<String>>,
    steps: AtomicUsize,
}

#[test]
fn half_written_a_hundred_clients_and_a_server_that_is_killed_leave_nothing_behind() {
    let server = Server::ready(ServerOptions::on_disk());
    let root = server.root();
    let mount = json!({"type": "kv", "options": {"leased_passthrough": "true"}});
    root.post("sys/mounts/leased", mount).expect(204);
    root.post("leased/app", json!({"user": "web", "ttl": "1h"}))
        .expect(204);
    let told = Told::default();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (root, told, stop) = (&root, &told, &stop);
            scope.spawn(move || {
                for i in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if live(root, told, n + i).is_none() {
                        // The server is away, or has just come back sealed.
                        thread::sleep(Duration::from_millis(20));
                    }
                }
            });
        }
        for _ in 0..ROUNDS {
            thread::sleep(ROUND);
            server.crash_and_restart();
        }
        thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
    });
    let told_revoked = told.revoked.into_inner().unwrap();
    let told_living = told.living.into_inner().unwrap();
    assert!(!told_revoked.is_empty() && !told_living.is_empty());
    assert!(told.steps.load(Ordering::Relaxed) > CLIENTS);
    for token in &told_revoked {
        root.with_token(token.as_str())
            .get("auth/token/lookup-self")
            .expect(403);
    }
    for token in &told_living {
        root.with_token(token.as_str())
            .get("auth/token/lookup-self")
            .expect(200);
    }
    // What is still being removed goes; then records and indexes agree.
    for (path, says) in [
        ("auth/token/tidy", "tokens were tidied"),
        ("sys/leases/tidy", "leases were tidied"),
    ] {
        let from = server.log().len();
        root.post(path, json!({})).expect(202);
        let log = server.await_log(from, says);
        let line = log.lines().find(|line| line.contains(says)).unwrap();
        let found = line.split(says).nth(1).unwrap_or(line).to_owned();
        let digits: Vec<u64> = numbers(&found);
        assert_eq!(digits, [0, 0], "{line}");
    }
    // All that lives can be revoked, and then nothing is left.
    root.post("sys/leases/revoke-prefix/auth/token", json!({}))
        .expect(204);
    holds("no token but root's", || {
        root.list("auth/token/accessors").keys().len() == 1
    });
    // What a killed server was just revoking is its own for two minutes: nobody waits for that here.
    root.post("sys/leases/revoke-prefix/leased", json!({}))
        .expect(204);
    holds("no lease", || root.list("sys/leases/lookup").status == 404);
}

/// The values of `name=value` pairs.
fn numbers(text: &str) -> Vec<u64> {
    let plain: String = strip_colours(text);
    plain
        .split_whitespace()
        .filter_map(|pair| pair.split_once('=')?.1.parse().ok())
        .collect()
}

fn strip_colours(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(|c| *c == 'm');
        } else {
            out.push(c);
        }
    }
    out
}

/// A life: a token, a child, something of its own, a lease; renewed, and often revoked. `None` when the server did not
/// answer, or could not: then nothing is known of what was asked last.
fn live(root: &Client, told: &Told, n: usize) -> Option<()> {
    let send = |client: &Client, method: &str, path: &str, body: Value| -> Option<Reply> {
        let request = client.request(method, path);
        let request = match method {
            "GET" => request,
            _ => request.json(&body),
        };
        let reply = request.try_send().ok()?;
        match reply.status {
            200..=299 => Some(reply),
            503 | 500 | 502 => None,
            other => panic!("{method} {path}: {other} {}", reply.text()),
        }
    };
    let body = json!({"policies": ["root"], "ttl": "1h"});
    let parent = send(root, "POST", "auth/token/create", body)?.client_token();
    let parent = root.with_token(parent);
    let body = json!({"policies": ["root"], "ttl": "1h"});
    let child = send(&parent, "POST", "auth/token/create", body)?.client_token();
    let child = root.with_token(child);
    send(
        &child,
        "POST",
        "cubbyhole/mine",
        json!({"n": n.to_string()}),
    )?;
    let lease = send(&child, "GET", "leased/app", Value::Null)?.json()["lease_id"].clone();
    send(
        &child,
        "POST",
        "auth/token/renew-self",
        json!({"increment": "30m"}),
    )?;
    let renewal = json!({"lease_id": lease, "increment": 600});
    send(&child, "POST", "sys/leases/renew", renewal)?;
    told.steps.fetch_add(1, Ordering::Relaxed);
    match n % 4 {
        0 => {
            let mut living = told.living.lock().unwrap();
            living.extend([parent.token().to_owned(), child.token().to_owned()]);
        }
        1 => {
            let body = json!({"lease_id": lease, "sync": true});
            send(root, "POST", "sys/leases/revoke", body)?;
            send(&child, "POST", "auth/token/revoke-self", json!({}))?;
            told.revoked.lock().unwrap().push(child.token().to_owned());
        }
        _ => {
            let body = json!({"token": parent.token()});
            send(root, "POST", "auth/token/revoke", body)?;
            let mut revoked = told.revoked.lock().unwrap();
            revoked.extend([parent.token().to_owned(), child.token().to_owned()]);
        }
    }
    Some(())
}
