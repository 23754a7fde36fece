//! Signatures and HMACs of transit keys, checked with ring where it can.
#![allow(clippy::unwrap_used)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use common::{Ask, Mount, get, post};
use p256::pkcs8::DecodePublicKey;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rsa::pkcs1::EncodeRsaPublicKey;
use serde_json::{Value, json};

async fn with_key(kind: &str) -> Mount {
    let transit = Mount::open("transit", &[]).await;
    transit.done(post("keys/a", json!({"type": kind}))).await;
    transit
}

fn sign(body: Value) -> Ask {
    post("sign/a", body)
}

fn verify(body: Value) -> Ask {
    post("verify/a", body)
}

/// `body` and a field more.
fn with(mut body: Value, field: &str, value: impl Into<Value>) -> Value {
    body[field] = value.into();
    body
}

fn bytes(signature: &Value) -> Vec<u8> {
    let text = signature.as_str().unwrap();
    STANDARD
        .decode(text.strip_prefix("vault:v1:").unwrap())
        .unwrap()
}

async fn public_pem(transit: &Mount) -> String {
    let key = transit.done(get("keys/a")).await.data;
    key["keys"]["1"]["public_key"].as_str().unwrap().to_owned()
}

/// base64 of "hello" and of "other".
const HELLO: &str = "aGVsbG8=";
const OTHER: &str = "b3RoZXI=";

