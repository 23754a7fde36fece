//! Who searches are bound as, how a user's DN comes about, and users who bind themselves.

use obol_directory::{DirectoryConfig, DirectoryError, ResultCode};
use obol_testbed::people::{AWKWARD_NAMES, AWKWARD_PASSWORD, user_dn};
use obol_testbed::{LdapOptions, OpenLdap};

use crate::support::{Proxy, anonymous, config, open, open_to_all, shared, sorted};

#[tokio::test]
async fn a_service_account_searches() {
    let found = open(&config(shared().url())).lookup("grace").await.unwrap();
    assert_eq!(found.user_dn, "uid=grace,ou=Users,dc=example,dc=com");
    assert_eq!(sorted(&found.groups), ["coders", "engineers"]);
    assert_eq!(
        sorted(&found.group_dns),
        [
            "cn=coders,ou=Groups,dc=example,dc=com",
            "cn=engineers,ou=Groups,dc=example,dc=com"
        ]
    );
}

#[tokio::test]
async fn discoverdn_searches_anonymously() {
    let directory = open(&DirectoryConfig {
        discoverdn: true,
        userattr: "sAMAccountName".into(),
        ..anonymous(open_to_all().url())
    });
    let found = directory.lookup("grace").await.unwrap();
    assert_eq!(found.user_dn, user_dn("grace"));
    assert_eq!(sorted(&found.groups), ["coders", "engineers"]);
    assert!(matches!(
        directory.lookup("nobody-here").await.unwrap_err(),
        DirectoryError::UserNotFound { near: None, .. }
    ));
}

#[tokio::test]
async fn without_an_account_the_dn_is_built() {
    let directory = open(&anonymous(open_to_all().url()));
    let found = directory.lookup("grace").await.unwrap();
    assert_eq!(found.user_dn, user_dn("grace"));
    assert_eq!(sorted(&found.groups), ["coders", "engineers"]);
    // Nothing says that there is such a user, but no group has them.
    let unknown = directory.lookup("nobody-here").await.unwrap();
    assert_eq!(unknown.groups, Vec::<String>::new());
}

#[tokio::test]
async fn upndomain_finds_the_user_by_principal_name() {
    let directory = open(&DirectoryConfig {
        upndomain: "EXAMPLE.com".into(),
        userattr: "cn".into(),
        ..config(shared().url())
    });
    let found = directory.lookup("joan").await.unwrap();
    assert_eq!(found.user_dn, user_dn("joan"));
    let error = directory.lookup("nobody-here").await.unwrap_err();
    assert!(error.is_refusal());
    assert!(
        error
            .cause()
            .contains("(userPrincipalName=nobody-here@EXAMPLE.com)")
    );
}

