//! Encrypting and decrypting with transit keys: versions, contexts, convergence, batches, refusals.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Ask, Mount, get, post, view};
use obol_mount::Operation;
use serde_json::{Value, json};

async fn transit() -> Mount {
    Mount::open("transit", &[]).await
}

async fn with_key(body: Value) -> Mount {
    let transit = transit().await;
    transit.done(post("keys/a", body)).await;
    transit
}

fn encrypt(body: Value) -> Ask {
    post("encrypt/a", body)
}

fn decrypt(body: Value) -> Ask {
    post("decrypt/a", body)
}

/// base64 of "hello".
const HELLO: &str = "aGVsbG8=";
/// base64 of "context".
const CONTEXT: &str = "Y29udGV4dA==";

#[tokio::test]
async fn every_cipher_gives_back_what_it_took() {
    for kind in [
        "aes128-gcm96",
        "aes256-gcm96",
        "chacha20-poly1305",
        "rsa-2048",
    ] {
        let transit = with_key(json!({"type": kind})).await;
        for plaintext in ["", HELLO, "AAECAwQFBgcICQ=="] {
            let sealed = transit
                .done(encrypt(json!({"plaintext": plaintext})))
                .await
                .data;
            assert_eq!(sealed["key_version"], 1);
            let text = sealed["ciphertext"].as_str().unwrap();
            assert!(text.starts_with("vault:v1:"), "{text}");
            let opened = transit
                .done(decrypt(json!({"ciphertext": text})))
                .await
                .data;
            assert_eq!(opened, json!({"plaintext": plaintext}), "{kind}");
        }
        let again = async || {
            let sealed = transit
                .done(encrypt(json!({"plaintext": HELLO})))
                .await
                .data;
            sealed["ciphertext"].clone()
        };
        assert_ne!(again().await, again().await, "{kind}");
    }
}

#[tokio::test]
async fn line_breaks_in_base64_are_passed_over() {
    let transit = with_key(json!({})).await;
    let sealed = transit
        .done(encrypt(json!({"plaintext": "aGVs\nbG8=\n"})))
        .await
        .data;
    let opened = transit
        .done(decrypt(json!({"ciphertext": sealed["ciphertext"]})))
        .await;
    assert_eq!(opened.data["plaintext"], HELLO);
}

#[tokio::test]
async fn versions_decide_what_may_be_used_and_opened() {
    let transit = with_key(json!({})).await;
    let mut sealed = Vec::new();
    for n in 1..=3 {
        let answer = transit
            .done(encrypt(json!({"plaintext": HELLO})))
            .await
            .data;
        assert_eq!(answer["key_version"], n);
        sealed.push(answer["ciphertext"].clone());
        transit.done(post("keys/a/rotate", json!({}))).await;
    }
    for text in &sealed {
        transit.done(decrypt(json!({"ciphertext": text}))).await;
    }
    let old = transit
        .done(encrypt(json!({"plaintext": HELLO, "key_version": 2})))
        .await
        .data;
    assert!(old["ciphertext"].as_str().unwrap().starts_with("vault:v2:"));
    let rewrapped = transit
        .done(post("rewrap/a", json!({"ciphertext": sealed[0]})))
        .await
        .data;
    assert_eq!(rewrapped["key_version"], 4);

    transit
        .done(post(
            "keys/a/config",
            json!({"min_decryption_version": 2, "min_encryption_version": 3}),
        ))
        .await;
    let (status, text) = transit
        .refused(decrypt(json!({"ciphertext": sealed[0]})))
        .await;
    assert_eq!(
        (status, text.as_str()),
        (
            400,
            "ciphertext or signature version is disallowed by policy (too old)"
        )
    );
    transit
        .done(decrypt(json!({"ciphertext": sealed[1]})))
        .await;
    for (version, word) in [(2, "less than the minimum"), (5, "higher than the latest")] {
        let body = json!({"plaintext": HELLO, "key_version": version});
        let (status, text) = transit.refused(encrypt(body)).await;
        assert!(status == 400 && text.contains(word), "{text}");
    }
    // A minimum is a rule, not a deletion: it can be lowered again.
    transit
        .done(post("keys/a/config", json!({"min_decryption_version": 1})))
        .await;
    transit
        .done(decrypt(json!({"ciphertext": sealed[0]})))
        .await;
}

