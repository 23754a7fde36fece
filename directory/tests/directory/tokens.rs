//! Groups by SID and by `tokenGroups`, on an OpenLDAP that has Active Directory's attributes. The
//! SIDs of a real Active Directory are in active_directory.rs.

use obol_directory::{DirectoryConfig, DirectoryError, sid_text};
use obol_testbed::people::{GROUP_DN, SUFFIX, USER_DN, user_dn};
use obol_testbed::{LdapOptions, OpenLdap};

use crate::support::{anonymous, config, open, shared, sorted};

const SCHEMA: &str = "
attributetype ( 1.2.840.113556.1.4.146 NAME 'objectSid'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.1301 NAME 'tokenGroups'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.4203.666.99.2 NAME 'group' SUP top STRUCTURAL
  MUST ( cn $ objectSid ) MAY ( sAMAccountName $ member $ description ) )
objectclass ( 1.3.6.1.4.1.4203.666.99.3 NAME 'principal' AUXILIARY
  MAY ( objectSid $ tokenGroups ) )
";

pub(crate) fn sid(rid: u32) -> Vec<u8> {
    let mut sid = vec![1, 5, 0, 0, 0, 0, 0, 5];
    for part in [21, 1004336348, 1177238915, 682003330, rid] {
        sid.extend_from_slice(&u32::to_le_bytes(part));
    }
    sid
}

fn base64(bytes: &[u8]) -> String {
    openssl::base64::encode_block(bytes)
}

fn group(dn: &str, cn: &str, rid: u32) -> String {
    let sid = base64(&sid(rid));
    format!(
        "dn: {dn}\nobjectClass: group\ncn: {cn}\nsAMAccountName: {cn}-account\nobjectSid:: {sid}\n\n"
    )
}

/// `loner` holds the SIDs of 1000 (engineers-ad), 1001 (elsewhere), 1002 (nobody's), and of all of
/// 2000 to 2249 (crowd-N).
pub(crate) fn start(options: LdapOptions) -> OpenLdap {
    let directory = OpenLdap::start(LdapOptions {
        global_config: SCHEMA.into(),
        ..options
    })
    .unwrap();
    let mut ldif = String::new();
    ldif += &group(&format!("cn=engineers-ad,{GROUP_DN}"), "engineers-ad", 1000);
    ldif += &group(&format!("cn=elsewhere,{SUFFIX}"), "elsewhere", 1001);
    for n in 0..250 {
        let cn = format!("crowd-{n}");
        ldif += &group(&format!("cn={cn},{GROUP_DN}"), &cn, 2000 + n);
    }
    directory.add_ldif(&ldif).unwrap();
    let mut change = format!(
        "dn: {}\nchangetype: modify\nadd: objectClass\nobjectClass: principal\n-\nadd: tokenGroups\n",
        user_dn("loner")
    );
    for rid in [1000, 1001, 1002].into_iter().chain(2000..2250) {
        change += &format!("tokenGroups:: {}\n", base64(&sid(rid)));
    }
    directory.modify_ldif(&change).unwrap();
    directory
}

#[tokio::test]
async fn sids_have_the_names_of_groups_below_groupdn() {
    let directory = start(LdapOptions::default());
    let open_with = |groupdn: &str, groupattr: &str| {
        open(&DirectoryConfig {
            groupdn: groupdn.into(),
            groupattr: groupattr.into(),
            ..config(directory.url())
        })
    };
    let asked = [
        sid(1002),
        sid(1001),
        sid(1000),
        b"no SID".to_vec(),
        sid(1000),
    ];
    for (groupdn, groupattr, expected) in [
        (GROUP_DN, "cn", ["", "", "engineers-ad", "", "engineers-ad"]),
        (
            GROUP_DN,
            "sAMAccountName",
            ["", "", "engineers-ad-account", "", "engineers-ad-account"],
        ),
        (
            SUFFIX,
            "cn",
            ["", "elsewhere", "engineers-ad", "", "engineers-ad"],
        ),
        // Users are there; their memberOf lists groups anywhere, by DN.
        (
            USER_DN,
            "memberOf",
            ["", "elsewhere", "engineers-ad", "", "engineers-ad"],
        ),
        // The groups have none, so their DNs name them.
        (
            GROUP_DN,
            "description",
            ["", "", "engineers-ad", "", "engineers-ad"],
        ),
        ("", "cn", [""; 5]),
    ] {
        let named = open_with(groupdn, groupattr)
            .group_names_of_sids(&asked)
            .await
            .unwrap();
        let names: Vec<_> = named.iter().map(|group| group.names.join("+")).collect();
        assert_eq!(names, expected, "{groupdn} {groupattr}");
        let sids: Vec<_> = named.into_iter().map(|group| group.sid).collect();
        assert_eq!(sids, asked);
    }
    assert_eq!(
        sid_text(&asked[0]).unwrap(),
        "S-1-5-21-1004336348-1177238915-682003330-1002"
    );
}

