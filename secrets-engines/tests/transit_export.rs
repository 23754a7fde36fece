//! Exporting, backing up and restoring transit keys; random bytes and hashes.
#![allow(clippy::unwrap_used)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Mount, get, post};
use serde_json::{Value, json};

async fn transit() -> Mount {
    Mount::open("transit", &[]).await
}

const HELLO: &str = "aGVsbG8=";

#[tokio::test]
async fn a_key_is_exported_only_where_that_was_allowed() {
    let transit = transit().await;
    transit.done(post("keys/a", json!({}))).await;
    assert_eq!(
        transit.refused(get("export/encryption-key/a")).await,
        (400, "private key material is not exportable".to_owned())
    );
    transit
        .done(post("keys/a/config", json!({"exportable": true})))
        .await;
    transit.done(post("keys/a/rotate", json!({}))).await;
    let all = transit.done(get("export/encryption-key/a")).await.data;
    assert_eq!(
        (&all["name"], &all["type"]),
        (&json!("a"), &json!("aes256-gcm96"))
    );
    assert_eq!(all["keys"].as_object().unwrap().len(), 2);
    assert_eq!(
        STANDARD
            .decode(all["keys"]["2"].as_str().unwrap())
            .unwrap()
            .len(),
        32
    );
    let latest = transit
        .done(get("export/encryption-key/a/latest"))
        .await
        .data;
    assert_eq!(latest["keys"], json!({"2": all["keys"]["2"]}));
    let first = transit.done(get("export/encryption-key/a/1")).await.data;
    assert_eq!(first["keys"], json!({"1": all["keys"]["1"]}));
    let mac = transit.done(get("export/hmac-key/a/1")).await.data;
    assert_ne!(mac["keys"]["1"], all["keys"]["1"]);
    transit
        .done(post("keys/a/config", json!({"min_decryption_version": 2})))
        .await;
    assert_eq!(
        transit.refused(get("export/encryption-key/a/1")).await.1,
        "version for export is below minimum decryption version"
    );
    for (path, status) in [
        ("export/encryption-key/a/3", 400),
        ("export/encryption-key/a/x", 400),
        ("export/signing-key/a", 400),
        ("export/public-key/a", 400),
        ("export/everything/a", 400),
        ("export/encryption-key/none", 404),
    ] {
        assert_eq!(transit.status(get(path)).await, status, "{path}");
    }
}

#[tokio::test]
async fn exported_keys_have_vaults_forms() {
    let transit = transit().await;
    for (kind, begin) in [
        ("ecdsa-p256", "-----BEGIN EC PRIVATE KEY-----\n"),
        ("ecdsa-p521", "-----BEGIN EC PRIVATE KEY-----\n"),
        ("rsa-2048", "-----BEGIN RSA PRIVATE KEY-----\n"),
    ] {
        let name = format!("keys/{kind}");
        transit
            .done(post(name, json!({"type": kind, "exportable": true})))
            .await;
        let path = format!("export/signing-key/{kind}");
        let key = transit.done(get(path)).await.data["keys"]["1"].clone();
        assert!(key.as_str().unwrap().starts_with(begin), "{kind}");
        let path = format!("export/public-key/{kind}");
        let public = transit.done(get(path)).await.data["keys"]["1"].clone();
        assert!(
            public
                .as_str()
                .unwrap()
                .starts_with("-----BEGIN PUBLIC KEY-----\n")
        );
    }
    transit
        .done(post(
            "keys/ed",
            json!({"type": "ed25519", "exportable": true}),
        ))
        .await;
    let key = transit.done(get("export/signing-key/ed")).await.data["keys"]["1"].clone();
    let key = STANDARD.decode(key.as_str().unwrap()).unwrap();
    let public = transit.done(get("export/public-key/ed")).await.data["keys"]["1"].clone();
    // The seed and the public key behind it, as Go has it.
    assert_eq!(
        (key.len(), STANDARD.encode(&key[32..])),
        (64, public.as_str().unwrap().into())
    );
}

