//! What an operator is told who asks why logins fail.

use std::time::Duration;

use obol_directory::{
    DirectoryConfig, DirectoryError, FilterUsed, ProbeStep, ResultCode, StepName, TlsFault,
};
use obol_testbed::people::{GROUP_DN, SUFFIX, USER_DN, user_dn};
use obol_testbed::{LdapOptions, OpenLdap};

use crate::support::{DeadPort, Proxy, anonymous, config, open, shared};
use crate::tokens::{self, sid};

fn names(steps: &[ProbeStep]) -> Vec<StepName> {
    steps.iter().map(|step| step.name).collect()
}

fn finding(steps: &[ProbeStep], name: StepName) -> &str {
    let step = steps.iter().find(|step| step.name == name).unwrap();
    step.outcome.as_ref().unwrap()
}

fn error(steps: &[ProbeStep]) -> &DirectoryError {
    steps.last().unwrap().outcome.as_ref().unwrap_err()
}

const ALL: [StepName; 6] = [
    StepName::Dial,
    StepName::Tls,
    StepName::Bind,
    StepName::RootDse,
    StepName::UserDn,
    StepName::GroupDn,
];

#[tokio::test]
async fn every_url_is_tried_on_its_own() {
    let dead = DeadPort::new();
    let urls = [shared().url(), dead.url(), shared().ldaps_url()];
    let directory = open(&DirectoryConfig {
        starttls: true,
        certificate: shared().ca_pem(),
        ..config(urls.join(","))
    });
    let probes = directory.probe().await;
    let probed: Vec<_> = probes.iter().map(|probe| probe.url.clone()).collect();
    assert_eq!(probed, urls);
    for (index, how) in [(0, "by StartTLS, TLS"), (2, "TLS")] {
        let steps = &probes[index].steps;
        assert!(probes[index].is_usable(), "{steps:?}");
        assert_eq!(names(steps), ALL);
        let tls = finding(steps, StepName::Tls);
        assert!(tls.starts_with(how), "{tls}");
        for part in [
            "Test directory CA",
            "localhost",
            "127.0.0.1",
            "days)",
            "the name fits",
        ] {
            assert!(tls.contains(part), "{part}: {tls}");
        }
        assert!(finding(steps, StepName::Bind).contains("as cn=vault"));
        assert!(finding(steps, StepName::RootDse).contains(SUFFIX));
        assert!(finding(steps, StepName::UserDn).contains(USER_DN));
        assert!(finding(steps, StepName::GroupDn).contains(GROUP_DN));
    }
    assert_eq!(names(&probes[1].steps), [StepName::Dial]);
    assert!(matches!(
        error(&probes[1].steps),
        DirectoryError::Dial { .. }
    ));
    assert!(!probes[1].is_usable());
}

#[tokio::test]
async fn each_step_says_what_is_wrong_with_it() {
    let unbelieved = open(&DirectoryConfig {
        certificate: shared().other_ca_pem(),
        ..config(shared().ldaps_url())
    });
    let steps = &unbelieved.probe().await[0].steps;
    assert_eq!(names(steps), ALL[..2]);
    assert!(matches!(
        error(steps),
        DirectoryError::Tls {
            kind: TlsFault::UnknownCa,
            ..
        }
    ));

    let unchecked = open(&DirectoryConfig {
        insecure_tls: true,
        ..config(shared().ldaps_url())
    });
    let steps = &unchecked.probe().await[0].steps;
    assert!(finding(steps, StepName::Tls).contains("not checked"));

    let misplaced = open(&DirectoryConfig {
        userdn: format!("ou=Nowhere,{SUFFIX}"),
        groupdn: format!("ou=NoGroups,{SUFFIX}"),
        ..config(shared().url())
    });
    let steps = &misplaced.probe().await[0].steps;
    assert!(finding(steps, StepName::Tls).starts_with("none"));
    for step in &steps[4..] {
        let error = step.outcome.as_ref().unwrap_err();
        assert!(
            matches!(
                error,
                DirectoryError::Search {
                    code: ResultCode::NO_SUCH_OBJECT,
                    ..
                }
            ),
            "{error:?}"
        );
    }

    // Nobody is bound, and this directory shows nobody anything.
    let anonymous = open(&anonymous(shared().url()));
    let steps = &anonymous.probe().await[0].steps;
    assert!(finding(steps, StepName::Bind).contains("anonymous"));
    assert!(steps[5].outcome.is_err());
}

