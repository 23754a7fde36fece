//! Accepting real tickets from a real MIT KDC: what an accepted request tells.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::SystemTime;

use common::*;
use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext, ServerCtx};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_KRB5, GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE, OidSet};
use obol_kerberos::*;
use obol_testbed::{CCache, KeepOldKeys, Keytab as RawKeytab, MitOptions, MitRealm};

own_process! {
    fn a_ticket_logs_in_and_the_server_proves_itself() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let grace = Client::grace(&realm);
        let (token, negotiation) = grace.initiator.negotiate(SPN, None).unwrap();
        let accepted = acceptor.accept(&token, None).unwrap();
        assert_eq!(accepted.client.to_string(), "grace@EXAMPLE.COM");
        assert_eq!(accepted.target.to_string(), SPN);
        assert_eq!(accepted.ticket_service.to_string(), SPN);
        assert_eq!(accepted.ticket_enctype, Enctype::Aes256Sha1);
        assert_eq!(accepted.session_enctype, Enctype::Aes256Sha1);
        assert_eq!(accepted.ticket_kvno, Some(1));
        assert_eq!(accepted.authenticator_digest, authenticator_digest(&token).unwrap());
        assert!(accepted.flags.mutual() && accepted.flags.integrity());
        assert!(!accepted.flags.delegation() && !accepted.channel_bound);
        let lives = accepted.expires.duration_since(SystemTime::now()).unwrap().as_secs();
        assert!((9 * 3600..11 * 3600).contains(&lives), "{lives}");
        negotiation.finish(&accepted.reply.unwrap()).unwrap();
    }

    fn an_altered_or_foreign_answer_does_not_prove_the_server() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let grace = Client::grace(&realm);
        let answer_to = |token: &[u8]| accept(&acceptor, token).unwrap().reply.unwrap();

        let (token, negotiation) = grace.initiator.negotiate(SPN, None).unwrap();
        let mut altered = answer_to(&token);
        *altered.last_mut().unwrap() ^= 1;
        let error = negotiation.finish(&altered).unwrap_err();
        assert!(matches!(error, InitiateError::NotMutual { .. }), "{error}");

        let (_, negotiation) = grace.initiator.negotiate(SPN, None).unwrap();
        let error = negotiation.finish(&answer_to(&grace.token())).unwrap_err();
        assert!(matches!(error, InitiateError::NotMutual { .. }), "{error}");

        let (_, negotiation) = grace.initiator.negotiate(SPN, None).unwrap();
        assert!(matches!(negotiation.finish(b"garbage"), Err(InitiateError::Reply(_))));
    }

    fn mits_own_spnego_client_is_accepted_and_believes_the_answer() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        for mech in [GSS_MECH_SPNEGO, GSS_MECH_KRB5] {
            for flags in [CtxFlags::GSS_C_MUTUAL_FLAG, CtxFlags::empty()] {
                let mut client = mit_client(&realm, mech, flags);
                let token = client.step(None, None).unwrap().unwrap();
                let accepted = accept(&acceptor, &token).unwrap();
                assert_eq!(accepted.client.to_string(), "grace@EXAMPLE.COM");
                assert_eq!(accepted.flags.mutual(), !flags.is_empty());
                match accepted.reply {
                    Some(reply) => assert!(client.step(Some(&reply), None).unwrap().is_none()),
                    None => assert!(mech == GSS_MECH_KRB5 && flags.is_empty()),
                }
                assert!(client.is_complete());
            }
        }
    }

    fn mits_own_spnego_acceptor_takes_our_token_and_is_believed() {
        let realm = realm();
        std::fs::write(scratch().join("default.keytab"), realm.keytab(&[SERVICE]).unwrap()).unwrap();
        let grace = Client::grace(&realm);
        let (token, negotiation) = grace.initiator.negotiate("HTTP@localhost", None).unwrap();
        let mut mechs = OidSet::new();
        mechs.add(GSS_MECH_SPNEGO).unwrap();
        let credential = Cred::acquire(None, None, CredUsage::Accept, Some(&mechs)).unwrap();
        let mut server = ServerCtx::new(Some(credential));
        let reply = server.step(&token, None).unwrap().unwrap();
        assert!(server.is_complete());
        assert_eq!(server.source_name().unwrap().to_string(), "grace@EXAMPLE.COM");
        negotiation.finish(&reply).unwrap();
    }

    fn a_keytab_with_the_account_alone_opens_tickets_for_its_spns() {
        // As Active Directory has it: the key is the account's, whatever name the client asked for.
        let realm = realm();
        let mut raw = RawKeytab::parse(&realm.keytab(&[SERVICE]).unwrap()).unwrap();
        for entry in &mut raw.entries {
            entry.components = vec!["vault_svc".to_owned()];
        }
        let keytab = Keytab::parse(&raw.to_bytes()).unwrap();
        let keytab = keytab.for_service_account("vault_svc", false).unwrap();
        let acceptor = Acceptor::new(&keytab, AcceptorOptions::default()).unwrap();
        let (token, negotiation) = Client::grace(&realm).initiator.negotiate(SPN, None).unwrap();
        let accepted = acceptor.accept(&token, None).unwrap();
        assert_eq!(accepted.client.to_string(), "grace@EXAMPLE.COM");
        assert_eq!(accepted.target.to_string(), "vault_svc@EXAMPLE.COM");
        assert_eq!(accepted.ticket_service.to_string(), SPN);
        negotiation.finish(&accepted.reply.unwrap()).unwrap();
    }

    fn an_account_found_by_removing_instances_opens_its_tickets() {
        let realm = realm();
        let keytab = keytab(&realm).for_service_account("HTTP", true).unwrap();
        let acceptor = Acceptor::new(&keytab, AcceptorOptions::default()).unwrap();
        assert_eq!(accept(&acceptor, &Client::grace(&realm).token()).unwrap().target.to_string(), SPN);
    }

    fn two_key_versions_in_one_keytab_work_through_a_rotation() {
        let realm = realm();
        let grace = Client::grace(&realm);
        let before = grace.token();
        realm.change_key(SERVICE, KeepOldKeys::Yes).unwrap();
        let acceptor = acceptor(&realm);
        assert_eq!(accept(&acceptor, &before).unwrap().ticket_kvno, Some(1));
        assert_eq!(accept(&acceptor, &Client::grace(&realm).token()).unwrap().ticket_kvno, Some(2));
    }

    fn instances_and_odd_letters_of_the_client_are_kept_apart() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        for (name, components) in [
            ("grace/admin", &["grace", "admin"][..]),
            (r"at\@sign", &["at@sign"]),
            ("jürgen müller", &["jürgen müller"]),
        ] {
            realm.add_principal(name, PASSWORD).unwrap();
            let login = Client::login(&realm, name, PASSWORD);
            let token = login.token();
            let client = accept(&acceptor, &token).unwrap().client;
            assert_eq!(client.components(), components);
            assert_eq!(client.to_string(), format!("{name}@EXAMPLE.COM"));
        }
    }

    /// `realm-confusion`
    fn realm_confusion_a_client_of_a_trusted_realm_keeps_its_realm() {
        let home = realm();
        let other = MitRealm::start(MitOptions::realm("OTHER.COM")).unwrap();
        other.add_principal("grace", PASSWORD).unwrap();
        home.trust(&other).unwrap();
        let visitor = Client::login(&other, "grace", PASSWORD);
        let accepted = accept(&acceptor(&home), &visitor.token()).unwrap();
        assert_eq!(accepted.client.to_string(), "grace@OTHER.COM");
        assert_eq!(accepted.ticket_service.realm(), "EXAMPLE.COM");
    }

    fn channel_bindings_are_ignored_accepted_or_required() {
        let realm = realm();
        let grace = Client::grace(&realm);
        let [none, ignore, accept, require] = [None, Some(BindingMode::Ignore), Some(BindingMode::Accept), Some(BindingMode::Require)].map(|mode| {
            let options = match mode {
                Some(channel_bindings) => AcceptorOptions { channel_bindings, ..AcceptorOptions::default() },
                None => AcceptorOptions::default(),
            };
            Acceptor::new(&keytab(&realm), options).unwrap()
        });
        let ours = ChannelBindings::tls_server_end_point(b"our certificate", CertificateHash::Sha256);
        let theirs = ChannelBindings::tls_server_end_point(b"a relay's certificate", CertificateHash::Sha256);
        let token = |bindings| grace.initiator.negotiate(SPN, bindings).unwrap().0;
        let bound = |acceptor: &Acceptor, sent, own| acceptor.accept(&token(sent), own).map(|accepted| accepted.channel_bound);
        let (ours, theirs) = (Some(&ours), Some(&theirs));

        for sent in [ours, theirs, None] {
            assert_eq!(bound(&ignore, sent, ours), Ok(false));
            assert_eq!(bound(&ignore, sent, None), Ok(false));
        }
        // The default is to accept.
        for accept in [&none, &accept] {
            assert_eq!(bound(accept, ours, ours), Ok(true));
            assert_eq!(bound(accept, None, ours), Ok(false));
            assert_eq!(bound(accept, ours, None), Ok(false));
            let relayed = bound(accept, theirs, ours).unwrap_err();
            assert!(matches!(relayed, AcceptError::ChannelBindings { .. }), "{relayed:?}");
        }
        assert_eq!(bound(&require, ours, ours), Ok(true));
        let relayed = bound(&require, theirs, ours).unwrap_err();
        assert!(matches!(relayed, AcceptError::ChannelBindings { .. }), "{relayed:?}");
        let unbound = bound(&require, None, ours).unwrap_err();
        assert!(matches!(unbound, AcceptError::NotBound { .. }), "{unbound:?}");
        for sent in [ours, None] {
            let nothing = bound(&require, sent, None).unwrap_err();
            assert!(matches!(nothing, AcceptError::NothingToBind { .. }), "{nothing:?}");
        }
    }

    fn mits_own_client_is_bound_as_ours_is() {
        let realm = realm();
        let options = AcceptorOptions { channel_bindings: BindingMode::Require, ..AcceptorOptions::default() };
        let acceptor = Acceptor::new(&keytab(&realm), options).unwrap();
        let ours = ChannelBindings::tls_server_end_point(b"our certificate", CertificateHash::Sha384);
        let mut client = mit_client(&realm, GSS_MECH_SPNEGO, CtxFlags::empty());
        let token = client.step(None, Some(ours.as_bytes())).unwrap().unwrap();
        assert!(acceptor.accept(&token, Some(&ours)).unwrap().channel_bound);
    }

    /// `replay`: refused by whoever keeps the digests; here they must be the same for the same
    /// request.
    fn replay_a_replay_has_the_same_digest_in_every_frame_and_a_new_request_another() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let grace = Client::grace(&realm);
        let token = grace.token();
        let first = accept(&acceptor, &token).unwrap();
        let again = accept(&acceptor, &token).unwrap();
        assert_eq!(first.authenticator_digest, again.authenticator_digest);

        let parsed = NegotiateToken::parse(&token).unwrap();
        let bare = parsed.kerberos().unwrap();
        let unframed = accept(&acceptor, bare).unwrap();
        assert_eq!(first.authenticator_digest, unframed.authenticator_digest);
        let reframed = accept(&acceptor, &spnego_with_ntlm_offered(bare)).unwrap();
        assert_eq!(first.authenticator_digest, reframed.authenticator_digest);

        let fresh = accept(&acceptor, &grace.token()).unwrap();
        assert_ne!(first.authenticator_digest, fresh.authenticator_digest);
        assert!(files(&scratch()).iter().all(|file| !file.to_string_lossy().contains("rcache")));
    }

    fn a_forwarded_ticket_is_reported_and_not_kept() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let ccache = realm.kinit_with(&["-f"], "grace", PASSWORD).unwrap();
        let mut client = mit_client_with(&ccache, GSS_MECH_SPNEGO, CtxFlags::GSS_C_DELEG_FLAG);
        let token = client.step(None, None).unwrap().unwrap();
        assert!(accept(&acceptor, &token).unwrap().flags.delegation());
    }

    /// `keytab-readback`: the keys lie in memory alone.
    fn keytab_readback_the_keytab_is_never_in_a_file() {
        let realm = realm();
        let keytab = keytab(&realm);
        let workplace = scratch().join("work");
        std::fs::create_dir(&workplace).unwrap();
        std::env::set_current_dir(&workplace).unwrap();
        let token = Client::grace(&realm).token();
        let acceptor = Acceptor::new(&keytab, AcceptorOptions::default()).unwrap();
        accept(&acceptor, &token).unwrap();

        let key = keytab.entries()[0].key();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|fd| fd.path());
        // Not pipes and terminals, which nothing can be read from without waiting for it.
        let open = open.filter(|fd| fd.metadata().is_ok_and(|file| file.is_file()));
        for file in files(&scratch()).into_iter().chain(open) {
            let Ok(bytes) = std::fs::read(&file) else { continue };
            assert!(!bytes.windows(key.len()).any(|window| window == key), "{}", file.display());
        }
        assert!(!format!("{acceptor:?}").contains("EXAMPLE.COM"));
    }

    /// `keytab-readback`: and they leave it with the last owner.
    fn keytab_readback_no_copy_of_a_key_outlives_the_acceptor() {
        let realm = realm();
        let keytab = keytab(&realm);
        // The key in other words, so that looking for it is not what is found.
        let masked: Vec<u8> = keytab.entries()[0].key().iter().map(|byte| byte ^ MASK).collect();
        let tokens: Vec<Vec<u8>> = (0..8).map(|_| Client::grace(&realm).token()).collect();
        let before = copies_in_memory(&masked);
        let acceptor = Acceptor::new(&keytab, AcceptorOptions::default()).unwrap();
        let clone = acceptor.clone();
        for token in &tokens {
            accept(&acceptor, token).unwrap();
        }
        assert!(copies_in_memory(&masked) > before);
        drop(acceptor);
        accept(&clone, &tokens[0]).unwrap();
        drop(clone);
        assert_eq!(copies_in_memory(&masked), before);
    }

    fn tickets_are_accepted_where_core_dumps_are_off() {
        // Then /proc belongs to root, whoever runs the process.
        let realm = realm();
        let token = Client::grace(&realm).token();
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).unwrap();
        accept(&acceptor(&realm), &token).unwrap();
    }

    fn eight_threads_accept_in_parallel() {
        let realm = realm();
        let options = AcceptorOptions {
            decode_pac: true,
            clock_skew: Some(std::time::Duration::from_secs(200)),
            ..AcceptorOptions::default()
        };
        let acceptor = Acceptor::new(&keytab(&realm), options).unwrap();
        let grace = Client::grace(&realm);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let tokens: Vec<Vec<u8>> = (0..25).map(|_| grace.token()).collect();
                let acceptor = &acceptor;
                scope.spawn(move || {
                    for token in tokens {
                        let accepted = accept(acceptor, &token).unwrap();
                        assert_eq!(accepted.client.to_string(), "grace@EXAMPLE.COM");
                    }
                });
            }
        });
    }

    fn acceptors_come_and_go_on_one_thread() {
        let realm = realm();
        realm.add_service("HTTP/second").unwrap();
        let grace = Client::grace(&realm);
        let second = realm.keytab(&["HTTP/second"]).unwrap();
        for _ in 0..20 {
            let (first, second) = (acceptor(&realm), acceptor_of(&second));
            accept(&first, &grace.token()).unwrap();
            let error = accept(&second, &grace.token()).unwrap_err();
            assert!(matches!(error, AcceptError::NoMatchingKey { .. }), "{error:?}");
        }
    }
}

