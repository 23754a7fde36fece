//! Connections are kept, bounded, closed in time, and never lent in an unknown state.

use std::time::Duration;

use obol_directory::{Directory, DirectoryError};
use obol_testbed::people::user_dn;
use obol_testbed::{LdapOptions, OpenLdap};
use tokio::task::JoinSet;

use crate::support::{Proxy, config, eventually, open, pause, shared, sorted};

#[tokio::test]
async fn a_hundred_lookups_use_one_connection_after_another() {
    let proxy = Proxy::before(&shared().url()).await;
    let directory = open(&config(proxy.url()));
    for _ in 0..100 {
        directory.lookup("grace").await.unwrap();
    }
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_lookups_share_a_bounded_number_of_connections() {
    let proxy = Proxy::before(&shared().url()).await;
    let directory = open(&config(proxy.url()));
    for _ in 0..3 {
        let mut lookups = JoinSet::new();
        for number in 0..100 {
            let directory = directory.clone();
            lookups.spawn(async move {
                let (user, groups): (_, &[&str]) = match number % 3 {
                    0 => ("grace", &["coders", "engineers"]),
                    1 => ("admin", &["Admins", "engineers"]),
                    _ => ("loner", &[]),
                };
                let found = directory.lookup(user).await.unwrap();
                assert_eq!(found.user_dn, user_dn(user));
                assert_eq!(sorted(&found.groups), groups);
            });
        }
        while let Some(done) = lookups.join_next().await {
            done.unwrap();
        }
    }
    assert!(proxy.most() <= 8, "{} connections at once", proxy.most());
    assert!(proxy.accepted() <= 8, "{} connections", proxy.accepted());
}

#[tokio::test]
async fn who_finds_no_free_connection_waits_a_bounded_time() {
    let slapd = OpenLdap::start(LdapOptions::default()).unwrap();
    let mut config = config(slapd.url());
    config.max_connections = 1;
    config.max_wait = Duration::from_millis(200);
    let directory = open(&config);
    directory.lookup("grace").await.unwrap();

    pause(&slapd).await;
    let (mut one, mut other) = (
        spawn_lookup(&directory, "joan"),
        spawn_lookup(&directory, "joan"),
    );
    let (first, stuck) = tokio::select! {
        first = &mut one => (first, other),
        first = &mut other => (first, one),
    };
    let error = first.unwrap().unwrap_err();
    assert!(matches!(error, DirectoryError::Busy { .. }), "{error:?}");
    assert!(error.is_unavailable());
    assert!(error.mend().contains("max_connections"));
    slapd.resume().unwrap();
    assert_eq!(stuck.await.unwrap().unwrap().user_dn, user_dn("joan"));
    directory.lookup("grace").await.unwrap();
}

#[tokio::test]
async fn a_cancelled_lookup_leaves_no_answer_for_the_next_one() {
    let proxy = Proxy::before(&shared().url()).await;
    let mut config = config(proxy.url());
    config.max_connections = 1;
    let directory = open(&config);
    for round in 0..60 {
        // Cancelled at a different point each time: after so many polls.
        let cancelled = spawn_lookup(&directory, "many");
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        cancelled.abort();
        let _ = cancelled.await;
        let found = directory.lookup("grace").await.unwrap();
        assert_eq!(found.user_dn, user_dn("grace"), "round {round}");
        assert_eq!(
            sorted(&found.groups),
            ["coders", "engineers"],
            "round {round}"
        );
    }
    // The cancelled ones were closed, not kept.
    assert!(proxy.accepted() > 1);
    eventually("only one is open", async || proxy.open() == 1).await;
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let proxy = Proxy::before(&shared().url()).await;
    let mut config = config(proxy.url());
    config.idle_timeout = Duration::from_millis(100);
    let directory = open(&config);
    for _ in 0..2 {
        directory.lookup("grace").await.unwrap();
        eventually("the idle connection is closed", async || proxy.open() == 0).await;
    }
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn the_last_clone_closes_its_connections() {
    let proxy = Proxy::before(&shared().url()).await;
    let directory = open(&config(proxy.url()));
    let clone = directory.clone();
    directory.lookup("grace").await.unwrap();
    drop(directory);
    clone.lookup("grace").await.unwrap();
    assert_eq!(proxy.accepted(), 1);
    drop(clone);
    eventually("all connections are closed", async || proxy.open() == 0).await;
}

#[tokio::test]
async fn a_users_connection_is_closed_after_the_bind() {
    let proxy = Proxy::before(&shared().url()).await;
    let directory = open(&config(proxy.url()));
    for _ in 0..5 {
        directory
            .authenticate("grace", "grace-password")
            .await
            .unwrap();
        directory.authenticate("grace", "wrong").await.unwrap_err();
    }
    assert_eq!(proxy.accepted(), 11);
    eventually("only the kept one is open", async || proxy.open() == 1).await;
}

#[tokio::test]
async fn connections_are_closed_with_a_goodbye() {
    let slapd = OpenLdap::start(LdapOptions::default()).unwrap();
    let mut config = config(slapd.ldaps_url());
    config.certificate = slapd.ca_pem();
    config.idle_timeout = Duration::from_millis(100);
    let directory = open(&config);
    directory
        .authenticate("grace", "grace-password")
        .await
        .unwrap();
    eventually(
        "the user's and the idle connection are unbound",
        async || slapd.log().unwrap().matches(" UNBIND").count() == 2,
    )
    .await;
}

#[test]
fn a_directory_may_be_made_and_dropped_outside_a_runtime() {
    let directory = open(&config(shared().url()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(directory.lookup("grace")).unwrap();
    drop(runtime);
    // Its connections died with that runtime; another one gets new ones.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(directory.lookup("grace")).unwrap();
    drop(runtime);
    drop(directory);
}

fn spawn_lookup(
    directory: &Directory,
    user: &'static str,
) -> tokio::task::JoinHandle<Result<std::sync::Arc<obol_directory::Membership>, DirectoryError>> {
    let directory = directory.clone();
    tokio::spawn(async move { directory.lookup(user).await })
}
