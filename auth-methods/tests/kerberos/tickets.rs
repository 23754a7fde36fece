//! Negotiate tokens that are no Kerberos tickets, put together by hand.

/// A DER element.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u8::try_from(contents.len()).unwrap();
    assert!(length < 128, "short forms alone");
    [&[tag, length], contents].concat()
}

/// The first message of NTLM (MS-NLMP 2.2.1.1).
pub fn ntlm() -> Vec<u8> {
    [b"NTLMSSP\0", &[1, 0, 0, 0, 7, 0x82, 8, 0xa2][..], &[0; 16]].concat()
}

/// A NegTokenInit (RFC 4178) that offers `mech` alone, with `token` along.
pub fn spnego(mech: &[u8], token: &[u8]) -> Vec<u8> {
    let mechs = der(0xa0, &der(0x30, &der(0x06, mech)));
    let token = der(0xa2, &der(0x04, token));
    let init = der(0xa0, &der(0x30, &[mechs, token].concat()));
    der(0x60, &[der(0x06, &SPNEGO), init].concat())
}

/// 1.3.6.1.5.5.2
const SPNEGO: [u8; 6] = [0x2b, 6, 1, 5, 5, 2];
/// 1.3.6.1.4.1.311.2.2.10
pub const NTLMSSP: [u8; 10] = [0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 0x0a];
/// 1.3.6.1.4.1.311.2.2.30
pub const NEGOEX: [u8; 10] = [0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 0x1e];
/// 1.2.840.113554.1.2.2
pub const KRB5: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2];
