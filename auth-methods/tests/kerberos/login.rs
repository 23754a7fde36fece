//! `login`: who gets in, as whom, with which policies, and what the others are told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::{Error, Operation};
use obol_testbed::ldap::people::AWKWARD_NAMES;
use obol_testbed::realm::HTTP_SERVICE;
use obol_testbed::{Keytab, LdapOptions, MitOptions, MitRealm, OpenLdap};
use serde_json::json;

use crate::mount::{Mount, config, header, id_in, ldap_config, with};
use crate::tickets;
use crate::world::{Client, world};

fn challenge_of(error: &Error) -> Option<&str> {
    error
        .headers()
        .iter()
        .find(|(name, _)| *name == "WWW-Authenticate")
        .map(|(_, value)| value.as_str())
}

/// The operator's line about a refusal: found by the id that the client was told.
fn logged_cause(error: &Error) -> String {
    let lines = world().logged(&id_in(error));
    assert_eq!(lines.len(), 1, "one line for each refusal: {lines:?}");
    assert!(
        lines[0].contains("cause=") && lines[0].contains("mend="),
        "{lines:?}"
    );
    lines[0].clone()
}

#[tokio::test]
async fn a_ticket_becomes_a_login_and_the_server_proves_itself() {
    let mount = Mount::ready().await;
    let (token, negotiation) = Client::of("grace").negotiate();
    let login = mount.login(&token).await.unwrap();
    assert_eq!(login.policies, ["dev", "shared"]);
    assert_eq!(
        (login.alias.as_str(), login.display_name.as_str()),
        ("grace", "grace")
    );
    assert_eq!(
        login.metadata,
        [
            ("domain".into(), "EXAMPLE.COM".into()),
            ("user".into(), "grace".into())
        ]
        .into()
    );
    assert!(login.renewable && login.group_aliases.is_empty());
    let [(name, value)] = &login.headers[..] else {
        panic!("{:?}", login.headers)
    };
    assert_eq!(*name, "WWW-Authenticate");
    let reply = STANDARD
        .decode(value.strip_prefix("Negotiate ").unwrap())
        .unwrap();
    negotiation.finish(&reply).unwrap();
}

#[tokio::test]
async fn different_users_get_the_policies_of_their_own_groups() {
    let mount = Mount::ready().await;
    for (user, policies) in [
        ("grace", vec!["dev", "shared"]),
        ("joan", vec!["lab", "shared"]),
        ("loner", vec![]),
        ("many", vec![]),
    ] {
        assert_eq!(
            mount.policies(&Client::of(user).token()).await.unwrap(),
            policies,
            "{user}"
        );
    }
    mount
        .write("groups/team-123", json!({"policies": "team"}))
        .await
        .unwrap();
    assert_eq!(
        mount.policies(&Client::of("many").token()).await.unwrap(),
        ["team"]
    );
}

#[tokio::test]
async fn the_token_may_come_in_the_body() {
    let mount = Mount::ready().await;
    let grace = Client::of("grace");
    let login = mount
        .login_with(None, json!({"authorization": header(&grace.token())}))
        .await
        .unwrap();
    assert_eq!(login.alias, "grace");
    // Wrapped, as tools print it and the contract shows it.
    let text = header(&grace.token());
    let (scheme, token) = text.split_once(' ').unwrap();
    let lines: Vec<&str> = token
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    let wrapped = format!("{scheme} {}\n", lines.join("\n"));
    mount
        .login_with(None, json!({"authorization": wrapped}))
        .await
        .unwrap();
}

#[tokio::test]
async fn duplicate_credential_header_and_body_must_be_the_same() {
    let mount = Mount::ready().await;
    let (grace, joan) = (Client::of("grace"), Client::of("joan"));
    let (one, other) = (header(&grace.token()), header(&joan.token()));
    let error = mount
        .login_with(Some(one.clone()), json!({"authorization": other}))
        .await
        .unwrap_err();
    assert_eq!(error.status(), 400);
    let error = mount
        .login_with(Some("Bearer x".into()), json!({"authorization": one}))
        .await
        .unwrap_err();
    assert_eq!(error.status(), 400);
    let login = mount
        .login_with(Some(one.clone()), json!({"authorization": one}))
        .await
        .unwrap();
    assert_eq!(login.alias, "grace");
}

