//! Negotiate tokens read without a key: the sample of the contract, NTLM, other mechanisms,
//! garbage, and mutations of all of them (threats `keytab-parse`, `ntlm-downgrade`).
#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use obol_kerberos::{
    ApRequest, Enctype, HeaderError, MAX_TOKEN_BYTES, Mechanism, NegotiateToken, TokenError,
    authenticator_digest, parse_authorization_header,
};
use proptest::prelude::*;

/// The sample token of Vault's API documentation.
fn sample() -> Vec<u8> {
    let text: String = include_str!("data/vault-docs-token.b64")
        .split_whitespace()
        .collect();
    STANDARD.decode(text).unwrap()
}

#[test]
fn the_sample_of_the_contract_is_read() {
    let token = sample();
    let NegotiateToken::Spnego { mechs, mech_token } = NegotiateToken::parse(&token).unwrap()
    else {
        panic!("SPNEGO expected")
    };
    assert_eq!(mechs, [Mechanism::Kerberos]);
    let request = ApRequest::parse(mech_token.unwrap()).unwrap();
    assert_eq!(
        request.service.to_string(),
        "HTTP/7efcce880ed3.matrix.lan:8200@MATRIX.LAN"
    );
    assert_eq!(request.ticket_enctype, Enctype::ArcfourHmac);
    assert_eq!(request.ticket_kvno, Some(2));
    assert_eq!(
        authenticator_digest(&token).unwrap(),
        request.authenticator_digest()
    );
}

#[test]
fn the_digest_is_the_authenticators_whatever_the_frame() {
    let token = sample();
    let digest = authenticator_digest(&token).unwrap();
    let parsed = NegotiateToken::parse(&token).unwrap();
    let mech_token = parsed.kerberos().unwrap();
    // Without SPNEGO, and in frames that offer more mechanisms or flags.
    assert_eq!(authenticator_digest(mech_token).unwrap(), digest);
    for mechs in [&[KRB5][..], &[KRB5, NTLM], &[MS_KRB5, KRB5, NEGOEX, NTLM]] {
        assert_eq!(
            authenticator_digest(&spnego(mechs, Some(mech_token), &[])).unwrap(),
            digest
        );
    }
    let flags = tlv(0xa1, &tlv(0x03, &[1, 0x62]));
    assert_eq!(
        authenticator_digest(&spnego(&[KRB5], Some(mech_token), &flags)).unwrap(),
        digest
    );
}

#[test]
fn ntlm_is_known_plain_and_inside_spnego() {
    let ntlm = b"NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2";
    assert_eq!(
        NegotiateToken::parse(ntlm).unwrap(),
        NegotiateToken::Ntlm { in_spnego: false }
    );
    for token in [
        spnego(&[NTLM], Some(ntlm), &[]),
        spnego(&[NTLM, KRB5], None, &[]),
        spnego(&[KRB5], Some(ntlm), &[]),
        spnego(&[MS_KRB5, KRB5, NTLM], Some(ntlm), &[]),
    ] {
        let parsed = NegotiateToken::parse(&token).unwrap();
        assert_eq!(parsed, NegotiateToken::Ntlm { in_spnego: true });
        assert_eq!(parsed.kerberos(), Err(TokenError::Ntlm));
        assert_eq!(authenticator_digest(&token), Err(TokenError::Ntlm));
    }
}

#[test]
fn what_is_no_kerberos_request_is_named() {
    let sample = sample();
    let parsed = NegotiateToken::parse(&sample).unwrap();
    let mech_token = parsed.kerberos().unwrap();
    let kerberos = |token: &[u8]| authenticator_digest(token).unwrap_err();

    assert_eq!(kerberos(b""), TokenError::NotGss);
    assert_eq!(kerberos(b"garbage"), TokenError::NotGss);
    assert_eq!(kerberos(&spnego(&[], None, &[])), TokenError::NoMechanism);
    assert_eq!(
        kerberos(&spnego(&[KRB5, NTLM], None, &[])),
        TokenError::NoMechToken
    );
    assert_eq!(
        kerberos(&spnego(&[NEGOEX, KRB5], Some(b"NEGOEXTS"), &[])),
        TokenError::OtherMechanism(Mechanism::NegoEx)
    );
    assert_eq!(
        kerberos(&tlv(0xa1, &tlv(0x30, &[]))),
        TokenError::Continuation
    );
    let iakerb = b"\x06\x06\x2b\x06\x01\x05\x02\x05";
    assert!(matches!(
        kerberos(&tlv(0x60, &[iakerb, &b"\x05\x01"[..]].concat())),
        TokenError::OtherMechanism(Mechanism::Other(_))
    ));
    // A KRB-ERROR where the AP-REQ should be.
    assert_eq!(
        kerberos(&tlv(0x60, &[KRB5, &b"\x03\x00\x7e\x00"[..]].concat())),
        TokenError::NotApReq
    );
    // An early checksum, bytes after the end, an unknown field.
    let mic = tlv(0xa3, &tlv(0x04, b"mic"));
    assert!(matches!(
        kerberos(&spnego_with_tail(&[KRB5], mech_token, &mic)),
        TokenError::Malformed { .. }
    ));
    assert!(matches!(
        kerberos(&[&sample[..], b"x"].concat()),
        TokenError::Malformed { .. }
    ));
    let unknown = tlv(0xa4, &tlv(0x04, b"?"));
    assert!(matches!(
        kerberos(&spnego_with_tail(&[KRB5], mech_token, &unknown)),
        TokenError::Malformed { .. }
    ));
    assert_eq!(
        kerberos(&vec![0x60; MAX_TOKEN_BYTES + 1]),
        TokenError::TooLarge
    );
}

