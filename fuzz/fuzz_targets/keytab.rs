//! Any bytes as a keytab: no panic, and what is read is written and read the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obol_kerberos::Keytab;

fuzz_target!(|bytes: &[u8]| {
    let Ok(keytab) = Keytab::parse(bytes) else {
        return;
    };
    let written = keytab.to_bytes();
    let again = Keytab::parse(&written).expect("a written keytab can be read");
    assert_eq!(again.summary(), keytab.summary());
    assert_eq!(*again.to_bytes(), *written);
    let _ = (keytab.fingerprint(), format!("{keytab:?}"));
    for entry in keytab.entries() {
        let account = entry.principal().to_string();
        match keytab.for_service_account(&account, false) {
            Ok(kept) => assert!(kept.entries().iter().any(|kept| kept.kvno() == entry.kvno())),
            Err(error) => drop(error.to_string()),
        }
        let _ = keytab.for_service_account(entry.principal().primary(), true);
    }
});
