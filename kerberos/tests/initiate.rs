//! The initiating side: where credentials come from, and what is said when they do not.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use obol_kerberos::*;
use obol_testbed::{KeepOldKeys, MitOptions, MitRealm};

own_process! {
    fn a_keytab_logs_its_principal_in() {
        let realm = realm();
        realm.add_service("robot").unwrap();
        let file = scratch().join("robot.keytab");
        std::fs::write(&file, realm.keytab(&["robot"]).unwrap()).unwrap();
        for principal in ["robot", "robot@EXAMPLE.COM"] {
            let initiator = Initiator::from_keytab(&file, principal).unwrap();
            let (token, negotiation) = initiator.negotiate("HTTP@localhost", None).unwrap();
            let accepted = accept(&acceptor(&realm), &token).unwrap();
            assert_eq!(accepted.client.to_string(), "robot@EXAMPLE.COM");
            negotiation.finish(&accepted.reply.unwrap()).unwrap();
        }
        // Nothing but the files that the test wrote: tickets stay in memory.
        let names: Vec<String> = files(&scratch())
            .iter()
            .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
            .filter(|name| name != "krb5.conf" && name != "robot.keytab")
            .collect();
        assert_eq!(names, [""; 0]);
    }

    fn a_password_logs_its_principal_in() {
        let realm = realm();
        let initiator = Initiator::from_password("grace@EXAMPLE.COM", PASSWORD).unwrap();
        let (token, negotiation) = initiator.negotiate(SPN, None).unwrap();
        let accepted = accept(&acceptor(&realm), &token).unwrap();
        assert_eq!(accepted.client.to_string(), "grace@EXAMPLE.COM");
        negotiation.finish(&accepted.reply.unwrap()).unwrap();
    }

    fn a_wrong_password_an_unknown_name_and_a_locked_account_are_told_apart() {
        let realm = realm();
        let login = |name: &str, password: &str| Initiator::from_password(name, password).unwrap_err();
        let error = login("grace@EXAMPLE.COM", "wrong");
        assert!(matches!(error, InitiateError::WrongPassword { .. }), "{error:?}");
        for almost in [String::new(), format!("{PASSWORD}\0"), format!("{PASSWORD}\0and more")] {
            let error = login("grace@EXAMPLE.COM", &almost);
            assert!(matches!(error, InitiateError::WrongPassword { .. }), "{error:?}");
        }
        let error = login("nobody@EXAMPLE.COM", "wrong");
        assert!(matches!(error, InitiateError::UnknownClient { .. }), "{error:?}");
        realm.kadmin(&["modprinc", "-allow_tix", "grace"]).unwrap();
        let error = login("grace@EXAMPLE.COM", PASSWORD);
        assert!(matches!(error, InitiateError::AccountDisabled { .. }), "{error:?}");
        realm.kadmin(&["modprinc", "+allow_tix", "+needchange", "grace"]).unwrap();
        let error = login("grace@EXAMPLE.COM", PASSWORD);
        assert!(matches!(error, InitiateError::PasswordExpired { .. }), "{error:?}");
        let error = login("a@b@c", "x");
        assert!(matches!(error, InitiateError::BadName { .. }), "{error:?}");
    }

    fn a_keytab_in_memory_logs_in_and_leaves_nothing_behind() {
        let realm = realm();
        realm.add_service("robot").unwrap();
        let keytab = Keytab::parse(&realm.keytab(&[SERVICE, "robot"]).unwrap()).unwrap();
        let acceptor = acceptor(&realm);
        let before = files(&scratch());
        assert_eq!(caches_in_memory(), 0);
        for principal in [None, Some("robot"), Some("robot@EXAMPLE.COM"), Some(SPN)] {
            let initiator = Initiator::from_keytab_bytes(&keytab, principal).unwrap();
            assert_eq!(caches_in_memory(), 1);
            let client = principal.filter(|name| *name == SPN).unwrap_or("robot@EXAMPLE.COM");
            assert_eq!(initiator.client(), client);
            for _ in 0..3 {
                let (token, negotiation) = initiator.negotiate(SPN, None).unwrap();
                let accepted = accept(&acceptor, &token).unwrap();
                assert_eq!(accepted.client.to_string(), client);
                negotiation.finish(&accepted.reply.unwrap()).unwrap();
            }
            assert_eq!(caches_in_memory(), 1);
        }
        assert_eq!(caches_in_memory(), 0);
        assert_eq!(files(&scratch()), before);
        // The initiator may go before what it has begun.
        let begun = Initiator::from_keytab_bytes(&keytab, Some("robot")).unwrap().sasl(SPN, &[SecurityLayer::None], None);
        assert!(!begun.unwrap().step(None).unwrap().is_empty());
        assert_eq!(caches_in_memory(), 0);
        let error = Initiator::from_keytab_bytes(&keytab, Some("other")).unwrap_err();
        assert!(matches!(error, InitiateError::NotInKeytab(KeytabError::NoSuchAccount { .. })), "{error:?}");
    }

    fn a_keytab_gives_new_tickets_when_the_clock_has_ended_the_old() {
        let realm = realm();
        realm.add_service("robot").unwrap();
        let keytab = Keytab::parse(&realm.keytab(&["robot"]).unwrap()).unwrap();
        let initiator = Initiator::from_keytab_bytes(&keytab, None).unwrap();
        let acceptor = acceptor(&realm);
        for hours in [0, 9, 11, 40] {
            move_clock(hours * 3600);
            let (token, _) = initiator.negotiate(SPN, None).unwrap();
            accept(&acceptor, &token).unwrap();
        }
        assert_eq!(caches_in_memory(), 1);
    }

    fn a_password_leaves_nothing_behind() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let before = files(&scratch());
        for _ in 0..3 {
            let initiator = Initiator::from_password("grace", PASSWORD).unwrap();
            let (token, _) = initiator.negotiate(SPN, None).unwrap();
            accept(&acceptor, &token).unwrap();
            assert!(Initiator::from_password("grace", "wrong").is_err());
        }
        assert_eq!(files(&scratch()), before);
    }

    fn no_ticket_cache_says_kinit() {
        let _realm = realm();
        for path in [None, Some(scratch().join("nowhere"))] {
            let error = Initiator::from_ccache(path.as_deref()).unwrap_err();
            assert!(matches!(error, InitiateError::NoTicket { .. }), "{error:?}");
            assert!(error.mend().contains("kinit"));
        }
    }

    fn an_expired_ticket_cache_says_kinit_by_a_clock_that_moved_on() {
        let realm = realm();
        let ccache = realm.kinit("grace", PASSWORD).unwrap();
        move_clock(11 * 3600);
        let error = Initiator::from_ccache(Some(ccache.path())).unwrap_err();
        assert!(matches!(error, InitiateError::TicketExpired { .. }), "{error:?}");
        assert!(error.mend().contains("kinit"));
    }

    fn an_unknown_service_is_named() {
        let realm = realm();
        let grace = Client::grace(&realm);
        let error = grace.initiator.negotiate("HTTP/nowhere@EXAMPLE.COM", None).unwrap_err();
        assert_eq!(error.to_string(), "the KDC does not know the service HTTP/nowhere@EXAMPLE.COM");
        assert!(matches!(error, InitiateError::UnknownService { .. }), "{error:?}");
        let error = grace.initiator.negotiate("HTTP/x@y@z", None).unwrap_err();
        assert!(matches!(error, InitiateError::BadName { .. }), "{error:?}");
    }

    fn a_service_without_a_common_type_is_named() {
        let realm = realm();
        realm.kadmin(&["setstr", SERVICE, "session_enctypes", "camellia128-cts-cmac"]).unwrap();
        let strict = format!(
            "[libdefaults]\npermitted_enctypes = aes256-cts-hmac-sha1-96\ninclude {}\n",
            realm.krb5_conf().display()
        );
        std::fs::write(scratch().join("krb5.conf"), strict).unwrap();
        let error = Client::grace(&realm).initiator.negotiate(SPN, None).unwrap_err();
        assert!(matches!(error, InitiateError::NoCommonEnctype { .. }), "{error:?}");
    }

    fn a_kdc_that_is_gone_is_named_and_tickets_in_hand_still_work() {
        let realm = realm();
        let grace = Client::grace(&realm);
        let acceptor = acceptor(&realm);
        grace.token();
        realm.stop_kdc().unwrap();
        accept(&acceptor, &grace.token()).unwrap();
        let error = grace.initiator.negotiate("HTTP/other@EXAMPLE.COM", None).unwrap_err();
        assert!(matches!(error, InitiateError::KdcUnreachable { .. }), "{error:?}");
        let error = Initiator::from_password("grace@EXAMPLE.COM", PASSWORD)
            .unwrap_err();
        assert!(matches!(error, InitiateError::KdcUnreachable { .. }), "{error:?}");
    }

    fn an_unknown_realm_is_named() {
        let realm = realm();
        let error = Initiator::from_password("grace@NOWHERE.COM", PASSWORD)
            .unwrap_err();
        assert!(matches!(error, InitiateError::UnknownRealm { .. }), "{error:?}");
        drop(realm);
    }

    fn a_clock_that_the_kdc_does_not_share_is_named() {
        let realm = realm_with(MitOptions {
            libdefaults: vec![("kdc_timesync".to_owned(), "0".to_owned())],
            ..MitOptions::default()
        });
        let later = MitRealm::start(MitOptions { clock_shift: 3600, ..MitOptions::realm("LATER.COM") }).unwrap();
        later.add_principal("grace", PASSWORD).unwrap();
        realm.know(&later).unwrap();
        let error = Initiator::from_password("grace@LATER.COM", PASSWORD)
            .unwrap_err();
        assert!(matches!(error, InitiateError::ClockSkew), "{error:?}");
    }

    fn faults_of_a_keytab_are_named() {
        let realm = realm();
        realm.add_service("robot").unwrap();
        let file = scratch().join("robot.keytab");
        let error = Initiator::from_keytab(&file, "robot").unwrap_err();
        assert!(matches!(error, InitiateError::KeytabFile { .. }), "{error:?}");
        std::fs::write(&file, b"no keytab").unwrap();
        let error = Initiator::from_keytab(&file, "robot").unwrap_err();
        assert!(matches!(error, InitiateError::Keytab { error: KeytabError::NotAKeytab { .. }, .. }), "{error:?}");
        std::fs::write(&file, realm.keytab(&["robot"]).unwrap()).unwrap();
        let error = Initiator::from_keytab(&file, "other").unwrap_err();
        assert!(error.to_string().contains("it holds: robot@EXAMPLE.COM"), "{error}");
        // The key was changed since: the KDC does not take the old one.
        realm.change_key("robot", KeepOldKeys::No).unwrap();
        let error = Initiator::from_keytab(&file, "robot")
            .unwrap_err();
        assert!(matches!(error, InitiateError::WrongPassword { .. }), "{error:?}");
    }
}