#[tokio::test]
async fn a_wrong_password_is_sent_to_one_server_only() {
    let slapd = OpenLdap::start(LdapOptions::default()).unwrap();
    let again = Proxy::before(&slapd.url()).await;
    let directory = open(&DirectoryConfig {
        bindpass: "not-the-password".to_owned().into(),
        ..config(format!("{},{}", slapd.url(), again.url()))
    });
    let probes = directory.probe().await;
    for probe in &probes {
        assert_eq!(names(&probe.steps), ALL[..3]);
        assert_eq!(error(&probe.steps).mend(), "check binddn and bindpass");
    }
    assert!(error(&probes[1].steps).cause().contains("not tried"));
    assert_eq!(slapd.log().unwrap().matches(" BIND dn=").count(), 1);
    assert!(!format!("{probes:?}").contains("not-the-password"));
}

#[tokio::test]
async fn a_server_that_never_answers_does_not_hold_a_probe() {
    let silent = Proxy::start(|stream| {
        Box::pin(async move {
            let _held = stream;
            std::future::pending::<()>().await;
        })
    })
    .await;
    let mut config = config(format!("{},{}", silent.url(), shared().url()));
    config.connection_timeout = Duration::from_millis(500);
    let probes = open(&config).probe().await;
    assert!(matches!(
        error(&probes[0].steps),
        DirectoryError::Timeout {
            operation: "bind",
            ..
        }
    ));
    assert!(probes[0].steps[2].took >= Duration::from_millis(400));
    assert!(probes[1].is_usable());
}

#[tokio::test]
async fn a_user_is_explained() {
    let directory = open(&DirectoryConfig {
        cache_ttl: Duration::from_secs(3600),
        ..config(shared().url())
    });
    let probe = directory.explain_user("grace").await;
    assert_eq!(
        probe.user_search,
        Some(FilterUsed {
            base: USER_DN.into(),
            filter: "(uid=grace)".into()
        })
    );
    assert_eq!(probe.found, [user_dn("grace")]);
    assert_eq!(probe.user_dn.unwrap(), user_dn("grace"));
    let used = probe.group_search.unwrap();
    assert_eq!(used.base, GROUP_DN);
    assert!(used.filter.contains("(memberUid=grace)"));
    let groups = probe.groups_by_filter.unwrap().unwrap();
    assert_eq!(groups, ["coders", "engineers"]);
    assert!(probe.token_groups.is_none() && !probe.uses_token_groups);
    assert_eq!(directory.cache_stats().users.misses, 0);

    let nobody = directory.explain_user("nobody-here").await;
    assert!(nobody.found.is_empty() && nobody.groups_by_filter.is_none());
    assert!(nobody.user_dn.unwrap_err().is_refusal());
    let empty = directory.explain_user("").await;
    assert!(empty.user_search.is_none() && empty.user_dn.is_err());

    let crowded = open(&DirectoryConfig {
        userfilter: "(|({{.UserAttr}}={{.Username}})(objectClass=inetOrgPerson))".into(),
        ..config(shared().url())
    });
    let probe = crowded.explain_user("grace").await;
    assert_eq!(probe.found.len(), 10);
    assert!(matches!(
        probe.user_dn,
        Err(DirectoryError::UserAmbiguous { .. })
    ));

    let composed = open(&DirectoryConfig {
        groupdn: format!("ou=NoGroups,{SUFFIX}"),
        ..anonymous(crate::support::open_to_all().url())
    });
    let probe = composed.explain_user("grace").await;
    assert!(probe.user_search.is_none());
    assert_eq!(probe.found, [user_dn("grace")]);
    let error = probe.groups_by_filter.unwrap().unwrap_err();
    assert!(error.mend().contains("groupdn"), "{error:?}");
}

#[tokio::test]
async fn groups_by_token_are_explained_beside_those_of_the_filter() {
    let slapd = tokens::start(LdapOptions::default());
    slapd.add_member("engineers", "loner").unwrap();
    for uses in [false, true] {
        let directory = open(&DirectoryConfig {
            use_token_groups: uses,
            max_connections: 1,
            ..config(slapd.url())
        });
        let probe = directory.explain_user("loner").await;
        assert_eq!(probe.uses_token_groups, uses);
        assert_eq!(probe.groups_by_filter.unwrap().unwrap(), ["engineers"]);
        let tokens = probe.token_groups.unwrap().unwrap();
        assert_eq!(tokens.len(), 253);
        let names = |rid| {
            let sid = sid(rid);
            let group = tokens.iter().find(|group| group.sid == sid).unwrap();
            group.names.clone()
        };
        assert_eq!(names(1000), ["engineers-ad"]);
        // It is not below groupdn, so that it does not count.
        assert!(names(1001).is_empty());
    }
}
