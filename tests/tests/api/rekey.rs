//! `sys/rekey` and `sys/rekey-recovery-key`: who may, how it goes on, what is valid when, and what a restart leaves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_tests::server::Seal;
use obol_tests::{Client, Server, ServerOptions};
use serde_json::{Value, json};

use super::{holders, keys_of};

fn unseals(server: &Server, keys: &[String]) -> bool {
    server.root().post("sys/seal", json!({})).expect(204);
    let client = server.client();
    for key in keys {
        let reply = client.put("sys/unseal", json!({ "key": key }));
        if reply.status != 200 {
            return false;
        }
        if reply.json()["sealed"] == false {
            return true;
        }
    }
    client.put("sys/unseal", json!({"reset": true})).expect(200);
    false
}

fn start(client: &Client, body: Value) -> String {
    let status = client.put("sys/rekey/init", body).expect(200).json();
    assert_eq!(status["started"], true, "{status}");
    status["nonce"].as_str().unwrap().to_owned()
}

fn give(client: &Client, path: &str, nonce: &str, keys: &[String]) -> Value {
    let mut last = Value::Null;
    for key in keys {
        last = client
            .put(path, json!({"key": key, "nonce": nonce}))
            .expect(200)
            .json();
    }
    last
}

#[test]
fn a_rekey_gives_new_keys_out_and_the_old_ones_are_worth_nothing() {
    let server = holders(3, 2);
    let (root, old) = (server.root(), server.keys().shares);
    assert_eq!(
        root.get("sys/rekey/init").expect(200).json(),
        json!({
            "nonce": "", "started": false, "t": 0, "n": 0, "progress": 0, "required": 2,
            "pgp_fingerprints": null, "backup": false, "verification_required": false,
            "verification_nonce": "",
        })
    );
    let nonce = start(&root, json!({"secret_shares": 5, "secret_threshold": 3}));
    let status = root.get("sys/rekey/init").expect(200).json();
    assert_eq!(
        (&status["t"], &status["n"], &status["nonce"]),
        (&json!(3), &json!(5), &json!(nonce))
    );
    // Base64 is as good as hexadecimal.
    let first = STANDARD.encode(hex(&old[2]));
    let status = give(&root, "sys/rekey/update", &nonce, &[first]);
    assert_eq!(
        (
            &status["progress"],
            &status["required"],
            &status["complete"]
        ),
        (&json!(1), &json!(2), &Value::Null)
    );
    let done = give(&root, "sys/rekey/update", &nonce, &old[..1]);
    assert_eq!(
        (&done["complete"], &done["verification_required"]),
        (&json!(true), &json!(false))
    );
    let new = keys_of(&done["keys"]);
    assert_eq!((new.len(), keys_of(&done["keys_base64"]).len()), (5, 5));
    assert_eq!(STANDARD.encode(hex(&new[0])), done["keys_base64"][0]);
    let status = root.get("sys/seal-status").expect(200).json();
    assert_eq!((&status["t"], &status["n"]), (&json!(3), &json!(5)));

    // An answer that got lost can be asked for again, by who gave the last key.
    let again = give(&root, "sys/rekey/update", &nonce, &old[..1]);
    assert_eq!(again["keys"], done["keys"]);
    let other = root.put("sys/rekey/update", json!({"key": old[1], "nonce": nonce}));
    assert_eq!(other.status, 400, "{}", other.text());

    assert!(!unseals(&server, &old));
    let client = server.client();
    client.put("sys/unseal", json!({"reset": true})).expect(200);
    for key in &new[2..] {
        client.put("sys/unseal", json!({"key": key})).expect(200);
    }
    root.get("sys/mounts").expect(200);
    let gone = root.put("sys/rekey/update", json!({"key": old[0], "nonce": nonce}));
    assert_eq!(gone.status, 400);
}

