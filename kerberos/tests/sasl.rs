//! SASL GSSAPI (RFC 4752) against MIT's own acceptor: what is agreed on, what is protected, and what
//! is refused.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use libgssapi::context::{CtxFlags, SecurityContext, ServerCtx};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::oid::{GSS_MECH_KRB5, OidSet};
use obol_kerberos::SecurityLayer::{Confidentiality, Integrity, None as Open};
use obol_kerberos::*;
use obol_testbed::MitRealm;

own_process! {
    fn the_best_layer_that_both_want_is_taken() {
        let realm = realm();
        let robot = robot(&realm);
        for (wanted, offered, agreed) in [
            (&[Confidentiality, Integrity, Open][..], 7, Confidentiality),
            (&[Confidentiality, Integrity], 3, Integrity),
            (&[Confidentiality, Integrity, Open], 1, Open),
            (&[Open], 7, Open),
            (&[Integrity], 7, Integrity),
        ] {
            let (client, server) = login(&robot, wanted, offered, 0x10000).unwrap();
            assert_eq!(client.layer(), Some(agreed));
            assert!(client.is_complete());
            // One layer alone, our buffer's size, and no authorization identity.
            let answer = server.answer.clone().unwrap();
            assert_eq!(answer.len(), 4);
            assert_eq!(answer[0], match agreed { Open => 1, Integrity => 2, Confidentiality => 4 });
            let size = u32::from_be_bytes([0, answer[1], answer[2], answer[3]]) as usize;
            assert_eq!(size, if agreed == Open { 0 } else { SaslClient::MAX_WRAPPED });
            let flags = server.context.flags().unwrap();
            assert!(flags.contains(CtxFlags::GSS_C_MUTUAL_FLAG));
            assert_eq!(server.context.source_name().unwrap().to_string(), "robot@EXAMPLE.COM");
        }
    }

    fn a_server_that_offers_too_little_gets_no_login() {
        let realm = realm();
        let robot = robot(&realm);
        for (wanted, offered, size) in [
            (&[Confidentiality][..], 3, 0x10000),
            (&[Confidentiality, Integrity], 1, 0x10000),
            (&[Open], 6, 0x10000),
            (&[Confidentiality], 7, 0),
            (&[], 7, 0x10000),
        ] {
            let error = login(&robot, wanted, offered, size).map(drop).unwrap_err();
            assert!(matches!(error, InitiateError::NoSecurityLayer { .. }), "{error:?}");
        }
        let error = login(&robot, &[Confidentiality], 1, 0x10000).map(drop).unwrap_err();
        assert_eq!(
            error.to_string(),
            "HTTP/localhost@EXAMPLE.COM offers [None] for the connection, and none of it is wanted here"
        );
        assert!(error.mend().contains("ldaps://"));
    }

    fn messages_travel_under_the_layer() {
        let realm = realm();
        let robot = robot(&realm);
        for layer in [Integrity, Confidentiality] {
            let (mut client, mut server) = login(&robot, &[layer], 7, 0x10000).unwrap();
            for message in [&b"a search"[..], b"", &[7; 60_000]] {
                let wrapped = client.wrap(message).unwrap();
                assert!(wrapped.len() <= 0x10000);
                let readable = !message.is_empty() && wrapped.windows(message.len()).any(|window| window == message);
                assert_eq!(readable, layer == Integrity && !message.is_empty());
                assert_eq!(&*server.context.unwrap(&wrapped).unwrap(), message);
                let wrapped = server.context.wrap(layer == Confidentiality, message).unwrap();
                assert_eq!(client.unwrap(&wrapped).unwrap(), message);
            }
        }
        // It may move to another thread.
        let (client, _) = login(&robot, &[Confidentiality], 7, 0x10000).unwrap();
        std::thread::spawn(move || drop(client)).join().unwrap();
    }

    fn a_message_that_does_not_fit_the_servers_buffer_is_refused() {
        let realm = realm();
        let robot = robot(&realm);
        for layer in [Integrity, Confidentiality] {
            for size in [200, 4096, 0x10000, 0xff_ffff] {
                let (mut client, _) = login(&robot, &[layer], 7, size).unwrap();
                let most = client.max_message();
                assert!(most > 0 && most < size as usize);
                assert!(client.wrap(&vec![0; most]).unwrap().len() <= size as usize);
                let error = client.wrap(&vec![0; most + 1]).unwrap_err();
                assert!(matches!(error, InitiateError::MessageTooLarge { .. }), "{error:?}");
            }
            let error = login(&robot, &[layer], 7, 10).map(drop).unwrap_err();
            assert!(matches!(error, InitiateError::Sasl { .. }), "{error:?}");
        }
        let (mut client, _) = login(&robot, &[Confidentiality], 7, 4096).unwrap();
        let error = client.unwrap(&vec![0; SaslClient::MAX_WRAPPED + 1]).unwrap_err();
        assert!(matches!(error, InitiateError::MessageTooLarge { .. }), "{error:?}");
    }

    fn what_was_altered_repeated_reordered_or_left_open_is_refused() {
        let realm = realm();
        let robot = robot(&realm);
        let begin = || login(&robot, &[Confidentiality], 7, 0x10000).unwrap();
        let refused = |client: &mut SaslClient, message: &[u8]| {
            let error = client.unwrap(message).unwrap_err();
            assert!(matches!(error, InitiateError::Sasl { .. }), "{error:?}");
        };
        let (mut client, mut server) = begin();
        let mut message = server.context.wrap(true, b"members").unwrap().to_vec();
        *message.last_mut().unwrap() ^= 1;
        refused(&mut client, &message);

        let (mut client, mut server) = begin();
        let message = server.context.wrap(true, b"members").unwrap();
        client.unwrap(&message).unwrap();
        refused(&mut client, &message);

        let (mut client, mut server) = begin();
        let _lost = server.context.wrap(true, b"members").unwrap();
        let second = server.context.wrap(true, b"members").unwrap();
        refused(&mut client, &second);

        let (mut client, mut server) = begin();
        refused(&mut client, &server.context.wrap(false, b"members").unwrap());

        let (mut client, _) = begin();
        let (_, mut other) = begin();
        refused(&mut client, &other.context.wrap(true, b"members").unwrap());
        refused(&mut client, b"");
    }

    fn a_conversation_in_the_wrong_order_is_refused() {
        let realm = realm();
        let robot = robot(&realm);
        let start = || robot.sasl(SPN, &[Confidentiality], None).unwrap();
        let refused = |result: Result<Vec<u8>, InitiateError>| {
            let error = result.unwrap_err();
            assert!(matches!(error, InitiateError::Sasl { .. } | InitiateError::NotMutual { .. }), "{error:?}");
        };
        refused(start().step(Some(b"challenge")));
        for answer in [None, Some(&b""[..]), Some(b"garbage")] {
            let mut client = start();
            client.step(None).unwrap();
            refused(client.step(answer));
            assert!(!client.is_complete());
            // A login that has failed stays so.
            refused(client.step(None));
        }
        let mut client = start();
        client.step(None).unwrap();
        refused(client.wrap(b"early"));
        refused(client.unwrap(b"early"));
        let (mut client, _) = login(&robot, &[Confidentiality], 7, 0x10000).unwrap();
        refused(client.step(Some(b"more")));
        let (mut client, _) = login(&robot, &[Open], 7, 0x10000).unwrap();
        refused(client.wrap(b"no layer"));
        // An offer of the wrong size, or one that is not signed.
        for offer in [Some(&b"\x07\0\x10"[..]), Some(b"\x07\0\x10\0\0"), Some(b""), None] {
            let (mut client, mut server) = (start(), Server::new());
            let reply = server.context.step(&client.step(None).unwrap(), None).unwrap().unwrap();
            assert_eq!(client.step(Some(&reply)).unwrap(), b"");
            let offer = match offer {
                Some(offer) => server.context.wrap(false, offer).unwrap().to_vec(),
                None => b"\x07\0\x10\0".to_vec(),
            };
            refused(client.step(Some(&offer)));
        }
    }

    fn a_login_is_bound_to_its_tls_connection() {
        let realm = realm();
        let robot = robot(&realm);
        let ours = ChannelBindings::tls_server_end_point(b"our certificate", CertificateHash::Sha256);
        let theirs = ChannelBindings::tls_server_end_point(b"a relay's certificate", CertificateHash::Sha256);
        for (sent, fine) in [(Some(&ours), true), (Some(&theirs), false)] {
            let mut client = robot.sasl(SPN, &[Open], sent).unwrap();
            let token = client.step(None).unwrap();
            let mut server = Server::new();
            assert_eq!(server.context.step(&token, Some(ours.as_bytes())).is_ok(), fine);
        }
    }

    fn a_service_that_the_kdc_does_not_know_is_named() {
        let realm = realm();
        let robot = robot(&realm);
        let error = robot.sasl("ldap/nowhere@EXAMPLE.COM", &[Open], None).unwrap().step(None).unwrap_err();
        assert!(matches!(error, InitiateError::UnknownService { .. }), "{error:?}");
        let error = robot.sasl("ldap/a@b@c", &[Open], None).unwrap_err();
        assert!(matches!(error, InitiateError::BadName { .. }), "{error:?}");
    }
}