#[tokio::test]
async fn a_wrong_bind_password_is_told_apart_and_asked_of_one_server_only() {
    let second = Proxy::before(&shared().url()).await;
    let mut wrong = config(format!("{},{}", shared().url(), second.url()));
    wrong.bindpass = "not-the-password".to_owned().into();
    let error = open(&wrong).lookup("grace").await.unwrap_err();
    let DirectoryError::Bind {
        url, binddn, code, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert!(url.starts_with("ldap://localhost:"));
    assert_eq!(binddn, crate::support::BIND_DN);
    assert_eq!(*code, ResultCode::INVALID_CREDENTIALS);
    assert!(!error.is_unavailable() && !error.is_refusal());
    assert_eq!(error.mend(), "check binddn and bindpass");
    assert!(!format!("{error} {error:?} {}", error.cause()).contains("not-the-password"));
    assert_eq!(second.accepted(), 0);
}

#[tokio::test]
async fn a_binddn_without_a_password_is_told_apart() {
    let mut config = config(shared().url());
    config.bindpass = String::new().into();
    let directory = open(&config);
    assert!(
        directory
            .warnings()
            .iter()
            .any(|w| w.contains("unauthenticated bind"))
    );
    let error = directory.lookup("grace").await.unwrap_err();
    let DirectoryError::Bind { code, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*code, ResultCode::UNWILLING_TO_PERFORM);
    assert_eq!(error.mend(), "the server wants a binddn with a bindpass");
}

#[tokio::test]
async fn a_user_binds_with_their_own_password() {
    let directory = open(&config(shared().url()));
    let found = directory
        .authenticate("grace", "grace-password")
        .await
        .unwrap();
    assert_eq!(sorted(&found.groups), ["coders", "engineers"]);
    for (user, password) in [("grace", "joan-password"), ("grace", "Grace-password")] {
        let error = directory.authenticate(user, password).await.unwrap_err();
        assert!(error.is_refusal(), "{error:?}");
        assert!(!error.is_unavailable());
        assert!(!format!("{error} {error:?}").contains(password));
    }
    let unknown = directory
        .authenticate("nobody-here", "x")
        .await
        .unwrap_err();
    assert!(matches!(unknown, DirectoryError::UserNotFound { .. }));
}

#[tokio::test]
async fn users_search_with_their_own_rights_when_there_is_no_account() {
    // This directory answers no anonymous search at all.
    let directory = open(&anonymous(shared().url()));
    let error = directory.lookup("grace").await.unwrap_err();
    assert!(matches!(error, DirectoryError::Search { .. }), "{error:?}");
    let found = directory
        .authenticate("grace", "grace-password")
        .await
        .unwrap();
    assert_eq!(sorted(&found.groups), ["coders", "engineers"]);
}

#[tokio::test]
async fn awkward_names_bind_as_themselves() {
    for (mode, config) in [
        ("found", config(shared().url())),
        ("built", anonymous(shared().url())),
    ] {
        let directory = open(&config);
        for name in AWKWARD_NAMES {
            let found = directory.authenticate(name, AWKWARD_PASSWORD).await;
            let found = found.unwrap_or_else(|error| panic!("{mode} {name:?}: {error}"));
            assert_eq!(found.groups, ["awkward"], "{mode} {name:?}");
        }
    }
}

/// threats.md `null-bind`, against a server that says an empty password succeeded.
#[tokio::test]
async fn null_bind_an_empty_password_is_refused_before_any_network() {
    let careless = OpenLdap::start(LdapOptions {
        unauthenticated_bind: true,
        anonymous_search: true,
        ..LdapOptions::default()
    })
    .unwrap();
    let proxy = Proxy::before(&careless.url()).await;
    for config in [config(proxy.url()), anonymous(proxy.url())] {
        let directory = open(&config);
        let error = directory.authenticate("grace", "").await.unwrap_err();
        assert!(matches!(error, DirectoryError::NullBind));
        assert!(error.is_refusal());
        assert_eq!(proxy.accepted(), 0);
    }
    // The operator may ask for what Vault calls deny_null_bind=false, and is told what it means.
    let asked_for_it = open(&DirectoryConfig {
        deny_null_bind: false,
        ..config(proxy.url())
    });
    assert!(
        asked_for_it
            .warnings()
            .iter()
            .any(|w| w.contains("deny_null_bind"))
    );
    asked_for_it.authenticate("grace", "").await.unwrap();
}

#[tokio::test]
async fn a_user_bind_never_lends_its_rights_to_a_search() {
    let proxy = Proxy::before(&shared().url()).await;
    let mut config = config(proxy.url());
    config.max_connections = 1;
    let directory = open(&config);
    directory
        .authenticate("grace", "grace-password")
        .await
        .unwrap();
    directory.authenticate("joan", "wrong").await.unwrap_err();
    directory
        .authenticate("joan", "joan-password")
        .await
        .unwrap();
    // One kept for searches, one for each user's bind.
    assert_eq!(proxy.accepted(), 4);
    assert_eq!(directory.lookup("many").await.unwrap().groups.len(), 300);
    assert_eq!(proxy.accepted(), 4);
}