/// threats.md `pac-unverified`: what is not a group lends its name to nobody.
#[tokio::test]
async fn pac_unverified_an_entry_that_is_no_group_has_no_name_to_give() {
    let directory = start(LdapOptions::default());
    directory
        .modify_ldif(&format!(
            "dn: {}\nchangetype: modify\nadd: objectClass\nobjectClass: principal\n-\nadd: objectSid\nobjectSid:: {}\n",
            user_dn("grace"),
            base64(&sid(3000)),
        ))
        .unwrap();
    let client = open(&DirectoryConfig {
        groupdn: SUFFIX.into(),
        ..config(directory.url())
    });
    let named = client.group_names_of_sids(&[sid(3000)]).await.unwrap();
    assert_eq!(named[0].names, Vec::<String>::new());
}

#[tokio::test]
async fn token_groups_are_read_in_batches_and_end_in_names() {
    let directory = start(LdapOptions::default());
    // One connection is enough for the user and for the names.
    let client = open(&DirectoryConfig {
        use_token_groups: true,
        max_connections: 1,
        max_wait: std::time::Duration::from_secs(1),
        ..config(directory.url())
    });
    let found = client.lookup("loner").await.unwrap();
    assert_eq!(found.groups.len(), 251);
    assert!(found.groups.contains(&"engineers-ad".to_owned()));
    assert!(!found.groups.contains(&"elsewhere".to_owned()));
    assert_eq!(found.group_dns.len(), 251);
    // The user's own rights do as well.
    let own = open(&DirectoryConfig {
        use_token_groups: true,
        ..anonymous(directory.url())
    });
    let found = own.authenticate("loner", "loner-password").await.unwrap();
    assert_eq!(found.groups.len(), 251);
}

#[tokio::test]
async fn a_user_without_token_groups_is_an_error_not_a_user_without_groups() {
    let client = open(&DirectoryConfig {
        use_token_groups: true,
        ..config(shared().url())
    });
    let error = client.lookup("grace").await.unwrap_err();
    assert!(
        matches!(&error, DirectoryError::NoTokenGroups { user_dn: dn } if *dn == user_dn("grace")),
        "{error:?}"
    );
    assert!(error.mend().contains("use_token_groups"));
    assert!(!error.is_refusal() && !error.is_unavailable());
}

#[tokio::test]
async fn more_sids_than_anybody_has_are_refused() {
    let client = open(&config(shared().url()));
    let sids: Vec<_> = (0..5000).map(sid).collect();
    let error = client.group_names_of_sids(&sids).await.unwrap_err();
    assert!(error.cause().contains("4096"), "{error}");
}

#[tokio::test]
async fn names_cut_short_by_the_server_are_an_error_not_fewer_groups() {
    let directory = start(LdapOptions {
        size_limit: Some(50),
        ..LdapOptions::default()
    });
    let client = open(&config(directory.url()));
    let few: Vec<_> = (2000..2040).map(sid).collect();
    assert_eq!(client.group_names_of_sids(&few).await.unwrap().len(), 40);
    let many: Vec<_> = (2050..2149).map(sid).collect();
    let error = client.group_names_of_sids(&many).await.unwrap_err();
    assert!(
        matches!(error, DirectoryError::SizeLimit { .. }),
        "{error:?}"
    );
    assert!(error.mend().contains("size limit"));
}