#[tokio::test]
async fn error_and_auth_who_brings_no_ticket_is_asked_for_one_and_gets_nothing_else() {
    let mount = Mount::fresh().await;
    for operation in [Operation::Read, Operation::Update] {
        for authorization in [
            None,
            Some("Bearer abc".to_owned()),
            Some("Negotiate".to_owned()),
        ] {
            let error = mount
                .request(operation, "login", json!({}), authorization)
                .await
                .unwrap_err();
            assert_eq!(
                (error.status(), challenge_of(&error)),
                (401, Some("Negotiate"))
            );
            assert_eq!(error.messages(), ["authentication required"]);
        }
    }
    let error = mount
        .request(
            Operation::Read,
            "login",
            json!({}),
            Some("Negotiate YIIF".into()),
        )
        .await
        .unwrap_err();
    assert_eq!(
        (error.status(), challenge_of(&error)),
        (401, Some("Negotiate"))
    );
}

#[tokio::test]
async fn an_unconfigured_mount_says_what_is_missing() {
    let mount = Mount::fresh().await;
    let grace = Client::of("grace");
    let error = mount.login(&grace.token()).await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(
        error.messages()[0].contains("keytab to auth/kerberos/config"),
        "{error}"
    );
    mount.write("config", config()).await.unwrap();
    let error = mount.login(&grace.token()).await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(
        error.messages()[0].contains("LDAP is not configured"),
        "{error}"
    );
}

#[tokio::test]
async fn ntlm_downgrade_ntlm_is_refused_without_being_asked_for_again() {
    let mount = Mount::ready().await;
    for token in [
        tickets::ntlm(),
        tickets::spnego(&tickets::NTLMSSP, &tickets::ntlm()),
        tickets::spnego(&tickets::NEGOEX, b"negoex"),
        tickets::spnego(&tickets::KRB5, &tickets::ntlm()),
    ] {
        let error = mount.login(&token).await.unwrap_err();
        assert_eq!((error.status(), challenge_of(&error)), (401, None));
        assert_eq!(error.messages().len(), 1);
        let cause = logged_cause(&error);
        assert!(
            cause.contains("NTLM") || cause.contains("NegoEx"),
            "{cause}"
        );
    }
}

