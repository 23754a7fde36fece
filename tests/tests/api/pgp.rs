//! Unseal keys and root tokens that only their holders can read, with the GnuPG of the system in the holders' hands.

use obol_tests::clients::Cli;
use obol_tests::gpg::{Gpg, KeyKind};
use obol_tests::server::Seal;
use obol_tests::{Client, Server, ServerOptions};
use serde_json::{Value, json};

use super::{holders, keys_of};

/// Gives keys until the server is unsealed; whether it is.
fn unseals(client: &Client, keys: &[String]) -> bool {
    client.put("sys/unseal", json!({"reset": true})).expect(200);
    keys.iter().any(|key| {
        let reply = client.put("sys/unseal", json!({ "key": key }));
        reply.status == 200 && reply.json()["sealed"] == false
    })
}

#[test]
fn init_encrypts_each_key_for_its_holder_and_the_root_token_for_another() {
    let gpg = Gpg::new();
    let people = [
        gpg.make("ann", &KeyKind::RSA),
        gpg.make("bob", &KeyKind::CURVE_25519),
        gpg.make("cleo", &KeyKind::NIST_P256),
    ];
    let admin = gpg.make(
        "dan",
        &KeyKind {
            primary: "rsa2048",
            usage: "sign,encrypt",
            subkey: None,
            expires: "never",
        },
    );
    let server = Server::start(ServerOptions::default());
    let client = server.client();
    let body = json!({
        "secret_shares": 3, "secret_threshold": 3,
        "pgp_keys": people.each_ref().map(|person| gpg.export_base64(person)),
        "root_token_pgp_key": gpg.export_base64(&admin),
    });
    let made = client.put("sys/init", body).expect(200).json();
    let encrypted = keys_of(&made["keys_base64"]);
    assert_eq!(encrypted.len(), 3);
    assert!(!unseals(&client, &encrypted), "nobody else can use them");
    let keys: Vec<String> = encrypted
        .iter()
        .map(|key| gpg.decrypt_base64(key))
        .collect();
    assert!(unseals(&client, &keys));
    let token = gpg.decrypt_base64(made["root_token"].as_str().unwrap());
    client.with_token(token).get("sys/mounts").expect(200);
}

#[test]
fn a_key_that_cannot_encrypt_is_refused_and_nothing_is_begun() {
    let gpg = Gpg::new();
    let signs_alone = KeyKind {
        primary: "ed25519",
        usage: "sign",
        subkey: None,
        expires: "never",
    };
    let expires = |subkey, usage| KeyKind {
        primary: "rsa2048",
        usage,
        subkey,
        expires: "2020-01-01",
    };
    let good = gpg.make("good", &KeyKind::CURVE_25519);
    let revoked = gpg.make("revoked", &KeyKind::CURVE_25519);
    gpg.revoke(&revoked);
    let signer = gpg.make("signer", &signs_alone);
    let old = gpg.make("old", &expires(None, "sign,encrypt"));
    let old_subkey = gpg.make("subkey", &expires(Some("rsa2048"), "sign"));
    let secret = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(gpg.export_secret(&good))
    };
    let public = |fingerprint: &String| gpg.export_base64(fingerprint);
    let server = Server::start(ServerOptions::default());
    let client = server.client();
    for (key, said) in [
        (public(&revoked), "was revoked"),
        (public(&signer), "cannot encrypt"),
        (public(&old), "has expired"),
        (public(&old_subkey), "cannot encrypt"),
        (secret, "no public PGP key"),
        ("mQENBF".to_owned(), "no public PGP key"),
        ("!".to_owned(), "no public PGP key"),
        (String::new(), "no public PGP key"),
    ] {
        let body = json!({"secret_shares": 1, "secret_threshold": 1, "pgp_keys": [key]});
        let reply = client.put("sys/init", body).expect(400);
        assert!(
            reply.text().contains("pgp_keys[0]") && reply.text().contains(said),
            "{said}: {}",
            reply.text()
        );
        let body = json!({"secret_shares": 1, "secret_threshold": 1, "root_token_pgp_key": key});
        if !key.is_empty() {
            let reply = client.put("sys/init", body).expect(400);
            assert!(
                reply.text().contains("root_token_pgp_key"),
                "{}",
                reply.text()
            );
        }
    }
    let too_few = json!({"secret_shares": 2, "secret_threshold": 2, "pgp_keys": [public(&good)]});
    let reply = client.put("sys/init", too_few).expect(400);
    assert!(
        reply.text().contains("1 PGP keys for 2"),
        "{}",
        reply.text()
    );
    let other = json!({
        "secret_shares": 1, "secret_threshold": 1, "recovery_pgp_keys": [public(&good)],
    });
    let reply = client.put("sys/init", other).expect(400);
    assert!(
        reply.text().contains("recovery_pgp_keys"),
        "{}",
        reply.text()
    );
    assert_eq!(client.get("sys/init").json(), json!({"initialized": false}));
}

