//! `sys/generate-root`: a root token for those who hold enough keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};

use super::holders;

/// What Vault's command line does with `-decode` and `-otp`.
fn decode(encoded: &Value, otp: &str) -> String {
    let bytes = STANDARD_NO_PAD.decode(encoded.as_str().unwrap()).unwrap();
    assert_eq!(bytes.len(), otp.len());
    let token = bytes.iter().zip(otp.bytes()).map(|(a, b)| a ^ b);
    String::from_utf8(token.collect()).unwrap()
}

#[test]
fn enough_keys_make_a_root_token_that_only_the_one_time_password_reveals() {
    let server = holders(3, 2);
    let (root, keys) = (server.root(), server.keys().shares);
    let idle = root.get("sys/generate-root/attempt").expect(200).json();
    assert_eq!(
        (&idle["started"], &idle["required"], &idle["otp_length"]),
        (&json!(false), &json!(2), &json!(32))
    );
    let begun = root
        .put("sys/generate-root/attempt", json!({}))
        .expect(200)
        .json();
    let (nonce, otp) = (
        begun["nonce"].as_str().unwrap(),
        begun["otp"].as_str().unwrap(),
    );
    assert_eq!((otp.len(), &begun["started"]), (32, &json!(true)));
    // It is told once.
    assert_eq!(
        root.get("sys/generate-root/attempt").expect(200).json()["otp"],
        ""
    );
    root.put("sys/generate-root/attempt", json!({})).expect(400);

    let give = |key: &str| {
        root.put(
            "sys/generate-root/update",
            json!({"key": key, "nonce": nonce}),
        )
    };
    let status = give(&keys[1]).expect(200).json();
    assert_eq!(
        (&status["progress"], &status["complete"]),
        (&json!(1), &json!(false))
    );
    give(&keys[1]).expect(400);
    let done = give(&keys[0]).expect(200).json();
    assert_eq!(
        (&done["progress"], &done["complete"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(done["encoded_token"], done["encoded_root_token"]);
    let token = decode(&done["encoded_token"], otp);
    assert!(token.starts_with("obs."), "the token is one");
    let client = server.client().with_token(token);
    let data = client.get("auth/token/lookup-self").data();
    assert_eq!(
        (&data["policies"], &data["ttl"]),
        (&json!(["root"]), &json!(0))
    );
    // The attempt is over.
    give(&keys[2]).expect(400);
    let idle = root.get("sys/generate-root/attempt").expect(200).json();
    assert_eq!(
        (&idle["started"], &idle["nonce"]),
        (&json!(false), &json!(""))
    );
}

#[test]
fn a_one_time_password_of_ones_own_is_used_and_checked() {
    let server = holders(1, 1);
    let (root, key) = (server.root(), server.keys().shares[0].clone());
    for wrong in [
        json!({"otp": "too short"}),
        json!({"otp": "x".repeat(33)}),
        json!({"pgp_key": "mQENBF"}),
    ] {
        let reply = root.put("sys/generate-root/attempt", wrong).expect(400);
        assert!(!reply.text().contains("too short"), "{}", reply.text());
    }
    let otp = "0123456789abcdefghijklmnopqrstuv";
    let begun = root
        .put("sys/generate-root/attempt", json!({"otp": otp}))
        .expect(200)
        .json();
    assert_eq!(begun["otp"], "", "who brought it knows it");
    let done = root
        .put(
            "sys/generate-root/update",
            json!({"key": key, "nonce": begun["nonce"]}),
        )
        .expect(200)
        .json();
    assert!(decode(&done["encoded_token"], otp).starts_with("obs."));
}

#[test]
fn wrong_keys_make_no_token_and_cancelling_forgets_the_right_ones() {
    let (server, other) = (holders(3, 2), holders(3, 2));
    let (root, keys, foreign) = (server.root(), server.keys().shares, other.keys().shares);
    let begun = root
        .put("sys/generate-root/attempt", json!({}))
        .expect(200)
        .json();
    let give = |key: &str, nonce: &Value| {
        root.put(
            "sys/generate-root/update",
            json!({"key": key, "nonce": nonce}),
        )
    };
    give(&keys[0], &json!("wrong")).expect(400);
    give(&keys[0], &begun["nonce"]).expect(200);
    let refused = give(&foreign[1], &begun["nonce"]).expect(400);
    assert!(
        refused.text().contains("not the right ones"),
        "{}",
        refused.text()
    );
    give(&keys[0], &begun["nonce"]).expect(200);
    root.delete("sys/generate-root/attempt?nonce=wrong")
        .expect(400);
    root.delete("sys/generate-root/attempt").expect(204);
    give(&keys[1], &begun["nonce"]).expect(400);
    let again = root
        .put("sys/generate-root/attempt", json!({}))
        .expect(200)
        .json();
    assert_ne!(again["nonce"], begun["nonce"]);
    assert_eq!(
        give(&keys[1], &again["nonce"]).expect(200).json()["complete"],
        false
    );
}