#[tokio::test]
async fn garbage_is_a_400_that_repeats_nothing() {
    let mount = Mount::ready().await;
    let ticket = Client::of("grace").token();
    let mut cases = vec![
        b"hunter2 is no token".to_vec(),
        vec![0x60],
        vec![0x60, 0x84, 0xff, 0xff, 0xff, 0xff],
        vec![0xa1, 2, 0x30, 0],
        tickets::spnego(&tickets::KRB5, b""),
        tickets::spnego(&tickets::KRB5, b"hunter2"),
        ticket[..ticket.len() / 2].to_vec(),
        [ticket.clone(), b"hunter2".to_vec()].concat(),
    ];
    cases.extend((1..40).map(|at| ticket[..at].to_vec()));
    for token in cases {
        let error = mount.login(&token).await.unwrap_err();
        assert_eq!(
            (error.status(), challenge_of(&error)),
            (400, None),
            "{token:02x?}"
        );
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    for text in ["Negotiate $$$", "Negotiate a b", "Negotiate ====="] {
        let error = mount
            .login_with(Some(text.into()), json!({}))
            .await
            .unwrap_err();
        assert_eq!(error.status(), 400, "{text}");
    }
    let huge = format!("Negotiate {}", "A".repeat(200_000));
    assert_eq!(
        mount
            .login_with(Some(huge), json!({}))
            .await
            .unwrap_err()
            .status(),
        400
    );
    let body = json!({"authorization": STANDARD.encode(&ticket)});
    let error = mount.login_with(None, body).await.unwrap_err();
    assert!(
        error.messages()[0].contains("the word Negotiate"),
        "{error}"
    );
    // None of it spoilt the ticket.
    mount.login(&ticket).await.unwrap();
}

#[tokio::test]
async fn an_altered_ticket_is_refused_and_the_operator_learns_why() {
    let mount = Mount::ready().await;
    let mut token = Client::of("grace").token();
    *token.last_mut().unwrap() ^= 1;
    let error = mount.login(&token).await.unwrap_err();
    assert_eq!((error.status(), challenge_of(&error)), (401, None));
    assert_eq!(
        error.messages(),
        [format!(
            "the ticket was not accepted (request {})",
            id_in(&error)
        )]
    );
    let cause = logged_cause(&error);
    assert!(!cause.contains(&STANDARD.encode(&token)[..40]), "{cause}");
}

#[tokio::test]
async fn a_keytab_that_does_not_fit_is_told_to_the_operator_and_mended_at_once() {
    let mount = Mount::ready().await;
    let grace = Client::of("grace");
    let keytab = || Keytab::parse(world().realm.keytab()).unwrap();
    let aes128_only =
        keytab().retain(|entry| entry.enctype == obol_testbed::keytab::AES128_CTS_HMAC_SHA1_96);
    for (spoilt, cause) in [
        (keytab().with_wrong_keys(), "no key opens"),
        // With the right key under a wrong number libkrb5 opens the ticket all the same.
        (keytab().with_kvno(7).with_wrong_keys(), "kvno 7"),
        (aes128_only, "holds only"),
    ] {
        let spoilt = STANDARD.encode(spoilt.to_bytes());
        mount
            .write("config", json!({"keytab": spoilt}))
            .await
            .unwrap();
        let error = mount.login(&grace.token()).await.unwrap_err();
        assert_eq!(error.status(), 401);
        assert!(!error.messages()[0].contains("kvno"), "{error}");
        let line = logged_cause(&error);
        assert!(line.contains(cause), "{line:?} should say {cause:?}");
        mount.write("config", config()).await.unwrap();
        mount.login(&grace.token()).await.unwrap();
    }
}

#[tokio::test]
async fn only_the_service_accounts_keys_open_tickets() {
    let kdc = &world().realm.kdc;
    kdc.add_service("HTTP/second").unwrap();
    let mount = Mount::ready().await;
    let grace = Client::of("grace");
    let both = STANDARD.encode(kdc.keytab(&[HTTP_SERVICE, "HTTP/second"]).unwrap());
    mount
        .write("config", json!({"keytab": both}))
        .await
        .unwrap();
    let second = || grace.token_for("HTTP/second").0;
    for (account, remove_instance_name, opens_first, opens_second) in [
        (HTTP_SERVICE, false, true, false),
        ("HTTP/second", false, false, true),
        ("HTTP/second@EXAMPLE.COM", false, false, true),
        // The contract's example: `foo/localhost@EXAMPLE.COM` answers to `foo`.
        ("HTTP", true, true, true),
    ] {
        let body =
            json!({"service_account": account, "remove_instance_name": remove_instance_name});
        mount.write("config", body).await.unwrap();
        assert_eq!(
            mount.login(&grace.token()).await.is_ok(),
            opens_first,
            "{account}"
        );
        assert_eq!(
            mount.login(&second()).await.is_ok(),
            opens_second,
            "{account}"
        );
    }
    let without = json!({"service_account": "HTTP", "remove_instance_name": false});
    assert_eq!(
        mount.write("config", without).await.unwrap_err().status(),
        400
    );
}

#[tokio::test]
async fn ldap_before_auth_the_directory_hears_only_of_accepted_tickets() {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let mount = Mount::ready_with(&ldap).await;
    let (grace, other) = (
        Client::of("grace"),
        MitRealm::start(MitOptions::realm("STRANGERS")).unwrap(),
    );
    let before = ldap.connections_seen().unwrap();
    let token = grace.token();
    let mut altered = token.clone();
    *altered.last_mut().unwrap() ^= 1;
    for refused in [tickets::ntlm(), b"garbage".to_vec(), altered, b"".to_vec()] {
        mount.login(&refused).await.unwrap_err();
    }
    mount
        .request(Operation::Read, "login", json!({}), Some(header(&token)))
        .await
        .unwrap_err();
    mount.login_with(None, json!({})).await.unwrap_err();
    mount
        .write("config/ldap", json!({"upndomain": other.realm()}))
        .await
        .unwrap();
    mount.login(&token).await.unwrap_err();
    assert_eq!(ldap.connections_seen().unwrap(), before);
    mount
        .write("config/ldap", json!({"upndomain": ""}))
        .await
        .unwrap();
    mount.login(&token).await.unwrap();
    assert!(ldap.connections_seen().unwrap() > before);
}

#[tokio::test]
async fn connections_to_the_directory_are_kept_across_logins_and_mappings() {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let mount = Mount::ready_with(&ldap).await;
    let grace = Client::of("grace");
    mount.login(&grace.token()).await.unwrap();
    let one = ldap.connections_seen().unwrap();
    for policies in ["a", "b", "c"] {
        mount
            .write("groups/engineers", json!({"policies": policies}))
            .await
            .unwrap();
        assert_eq!(mount.policies(&grace.token()).await.unwrap(), [policies]);
    }
    mount
        .write("config", json!({"add_group_aliases": true}))
        .await
        .unwrap();
    mount.login(&grace.token()).await.unwrap();
    assert_eq!(ldap.connections_seen().unwrap(), one);
    mount
        .write("config/ldap", json!({"request_timeout": 6}))
        .await
        .unwrap();
    mount.login(&grace.token()).await.unwrap();
    assert_eq!(ldap.connections_seen().unwrap(), one + 1);
}

#[tokio::test]
async fn a_directory_that_is_down_refuses_and_does_not_spend_the_ticket() {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let mount = Mount::ready_with(&ldap).await;
    let token = Client::of("grace").token();
    ldap.stop().unwrap();
    let error = mount.login(&token).await.unwrap_err();
    assert_eq!(error.status(), 502);
    assert_eq!(
        error.messages(),
        [format!(
            "the directory cannot be asked for the user's groups (request {})",
            id_in(&error)
        )]
    );
    assert!(logged_cause(&error).contains("grace@EXAMPLE.COM"));
    ldap.start_again().unwrap();
    mount.login(&token).await.unwrap();
    assert_eq!(mount.login(&token).await.unwrap_err().status(), 401);
}

#[tokio::test]
async fn a_directory_that_refuses_the_service_account_is_the_operators_matter() {
    let mount = Mount::ready().await;
    mount
        .write("config/ldap", json!({"bindpass": "hunter2"}))
        .await
        .unwrap();
    let error = mount.login(&Client::of("grace").token()).await.unwrap_err();
    assert_eq!(error.status(), 502);
    let line = logged_cause(&error);
    assert!(
        line.contains("invalidCredentials")
            && line.contains("bindpass")
            && !line.contains("hunter2"),
        "{line}"
    );
    let other_ca = world().realm.ldap.other_ca_pem();
    mount
        .write(
            "config/ldap",
            with(
                ldap_config(&world().realm.ldap),
                json!({"certificate": other_ca}),
            ),
        )
        .await
        .unwrap();
    let error = mount.login(&Client::of("grace").token()).await.unwrap_err();
    assert_eq!(error.status(), 502);
    assert!(logged_cause(&error).contains("certificate"));
}

#[tokio::test]
async fn a_user_whom_the_directory_does_not_know_is_refused() {
    let kdc = &world().realm.kdc;
    kdc.add_principal("ghost", "ghost-password").unwrap();
    let mount = Mount::ready().await;
    let error = mount
        .login(&Client::login(kdc, "ghost", "ghost-password").token())
        .await
        .unwrap_err();
    assert_eq!((error.status(), challenge_of(&error)), (403, None));
    assert_eq!(
        error.messages(),
        [format!(
            "this user may not log in here (request {})",
            id_in(&error)
        )]
    );
    assert!(logged_cause(&error).contains("ghost"));
}

#[tokio::test]
async fn realm_confusion_a_trusted_realms_user_is_not_ours() {
    let ours = &world().realm.kdc;
    let theirs = MitRealm::start(MitOptions::realm("OTHER.REALM")).unwrap();
    theirs.add_principal("grace", "another grace").unwrap();
    ours.trust(&theirs).unwrap();
    let mount = Mount::ready().await;
    // grace@OTHER.REALM has a valid ticket for our service.
    let stranger = Client::login(ours, "grace@OTHER.REALM", "another grace");
    for upndomain in ["", "EXAMPLE.COM", "other.realm"] {
        mount
            .write("config/ldap", json!({"upndomain": upndomain}))
            .await
            .unwrap();
        let error = mount.login(&stranger.token()).await.unwrap_err();
        assert_eq!(error.status(), 400, "upndomain {upndomain:?}");
        assert!(logged_cause(&error).contains("grace@OTHER.REALM"));
    }
    // Compared exactly: the spelling of the realm counts for our own users as well.
    assert_eq!(
        mount
            .login(&Client::of("grace").token())
            .await
            .unwrap_err()
            .status(),
        400
    );
    mount
        .write("config/ldap", json!({"upndomain": "EXAMPLE.COM"}))
        .await
        .unwrap();
    let login = mount.login(&Client::of("grace").token()).await.unwrap();
    assert_eq!(login.policies, ["dev", "shared"]);
    assert_eq!(login.metadata["domain"], "EXAMPLE.COM");
    // Where the operator names the other realm, its users are looked up by their own UPN.
    mount
        .write("config/ldap", json!({"upndomain": "OTHER.REALM"}))
        .await
        .unwrap();
    assert_eq!(
        mount
            .login(&Client::of("grace").token())
            .await
            .unwrap_err()
            .status(),
        400
    );
    assert_eq!(
        mount.login(&stranger.token()).await.unwrap_err().status(),
        403
    );
}

#[tokio::test]
async fn instance_strip_grace_admin_is_not_grace_unless_the_operator_says_so() {
    let mount = Mount::ready().await;
    let grace_admin = Client::grace_admin();
    let error = mount.login(&grace_admin.token()).await.unwrap_err();
    assert_eq!(error.status(), 403);
    assert!(logged_cause(&error).contains("grace/admin"));
    mount
        .write(
            "config",
            json!({"service_account": "HTTP", "remove_instance_name": true}),
        )
        .await
        .unwrap();
    let login = mount.login(&grace_admin.token()).await.unwrap();
    assert_eq!(login.policies, ["dev", "shared"]);
    // The policies are grace's; identity still tells the two apart.
    assert_eq!(
        (login.alias.as_str(), login.metadata["user"].as_str()),
        ("grace/admin", "grace/admin")
    );
}

#[tokio::test]
async fn alias_case_one_user_is_one_alias_however_it_is_spelled() {
    let kdc = &world().realm.kdc;
    kdc.add_principal("GRACE", "loud-password").unwrap();
    let mount = Mount::ready().await;
    let loud = Client::login(kdc, "GRACE", "loud-password");
    let login = mount.login(&loud.token()).await.unwrap();
    assert_eq!(
        (login.alias.as_str(), login.metadata["user"].as_str()),
        ("grace", "GRACE")
    );
    mount
        .write("config/ldap", json!({"case_sensitive_names": true}))
        .await
        .unwrap();
    assert_eq!(mount.login(&loud.token()).await.unwrap().alias, "GRACE");
}

#[tokio::test]
async fn ldap_injection_awkward_names_are_themselves_and_nobody_else() {
    let mount = Mount::ready().await;
    mount
        .write("groups/awkward", json!({"policies": "awkward"}))
        .await
        .unwrap();
    // MIT's KDC (1.20) gives no service tickets to names that need an escape.
    for name in AWKWARD_NAMES.iter().filter(|name| !name.contains('\\')) {
        let login = mount
            .login(&Client::of(name).token())
            .await
            .unwrap_or_else(|e| panic!("{name:?}: {e}"));
        assert_eq!(login.policies, ["awkward"], "{name:?}");
        assert_eq!(login.metadata["user"], *name);
    }
}

#[tokio::test]
async fn ldap_groups_become_group_aliases_when_asked() {
    let mount = Mount::ready().await;
    mount
        .write("config", json!({"add_group_aliases": true}))
        .await
        .unwrap();
    let mut aliases = mount
        .login(&Client::of("grace").token())
        .await
        .unwrap()
        .group_aliases;
    aliases.sort();
    assert_eq!(aliases, ["coders", "engineers"]);
}

#[tokio::test]
async fn token_settings_reach_the_login() {
    let mount = Mount::ready().await;
    mount
        .write(
            "config/ldap",
            json!({
                "token_ttl": "30m", "token_max_ttl": "2h", "token_policies": "base", "token_explicit_max_ttl": 9000,
                "token_no_default_policy": true, "token_num_uses": 9, "token_period": 60, "token_type": "service",
            }),
        )
        .await
        .unwrap();
    let token = mount
        .login(&Client::of("grace").token())
        .await
        .unwrap()
        .token;
    assert_eq!(
        (
            token.ttl.as_secs(),
            token.max_ttl.as_secs(),
            token.explicit_max_ttl.as_secs()
        ),
        (1800, 7200, 9000)
    );
    assert_eq!(
        (token.policies, token.no_default_policy, token.num_uses),
        (vec!["base".to_owned()], true, 9)
    );
    assert_eq!(
        (token.period.as_secs(), token.kind),
        (60, obol_mount::TokenKind::Service)
    );
}

#[tokio::test]
async fn a_client_from_outside_the_bound_blocks_is_refused_before_its_ticket_is_looked_at() {
    let mut mount = Mount::ready().await;
    mount
        .write(
            "config/ldap",
            json!({"token_bound_cidrs": "198.51.100.0/24,2001:db8::/32"}),
        )
        .await
        .unwrap();
    let token = Client::of("grace").token();
    for outside in [Some("192.0.2.7"), None] {
        mount.peer = outside.map(|peer| peer.parse().unwrap());
        let error = mount.login(&token).await.unwrap_err();
        assert_eq!((error.status(), challenge_of(&error)), (403, None));
        assert_eq!(
            error.messages(),
            [format!(
                "logins from this address are not allowed (request {})",
                id_in(&error)
            )]
        );
        assert!(logged_cause(&error).contains("token_bound_cidrs"));
    }
    mount.peer = Some("198.51.100.9".parse().unwrap());
    mount.login(&token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_first_logins_at_once_build_one_acceptor_and_one_pool() {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let mount = std::sync::Arc::new(Mount::ready_with(&ldap).await);
    let grace = Client::of("grace");
    let logins: Vec<_> = (0..40)
        .map(|_| {
            let (mount, token) = (mount.clone(), grace.token());
            tokio::spawn(async move { mount.policies(&token).await })
        })
        .collect();
    for login in logins {
        assert_eq!(login.await.unwrap().unwrap(), ["dev", "shared"]);
    }
    assert!(
        ldap.connections_seen().unwrap() <= 8,
        "{}",
        ldap.connections_seen().unwrap()
    );
}
