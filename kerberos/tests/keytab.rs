//! The keytab reader on real, odd, cut, changed and hostile files (threat `keytab-parse`), and what
//! it keeps for a service account.
#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_kerberos::{Acceptor, AcceptorOptions, Enctype, Keytab, KeytabError, MAX_KEYTAB_BYTES};
use proptest::prelude::*;

/// The keytab of the sample payload in Vault's API documentation.
const SAMPLE: &str =
    "BQIAAAA6AAEACk1BVFJJWC5MQU4ACXZhdWx0X3N2YwAAAAFdzZSjAgAXABDwhEyRR9nRqkpP8KTn2A83AAAAAg==";

fn sample() -> Vec<u8> {
    STANDARD.decode(SAMPLE).unwrap()
}

#[test]
fn the_sample_of_the_contract_is_read_and_makes_an_acceptor() {
    let keytab = Keytab::parse(&sample()).unwrap();
    let [entry] = keytab.entries() else {
        panic!("one entry expected")
    };
    assert_eq!(entry.principal().to_string(), "vault_svc@MATRIX.LAN");
    assert_eq!(entry.kvno(), 2);
    assert_eq!(entry.enctype(), Enctype::ArcfourHmac);
    assert_eq!(entry.timestamp(), 1_573_754_019);
    assert_eq!(entry.key().len(), 16);
    assert!(entry.summary().weak());
    assert_eq!(*keytab.to_bytes(), sample());

    for account in ["vault_svc", "vault_svc@MATRIX.LAN"] {
        let kept = keytab.for_service_account(account, false).unwrap();
        Acceptor::new(&kept, AcceptorOptions::default()).unwrap();
    }
}

#[test]
fn an_account_that_is_not_there_is_refused_with_what_is_there() {
    let keytab = Keytab::parse(&file(&[
        entry("HTTP/localhost", "EXAMPLE.COM", 18, 32, 1),
        entry("HTTP/localhost", "EXAMPLE.COM", 17, 16, 1),
        entry("vault_svc", "OTHER.COM", 18, 32, 1),
    ]))
    .unwrap();
    for account in [
        "vault_svc@EXAMPLE.COM",
        "HTTP",
        "http/localhost",
        "localhost",
    ] {
        let error = keytab.for_service_account(account, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the keytab has no entry for the service account {account}; \
                 it holds: HTTP/localhost@EXAMPLE.COM, vault_svc@OTHER.COM"
            )
        );
    }
    assert!(matches!(
        keytab.for_service_account("a@b@c", false),
        Err(KeytabError::BadAccount { .. })
    ));
}

#[test]
fn only_the_keys_of_the_account_are_kept() {
    let keytab = Keytab::parse(&file(&[
        entry("HTTP/localhost", "EXAMPLE.COM", 18, 32, 1),
        entry("host/localhost", "EXAMPLE.COM", 18, 32, 1),
        entry("HTTP/localhost", "EXAMPLE.COM", 17, 16, 2),
    ]))
    .unwrap();
    let kept = keytab.for_service_account("HTTP/localhost", false).unwrap();
    let kvnos: Vec<u32> = kept.entries().iter().map(|entry| entry.kvno()).collect();
    assert_eq!(kvnos, [1, 2]);
}

#[test]
fn instances_are_removed_only_where_the_operator_asks_for_it() {
    let keytab = Keytab::parse(&file(&[entry("foo/localhost", "EXAMPLE.COM", 18, 32, 1)])).unwrap();
    assert!(keytab.for_service_account("foo", false).is_err());
    let kept = keytab.for_service_account("foo", true).unwrap();
    assert_eq!(
        kept.entries()[0].principal().to_string(),
        "foo/localhost@EXAMPLE.COM"
    );
    keytab.for_service_account("foo@EXAMPLE.COM", true).unwrap();
    // As in the contract, the entry is plain foo now, so its full name is no longer there.
    let error = keytab
        .for_service_account("foo/localhost", true)
        .unwrap_err();
    assert!(error.to_string().contains("(instances removed)"), "{error}");
}

