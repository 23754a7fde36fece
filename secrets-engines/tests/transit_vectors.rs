//! Known answers: published vectors, opened with keys that are restored from backups made for them.
#![allow(clippy::unwrap_used)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Mount, get, post};
use p256::pkcs8::EncodePrivateKey;
use ring::{aead, hkdf, hmac};
use serde_json::{Value, json};

/// A mount with a key `a` of these bytes.
async fn with(kind: &str, key: &[u8], settings: Value) -> Mount {
    let mut head = json!({
        "id": "", "kind": kind, "derived": false, "convergent": false, "exportable": true,
        "allow_plaintext_backup": true, "deletion_allowed": false, "key_size": 0, "auto_rotate_period": 0,
        "latest": 1, "rotated": 0, "min_available": 0, "min_decryption": 1, "min_encryption": 0,
    });
    for (name, value) in settings.as_object().unwrap() {
        head[name] = value.clone();
    }
    let key = STANDARD.encode(key);
    let content = json!({
        "obol_transit_backup": 1, "name": "a", "head": head, "uses": {},
        "versions": {"1": {"created": 0, "key": key, "hmac": key}},
    });
    let transit = Mount::open("transit", &[]).await;
    let backup = STANDARD.encode(content.to_string());
    transit
        .done(post("restore", json!({"backup": backup})))
        .await;
    transit
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = hex.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

fn base64(hex: &str) -> String {
    STANDARD.encode(bytes(hex))
}

#[tokio::test]
async fn nist_gcm_a_message_of_the_specification_opens() {
    // The Galois/Counter Mode of Operation (McGrew, Viega), test case 16.
    let key = bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    let transit = with("aes256-gcm96", &key, json!({})).await;
    let sealed = "cafebabefacedbaddecaf888
        522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662
        76fc6ece0f4e1768cddf8853bb2d551b";
    let aad = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    let body = json!({"ciphertext": format!("vault:v1:{}", base64(sealed)), "associated_data": base64(aad)});
    let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
    assert_eq!(
        transit.done(post("decrypt/a", body)).await.data["plaintext"],
        base64(plain)
    );
}

#[tokio::test]
async fn rfc_8439_a_message_of_the_rfc_opens() {
    // Section 2.8.2.
    let key = bytes("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let transit = with("chacha20-poly1305", &key, json!({})).await;
    let sealed = "070000004041424344454647
        d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116
        1ae10b594f09e26a7e902ecbd0600691";
    let mut body = json!({
        "ciphertext": format!("vault:v1:{}", base64(sealed)), "associated_data": base64("50515253c0c1c2c3c4c5c6c7"),
    });
    let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let opened = transit.done(post("decrypt/a", body.clone())).await;
    assert_eq!(opened.data["plaintext"], STANDARD.encode(plain));
    body["associated_data"] = json!(base64("50515253c0c1c2c3c4c5c6c8"));
    assert_eq!(transit.status(post("decrypt/a", body)).await, 400);
}

#[tokio::test]
async fn rfc_8032_a_message_of_the_rfc_is_signed_as_there() {
    // Section 7.1, test 2.
    let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    let transit = with("ed25519", &bytes(&format!("{seed}{public}")), json!({})).await;
    let signed = transit
        .done(post("sign/a", json!({"input": base64("72")})))
        .await
        .data;
    let expected = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    assert_eq!(
        signed["signature"],
        format!("vault:v1:{}", base64(expected))
    );
}

#[tokio::test]
async fn rfc_6979_a_message_of_the_rfc_is_signed_as_there() {
    // Appendix A.2.5, SHA-256, message "sample".
    let key = bytes("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721");
    let key = p256::SecretKey::from_slice(&key)
        .unwrap()
        .to_pkcs8_der()
        .unwrap();
    let transit = with("ecdsa-p256", key.as_bytes(), json!({})).await;
    let body = json!({"input": STANDARD.encode("sample"), "marshaling_algorithm": "jws"});
    let signed = transit.done(post("sign/a", body)).await.data;
    let expected = bytes(
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
         F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
    );
    let expected = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(expected);
    assert_eq!(signed["signature"], format!("vault:v1:{expected}"));
}

#[tokio::test]
async fn rfc_4231_an_hmac_of_the_rfc_is_made_as_there() {
    // Test case 6: a key longer than the block.
    let key = vec![0xaa; 131];
    let transit = with("hmac", &key, json!({"key_size": 131})).await;
    let input = STANDARD.encode("Test Using Larger Than Block-Size Key - Hash Key First");
    let made = transit
        .done(post("hmac/a", json!({"input": input})))
        .await
        .data;
    let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
    assert_eq!(made["hmac"], format!("vault:v1:{}", base64(expected)));
}

#[tokio::test]
async fn convergent_ciphertexts_are_those_that_vaults_page_describes() {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let key = [7; 32];
    let transit = with(
        "aes256-gcm96",
        &key,
        json!({"derived": true, "convergent": true}),
    )
    .await;
    // HKDF-SHA256 of the key, without a salt, with the context as info: 32 bytes for the cipher, 32 for the nonces.
    let root = hkdf::Salt::new(hkdf::HKDF_SHA256, &[0; 32]).extract(&key);
    let mut derived = [0; 64];
    root.expand(&[b"context"], Length(64))
        .unwrap()
        .fill(&mut derived)
        .unwrap();
    let nonce_key = hmac::Key::new(hmac::HMAC_SHA256, &derived[32..]);
    let nonce = &hmac::sign(&nonce_key, b"hello").as_ref()[..12].to_vec();
    let cipher = aead::UnboundKey::new(&aead::AES_256_GCM, &derived[..32]).unwrap();
    let mut sealed = b"hello".to_vec();
    aead::LessSafeKey::new(cipher)
        .seal_in_place_append_tag(
            aead::Nonce::try_assume_unique_for_key(nonce).unwrap(),
            aead::Aad::empty(),
            &mut sealed,
        )
        .unwrap();
    let expected = STANDARD.encode([nonce.as_slice(), &sealed].concat());
    let body =
        json!({"plaintext": STANDARD.encode("hello"), "context": STANDARD.encode("context")});
    let made = transit.done(post("encrypt/a", body)).await.data;
    assert_eq!(made["ciphertext"], format!("vault:v1:{expected}"));
    let shown = transit.done(get("keys/a")).await.data;
    assert_eq!(shown["convergent_encryption_version"], 3);
}
