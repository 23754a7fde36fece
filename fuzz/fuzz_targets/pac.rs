//! Any bytes as the logon information of a PAC, and as a security identifier: no panic, no memory
//! beyond a small multiple of the input, and what is read makes sense.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obol_kerberos::{Pac, Sid};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // Past the headers, whose length field would stop most inputs.
    let mut framed = b"\x01\x10\x08\0\xcc\xcc\xcc\xcc".to_vec();
    framed.extend((bytes.len() as u32).to_le_bytes());
    framed.extend([0; 4]);
    framed.extend(bytes);
    read(&framed);

    if let Ok(sid) = Sid::from_bytes(bytes) {
        assert_eq!(sid.to_bytes(), bytes);
        // Without a sub-authority there is nothing to write behind the authority.
        if !sid.sub_authorities().is_empty() {
            assert_eq!(sid.to_string().parse(), Ok(sid));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(sid) = text.parse::<Sid>()
    {
        assert_eq!(Sid::from_bytes(&sid.to_bytes()), Ok(sid));
    }
});

fn read(bytes: &[u8]) {
    let Ok(pac) = Pac::decode(bytes) else { return };
    let elements = pac.groups.len() + pac.extra_sids.len() + pac.resource_groups.len();
    assert!(elements * 8 <= bytes.len());
    let sids = pac.group_sids();
    assert!(sids.is_sorted() && sids.len() <= elements + 1);
    let _ = pac.user_sid();
}