#[test]
fn a_keytab_of_retired_types_alone_is_refused_and_rc4_is_flagged() {
    let keytab = Keytab::parse(&file(&[
        entry("svc", "EXAMPLE.COM", 1, 8, 1),
        entry("svc", "EXAMPLE.COM", 3, 8, 1),
        entry("svc", "EXAMPLE.COM", 16, 24, 1),
        entry("svc", "EXAMPLE.COM", 99, 5, 1),
    ]))
    .unwrap();
    let error = keytab.for_service_account("svc", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the keytab has only keys of type des-cbc-crc, des-cbc-md5, des3-cbc-sha1, unknown-enctype-99 \
         for svc, which are not accepted any more; export one with AES keys"
    );
    let rc4 = Keytab::parse(&file(&[entry("svc", "EXAMPLE.COM", 23, 16, 1)])).unwrap();
    let kept = rc4.for_service_account("svc", false).unwrap();
    assert!(kept.summary()[0].weak());
}

#[test]
fn holes_are_skipped_and_a_reused_hole_leaves_padding() {
    let mut bytes = vec![5, 2];
    bytes.extend((-7i32).to_be_bytes());
    bytes.extend([0xaa; 7]);
    let padded = [entry("svc", "EXAMPLE.COM", 18, 32, 3), vec![0; 11]].concat();
    bytes.extend((padded.len() as u32).to_be_bytes());
    bytes.extend(&padded);
    bytes.extend((-3i32).to_be_bytes());
    bytes.extend([1, 2, 3]);
    let keytab = Keytab::parse(&bytes).unwrap();
    assert_eq!(keytab.entries().len(), 1);
    assert_eq!(keytab.entries()[0].kvno(), 3);
    // Written back without holes.
    assert_eq!(
        *keytab.to_bytes(),
        file(&[entry("svc", "EXAMPLE.COM", 18, 32, 3)])
    );
}

#[test]
fn the_long_key_version_wins_unless_it_is_zero_or_absent() {
    for (short, long, expected) in [
        (7u8, Some(700u32), 700),
        (7, Some(0), 7),
        (7, None, 7),
        (255, Some(256), 256),
        (0, None, 0),
    ] {
        let mut record = entry("svc", "EXAMPLE.COM", 18, 32, 0);
        record.truncate(record.len() - 4);
        let place = record.len() - 32 - 2 - 2 - 1;
        record[place] = short;
        if let Some(long) = long {
            record.extend(long.to_be_bytes());
        }
        let keytab = Keytab::parse(&file(&[record])).unwrap();
        assert_eq!(keytab.entries()[0].kvno(), expected);
    }
}

#[test]
fn each_fault_is_named_with_its_place() {
    let good = file(&[entry("svc", "EXAMPLE.COM", 18, 32, 1)]);
    let says = |bytes: &[u8], words: &str| {
        let error = Keytab::parse(bytes).unwrap_err();
        assert!(
            error.to_string().contains(words),
            "{error} should say {words}"
        );
    };
    says(b"", "it is empty");
    says(b"\x05", "cut off at byte 0");
    says(b"\x05\x02", "holds no entry");
    says(b"\x05\x01\x00\x00", "old format");
    says(b"BQIAAAA6", "starts with 42 51");
    says(&good[..good.len() - 1], "a record needs");
    says(
        &[&good[..], &[0]].concat(),
        "a record length needs 4 bytes, 1 are left",
    );
    says(
        &[&good[..], &[0, 0, 0, 0, 9]].concat(),
        "data after its end mark",
    );
    says(
        &[&good[..], &i32::MIN.to_be_bytes()].concat(),
        "a hole needs 2147483648 bytes",
    );
    says(
        &[5, 2, 0x7f, 0xff, 0xff, 0xff],
        "a record needs 2147483647 bytes",
    );
    says(&file(&[vec![0xff, 0xff]]), "the realm");
    says(
        &file(&[entry("svc", "EXAMPLE.COM", 18, 31, 1)]),
        "has 32 bytes, this one has 31",
    );
    says(
        &file(&[entry("svc", "EXAMPLE.COM", 99, 0, 1)]),
        "the key is empty",
    );
    says(
        &file(&[entry("", "EXAMPLE.COM", 18, 32, 1)]),
        "entry 1 (at byte 2): the principal has an empty component",
    );
    says(&file(&[entry("svc", "", 18, 32, 1)]), "empty realm");
    says(
        &file(&[entry("s\0c", "EXAMPLE.COM", 18, 32, 1)]),
        "control character",
    );
    let mut latin1 = file(&[entry("svc", "EXAMPLE.COM", 18, 32, 1)]);
    latin1[10] = 0xe9;
    says(&latin1, "the realm is not UTF-8");
    says(&vec![0; MAX_KEYTAB_BYTES + 1], "the limit is");

    let zeros_after_end = [&good[..], &[0; 64]].concat();
    assert_eq!(Keytab::parse(&zeros_after_end).unwrap().entries().len(), 1);
}

