//! Servers that send what no directory should: each costs an error, never the process, never a
//! wrong answer, never unbounded memory.

use std::time::Duration;

use obol_directory::{DirectoryConfig, DirectoryError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Proxy, anonymous, open};

/// Answers the first request with `bytes`, then `hold`s the connection or closes it.
async fn answers(bytes: Vec<u8>, hold: bool) -> DirectoryError {
    let server = Proxy::start(move |mut stream| {
        let bytes = bytes.clone();
        Box::pin(async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&bytes).await;
            if hold {
                std::future::pending::<()>().await;
            }
        })
    })
    .await;
    let mut config = anonymous(server.url());
    config.discoverdn = true;
    config.request_timeout = Duration::from_millis(800);
    open(&config).lookup("grace").await.unwrap_err()
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len() as u32;
    [&[tag, 0x84][..], &length.to_be_bytes(), contents].concat()
}

fn message(operation: &[u8]) -> Vec<u8> {
    element(0x30, &[&[2, 1, 1], operation].concat())
}

fn entry(dn: &[u8]) -> Vec<u8> {
    let value = element(0x31, &element(4, b"grace"));
    let attribute = element(0x30, &[element(4, b"uid"), value].concat());
    let attributes = element(0x30, &attribute);
    message(&element(0x64, &[element(4, dn), attributes].concat()))
}

fn done(code: u8) -> Vec<u8> {
    message(&element(0x65, &[&[10, 1, code, 4, 0, 4, 0][..]].concat()))
}

#[tokio::test]
async fn what_is_not_ldap_is_named() {
    for bytes in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\x30\x80\x02",
        b"\x15\x03\x01\x00\x02",
    ] {
        let error = answers(bytes.to_vec(), true).await;
        assert!(
            matches!(error, DirectoryError::Protocol { .. }),
            "{error:?}"
        );
        assert!(error.cause().starts_with("it sent "), "{error}");
    }
}

#[tokio::test]
async fn a_message_nested_a_hundred_thousand_deep_does_not_overflow_the_stack() {
    // From the inside out: each length is known when its element begins.
    let mut nested = Vec::new();
    for _ in 0..100_000 {
        let length = (nested.len() as u32).to_le_bytes();
        nested.extend_from_slice(&length);
        nested.extend_from_slice(&[0x84, 0x30]);
    }
    nested.reverse();
    let error = answers(nested, true).await;
    assert!(error.cause().contains("nested too deeply"), "{error}");
}

#[tokio::test]
async fn a_message_said_to_be_huge_is_not_waited_for() {
    let error = answers(vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff], true).await;
    assert!(error.cause().contains("too large"), "{error}");
}

#[tokio::test]
async fn a_connection_closed_within_a_message_is_named() {
    let error = answers(entry(b"uid=grace")[..20].to_vec(), false).await;
    assert!(
        error.cause().contains("in the middle of a message"),
        "{error}"
    );
}

