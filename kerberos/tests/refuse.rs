//! Tickets that are not accepted, each with the cause and the mend that an operator needs.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::forge::{with_checksum, with_client_data};
use common::*;
use obol_kerberos::*;
use obol_testbed::keytab::{AES128_CTS_HMAC_SHA1_96, ARCFOUR_HMAC};
use obol_testbed::{KeepOldKeys, Keytab as RawKeytab, MitOptions, MitRealm};

own_process! {
    fn a_newer_ticket_than_the_keytab_names_both_versions() {
        let realm = realm();
        let old = acceptor(&realm);
        realm.change_key(SERVICE, KeepOldKeys::No).unwrap();
        realm.change_key(SERVICE, KeepOldKeys::No).unwrap();
        let error = accept(&old, &Client::grace(&realm).token()).unwrap_err();
        assert_eq!(
            error.cause(),
            "the ticket for HTTP/localhost@EXAMPLE.COM (kvno 3, aes256-cts-hmac-sha1-96) is encrypted with kvno 3; \
             the keytab holds kvno 1 for that account"
        );
        assert!(error.mend().starts_with("export a new keytab"), "{}", error.mend());
    }

    fn an_older_ticket_than_the_keytab_names_both_versions() {
        let realm = realm();
        let token = Client::grace(&realm).token();
        realm.change_key(SERVICE, KeepOldKeys::No).unwrap();
        let error = accept(&acceptor(&realm), &token).unwrap_err();
        assert!(
            matches!(&error, AcceptError::NoMatchingKey { mismatch: Mismatch::Kvno { held }, .. } if *held == [2]),
            "{error:?}"
        );
        accept(&acceptor(&realm), &Client::grace(&realm).token()).unwrap();
    }

    fn a_wrong_key_of_the_right_version_is_told_from_a_wrong_version() {
        let realm = realm();
        let wrong = RawKeytab::parse(&realm.keytab(&[SERVICE]).unwrap()).unwrap().with_wrong_keys();
        let error = accept(&acceptor_of(&wrong.to_bytes()), &Client::grace(&realm).token()).unwrap_err();
        assert_eq!(
            error.cause(),
            "no key opens the ticket for HTTP/localhost@EXAMPLE.COM (kvno 1, aes256-cts-hmac-sha1-96), \
             although the keytab has that version and type (of HTTP/localhost@EXAMPLE.COM)"
        );
        assert!(error.mend().contains("another account"), "{}", error.mend());
    }

    fn a_key_that_the_keytab_has_under_another_name_is_told_from_none() {
        let realm = realm();
        realm.add_service("HTTP/other").unwrap();
        let keytab = Keytab::parse(&realm.keytab(&[SERVICE, "HTTP/other"]).unwrap()).unwrap();
        let acceptor = acceptor_of(&keytab.for_service_account("HTTP/other", false).unwrap().to_bytes());
        let token = Client::grace(&realm).token();
        // Of a file, nobody knows what it was taken from.
        let error = accept(&acceptor, &token).unwrap_err();
        assert!(matches!(error, AcceptError::NoMatchingKey { mismatch: Mismatch::Service { .. }, .. }), "{error:?}");

        let keys = keytab.for_service_account("HTTP/other", false).unwrap();
        let acceptor = Acceptor::new(&keys, AcceptorOptions::default()).unwrap();
        let error = accept(&acceptor, &token).unwrap_err();
        assert_eq!(
            error.cause(),
            "the ticket for HTTP/localhost@EXAMPLE.COM (kvno 1, aes256-cts-hmac-sha1-96) is for a name of which the \
             keytab has such a key, but only the service account's keys count, and it is not HTTP/localhost@EXAMPLE.COM"
        );
        assert!(error.mend().starts_with("name that principal as service_account"), "{}", error.mend());
    }

    fn a_request_without_what_gssapi_puts_into_it_is_told_from_an_altered_one() {
        let realm = realm();
        let (acceptor, keytab, token) = (acceptor(&realm), keytab(&realm), Client::grace(&realm).token());
        let again = with_checksum(&token, &keytab, GSSAPI, Some);
        accept(&acceptor, &again).unwrap();
        for (other, fault) in [
            (with_checksum(&token, &keytab, GSSAPI, |_| None), "its authenticator has no checksum"),
            (with_checksum(&token, &keytab, 16, Some), "its authenticator has a checksum that is not GSSAPI's"),
            (with_checksum(&token, &keytab, GSSAPI, |old| Some(old[..23].to_vec())), "GSSAPI's checksum is cut off"),
        ] {
            let error = accept(&acceptor, &other).unwrap_err();
            assert_eq!(
                error.cause(),
                format!(
                    "the request with the ticket for HTTP/localhost@EXAMPLE.COM (kvno 1, aes256-cts-hmac-sha1-96) is \
                     not one of GSSAPI's: {fault}"
                )
            );
        }
    }

    fn a_client_that_wants_a_third_message_is_not_taken_for_complete() {
        let realm = realm();
        let token = with_checksum(&Client::grace(&realm).token(), &keytab(&realm), GSSAPI, |mut old| {
            old[21] |= 0x10; // GSS_C_DCE_STYLE
            Some(old)
        });
        assert_eq!(accept(&acceptor(&realm), &token).unwrap_err(), AcceptError::NotComplete);
    }

    /// A relay that takes TLS away from the client: it knows of no channel, and says that it would have bound to one.
    fn channel_bindings_a_client_that_always_binds_and_saw_no_channel_was_relayed() {
        let realm = realm();
        let (acceptor, keytab, token) = (acceptor(&realm), keytab(&realm), Client::grace(&realm).token());
        let ours = ChannelBindings::tls_server_end_point(b"our certificate", CertificateHash::Sha256);
        assert!(!acceptor.accept(&token, Some(&ours)).unwrap().channel_bound);
        let token = with_client_data(&token, &keytab, AP_OPTIONS, &0x4000_u32.to_le_bytes());
        let relayed = acceptor.accept(&token, Some(&ours)).unwrap_err();
        assert!(matches!(relayed, AcceptError::ChannelBindings { .. }), "{relayed:?}");
        // Of a listener without TLS there is nothing to bind to.
        assert!(!acceptor.accept(&token, None).unwrap().channel_bound);

        let token = with_client_data(&token, &keytab, AP_OPTIONS, &0x8000_u32.to_le_bytes());
        assert!(!acceptor.accept(&token, Some(&ours)).unwrap().channel_bound);
        let token = with_client_data(&token, &keytab, AP_OPTIONS, &[0, 0x40]);
        acceptor.accept(&token, Some(&ours)).unwrap_err();
    }

    fn a_missing_encryption_type_is_named() {
        let realm = realm();
        let aes128 = realm.keytab_with_enctypes(&[SERVICE], &[AES128_CTS_HMAC_SHA1_96]).unwrap();
        let error = accept(&acceptor_of(&aes128), &Client::grace(&realm).token()).unwrap_err();
        assert_eq!(
            error.cause(),
            "the ticket for HTTP/localhost@EXAMPLE.COM (kvno 1, aes256-cts-hmac-sha1-96) is encrypted with \
             aes256-cts-hmac-sha1-96; the keytab holds only aes128-cts-hmac-sha1-96 for that key version"
        );
    }

    /// `enctype-downgrade`
    fn enctype_downgrade_a_type_that_the_operator_does_not_allow_is_refused() {
        let realm = realm_with(MitOptions {
            libdefaults: vec![("allow_weak_crypto".to_owned(), "true".to_owned())],
            ..MitOptions::default()
        });
        realm.change_enctypes(SERVICE, &["arcfour-hmac"]).unwrap();
        let keytab = keytab(&realm);
        assert_eq!(keytab.entries()[0].enctype().number(), i32::from(ARCFOUR_HMAC));
        let with = |allowed: Option<Vec<Enctype>>| {
            Acceptor::new(&keytab, AcceptorOptions { allowed_enctypes: allowed, ..AcceptorOptions::default() }).unwrap()
        };
        let grace = Client::grace(&realm);
        accept(&with(None), &grace.token()).unwrap();
        accept(&with(Some(vec![Enctype::ArcfourHmac, Enctype::Aes256Sha1])), &grace.token()).unwrap();
        let error = accept(&with(Some(vec![Enctype::Aes256Sha1])), &grace.token()).unwrap_err();
        let AcceptError::EnctypeNotAllowed { enctype, session_key, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((*enctype, *session_key), (Enctype::ArcfourHmac, false));
    }

    /// `enctype-downgrade`: a strong ticket can carry a weaker session key.
    fn enctype_downgrade_a_session_key_of_a_type_that_is_not_allowed_is_refused() {
        let realm = realm();
        realm.kadmin(&["setstr", SERVICE, "session_enctypes", "aes128-cts-hmac-sha1-96"]).unwrap();
        let options = AcceptorOptions { allowed_enctypes: Some(vec![Enctype::Aes256Sha1]), ..AcceptorOptions::default() };
        let acceptor = Acceptor::new(&keytab(&realm), options).unwrap();
        let error = accept(&acceptor, &Client::grace(&realm).token()).unwrap_err();
        assert_eq!(
            error.cause(),
            "the ticket for HTTP/localhost@EXAMPLE.COM (kvno 1, aes256-cts-hmac-sha1-96) was refused: \
             its session key is of type aes128-cts-hmac-sha1-96, and the configuration allows aes256-cts-hmac-sha1-96"
        );
    }

    /// `realm-confusion`
    fn realm_confusion_a_ticket_of_another_realm_is_told_from_a_wrong_key() {
        let ours = realm();
        let other = MitRealm::start(MitOptions::realm("OTHER.COM")).unwrap();
        other.add_principal("grace", PASSWORD).unwrap();
        other.add_service(SERVICE).unwrap();
        ours.know(&other).unwrap();
        let stranger = Client::login(&other, "grace", PASSWORD);
        let token = stranger.initiator.negotiate("HTTP/localhost@OTHER.COM", None).unwrap().0;
        let error = accept(&acceptor(&ours), &token).unwrap_err();
        assert_eq!(
            error.cause(),
            "the ticket for HTTP/localhost@OTHER.COM (kvno 1, aes256-cts-hmac-sha1-96) was issued by realm OTHER.COM; \
             the keytab holds keys of EXAMPLE.COM"
        );
    }

    fn a_clock_that_is_ten_minutes_off_is_named() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let token = Client::grace(&realm).token();
        accept(&acceptor, &token).unwrap();
        move_clock(600);
        let error = accept(&acceptor, &token).unwrap_err();
        assert_behind(&error, 600);
        let prefix = "the client's clock is 60";
        assert!(error.cause().starts_with(prefix), "{}", error.cause());
        assert!(error.cause().contains(" seconds behind this host's (with the ticket for HTTP/localhost@"), "{}", error.cause());
        assert!(error.mend().contains("NTP"));
        // To a clock that is behind, the ticket itself is of the future.
        move_clock(-600);
        let error = accept(&acceptor, &token).unwrap_err();
        let AcceptError::TicketNotYetValid { offset: Some(ClockOffset::Ahead(by)), .. } = &error else {
            panic!("{error:?}")
        };
        assert!((590..=600).contains(&by.as_secs()), "{by:?}");
        assert!(error.cause().contains(" is not valid yet, and the client's clock is 59") || error.cause().contains("600 seconds ahead of it"), "{}", error.cause());
        assert!(error.mend().contains("NTP"));
        move_clock(60);
        accept(&acceptor, &token).unwrap();
    }

    fn a_stricter_clock_skew_than_libkrb5s_is_kept_to() {
        let realm = realm();
        let strict = strict(&realm, 60).unwrap();
        let lax = acceptor(&realm);
        let token = Client::grace(&realm).token();
        accept(&strict, &token).unwrap();
        move_clock(30);
        accept(&strict, &token).unwrap();
        move_clock(120);
        accept(&lax, &token).unwrap();
        let error = accept(&strict, &token).unwrap_err();
        assert_behind(&error, 120);
        assert!(error.cause().contains(", and the configuration allows 60 seconds"), "{}", error.cause());
        // The other way round: a token of two minutes ahead.
        let ahead = Client::grace(&realm).token();
        move_clock(0);
        let error = accept(&strict, &ahead).unwrap_err();
        let AcceptError::ClockSkew { offset: Some(ClockOffset::Ahead(by)), .. } = error else {
            panic!("{error:?}")
        };
        assert!((100..=120).contains(&by.as_secs()), "{by:?}");
    }

    fn a_clock_skew_is_bounded_by_krb5_conf() {
        let realm = realm();
        assert_eq!(library_clock_skew().unwrap(), Duration::from_secs(300));
        strict(&realm, 300).unwrap();
        let error = strict(&realm, 301).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the clock skew of 301 s is more than libkrb5 on this host allows (300 s): \
             set clockskew in [libdefaults] of its krb5.conf first"
        );
    }

    fn a_clock_skew_that_krb5_conf_says_is_kept_to() {
        let realm = realm();
        configure(&format!("[libdefaults]\nclockskew = 120\ninclude {}\n", realm.krb5_conf().display()));
        assert_eq!(library_clock_skew().unwrap(), Duration::from_secs(120));
        assert!(matches!(strict(&realm, 200), Err(AcceptorError::ClockSkew { .. })));
        let token = Client::grace(&realm).token();
        let acceptor = acceptor(&realm);
        assert_eq!(acceptor.clock_skew(), Duration::from_secs(120));
        move_clock(100);
        accept(&acceptor, &token).unwrap();
        move_clock(200);
        assert_behind(&accept(&acceptor, &token).unwrap_err(), 200);
    }

    /// `replay`: marks of used requests are kept for as long as the acceptor allows, so it must not
    /// come to allow more.
    fn replay_a_clock_skew_that_is_raised_later_does_not_count() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let token = Client::grace(&realm).token();
        accept(&acceptor, &token).unwrap();
        move_clock(400);
        let allowed = || match accept(&acceptor, &token) {
            Err(AcceptError::ClockSkew { allowed, .. }) => allowed,
            Err(other) => panic!("{other:?}"),
            // libkrb5 has seen the new configuration, and the acceptor looks once a second.
            Ok(_) => None,
        };
        assert_eq!(allowed(), None);
        configure(&format!("[libdefaults]\nclockskew = 3600\ninclude {}\n", realm.krb5_conf().display()));
        let deadline = Instant::now() + Duration::from_secs(20);
        while allowed().is_none() {
            assert!(Instant::now() < deadline, "the new configuration was never read");
        }
        assert_eq!(allowed(), Some(Duration::from_secs(300)));
        assert_eq!(library_clock_skew().unwrap(), Duration::from_secs(300));
        accept(&acceptor, &Client::grace(&realm).token()).unwrap();
    }

    fn an_expired_ticket_is_named_by_a_clock_that_moved_on() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let token = Client::grace(&realm).token();
        move_clock(11 * 3600);
        let error = accept(&acceptor, &token).unwrap_err();
        let AcceptError::TicketExpired { offset: Some(ClockOffset::Behind(by)), .. } = &error else {
            panic!("{error:?}")
        };
        assert!(by.as_secs() >= 11 * 3600, "{by:?}");
        assert!(error.cause().contains(" has expired, and the client's clock is 3960"), "{}", error.cause());
        assert!(error.mend().contains("NTP"));
    }

    fn an_expired_ticket_in_a_new_request_is_not_the_clocks_fault() {
        let realm = realm();
        let token = Client::grace(&realm).token();
        let old = common::forge::with_end(&token, &keytab(&realm), "20200101000000Z");
        let error = accept(&acceptor(&realm), &old).unwrap_err();
        assert_eq!(
            error.cause(),
            "the ticket for HTTP/localhost@EXAMPLE.COM (kvno 1, aes256-cts-hmac-sha1-96) has expired"
        );
        assert!(error.mend().contains("kinit"));
    }

    /// Anonymous PKINIT (RFC 8062): the KDC gives a ticket to whoever asks, under a name that is
    /// nobody's.
    fn an_anonymous_client_is_refused() {
        let realm = realm();
        let certificate = serve_anonymous(&realm);
        let anchors = format!("X509_anchors=FILE:{}", certificate.display());
        let ccache = realm.kinit_with(&["-n", "-X", &anchors], "@EXAMPLE.COM", "").unwrap();
        let initiator = Initiator::from_ccache(Some(ccache.path())).unwrap();
        let (token, _) = initiator.negotiate(SPN, None).unwrap();
        assert_eq!(accept(&acceptor(&realm), &token).unwrap_err(), AcceptError::Anonymous);
    }

    fn an_altered_authenticator_or_ticket_is_refused() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let token = Client::grace(&realm).token();
        let parsed = NegotiateToken::parse(&token).unwrap();
        let cipher = ApRequest::parse(parsed.kerberos().unwrap()).unwrap().authenticator;
        let authenticator = cipher.as_ptr() as usize - token.as_ptr() as usize;
        // The last byte of the authenticator, and one in the middle of the ticket.
        for place in [authenticator + cipher.len() - 1, authenticator - 200] {
            let mut altered = token.clone();
            altered[place] ^= 0x10;
            let error = accept(&acceptor, &altered).unwrap_err();
            assert!(matches!(error, AcceptError::NoMatchingKey { .. } | AcceptError::Altered { .. }), "{error:?}");
        }
    }

    /// `ntlm-downgrade`
    fn ntlm_downgrade_ntlm_and_garbage_never_reach_the_library() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let ntlm = b"NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let error = accept(&acceptor, ntlm).unwrap_err();
        assert!(error.is_ntlm());
        assert_eq!(error.cause(), "the client sent NTLM");
        for garbage in [&b""[..], b"x", &[0x60], &[0x60, 0x84, 0xff, 0xff, 0xff, 0xff], &[0xa1, 0x00], &[0x6e, 0x00]] {
            let error = accept(&acceptor, garbage).unwrap_err();
            assert!(matches!(error, AcceptError::Token(_)), "{error:?}");
        }
    }

    fn a_type_that_libkrb5_does_not_permit_points_at_its_configuration() {
        let realm = realm();
        realm.change_enctypes(SERVICE, &["aes128-cts-hmac-sha1-96"]).unwrap();
        realm.kadmin(&["setstr", SERVICE, "session_enctypes", "aes256-cts-hmac-sha1-96"]).unwrap();
        let acceptor = acceptor(&realm);
        let token = Client::grace(&realm).token();
        accept(&acceptor, &token).unwrap();

        permit(&realm, "aes128-cts-hmac-sha1-96");
        let error = settled_refusal(&acceptor, &token);
        assert!(matches!(error, AcceptError::EnctypeNotPermitted { .. }), "{error:?}");
        assert!(error.mend().contains("permitted_enctypes"));
    }

    fn a_ticket_of_a_type_that_libkrb5_does_not_permit_points_there_too() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let token = Client::grace(&realm).token();
        accept(&acceptor, &token).unwrap();
        permit(&realm, "aes128-cts-hmac-sha1-96");
        let error = settled_refusal(&acceptor, &token);
        assert!(matches!(error, AcceptError::NoMatchingKey { mismatch: Mismatch::Key { .. }, .. }), "{error:?}");
        assert!(error.mend().contains("permitted_enctypes"));
    }
}