fn mit_client(realm: &MitRealm, mech: libgssapi::oid::Oid<'static>, flags: CtxFlags) -> ClientCtx {
    mit_client_with(&realm.kinit("grace", PASSWORD).unwrap(), mech, flags)
}

/// A client that goes through the library's own SPNEGO, on the default ticket cache of this
/// process.
fn mit_client_with(
    ccache: &CCache,
    mech: libgssapi::oid::Oid<'static>,
    flags: CtxFlags,
) -> ClientCtx {
    std::fs::copy(ccache.path(), scratch().join("default.ccache")).unwrap();
    let target = Name::new(b"HTTP@localhost", Some(GSS_NT_HOSTBASED_SERVICE)).unwrap();
    ClientCtx::new(None, target, flags, Some(mech))
}

/// The same Kerberos token in a frame that offers NTLM as well.
fn spnego_with_ntlm_offered(mech_token: &[u8]) -> Vec<u8> {
    let tlv = |tag: u8, value: &[u8]| {
        let mut out = vec![tag, 0x82];
        match value.len() {
            short @ 0..0x80 => out[1] = short as u8,
            mid @ 0x80..0x100 => {
                out[1] = 0x81;
                out.push(mid as u8);
            }
            long => out.extend([(long >> 8) as u8, long as u8]),
        }
        out.extend(value);
        out
    };
    let mechs = tlv(
        0x30,
        b"\x06\x09\x2a\x86\x48\x82\xf7\x12\x01\x02\x02\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a",
    );
    let fields = [tlv(0xa0, &mechs), tlv(0xa2, &tlv(0x04, mech_token))].concat();
    let body = [
        b"\x06\x06\x2b\x06\x01\x05\x05\x02".to_vec(),
        tlv(0xa0, &tlv(0x30, &fields)),
    ]
    .concat();
    tlv(0x60, &body)
}

