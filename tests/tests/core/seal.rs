//! Before a server serves: init, unseal, seal, and what it says of itself meanwhile.

use std::collections::BTreeSet;

use obol_tests::clients::Cli;
use obol_tests::server::Seal;
use obol_tests::{Client, Server, ServerOptions};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::with_kv;

fn three_of_five() -> ServerOptions {
    ServerOptions {
        seal: Seal::Shamir {
            shares: 5,
            threshold: 3,
        },
        ..ServerOptions::default()
    }
}

fn status(client: &Client) -> Value {
    client.get("sys/seal-status").expect(200).json()
}

#[test]
fn a_new_server_is_not_initialized() {
    let server = Server::start(ServerOptions::default());
    let client = server.client();
    assert_eq!(
        client.get("sys/init").expect(200).json(),
        json!({"initialized": false})
    );
    let status = status(&client);
    assert_eq!(
        (&status["initialized"], &status["sealed"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(status["type"], "shamir");
    client.get("sys/health").expect(501);
    client.request("HEAD", "sys/health").send().expect(501);
    client.get("sys/leader").expect(200);
    let reply = client
        .put("sys/unseal", json!({"key": "01".repeat(33)}))
        .expect(400);
    assert!(
        reply.errors()[0].contains("not initialized"),
        "{:?}",
        reply.errors()
    );
    client.get("sys/mounts").expect(503);
}

#[test]
fn health_answers_with_the_status_that_was_asked_for() {
    let server = Server::start(ServerOptions::default());
    let client = server.client();
    let query =
        "sys/health?uninitcode=291&sealedcode=292&activecode=293&standbyok=true&perfstandbyok=true";
    client.get(query).expect(291);
    client.request("HEAD", query).send().expect(291);
    server.init();
    client.get("sys/health").expect(503);
    let body = client.get(query).expect(292).json();
    assert_eq!(
        (&body["initialized"], &body["sealed"], &body["standby"]),
        (&json!(true), &json!(true), &json!(false))
    );
    server.unseal();
    let body = client.get("sys/health").expect(200).json();
    assert_eq!(body["sealed"], false);
    assert!(body["server_time_utc"].as_u64().unwrap() > 1_700_000_000);
    assert!(body["version"].is_string() && body["cluster_name"].is_string());
    client.get(query).expect(293);
    client.get("sys/health?activecode=99").expect(400);
    client.get("sys/health?activecode=hundred").expect(400);
}

#[test]
fn init_gives_out_as_many_keys_as_asked_and_does_so_once() {
    let server = Server::start(ServerOptions::default());
    let client = server.client();
    for wrong in [
        json!({}),
        json!({"secret_shares": 0, "secret_threshold": 0}),
        json!({"secret_shares": 3, "secret_threshold": 4}),
        json!({"secret_shares": 3, "secret_threshold": 1}),
        json!({"secret_shares": 256, "secret_threshold": 3}),
        json!({"secret_shares": "many", "secret_threshold": 3}),
        json!({"secret_shares": 1, "secret_threshold": 1, "pgp_keys": ["mQENBF"]}),
        json!({"secret_shares": 1, "secret_threshold": 1, "recovery_shares": 1}),
    ] {
        let reply = client.put("sys/init", wrong.clone());
        assert_eq!(reply.status, 400, "{wrong}: {}", reply.text());
    }
    assert_eq!(client.get("sys/init").json(), json!({"initialized": false}));

    let made = client
        .put(
            "sys/init",
            json!({"secret_shares": 5, "secret_threshold": 3}),
        )
        .expect(200)
        .json();
    let [keys, base64] =
        [&made["keys"], &made["keys_base64"]].map(|list| list.as_array().unwrap().clone());
    assert_eq!((keys.len(), base64.len()), (5, 5));
    let different: BTreeSet<&str> = keys.iter().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(different.len(), 5);
    assert!(made["root_token"].as_str().unwrap().starts_with("obs."));
    let again = client
        .put(
            "sys/init",
            json!({"secret_shares": 1, "secret_threshold": 1}),
        )
        .expect(400);
    assert!(
        again.errors()[0].contains("already initialized"),
        "{:?}",
        again.errors()
    );
    assert_eq!(status(&client)["sealed"], true);
}

#[test]
fn unsealing_counts_keys_forgets_them_on_reset_and_takes_no_key_twice() {
    let server = Server::start(three_of_five());
    server.init();
    let client = server.client();
    let keys = server.keys().shares;
    let give = |key: &str| client.put("sys/unseal", json!({ "key": key }));

    let first = give(&keys[0]).expect(200).json();
    assert_eq!(
        (&first["progress"], &first["t"], &first["n"]),
        (&json!(1), &json!(3), &json!(5))
    );
    assert!(!first["nonce"].as_str().unwrap().is_empty());
    assert_eq!(give(&keys[3]).expect(200).json()["progress"], 2);
    // `shamir-bias`: a duplicate share is not progress.
    let twice = give(&keys[0]);
    assert!(
        twice.status == 400 || twice.json()["progress"] == 2,
        "{}",
        twice.text()
    );
    assert_eq!(status(&client)["progress"], 2);

    let reset = client
        .put("sys/unseal", json!({"reset": true}))
        .expect(200)
        .json();
    assert_eq!(
        (&reset["progress"], &reset["sealed"]),
        (&json!(0), &json!(true))
    );

    for key in [&keys[1], &keys[2]] {
        give(key).expect(200);
    }
    let open = give(&keys[4]).expect(200).json();
    assert_eq!(
        (&open["sealed"], &open["progress"]),
        (&json!(false), &json!(0))
    );
    server.root().get("auth/token/lookup-self").expect(200);
    // Once more is no harm.
    assert_eq!(give(&keys[0]).expect(200).json()["sealed"], false);
}

#[test]
fn wrong_unseal_keys_are_refused_and_not_repeated() {
    let server = Server::start(three_of_five());
    server.init();
    let client = server.client();
    let keys = server.keys().shares;
    for malformed in ["", "not a key", "ffff", "0000", &"ab".repeat(500)] {
        let reply = client
            .put("sys/unseal", json!({ "key": malformed }))
            .expect(400);
        assert!(
            malformed.is_empty() || !reply.text().contains(malformed),
            "{}",
            reply.text()
        );
    }
    client.put("sys/unseal", json!({})).expect(400);
    client
        .put("sys/unseal", json!({"key": keys[0], "migrate": true}))
        .expect(400);

    // A key of another server: nobody can tell until there are enough.
    let other = Server::start(three_of_five());
    other.init();
    let foreign = &other.keys().shares[4];
    client
        .put("sys/unseal", json!({"key": keys[0]}))
        .expect(200);
    client
        .put("sys/unseal", json!({"key": keys[1]}))
        .expect(200);
    let reply = client
        .put("sys/unseal", json!({ "key": foreign }))
        .expect(400);
    assert!(
        reply.errors()[0].contains("unseal failed"),
        "{:?}",
        reply.errors()
    );
    assert!(!reply.text().contains(foreign.as_str()));
    let after = status(&client);
    assert_eq!(
        (&after["sealed"], &after["progress"]),
        (&json!(true), &json!(0))
    );
    server.unseal();
}

#[test]
fn unseal_keys_are_taken_in_base64_too() {
    let server = Server::start(ServerOptions::default());
    let client = server.client();
    let made = client
        .put(
            "sys/init",
            json!({"secret_shares": 2, "secret_threshold": 2}),
        )
        .expect(200)
        .json();
    for key in made["keys_base64"].as_array().unwrap() {
        client.put("sys/unseal", json!({ "key": key })).expect(200);
    }
    assert_eq!(status(&client)["sealed"], false);
}

#[test]
fn sealing_needs_sudo_and_loses_nothing() {
    let server = with_kv();
    let root = server.root();
    root.post("secret/data/kept", json!({"data": {"a": 1}}))
        .expect(200);
    let policy = "path \"sys/seal\" { capabilities = [\"update\"] }";
    root.put("sys/policies/acl/sealer", json!({ "policy": policy }))
        .expect(204);
    let weak = root
        .post("auth/token/create", json!({"policies": ["sealer"]}))
        .client_token();
    server
        .client()
        .with_token(weak)
        .put("sys/seal", json!({}))
        .expect(403);
    server.client().put("sys/seal", json!({})).expect(403);
    root.get("secret/data/kept").expect(200);

    root.put("sys/seal", json!({})).expect(204);
    let reply = root.get("secret/data/kept").expect(503);
    assert_eq!(reply.errors(), ["Obol is sealed"]);
    assert!(reply.header("retry-after").is_some());
    server.unseal();
    assert_eq!(root.get("secret/data/kept").data()["data"], json!({"a": 1}));
}

#[test]
fn sealed_serves_nothing_but_the_few_public_paths() {
    const PUBLIC: [&str; 5] = [
        "sys/init",
        "sys/seal-status",
        "sys/unseal",
        "sys/health",
        "sys/leader",
    ];
    let server = with_kv();
    let root = server.root();
    root.post("sys/auth/kerberos", json!({"type": "kerberos"}))
        .expect(204);
    let document = root.get("sys/internal/specs/openapi").expect(200).json();
    root.put("sys/seal", json!({})).expect(204);
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let path: Vec<&str> = path
            .trim_matches('/')
            .split('/')
            .map(|s| if s.starts_with('{') { "x" } else { s })
            .collect();
        let path = path.join("/");
        if PUBLIC.contains(&path.as_str()) {
            continue;
        }
        for method in ["get", "post", "patch", "delete"]
            .iter()
            .filter(|m| item.get(**m).is_some())
        {
            let reply = match *method {
                "post" => root.post(&path, json!({})),
                "patch" => root.patch(&path, json!({})),
                other => root.request(&other.to_uppercase(), &path).send(),
            };
            assert_eq!(reply.status, 503, "{method} {path}: {}", reply.text());
            tried += 1;
        }
        for reply in [root.list(&path), root.get(&format!("{path}?help=1"))] {
            assert_eq!(reply.status, 503, "{path}: {}", reply.text());
        }
    }
    assert!(tried > 50, "{tried}");
    root.get("no/such/path").expect(503);
    for path in PUBLIC
        .iter()
        .filter(|path| **path != "sys/health" && **path != "sys/unseal")
    {
        server.client().get(path).expect(200);
    }
    server.client().get("sys/health").expect(503);
}

#[test]
fn rekey_unauthenticated_nobody_starts_or_reads_a_rekey_or_a_new_root_without_a_token() {
    let server = with_kv();
    let paths = [
        "sys/rekey/init",
        "sys/rekey/update",
        "sys/rekey/verify",
        "sys/rekey-recovery-key/init",
        "sys/generate-root/attempt",
        "sys/generate-root/update",
        "sys/rotate",
        "sys/key-status",
        "sys/storage/raft/snapshot",
        "sys/step-down",
    ];
    for path in paths {
        let body =
            json!({"secret_shares": 1, "secret_threshold": 1, "key": server.keys().shares[0]});
        for reply in [
            server.client().get(path),
            server.client().put(path, body),
            server.client().delete(path),
        ] {
            assert_eq!(reply.status, 403, "{path}: {}", reply.text());
        }
    }
    server.root().put("sys/seal", json!({})).expect(204);
    for path in paths {
        server.client().get(path).expect(503);
        server.client().put(path, json!({})).expect(503);
    }
}

#[test]
fn a_static_seal_opens_the_server_by_itself() {
    let server = Server::start(ServerOptions {
        seal: Seal::Static,
        ..ServerOptions::default()
    });
    server
        .client()
        .put(
            "sys/init",
            json!({"secret_shares": 5, "secret_threshold": 3}),
        )
        .expect(400);
    server.init();
    let client = server.client();
    let status = status(&client);
    assert_eq!(
        (&status["sealed"], &status["recovery_seal"], &status["type"]),
        (&json!(false), &json!(true), &json!("static"))
    );
    server.root().get("sys/mounts").expect(200);
    client.put("sys/unseal", json!({"key": server.keys().shares[0]}));
    assert_eq!(self::status(&client)["sealed"], false);
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs a server with RocksDB")]
fn a_server_with_a_static_seal_serves_again_after_a_restart() {
    let server = Server::ready(ServerOptions {
        seal: Seal::Static,
        ..ServerOptions::on_disk()
    });
    server
        .root()
        .post("cubbyhole/note", json!({"text": "kept"}))
        .expect(204);
    server.kill();
    server.start_again();
    assert_eq!(server.root().get("cubbyhole/note").data()["text"], "kept");
    assert!(server.terminate().success());
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs a server with RocksDB")]
fn everything_is_there_after_a_restart_and_an_unseal() {
    let server = Server::ready(ServerOptions {
        seal: Seal::Shamir {
            shares: 3,
            threshold: 2,
        },
        ..ServerOptions::on_disk()
    });
    let root = server.root();
    root.post(
        "sys/mounts/team/kv",
        json!({"type": "kv", "options": {"version": "2"}, "description": "ours"}),
    )
    .expect(204);
    root.post("team/kv/data/a/b", json!({"data": {"x": [1, {"y": "z"}]}}))
        .expect(200);
    root.put(
        "sys/policies/acl/p",
        json!({"policy": "path \"team/kv/*\" { capabilities = [\"read\"] }"}),
    )
    .expect(204);
    let child = root
        .post("auth/token/create", json!({"policies": ["p"], "ttl": "1h"}))
        .auth();
    assert!(server.terminate().success());
    server.start_again();
    assert_eq!(status(&server.client())["initialized"], true);
    server.client().get("team/kv/data/a/b").expect(503);
    server.unseal();
    let child = server
        .client()
        .with_token(child["client_token"].as_str().unwrap());
    assert_eq!(
        child.get("team/kv/data/a/b").data()["data"],
        json!({"x": [1, {"y": "z"}]})
    );
    assert_eq!(
        root.get("sys/mounts").data()["team/kv/"]["description"],
        "ours"
    );
    let left = child.get("auth/token/lookup-self").data()["ttl"]
        .as_u64()
        .unwrap();
    assert!((3000..=3600).contains(&left), "{left}");
}

#[test]
fn sigterm_lets_requests_finish_and_ends_with_success() {
    let server = with_kv();
    let pid_file = server.dir().join("obol.pid");
    assert!(!pid_file.exists());
    std::thread::scope(|scope| {
        let root = server.root();
        let work: Vec<_> = (0..8)
            .map(|n| {
                let root = root.clone();
                scope.spawn(move || {
                    for i in 0.. {
                        let request = root.request("POST", &format!("secret/data/drain/{n}"));
                        match request.json(&json!({"data": {"i": i}})).try_send() {
                            // An answer is a whole one.
                            Ok(reply) => {
                                assert!(matches!(reply.status, 200 | 503), "{}", reply.text())
                            }
                            Err(_) => return i,
                        }
                    }
                    0
                })
            })
            .collect();
        obol_tests::holds("some work is done", || {
            root.get("secret/data/drain/7").status == 200
        });
        assert!(server.terminate().success(), "{}", server.log());
        let done: i32 = work.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(done > 0);
    });
    assert!(server.log().contains("stopped"), "{}", server.log());
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs storage that lasts")]
fn a_seal_is_changed_into_the_other_kind_and_back_with_the_same_keys() {
    let mut server = Server::ready(ServerOptions {
        seal: three_of_five().seal,
        ..ServerOptions::on_disk()
    });
    let (client, root) = (server.client(), server.root());
    root.put(
        "sys/policies/acl/kept",
        json!({"policy": "path \"a\" { capabilities = [\"read\"] }"}),
    )
    .expect(204);
    let keys = server.keys().shares;
    let give = |key: &str, migrate: bool| {
        client.put("sys/unseal", json!({"key": key, "migrate": migrate}))
    };
    let says = |reply: obol_tests::Reply, what: &str| {
        let text = reply.expect(400).text();
        assert!(text.contains(what), "{text}");
    };
    let restart_with = |server: &mut Server, seal: Seal| {
        assert!(server.terminate().success());
        server.reconfigure(|options| options.seal = seal);
        server.start_again();
    };

    // To a static key: the unseal keys prove who wants it, each with `migrate`.
    restart_with(&mut server, Seal::Static);
    assert!(server.log().contains("unseal -migrate"), "{}", server.log());
    let waiting = status(&client);
    assert_eq!(
        (&waiting["sealed"], &waiting["migration"], &waiting["type"]),
        (&json!(true), &json!(true), &json!("shamir"))
    );
    let shown = Cli::new(&server).run(&["status"]).expect(2).stdout;
    assert!(shown.contains("Seal Migration in Progress"), "{shown}");
    says(give(&keys[0], false), "with migrate");
    for key in &keys[..2] {
        give(key, true).expect(200);
    }
    Cli::new(&server)
        .run_with_input(&["operator", "unseal", "-migrate", "-"], &keys[3])
        .ok();
    let changed = status(&client);
    assert_eq!(
        [
            &changed["sealed"],
            &changed["migration"],
            &changed["type"],
            &changed["recovery_seal"]
        ],
        [&json!(false), &json!(false), &json!("static"), &json!(true)]
    );
    root.get("sys/policies/acl/kept").expect(200);
    // They are recovery keys from now on, and the server opens itself.
    assert!(server.terminate().success());
    server.start_again();
    assert_eq!(status(&client)["sealed"], false);
    let begun = root
        .put("sys/generate-root/attempt", json!({}))
        .expect(200)
        .json();
    for key in &keys[2..] {
        let step = json!({"key": key, "nonce": begun["nonce"]});
        let step = root
            .put("sys/generate-root/update", step)
            .expect(200)
            .json();
        assert_eq!(step["complete"], *key == keys[4]);
    }

    // Without the stanza nothing can be done; disabled it is there to be left.
    restart_with(&mut server, three_of_five().seal);
    says(give(&keys[0], true), "disabled = true");
    restart_with(&mut server, Seal::Leaving);
    assert_eq!(status(&client)["migration"], true);
    says(give(&keys[0], false), "with migrate");
    for key in &keys[..3] {
        give(key, true).expect(200);
    }
    let back = status(&client);
    assert_eq!(
        [&back["sealed"], &back["migration"], &back["type"]],
        [&json!(false), &json!(false), &json!("shamir")]
    );
    root.get("sys/policies/acl/kept").expect(200);
    // The stanza can go now.
    for seal in [Seal::Leaving, three_of_five().seal] {
        restart_with(&mut server, seal);
        assert_eq!(status(&client)["sealed"], true);
        says(give(&keys[0], true), "nothing to migrate");
        for key in &keys[2..] {
            give(key, false).expect(200);
        }
        assert_eq!(status(&client)["sealed"], false);
    }
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs storage that lasts")]
fn wrong_keys_change_no_seal() {
    let mut server = Server::ready(ServerOptions {
        seal: three_of_five().seal,
        ..ServerOptions::on_disk()
    });
    let other = Server::start(three_of_five());
    other.init();
    let (keys, foreign) = (server.keys().shares, other.keys().shares);
    assert!(server.terminate().success());
    server.reconfigure(|options| options.seal = Seal::Static);
    server.start_again();
    let client = server.client();
    for key in &foreign[..2] {
        client
            .put("sys/unseal", json!({"key": key, "migrate": true}))
            .expect(200);
    }
    client
        .put("sys/unseal", json!({"key": keys[3], "migrate": true}))
        .expect(400);
    let still = status(&client);
    assert_eq!(
        [
            &still["sealed"],
            &still["migration"],
            &still["progress"],
            &still["type"]
        ],
        [&json!(true), &json!(true), &json!(0), &json!("shamir")]
    );
    server.terminate();
    server.reconfigure(|options| options.seal = three_of_five().seal);
    server.start_again();
    server.unseal();
}

#[test]
fn sighup_applies_a_new_log_level_and_a_broken_file_changes_nothing() {
    let mut server = Server::ready(ServerOptions::default());
    server.reconfigure(|options| options.log_level = "debug");
    let from = server.log().len();
    server.signal(Signal::HUP);
    server.await_log(from, "SIGHUP");
    server.client().get("no/such/path");
    server.await_log(from, "DEBUG");
    server.reconfigure(|options| options.config = "nonsense = true".to_owned());
    let from = server.log().len();
    server.signal(Signal::HUP);
    let log = server.await_log(from, "could not be reloaded");
    assert!(log.contains("nonsense"), "{log}");
    server.client().get("sys/health").expect(200);
}

#[test]
fn a_server_refuses_to_start_on_a_configuration_with_a_mistake_and_says_where() {
    for (line, says) in [
        ("stroage = 1", "stroage"),
        ("log_level = \"loud\"", "log_level"),
        ("default_lease_ttl = \"soon\"", "expected a duration"),
    ] {
        let server = Server::prepare(ServerOptions {
            config: line.to_owned(),
            ..ServerOptions::default()
        });
        assert!(!server.start_in_vain().success());
        let log = server.log();
        assert!(log.contains(says) && log.contains("line"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn a_server_whose_port_is_taken_says_so() {
    let server = Server::prepare(ServerOptions::default());
    let taken = std::net::TcpListener::bind(("127.0.0.1", server.port())).unwrap();
    assert!(!server.start_in_vain().success());
    assert!(
        server.log().contains("cannot listen on"),
        "{}",
        server.log()
    );
    drop(taken);
    server.start_again();
}