#[test]
fn with_verification_the_old_keys_are_valid_until_the_new_ones_were_given_back() {
    let server = holders(3, 2);
    let (root, old) = (server.root(), server.keys().shares);
    root.get("sys/rekey/verify").expect(400);
    let body = json!({"secret_shares": 2, "secret_threshold": 2, "require_verification": true});
    let nonce = start(&root, body);
    let done = give(&root, "sys/rekey/update", &nonce, &old[1..]);
    assert_eq!(
        (&done["complete"], &done["verification_required"]),
        (&json!(true), &json!(true))
    );
    let new = keys_of(&done["keys"]);
    let verify = done["verification_nonce"].as_str().unwrap().to_owned();
    assert_ne!(verify, nonce);
    let status = root.get("sys/rekey/init").expect(200).json();
    assert_eq!(status["verification_nonce"], json!(verify));
    let status = root.get("sys/seal-status").expect(200).json();
    assert_eq!(
        (&status["t"], &status["n"]),
        (&json!(2), &json!(3)),
        "still the old ones"
    );

    // A wrong nonce, an old key, and beginning again.
    let wrong = json!({"key": new[0], "nonce": nonce});
    root.put("sys/rekey/verify", wrong).expect(400);
    let status = give(&root, "sys/rekey/verify", &verify, &new[..1]);
    assert_eq!(status["progress"], 1);
    let bad = root.put("sys/rekey/verify", json!({"key": old[1], "nonce": verify}));
    assert_eq!(bad.status, 400, "{}", bad.text());
    let status = root.get("sys/rekey/verify").expect(200).json();
    assert_eq!(status["progress"], 0, "{status}");
    give(&root, "sys/rekey/verify", &verify, &new[..1]);
    let status = root.delete("sys/rekey/verify").expect(200).json();
    assert_eq!((&status["progress"], &status["t"]), (&json!(0), &json!(2)));
    let fresh = status["nonce"].as_str().unwrap().to_owned();
    assert_ne!(fresh, verify);

    let done = give(&root, "sys/rekey/verify", &fresh, &new);
    assert_eq!(done, json!({"nonce": fresh, "complete": true}));
    root.get("sys/rekey/verify").expect(400);
    assert!(!unseals(&server, &old));
    for key in &new {
        server
            .client()
            .put("sys/unseal", json!({"key": key}))
            .expect(200);
    }
    root.get("sys/mounts").expect(200);
}

#[test]
fn a_rekey_that_is_cancelled_leaves_everything_as_it_was() {
    let server = holders(3, 2);
    let (root, old) = (server.root(), server.keys().shares);
    let shares = json!({"secret_shares": 3, "secret_threshold": 2, "require_verification": true});
    let nonce = start(&root, shares.clone());
    root.put("sys/rekey/init", shares.clone()).expect(400);
    root.delete("sys/rekey/init?nonce=another").expect(400);
    root.delete(&format!("sys/rekey/init?nonce={nonce}"))
        .expect(204);
    root.delete("sys/rekey/init").expect(204);
    let late = json!({"key": old[0], "nonce": nonce});
    root.put("sys/rekey/update", late).expect(400);

    // With the new keys given out already, too.
    let nonce = start(&root, shares);
    let done = give(&root, "sys/rekey/update", &nonce, &old[1..]);
    root.delete("sys/rekey/init").expect(204);
    let late = json!({"key": done["keys"][0], "nonce": done["verification_nonce"]});
    root.put("sys/rekey/verify", late).expect(400);
    assert!(!unseals(&server, &keys_of(&done["keys"])));
    assert!(unseals_now(&server, &old));
}

fn unseals_now(server: &Server, keys: &[String]) -> bool {
    let client = server.client();
    client.put("sys/unseal", json!({"reset": true})).expect(200);
    keys.iter().any(|key| {
        let reply = client.put("sys/unseal", json!({ "key": key }));
        reply.status == 200 && reply.json()["sealed"] == false
    })
}

#[test]
fn sealing_cancels_a_rekey() {
    let server = holders(3, 2);
    let (root, old) = (server.root(), server.keys().shares);
    let nonce = start(&root, json!({"secret_shares": 3, "secret_threshold": 2}));
    give(&root, "sys/rekey/update", &nonce, &old[..1]);
    assert!(unseals(&server, &old));
    let status = root.get("sys/rekey/init").expect(200).json();
    assert_eq!(status["started"], false);
    let late = json!({"key": old[1], "nonce": nonce});
    root.put("sys/rekey/update", late).expect(400);
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "needs storage that lasts")]
fn a_crash_cancels_a_rekey_and_the_old_keys_stay_valid() {
    let server = Server::ready(ServerOptions {
        seal: Seal::Shamir {
            shares: 3,
            threshold: 2,
        },
        ..ServerOptions::on_disk()
    });
    let (root, old) = (server.root(), server.keys().shares);
    let body = json!({"secret_shares": 3, "secret_threshold": 3, "require_verification": true});
    let nonce = start(&root, body);
    let done = give(&root, "sys/rekey/update", &nonce, &old[1..]);
    let new = keys_of(&done["keys"]);
    let verify = done["verification_nonce"].as_str().unwrap().to_owned();
    give(&root, "sys/rekey/verify", &verify, &new[..2]);
    server.kill();
    server.start_again();
    assert!(!unseals_now(&server, &new));
    assert!(unseals_now(&server, &old));
    let status = root.get("sys/rekey/init").expect(200).json();
    assert_eq!(status["started"], false);
    root.put("sys/rekey/verify", json!({"key": new[2], "nonce": verify}))
        .expect(400);

    // Done, it lasts.
    let nonce = start(&root, json!({"secret_shares": 1, "secret_threshold": 1}));
    let done = give(&root, "sys/rekey/update", &nonce, &old[..2]);
    server.kill();
    server.start_again();
    assert!(!unseals_now(&server, &old));
    assert!(unseals_now(&server, &keys_of(&done["keys"])));
    root.get("sys/mounts").expect(200);
}