#[test]
fn no_key_shows_in_debug_or_fingerprint() {
    let keytab = Keytab::parse(&sample()).unwrap();
    let shown = format!("{keytab:?} {:?} {:?}", keytab.entries(), keytab.summary());
    assert!(shown.contains("vault_svc@MATRIX.LAN") && shown.contains("<secret>"));
    let key = keytab.entries()[0].key();
    for window in key.windows(4) {
        let hex: String = window.iter().map(|byte| format!("{byte:02x}")).collect();
        let decimal = format!("{}, {}, {}, {}", window[0], window[1], window[2], window[3]);
        assert!(
            !shown.contains(&hex) && !shown.contains(&decimal),
            "{shown}"
        );
    }

    // Another key of the same name, version and time has the same fingerprint: it says nothing of
    // the key.
    let mut other_key = sample();
    let last = other_key.len() - 5;
    other_key[last] ^= 1;
    let other_key = Keytab::parse(&other_key).unwrap();
    assert_ne!(other_key.entries()[0].key(), key);
    assert_eq!(other_key.fingerprint(), keytab.fingerprint());
    let mut other_kvno = sample();
    *other_kvno.last_mut().unwrap() = 9;
    assert_ne!(
        Keytab::parse(&other_kvno).unwrap().fingerprint(),
        keytab.fingerprint()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// `keytab-parse`
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Keytab::parse(&bytes);
        let _ = Keytab::parse(&[&[5, 2], &bytes[..]].concat());
    }

    /// `keytab-parse`
    #[test]
    fn a_mutated_keytab_is_refused_or_read_to_the_same_bytes_again(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        keep_length in any::<bool>(),
    ) {
        let mut bytes = file(&[
            entry("HTTP/localhost", "EXAMPLE.COM", 18, 32, 1),
            entry("vault_svc", "EXAMPLE.COM", 23, 16, 300),
        ]);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if !keep_length {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(keytab) = Keytab::parse(&bytes) {
            let written = keytab.to_bytes();
            let again = Keytab::parse(&written).unwrap();
            prop_assert_eq!(again.summary(), keytab.summary());
            prop_assert_eq!(&*again.to_bytes(), &*written);
            let _ = keytab.for_service_account("vault_svc", true);
            let _ = keytab.fingerprint();
        }
    }
}

fn file(records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![5, 2];
    for record in records {
        out.extend((record.len() as u32).to_be_bytes());
        out.extend(record);
    }
    out
}

fn entry(name: &str, realm: &str, enctype: u16, key_bytes: u16, kvno: u32) -> Vec<u8> {
    let components: Vec<&str> = name.split('/').collect();
    let mut out = (components.len() as u16).to_be_bytes().to_vec();
    for part in std::iter::once(realm).chain(components) {
        out.extend((part.len() as u16).to_be_bytes());
        out.extend(part.as_bytes());
    }
    out.extend(1u32.to_be_bytes());
    out.extend(1_700_000_000u32.to_be_bytes());
    out.push(kvno as u8);
    out.extend(enctype.to_be_bytes());
    out.extend(key_bytes.to_be_bytes());
    out.extend((0..key_bytes).map(|byte| byte as u8 ^ 0xc3));
    out.extend(kvno.to_be_bytes());
    out
}
