//! Renewal looks at the user again.

use obol_mount::Login;
use obol_testbed::ldap::people::user_dn;
use obol_testbed::{LdapOptions, OpenLdap};
use serde_json::json;

use crate::mount::Mount;
use crate::world::Client;

/// A directory of the test's own, and grace logged in by it.
async fn logged_in() -> (OpenLdap, Mount, Login) {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let mount = Mount::ready_with(&ldap).await;
    mount
        .write("config/ldap", json!({"token_policies": "base"}))
        .await
        .unwrap();
    let login = mount.login(&Client::of("grace").token()).await.unwrap();
    (ldap, mount, login)
}

#[tokio::test]
async fn an_unchanged_user_is_renewed_with_the_settings_of_today() {
    let (_ldap, mount, login) = logged_in().await;
    mount
        .write(
            "config/ldap",
            json!({"token_ttl": "10m", "token_max_ttl": "1h"}),
        )
        .await
        .unwrap();
    let renewal = mount.renew(&login).await.unwrap();
    assert_eq!(
        (renewal.token.ttl.as_secs(), renewal.token.max_ttl.as_secs()),
        (600, 3600)
    );
    assert_eq!(renewal.at_most, None);
    let restarted = mount.another_server().await;
    restarted.renew(&login).await.unwrap();
}

#[tokio::test]
async fn group_gone_a_removed_member_is_not_renewed() {
    let (ldap, mount, login) = logged_in().await;
    ldap.remove_member("engineers", "grace").unwrap();
    let error = mount.renew(&login).await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(
        error.messages()[0].contains("policies have changed"),
        "{error}"
    );
    assert!(error.messages()[0].ends_with("log in again"), "{error}");
    ldap.add_member("engineers", "grace").unwrap();
    mount.renew(&login).await.unwrap();
    ldap.remove_group("engineers").unwrap();
    assert_eq!(mount.renew(&login).await.unwrap_err().status(), 400);
}

#[tokio::test]
async fn group_gone_changed_mappings_and_token_policies_are_not_renewed() {
    let (_ldap, mount, login) = logged_in().await;
    for (path, body, back) in [
        (
            "groups/engineers",
            json!({"policies": "dev,shared,more"}),
            json!({"policies": "dev,shared"}),
        ),
        (
            "groups/coders",
            json!({"policies": "code"}),
            json!({"policies": ""}),
        ),
        (
            "config/ldap",
            json!({"token_policies": "base,more"}),
            json!({"token_policies": "base"}),
        ),
    ] {
        mount.write(path, body).await.unwrap();
        assert_eq!(
            mount.renew(&login).await.unwrap_err().status(),
            400,
            "{path}"
        );
        mount.write(path, back).await.unwrap();
        mount.renew(&login).await.unwrap();
    }
    // A mapping that changes nothing for this user is none of its business.
    mount
        .write("groups/scientists", json!({"policies": "other"}))
        .await
        .unwrap();
    mount.renew(&login).await.unwrap();
}

#[tokio::test]
async fn a_user_who_is_gone_is_not_renewed() {
    let (ldap, mount, login) = logged_in().await;
    ldap.delete(&user_dn("grace")).unwrap();
    let error = mount.renew(&login).await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(
        error.messages()[0].contains("may not log in here any more"),
        "{error}"
    );
}

#[tokio::test]
async fn renew_with_other_identity_another_entry_under_the_same_name_is_not_the_same_user() {
    let (ldap, mount, login) = logged_in().await;
    ldap.modify_ldif(&format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: cn=Grace Other\ndeleteoldrdn: 0\n",
        user_dn("grace")
    ))
    .unwrap();
    let error = mount.renew(&login).await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(error.messages()[0].contains("another entry"), "{error}");
}

#[tokio::test]
async fn renew_with_other_identity_a_realm_that_may_not_log_in_any_more_is_not_renewed() {
    let (_ldap, mount, login) = logged_in().await;
    mount
        .write("config/ldap", json!({"upndomain": "OTHER.REALM"}))
        .await
        .unwrap();
    let error = mount.renew(&login).await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(
        error.messages()[0].contains("may not log in here any more"),
        "{error}"
    );
}

#[tokio::test]
async fn while_the_directory_is_down_nothing_is_renewed_and_nothing_is_lost() {
    let (ldap, mount, login) = logged_in().await;
    ldap.stop().unwrap();
    let error = mount.renew(&login).await.unwrap_err();
    assert_eq!(error.status(), 502);
    assert!(
        error.cause().is_some_and(|cause| cause.contains("connect")),
        "{error}"
    );
    ldap.start_again().unwrap();
    mount.renew(&login).await.unwrap();
}
