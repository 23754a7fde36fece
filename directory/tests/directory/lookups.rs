//! What a lookup returns: users, groups of each kind, many groups, and precise refusals.

use obol_directory::{DirectoryConfig, DirectoryError, ResultCode};
use obol_testbed::people::{GROUP_DN, SUFFIX, USER_DN, group_dn, user_dn};
use obol_testbed::{LdapOptions, OpenLdap};

use crate::support::{config, open, shared, sorted};

#[tokio::test]
async fn every_common_group_class_counts() {
    let found = open(&config(shared().url())).lookup("joan").await.unwrap();
    assert_eq!(
        sorted(&found.groups),
        [
            "research, development + \"more\"",
            "reviewers",
            "scientists"
        ]
    );
}

#[tokio::test]
async fn memberof_values_are_followed_to_names() {
    let directory = open(&DirectoryConfig {
        groupdn: USER_DN.into(),
        groupfilter: "(uid={{.Username}})".into(),
        groupattr: "memberof".into(),
        ..config(shared().url())
    });
    let found = directory.lookup("joan").await.unwrap();
    assert_eq!(
        sorted(&found.groups),
        ["research, development + \"more\"", "scientists"]
    );
    assert!(found.group_dns.contains(&group_dn("scientists")));
    // A user in no group is not in a group of the same name either.
    let loner = directory.lookup("loner").await.unwrap();
    assert_eq!(loner.groups, Vec::<String>::new());
}

#[tokio::test]
async fn without_the_group_attribute_the_entry_names_the_group() {
    let directory = open(&DirectoryConfig {
        groupattr: "description".into(),
        ..config(shared().url())
    });
    let found = directory.lookup("grace").await.unwrap();
    assert_eq!(sorted(&found.groups), ["coders", "engineers"]);
}

#[tokio::test]
async fn a_group_that_calls_itself_a_dn_is_not_another_group() {
    let directory = OpenLdap::start(LdapOptions::default()).unwrap();
    directory
        .add_group("cn=Admins,ou=Groups", &["loner"])
        .unwrap();
    let found = open(&config(directory.url()))
        .lookup("loner")
        .await
        .unwrap();
    assert_eq!(found.groups, ["cn=Admins,ou=Groups"]);
}

#[tokio::test]
async fn names_keep_the_case_of_the_directory() {
    let found = open(&config(shared().url())).lookup("ADMIN").await.unwrap();
    assert_eq!(found.user_dn, user_dn("admin"));
    assert_eq!(sorted(&found.groups), ["Admins", "engineers"]);
}

#[tokio::test]
async fn three_hundred_groups_arrive() {
    let found = open(&config(shared().url())).lookup("many").await.unwrap();
    assert_eq!(found.groups.len(), 300);
    assert_eq!(found.group_dns.len(), 300);
    assert_eq!(sorted(&found.groups)[299], "team-299");
}

#[tokio::test]
async fn more_groups_than_a_page_holds_arrive() {
    // OpenLDAP's own limit is on pages, if the total of a paged search is let off it.
    let directory = OpenLdap::start(LdapOptions {
        database_config: "limits * size.soft=500 size.hard=500 size.pr=500 size.prtotal=unlimited"
            .into(),
        ..LdapOptions::default()
    })
    .unwrap();
    let mut ldif = String::new();
    for number in 0..1200 {
        ldif.push_str(&format!(
            "dn: cn=crowd-{number},{GROUP_DN}\nobjectClass: posixGroup\ncn: crowd-{number}\n\
             gidNumber: {}\nmemberUid: loner\n\n",
            9000 + number
        ));
    }
    directory.add_ldif(&ldif).unwrap();
    let client = open(&config(directory.url()));
    assert_eq!(client.lookup("loner").await.unwrap().groups.len(), 1200);
}

#[tokio::test]
async fn a_group_of_more_than_a_thousand_members_is_found() {
    let directory = OpenLdap::start(LdapOptions::default()).unwrap();
    let members: Vec<_> = (0..1500).map(|number| format!("member-{number}")).collect();
    let mut members: Vec<_> = members.iter().map(String::as_str).collect();
    members.push("loner");
    directory.add_group("crowd", &members).unwrap();
    let client = open(&config(directory.url()));
    assert_eq!(client.lookup("loner").await.unwrap().groups, ["crowd"]);
}

