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
        let login = |name: &str, password: &str| {
            Initiator::from_password(name, password)
                .and_then(|initiator| initiator.negotiate(SPN, None).map(drop))
                .unwrap_err()
        };
        let error = login("grace@EXAMPLE.COM", "wrong");
        assert!(matches!(error, InitiateError::WrongPassword { .. }), "{error:?}");
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
        let file = std::path::PathBuf::from(std::env::var_os("FAKETIME_TIMESTAMP_FILE").expect("the package faketime"));
        std::fs::write(file, "+11h\n").unwrap();
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
            .and_then(|initiator| initiator.negotiate(SPN, None).map(drop))
            .unwrap_err();
        assert!(matches!(error, InitiateError::KdcUnreachable { .. }), "{error:?}");
    }

    fn an_unknown_realm_is_named() {
        let realm = realm();
        let error = Initiator::from_password("grace@NOWHERE.COM", PASSWORD)
            .and_then(|initiator| initiator.negotiate(SPN, None).map(drop))
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
            .and_then(|initiator| initiator.negotiate("HTTP/localhost@LATER.COM", None).map(drop))
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
            .and_then(|initiator| initiator.negotiate(SPN, None).map(drop))
            .unwrap_err();
        assert!(matches!(error, InitiateError::WrongPassword { .. }), "{error:?}");
    }
}
