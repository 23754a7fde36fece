//! Any bytes as the value of an Authorization header, and as the token inside one: no panic, and a
//! token that reads as a Kerberos request has one digest, with and without its SPNEGO frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obol_kerberos::{ApRequest, NegotiateToken, authenticator_digest, parse_authorization_header};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = std::str::from_utf8(bytes)
        && let Ok(token) = parse_authorization_header(header)
    {
        read(&token);
    }
    read(bytes);
});

fn read(token: &[u8]) {
    let Ok(parsed) = NegotiateToken::parse(token) else {
        return;
    };
    let Ok(mech_token) = parsed.kerberos() else {
        return;
    };
    let Ok(request) = ApRequest::parse(mech_token) else {
        assert!(authenticator_digest(token).is_err());
        return;
    };
    assert_eq!(authenticator_digest(token), Ok(request.authenticator_digest()));
    assert_eq!(authenticator_digest(mech_token), Ok(request.authenticator_digest()));
    let _ = request.service.to_string();
}
