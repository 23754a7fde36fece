//! A real Active Directory: groups from its tickets, logins to its LDAP with a keytab, and what it
//! says when somebody may not log in.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::forge::{elements, tlv, value};
use common::*;
use obol_kerberos::*;
use obol_testbed::keytab::AES256_CTS_HMAC_SHA1_96;
use obol_testbed::samba::people::{DISABLED, EXPIRED, SERVICE_ACCOUNT, Scope, TEAMS};
use obol_testbed::{AdOptions, SambaAd};

own_process! {
    fn groups_come_from_the_ticket_as_the_directory_has_them() {
        let domain = domain();
        let acceptor = acceptor_with(&domain, AcceptorOptions { decode_pac: true, ..AcceptorOptions::default() });
        let own = sid(&domain.domain_sid().unwrap());
        for user in ["grace", "loner", "many", "joan"] {
            let accepted = accept(&acceptor, &token(&domain, user)).unwrap();
            assert_eq!(accepted.client.to_string(), format!("{user}@AD.EXAMPLE.COM"));
            let pac = accepted.pac.verified().unwrap();
            assert_eq!(pac.user_name, user);
            assert_eq!(pac.logon_domain_name, "AD");
            assert_eq!(pac.logon_domain_sid, own);
            assert_eq!(pac.user_sid(), sid(&domain.sid_of(user).unwrap()));
            let groups = pac.group_sids();
            assert!(groups.contains(&own.with_rid(513).unwrap()), "Domain Users");
            if user == "many" {
                for team in [0, 1, TEAMS / 2, TEAMS - 1] {
                    let team = sid(&domain.sid_of(&format!("team-{team:03}")).unwrap());
                    assert!(groups.contains(&team), "{team}");
                }
                assert!(groups.len() > TEAMS);
            }
            if user == "loner" {
                let in_domain: Vec<_> = groups.iter().filter(|group| group.is_in_domain(&own)).collect();
                assert_eq!(in_domain, [&own.with_rid(513).unwrap()]);
            }
        }
    }

    fn a_user_who_is_moved_out_of_a_group_loses_it_with_the_next_ticket() {
        let domain = domain();
        let acceptor = acceptor_with(&domain, AcceptorOptions { decode_pac: true, ..AcceptorOptions::default() });
        domain.add_group("night-shift", &["grace"]).unwrap();
        let group = sid(&domain.sid_of("night-shift").unwrap());
        let is_in = || {
            let accepted = accept(&acceptor, &token(&domain, "grace")).unwrap();
            accepted.pac.verified().unwrap().group_sids().contains(&group)
        };
        assert!(is_in());
        domain.remove_member("night-shift", "grace").unwrap();
        assert!(!is_in());
    }

    /// `alias-case`, and more: the KDC takes an account's name in several forms, and the ticket says
    /// the one that the client chose.
    fn alias_case_an_account_has_one_name_however_its_user_asks_for_the_ticket() {
        let domain = domain();
        let [reader, plain] = [true, false].map(|decode_pac| {
            acceptor_with(&domain, AcceptorOptions { decode_pac, ..AcceptorOptions::default() })
        });
        domain.add_user("phantom$", "Phantom-password-1").unwrap();
        for (asked, account) in [
            ("grace", "grace"),
            ("GRACE", "grace"),
            ("joan", "joan"),
            ("joan.clarke", "joan"),
            ("phantom$", "phantom$"),
            ("phantom", "phantom$"),
        ] {
            let principal = format!("{asked}@AD.EXAMPLE.COM");
            let initiator = Initiator::from_password(&principal, &domain.password(account).unwrap()).unwrap();
            let (token, _) = initiator.negotiate("HTTP/localhost", None).unwrap();
            let accepted = accept(&reader, &token).unwrap();
            assert_eq!(accepted.client.to_string(), principal);
            assert_eq!(accepted.account().unwrap().to_string(), format!("{account}@AD.EXAMPLE.COM"));
            let unread = accept(&plain, &token).unwrap();
            assert_eq!(unread.account().unwrap().to_string(), principal);
        }
    }

    /// `pac-unverified`, `realm-confusion`: what a trusted domain says, and of whom.
    fn pac_unverified_a_user_of_a_trusted_domain_comes_with_identifiers_of_that_domain() {
        let (ours, theirs) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| SambaAd::start(AdOptions::realm("OTHER.EXAMPLE.COM")).unwrap());
            (domain(), theirs.join().unwrap())
        });
        ours.trust(&theirs).unwrap();
        ours.add_group_of(Scope::DomainLocal, "visitors", &[]).unwrap();
        ours.add_foreign_member("visitors", &theirs.sid_of("joan").unwrap()).unwrap();
        let acceptor = acceptor_with(&ours, AcceptorOptions { decode_pac: true, ..AcceptorOptions::default() });
        let ccache = ours.kinit("joan@OTHER.EXAMPLE.COM", &theirs.password("joan").unwrap()).unwrap();
        let initiator = Initiator::from_ccache(Some(ccache.path())).unwrap();
        let (token, _) = initiator.negotiate("HTTP/localhost@AD.EXAMPLE.COM", None).unwrap();
        let accepted = accept(&acceptor, &token).unwrap();
        assert_eq!(accepted.client.to_string(), "joan@OTHER.EXAMPLE.COM");

        let [here, there] = [&ours, &theirs].map(|domain| sid(&domain.domain_sid().unwrap()));
        assert_ne!(here, there);
        let pac = accepted.pac.verified().unwrap();
        assert_eq!(pac.logon_domain_sid, there);
        assert_eq!(pac.user_sid(), sid(&theirs.sid_of("joan").unwrap()));
        assert_ne!(pac.user_sid(), sid(&ours.sid_of("joan").unwrap()));
        let groups = pac.group_sids();
        let of = |domain: &Sid| groups.iter().filter(|group| group.is_in_domain(domain)).copied().collect::<Vec<_>>();
        // Their word about their own groups, ours about ours: who believes each only about itself
        // takes nothing that a trusted domain could make up.
        assert!(of(&there).contains(&there.with_rid(513).unwrap()));
        assert_eq!(of(&here), [sid(&ours.sid_of("visitors").unwrap())]);
    }

    fn enctype_downgrade_an_account_that_says_nothing_gets_rc4_tickets_and_they_are_refused() {
        let domain = domain();
        let aes = AcceptorOptions {
            allowed_enctypes: Some(vec![Enctype::Aes256Sha1, Enctype::Aes128Sha1]),
            ..AcceptorOptions::default()
        };
        let [lax, strict] = [AcceptorOptions::default(), aes].map(|options| acceptor_with(&domain, options));
        for acceptor in [&lax, &strict] {
            let accepted = accept(acceptor, &token(&domain, "grace")).unwrap();
            assert_eq!(accepted.ticket_enctype, Enctype::Aes256Sha1);
        }
        domain.set_enctypes(SERVICE_ACCOUNT, &[]).unwrap();
        let rc4 = token(&domain, "grace");
        assert_eq!(accept(&lax, &rc4).unwrap().ticket_enctype, Enctype::ArcfourHmac);
        let error = accept(&strict, &rc4).unwrap_err();
        assert!(
            matches!(error, AcceptError::EnctypeNotAllowed { enctype: Enctype::ArcfourHmac, session_key: false, .. }),
            "{error:?}"
        );
        assert!(error.mend().contains("msDS-SupportedEncryptionTypes"));
        domain.set_enctypes(SERVICE_ACCOUNT, &[AES256_CTS_HMAC_SHA1_96]).unwrap();
        accept(&strict, &token(&domain, "grace")).unwrap();
    }

    fn a_password_login_says_why_it_failed() {
        let domain = domain();
        let acceptor = acceptor_with(&domain, AcceptorOptions::default());
        let before = files(&scratch());
        for name in ["grace@AD.EXAMPLE.COM", "grace"] {
            let initiator = Initiator::from_password(name, &domain.password("grace").unwrap()).unwrap();
            let (token, negotiation) = initiator.negotiate("HTTP/localhost", None).unwrap();
            let accepted = accept(&acceptor, &token).unwrap();
            assert_eq!(accepted.client.to_string(), "grace@AD.EXAMPLE.COM");
            negotiation.finish(&accepted.reply.unwrap()).unwrap();
        }
        let password = |name: &str| domain.password(name).unwrap();
        let refused = |name: &str, password: &str| Initiator::from_password(&format!("{name}@AD.EXAMPLE.COM"), password).unwrap_err();
        let error = refused("grace", "wrong");
        assert!(matches!(error, InitiateError::WrongPassword { .. }), "{error:?}");
        let error = refused("grace", "");
        assert!(matches!(error, InitiateError::WrongPassword { .. }), "{error:?}");
        let error = refused("nobody", "wrong");
        assert!(matches!(error, InitiateError::UnknownClient { .. }), "{error:?}");
        let error = refused(DISABLED, &password(DISABLED));
        assert!(matches!(error, InitiateError::AccountDisabled { .. }), "{error:?}");
        let error = refused(EXPIRED, &password(EXPIRED));
        assert!(matches!(error, InitiateError::PasswordExpired { .. }), "{error:?}");
        domain.stop().unwrap();
        let error = refused("grace", &password("grace"));
        assert!(matches!(error, InitiateError::KdcUnreachable { .. }), "{error:?}");
        assert_eq!(files(&scratch()), before);
    }

    fn the_service_logs_in_to_ldap_with_its_keytab() {
        let domain = domain();
        let keytab = Keytab::parse(&domain.keytab(SERVICE_ACCOUNT).unwrap()).unwrap();
        let initiator = Initiator::from_keytab_bytes(&keytab, None).unwrap();
        assert_eq!(initiator.client(), "vault_svc@AD.EXAMPLE.COM");
        for layer in [SecurityLayer::Confidentiality, SecurityLayer::Integrity] {
            let spn = format!("ldap/{}", domain.address());
            let client = initiator.sasl(&spn, &[layer], None).unwrap();
            let mut ldap = Ldap::bind(&domain, client);
            assert_eq!(ldap.client.layer(), Some(layer));
            for user in ["grace", "many"] {
                assert_eq!(ldap.dn_of(&domain.base_dn(), user), domain.dn_of(user).unwrap());
            }
        }
        // The password was set anew: the keytab's key is an old one.
        domain.set_password(SERVICE_ACCOUNT, "Another-password-2").unwrap();
        let error = Initiator::from_keytab_bytes(&keytab, None).unwrap_err();
        assert!(matches!(error, InitiateError::WrongPassword { .. }), "{error:?}");
    }
}

