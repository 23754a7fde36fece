//! Large logins: users of hundreds of groups, and headers of the size that Active Directory makes of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_tests::kerberos::{login_with, map_group, negotiate, policies};
use obol_tests::{realm, ticket};
use serde_json::json;

use super::server;

#[test]
fn a_user_of_300_groups_gets_the_policies_of_all_of_them() {
    let root = server().root();
    for n in [0, 1, 150, 299] {
        map_group(&root, &format!("team-{n:03}"), &format!("team-{n:03}"));
    }
    let login = login_with(server(), &negotiate(realm(), &ticket("many")));
    assert_eq!(
        policies(login),
        ["default", "team-000", "team-001", "team-150", "team-299"]
    );
}

#[test]
fn a_negotiate_token_of_64_kib_logs_in() {
    let header = padded(&negotiate(realm(), &ticket("grace")), 64 * 1024);
    assert!(header.len() > 87_000, "{}", header.len());
    let request = server().client().request("POST", "auth/kerberos/login");
    // And some more in other headers, as proxies add them.
    let request = request
        .header("Authorization", &header)
        .header("X-Padding", &"x".repeat(8 * 1024));
    request.json(&json!({})).send().expect(200);
}

#[test]
fn a_larger_token_is_refused_with_a_plain_sentence() {
    let header = padded(&negotiate(realm(), &ticket("grace")), 80 * 1024);
    let reply = login_with(server(), &header).expect(400);
    assert!(
        reply.errors()[0].contains("larger than"),
        "{:?}",
        reply.errors()
    );
}

/// The same Negotiate header with so many further mechanisms on offer that its token has about `size` bytes, but no
/// more. A PAC would make it as large; a KDC without directory has none.
pub(super) fn padded(header: &str, size: usize) -> String {
    let token = decoded(header);
    let (oid, init) = spnego(&token);
    // NegTokenInit ::= SEQUENCE { mechTypes [0], reqFlags [1] OPTIONAL, mechToken [2] OPTIONAL, ... }
    let ((tag, mech_types), rest) = split(init);
    assert_eq!(tag, 0xa0);
    let mut list = element(mech_types).1.to_vec();
    let start = token.len();
    // 1.3.6.1.4.1.99999 and 12 more numbers: 22 bytes with its frame.
    let filler: &[u8] = &[
        0x06, 20, 0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];
    // The frames' lengths grow by a few bytes.
    let count = size.saturating_sub(start + 16) / filler.len();
    list.extend(filler.repeat(count));
    let sequence = [tlv(0xa0, &tlv(0x30, &list)), rest.to_vec()].concat();
    let token = tlv(0x60, &[oid, &tlv(0xa0, &tlv(0x30, &sequence))].concat());
    assert!(
        token.len() <= size && token.len() + 2 * filler.len() > size,
        "{}",
        token.len()
    );
    format!("Negotiate {}", STANDARD.encode(token))
}

/// The Kerberos token that is inside, as a header.
pub(super) fn without_spnego(header: &str) -> String {
    let token = decoded(header);
    let mut rest = spnego(&token).1;
    while !rest.is_empty() {
        let ((tag, value), after) = split(rest);
        if tag == 0xa2 {
            return format!("Negotiate {}", STANDARD.encode(element(value).1));
        }
        rest = after;
    }
    panic!("a first token without a mechToken");
}

fn decoded(header: &str) -> Vec<u8> {
    STANDARD
        .decode(header.strip_prefix("Negotiate ").unwrap())
        .unwrap()
}

/// SPNEGO's OID with its frame, and the contents of NegTokenInit.
fn spnego(token: &[u8]) -> (&[u8], &[u8]) {
    let (tag, framed) = element(token);
    assert_eq!(tag, 0x60);
    let ((_, oid), rest) = split(framed);
    let (tag, choice) = element(rest);
    assert_eq!(tag, 0xa0);
    (&framed[..oid.len() + 2], element(choice).1)
}

/// One DER element.
pub(super) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match value.len() {
        short @ 0..0x80 => out.push(u8::try_from(short).unwrap()),
        long => {
            let bytes = long.to_be_bytes();
            let bytes = &bytes[bytes.iter().position(|b| *b != 0).unwrap()..];
            out.push(0x80 | u8::try_from(bytes.len()).unwrap());
            out.extend(bytes);
        }
    }
    out.extend(value);
    out
}

/// Tag and value of the only element.
fn element(der: &[u8]) -> (u8, &[u8]) {
    split(der).0
}

/// Tag and value of the first element, and what follows it.
fn split(der: &[u8]) -> ((u8, &[u8]), &[u8]) {
    let (head, length) = match der[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            let length = der[2..2 + count]
                .iter()
                .fold(0, |n, b| n << 8 | usize::from(*b));
            (2 + count, length)
        }
    };
    ((der[0], &der[head..head + length]), &der[head + length..])
}
