//! threats.md `ldap-injection`: names that would change a filter or a DN, and names that only
//! look like somebody's.

use obol_directory::{DirectoryConfig, DirectoryError};
use obol_testbed::people::{AWKWARD_NAMES, USER_DN};

use crate::support::{anonymous, config, open, open_to_all, shared};

#[tokio::test]
async fn ldap_injection_every_awkward_name_is_found_as_itself_and_nobody_else() {
    let by_filter = config(shared().url());
    let by_upn = DirectoryConfig {
        upndomain: "example.com".into(),
        ..by_filter.clone()
    };
    let by_dn = anonymous(open_to_all().url());
    let by_member_of = DirectoryConfig {
        groupdn: USER_DN.into(),
        groupfilter: "(uid={{.Username}})".into(),
        groupattr: "memberOf".into(),
        ..by_filter.clone()
    };
    for (mode, config) in [
        ("filter", by_filter),
        ("upn", by_upn),
        ("dn", by_dn),
        ("memberOf", by_member_of),
    ] {
        let directory = open(&config);
        for name in AWKWARD_NAMES {
            let found = directory.lookup(name).await;
            let found = found.unwrap_or_else(|error| panic!("{mode} {name:?}: {error}"));
            assert_eq!(found.groups, ["awkward"], "{mode} {name:?}");
        }
    }
}

#[tokio::test]
async fn ldap_injection_names_that_nobody_has_find_nobody() {
    let directory = open(&config(shared().url()));
    for name in [
        "grace)(uid=*",
        "grac*",
        "\u{0}",
        "grace\u{0}",
        "*)(|(uid=*",
        "\\67race",
        "grace,ou=Users",
        "uid=grace",
        "(grace)",
        "grace\n",
    ] {
        let error = directory.lookup(name).await.unwrap_err();
        assert!(
            matches!(error, DirectoryError::UserNotFound { .. }),
            "{name:?}: {error:?}"
        );
        assert!(!error.to_string().contains(['\n', '\0']), "{name:?}");
    }
}

/// LDAP's matching ignores blanks around a name and folds look-alike characters (RFC 4518), Active
/// Directory ignores accents too. Kerberos does neither: those are other principals.
#[tokio::test]
async fn a_name_that_only_looks_like_a_user_is_not_that_user() {
    let by_filter = config(shared().url());
    let by_upn = DirectoryConfig {
        upndomain: "example.com".into(),
        ..by_filter.clone()
    };
    let mut near_misses = 0;
    for config in [by_filter, by_upn] {
        let directory = open(&config);
        for name in [
            "grace ",
            " grace",
            "gra\u{ad}ce",
            "\u{ff47}race",
            "grac\u{212f}",
        ] {
            let error = directory.lookup(name).await.unwrap_err();
            let DirectoryError::UserNotFound { near, .. } = &error else {
                panic!("{name:?}: {error:?}");
            };
            if let Some(near) = near {
                assert!(near.starts_with("grace"));
                assert!(error.mend().contains("rename"));
                near_misses += 1;
            }
        }
    }
    assert!(
        near_misses > 0,
        "this directory should have matched some of them"
    );
}
