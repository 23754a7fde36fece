//! What the directory of a test bed shows to its clients.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use obol_testbed::ldap::{BIND_DN, BIND_PASSWORD};
use obol_testbed::people::{AWKWARD_NAMES, AWKWARD_PASSWORD, TEAMS, USERS, group_dn, user_dn};
use obol_testbed::{LdapOptions, OpenLdap, TlsVersion, Transport};

const ENCRYPTED: [Transport; 2] = [Transport::StartTls, Transport::Ldaps];

#[test]
fn a_user_binds_over_each_transport_and_not_with_a_wrong_password() {
    let ldap = start();
    for transport in [Transport::Plain, Transport::StartTls, Transport::Ldaps] {
        let who = ldap
            .whoami(
                &user_dn("grace"),
                "grace-password",
                transport,
                &ldap.ca_file(),
            )
            .unwrap();
        assert_eq!(who, "dn:uid=grace,ou=Users,dc=example,dc=com");
        let refused = ldap
            .whoami(&user_dn("grace"), "wrong", transport, &ldap.ca_file())
            .unwrap_err();
        assert!(
            refused.to_string().contains("Invalid credentials (49)"),
            "{refused}"
        );
    }
}

#[test]
fn a_client_that_trusts_another_ca_is_not_served() {
    let ldap = start();
    for transport in ENCRYPTED {
        ldap.whoami(BIND_DN, BIND_PASSWORD, transport, &ldap.ca_file())
            .unwrap();
        assert!(
            ldap.whoami(BIND_DN, BIND_PASSWORD, transport, &ldap.other_ca_file())
                .is_err(),
            "{transport:?}"
        );
    }
    assert_ne!(ldap.ca_pem(), ldap.other_ca_pem());
}

#[test]
fn an_anonymous_search_finds_nothing_unless_it_is_allowed() {
    let count = |ldap: &OpenLdap| {
        let output = Command::new("ldapsearch")
            .env("LDAPNOINIT", "1")
            .args([
                "-x",
                "-LLL",
                "-H",
                &ldap.url(),
                "-b",
                "dc=example,dc=com",
                "(uid=grace)",
                "dn",
            ])
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .matches("dn: ")
            .count()
    };
    assert_eq!(count(&start()), 0);
    let open = OpenLdap::start(LdapOptions {
        anonymous_search: true,
        ..LdapOptions::default()
    })
    .unwrap();
    assert_eq!(count(&open), 1);
    assert_eq!(
        open.search("(userPassword=*)", &["userPassword"]).unwrap(),
        "",
        "nobody reads passwords"
    );
}

#[test]
fn a_bind_without_password_fails_unless_the_directory_is_careless() {
    let strict = start();
    let refused = strict
        .whoami(&user_dn("grace"), "", Transport::Plain, &strict.ca_file())
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("unauthenticated bind (DN with no password) disallowed"),
        "{refused}"
    );
    let careless = OpenLdap::start(LdapOptions {
        unauthenticated_bind: true,
        ..LdapOptions::default()
    })
    .unwrap();
    let who = careless
        .whoami(&user_dn("grace"), "", Transport::Plain, &careless.ca_file())
        .unwrap();
    assert_eq!(who, "anonymous");
}

#[test]
fn a_directory_speaks_the_tls_versions_it_was_told_to() {
    use TlsVersion::{Tls10, Tls11, Tls12, Tls13};
    for (min, max, spoken) in [
        (None, None, vec![Tls12, Tls13]),
        (Some(Tls13), None, vec![Tls13]),
        (Some(Tls12), Some(Tls12), vec![Tls12]),
        (Some(Tls10), Some(Tls10), vec![Tls10]),
        (None, Some(Tls11), vec![Tls10, Tls11]),
    ] {
        let ldap = OpenLdap::start(LdapOptions {
            tls_min: min,
            tls_max: max,
            ..LdapOptions::default()
        })
        .unwrap();
        for version in [Tls10, Tls11, Tls12, Tls13] {
            let expected = spoken.contains(&version);
            if min.is_none() && max.is_none() && version < Tls12 {
                continue; // The library's default for old versions is the distribution's business.
            }
            assert_eq!(
                handshakes(&ldap, version),
                expected,
                "{version:?} with {min:?} to {max:?}"
            );
        }
    }
}