fn domain() -> SambaAd {
    let domain = SambaAd::start(AdOptions::default()).unwrap();
    configure(&format!("include {}\n", domain.krb5_conf().display()));
    domain
}

fn acceptor_with(domain: &SambaAd, options: AcceptorOptions) -> Acceptor {
    let keytab = Keytab::parse(&domain.keytab(SERVICE_ACCOUNT).unwrap()).unwrap();
    Acceptor::new(&keytab, options).unwrap()
}

/// With a new ticket each time.
fn token(domain: &SambaAd, user: &str) -> Vec<u8> {
    let ccache = domain.kinit_as(user).unwrap();
    let initiator = Initiator::from_ccache(Some(ccache.path())).unwrap();
    initiator.negotiate("HTTP/localhost", None).unwrap().0
}

fn sid(text: &str) -> Sid {
    text.parse().unwrap()
}

/// As much of LDAP (RFC 4511) as it takes to bind and to ask who one is.
struct Ldap {
    stream: TcpStream,
    client: SaslClient,
    id: u8,
}

impl Ldap {
    fn bind(domain: &SambaAd, client: SaslClient) -> Self {
        let stream = TcpStream::connect((domain.address(), 389)).unwrap();
        let mut ldap = Self {
            stream,
            client,
            id: 0,
        };
        let mut challenge = None;
        loop {
            let response = ldap.client.step(challenge.as_deref()).unwrap();
            let mechanism = tlv(0x04, SaslClient::MECHANISM.as_bytes());
            let credentials = tlv(0xa3, &[mechanism, tlv(0x04, &response)].concat());
            let bind = [tlv(0x02, &[3]), tlv(0x04, b""), credentials].concat();
            let message = ldap.message(&tlv(0x60, &bind));
            ldap.stream.write_all(&message).unwrap();
            let answer = ldap.read_plain();
            let answer = elements(&answer);
            let (code, sent) = (answer[0].1[0], answer.iter().find(|(tag, _)| *tag == 0x87));
            match code {
                0 => break,
                14 => challenge = Some(sent.map(|(_, sent)| sent.to_vec()).unwrap_or_default()),
                code => panic!("{code}: {}", String::from_utf8_lossy(answer[2].1)),
            }
        }
        assert!(ldap.client.is_complete());
        ldap
    }

