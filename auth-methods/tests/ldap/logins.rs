//! Names and passwords, right and wrong.

use obol_mount::{Error, Login};
use obol_testbed::ldap::people::{AWKWARD_NAMES, AWKWARD_PASSWORD, user_dn};
use obol_testbed::{LdapOptions, OpenLdap};
use serde_json::json;

use crate::common::Mount;
use crate::{ready, shared};

async fn log_in(mount: &Mount, name: &str, password: &str) -> Result<Login, Error> {
    let path = format!("login/{name}");
    mount.login(&path, json!({ "password": password })).await
}

/// The sentence of a refusal without the request's id.
fn sentence(error: &Error) -> String {
    let text = error.messages().join(" ");
    text.split(" (request").next().unwrap().to_owned()
}

#[tokio::test]
async fn a_user_logs_in_and_has_the_policies_of_the_groups() {
    let mount = ready(shared()).await;
    let login = log_in(&mount, "grace", "grace-password").await.unwrap();
    assert_eq!(login.policies, ["dev", "shared"]);
    assert_eq!(login.group_aliases, ["coders", "engineers"]);
    assert_eq!(
        (login.alias.as_str(), login.display_name.as_str()),
        ("grace", "grace")
    );
    assert_eq!(login.metadata["username"], "grace");
    assert!(login.renewable);
    let joan = log_in(&mount, "joan", "joan-password").await.unwrap();
    assert_eq!(joan.policies, ["lab", "shared"]);
    let loner = log_in(&mount, "loner", "loner-password").await.unwrap();
    assert_eq!(loner.policies, Vec::<String>::new());
}

#[tokio::test]
async fn a_users_own_policies_and_groups_count_beside_the_directorys() {
    let mount = ready(shared()).await;
    mount
        .write(
            "users/Grace",
            json!({"policies": "own", "groups": "Scientists,elsewhere"}),
        )
        .await
        .unwrap();
    let login = log_in(&mount, "grace", "grace-password").await.unwrap();
    assert_eq!(login.policies, ["dev", "lab", "own", "shared"]);
    assert_eq!(
        login.group_aliases,
        ["Scientists", "coders", "elsewhere", "engineers"]
    );
}

/// As FreeIPA and 389-DS disable an account. This server lets it bind all the same.
#[tokio::test]
async fn group_gone_an_account_that_is_disabled_but_may_bind_logs_nobody_in_and_renews_nothing() {
    let ldap = OpenLdap::start(LdapOptions {
        global_config: "
attributetype ( 2.16.840.1.113730.3.1.610 NAME 'nsAccountLock'
  EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.4203.666.99.4 NAME 'lockable' AUXILIARY MAY nsAccountLock )
"
        .into(),
        ..LdapOptions::default()
    })
    .unwrap();
    for own_rights in [false, true] {
        let mount = ready(&ldap).await;
        if own_rights {
            let body = json!({"binddn": "", "bindpass": ""});
            mount.write("config", body).await.unwrap();
        }
        let lock = |class: &str, lock: &str| {
            let grace = user_dn("grace");
            ldap.modify_ldif(&format!(
                "dn: {grace}\nchangetype: modify\n{class}replace: nsAccountLock\nnsAccountLock: {lock}\n"
            ))
            .unwrap();
        };
        let class = "add: objectClass\nobjectClass: lockable\n-\n";
        lock(if own_rights { "" } else { class }, "FALSE");
        let login = log_in(&mount, "grace", "grace-password").await.unwrap();
        lock("", "TRUE");
        let refused = log_in(&mount, "grace", "grace-password").await.unwrap_err();
        let wrong = log_in(&mount, "grace", "wrong").await.unwrap_err();
        assert_eq!(sentence(&refused), sentence(&wrong));
        mount.renew(&login).await.unwrap_err();
        log_in(&mount, "joan", "joan-password").await.unwrap();
    }
}

/// Whoever may make groups in the directory chooses their names.
#[tokio::test]
async fn a_group_that_is_named_as_a_sid_gives_nothing_and_its_mapping_is_warned_of() {
    let mount = ready(shared()).await;
    let sid = "S-1-5-21-1004336348-1177238915-682003330-512";
    let path = format!("groups/{sid}");
    let written = mount.write(&path, json!({"policies": "admin"})).await;
    let warnings = written.unwrap().warnings;
    assert!(warnings[0].contains("auth/kerberos"), "{warnings:?}");
    mount
        .write("users/grace", json!({"groups": sid}))
        .await
        .unwrap();
    let login = log_in(&mount, "grace", "grace-password").await.unwrap();
    assert_eq!(login.group_aliases, ["coders", "engineers"]);
    assert_eq!(login.policies, ["dev", "shared"]);
}

#[tokio::test]
async fn timing_user_unknown_users_and_wrong_passwords_get_one_answer() {
    let mount = ready(shared()).await;
    let mut answers = Vec::new();
    for (name, password) in [
        ("grace", "joan-password"),
        ("grace", "Grace-password"),
        ("nobody-here", "grace-password"),
    ] {
        let error = log_in(&mount, name, password).await.unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(!error.to_string().contains(password));
        answers.push(sentence(&error));
    }
    answers.dedup();
    assert_eq!(
        answers,
        ["invalid username or password, or the account may not log in"]
    );
}

#[tokio::test]
async fn null_bind_an_empty_password_never_logs_in() {
    let careless = OpenLdap::start(LdapOptions {
        unauthenticated_bind: true,
        anonymous_search: true,
        ..LdapOptions::default()
    })
    .unwrap();
    let mount = ready(&careless).await;
    let before = careless.connections_seen().unwrap();
    for body in [json!({"password": ""}), json!({})] {
        let error = mount.login("login/grace", body).await.unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.to_string().contains("password"), "{error}");
    }
    assert_eq!(careless.connections_seen().unwrap(), before);
}

