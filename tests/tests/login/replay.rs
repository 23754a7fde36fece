//! `replay`: the same proof logs in once, whenever and however often it comes.

use std::sync::Barrier;
use std::thread;

use obol_tests::kerberos::{self, login_at, login_with, negotiate};
use obol_tests::{realm, ticket};
use serde_json::json;

use super::server;

#[test]
fn replay_at_once_is_refused() {
    let tickets = ticket("grace");
    let header = negotiate(realm(), &tickets);
    login_with(server(), &header).expect(200);
    for _ in 0..3 {
        let reply = login_with(server(), &header).expect(401);
        assert!(reply.json().get("auth").is_none());
        assert!(
            reply.errors()[0].contains("used before"),
            "{:?}",
            reply.errors()
        );
    }
    // The same ticket with a new proof is no replay.
    login_with(server(), &negotiate(realm(), &tickets)).expect(200);
}

#[test]
fn replay_in_another_spelling_is_refused() {
    let header = negotiate(realm(), &ticket("grace"));
    login_with(server(), &header).expect(200);
    let token = header.strip_prefix("Negotiate ").unwrap();
    for spelling in [
        format!("negotiate {token}"),
        format!("NEGOTIATE   {token}"),
        format!("Negotiate {}", token.trim_end_matches('=')),
        // The Kerberos token without SPNEGO around it.
        super::large::without_spnego(&header),
        super::large::padded(&header, 4000),
    ] {
        let reply = login_with(server(), &spelling);
        assert!(
            matches!(reply.status, 400 | 401),
            "{}: {}",
            reply.status,
            reply.text()
        );
    }
}

#[test]
fn replay_64_times_at_the_same_moment_wins_once() {
    one_of_64_wins("kerberos");
}

#[test]
fn replay_64_times_for_a_batch_token_wins_once() {
    let ldap = kerberos::with(
        kerberos::ldap_payload(realm()),
        json!({"token_type": "batch", "token_ttl": "5m"}),
    );
    let config = kerberos::config_payload(realm());
    kerberos::enable(&server().root(), "kerberos-batch", &config, &ldap);
    one_of_64_wins("kerberos-batch");
}

fn one_of_64_wins(mount: &str) {
    let header = negotiate(realm(), &ticket("grace"));
    let start = Barrier::new(64);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let attempts: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    login_at(server(), mount, &header).status
                })
            })
            .collect();
        attempts
            .into_iter()
            .map(|attempt| attempt.join().unwrap())
            .collect()
    });
    assert_eq!(
        statuses.iter().filter(|s| **s == 200).count(),
        1,
        "{statuses:?}"
    );
    // The rest are told so, or that the server is busy: never that something broke.
    assert!(
        statuses.iter().all(|s| matches!(s, 200 | 401 | 503)),
        "{statuses:?}"
    );
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs a server with RocksDB")]
fn replay_after_a_crash_and_a_restart_is_refused() {
    let server = obol_tests::Server::ready(obol_tests::ServerOptions::on_disk());
    kerberos::set_up(&server, realm());
    let tickets = ticket("grace");
    let [used, unused] = [negotiate(realm(), &tickets), negotiate(realm(), &tickets)];
    let token = login_with(&server, &used).client_token();
    server.crash_and_restart();
    login_with(&server, &used).expect(401);
    server
        .client()
        .with_token(token)
        .get("auth/token/lookup-self")
        .expect(200);
    login_with(&server, &unused).expect(200);
}

#[test]
fn replay_at_another_mount_or_at_one_that_was_mounted_anew_is_refused() {
    let root = server().root();
    let (config, ldap) = (
        kerberos::config_payload(realm()),
        kerberos::ldap_payload(realm()),
    );
    kerberos::enable(&root, "kerberos-too", &config, &ldap);
    let header = negotiate(realm(), &ticket("grace"));
    login_with(server(), &header).expect(200);
    login_at(server(), "kerberos-too", &header).expect(401);

    let header = negotiate(realm(), &ticket("grace"));
    login_at(server(), "kerberos-too", &header).expect(200);
    root.delete("sys/auth/kerberos-too").expect(204);
    kerberos::enable(&root, "kerberos-too", &config, &ldap);
    login_at(server(), "kerberos-too", &header).expect(401);
}
