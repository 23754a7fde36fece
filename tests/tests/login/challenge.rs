//! What is no login: the challenge, other mechanisms, garbage. None of it issues a token, and none of it makes
//! the server ask the directory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_tests::http::Reply;
use obol_tests::kerberos::{self, LOGIN, login_with, negotiate, own_realm};
use obol_tests::{Server, ServerOptions, realm, ticket};
use serde_json::json;

use super::server;

#[test]
fn error_and_auth_the_challenge_issues_nothing() {
    let server = kerberos::kerberized();
    let before = server.root().list("auth/token/accessors").keys();
    let header = negotiate(realm(), &ticket("grace"));
    for reply in [
        server.client().get(LOGIN),
        server
            .client()
            .request("GET", LOGIN)
            .header("Authorization", &header)
            .send(),
        server
            .client()
            .request("HEAD", LOGIN)
            .header("Authorization", &header)
            .send(),
        server.client().post(LOGIN, json!({})),
        server.client().request("POST", LOGIN).send(),
        login_with(&server, "Basic Z3JhY2U6cGFzc3dvcmQ="),
        login_with(&server, "Negotiate"),
    ] {
        challenged(&reply);
    }
    assert_eq!(server.root().list("auth/token/accessors").keys(), before);
    // None of it used the ticket up.
    login_with(&server, &header).expect(200);
}

/// 401 with the bare challenge, and not a trace of a token.
fn challenged(reply: &Reply) {
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert_eq!(reply.header("www-authenticate"), Some("Negotiate"));
    nothing_issued(reply);
}

fn nothing_issued(reply: &Reply) {
    let text = reply.text();
    assert!(
        !text.contains("auth\"") && !text.contains("client_token") && !text.contains("obs."),
        "{text}"
    );
}

#[test]
fn ntlm_downgrade_an_ntlm_token_is_not_invited_again() {
    let type_1 = b"NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\0\x63\x45\0\0\0\x0f";
    let type_3 = b"NTLMSSP\0\x03\0\0\0\x18\0\x18\0\xff\xff\xff\xff";
    // A SPNEGO token whose one mechanism is NTLMSSP (1.3.6.1.4.1.311.2.2.10).
    let oid: &[u8] = &[
        0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a,
    ];
    let init = tlv(
        0xa0,
        &tlv(
            0x30,
            &[tlv(0xa0, &tlv(0x30, oid)), tlv(0xa2, &tlv(0x04, type_1))].concat(),
        ),
    );
    let spnego = tlv(
        0x60,
        &[&[0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02][..], &init].concat(),
    );
    for token in [&type_1[..], type_3, &spnego, b"NTLMSSP\0", b"NTLMSSP\0\x01"] {
        let reply = login_with(server(), &format!("Negotiate {}", STANDARD.encode(token)));
        assert_eq!(reply.status, 401, "{}", reply.text());
        assert_eq!(
            reply.header("www-authenticate"),
            None,
            "an invitation to send the same again"
        );
        nothing_issued(&reply);
    }
}

#[test]
fn garbage_is_a_plain_400_or_401() {
    let valid = negotiate(realm(), &ticket("grace"));
    let token = STANDARD
        .decode(valid.strip_prefix("Negotiate ").unwrap())
        .unwrap();
    let mut garbage: Vec<Vec<u8>> = vec![
        vec![0],
        vec![0x60],
        vec![0x60, 0x84, 0xff, 0xff, 0xff, 0xff],
        vec![0x30; 200],
        vec![0xff; 64 * 1024],
        vec![0x60; 48 * 1024],
        [0x60, 0x80].repeat(2000),
    ];
    garbage.extend(
        (1..token.len())
            .step_by(token.len() / 24)
            .map(|at| token[..at].to_vec()),
    );
    garbage.extend((0..token.len()).step_by(token.len() / 48).map(|at| {
        let mut token = token.clone();
        token[at] ^= 0xa5;
        token
    }));
    for token in &garbage {
        let reply = login_with(server(), &format!("Negotiate {}", STANDARD.encode(token)));
        assert!(
            matches!(reply.status, 400 | 401),
            "{}: {}",
            reply.status,
            reply.text()
        );
        nothing_issued(&reply);
    }
    for text in [
        "Negotiate !!!",
        "Negotiate YII",
        "Negotiate \u{1}",
        "Negotiate YIIF YIIF",
    ] {
        let reply = login_with(server(), text);
        assert!(
            matches!(reply.status, 400 | 401),
            "{text}: {}",
            reply.status
        );
        nothing_issued(&reply);
    }
    assert!(server().is_running());
    assert!(!server().log().contains("panicked"), "{}", server().log());
}

