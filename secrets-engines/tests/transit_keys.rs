//! Transit keys as a client sees them: shapes, settings, versions, deletion.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Mount, delete, get, list, post, view};
use serde_json::json;

async fn transit() -> Mount {
    Mount::open("transit", &[]).await
}

#[tokio::test]
async fn a_key_has_vaults_shape_to_the_letter() {
    let transit = transit().await;
    let made = transit.done(post("keys/plain", json!({}))).await;
    assert_eq!(made.status, 200);
    let read = transit.done(get("keys/plain")).await.data;
    assert_eq!(made.data, read);
    let made_at = read["keys"]["1"].as_u64().unwrap();
    let expected = json!({
        "name": "plain", "type": "aes256-gcm96", "derived": false, "deletion_allowed": false,
        "min_available_version": 0, "min_decryption_version": 1, "min_encryption_version": 0, "latest_version": 1,
        "exportable": false, "allow_plaintext_backup": false, "supports_encryption": true,
        "supports_decryption": true, "supports_signing": false, "supports_derivation": true,
        "auto_rotate_period": 0, "imported_key": false, "keys": {"1": made_at},
    });
    assert_eq!(read, expected);

    let body = json!({"type": "chacha20-poly1305", "derived": true, "convergent_encryption": true, "exportable": true});
    let made = transit.done(post("keys/conv", body)).await.data;
    assert_eq!(made["kdf"], "hkdf_sha256");
    assert_eq!(
        (
            &made["convergent_encryption"],
            &made["convergent_encryption_version"]
        ),
        (&json!(true), &json!(3))
    );
    let hmac = transit
        .done(post("keys/mac", json!({"type": "hmac", "key_size": 64})))
        .await
        .data;
    assert_eq!(hmac["key_size"], 64);
    assert_eq!(hmac["supports_encryption"], false);
    assert_eq!(
        transit.done(list("keys")).await.data["keys"],
        json!(["conv", "mac", "plain"])
    );
    assert_eq!(transit.status(get("keys/none")).await, 404);
}

#[tokio::test]
async fn a_key_with_a_public_half_shows_it() {
    let transit = transit().await;
    for (kind, name, begin) in [
        ("ed25519", "ed25519", ""),
        ("ecdsa-p256", "P-256", "-----BEGIN PUBLIC KEY-----\n"),
        ("ecdsa-p384", "P-384", "-----BEGIN PUBLIC KEY-----\n"),
        ("ecdsa-p521", "P-521", "-----BEGIN PUBLIC KEY-----\n"),
        ("rsa-2048", "rsa-2048", "-----BEGIN PUBLIC KEY-----\n"),
    ] {
        let made = transit
            .done(post("keys/a", json!({"type": kind})))
            .await
            .data;
        let version = &made["keys"]["1"];
        assert_eq!(version["name"], name);
        let public = version["public_key"].as_str().unwrap();
        assert!(public.starts_with(begin) && public.len() >= 44, "{public}");
        assert!(version["creation_time"].as_str().unwrap().contains('T'));
        assert_eq!(
            (&made["supports_signing"], &made["supports_encryption"]),
            (&json!(true), &json!(kind == "rsa-2048"))
        );
        transit
            .done(post("keys/a/config", json!({"deletion_allowed": true})))
            .await;
        assert_eq!(transit.done(delete("keys/a")).await.status, 204);
    }
    assert_eq!(transit.kept().await.len(), 0);
}

#[tokio::test]
async fn a_second_create_changes_nothing_and_says_so() {
    let transit = transit().await;
    let first = transit.done(post("keys/a", json!({}))).await;
    let second = transit
        .done(post(
            "keys/a",
            json!({"type": "ed25519", "exportable": true}),
        ))
        .await;
    assert_eq!(first.data, second.data);
    assert_eq!(second.warnings, ["key a already existed"]);
}