#[tokio::test]
async fn a_ciphertext_that_is_none_is_refused_in_vaults_words() {
    let transit = with_key(json!({})).await;
    let sealed = transit
        .done(encrypt(json!({"plaintext": HELLO})))
        .await
        .data;
    let sealed = sealed["ciphertext"].as_str().unwrap().to_owned();
    let mut flipped = sealed.clone().into_bytes();
    let at = flipped.len() - 6;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for (text, said) in [
        ("", "missing ciphertext to decrypt"),
        ("plain", "invalid ciphertext: no prefix"),
        ("vault:v1", "invalid ciphertext: wrong number of fields"),
        (
            "vault:vx:AAAA",
            "invalid ciphertext: version number could not be decoded",
        ),
        ("vault:v2:AAAA", "invalid ciphertext: version is too new"),
        (
            "vault:v99999999999999999999:AAAA",
            "invalid ciphertext: version number could not be decoded",
        ),
        ("vault:v1:*", "invalid ciphertext: could not decode base64"),
        ("vault:v1:AAAA", "invalid ciphertext: length is too short"),
        (flipped.as_str(), "cipher: message authentication failed"),
    ] {
        assert_eq!(
            transit.refused(decrypt(json!({"ciphertext": text}))).await,
            (400, said.to_owned()),
            "{text}"
        );
    }
    // Vault's first ciphertexts counted from 0.
    let zero = sealed.replace("vault:v1:", "vault:v0:");
    transit.done(decrypt(json!({"ciphertext": zero}))).await;
}

#[tokio::test]
async fn error_leaks_input_no_refusal_repeats_what_was_sent() {
    let transit = with_key(json!({})).await;
    for ask in [
        encrypt(json!({"plaintext": "s3cret-not-base64"})),
        encrypt(json!({"plaintext": ["s3cret"]})),
        encrypt(json!({"plaintext": HELLO, "associated_data": "s3cret!"})),
        encrypt(json!({"plaintext": HELLO, "context": "s3cret!"})),
        encrypt(json!({"plaintext": HELLO, "nonce": "s3cret"})),
        encrypt(json!({"plaintext": HELLO, "key_version": "s3cret"})),
        encrypt(json!({"batch_input": "s3cret"})),
        encrypt(json!({"batch_input": [{"plaintext": 5, "reference": "s3cret"}]})),
        decrypt(json!({"ciphertext": "s3cret"})),
        decrypt(json!({"ciphertext": "vault:v1:s3cret"})),
        post("keys/b", json!({"type": "s3cret"})),
    ] {
        let (status, text) = transit.refused(ask).await;
        assert_eq!(status, 400);
        assert!(!text.contains("s3cret"), "{text}");
        assert!(!text.is_empty());
    }
    let batch = json!({"batch_input": [{"plaintext": "s3cret!"}]});
    let answer = transit.done(encrypt(batch)).await;
    assert!(!answer.data.to_string().contains("s3cret"));
}

#[tokio::test]
async fn associated_data_must_be_the_same() {
    let transit = with_key(json!({})).await;
    let sealed = transit
        .done(encrypt(
            json!({"plaintext": HELLO, "associated_data": CONTEXT}),
        ))
        .await
        .data["ciphertext"]
        .clone();
    transit
        .done(decrypt(
            json!({"ciphertext": sealed, "associated_data": CONTEXT}),
        ))
        .await;
    for body in [
        json!({"ciphertext": sealed}),
        json!({"ciphertext": sealed, "associated_data": HELLO}),
    ] {
        assert_eq!(
            transit.refused(decrypt(body)).await.1,
            "cipher: message authentication failed"
        );
    }
    let rsa = with_key(json!({"type": "rsa-2048"})).await;
    let body = json!({"plaintext": HELLO, "associated_data": CONTEXT});
    assert_eq!(rsa.status(encrypt(body)).await, 400);
}

#[tokio::test]
async fn a_derived_key_needs_the_context_that_it_was_used_with() {
    let transit = with_key(json!({"derived": true})).await;
    let (status, text) = transit.refused(encrypt(json!({"plaintext": HELLO}))).await;
    assert!(status == 400 && text.starts_with("missing 'context' for key derivation"));
    let sealed = transit
        .done(encrypt(json!({"plaintext": HELLO, "context": CONTEXT})))
        .await
        .data["ciphertext"]
        .clone();
    let opened = transit
        .done(decrypt(json!({"ciphertext": sealed, "context": CONTEXT})))
        .await;
    assert_eq!(opened.data["plaintext"], HELLO);
    let other = json!({"ciphertext": sealed, "context": HELLO});
    assert_eq!(transit.status(decrypt(other)).await, 400);
    assert_eq!(
        transit.status(decrypt(json!({"ciphertext": sealed}))).await,
        400
    );
}