#[tokio::test]
async fn ldap_injection_awkward_names_log_in_as_themselves_and_as_nobody_else() {
    for own_rights in [false, true] {
        let mount = ready(shared()).await;
        if own_rights {
            mount
                .write("config", json!({"binddn": "", "bindpass": ""}))
                .await
                .unwrap();
        }
        mount
            .write("groups/awkward", json!({"policies": "awkward"}))
            .await
            .unwrap();
        for name in AWKWARD_NAMES {
            let login = log_in(&mount, name, AWKWARD_PASSWORD)
                .await
                .unwrap_or_else(|error| panic!("{name:?} {own_rights}: {error}"));
            assert_eq!(login.policies, ["awkward"], "{name:?}");
            assert_eq!(login.alias, name.to_lowercase());
        }
        for name in [
            "grac*",
            "*",
            "grace)(uid=*",
            "grace,ou=Users",
            "joan)(|(uid=grace",
            "uid=grace",
        ] {
            let error = log_in(&mount, name, "grace-password").await.unwrap_err();
            assert_eq!(error.status(), 400, "{name:?}");
        }
    }
}

#[tokio::test]
async fn alias_case_spellings_that_the_directory_takes_for_one_name_are_one_or_refused() {
    for (changes, spellings) in [
        // Found by a search.
        (
            json!({}),
            [("GRACE", true), ("grace ", false), (" grace", false)],
        ),
        // Put together, and bound with the user's own rights.
        (
            json!({"binddn": "", "bindpass": ""}),
            [("GRACE", true), ("grace ", false), (" grace", false)],
        ),
        // A filter of the operator's own.
        (
            json!({"userfilter": "(&(objectClass=*)(|(uid={{.Username}})(mail={{.Username}})))"}),
            [("Grace", true), ("grace ", false), ("  grace", false)],
        ),
        (
            json!({"username_as_alias": true, "case_sensitive_names": true}),
            [("GRACE", true), ("grace ", false), (" grace", false)],
        ),
    ] {
        let mount = ready(shared()).await;
        mount.write("config", changes.clone()).await.unwrap();
        for (spelling, accepted) in spellings {
            match log_in(&mount, spelling, "grace-password").await {
                Ok(login) => {
                    assert!(accepted, "{spelling:?} {changes}");
                    assert_eq!(login.alias, "grace", "{spelling:?} {changes}");
                }
                Err(error) => assert!(!accepted, "{spelling:?} {changes}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn an_alias_is_the_directorys_name_unless_the_operator_wants_the_one_that_came() {
    let mount = ready(shared()).await;
    mount
        .write(
            "config",
            json!({"userattr": "cn", "userfilter": "(uid={{.Username}})"}),
        )
        .await
        .unwrap();
    let login = log_in(&mount, "Grace", "grace-password").await.unwrap();
    assert_eq!(login.alias, "grace hopper");
    mount
        .write("config", json!({"username_as_alias": true}))
        .await
        .unwrap();
    let login = log_in(&mount, "Grace", "grace-password").await.unwrap();
    assert_eq!(login.alias, "grace");
}

#[tokio::test]
async fn while_the_directory_is_down_the_operator_learns_why_and_the_client_does_not() {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let mount = ready(&ldap).await;
    ldap.stop().unwrap();
    for (name, password) in [("grace", "grace-password"), ("nobody-here", "x")] {
        let error = log_in(&mount, name, password).await.unwrap_err();
        assert_eq!(error.status(), 502);
        let text = error.messages().join(" ");
        assert!(
            text.contains("(request ") && !text.contains("ldaps://"),
            "{text}"
        );
    }
    ldap.start_again().unwrap();
    log_in(&mount, "grace", "grace-password").await.unwrap();
}

#[tokio::test]
async fn a_mount_without_a_directory_says_what_to_write() {
    let mount = Mount::fresh("ldap").await;
    let error = log_in(&mount, "grace", "grace-password").await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(error.to_string().contains("auth/ldap/config"), "{error}");
}

#[tokio::test]
async fn group_gone_a_login_asks_the_directory_unless_it_may_remember() {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let mount = ready(&ldap).await;
    let policies = async || {
        log_in(&mount, "grace", "grace-password")
            .await
            .unwrap()
            .policies
    };
    assert_eq!(policies().await, ["dev", "shared"]);
    ldap.remove_member("engineers", "grace").unwrap();
    assert_eq!(policies().await, Vec::<String>::new());
    mount
        .write("config", json!({"cache_ttl": "1h"}))
        .await
        .unwrap();
    policies().await;
    ldap.add_member("engineers", "grace").unwrap();
    assert_eq!(policies().await, Vec::<String>::new());
    // Passwords are never remembered.
    log_in(&mount, "grace", "wrong").await.unwrap_err();
    mount.delete("cache/grace").await.unwrap();
    assert_eq!(policies().await, ["dev", "shared"]);
}

#[tokio::test]
async fn bound_addresses_are_looked_at_before_the_directory() {
    let mut mount = ready(shared()).await;
    mount
        .write("config", json!({"token_bound_cidrs": "192.0.2.0/24"}))
        .await
        .unwrap();
    log_in(&mount, "grace", "grace-password").await.unwrap();
    mount.peer = Some("198.51.100.1".parse().unwrap());
    let error = log_in(&mount, "grace", "grace-password").await.unwrap_err();
    assert_eq!(error.status(), 403);
}