#[tokio::test]
async fn malformed_operations_cost_the_connection_only() {
    let malformed = [
        message(&element(0x65, &[])),
        message(&element(0x65, &[4, 0, 4, 0, 4, 0])),
        message(&element(0x65, &[10, 1, 0, 4, 1, 0xff, 4, 0])),
        message(&element(0x7f - 1, &[])),
        element(0x30, &[]),
        element(0x30, &[2, 1, 1]),
        [message(&element(0x64, &[])), done(0)].concat(),
        [message(&element(0x64, &element(4, b"uid=x"))), done(0)].concat(),
        [entry(b"uid=\xff"), done(0)].concat(),
    ];
    for bytes in malformed {
        let error = answers(bytes.clone(), true).await;
        assert!(
            matches!(
                error,
                DirectoryError::Lost { .. } | DirectoryError::Protocol { .. }
            ),
            "{bytes:x?}: {error:?}"
        );
        assert!(!error.cause().contains("panic"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_taken() {
    let mut other = entry(b"uid=admin,ou=Users,dc=example,dc=com");
    // The message ID is the byte after the outer header and `02 01`.
    other[8] = 77;
    let error = answers(other, true).await;
    assert!(matches!(error, DirectoryError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let server = Proxy::start(|mut stream| {
        Box::pin(async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let crowd = entry(b"uid=grace,ou=Users,dc=example,dc=com").repeat(1000);
            while stream.write_all(&crowd).await.is_ok() {}
        })
    })
    .await;
    // The user's DN is built, so that the search is the one for groups.
    let mut config = anonymous(server.url());
    config.request_timeout = Duration::from_secs(60);
    let error = open(&config).lookup("grace").await.unwrap_err();
    assert!(
        matches!(error, DirectoryError::SizeLimit { .. }),
        "{error:?}"
    );
    // Of users, two are enough to know.
    config.discoverdn = true;
    let error = open(&config).lookup("grace").await.unwrap_err();
    assert!(
        matches!(error, DirectoryError::UserAmbiguous { .. }),
        "{error:?}"
    );
}

/// The control that a page ends with which is not the last (RFC 2696).
fn there_are_more() -> Vec<u8> {
    let cookie = element(0x30, &[&[2, 1, 0][..], &element(4, b"more")].concat());
    let oid = element(4, b"1.2.840.113556.1.4.319");
    element(0x30, &[oid, element(4, &cookie)].concat())
}

#[tokio::test]
async fn endless_pages_meet_the_timeout() {
    let server = Proxy::start(|mut stream| {
        Box::pin(async move {
            let control = there_are_more();
            let mut bytes = [0; 4096];
            let mut id = 0;
            while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {
                id += 1;
                let page = element(
                    0x30,
                    &[
                        vec![2, 1, id],
                        element(0x65, &[10, 1, 0, 4, 0, 4, 0]),
                        element(0xa0, &control),
                    ]
                    .concat(),
                );
                if id == 127 || stream.write_all(&page).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
    })
    .await;
    // The DN is built, so the first search is the paged one.
    let mut config = anonymous(server.url());
    config.request_timeout = Duration::from_millis(800);
    let error = open(&config).lookup("grace").await.unwrap_err();
    assert!(matches!(error, DirectoryError::Timeout { .. }), "{error:?}");
}

/// Pages that are small enough each, and too much together.
#[tokio::test]
async fn pages_that_never_end_cost_a_bounded_amount_of_memory() {
    let server = Proxy::start(|mut stream| {
        Box::pin(async move {
            let control = there_are_more();
            let large = element(0x31, &element(4, &vec![b'x'; 4 << 20]));
            let attribute = element(0x30, &[element(4, b"cn"), large].concat());
            let entry = [element(4, b"cn=x"), element(0x30, &attribute)].concat();
            let mut bytes = [0; 4096];
            let mut id = 0;
            while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {
                id += 1;
                let message = |parts: &[Vec<u8>]| {
                    element(0x30, &[&[vec![2, 1, id]], parts].concat().concat())
                };
                let entry = message(&[element(0x64, &entry)]);
                let done = [
                    element(0x65, &[10, 1, 0, 4, 0, 4, 0]),
                    element(0xa0, &control),
                ];
                let page = [entry, message(&done)].concat();
                if id == 127 || stream.write_all(&page).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
    })
    .await;
    let error = open(&anonymous(server.url()))
        .lookup("grace")
        .await
        .unwrap_err();
    assert!(
        matches!(error, DirectoryError::SizeLimit { received: ..=5, .. }),
        "{error:?}"
    );
}

/// Sends `memberOf` in the parts that `parts` makes of the number that is asked for.
async fn ranged(parts: fn(usize) -> Option<(String, usize)>) -> Proxy {
    Proxy::start(move |mut stream| {
        Box::pin(async move {
            let mut bytes = [0; 4096];
            for id in 1..=100u8 {
                let Ok(length @ 1..) = stream.read(&mut bytes).await else {
                    return;
                };
                let asked = String::from_utf8_lossy(&bytes[..length]).into_owned();
                let from = asked
                    .split("range=")
                    .nth(1)
                    .map_or(0, |range| range.split('-').next().unwrap().parse().unwrap());
                let mut answer = Vec::new();
                if let Some((option, count)) = parts(from) {
                    let values: Vec<u8> = (from..from + count)
                        .flat_map(|n| element(4, format!("cn=team-{n},dc=example").as_bytes()))
                        .collect();
                    let name = element(4, format!("memberOf;{option}").as_bytes());
                    let mut attributes = element(0x30, &[name, element(0x31, &values)].concat());
                    // Active Directory lists the plain name beside it, empty.
                    let plain = [element(4, b"memberOf"), element(0x31, &[])].concat();
                    attributes.extend(element(0x30, &plain));
                    let dn = element(4, b"cn=grace,dc=example");
                    let entry = [dn, element(0x30, &attributes)].concat();
                    let id = vec![2, 1, id];
                    answer = element(0x30, &[id, element(0x64, &entry)].concat());
                }
                let done = element(0x65, &[10, 1, 0, 4, 0, 4, 0]);
                answer.extend(element(0x30, &[vec![2, 1, id], done].concat()));
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        })
    })
    .await
}

fn member_of(server: &Proxy) -> DirectoryConfig {
    DirectoryConfig {
        groupattr: "memberOf".into(),
        ..anonymous(server.url())
    }
}

#[tokio::test]
async fn values_sent_in_ranges_are_asked_for_until_the_last() {
    let server = ranged(|from| match from {
        0..20 => Some((format!("range={from}-{}", from + 4), 5)),
        _ => Some((format!("range={from}-*"), 3)),
    })
    .await;
    let found = open(&member_of(&server)).lookup("grace").await.unwrap();
    assert_eq!(found.groups.len(), 23);
    assert_eq!(found.groups[22], "team-22");
}

#[tokio::test]
async fn ranges_that_do_not_follow_on_are_an_error_not_fewer_groups() {
    type Parts = fn(usize) -> Option<(String, usize)>;
    let servers: [Parts; 6] = [
        // Always the first.
        |_| Some(("range=0-4".into(), 5)),
        // Fewer than announced, none, or backwards.
        |from| Some((format!("range={from}-{}", from + 4), 3)),
        |from| {
            Some((
                format!("range={from}-{}", from + 4),
                if from == 0 { 5 } else { 0 },
            ))
        },
        |from| Some((format!("range={from}-{}", from.saturating_sub(1)), 1)),
        // A gap, and an end without an answer.
        |from| Some((format!("range={}-*", from + 1), 5)),
        |from| (from == 0).then(|| ("range=0-4".into(), 5)),
    ];
    for (number, parts) in servers.into_iter().enumerate() {
        let server = ranged(parts).await;
        let error = open(&member_of(&server)).lookup("grace").await;
        let error = error.expect_err(&number.to_string());
        // A range of -1 is none that can be read, so the attribute is another one.
        assert!(
            matches!(error, DirectoryError::SizeLimit { .. }),
            "{number}: {error:?}"
        );
    }
}

/// Answers each search on a connection with the next of these codes, and a user with code 0.
async fn coded(codes: &'static [u8]) -> Proxy {
    Proxy::start(move |mut stream| {
        Box::pin(async move {
            let mut bytes = [0; 4096];
            for (id, code) in (1u8..).zip(codes) {
                let Ok(1..) = stream.read(&mut bytes).await else {
                    return;
                };
                let with_id = |mut message: Vec<u8>| {
                    message[8] = id;
                    message
                };
                let mut answer = Vec::new();
                if *code == 0 {
                    answer = with_id(entry(b"uid=grace,dc=example"));
                }
                answer.extend(with_id(done(*code)));
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        })
    })
    .await
}

/// Active Directory says operationsError on a connection whose bind has expired.
#[tokio::test]
async fn a_kept_connection_that_lost_its_bind_is_replaced() {
    let config = |server: &Proxy| DirectoryConfig {
        discoverdn: true,
        groupdn: String::new(),
        ..anonymous(server.url())
    };
    let server = coded(&[0, 1]).await;
    let directory = open(&config(&server));
    for connections in [1, 2, 3] {
        directory.lookup("grace").await.unwrap();
        assert_eq!(server.accepted(), connections);
    }
    // One that always says so is not asked twice.
    let server = coded(&[1, 0]).await;
    let directory = open(&config(&server));
    for connections in [1, 2] {
        let error = directory.lookup("grace").await.unwrap_err();
        assert!(error.mend().contains("binddn"), "{error:?}");
        assert_eq!(server.accepted(), connections);
    }
}

#[tokio::test]
async fn a_server_that_is_busy_or_unavailable_is_passed_over() {
    for code in [&[51, 51, 51][..], &[52, 52, 52]] {
        let failing = coded(Vec::leak(code.to_vec())).await;
        let other = coded(&[0, 0, 0]).await;
        let config = |urls: String| DirectoryConfig {
            discoverdn: true,
            groupdn: String::new(),
            ..anonymous(urls)
        };
        let directory = open(&config(format!("{},{}", failing.url(), other.url())));
        for _ in 0..3 {
            directory.lookup("grace").await.unwrap();
        }
        assert_eq!((failing.accepted(), other.accepted()), (1, 1));
        // Alone, it is asked once each time and its answer is the answer.
        let directory = open(&config(failing.url()));
        let error = directory.lookup("grace").await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
        assert_eq!(failing.accepted(), 2);
    }
}

/// Each kind of request says precisely that another server is meant, at once.
#[tokio::test]
async fn a_referral_is_an_error_that_says_so_for_each_request() {
    let sid = [&[1, 1, 0, 0, 0, 0, 0, 5][..], &[1, 2, 3, 4]].concat();
    let configs = [
        DirectoryConfig {
            discoverdn: true,
            ..DirectoryConfig::default()
        },
        DirectoryConfig::default(),
        DirectoryConfig {
            use_token_groups: true,
            ..DirectoryConfig::default()
        },
    ];
    for extra in configs {
        let server = coded(&[10, 10]).await;
        let directory = open(&DirectoryConfig {
            discoverdn: extra.discoverdn,
            use_token_groups: extra.use_token_groups,
            ..anonymous(server.url())
        });
        let errors = [
            directory.lookup("grace").await.unwrap_err(),
            directory
                .group_names_of_sids(std::slice::from_ref(&sid))
                .await
                .unwrap_err(),
        ];
        for error in errors {
            assert!(
                error.mend().starts_with("another server holds"),
                "{error:?}"
            );
            assert!(!error.is_refusal());
        }
    }
}

/// A server that goes silent in the middle of what belongs together meets one deadline for all.
#[tokio::test]
async fn a_server_that_goes_silent_between_ranges_meets_the_timeout() {
    let server = ranged(|from| match from {
        0..10 => Some((format!("range={from}-{}", from + 4), 5)),
        _ => {
            std::thread::sleep(Duration::from_secs(2));
            None
        }
    })
    .await;
    let mut config = member_of(&server);
    config.request_timeout = Duration::from_millis(600);
    let error = open(&config).lookup("grace").await.unwrap_err();
    assert!(matches!(error, DirectoryError::Timeout { .. }), "{error:?}");
}