#[test]
fn a_length_that_is_not_minimal_is_refused() {
    // BER would allow it, and a replayed token could be given a new face by it.
    let mut token = sample();
    assert_eq!(&token[..2], [0x60, 0x82]);
    token.splice(1..2, [0x83, 0x00]);
    assert!(matches!(
        authenticator_digest(&token),
        Err(TokenError::Malformed { .. })
    ));
}

#[test]
fn a_header_is_taken_apart() {
    let token = sample();
    let padded = STANDARD.encode(&token[..1358]);
    let bare = STANDARD_NO_PAD.encode(&token[..1358]);
    assert!(padded.ends_with('=') && !bare.ends_with('='));
    for header in [
        format!("Negotiate {padded}"),
        format!("negotiate {padded}"),
        format!("NEGOTIATE  {padded} "),
        format!("Negotiate\t{bare}"),
    ] {
        assert_eq!(
            parse_authorization_header(&header).unwrap(),
            token[..1358],
            "{header}"
        );
    }
    for (header, error) in [
        ("", HeaderError::OtherScheme),
        ("Basic Z3JhY2U6eA==", HeaderError::OtherScheme),
        ("NegotiateYII=", HeaderError::OtherScheme),
        ("Bearer x", HeaderError::OtherScheme),
        ("Negotiate", HeaderError::NoToken),
        ("Negotiate   ", HeaderError::NoToken),
        ("Negotiate Y I I", HeaderError::NotBase64),
        ("Negotiate YII_", HeaderError::NotBase64),
        ("Negotiate ====", HeaderError::NotBase64),
        ("Negotiate YII=, Basic x", HeaderError::NotBase64),
    ] {
        assert_eq!(parse_authorization_header(header), Err(error), "{header}");
    }
}

#[test]
fn a_token_of_64_kib_is_taken_and_one_byte_more_is_not() {
    let header = |bytes: usize| format!("Negotiate {}", STANDARD.encode(vec![0; bytes]));
    assert_eq!(
        parse_authorization_header(&header(MAX_TOKEN_BYTES))
            .unwrap()
            .len(),
        MAX_TOKEN_BYTES
    );
    assert_eq!(
        parse_authorization_header(&header(MAX_TOKEN_BYTES + 1)),
        Err(HeaderError::TooLarge)
    );
    assert_eq!(
        parse_authorization_header(&header(10 * MAX_TOKEN_BYTES)),
        Err(HeaderError::TooLarge)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
        read_all(&tlv(0x60, &[SPNEGO, &bytes[..]].concat()));
        read_all(&tlv(0x60, &[KRB5, &b"\x01\x00"[..], &bytes[..]].concat()));
    }

    #[test]
    fn no_header_panics(text in any::<String>()) {
        let _ = parse_authorization_header(&text);
        let _ = parse_authorization_header(&format!("Negotiate {text}"));
    }

    #[test]
    fn a_mutated_token_never_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        // The interesting bytes, tags and lengths, are near the front.
        near_front in any::<bool>(),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut token = sample();
        for (place, value) in changes {
            let place = place.index(if near_front { 160 } else { token.len() });
            token[place] = value;
        }
        if let Some(cut) = cut {
            token.truncate(cut.index(token.len()));
        }
        read_all(&token);
    }

    /// The replay key sees every bit of the authenticator.
    #[test]
    fn another_authenticator_has_another_digest(place in 0usize..200, bit in 0u8..8) {
        let original = sample();
        let mut token = original.clone();
        let place = token.len() - 1 - place;
        token[place] ^= 1 << bit;
        prop_assert_ne!(authenticator_digest(&token).unwrap(), authenticator_digest(&original).unwrap());
    }
}

fn read_all(bytes: &[u8]) {
    if let Ok(token) = NegotiateToken::parse(bytes)
        && let Ok(mech_token) = token.kerberos()
        && let Ok(request) = ApRequest::parse(mech_token)
    {
        let _ = request.service.to_string();
        let _ = request.authenticator_digest();
    }
}

const SPNEGO: &[u8] = b"\x06\x06\x2b\x06\x01\x05\x05\x02";
const KRB5: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
const MS_KRB5: &[u8] = b"\x06\x09\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";
const NTLM: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
const NEGOEX: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x1e";

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match value.len() {
        short @ 0..0x80 => out.push(short as u8),
        mid @ 0x80..0x100 => out.extend([0x81, mid as u8]),
        long => out.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    out.extend(value);
    out
}

fn spnego(mechs: &[&[u8]], mech_token: Option<&[u8]>, flags: &[u8]) -> Vec<u8> {
    let mut fields = tlv(0xa0, &tlv(0x30, &mechs.concat()));
    fields.extend(flags);
    if let Some(token) = mech_token {
        fields.extend(tlv(0xa2, &tlv(0x04, token)));
    }
    tlv(0x60, &[SPNEGO, &tlv(0xa0, &tlv(0x30, &fields))].concat())
}

fn spnego_with_tail(mechs: &[&[u8]], mech_token: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut fields = tlv(0xa0, &tlv(0x30, &mechs.concat()));
    fields.extend(tlv(0xa2, &tlv(0x04, mech_token)));
    fields.extend(tail);
    tlv(0x60, &[SPNEGO, &tlv(0xa0, &tlv(0x30, &fields))].concat())
}