#[test]
fn a_key_that_was_prolonged_and_has_signatures_of_others_is_good() {
    let gpg = Gpg::new();
    let ann = gpg.make(
        "ann",
        &KeyKind {
            expires: "2020-01-01",
            ..KeyKind::CURVE_25519
        },
    );
    gpg.prolong(&ann);
    let bob = gpg.make("bob", &KeyKind::RSA);
    gpg.certify(&bob, &ann);
    let server = Server::start(ServerOptions::default());
    let body = json!({
        "secret_shares": 1, "secret_threshold": 1, "pgp_keys": [gpg.export_base64(&ann)],
    });
    let made = server.client().put("sys/init", body).expect(200).json();
    let key = gpg.decrypt_base64(made["keys_base64"][0].as_str().unwrap());
    assert!(unseals(&server.client(), &[key]));
}

#[test]
fn a_server_that_unseals_itself_encrypts_its_recovery_keys() {
    let gpg = Gpg::new();
    let ann = gpg.make("ann", &KeyKind::CURVE_25519);
    let server = Server::start(ServerOptions {
        seal: Seal::Static,
        ..ServerOptions::default()
    });
    let client = server.client();
    let wrong = json!({
        "recovery_shares": 1, "recovery_threshold": 1, "pgp_keys": [gpg.export_base64(&ann)],
    });
    client.put("sys/init", wrong).expect(400);
    let body = json!({
        "recovery_shares": 1, "recovery_threshold": 1,
        "recovery_pgp_keys": [gpg.export_base64(&ann)],
    });
    let made = client.put("sys/init", body).expect(200).json();
    assert_eq!(made["keys"], json!([]));
    let key = gpg.decrypt_base64(made["recovery_keys_base64"][0].as_str().unwrap());

    let root = client.with_token(made["root_token"].as_str().unwrap());
    let body = json!({
        "secret_shares": 1, "secret_threshold": 1, "backup": true,
        "pgp_keys": [gpg.export_base64(&ann)],
    });
    let reply = root.put("sys/rekey/init", body.clone()).expect(400);
    assert!(
        reply.text().contains("no new keys to encrypt"),
        "{}",
        reply.text()
    );
    let begun = root.put("sys/rekey-recovery-key/init", body).expect(200);
    let step = json!({"key": key, "nonce": begun.json()["nonce"]});
    let done = root
        .put("sys/rekey-recovery-key/update", step)
        .expect(200)
        .json();
    let backup = root.get("sys/rekey-recovery-key/backup").data();
    assert_eq!(backup["keys"][&ann], done["keys"]);
    root.get("sys/rekey/backup").expect(400);
}

#[test]
fn a_rekey_encrypts_the_new_keys_and_keeps_a_backup_from_when_they_are_in_force() {
    let gpg = Gpg::new();
    let people = [
        gpg.make("ann", &KeyKind::CURVE_25519),
        gpg.make("bob", &KeyKind::RSA),
    ];
    let server = holders(1, 1);
    let (root, old) = (server.root(), server.keys().shares);
    let body = json!({
        "secret_shares": 2, "secret_threshold": 2, "require_verification": true, "backup": true,
        "pgp_keys": people.each_ref().map(|person| gpg.export_base64(person)),
    });
    let begun = root.put("sys/rekey/init", body.clone()).expect(200).json();
    assert_eq!(begun["pgp_fingerprints"], json!(people));
    assert_eq!(begun["backup"], true);
    let step = json!({"key": old[0], "nonce": begun["nonce"]});
    let done = root.put("sys/rekey/update", step).expect(200).json();
    assert_eq!(
        (&done["pgp_fingerprints"], &done["backup"]),
        (&json!(people), &json!(true))
    );
    // A backup of keys that may never come into force would take the place of one that is needed.
    root.get("sys/rekey/backup").expect(400);
    let keys: Vec<String> = keys_of(&done["keys_base64"])
        .iter()
        .map(|key| gpg.decrypt_base64(key))
        .collect();
    for key in &keys {
        let step = json!({"key": key, "nonce": done["verification_nonce"]});
        root.put("sys/rekey/verify", step).expect(200);
    }
    let backup = root.get("sys/rekey/backup").data();
    assert_eq!(backup["nonce"], begun["nonce"]);
    for (index, person) in people.iter().enumerate() {
        assert_eq!(backup["keys"][person], json!([done["keys"][index]]));
        assert_eq!(
            backup["keys_base64"][person],
            json!([done["keys_base64"][index]])
        );
    }

    // Whoever asks needs sudo; a rekey that is given up leaves the backup; sealing does, too.
    let nobody = server.client();
    nobody.get("sys/rekey/backup").expect(403);
    root.put("sys/rekey/init", body).expect(200);
    root.delete("sys/rekey/init").expect(204);
    root.put("sys/seal", json!({})).expect(204);
    assert!(unseals(&nobody, &keys));
    assert_eq!(root.get("sys/rekey/backup").data(), backup);
    root.delete("sys/rekey/backup").expect(204);
    root.delete("sys/rekey/backup").expect(204);
    let gone = root.get("sys/rekey/backup").expect(400);
    assert!(gone.text().contains("no backup"), "{}", gone.text());
}

