//! Caches that tell the truth: never longer than stated, one question however many wait, and an
//! outage is no answer. threats.md `group-gone`.

use std::time::Duration;

use obol_directory::{Directory, DirectoryConfig, DirectoryError, Membership};
use obol_testbed::people::{GROUP_DN, group_dn};
use obol_testbed::{LdapOptions, OpenLdap};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{config, eventually, open, pause, sorted};
use crate::tokens::{self, sid};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(1500);

fn cached(slapd: &OpenLdap, ttl: Duration) -> Directory {
    open(&DirectoryConfig {
        cache_ttl: ttl,
        ..config(slapd.url())
    })
}

fn start() -> OpenLdap {
    OpenLdap::start(LdapOptions::default()).unwrap()
}

async fn groups(directory: &Directory, user: &str) -> Vec<String> {
    sorted(&directory.lookup(user).await.unwrap().groups)
}

type Lookup = JoinHandle<Result<std::sync::Arc<Membership>, DirectoryError>>;

fn spawn(directory: &Directory, user: &'static str) -> Lookup {
    let directory = directory.clone();
    tokio::spawn(async move { directory.lookup(user).await })
}

/// Searches for this user that slapd has seen.
fn searches(slapd: &OpenLdap, user: &str) -> usize {
    let filter = format!("filter=\"(uid={user})\"");
    slapd.log().unwrap().matches(&filter).count()
}

