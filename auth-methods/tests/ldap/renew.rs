//! Renewal looks at the user again.

use obol_mount::Login;
use obol_testbed::ldap::people::user_dn;
use obol_testbed::{LdapOptions, OpenLdap};
use serde_json::json;

use crate::common::Mount;
use crate::ready;

async fn logged_in() -> (OpenLdap, Mount, Login) {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let mount = ready(&ldap).await;
    mount
        .write("config", json!({"token_policies": "base"}))
        .await
        .unwrap();
    let login = mount
        .login("login/Grace", json!({"password": "grace-password"}))
        .await
        .unwrap();
    (ldap, mount, login)
}

#[tokio::test]
async fn an_unchanged_user_is_renewed_with_the_settings_of_today() {
    let (_ldap, mount, login) = logged_in().await;
    mount
        .write("config", json!({"token_ttl": "10m", "token_max_ttl": "1h"}))
        .await
        .unwrap();
    let restarted = mount.another_server().await;
    let renewal = restarted.renew(&login).await.unwrap();
    assert_eq!(
        (renewal.token.ttl.as_secs(), renewal.token.max_ttl.as_secs()),
        (600, 3600)
    );
    assert_eq!(renewal.group_aliases.unwrap(), ["coders", "engineers"]);
}

#[tokio::test]
async fn group_gone_a_removed_member_is_not_renewed() {
    let (ldap, mount, login) = logged_in().await;
    ldap.remove_member("engineers", "grace").unwrap();
    let error = mount.renew(&login).await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(
        error.to_string().contains("policies have changed"),
        "{error}"
    );
    ldap.add_member("engineers", "grace").unwrap();
    mount.renew(&login).await.unwrap();
}

/// A DN that is put together says nothing of whether there is such a user.
#[tokio::test]
async fn group_gone_a_deleted_user_is_not_renewed_where_the_dn_is_put_together() {
    for anonymous_search in [true, false] {
        let ldap = OpenLdap::start(LdapOptions {
            anonymous_search,
            ..LdapOptions::default()
        })
        .unwrap();
        let mount = ready(&ldap).await;
        let own_rights =
            json!({"binddn": "", "bindpass": "", "groupdn": "", "token_policies": "base"});
        mount.write("config", own_rights).await.unwrap();
        let password = json!({"password": "grace-password"});
        let login = mount.login("login/grace", password).await.unwrap();
        // Nobody who may not look at the user vouches for them.
        assert_eq!(mount.renew(&login).await.is_ok(), anonymous_search);
        ldap.delete(&user_dn("grace")).unwrap();
        mount.renew(&login).await.unwrap_err();
    }
}

#[tokio::test]
async fn group_gone_what_is_mapped_here_counts_at_a_renewal_too() {
    let (_ldap, mount, login) = logged_in().await;
    mount
        .write("users/grace", json!({"policies": "more"}))
        .await
        .unwrap();
    assert_eq!(mount.renew(&login).await.unwrap_err().status(), 400);
    mount.delete("users/grace").await.unwrap();
    mount.renew(&login).await.unwrap();
}

#[tokio::test]
async fn renew_with_other_identity_another_entry_under_the_name_is_not_the_user() {
    let (ldap, mount, login) = logged_in().await;
    ldap.modify_ldif(&format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: cn=Grace Other\ndeleteoldrdn: 0\n",
        user_dn("grace")
    ))
    .unwrap();
    let error = mount.renew(&login).await.unwrap_err();
    assert!(error.to_string().contains("another entry"), "{error}");
    ldap.delete("cn=Grace Other,ou=Users,dc=example,dc=com")
        .unwrap();
    let error = mount.renew(&login).await.unwrap_err();
    assert!(error.to_string().contains("any more"), "{error}");
}

#[tokio::test]
async fn while_the_directory_is_down_nothing_is_renewed_and_nothing_is_lost() {
    let (ldap, mount, login) = logged_in().await;
    ldap.stop().unwrap();
    assert_eq!(mount.renew(&login).await.unwrap_err().status(), 502);
    ldap.start_again().unwrap();
    mount.renew(&login).await.unwrap();
}