#[tokio::test]
async fn groups_are_searched_for_anonymously_where_asked() {
    let directory = OpenLdap::start(LdapOptions {
        anonymous_search: true,
        ..LdapOptions::default()
    })
    .unwrap();
    let client = open(&DirectoryConfig {
        anonymous_group_search: true,
        ..config(directory.url())
    });
    for _ in 0..2 {
        let found = client.lookup("grace").await.unwrap();
        assert_eq!(sorted(&found.groups), ["coders", "engineers"]);
    }
    client
        .authenticate("grace", "grace-password")
        .await
        .unwrap();
    let log = directory.log().unwrap();
    let connection = |line: &str| {
        line.split_whitespace()
            .find(|word| word.starts_with("conn="))
            .unwrap()
            .to_owned()
    };
    let bound: Vec<_> = log
        .lines()
        .filter(|line| line.contains("BIND dn=\""))
        .map(connection)
        .collect();
    let searched = |base: &str| -> Vec<_> {
        let base = format!("SRCH base=\"{base}\"");
        let lines = log.lines().filter(|line| line.contains(&base));
        lines.map(connection).collect()
    };
    let groups = searched(GROUP_DN);
    assert_eq!(groups.len(), 3, "{log}");
    assert!(groups.iter().all(|connection| !bound.contains(connection)));
    let users = searched(USER_DN);
    assert!(users.iter().all(|connection| bound.contains(connection)));
    // One connection is kept for each kind.
    assert!(groups.iter().all(|connection| *connection == groups[0]));
    assert!(users.iter().all(|connection| *connection == users[0]));
}

#[tokio::test]
async fn aliases_are_followed_only_where_asked() {
    use obol_directory::DereferenceAliases::{Always, Finding, Never, Searching};
    let directory = OpenLdap::start(LdapOptions::default()).unwrap();
    directory
        .add_ldif(&format!(
            "dn: ou=Alias,{SUFFIX}\nobjectClass: alias\nobjectClass: extensibleObject\nou: Alias\n\
             aliasedObjectName: {GROUP_DN}\n\n\
             dn: ou=Teams,{SUFFIX}\nobjectClass: organizationalUnit\nou: Teams\n\n\
             dn: cn=link,ou=Teams,{SUFFIX}\nobjectClass: alias\nobjectClass: extensibleObject\n\
             cn: link\naliasedObjectName: cn=engineers,{GROUP_DN}\n"
        ))
        .unwrap();
    for (base, choice, expected) in [
        ("ou=Alias", Never, &[][..]),
        ("ou=Alias", Searching, &[]),
        ("ou=Alias", Finding, &["coders", "engineers"]),
        ("ou=Alias", Always, &["coders", "engineers"]),
        ("ou=Teams", Never, &[]),
        ("ou=Teams", Finding, &[]),
        ("ou=Teams", Searching, &["engineers"]),
        ("ou=Teams", Always, &["engineers"]),
    ] {
        let client = open(&DirectoryConfig {
            groupdn: format!("{base},{SUFFIX}"),
            dereference_aliases: choice,
            ..config(directory.url())
        });
        let found = client.lookup("grace").await.unwrap();
        assert_eq!(sorted(&found.groups), expected, "{base} {choice}");
    }
}

#[tokio::test]
async fn pages_are_as_large_as_configured() {
    let directory = OpenLdap::start(LdapOptions::default()).unwrap();
    for (size, pages) in [(0, 1), (100, 4), (1000, 1)] {
        let before = directory.log().unwrap().len();
        let client = open(&DirectoryConfig {
            max_page_size: size,
            ..config(directory.url())
        });
        assert_eq!(client.lookup("many").await.unwrap().groups.len(), 300);
        let log = directory.log().unwrap().split_off(before);
        let asked = format!("SRCH base=\"{GROUP_DN}\"");
        // 300 in pages of 100 end with a page that says that there are no more.
        let seen = log.matches(&asked).count();
        assert!((pages - 1..=pages).contains(&seen), "{size}: {seen}");
    }
}