#[test]
fn members_come_and_go_and_their_entries_say_so() {
    let ldap = start();
    assert_eq!(
        groups_of(&ldap, "grace"),
        ["cn=engineers,ou=Groups,dc=example,dc=com"]
    );
    ldap.add_group("pilots", &["grace", "joan"]).unwrap();
    assert_eq!(groups_of(&ldap, "grace").len(), 2);
    ldap.remove_member("engineers", "grace").unwrap();
    assert_eq!(groups_of(&ldap, "grace"), [group_dn("pilots")]);
    ldap.add_member("scientists", "grace").unwrap();
    ldap.remove_group("pilots").unwrap();
    assert_eq!(groups_of(&ldap, "grace"), [group_dn("scientists")]);
    ldap.add_user("alan", "alan-password").unwrap();
    ldap.whoami(
        &user_dn("alan"),
        "alan-password",
        Transport::Plain,
        &ldap.ca_file(),
    )
    .unwrap();
    ldap.delete(&user_dn("alan")).unwrap();
    assert!(
        ldap.whoami(
            &user_dn("alan"),
            "alan-password",
            Transport::Plain,
            &ldap.ca_file()
        )
        .is_err()
    );
}

#[test]
fn each_kind_of_group_is_found_by_its_own_attribute() {
    let ldap = start();
    let cns = |filter: &str| ldap.search(filter, &["cn"]).unwrap();
    assert!(cns("(memberUid=grace)").contains("cn: coders"));
    assert!(cns(&format!("(uniqueMember={})", user_dn("joan"))).contains("cn: reviewers"));
    assert!(cns(&format!("(member={})", group_dn("engineers"))).contains("cn: staff"));
    assert!(cns("(sAMAccountName=GRACE)").contains("cn: Grace Hopper"));
    assert!(cns("(userPrincipalName=grace@example.com)").contains("cn: Grace Hopper"));
}

#[test]
fn a_user_in_hundreds_of_groups_has_all_of_them() {
    let ldap = start();
    assert_eq!(groups_of(&ldap, "many").len(), TEAMS);
    let found = ldap
        .search(&format!("(member={})", user_dn("many")), &["cn"])
        .unwrap();
    assert_eq!(found.matches("dn: cn=team-").count(), TEAMS);
}

#[test]
fn a_size_limit_cuts_what_the_bind_account_finds() {
    let ldap = OpenLdap::start(LdapOptions {
        size_limit: Some(10),
        ..LdapOptions::default()
    })
    .unwrap();
    let cut = ldap.search("(cn=team-*)", &["cn"]).unwrap_err();
    assert!(cut.to_string().contains("Size limit exceeded"), "{cut}");
}

#[test]
fn users_with_awkward_names_bind_under_their_escaped_dn() {
    let ldap = start();
    for uid in AWKWARD_NAMES {
        ldap.whoami(
            &user_dn(uid),
            AWKWARD_PASSWORD,
            Transport::Plain,
            &ldap.ca_file(),
        )
        .unwrap_or_else(|error| panic!("{uid:?}: {error}"));
        assert_eq!(
            groups_of_dn(&ldap, &user_dn(uid)),
            [group_dn("awkward")],
            "{uid:?}"
        );
    }
}

#[test]
fn a_directory_that_stops_comes_back_with_its_contents_on_its_port() {
    let ldap = start();
    let url = ldap.url();
    ldap.add_group("pilots", &["grace"]).unwrap();
    ldap.stop().unwrap();
    assert!(ldap.search("(uid=grace)", &["dn"]).is_err());
    ldap.start_again().unwrap();
    assert_eq!(ldap.url(), url);
    assert!(groups_of(&ldap, "grace").contains(&group_dn("pilots")));
}