    /// The DN of an account, which Active Directory shows to those who have logged in.
    fn dn_of(&mut self, base: &str, account: &str) -> String {
        let filter = tlv(
            0xa3,
            &[tlv(0x04, b"sAMAccountName"), tlv(0x04, account.as_bytes())].concat(),
        );
        let search = [
            tlv(0x04, base.as_bytes()),
            tlv(0x0a, &[2]),
            tlv(0x0a, &[0]),
            tlv(0x02, &[0]),
            tlv(0x02, &[0]),
            tlv(0x01, &[0]),
            filter,
            tlv(0x30, &tlv(0x04, b"1.1")),
        ];
        let message = self.message(&tlv(0x63, &search.concat()));
        let wrapped = self.client.wrap(&message).unwrap();
        let length = (wrapped.len() as u32).to_be_bytes();
        self.stream
            .write_all(&[&length[..], &wrapped].concat())
            .unwrap();
        let mut found = None;
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).unwrap();
            let mut wrapped = vec![0; u32::from_be_bytes(length) as usize];
            self.stream.read_exact(&mut wrapped).unwrap();
            let messages = self.client.unwrap(&wrapped).unwrap();
            for (_, message) in elements(&messages) {
                let (operation, answer) = elements(message)[1];
                let (_, first) = elements(answer)[0];
                match operation {
                    0x64 => found = Some(String::from_utf8(first.to_vec()).unwrap()),
                    0x65 => {
                        assert_eq!(first, [0]);
                        return found.unwrap();
                    }
                    _ => {}
                }
            }
        }
    }

    fn message(&mut self, operation: &[u8]) -> Vec<u8> {
        self.id += 1;
        tlv(0x30, &[&tlv(0x02, &[self.id])[..], operation].concat())
    }

    /// The operation in a message that is not wrapped.
    fn read_plain(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 2];
        self.stream.read_exact(&mut bytes).unwrap();
        let more = match bytes[1] {
            length @ 0x80.. => {
                let mut length = vec![0; usize::from(length & 0x7f)];
                self.stream.read_exact(&mut length).unwrap();
                bytes.extend(&length);
                length
                    .iter()
                    .fold(0, |length, byte| length << 8 | usize::from(*byte))
            }
            short => usize::from(short),
        };
        let start = bytes.len();
        bytes.resize(start + more, 0);
        self.stream.read_exact(&mut bytes[start..]).unwrap();
        elements(value(&bytes))[1].1.to_vec()
    }
}