#[tokio::test]
async fn an_answer_cut_short_is_an_error_not_fewer_groups() {
    let directory = OpenLdap::start(LdapOptions {
        size_limit: Some(50),
        ..LdapOptions::default()
    })
    .unwrap();
    let client = open(&config(directory.url()));
    let error = client.lookup("many").await.unwrap_err();
    let DirectoryError::SizeLimit { base, received, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(base, GROUP_DN);
    assert!(*received <= 50);
    assert!(error.mend().contains("size limit"));
    assert!(!error.is_refusal() && !error.is_unavailable());
    // The connection is still good.
    assert_eq!(
        client.lookup("loner").await.unwrap().groups,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn an_unknown_user_is_refused() {
    let error = open(&config(shared().url()))
        .lookup("nobody-here")
        .await
        .unwrap_err();
    let DirectoryError::UserNotFound {
        username,
        base,
        filter,
        near,
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((username.as_str(), base.as_str()), ("nobody-here", USER_DN));
    assert_eq!((filter.as_str(), near), ("(uid=nobody-here)", &None));
    assert!(error.is_refusal());
    let empty = open(&config(shared().url())).lookup("").await.unwrap_err();
    assert!(matches!(empty, DirectoryError::UserNotFound { .. }));
}

#[tokio::test]
async fn a_filter_that_fits_two_users_is_refused() {
    let directory = open(&DirectoryConfig {
        userfilter: "(|({{.UserAttr}}={{ .Username }})(uid=joan))".into(),
        ..config(shared().url())
    });
    let error = directory.lookup("grace").await.unwrap_err();
    assert!(
        matches!(error, DirectoryError::UserAmbiguous { .. }),
        "{error:?}"
    );
    assert!(error.is_refusal());
    assert_eq!(
        directory.lookup("joan").await.unwrap().user_dn,
        user_dn("joan")
    );
}

#[tokio::test]
async fn a_userfilter_narrows_who_may_be_found() {
    let directory = open(&DirectoryConfig {
        userfilter: "(&(objectClass=inetOrgPerson)({{.UserAttr}}={{.Username}})(!(uid=joan)))"
            .into(),
        ..config(shared().url())
    });
    assert_eq!(
        directory.lookup("grace").await.unwrap().user_dn,
        user_dn("grace")
    );
    let error = directory.lookup("joan").await.unwrap_err();
    assert!(matches!(error, DirectoryError::UserNotFound { .. }));
}

#[tokio::test]
async fn a_base_that_is_not_there_is_told_apart() {
    for (field, config) in [
        (
            "ou=Nowhere",
            DirectoryConfig {
                userdn: format!("ou=Nowhere,{SUFFIX}"),
                ..config(shared().url())
            },
        ),
        (
            "ou=NoGroups",
            DirectoryConfig {
                groupdn: format!("ou=NoGroups,{SUFFIX}"),
                ..config(shared().url())
            },
        ),
    ] {
        let error = open(&config).lookup("grace").await.unwrap_err();
        let DirectoryError::Search { base, code, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(base.starts_with(field));
        assert_eq!(*code, ResultCode::NO_SUCH_OBJECT);
        assert!(error.mend().starts_with("check userdn and groupdn"));
        assert!(!error.is_refusal());
    }
}

#[tokio::test]
async fn an_empty_groupdn_asks_for_no_groups_and_says_so() {
    let directory = open(&DirectoryConfig {
        groupdn: String::new(),
        ..config(shared().url())
    });
    assert!(
        directory
            .warnings()
            .iter()
            .any(|w| w.starts_with("groupdn is empty"))
    );
    let found = directory.lookup("grace").await.unwrap();
    assert_eq!(found.user_dn, user_dn("grace"));
    assert!(found.groups.is_empty());
}

#[tokio::test]
async fn referrals_in_an_answer_are_passed_over() {
    let directory = OpenLdap::start(LdapOptions::default()).unwrap();
    directory
        .add_ldif(&format!(
            "dn: ou=Elsewhere,{SUFFIX}\nobjectClass: referral\nobjectClass: extensibleObject\n\
             ou: Elsewhere\nref: ldap://elsewhere.invalid/ou=Elsewhere,{SUFFIX}\n"
        ))
        .unwrap();
    let client = open(&DirectoryConfig {
        userdn: SUFFIX.into(),
        groupdn: SUFFIX.into(),
        ..config(directory.url())
    });
    let found = client.lookup("grace").await.unwrap();
    assert_eq!(sorted(&found.groups), ["coders", "engineers"]);
    // A base that is itself elsewhere is an error that says so.
    let elsewhere = open(&DirectoryConfig {
        groupdn: format!("ou=Elsewhere,{SUFFIX}"),
        ..config(directory.url())
    });
    let error = elsewhere.lookup("grace").await.unwrap_err();
    assert!(
        error.mend().starts_with("another server holds"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_change_in_the_directory_shows_at_once() {
    let directory = OpenLdap::start(LdapOptions::default()).unwrap();
    let client = open(&config(directory.url()));
    assert!(client.lookup("loner").await.unwrap().groups.is_empty());
    directory.add_member("engineers", "loner").unwrap();
    assert_eq!(client.lookup("loner").await.unwrap().groups, ["engineers"]);
    directory.remove_member("engineers", "loner").unwrap();
    assert!(client.lookup("loner").await.unwrap().groups.is_empty());
}
