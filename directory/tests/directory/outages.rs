//! Servers that are down, silent, slow, restarted, or back again.

use std::time::Duration;

use obol_directory::{DirectoryConfig, DirectoryError};
use obol_testbed::{LdapOptions, OpenLdap};
use tokio::time::Instant;

use crate::support::{DeadPort, Proxy, config, eventually, open, pause, shared, sorted};

const SHORT: Duration = Duration::from_millis(400);
/// Far longer than anything here should take, far shorter than the timeouts it is compared with.
const PROMPT: Duration = Duration::from_secs(15);

async fn works(directory: &obol_directory::Directory) {
    let found = directory.lookup("grace").await.unwrap();
    assert_eq!(sorted(&found.groups), ["coders", "engineers"]);
}

#[tokio::test]
async fn the_first_url_dead_and_the_second_alive() {
    let dead = DeadPort::new();
    let directory = open(&config(format!("{}, {}", dead.url(), shared().url())));
    works(&directory).await;
    directory
        .authenticate("grace", "grace-password")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dead_server_is_remembered_so_that_not_every_login_waits_for_it() {
    let silent = Proxy::start(|stream| {
        Box::pin(async move {
            let _held = stream;
            std::future::pending::<()>().await;
        })
    })
    .await;
    let mut config = config(format!("{},{}", silent.url(), shared().url()));
    config.connection_timeout = SHORT;
    config.retry_after = Duration::from_secs(3600);
    config.idle_timeout = Duration::ZERO;
    let directory = open(&config);
    for _ in 0..20 {
        works(&directory).await;
    }
    assert_eq!(silent.accepted(), 1);
}

#[tokio::test]
async fn the_first_server_is_used_again_once_it_answers() {
    let first = OpenLdap::start(LdapOptions::default()).unwrap();
    let to_second = Proxy::before(&shared().url()).await;
    first.stop().unwrap();
    let mut config = config(format!("{},{}", first.url(), to_second.url()));
    config.retry_after = Duration::from_millis(50);
    let directory = open(&config);
    works(&directory).await;
    assert_eq!(to_second.accepted(), 1);
    first.start_again().unwrap();
    eventually("the second server is given up", async || {
        works(&directory).await;
        to_second.open() == 0
    })
    .await;
    let seen = to_second.accepted();
    works(&directory).await;
    assert_eq!(to_second.accepted(), seen);
}

#[tokio::test]
async fn all_servers_dead_names_each_cause() {
    let dead = [DeadPort::new(), DeadPort::new()];
    let urls = format!("{},{}", dead[0].url(), dead[1].url());
    let directory = open(&config(urls));
    for _ in 0..2 {
        let error = directory.lookup("grace").await.unwrap_err();
        let DirectoryError::NoServer { attempts } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(attempts.len(), 2);
        for (attempt, dead) in attempts.iter().zip(&dead) {
            let DirectoryError::Dial {
                url,
                cause,
                timed_out,
            } = attempt
            else {
                panic!("{attempt:?}");
            };
            assert_eq!(*url, dead.url());
            assert!(cause.contains("refused") && !timed_out, "{cause}");
        }
        assert!(error.is_unavailable() && !error.is_refusal());
        assert!(error.mend().contains("running"));
    }
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_told_apart() {
    let directory = open(&config("ldap://no-such-host.invalid"));
    let error = directory.lookup("grace").await.unwrap_err();
    assert!(matches!(error, DirectoryError::Dial { .. }), "{error:?}");
    assert!(error.is_unavailable());
}

#[tokio::test]
async fn a_hanging_server_meets_the_timeout_and_the_pool_recovers() {
    let slapd = OpenLdap::start(LdapOptions::default()).unwrap();
    let mut config = config(slapd.url());
    config.request_timeout = SHORT;
    config.connection_timeout = SHORT;
    let directory = open(&config);
    works(&directory).await;

    pause(&slapd).await;
    let start = Instant::now();
    let error = directory.lookup("grace").await.unwrap_err();
    let DirectoryError::Timeout { operation, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*operation, "search for the user");
    assert!(error.is_unavailable());
    // The kept connection is gone; a new one hangs in its bind.
    let error = directory.lookup("grace").await.unwrap_err();
    assert!(
        matches!(
            &error,
            DirectoryError::Timeout {
                operation: "bind",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(start.elapsed() < PROMPT);

    slapd.resume().unwrap();
    works(&directory).await;
}

#[tokio::test]
async fn a_server_that_hangs_hands_over_to_the_next() {
    let slapd = OpenLdap::start(LdapOptions::default()).unwrap();
    let mut config = config(format!("{},{}", slapd.url(), shared().url()));
    config.request_timeout = SHORT;
    config.connection_timeout = SHORT;
    config.retry_after = Duration::from_secs(3600);
    let directory = open(&config);
    works(&directory).await;
    pause(&slapd).await;
    directory.lookup("grace").await.unwrap_err();
    works(&directory).await;
    works(&directory).await;
    slapd.resume().unwrap();
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_meets_the_timeout() {
    let slapd = OpenLdap::start(LdapOptions::default()).unwrap();
    pause(&slapd).await;
    for url in [slapd.url(), slapd.ldaps_url()] {
        let directory = open(&DirectoryConfig {
            starttls: true,
            certificate: slapd.ca_pem(),
            connection_timeout: SHORT,
            ..config(url)
        });
        let error = directory.lookup("grace").await.unwrap_err();
        assert!(
            matches!(
                &error,
                DirectoryError::Dial {
                    timed_out: true,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.mend().contains("firewall"));
    }
}

#[tokio::test]
async fn a_server_restarted_under_the_pool_is_not_noticed() {
    let slapd = OpenLdap::start(LdapOptions::default()).unwrap();
    let directory = open(&config(slapd.url()));
    for _ in 0..3 {
        works(&directory).await;
        slapd.stop().unwrap();
        slapd.start_again().unwrap();
    }
    works(&directory).await;

    slapd.stop().unwrap();
    let error = directory.lookup("grace").await.unwrap_err();
    assert!(matches!(error, DirectoryError::Dial { .. }), "{error:?}");
    slapd.start_again().unwrap();
    works(&directory).await;
}

#[tokio::test]
async fn connections_that_the_server_closes_when_idle_are_replaced() {
    let slapd = OpenLdap::start(LdapOptions {
        idle_timeout: Some(1),
        ..LdapOptions::default()
    })
    .unwrap();
    let proxy = Proxy::before(&slapd.url()).await;
    let directory = open(&config(proxy.url()));
    works(&directory).await;
    eventually("the server closes the idle connection", async || {
        proxy.open() == 0
    })
    .await;
    works(&directory).await;
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn a_broken_connection_is_retried_once_and_no_more() {
    // Binds are answered, searches cost the connection.
    let target = shared().url();
    let port: u16 = target.rsplit(':').next().unwrap().parse().unwrap();
    let moody = Proxy::start(move |client| {
        Box::pin(async move {
            let server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            let (mut client, mut server) = (client, server.unwrap());
            let mut bytes = vec![0; 4096];
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let length = client.read(&mut bytes).await.unwrap();
            server.write_all(&bytes[..length]).await.unwrap();
            let length = server.read(&mut bytes).await.unwrap();
            client.write_all(&bytes[..length]).await.unwrap();
            let _ = client.read(&mut bytes).await;
        })
    })
    .await;
    let directory = open(&config(moody.url()));
    let error = directory.lookup("grace").await.unwrap_err();
    let DirectoryError::Lost {
        cause, operation, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*operation, "search for the user");
    assert!(cause.contains("closed"), "{cause}");
    assert!(error.is_unavailable());
    assert_eq!(moody.accepted(), 1);
}
