//! A ticket's proof is taken once (threats: `replay`).

use std::sync::Arc;
use std::time::Duration;

use obol_testbed::{LdapOptions, OpenLdap};
use serde_json::json;

use crate::mount::{Mount, id_in, ldap_config, with};
use crate::world::{Client, world};

#[tokio::test]
async fn replay_at_once_is_refused() {
    let mount = Mount::ready().await;
    let grace = Client::of("grace");
    let token = grace.token();
    mount.login(&token).await.unwrap();
    let error = mount.login(&token).await.unwrap_err();
    assert_eq!(error.status(), 401);
    assert!(error.headers().is_empty(), "{:?}", error.headers());
    assert!(error.messages()[0].contains("used before"), "{error}");
    assert!(world().logged(&id_in(&error))[0].contains("grace@EXAMPLE.COM"));
    // The same ticket with a new proof is fine.
    mount.login(&grace.token()).await.unwrap();
}

#[tokio::test]
async fn replay_of_a_remembered_user_is_refused_by_the_commit_and_logged() {
    let ldap = OpenLdap::start(LdapOptions::default()).unwrap();
    let mount = Mount::ready_with(&ldap).await;
    let remembering = with(ldap_config(&ldap), json!({"cache_ttl": "1h"}));
    mount.write("config/ldap", remembering).await.unwrap();
    let token = Client::of("grace").token();
    mount.login(&token).await.unwrap();
    // Nobody is asked about the user any more, so that nothing looks for the replay before the commit does.
    ldap.stop().unwrap();
    let error = mount.login(&token).await.unwrap_err();
    assert_eq!(error.status(), 401);
    assert!(error.messages()[0].contains("used before"), "{error}");
    let logged = world().logged(&id_in(&error));
    let refusal = logged.last().unwrap();
    assert!(refusal.contains("grace@EXAMPLE.COM"), "{refusal}");
    assert!(refusal.contains("was used for a login before"), "{refusal}");

    // With nothing remembered, the replay is found before the directory, which is gone, is asked.
    mount.delete("cache").await.unwrap();
    let error = mount.login(&token).await.unwrap_err();
    assert_eq!(error.status(), 401);
    assert!(error.messages()[0].contains("used before"), "{error}");
}

#[tokio::test]
async fn replay_after_a_restart_or_on_another_server_is_refused() {
    let mount = Mount::ready().await;
    let token = Client::of("grace").token();
    mount.login(&token).await.unwrap();
    let restarted = mount.another_server().await;
    assert_eq!(restarted.login(&token).await.unwrap_err().status(), 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_of_many_at_once_lets_one_in() {
    let mount = Mount::ready().await;
    let servers = [Arc::new(mount.another_server().await), Arc::new(mount)];
    let grace = Client::of("grace");
    // What logins need is built before, so that they meet each other at the end of their way.
    servers[0].login(&grace.token()).await.unwrap();
    servers[1].login(&grace.token()).await.unwrap();
    for _ in 0..5 {
        let token = grace.token();
        let logins: Vec<_> = (0..16)
            .map(|n| {
                let (server, token) = (servers[n % 2].clone(), token.clone());
                tokio::spawn(async move { server.login(&token).await.map(|login| login.alias) })
            })
            .collect();
        let mut accepted = 0;
        for login in logins {
            match login.await.unwrap() {
                Ok(_) => accepted += 1,
                Err(error) => assert_eq!(error.status(), 401, "{error}"),
            }
        }
        assert_eq!(accepted, 1);
    }
}

#[tokio::test]
async fn marks_go_when_no_clock_takes_the_proof_any_more_and_not_before() {
    let mount = Mount::ready().await;
    let token = Client::of("grace").token();
    mount.login(&token).await.unwrap();
    let marks = |paths: Vec<String>| {
        paths
            .into_iter()
            .filter(|path| path.starts_with("replay"))
            .count()
    };
    assert_eq!(marks(mount.paths().await), 1);
    mount.tidy_at(Duration::from_secs(14 * 60)).await;
    assert_eq!(marks(mount.paths().await), 1);
    assert_eq!(mount.login(&token).await.unwrap_err().status(), 401);
    // They go by half hours.
    mount.tidy_at(Duration::from_secs(46 * 60)).await;
    assert_eq!(marks(mount.paths().await), 0);
    // Everything else is still there.
    mount.login(&Client::of("grace").token()).await.unwrap();
}