#[test]
fn rekey_unauthenticated_nobody_without_a_token_and_sudo_starts_reads_or_cancels() {
    let server = holders(1, 1);
    let (root, key) = (server.root(), server.keys().shares[0].clone());
    let nonce = start(&root, json!({"secret_shares": 1, "secret_threshold": 1}));
    let policy = r#"path "sys/rekey/*" { capabilities = ["create","read","update","delete"] }
                    path "sys/rekey-recovery-key/*" { capabilities = ["create","read","update","delete"] }
                    path "sys/generate-root/*" { capabilities = ["create","read","update","delete"] }"#;
    root.put("sys/policies/acl/no-sudo", json!({ "policy": policy }))
        .expect(204);
    let token = root
        .post("auth/token/create", json!({"policies": ["no-sudo"]}))
        .client_token();
    let attempt = root
        .put("sys/generate-root/attempt", json!({}))
        .expect(200)
        .json();
    for client in [server.client(), server.client().with_token(token)] {
        for area in ["sys/rekey", "sys/rekey-recovery-key"] {
            client.get(&format!("{area}/init")).expect(403);
            let body = json!({"secret_shares": 1, "secret_threshold": 1});
            client.put(&format!("{area}/init"), body).expect(403);
            client.delete(&format!("{area}/init")).expect(403);
            let share = json!({"key": key, "nonce": nonce});
            client
                .put(&format!("{area}/update"), share.clone())
                .expect(403);
            client.get(&format!("{area}/verify")).expect(403);
            client.put(&format!("{area}/verify"), share).expect(403);
            client.delete(&format!("{area}/verify")).expect(403);
            client.get(&format!("{area}/backup")).expect(403);
            client.delete(&format!("{area}/backup")).expect(403);
        }
        client.get("sys/generate-root/attempt").expect(403);
        client
            .put("sys/generate-root/attempt", json!({}))
            .expect(403);
        client.delete("sys/generate-root/attempt").expect(403);
        let share = json!({"key": key, "nonce": attempt["nonce"]});
        client.put("sys/generate-root/update", share).expect(403);
    }
    // Nothing of it has touched what root had begun.
    let status = root.get("sys/rekey/init").expect(200).json();
    assert_eq!(
        (&status["nonce"], &status["progress"]),
        (&json!(nonce), &json!(0))
    );
    let done = give(&root, "sys/rekey/update", &nonce, &[key]);
    assert_eq!(done["complete"], true);
}

#[test]
fn shamir_bias_a_share_that_is_none_or_was_given_already_does_not_count() {
    let server = holders(3, 2);
    let (root, old) = (server.root(), server.keys().shares);
    let nonce = start(&root, json!({"secret_shares": 3, "secret_threshold": 2}));
    let refuse = |key: &str, nonce: &str| {
        let reply = root
            .put("sys/rekey/update", json!({"key": key, "nonce": nonce}))
            .expect(400);
        assert!(!reply.text().contains(key), "{}", reply.text());
        reply.errors().join(" ")
    };
    refuse(&"ab".repeat(32).replace("ab", "a?"), &nonce);
    refuse(&"ab".repeat(30), &nonce);
    let zero = format!("{}00", &old[0][..64]);
    assert!(refuse(&zero, &nonce).contains("index 0"));
    refuse(&old[0], "wrong");
    refuse(&old[0], "");
    give(&root, "sys/rekey/update", &nonce, &old[..1]);
    assert!(refuse(&old[0], &nonce).contains("already"));
    let falsified = format!(
        "{}{}",
        &old[1][..2].replace(|_: char| true, "0"),
        &old[1][2..]
    );
    let told = refuse(&falsified, &nonce);
    assert!(told.contains("not the right ones"), "{told}");
    // All were forgotten; the operation itself goes on.
    let status = root.get("sys/rekey/init").expect(200).json();
    assert_eq!(
        (&status["progress"], &status["nonce"]),
        (&json!(0), &json!(nonce))
    );
    assert_eq!(
        give(&root, "sys/rekey/update", &nonce, &old[..2])["complete"],
        true
    );
}