/// How often some bytes, each combined with [`MASK`], lie in the memory that this process may write.
fn copies_in_memory(masked: &[u8]) -> usize {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut copies = 0;
    // What is read must not be found again: it is put in place of itself, each time in the same.
    let mut buffer = vec![0; 1 << 20];
    for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut fields = line.split_whitespace();
        let (range, permissions) = (fields.next().unwrap(), fields.next().unwrap());
        if !permissions.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [mut at, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        let own = buffer.as_ptr() as u64..buffer.as_ptr() as u64 + buffer.len() as u64;
        while at < to {
            let length = usize::try_from(to - at).unwrap().min(buffer.len());
            let Ok(read) = memory.read_at(&mut buffer[..length], at) else {
                break;
            };
            let found =
                buffer[..read]
                    .windows(masked.len())
                    .enumerate()
                    .filter(|(place, window)| {
                        !own.contains(&(at + *place as u64))
                            && window
                                .iter()
                                .zip(masked)
                                .all(|(byte, masked)| byte ^ MASK == *masked)
                    });
            copies += found.count();
            // A copy may lie across two pieces.
            let step = if read == length && length == buffer.len() {
                read - masked.len() + 1
            } else {
                read
            };
            at += step as u64;
        }
    }
    copies
}

const MASK: u8 = 0xa5;