/// How many of the initiators' ticket caches hold a client's name, and so tickets. libkrb5 does not
/// list caches in memory; the names are known.
fn caches_in_memory() -> usize {
    use std::ffi::{CString, c_char};
    use std::ptr::null_mut;

    // Linked by the crate under test.
    unsafe extern "C" {
        fn krb5_init_context(context: *mut *mut u8) -> i32;
        fn krb5_free_context(context: *mut u8);
        fn krb5_cc_resolve(context: *mut u8, name: *const c_char, cache: *mut *mut u8) -> i32;
        fn krb5_cc_get_principal(context: *mut u8, cache: *mut u8, client: *mut *mut u8) -> i32;
        fn krb5_free_principal(context: *mut u8, client: *mut u8);
        fn krb5_cc_close(context: *mut u8, cache: *mut u8) -> i32;
    }
    let mut count = 0;
    // SAFETY: each handle is made here, used by this thread alone and freed once.
    unsafe {
        let mut context = null_mut();
        assert_eq!(krb5_init_context(&mut context), 0);
        for number in 0..100 {
            let name = CString::new(format!("MEMORY:obol-{number}")).unwrap();
            let (mut cache, mut client) = (null_mut(), null_mut());
            assert_eq!(krb5_cc_resolve(context, name.as_ptr(), &mut cache), 0);
            if krb5_cc_get_principal(context, cache, &mut client) == 0 {
                count += 1;
                krb5_free_principal(context, client);
            }
            krb5_cc_close(context, cache);
        }
        krb5_free_context(context);
    }
    count
}