/// Asks until the answer changes; no answer that is older than `ttl` may be the old one.
async fn changes_within<T: PartialEq>(
    ttl: Duration,
    old: T,
    mut ask: impl AsyncFnMut() -> T,
    mut change: impl FnMut(),
) {
    assert!(ask().await == old);
    // The question was asked before now.
    let known = Instant::now();
    change();
    let in_time = known.elapsed() < ttl / 2;
    let mut was_kept = false;
    loop {
        let begun = Instant::now();
        if ask().await != old {
            break;
        }
        was_kept = true;
        assert!(begun < known + ttl, "an answer was served for too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(was_kept || !in_time, "nothing was kept");
}

#[tokio::test]
async fn group_gone_a_removed_member_is_out_when_the_ttl_is_over() {
    let slapd = start();
    let directory = cached(&slapd, SHORT);
    changes_within(
        SHORT,
        vec!["coders".to_owned(), "engineers".to_owned()],
        async || groups(&directory, "grace").await,
        || slapd.remove_member("engineers", "grace").unwrap(),
    )
    .await;
    changes_within(
        SHORT,
        vec!["coders".to_owned()],
        async || groups(&directory, "grace").await,
        || slapd.remove_group("coders").unwrap(),
    )
    .await;
    // A user who is gone is refused.
    changes_within(
        SHORT,
        true,
        async || directory.lookup("grace").await.is_ok(),
        || {
            slapd
                .delete(&obol_testbed::people::user_dn("grace"))
                .unwrap()
        },
    )
    .await;
    let stats = directory.cache_stats().users;
    assert!(stats.hits > 3 && stats.misses >= 4, "{stats:?}");
}

#[tokio::test]
async fn group_gone_without_a_ttl_nothing_is_kept() {
    let slapd = start();
    let directory = cached(&slapd, Duration::ZERO);
    assert_eq!(groups(&directory, "grace").await.len(), 2);
    slapd.remove_member("engineers", "grace").unwrap();
    assert_eq!(groups(&directory, "grace").await, ["coders"]);
    assert_eq!(directory.cache_stats().users, Default::default());
}

#[tokio::test]
async fn group_gone_a_fresh_lookup_and_a_flush_see_what_is_there() {
    let slapd = start();
    let directory = cached(&slapd, LONG);
    for user in ["grace", "admin"] {
        assert!(groups(&directory, user).await.contains(&"engineers".into()));
        slapd.remove_member("engineers", user).unwrap();
        assert!(groups(&directory, user).await.contains(&"engineers".into()));
        let fresh = directory.lookup_fresh(user).await.unwrap();
        assert!(!fresh.groups.contains(&"engineers".into()));
        // What was asked beside the cache is not in it.
        assert!(groups(&directory, user).await.contains(&"engineers".into()));
    }
    directory.flush(Some("Grace@EXAMPLE.COM"));
    assert_eq!(groups(&directory, "grace").await, ["coders"]);
    assert_eq!(groups(&directory, "admin").await, ["Admins", "engineers"]);
    directory.flush(None);
    assert_eq!(directory.cache_stats().users.entries, 0);
    assert_eq!(groups(&directory, "admin").await, ["Admins"]);
}

#[tokio::test]
async fn group_gone_what_was_flushed_while_it_was_asked_is_not_kept() {
    let slapd = start();
    let directory = cached(&slapd, LONG);
    groups(&directory, "joan").await;
    pause(&slapd).await;
    let under_way = spawn(&directory, "grace");
    eventually("the question is asked", async || {
        directory.cache_stats().users.misses == 2
    })
    .await;
    directory.flush(Some("grace"));
    // Who comes after the flush does not wait for the old answer.
    let after = spawn(&directory, "grace");
    eventually("it is asked again", async || {
        directory.cache_stats().users.misses == 3
    })
    .await;
    directory.flush(None);
    slapd.resume().unwrap();
    assert_eq!(under_way.await.unwrap().unwrap().groups.len(), 2);
    assert_eq!(after.await.unwrap().unwrap().groups.len(), 2);
    assert_eq!(directory.cache_stats().users.entries, 0);
}

#[tokio::test]
async fn one_question_is_asked_however_many_logins_wait() {
    let slapd = start();
    let directory = cached(&slapd, LONG);
    groups(&directory, "joan").await;
    pause(&slapd).await;
    let logins: Vec<_> = (0..50).map(|_| spawn(&directory, "grace")).collect();
    eventually("all of them wait", async || {
        directory.cache_stats().users.waits == 49
    })
    .await;
    slapd.resume().unwrap();
    for login in logins {
        assert_eq!(login.await.unwrap().unwrap().groups.len(), 2);
    }
    assert_eq!(searches(&slapd, "grace"), 1);
    let stats = directory.cache_stats().users;
    assert_eq!((stats.misses, stats.waits, stats.hits), (2, 49, 0));
    assert_eq!(stats.entries, 2);
}

#[tokio::test]
async fn a_login_that_gives_up_takes_nobody_with_it() {
    let slapd = start();
    let directory = cached(&slapd, LONG);
    groups(&directory, "joan").await;
    pause(&slapd).await;
    let first = spawn(&directory, "grace");
    eventually("the first asks", async || {
        directory.cache_stats().users.misses == 2
    })
    .await;
    let second = spawn(&directory, "grace");
    eventually("the second waits", async || {
        directory.cache_stats().users.waits == 1
    })
    .await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    slapd.resume().unwrap();
    assert_eq!(second.await.unwrap().unwrap().groups.len(), 2);
    assert_eq!(searches(&slapd, "grace"), 1);

    // Nor is a question left behind that nobody waits for.
    pause(&slapd).await;
    let alone = spawn(&directory, "many");
    eventually("it asks", async || {
        directory.cache_stats().users.misses == 3
    })
    .await;
    alone.abort();
    assert!(alone.await.unwrap_err().is_cancelled());
    slapd.resume().unwrap();
    assert_eq!(groups(&directory, "many").await.len(), 300);
    assert_eq!(directory.cache_stats().users.misses, 4);
}

#[tokio::test]
async fn an_outage_is_no_answer_and_what_is_known_outlives_it() {
    let slapd = start();
    let mut config = config(slapd.url());
    config.cache_ttl = LONG;
    config.request_timeout = Duration::from_millis(500);
    config.connection_timeout = Duration::from_millis(500);
    let directory = open(&config);
    groups(&directory, "grace").await;
    pause(&slapd).await;
    let logins: Vec<_> = (0..20).map(|_| spawn(&directory, "joan")).collect();
    for login in logins {
        let error = login.await.unwrap().unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
    }
    // One waited for the server; the others for it, not one after the other.
    assert!(directory.cache_stats().users.misses <= 3);
    assert_eq!(groups(&directory, "grace").await.len(), 2);
    slapd.resume().unwrap();
    slapd.stop().unwrap();
    assert!(directory.lookup("joan").await.unwrap_err().is_unavailable());
    assert_eq!(groups(&directory, "grace").await.len(), 2);
    slapd.start_again().unwrap();
    eventually("joan is found at once", async || {
        directory.lookup("joan").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_remembered_briefly() {
    let slapd = start();
    let directory = cached(&slapd, SHORT);
    changes_within(
        SHORT,
        false,
        async || directory.lookup("newcomer").await.is_ok(),
        || slapd.add_user("newcomer", "newcomer-password").unwrap(),
    )
    .await;
    // Five seconds at most, however long the time of other answers.
    let directory = cached(&slapd, LONG);
    directory.lookup("later").await.unwrap_err();
    let known = Instant::now();
    slapd.add_user("later", "later-password").unwrap();
    let is_err = directory.lookup("later").await.is_err();
    assert!(is_err || known.elapsed() > Duration::from_secs(4));
    eventually("the user is found", async || {
        directory.lookup("later").await.is_ok()
    })
    .await;
    assert!(known.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn one_spelling_never_answers_for_another() {
    let slapd = start();
    let directory = cached(&slapd, LONG);
    for name in ["grace", "Grace", "GRACE"] {
        directory.lookup(name).await.unwrap();
    }
    // Which the directory takes for grace, and Kerberos does not.
    directory.lookup("grace ").await.unwrap_err();
    assert_eq!(directory.cache_stats().users.misses, 4);
}

fn cached_names(slapd: &OpenLdap, ttl: Duration) -> Directory {
    open(&DirectoryConfig {
        sid_cache_ttl: ttl,
        ..config(slapd.url())
    })
}

async fn name(directory: &Directory, rid: u32) -> Option<String> {
    let mut named = directory.group_names_of_sids(&[sid(rid)]).await.unwrap();
    named.pop().unwrap().names.pop()
}

fn rename(slapd: &OpenLdap, from: &str, to: &str) {
    slapd
        .modify_ldif(&format!(
            "dn: {}\nchangetype: modrdn\nnewrdn: cn={to}\ndeleteoldrdn: 1\n",
            group_dn(from)
        ))
        .unwrap();
}

#[tokio::test]
async fn group_gone_a_name_behind_a_sid_is_believed_no_longer_than_stated() {
    let slapd = tokens::start(LdapOptions::default());
    let directory = cached_names(&slapd, SHORT);
    let name_of_1000 = async || name(&directory, 1000).await;
    let old = Some("engineers-ad".to_owned());
    changes_within(SHORT, old, name_of_1000, || {
        rename(&slapd, "engineers-ad", "renamed");
    })
    .await;
    let old = Some("renamed".to_owned());
    changes_within(SHORT, old, name_of_1000, || {
        slapd.delete(&format!("cn=renamed,{GROUP_DN}")).unwrap();
    })
    .await;
    // Where groups are members by token groups, the same holds for what a lookup says.
    let by_token = open(&DirectoryConfig {
        use_token_groups: true,
        cache_ttl: LONG,
        sid_cache_ttl: SHORT,
        ..config(slapd.url())
    });
    let has_crowd = async || {
        let found = by_token.lookup("loner").await.unwrap();
        found.groups.contains(&"crowd-7".to_owned())
    };
    changes_within(SHORT, true, has_crowd, || {
        rename(&slapd, "crowd-7", "crowd-seven");
    })
    .await;
}

#[tokio::test]
async fn names_in_use_are_asked_for_again_before_their_time_is_up() {
    let slapd = tokens::start(LdapOptions::default());
    let directory = cached_names(&slapd, SHORT);
    let sids: Vec<_> = (990..1010).map(sid).collect();
    let begun = Instant::now();
    while begun.elapsed() < SHORT * 4 {
        let named = directory.group_names_of_sids(&sids).await.unwrap();
        assert_eq!(named[10].names, ["engineers-ad"]);
        assert!(named[11].names.is_empty());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stats = directory.cache_stats().sids;
    // Slow machines may miss a turn; most logins never wait.
    assert!(
        stats.refreshes >= 20 && stats.hits > stats.misses,
        "{stats:?}"
    );
    assert_eq!(stats.entries, 20);

    // Away: what is known holds until its time, and then there is an error, not an old answer.
    slapd.stop().unwrap();
    let stopped = Instant::now();
    loop {
        let begun = Instant::now();
        match directory.group_names_of_sids(&sids).await {
            Ok(named) => {
                assert_eq!(named[10].names, ["engineers-ad"]);
                assert!(begun < stopped + SHORT);
            }
            Err(error) => {
                assert!(error.is_unavailable(), "{error:?}");
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn names_that_many_logins_want_are_asked_for_once() {
    let slapd = tokens::start(LdapOptions::default());
    let directory = cached_names(&slapd, LONG);
    directory.group_names_of_sids(&[sid(1)]).await.unwrap();
    pause(&slapd).await;
    let logins: Vec<_> = (0..10u32)
        .map(|n| {
            let directory = directory.clone();
            // Each wants all that those before it want, and one more.
            let sids: Vec<_> = (2000..2100 + n).map(sid).collect();
            tokio::spawn(async move { directory.group_names_of_sids(&sids).await })
        })
        .collect();
    eventually("all of them wait", async || {
        let stats = directory.cache_stats().sids;
        stats.misses + stats.waits == 1 + (0..10).map(|n| 100 + n).sum::<u64>()
    })
    .await;
    slapd.resume().unwrap();
    for (n, login) in logins.into_iter().enumerate() {
        let named = login.await.unwrap().unwrap();
        assert_eq!(named.len(), 100 + n);
        assert!(named.iter().all(|group| group.names.len() == 1));
    }
    assert_eq!(directory.cache_stats().sids.misses, 1 + 109);
    directory.flush(None);
    assert_eq!(directory.cache_stats().sids.entries, 0);
}