#[tokio::test]
async fn every_type_verifies_what_it_signed_and_nothing_else() {
    for kind in [
        "ed25519",
        "ecdsa-p256",
        "ecdsa-p384",
        "ecdsa-p521",
        "rsa-2048",
    ] {
        let transit = with_key(kind).await;
        let hashes = match kind {
            "ed25519" => vec![""],
            "ecdsa-p521" => vec!["", "sha1", "sha2-512", "sha3-384"],
            _ => vec![
                "", "sha1", "sha2-224", "sha2-256", "sha2-384", "sha2-512", "sha3-256",
            ],
        };
        for hash in hashes {
            for marshaling in ["asn1", "jws"] {
                for algorithm in ["pss", "pkcs1v15"] {
                    let how = json!({
                        "input": HELLO, "hash_algorithm": hash, "marshaling_algorithm": marshaling,
                        "signature_algorithm": algorithm,
                    });
                    let signed = transit.done(sign(how.clone())).await.data;
                    assert_eq!(signed["key_version"], 1);
                    let check = with(how, "signature", signed["signature"].clone());
                    let valid = async |body: Value| {
                        transit.done(verify(body)).await.data["valid"]
                            .as_bool()
                            .unwrap()
                    };
                    assert!(valid(check.clone()).await, "{kind} {hash} {marshaling}");
                    assert!(!valid(with(check.clone(), "input", OTHER)).await, "{kind}");
                    if kind != "ed25519" {
                        let other = if hash == "sha2-384" {
                            "sha2-512"
                        } else {
                            "sha2-384"
                        };
                        assert!(!valid(with(check, "hash_algorithm", other)).await, "{kind}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn another_implementation_accepts_the_signatures() {
    let accepts = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8], signature: &[u8]| {
        let key = UnparsedPublicKey::new(algorithm, key);
        key.verify(b"hello", signature).is_ok() && key.verify(b"other", signature).is_err()
    };
    let transit = with_key("ecdsa-p256").await;
    let public = p256::PublicKey::from_public_key_pem(&public_pem(&transit).await).unwrap();
    let point = public.to_sec1_bytes();
    for (hash, algorithm) in [
        ("sha2-256", &signature::ECDSA_P256_SHA256_ASN1),
        ("sha2-384", &signature::ECDSA_P256_SHA384_ASN1),
    ] {
        let body = json!({"input": HELLO, "hash_algorithm": hash});
        let signed = transit.done(sign(body)).await.data;
        assert!(
            accepts(algorithm, &point, &bytes(&signed["signature"])),
            "{hash}"
        );
    }
    let body = json!({"input": HELLO, "marshaling_algorithm": "jws"});
    let signed = transit.done(sign(body)).await.data;
    let text = signed["signature"].as_str().unwrap();
    let raw = URL_SAFE_NO_PAD
        .decode(text.strip_prefix("vault:v1:").unwrap())
        .unwrap();
    assert!(accepts(&signature::ECDSA_P256_SHA256_FIXED, &point, &raw));

    let transit = with_key("ecdsa-p384").await;
    let public = p384::PublicKey::from_public_key_pem(&public_pem(&transit).await).unwrap();
    for (hash, algorithm) in [
        ("sha2-256", &signature::ECDSA_P384_SHA256_ASN1),
        ("sha2-384", &signature::ECDSA_P384_SHA384_ASN1),
    ] {
        let signed = transit
            .done(post(format!("sign/a/{hash}"), json!({"input": HELLO})))
            .await
            .data;
        let point = public.to_sec1_bytes();
        assert!(
            accepts(algorithm, &point, &bytes(&signed["signature"])),
            "{hash}"
        );
    }

    let transit = with_key("rsa-2048").await;
    let public = rsa::RsaPublicKey::from_public_key_pem(&public_pem(&transit).await).unwrap();
    let der = public.to_pkcs1_der().unwrap();
    for (body, algorithm) in [
        (
            json!({"signature_algorithm": "pkcs1v15", "hash_algorithm": "sha2-512"}),
            &signature::RSA_PKCS1_2048_8192_SHA512,
        ),
        (
            json!({"salt_length": "hash"}),
            &signature::RSA_PSS_2048_8192_SHA256,
        ),
        (
            json!({"salt_length": 48, "hash_algorithm": "sha2-384"}),
            &signature::RSA_PSS_2048_8192_SHA384,
        ),
    ] {
        let signed = transit
            .done(sign(with(body.clone(), "input", HELLO)))
            .await
            .data;
        assert!(
            accepts(algorithm, der.as_bytes(), &bytes(&signed["signature"])),
            "{body}"
        );
    }

    let transit = with_key("ed25519").await;
    let public = STANDARD.decode(public_pem(&transit).await).unwrap();
    let signed = transit.done(sign(json!({"input": HELLO}))).await.data;
    assert!(accepts(
        &signature::ED25519,
        &public,
        &bytes(&signed["signature"])
    ));
}

#[tokio::test]
async fn a_digest_that_the_client_made_is_signed_as_it_is() {
    let digest = STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, b"hello"));
    for kind in ["ecdsa-p256", "ecdsa-p521", "rsa-2048"] {
        let transit = with_key(kind).await;
        let body = json!({"input": digest, "prehashed": true});
        let signed = transit.done(sign(body)).await.data;
        let check = json!({"input": HELLO, "signature": signed["signature"]});
        assert_eq!(
            transit.done(verify(check)).await.data["valid"],
            true,
            "{kind}"
        );
    }
    let rsa = with_key("rsa-2048").await;
    let short = json!({"input": HELLO, "prehashed": true});
    assert_eq!(rsa.status(sign(short)).await, 400);
    let none = json!({
        "input": HELLO, "prehashed": true, "hash_algorithm": "none", "signature_algorithm": "pkcs1v15",
    });
    let signed = rsa.done(sign(none.clone())).await.data;
    let check = with(none.clone(), "signature", signed["signature"].clone());
    assert_eq!(rsa.done(verify(check)).await.data["valid"], true);
    for (field, value) in [
        ("prehashed", json!(false)),
        ("signature_algorithm", json!("pss")),
    ] {
        let (status, text) = rsa.refused(sign(with(none.clone(), field, value))).await;
        assert!(
            status == 400 && text.starts_with("hash_algorithm=none requires"),
            "{text}"
        );
    }
    let ed = with_key("ed25519").await;
    assert_eq!(
        ed.status(sign(json!({"input": digest, "prehashed": true})))
            .await,
        400
    );
}

#[tokio::test]
async fn the_salt_of_pss_is_what_was_asked_for() {
    let transit = with_key("rsa-2048").await;
    let signed = async |salt: Value| {
        let body = json!({"input": HELLO, "salt_length": salt});
        transit.done(sign(body)).await.data["signature"].clone()
    };
    let valid = async |signature: &Value, salt: Value| {
        let body = json!({"input": HELLO, "signature": signature, "salt_length": salt});
        transit.done(verify(body)).await.data["valid"]
            .as_bool()
            .unwrap()
    };
    let (longest, short) = (signed(json!("auto")).await, signed(json!(20)).await);
    for signature in [&longest, &short] {
        assert!(valid(signature, json!("auto")).await);
    }
    assert!(valid(&longest, json!(222)).await);
    assert!(!valid(&longest, json!("hash")).await);
    assert!(valid(&short, json!("20")).await);
    for wrong in [json!(223), json!("long"), json!(-2), json!({})] {
        let body = json!({"input": HELLO, "salt_length": wrong});
        let (status, text) = transit.refused(sign(body)).await;
        assert!(status == 400 && text.contains("salt_length"), "{text}");
    }
}

#[tokio::test]
async fn a_derived_ed25519_key_signs_for_a_context() {
    let transit = Mount::open("transit", &[]).await;
    transit
        .done(post("keys/a", json!({"type": "ed25519", "derived": true})))
        .await;
    assert_eq!(
        transit.done(get("keys/a")).await.data["keys"]["1"]["public_key"],
        ""
    );
    assert_eq!(transit.status(sign(json!({"input": HELLO}))).await, 400);
    let signed = transit
        .done(sign(json!({"input": HELLO, "context": OTHER})))
        .await
        .data;
    let read = transit
        .done(get("keys/a").with(json!({"context": OTHER})))
        .await
        .data;
    assert_eq!(read["keys"]["1"]["public_key"], signed["public_key"]);
    let key = STANDARD
        .decode(signed["public_key"].as_str().unwrap())
        .unwrap();
    let key = UnparsedPublicKey::new(&signature::ED25519, key);
    assert!(key.verify(b"hello", &bytes(&signed["signature"])).is_ok());
    for (context, valid) in [(OTHER, true), (HELLO, false)] {
        let body = json!({"input": HELLO, "signature": signed["signature"], "context": context});
        assert_eq!(transit.done(verify(body)).await.data["valid"], valid);
    }
}

#[tokio::test]
async fn hmacs_are_made_and_verified_with_every_type_of_key() {
    for kind in ["aes256-gcm96", "ed25519", "rsa-2048", "hmac"] {
        let transit = with_key(kind).await;
        for hash in ["", "sha2-224", "sha2-512", "sha3-256"] {
            let body = json!({"input": HELLO, "algorithm": hash});
            let made = transit.done(post("hmac/a", body.clone())).await.data;
            assert_eq!(transit.done(post("hmac/a", body)).await.data, made);
            let check = json!({"input": HELLO, "hmac": made["hmac"], "algorithm": hash});
            assert_eq!(
                transit.done(verify(check.clone())).await.data["valid"],
                true
            );
            let other = with(check, "input", OTHER);
            assert_eq!(transit.done(verify(other)).await.data["valid"], false);
        }
        assert_eq!(
            transit
                .status(post("hmac/a/sha1", json!({"input": HELLO})))
                .await,
            400
        );
        assert_eq!(transit.status(post("hmac/a", json!({}))).await, 400);
    }
    let transit = with_key("hmac").await;
    let batch = json!({"batch_input": [{"input": HELLO, "reference": "x"}, {"input": "*"}]});
    let answer = transit.done(post("hmac/a/sha2-256", batch)).await;
    // One that fails says so in its place, and the others are not lost to clients that take 400 for a failure.
    assert_eq!(answer.status, 200);
    assert_eq!(answer.data["batch_results"][0]["reference"], "x");
    assert!(answer.data["batch_results"][0]["hmac"].is_string());
    assert!(answer.data["batch_results"][1]["error"].is_string());
    assert_eq!(
        transit
            .status(post("hmac/none", json!({"input": HELLO})))
            .await,
        400
    );
}

#[tokio::test]
async fn versions_count_for_signatures_too() {
    let transit = with_key("ed25519").await;
    let old = transit.done(sign(json!({"input": HELLO}))).await.data["signature"].clone();
    let code = transit
        .done(post("hmac/a", json!({"input": HELLO})))
        .await
        .data["hmac"]
        .clone();
    transit.done(post("keys/a/rotate", json!({}))).await;
    let new = transit.done(sign(json!({"input": HELLO}))).await.data;
    assert_eq!(new["key_version"], 2);
    let pinned = json!({"input": HELLO, "key_version": 1});
    assert_eq!(transit.done(sign(pinned)).await.data["signature"], old);
    let check = |field: &str, text: &Value| verify(json!({"input": HELLO, field: text}));
    assert_eq!(
        transit.done(check("signature", &old)).await.data["valid"],
        true
    );
    transit
        .done(post("keys/a/config", json!({"min_decryption_version": 2})))
        .await;
    for ask in [check("signature", &old), check("hmac", &code)] {
        let (status, text) = transit.refused(ask).await;
        assert!(status == 400 && text.contains("too old"), "{text}");
    }
    assert_eq!(
        transit
            .done(check("signature", &new["signature"]))
            .await
            .data["valid"],
        true
    );
}

#[tokio::test]
async fn what_is_no_signature_is_refused_or_not_valid() {
    let transit = with_key("ecdsa-p256").await;
    let signed = transit.done(sign(json!({"input": HELLO}))).await.data["signature"].clone();
    for (text, status) in [
        ("plain", 400),
        ("vault:v1", 400),
        ("vault:v2:AAAA", 400),
        ("vault:v1:*", 400),
    ] {
        let body = json!({"input": HELLO, "signature": text});
        assert_eq!(transit.status(verify(body)).await, status, "{text}");
    }
    // Wycheproof's ideas of a signature: nothing, zeros, trailing bytes, numbers beyond the order, a longer form of DER.
    let good = bytes(&signed);
    let zeros = vec![0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00];
    let ones = vec![0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01];
    let mut trailing = good.clone();
    trailing.push(0);
    let mut long_form = vec![0x30, 0x81];
    long_form.extend_from_slice(&good[1..]);
    let mut order = vec![0x30, 0x26, 0x02, 0x21, 0x00];
    order.extend_from_slice(&[0xff; 32]);
    order.extend_from_slice(&[0x02, 0x01, 0x01]);
    for wrong in [
        vec![],
        zeros,
        ones,
        trailing,
        long_form,
        order,
        good[1..].to_vec(),
    ] {
        let text = format!("vault:v1:{}", STANDARD.encode(&wrong));
        let body = json!({"input": HELLO, "signature": text});
        let answer = transit.done(verify(body)).await;
        assert_eq!(answer.data["valid"], false, "{wrong:02x?}");
    }
    for body in [
        json!({"input": HELLO}),
        json!({"input": HELLO, "signature": signed, "hmac": "vault:v1:AAAA"}),
        json!({"input": HELLO, "signature": signed, "hash_algorithm": "md5"}),
        json!({"input": HELLO, "signature": signed, "marshaling_algorithm": "pem"}),
        json!({"input": HELLO, "signature": signed, "signature_algorithm": "raw"}),
    ] {
        assert_eq!(transit.status(verify(body.clone())).await, 400, "{body}");
    }
    let cipher = with_key("aes256-gcm96").await;
    assert_eq!(
        cipher.refused(sign(json!({"input": HELLO}))).await.1,
        "key type aes256-gcm96 does not support signing"
    );
    assert_eq!(
        cipher
            .refused(post("sign/none", json!({"input": HELLO})))
            .await
            .1,
        "signing key not found"
    );
    assert_eq!(
        transit
            .refused(post("encrypt/a", json!({"plaintext": HELLO})))
            .await
            .1,
        "message encryption not supported for key type ecdsa-p256"
    );
}

#[tokio::test]
async fn batches_of_signatures_answer_for_each() {
    let transit = with_key("ed25519").await;
    let body = json!({"batch_input": [{"input": HELLO, "reference": "a"}, {"input": OTHER}]});
    let signed = transit.done(sign(body)).await;
    assert_eq!(signed.status, 200);
    let results = &signed.data["batch_results"];
    let body = json!({"batch_input": [
        {"input": HELLO, "signature": results[0]["signature"], "reference": "a"},
        {"input": HELLO, "signature": results[1]["signature"]},
        {"input": HELLO, "signature": "vault:v9:aaaa"},
    ]});
    let verified = transit.done(verify(body)).await;
    assert_eq!(verified.status, 200);
    assert_eq!(
        verified.data["batch_results"][0],
        json!({"valid": true, "reference": "a"})
    );
    assert_eq!(
        verified.data["batch_results"][1],
        json!({"valid": false, "reference": ""})
    );
    let broken = &verified.data["batch_results"][2];
    assert!(broken["error"].is_string());
    assert_eq!(broken["valid"], false);
    let signature = results[0]["signature"].clone();
    for (items, why) in [
        (
            json!([{"input": HELLO}]),
            "neither a 'signature' nor an 'hmac'",
        ),
        (
            json!([{"input": HELLO, "signature": signature}, {"input": HELLO}]),
            "missing 'signature'",
        ),
        (
            json!([{"input": HELLO, "hmac": "vault:v1:aaaa"}, {"input": HELLO}]),
            "missing 'hmac'",
        ),
        (
            json!([{"input": HELLO, "hmac": "vault:v1:aaaa"}, {"input": HELLO, "signature": signature}]),
            "must all provide",
        ),
    ] {
        let (status, text) = transit.refused(verify(json!({"batch_input": items}))).await;
        assert_eq!(status, 400);
        assert!(text.contains(why), "{text}");
    }
    let broken = json!({"batch_input": [{"input": HELLO}, {"input": "!"}, {}]});
    let signed = transit.done(sign(broken)).await;
    assert_eq!(signed.status, 200);
    assert!(signed.data["batch_results"][0]["signature"].is_string());
    assert!(signed.data["batch_results"][1]["error"].is_string());
    assert!(signed.data["batch_results"][2]["error"].is_string());
    // Alone, nothing is an empty text.
    let signed = transit.done(sign(json!({}))).await;
    let body = json!({"signature": signed.data["signature"]});
    assert_eq!(transit.done(verify(body)).await.data["valid"], true);
}