#[test]
fn a_paused_directory_takes_connections_and_answers_once_it_is_resumed() {
    let ldap = start();
    ldap.pause().unwrap();
    let mut hanging = TcpStream::connect(ldap.url().strip_prefix("ldap://").unwrap()).unwrap();
    hanging
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    hanging.write_all(ANONYMOUS_BIND).unwrap();
    assert!(hanging.read(&mut [0; 64]).is_err(), "nothing comes");
    ldap.resume().unwrap();
    hanging
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert!(hanging.read(&mut [0; 64]).unwrap() > 0);
}

#[test]
fn an_idle_connection_is_closed_when_the_directory_was_told_so() {
    let ldap = OpenLdap::start(LdapOptions {
        idle_timeout: Some(1),
        ..LdapOptions::default()
    })
    .unwrap();
    let mut idle = TcpStream::connect(ldap.url().strip_prefix("ldap://").unwrap()).unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(idle.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn no_sasl_mechanism_is_offered() {
    let ldap = start();
    let output = Command::new("ldapsearch")
        .env("LDAPNOINIT", "1")
        .args([
            "-x",
            "-LLL",
            "-H",
            &ldap.url(),
            "-s",
            "base",
            "-b",
            "",
            "supportedSASLMechanisms",
            "supportedExtension",
        ])
        .args(["-D", BIND_DN, "-w", BIND_PASSWORD])
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("supportedExtension") && !shown.contains("supportedSASLMechanisms"),
        "{shown}"
    );
}

#[test]
fn connections_are_counted_and_operations_are_logged() {
    let ldap = start();
    let before = ldap.connections_seen().unwrap();
    ldap.whoami(
        &user_dn("grace"),
        "grace-password",
        Transport::Plain,
        &ldap.ca_file(),
    )
    .unwrap();
    eventually(|| ldap.connections_seen().unwrap() == before + 1);
    assert!(
        ldap.log()
            .unwrap()
            .contains("BIND dn=\"uid=grace,ou=Users,dc=example,dc=com\"")
    );
}

fn start() -> OpenLdap {
    assert!(USERS.iter().any(|user| user.uid == "grace"));
    OpenLdap::start(LdapOptions::default()).unwrap()
}

fn groups_of(ldap: &OpenLdap, uid: &str) -> Vec<String> {
    groups_of_dn(ldap, &user_dn(uid))
}

/// The memberOf values of one entry.
fn groups_of_dn(ldap: &OpenLdap, dn: &str) -> Vec<String> {
    let output = Command::new("ldapsearch")
        .env("LDAPNOINIT", "1")
        .args([
            "-x",
            "-LLL",
            "-o",
            "ldif-wrap=no",
            "-H",
            &ldap.url(),
            "-D",
            BIND_DN,
            "-w",
            BIND_PASSWORD,
        ])
        .args(["-s", "base", "-b", dn, "memberOf"])
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    shown
        .lines()
        .filter_map(|line| line.strip_prefix("memberOf: "))
        .map(str::to_owned)
        .collect()
}

fn handshakes(ldap: &OpenLdap, version: TlsVersion) -> bool {
    let (flag, shown) = match version {
        TlsVersion::Tls10 => ("-tls1", "TLSv1"),
        TlsVersion::Tls11 => ("-tls1_1", "TLSv1.1"),
        TlsVersion::Tls12 => ("-tls1_2", "TLSv1.2"),
        TlsVersion::Tls13 => ("-tls1_3", "TLSv1.3"),
    };
    let address = ldap.ldaps_url().replace("ldaps://", "");
    let output = Command::new("openssl")
        // Debian's OpenSSL keeps to TLS 1.2 and later unless its security level is lowered.
        .args([
            "s_client",
            flag,
            "-cipher",
            "ALL:@SECLEVEL=0",
            "-verify_return_error",
            "-connect",
            &address,
            "-CAfile",
        ])
        .arg(ldap.ca_file())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    output.status.success() && said.contains(&format!("Protocol  : {shown}\n"))
        || said.contains(&format!("New, {shown}, "))
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come to hold");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// LDAPMessage { messageID 1, bindRequest { version 3, name "", simple "" } }
const ANONYMOUS_BIND: &[u8] = &[
    0x30, 0x0c, 0x02, 0x01, 0x01, 0x60, 0x07, 0x02, 0x01, 0x03, 0x04, 0x00, 0x80, 0x00,
];