#[tokio::test]
async fn a_key_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let transit = transit().await;
    for (body, field) in [
        (json!({"type": "des"}), "type"),
        (json!({"convergent_encryption": true}), "derivation"),
        (json!({"type": "rsa-2048", "derived": true}), "derivation"),
        (json!({"type": "hmac", "key_size": 16}), "key_size"),
        (json!({"type": "hmac", "key_size": 513}), "key_size"),
        (json!({"key_size": 32}), "key_size"),
        (json!({"auto_rotate_period": "59m"}), "auto rotate period"),
        (
            json!({"type": "ed25519", "derived": true, "convergent_encryption": true}),
            "convergent",
        ),
    ] {
        let (status, text) = transit.refused(post("keys/a", body)).await;
        assert_eq!(status, 400);
        assert!(text.contains(field), "{text}");
    }
    for name in ["-a", "a.", "a b", "ä", "a+", &"a".repeat(256)] {
        assert_eq!(
            transit
                .status(post(format!("keys/{name}"), json!({})))
                .await,
            400,
            "{name}"
        );
    }
    assert!(transit.kept().await.is_empty());
}

#[tokio::test]
async fn a_key_is_deleted_only_where_that_is_allowed_and_takes_everything_with_it() {
    let transit = transit().await;
    transit
        .done(post("keys/a", json!({"auto_rotate_period": "1h"})))
        .await;
    transit
        .done(post("encrypt/a", json!({"plaintext": "aGVsbG8="})))
        .await;
    let (status, text) = transit.refused(delete("keys/a")).await;
    assert_eq!(status, 400);
    assert!(text.contains("deletion is not allowed"), "{text}");
    transit
        .done(post("keys/a/config", json!({"deletion_allowed": true})))
        .await;
    transit.done(delete("keys/a")).await;
    assert!(transit.kept().await.is_empty());
    assert_eq!(transit.status(get("keys/a")).await, 404);
    assert_eq!(transit.status(delete("keys/a")).await, 400);
    assert_eq!(
        transit
            .refused(post("decrypt/a", json!({"ciphertext": "vault:v1:AAAA"})))
            .await,
        (400, "encryption key not found".to_owned())
    );
}