fn permit(realm: &MitRealm, enctype: &str) {
    configure(&format!(
        "[libdefaults]\npermitted_enctypes = {enctype}\ninclude {}\n",
        realm.krb5_conf().display()
    ));
}

fn strict(realm: &MitRealm, seconds: u64) -> Result<Acceptor, AcceptorError> {
    let options = AcceptorOptions {
        clock_skew: Some(Duration::from_secs(seconds)),
        ..AcceptorOptions::default()
    };
    Acceptor::new(&keytab(realm), options)
}

/// The test itself takes some seconds.
fn assert_behind(error: &AcceptError, seconds: u64) {
    let AcceptError::ClockSkew {
        offset: Some(ClockOffset::Behind(by)),
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert!((seconds..seconds + 10).contains(&by.as_secs()), "{by:?}");
}

/// libkrb5 looks at the time of its configuration once a second.
fn settled_refusal(acceptor: &Acceptor, token: &[u8]) -> AcceptError {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match accept(acceptor, token) {
            // While one is at work, libkrb5 may read the old configuration first and then the new one.
            Err(_) => return accept(acceptor, token).unwrap_err(),
            Ok(_) => assert!(
                Instant::now() < deadline,
                "the new configuration was never read"
            ),
        }
    }
}

/// Gives the KDC a certificate, and anonymous clients a principal. Returns the certificate.
fn serve_anonymous(realm: &MitRealm) -> PathBuf {
    let config = scratch().join("openssl.conf");
    // The name and the purpose that RFC 4556 section 3.2.4 asks of a KDC's certificate.
    let text = "[req]\n\
        distinguished_name = name\n\
        [name]\n\
        [kdc]\n\
        basicConstraints = CA:TRUE\n\
        extendedKeyUsage = 1.3.6.1.5.2.3.5\n\
        subjectAltName = otherName:1.3.6.1.5.2.2;SEQUENCE:krbtgt\n\
        [krbtgt]\n\
        realm = EXP:0,GeneralString:EXAMPLE.COM\n\
        principal = EXP:1,SEQUENCE:principal\n\
        [principal]\n\
        type = EXP:0,INTEGER:1\n\
        names = EXP:1,SEQUENCE:names\n\
        [names]\n\
        first = GeneralString:krbtgt\n\
        second = GeneralString:EXAMPLE.COM\n";
    std::fs::write(&config, text).unwrap();
    let (key, certificate) = (scratch().join("kdc.key"), scratch().join("kdc.pem"));
    let openssl = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=kdc",
        ])
        .args(["-extensions", "kdc", "-config"])
        .arg(&config)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(openssl.status.success(), "{openssl:?}");
    realm
        .kadmin(&["addprinc", "-randkey", "WELLKNOWN/ANONYMOUS"])
        .unwrap();
    realm.stop_kdc().unwrap();
    let kdc_conf = realm.dir().join("kdc.conf");
    let certified = format!(
        "max_life = 36000s\n\t\tpkinit_identity = FILE:{certificate},{key}\n\t\tpkinit_anchors = FILE:{certificate}",
        certificate = certificate.display(),
        key = key.display()
    );
    let text = std::fs::read_to_string(&kdc_conf).unwrap();
    assert!(text.contains("max_life = 36000s"));
    std::fs::write(&kdc_conf, text.replace("max_life = 36000s", &certified)).unwrap();
    realm.start_kdc().unwrap();
    certificate
}

/// The type of GSSAPI's checksum (RFC 4121 section 4.1.1).
const GSSAPI: u16 = 0x8003;
/// KERB-AP-OPTIONS (MS-KILE section 2.2.5).
const AP_OPTIONS: u8 = 143;