#[test]
fn what_a_rekey_cannot_do_is_refused_before_anybody_types_a_key() {
    let server = holders(3, 2);
    let root = server.root();
    for (body, said) in [
        (json!({}), "secret_shares"),
        (json!({"secret_shares": 3}), "secret_threshold"),
        (
            json!({"secret_shares": 0, "secret_threshold": 0}),
            "secret_shares",
        ),
        (
            json!({"secret_shares": 256, "secret_threshold": 2}),
            "secret_shares",
        ),
        (
            json!({"secret_shares": 2, "secret_threshold": 3}),
            "threshold",
        ),
        (
            json!({"secret_shares": 3, "secret_threshold": 1}),
            "threshold",
        ),
        (
            json!({"secret_shares": 1, "secret_threshold": 1, "pgp_keys": ["mQENBF"]}),
            "PGP",
        ),
        (
            json!({"secret_shares": 1, "secret_threshold": 1, "backup": true}),
            "pgp_keys",
        ),
        (
            json!({"secret_shares": 1, "secret_threshold": 1, "stored_shares": 1}),
            "stored_shares",
        ),
    ] {
        let reply = root.put("sys/rekey/init", body.clone()).expect(400);
        assert!(reply.text().contains(said), "{body}: {}", reply.text());
    }
    let status = root.get("sys/rekey/init").expect(200).json();
    assert_eq!(status["started"], false);
    assert!(
        root.get("sys/rekey/backup")
            .expect(400)
            .text()
            .contains("no backup")
    );
    root.delete("sys/rekey/backup").expect(204);
    // Shamir's shares have no recovery keys.
    let body = json!({"secret_shares": 1, "secret_threshold": 1});
    let reply = root.put("sys/rekey-recovery-key/init", body).expect(400);
    assert!(reply.text().contains("recovery"), "{}", reply.text());
}

#[test]
fn a_server_that_unseals_itself_replaces_its_recovery_keys_and_its_root_key() {
    let server = Server::start(ServerOptions {
        seal: Seal::Static,
        ..ServerOptions::default()
    });
    let body = json!({"recovery_shares": 3, "recovery_threshold": 2});
    let made = server.client().put("sys/init", body).expect(200).json();
    let root = server
        .client()
        .with_token(made["root_token"].as_str().unwrap());
    let old = keys_of(&made["recovery_keys"]);
    let two = json!({"secret_shares": 2, "secret_threshold": 2});
    root.put("sys/rekey/init", two.clone()).expect(400);
    // The root key: proven with recovery keys, and no key comes out.
    let nonce = start(&root, json!({"secret_shares": 1, "secret_threshold": 1}));
    let done = give(&root, "sys/rekey/update", &nonce, &old[1..]);
    assert_eq!(
        (&done["complete"], &done["keys"]),
        (&json!(true), &json!([]))
    );
    root.get("sys/mounts").expect(200);
    // The recovery keys.
    let status = root
        .put("sys/rekey-recovery-key/init", two)
        .expect(200)
        .json();
    let nonce = status["nonce"].as_str().unwrap();
    let done = give(&root, "sys/rekey-recovery-key/update", nonce, &old[..2]);
    let new = keys_of(&done["keys"]);
    assert_eq!(new.len(), 2);
    // They prove an operator, and the old ones do not.
    let attempt = |keys: &[String]| {
        let begun = root
            .put("sys/generate-root/attempt", json!({}))
            .expect(200)
            .json();
        let mut last = 0;
        for key in keys {
            let share = json!({"key": key, "nonce": begun["nonce"]});
            last = root.put("sys/generate-root/update", share).status;
        }
        root.delete("sys/generate-root/attempt").expect(204);
        last
    };
    assert_eq!(attempt(&old[..2]), 400);
    assert_eq!(attempt(&new), 200);
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