fn robot(realm: &MitRealm) -> Initiator {
    realm.add_service("robot").unwrap();
    let keytab = Keytab::parse(&realm.keytab(&["robot"]).unwrap()).unwrap();
    std::fs::write(
        scratch().join("default.keytab"),
        realm.keytab(&[SERVICE]).unwrap(),
    )
    .unwrap();
    Initiator::from_keytab_bytes(&keytab, None).unwrap()
}

/// The other side: MIT's acceptor, and the offer of RFC 4752 section 3.2.
struct Server {
    context: ServerCtx,
    answer: Option<Vec<u8>>,
}

impl Server {
    fn new() -> Self {
        let mut mechs = OidSet::new();
        mechs.add(GSS_MECH_KRB5).unwrap();
        let credential = Cred::acquire(None, None, CredUsage::Accept, Some(&mechs)).unwrap();
        Self {
            context: ServerCtx::new(Some(credential)),
            answer: None,
        }
    }
}

fn login(
    robot: &Initiator,
    wanted: &[SecurityLayer],
    offered: u8,
    size: u32,
) -> Result<(SaslClient, Server), InitiateError> {
    let mut client = robot.sasl(SPN, wanted, None)?;
    let mut server = Server::new();
    let token = client.step(None)?;
    let reply = server.context.step(&token, None).unwrap().unwrap();
    assert_eq!(client.step(Some(&reply))?, b"");
    assert!(!client.is_complete());
    let [_, size @ ..] = size.to_be_bytes();
    let offer = [offered, size[0], size[1], size[2]];
    let offer = server.context.wrap(false, &offer).unwrap();
    let answer = client.step(Some(&offer))?;
    server.answer = Some(server.context.unwrap(&answer).unwrap().to_vec());
    Ok((client, server))
}