#[test]
fn a_generated_root_token_is_encrypted_for_whoever_was_named_at_the_start() {
    let gpg = Gpg::new();
    let ann = gpg.make("ann", &KeyKind::CURVE_25519);
    let server = holders(1, 1);
    let (root, key) = (server.root(), server.keys().shares[0].clone());
    let both = json!({"pgp_key": gpg.export_base64(&ann), "otp": "x".repeat(32)});
    root.put("sys/generate-root/attempt", both).expect(400);
    let body = json!({"pgp_key": gpg.export_base64(&ann)});
    let begun = root
        .put("sys/generate-root/attempt", body)
        .expect(200)
        .json();
    assert_eq!(
        (&begun["pgp_fingerprint"], &begun["otp"]),
        (&json!(ann), &json!(""))
    );
    let step = json!({"key": key, "nonce": begun["nonce"]});
    let done = root
        .put("sys/generate-root/update", step)
        .expect(200)
        .json();
    let token = gpg.decrypt_base64(done["encoded_token"].as_str().unwrap());
    server
        .client()
        .with_token(token)
        .get("sys/mounts")
        .expect(200);
}

#[test]
fn the_command_line_takes_public_keys_from_files_of_any_kind() {
    let gpg = Gpg::new();
    let (ann, bob) = (
        gpg.make("ann", &KeyKind::CURVE_25519),
        gpg.make("bob", &KeyKind::RSA),
    );
    let files = [
        gpg.file("ann.asc", &gpg.export_armored(&ann)),
        gpg.file("bob.gpg", &gpg.export(&bob)),
        gpg.file("ann.b64", gpg.export_base64(&ann).as_bytes()),
    ];
    let [armored, binary, base64] = files.each_ref().map(|file| file.display().to_string());
    let server = Server::start(ServerOptions::default());
    let cli = Cli::new(&server);
    let refused = cli
        .run(&["operator", "init", "-pgp-keys=keybase:ann"])
        .expect(1);
    assert!(refused.stderr.contains("from files"), "{}", refused.stderr);
    let secret = gpg.file("secret", &gpg.export_secret(&ann));
    let refused = cli.run(&[
        "operator",
        "init",
        &format!("-root-token-pgp-key={}", secret.display()),
    ]);
    assert!(
        refused
            .expect(1)
            .stderr
            .contains("secret: this is no public PGP key")
    );

    let made = cli
        .run(&[
            "operator",
            "init",
            "-key-threshold=2",
            &format!("-pgp-keys={armored},@{binary}"),
            &format!("-root-token-pgp-key={base64}"),
            "-format=json",
        ])
        .ok()
        .json();
    let keys: Vec<String> = keys_of(&made["unseal_keys_b64"])
        .iter()
        .map(|key| gpg.decrypt_base64(key))
        .collect();
    assert!(unseals(&server.client(), &keys));
    let token = gpg.decrypt_base64(made["root_token"].as_str().unwrap());
    let cli = Cli::new(&server).env("VAULT_TOKEN", &token);

    let begun = cli.run(&[
        "operator",
        "rekey",
        "-init",
        "-key-threshold=2",
        &format!("-pgp-keys={armored},{binary}"),
        "-backup",
        "-format=json",
    ]);
    let nonce = format!("-nonce={}", begun.ok().json()["nonce"].as_str().unwrap());
    cli.run(&["operator", "rekey", &nonce, &keys[0]]).ok();
    let made = cli.run(&["operator", "rekey", &nonce, &keys[1]]).ok();
    assert!(
        made.stdout.contains(&format!("Key 2 for {bob}: ")) && made.stdout.contains("gpg -d"),
        "{}",
        made.stdout
    );
    let kept = cli
        .run(&["operator", "rekey", "-backup-retrieve", "-format=json"])
        .ok()
        .json();
    let key = |person: &String| -> String {
        let kept: &Value = &kept["data"]["keys_base64"][person][0];
        gpg.decrypt_base64(kept.as_str().unwrap())
    };
    cli.run(&["operator", "rekey", "-backup-delete"]).ok();
    cli.run(&["operator", "rekey", "-backup-retrieve"])
        .expect(2);

    let begun = cli.run(&[
        "operator",
        "generate-root",
        "-init",
        &format!("-pgp-key={binary}"),
        "-format=json",
    ]);
    let begun = begun.ok().json();
    assert_eq!(begun["pgp_fingerprint"], json!(bob));
    let nonce = format!("-nonce={}", begun["nonce"].as_str().unwrap());
    cli.run(&["operator", "generate-root", &nonce, &key(&ann)])
        .ok();
    let done = cli.run(&[
        "operator",
        "generate-root",
        "-format=json",
        &nonce,
        &key(&bob),
    ]);
    let token = gpg.decrypt_base64(done.ok().json()["encoded_token"].as_str().unwrap());
    let root = server.client().with_token(token);
    root.put("sys/seal", json!({})).expect(204);
    assert!(!unseals(&server.client(), &keys), "the old keys");
    assert!(unseals(&server.client(), &[key(&ann), key(&bob)]));
}
