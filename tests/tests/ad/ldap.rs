//! auth/ldap in an Active Directory: by account name and by UPN, nested groups, accounts that may not log in.

use obol_testbed::SambaAd;
use obol_testbed::samba::people::{DISABLED, EXPIRED, SERVICE_ACCOUNT, SERVICE_PASSWORD};
use obol_tests::ad::{self, IN_CHAIN, ad};
use obol_tests::kerberos::{accepted, policies, with};
use obol_tests::{Client, Reply, Server};
use serde_json::{Value, json};

/// A server with the method at `auth/ldap`, with these changes; every group of [`ad::MAPPED`] has a policy of its name.
fn server_with(changes: Value) -> Server {
    server_for(ad(), changes)
}

fn server_for(ad: &SambaAd, changes: Value) -> Server {
    let server = ad::server(ad);
    let root = server.root();
    root.post("sys/auth/ldap", json!({"type": "ldap"}))
        .expect(204);
    let config = json!({
        "url": ad.ldaps_url(),
        "certificate": ad.ca_pem(),
        "binddn": ad.dn_of(SERVICE_ACCOUNT).unwrap(),
        "bindpass": SERVICE_PASSWORD,
        "userdn": ad.user_dn(),
        "userattr": "sAMAccountName",
        "groupdn": ad.group_dn(),
        "groupattr": "cn",
        "groupfilter": IN_CHAIN,
    });
    accepted(root.post("auth/ldap/config", with(config, changes)));
    for group in ad::MAPPED {
        root.post(
            &format!("auth/ldap/groups/{group}"),
            json!({"policies": group}),
        )
        .expect(204);
    }
    server
}

fn log_in(client: &Client, name: &str, password: &str) -> Reply {
    client.post(
        &format!("auth/ldap/login/{name}"),
        json!({ "password": password }),
    )
}

#[test]
fn users_log_in_by_account_name_and_by_upn_with_their_nested_groups() {
    let domain = ad().realm().to_lowercase();
    for (changes, name) in [
        (json!({}), "joan".to_owned()),
        (json!({}), "JOAN".to_owned()),
        (
            json!({"use_token_groups": true, "groupfilter": ""}),
            "joan".to_owned(),
        ),
        (json!({"upndomain": domain}), "joan.clarke".to_owned()),
        (
            json!({"userattr": "userPrincipalName"}),
            format!("joan.clarke@{domain}"),
        ),
        // Without an account: bound as the UPN, searched with the user's own rights.
        (
            json!({"upndomain": domain, "binddn": "", "bindpass": ""}),
            "joan.clarke".to_owned(),
        ),
    ] {
        let server = server_with(changes.clone());
        let login = log_in(&server.client(), &name, "joan-password");
        assert_eq!(
            policies(login.expect(200)),
            ["all-hands", "default", "scientists", "staff"],
            "{changes} {name}"
        );
        log_in(&server.client(), &name, "grace-password").expect(400);
    }
}

#[test]
fn accounts_that_may_not_log_in_get_one_answer_and_the_log_says_why() {
    let server = server_with(json!({}));
    let mut answers = Vec::new();
    for (name, password) in [
        ("grace", "wrong"),
        ("nobody-here", "wrong"),
        (DISABLED, "dora-password"),
        (EXPIRED, "percy-password"),
    ] {
        let refused = log_in(&server.client(), name, password).expect(400);
        let text = refused.errors().remove(0);
        answers.push(text.split(" (request").next().unwrap().to_owned());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let log = server.log();
    assert!(log.contains("disabled"), "{log}");
    assert!(log.contains("must be changed") || log.contains("expired"));
}

#[test]
fn null_bind_and_ldap_injection_lead_nowhere() {
    let server = server_with(json!({}));
    let client = server.client();
    log_in(&client, "grace", "").expect(400);
    for name in ["grac*", "grace)(objectClass=*", "joan)(|(cn=*"] {
        log_in(&client, name, "grace-password").expect(400);
    }
    for name in ["open(paren", "close)paren", "o'hara"] {
        log_in(&client, name, "awkward-password").expect(200);
    }
}

#[test]
fn group_gone_a_disabled_account_and_a_changed_password_are_not_renewed() {
    let domain = ad::own_ad();
    let server = server_for(&domain, json!({}));
    let client = server.client();
    let grace = log_in(&client, "grace", "grace-password").client_token();
    let joan = log_in(&client, "joan", "joan-password").client_token();
    let renew = |token: &str| {
        client
            .with_token(token)
            .post("auth/token/renew-self", json!({}))
    };
    renew(&grace).expect(200);
    renew(&joan).expect(200);
    domain.disable("grace").unwrap();
    domain.set_password("joan", "another-password-1").unwrap();
    let refused = renew(&grace).expect(400);
    assert!(
        refused.errors()[0].contains("any more"),
        "{}",
        refused.text()
    );
    let refused = renew(&joan).expect(400);
    assert!(
        refused.errors()[0].contains("password"),
        "{}",
        refused.text()
    );
    log_in(&client, "grace", "grace-password").expect(400);
    // A domain controller takes the password before the last one for an hour more: the login cannot know better.
    log_in(&client, "joan", "another-password-1").expect(200);
}