#[tokio::test]
async fn a_backup_is_a_whole_key_that_can_come_back() {
    let transit = transit().await;
    transit
        .done(post("keys/a", json!({"exportable": true})))
        .await;
    let (_, text) = transit.refused(get("backup/a")).await;
    assert_eq!(text, "plaintext backup is disallowed on the policy");
    transit
        .done(post(
            "keys/a/config",
            json!({"allow_plaintext_backup": true, "deletion_allowed": true}),
        ))
        .await;
    let old = transit
        .done(post("encrypt/a", json!({"plaintext": HELLO})))
        .await
        .data["ciphertext"]
        .clone();
    transit.done(post("keys/a/rotate", json!({}))).await;
    let backup = transit.done(get("backup/a")).await.data["backup"].clone();
    let read = transit.done(get("keys/a")).await.data;
    assert_eq!(read["backup_info"]["version"], 2);
    let restore = |path: &str, body: Value| post(path.to_owned(), body);
    let again = json!({"backup": backup});
    let (status, text) = transit.refused(restore("restore", again.clone())).await;
    assert!(status == 400 && text.contains("already exists"), "{text}");
    assert_eq!(
        transit
            .done(restore("restore/b", again.clone()))
            .await
            .status,
        204
    );
    transit.done(post("keys/a/rotate", json!({}))).await;
    transit
        .done(restore("restore", json!({"backup": backup, "force": true})))
        .await;
    for name in ["a", "b"] {
        let restored = transit.done(get(format!("keys/{name}"))).await.data;
        assert_eq!(restored["latest_version"], 2);
        assert_eq!(restored["restore_info"]["version"], 2);
        let body = json!({"ciphertext": old});
        let opened = transit.done(post(format!("decrypt/{name}"), body)).await;
        assert_eq!(opened.data["plaintext"], HELLO);
    }
    // What was replaced is gone: two keys, two versions each.
    let kept = transit.kept().await;
    assert_eq!(
        kept.iter()
            .filter(|path| path.starts_with("versions/"))
            .count(),
        4
    );

    // On another server, too.
    let elsewhere = Mount::open("transit", &[]).await;
    elsewhere.done(restore("restore", again)).await;
    let opened = elsewhere
        .done(post("decrypt/a", json!({"ciphertext": old})))
        .await;
    assert_eq!(opened.data["plaintext"], HELLO);
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_changes_nothing() {
    let transit = transit().await;
    let body =
        json!({"exportable": true, "allow_plaintext_backup": true, "type": "chacha20-poly1305"});
    transit.done(post("keys/a", body)).await;
    let backup = transit.done(get("backup/a")).await.data["backup"].clone();
    let text = STANDARD.decode(backup.as_str().unwrap()).unwrap();
    let content: Value = serde_json::from_slice(&text).unwrap();
    let elsewhere = Mount::open("transit", &[]).await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut content = content.clone();
        change(&mut content);
        STANDARD.encode(content.to_string())
    };
    for wrong in [
        String::new(),
        "s3cret".to_owned(),
        STANDARD.encode("s3cret"),
        STANDARD.encode("{}"),
        changed(&|c| c["obol_transit_backup"] = json!(2)),
        changed(&|c| c["head"]["latest"] = json!(2)),
        changed(&|c| c["head"]["latest"] = json!(u64::MAX)),
        changed(&|c| c["head"]["min_available"] = json!(2)),
        changed(&|c| c["head"]["kind"] = json!("rsa-2048")),
        changed(&|c| c["head"]["convergent"] = json!(true)),
        changed(&|c| c["versions"]["1"]["key"] = json!("AAAA")),
        changed(&|c| c["versions"]["7"] = c["versions"]["1"].clone()),
        changed(&|c| c["uses"]["9"] = json!(1)),
        changed(&|c| c["name"] = json!("../a")),
    ] {
        let (status, text) = elsewhere
            .refused(post("restore", json!({"backup": wrong})))
            .await;
        assert_eq!(status, 400, "{wrong}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    assert!(elsewhere.kept().await.is_empty());
    elsewhere
        .done(post("restore", json!({"backup": changed(&|_| {})})))
        .await;
}

#[tokio::test]
async fn random_bytes_come_in_the_length_and_form_asked_for() {
    let transit = transit().await;
    let random = async |path: &str, body: Value| {
        let answer = transit.done(post(path, body)).await;
        answer.data["random_bytes"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        STANDARD
            .decode(random("random", json!({})).await)
            .unwrap()
            .len(),
        32
    );
    assert_eq!(
        random("random/16", json!({"format": "hex"})).await.len(),
        32
    );
    assert_eq!(
        random("random/platform/5", json!({"format": "hex"}))
            .await
            .len(),
        10
    );
    assert_eq!(
        random("random", json!({"bytes": "131072", "format": "hex"}))
            .await
            .len(),
        262144
    );
    assert_ne!(
        random("random", json!({})).await,
        random("random", json!({})).await
    );
    for (path, body) in [
        ("random/0", json!({})),
        ("random/131073", json!({})),
        ("random/seal/5", json!({})),
        ("random", json!({"format": "text"})),
        ("random", json!({"bytes": "many"})),
    ] {
        assert_eq!(transit.status(post(path, body)).await, 400, "{path}");
    }
}

#[tokio::test]
async fn hashes_are_what_they_are_everywhere() {
    let transit = transit().await;
    let body = json!({"input": HELLO});
    let sum = transit.done(post("hash", body.clone())).await.data["sum"].clone();
    assert_eq!(
        sum,
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
    let by_path = transit
        .done(post(
            "hash/sha2-256",
            json!({"input": HELLO, "format": "base64"}),
        ))
        .await;
    assert_eq!(
        by_path.data["sum"],
        "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
    );
    for (path, body) in [
        ("hash", json!({})),
        ("hash", json!({"input": "*"})),
        ("hash/sha1", body.clone()),
        ("hash/md5", body),
    ] {
        assert_eq!(transit.status(post(path, body)).await, 400, "{path}");
    }
}