#[test]
fn the_proof_may_come_in_a_field_instead() {
    let header = negotiate(realm(), &ticket("grace"));
    let reply = server()
        .client()
        .post(LOGIN, json!({ "authorization": header }))
        .expect(200);
    assert!(
        reply
            .header("www-authenticate")
            .unwrap()
            .starts_with("Negotiate ")
    );
    server()
        .client()
        .post(LOGIN, json!({ "authorization": header }))
        .expect(401);
    let reply = server().client().post(
        LOGIN,
        json!({"authorization": "Basic Z3JhY2U6cGFzc3dvcmQ="}),
    );
    assert_eq!(reply.status, 400, "{}", reply.text());
}

#[test]
fn duplicate_credential_two_proofs_in_one_request_are_refused() {
    let tickets = ticket("grace");
    let [one, other] = [negotiate(realm(), &tickets), negotiate(realm(), &tickets)];
    let request = || {
        server()
            .client()
            .request("POST", LOGIN)
            .header("Authorization", &one)
    };
    let twice = request()
        .header("Authorization", &other)
        .json(&json!({}))
        .send()
        .expect(400);
    nothing_issued(&twice);
    let both = request()
        .json(&json!({ "authorization": other }))
        .send()
        .expect(400);
    nothing_issued(&both);
    // The same in both places is one proof.
    request()
        .json(&json!({ "authorization": one }))
        .send()
        .expect(200);
}

#[test]
fn a_token_that_comes_along_does_not_matter() {
    let header = negotiate(realm(), &ticket("grace"));
    let request = server().client().with_token("obs.nonsense");
    request
        .request("POST", LOGIN)
        .header("Authorization", &header)
        .json(&json!({}))
        .send()
        .expect(200);
}

#[test]
fn ldap_before_auth_the_directory_is_asked_only_for_an_accepted_ticket() {
    let realm = own_realm();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    let seen = realm.ldap.connections_seen().unwrap();
    let tickets = realm.kinit("grace").unwrap();

    // Neither writing the configuration nor any refused proof connects.
    server.client().get(LOGIN).expect(401);
    server.client().post(LOGIN, json!({})).expect(401);
    login_with(&server, "Negotiate TlRMTVNTUAABAAAA").expect(401);
    login_with(&server, "Negotiate YIIFSwYGKwYBBQUC").expect(400);
    let mut altered = negotiate(&realm, &tickets);
    altered.replace_range(altered.len() - 12..altered.len() - 8, "AAAA");
    assert!(matches!(login_with(&server, &altered).status, 400 | 401));
    let other = obol_tests::ticket("grace");
    login_with(&server, &negotiate(obol_tests::realm(), &other)).expect(401);
    assert_eq!(realm.ldap.connections_seen().unwrap(), seen);

    let header = negotiate(&realm, &tickets);
    login_with(&server, &header).expect(200);
    let after = realm.ldap.connections_seen().unwrap();
    assert!(after > seen);
    login_with(&server, &header).expect(401);
    assert_eq!(
        realm.ldap.connections_seen().unwrap(),
        after,
        "a replay reached the directory"
    );
}

/// One DER element.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    super::large::tlv(tag, value)
}