#[tokio::test]
async fn convergent_messages_are_the_same_for_the_same_context_only() {
    let transit = with_key(json!({"derived": true, "convergent_encryption": true})).await;
    let seal = async |plaintext: &str, context: &str, data: &str| {
        let body = json!({"plaintext": plaintext, "context": context, "associated_data": data});
        let answer = transit.done(encrypt(body)).await;
        answer.data["ciphertext"].as_str().unwrap().to_owned()
    };
    let first = seal(HELLO, CONTEXT, "").await;
    assert_eq!(first, seal(HELLO, CONTEXT, "").await);
    let others = [
        seal(HELLO, HELLO, "").await,
        seal(CONTEXT, CONTEXT, "").await,
        seal(HELLO, CONTEXT, HELLO).await,
        seal(HELLO, CONTEXT, CONTEXT).await,
    ];
    // nonce_reuse: not even the same message under other associated data shares a nonce.
    let nonce = |text: &str| text["vault:v1:".len()..][..16].to_owned();
    let mut nonces: Vec<_> = others.iter().map(|text| nonce(text)).collect();
    nonces.push(nonce(&first));
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 5);
    let body = json!({"ciphertext": others[2], "context": CONTEXT, "associated_data": HELLO});
    assert_eq!(transit.done(decrypt(body)).await.data["plaintext"], HELLO);
    let body = json!({"plaintext": HELLO, "context": CONTEXT, "nonce": "AAAAAAAAAAAAAAAA"});
    assert_eq!(
        transit.refused(encrypt(body)).await,
        (400, "nonce provided when not allowed".to_owned())
    );
}

#[tokio::test]
async fn encrypting_with_a_name_that_is_new_makes_the_key() {
    let transit = transit().await;
    let first = transit.done(encrypt(json!({"plaintext": HELLO}))).await;
    assert_eq!(first.operation, Operation::Create);
    let second = transit.done(encrypt(json!({"plaintext": HELLO}))).await;
    assert_eq!(second.operation, Operation::Update);
    assert_eq!(
        transit.done(get("keys/a")).await.data["type"],
        "aes256-gcm96"
    );

    let body = json!({
        "batch_input": [{"plaintext": HELLO, "context": CONTEXT}],
        "convergent_encryption": true, "type": "aes128-gcm96",
    });
    transit.done(post("encrypt/b", body)).await;
    let made = transit.done(get("keys/b")).await.data;
    assert_eq!(
        (
            &made["derived"],
            &made["convergent_encryption"],
            &made["type"]
        ),
        (&json!(true), &json!(true), &json!("aes128-gcm96"))
    );
    for body in [
        json!({"plaintext": HELLO, "type": "ed25519"}),
        json!({"plaintext": HELLO, "type": "rsa-2048"}),
        json!({"plaintext": HELLO, "convergent_encryption": true}),
    ] {
        assert_eq!(transit.status(post("encrypt/c", body)).await, 400);
    }
    assert_eq!(transit.status(get("keys/c")).await, 404);
    assert_eq!(
        transit
            .refused(post("rewrap/c", json!({"ciphertext": "vault:v1:AA"})))
            .await,
        (400, "encryption key not found".to_owned())
    );
}