#[tokio::test]
async fn settings_are_checked_against_the_versions() {
    let transit = transit().await;
    transit.done(post("keys/a", json!({}))).await;
    for n in 2..=4 {
        let rotated = transit.done(post("keys/a/rotate", json!({}))).await;
        assert_eq!(rotated.data["latest_version"], n);
    }
    for (body, text) in [
        (
            json!({"min_decryption_version": 5}),
            "latest key version is 4",
        ),
        (
            json!({"min_encryption_version": 5}),
            "latest key version is 4",
        ),
        (
            json!({"min_decryption_version": 3, "min_encryption_version": 2}),
            "greater than or equal",
        ),
        (json!({"auto_rotate_period": 60}), "auto rotate period"),
        (
            json!({"min_decryption_version": -1}),
            "min_decryption_version",
        ),
    ] {
        let before = transit.done(get("keys/a")).await.data;
        let (status, said) = transit.refused(post("keys/a/config", body)).await;
        assert!(status == 400 && said.contains(text), "{said}");
        assert_eq!(transit.done(get("keys/a")).await.data, before);
    }
    let zero = transit
        .done(post("keys/a/config", json!({"min_decryption_version": 0})))
        .await;
    assert_eq!(zero.data["min_decryption_version"], 1);
    assert_eq!(zero.warnings.len(), 1);
    let configured = transit
        .done(post(
            "keys/a/config",
            json!({"min_decryption_version": 3, "min_encryption_version": 4, "exportable": true, "auto_rotate_period": "2h"}),
        ))
        .await;
    assert_eq!(configured.data["auto_rotate_period"], 7200);
    let shown: Vec<&String> = configured.data["keys"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(shown, ["3", "4"]);
    let kept = transit
        .done(post("keys/a/config", json!({"exportable": false})))
        .await;
    assert_eq!(kept.data["exportable"], true);
    assert!(kept.warnings[0].contains("exportable"));
}

#[tokio::test]
async fn trimming_removes_the_old_material_for_good() {
    let transit = transit().await;
    transit.done(post("keys/a", json!({}))).await;
    let old = transit
        .done(post("encrypt/a", json!({"plaintext": "aGVsbG8="})))
        .await
        .data["ciphertext"]
        .clone();
    for _ in 0..3 {
        transit.done(post("keys/a/rotate", json!({}))).await;
    }
    let trim = |version: u64| post("keys/a/trim", json!({"min_available_version": version}));
    assert_eq!(transit.status(post("keys/a/trim", json!({}))).await, 400);
    let (_, text) = transit.refused(trim(3)).await;
    assert!(
        text.contains("minimum encryption version is not set"),
        "{text}"
    );
    transit
        .done(post(
            "keys/a/config",
            json!({"min_decryption_version": 3, "min_encryption_version": 4}),
        ))
        .await;
    assert_eq!(transit.status(trim(4)).await, 400);
    assert_eq!(transit.status(trim(5)).await, 400);
    let materials = |kept: std::collections::BTreeSet<String>| {
        kept.iter()
            .filter(|path| path.starts_with("versions/"))
            .count()
    };
    assert_eq!(materials(transit.kept().await), 4);
    assert_eq!(transit.done(trim(3)).await.status, 204);
    assert_eq!(materials(transit.kept().await), 2);
    assert_eq!(transit.done(trim(3)).await.status, 204);
    assert_eq!(transit.status(trim(2)).await, 400);
    assert_eq!(
        transit.done(get("keys/a")).await.data["min_available_version"],
        3
    );
    let below = json!({"min_decryption_version": 2});
    assert_eq!(transit.status(post("keys/a/config", below)).await, 400);
    let (status, text) = transit
        .refused(post("decrypt/a", json!({"ciphertext": old})))
        .await;
    assert!(status == 400 && text.contains("too old"), "{text}");
}

#[tokio::test]
async fn a_key_rotates_by_itself_when_its_time_has_come() {
    use std::time::{Duration, SystemTime};
    let view = view().await;
    let one = Mount::on(view.clone(), "transit", &[]).await.unwrap();
    let two = Mount::on(view, "transit", &[]).await.unwrap();
    one.done(post("keys/a", json!({"auto_rotate_period": "1h"})))
        .await;
    one.done(post("keys/b", json!({}))).await;
    let latest = async |mount: &Mount, key: &str| {
        mount.done(get(format!("keys/{key}"))).await.data["latest_version"].clone()
    };
    one.backend.tidy(SystemTime::now()).await.unwrap();
    assert_eq!(latest(&one, "a").await, 1);
    // Two servers at once: it rotates once. The new version is made now, so it is due again later only.
    let later = SystemTime::now() + Duration::from_secs(3601);
    let due_once = async |mount: &Mount| mount.backend.tidy(later).await;
    let (first, second) = tokio::join!(due_once(&one), due_once(&two));
    first.unwrap();
    second.unwrap();
    let after = latest(&one, "a").await.as_u64().unwrap();
    assert!((2..=3).contains(&after));
    assert_eq!(latest(&two, "b").await, 1);
    one.done(post("keys/a/config", json!({"auto_rotate_period": 0})))
        .await;
    two.backend
        .tidy(later + Duration::from_secs(90000))
        .await
        .unwrap();
    assert_eq!(latest(&two, "a").await, after);
    assert!(!one.kept().await.iter().any(|path| path.starts_with("due/")));
}

#[tokio::test]
async fn the_mounts_settings_are_kept_and_bounded() {
    let transit = transit().await;
    assert_eq!(
        transit.done(get("cache-config")).await.data,
        json!({"size": 0})
    );
    assert_eq!(
        transit
            .status(post("cache-config", json!({"size": 9})))
            .await,
        400
    );
    transit
        .done(post("cache-config", json!({"size": 10})))
        .await;
    assert_eq!(
        transit.done(get("cache-config")).await.data,
        json!({"size": 10})
    );
    transit
        .done(post("config/keys", json!({"disable_upsert": true})))
        .await;
    assert_eq!(
        transit.done(get("config/keys")).await.data,
        json!({"disable_upsert": true})
    );
    let body = json!({"plaintext": ""});
    assert_eq!(
        transit.refused(post("encrypt/new", body)).await,
        (400, "encryption key not found".to_owned())
    );
    assert_eq!(
        transit.done(get("cache-config")).await.data,
        json!({"size": 10})
    );
}