#[tokio::test]
async fn a_batch_answers_for_each_and_says_by_status_that_some_failed() {
    let transit = with_key(json!({})).await;
    let good = transit
        .done(encrypt(json!({"batch_input": [
            {"plaintext": HELLO, "reference": "one"}, {"plaintext": ""},
        ]})))
        .await;
    assert_eq!((good.status, good.warnings.len()), (200, 0));
    let results = good.data["batch_results"].as_array().unwrap().clone();
    assert_eq!(
        (&results[0]["reference"], &results[0]["key_version"]),
        (&json!("one"), &json!(1))
    );
    assert_eq!(good.data.as_object().unwrap().len(), 1);
    let mixed = json!([
        {"ciphertext": results[0]["ciphertext"], "reference": "a"},
        {"ciphertext": "vault:v9:AAAA", "reference": "b"},
        {},
    ]);
    let answer = transit.done(decrypt(json!({"batch_input": mixed}))).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.data["batch_results"],
        json!([
            {"plaintext": HELLO, "reference": "a"},
            {"error": "invalid ciphertext: version is too new", "reference": "b"},
            {"error": "missing ciphertext to decrypt", "reference": ""},
        ])
    );
    let with_code = |batch: &Value, code: Value| {
        decrypt(json!({"batch_input": batch, "partial_failure_response_code": code}))
    };
    assert_eq!(
        transit.done(with_code(&mixed, json!(207))).await.status,
        207
    );
    let strange = transit.done(with_code(&mixed, json!(7))).await;
    assert_eq!((strange.status, strange.warnings.len()), (400, 1));
    // None succeeded: the code is for partial failures.
    let bad = json!([{"ciphertext": "x"}]);
    assert_eq!(transit.done(with_code(&bad, json!(207))).await.status, 400);
    assert_eq!(
        transit.status(decrypt(json!({"batch_input": []}))).await,
        400
    );
    let both = transit
        .done(encrypt(
            json!({"plaintext": HELLO, "batch_input": [{"plaintext": HELLO}]}),
        ))
        .await;
    assert!(
        both.warnings[0].contains("plaintext"),
        "{:?}",
        both.warnings
    );
}

#[tokio::test]
async fn a_data_key_is_what_its_ciphertext_holds() {
    let transit = with_key(json!({})).await;
    for (bits, length) in [
        (None, 44),
        (Some(128), 24),
        (Some(256), 44),
        (Some(512), 88),
    ] {
        let made = transit
            .done(post("datakey/plaintext/a", json!({"bits": bits})))
            .await
            .data;
        let plain = made["plaintext"].as_str().unwrap();
        assert_eq!(plain.len(), length);
        let opened = transit
            .done(decrypt(json!({"ciphertext": made["ciphertext"]})))
            .await;
        assert_eq!(opened.data["plaintext"], plain);
    }
    let wrapped = transit
        .done(post("datakey/wrapped/a", json!({})))
        .await
        .data;
    assert!(wrapped.get("plaintext").is_none() && wrapped["key_version"] == 1);
    assert_eq!(
        transit
            .status(post("datakey/plaintext/a", json!({"bits": 100})))
            .await,
        400
    );
    assert_eq!(
        transit.status(post("datakey/other/a", json!({}))).await,
        404
    );
}

#[tokio::test]
async fn cross_mount_id_one_mounts_ciphertext_means_nothing_to_another() {
    let one = with_key(json!({})).await;
    let two = with_key(json!({})).await;
    let sealed = one.done(encrypt(json!({"plaintext": HELLO}))).await.data;
    let body = json!({"ciphertext": sealed["ciphertext"]});
    assert_eq!(
        two.refused(decrypt(body)).await.1,
        "cipher: message authentication failed"
    );
}

#[tokio::test]
async fn a_change_by_another_server_counts_at_once() {
    let view = view().await;
    let one = Mount::on(view.clone(), "transit", &[]).await.unwrap();
    let two = Mount::on(view, "transit", &[]).await.unwrap();
    one.done(post("keys/a", json!({}))).await;
    let version = async |mount: &Mount| {
        let answer = mount.done(encrypt(json!({"plaintext": HELLO}))).await;
        answer.data["key_version"].clone()
    };
    assert_eq!(
        (version(&one).await, version(&two).await),
        (json!(1), json!(1))
    );
    let sealed = one.done(encrypt(json!({"plaintext": HELLO}))).await.data["ciphertext"].clone();
    one.done(post("keys/a/rotate", json!({}))).await;
    assert_eq!(version(&two).await, 2);
    two.done(post("keys/a/config", json!({"min_decryption_version": 2})))
        .await;
    assert_eq!(
        one.status(decrypt(json!({"ciphertext": sealed}))).await,
        400
    );
    two.done(post("keys/a/config", json!({"deletion_allowed": true})))
        .await;
    two.done(common::delete("keys/a")).await;
    assert_eq!(
        one.status(decrypt(json!({"ciphertext": sealed}))).await,
        400
    );
    // A new key of the same name is another key.
    two.done(post("keys/a", json!({}))).await;
    assert_eq!(
        one.refused(decrypt(json!({"ciphertext": sealed}))).await.1,
        "cipher: message authentication failed"
    );
}
