//! SASL GSSAPI binds with servers that do not play by the rules. The bind with a real directory is
//! in active_directory.rs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use obol_directory::{
    Directory, DirectoryConfig, DirectoryError, ResultCode, SaslError, SaslGssapi, SaslServer,
    SaslSource,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Proxy, anonymous, open, shared};

/// An exchange of two rounds, with a layer that flips every bit and adds its length as a check.
struct Toy {
    rounds: usize,
    layer: bool,
}

impl SaslGssapi for Toy {
    fn step(&mut self, challenge: Option<&[u8]>) -> Result<Vec<u8>, SaslError> {
        self.rounds += 1;
        match (self.rounds, challenge) {
            (1, None) => Ok(b"hello".to_vec()),
            (2, Some(b"challenge")) => Ok(Vec::new()),
            _ => Err(broken("this is not what the server should say")),
        }
    }

    fn is_complete(&self) -> bool {
        self.rounds == 2
    }

    fn has_layer(&self) -> bool {
        self.layer
    }

    fn max_send(&self) -> usize {
        10
    }

    fn max_receive(&self) -> usize {
        5000
    }

    fn wrap(&mut self, plain: &[u8]) -> Result<Vec<u8>, SaslError> {
        assert!(plain.len() <= 10);
        Ok(plain
            .iter()
            .map(|b| !b)
            .chain([plain.len() as u8])
            .collect())
    }

    fn unwrap(&mut self, sealed: &[u8]) -> Result<Vec<u8>, SaslError> {
        match sealed.split_last() {
            Some((check, sealed)) if *check == sealed.len() as u8 => {
                Ok(sealed.iter().map(|b| !b).collect())
            }
            _ => Err(broken("it was altered on the way")),
        }
    }
}

fn broken(cause: &str) -> SaslError {
    SaslError {
        cause: cause.into(),
        mend: "mend it".into(),
        is_unavailable: false,
    }
}

struct ToySource {
    layer: bool,
    /// The KDC takes its time until this is true.
    answers: Mutex<bool>,
    answered: Condvar,
    started: AtomicUsize,
}

impl SaslSource for ToySource {
    fn name(&self) -> String {
        "toy@EXAMPLE.COM".into()
    }

    fn start(&self, server: &SaslServer) -> Result<Box<dyn SaslGssapi>, SaslError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        assert_eq!(server.host, "127.0.0.1");
        assert!(!server.over_tls && server.channel_binding.is_none());
        let answers = self.answers.lock().unwrap();
        drop(self.answered.wait_while(answers, |answers| !*answers));
        Ok(Box::new(Toy {
            rounds: 0,
            layer: self.layer,
        }))
    }
}

fn source(layer: bool, answers: bool) -> Arc<ToySource> {
    Arc::new(ToySource {
        layer,
        answers: Mutex::new(answers),
        answered: Condvar::new(),
        started: AtomicUsize::new(0),
    })
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len() as u32;
    [&[tag, 0x84][..], &length.to_be_bytes(), contents].concat()
}

fn bind_response(id: u8, code: u8, credentials: Option<&[u8]>) -> Vec<u8> {
    let mut response = vec![10, 1, code, 4, 0, 4, 0];
    response.extend(
        credentials
            .map(|sent| element(0x87, sent))
            .unwrap_or_default(),
    );
    element(0x30, &[vec![2, 1, id], element(0x61, &response)].concat())
}

/// Reads something and answers it.
async fn turn(stream: &mut TcpStream, answer: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let length = stream.read(&mut bytes).await.unwrap_or(0);
    bytes.truncate(length);
    let _ = stream.write_all(answer).await;
    bytes
}

fn frames(plain: &[u8]) -> Vec<u8> {
    let frame = |part: &[u8]| {
        let sealed: Vec<u8> = part.iter().map(|b| !b).chain([part.len() as u8]).collect();
        [&(sealed.len() as u32).to_be_bytes()[..], &sealed].concat()
    };
    plain.chunks(7).flat_map(frame).collect()
}

fn opened(mut sealed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while let Some((length, rest)) = sealed.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let (check, frame) = frame.split_last().unwrap();
        assert_eq!(usize::from(*check), frame.len());
        plain.extend(frame.iter().map(|b| !b));
        sealed = rest;
    }
    plain
}

/// Answers the first two binds as it should, then what `after` makes of the connection.
async fn proper(after: Vec<u8>) -> Proxy {
    Proxy::start(move |mut stream| {
        let after = after.clone();
        Box::pin(async move {
            let first = turn(&mut stream, &bind_response(1, 14, Some(b"challenge"))).await;
            assert!(
                first.ends_with(b"\xa3\x0f\x04\x06GSSAPI\x04\x05hello"),
                "{first:x?}"
            );
            let second = turn(&mut stream, &bind_response(2, 0, None)).await;
            assert!(
                second.ends_with(b"\xa3\x0a\x04\x06GSSAPI\x04\x00"),
                "{second:x?}"
            );
            let search = turn(&mut stream, &after).await;
            if search.len() > 4 && after.first() == Some(&0) {
                assert_eq!(opened(&search)[0], 0x30);
            }
            std::future::pending::<()>().await;
        })
    })
    .await
}

/// The user's entry, and the end of the search.
fn user_found() -> Vec<u8> {
    let value = element(0x31, &element(4, b"grace"));
    let attribute = element(0x30, &[element(4, b"uid"), value].concat());
    let dn = element(4, b"uid=grace,ou=Users,dc=example,dc=com");
    let entry = element(0x64, &[dn, element(0x30, &attribute)].concat());
    let entry = element(0x30, &[vec![2, 1, 1], entry].concat());
    let done = element(0x65, &[10, 1, 0, 4, 0, 4, 0]);
    [entry, element(0x30, &[vec![2, 1, 1], done].concat())].concat()
}

async fn lookup(server: &Proxy, layer: bool) -> Result<String, DirectoryError> {
    let directory = open(&DirectoryConfig {
        groupdn: String::new(),
        sasl: Some(source(layer, true)),
        request_timeout: Duration::from_secs(2),
        connection_timeout: Duration::from_secs(2),
        ..anonymous(server.url())
    });
    directory
        .lookup("grace")
        .await
        .map(|found| found.user_dn.clone())
}

#[tokio::test]
async fn everything_after_the_bind_travels_sealed() {
    let server = proper(frames(&user_found())).await;
    let dn = lookup(&server, true).await.unwrap();
    assert_eq!(dn, "uid=grace,ou=Users,dc=example,dc=com");
}

#[tokio::test]
async fn what_is_not_sealed_is_not_taken_after_the_bind() {
    let mut altered = frames(&user_found());
    // The check of the first frame.
    altered[4 + 7] ^= 1;
    for (after, said) in [
        // In the clear: its first four bytes are no length that was agreed on.
        (user_found(), "too large"),
        (vec![0, 0, 0x13, 0x89], "too large"),
        (vec![0, 0, 0, 0], "cannot be opened"),
        (altered, "cannot be opened"),
    ] {
        let error = lookup(&proper(after).await, true).await.unwrap_err();
        assert!(
            matches!(error, DirectoryError::Protocol { .. }) && error.cause().contains(said),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_plain_connection_without_a_layer_is_not_used() {
    let error = lookup(&proper(user_found()).await, false)
        .await
        .unwrap_err();
    assert!(error.cause().contains("security layer"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_prove_itself_is_not_believed() {
    let more = [
        bind_response(1, 14, Some(b"challenge")),
        bind_response(2, 0, None),
    ]
    .concat();
    for (answers, said) in [
        (vec![bind_response(1, 0, None)], "before it proved"),
        (vec![bind_response(9, 14, None)], "something else"),
        (vec![more], "more than the answer"),
        (
            vec![
                bind_response(1, 14, Some(b"challenge")),
                bind_response(2, 14, None),
            ],
            "goes on",
        ),
        (
            vec![bind_response(1, 14, Some(b"nonsense"))],
            "not what the server should say",
        ),
    ] {
        let server = Proxy::start(move |mut stream| {
            let answers = answers.clone();
            Box::pin(async move {
                for answer in answers {
                    turn(&mut stream, &answer).await;
                }
                std::future::pending::<()>().await;
            })
        })
        .await;
        let error = lookup(&server, true).await.unwrap_err();
        assert!(error.cause().contains(said), "{said}: {error:?}");
        assert!(!error.is_refusal() && !error.is_unavailable());
    }
}

#[tokio::test]
async fn a_server_without_gssapi_is_told_apart() {
    let directory = open(&DirectoryConfig {
        sasl: Some(source(true, true)),
        ..anonymous(shared().url().replace("localhost", "127.0.0.1"))
    });
    let error = directory.lookup("grace").await.unwrap_err();
    let DirectoryError::SaslRefused { name, code, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(name, "toy@EXAMPLE.COM");
    assert_eq!(*code, ResultCode::AUTH_METHOD_NOT_SUPPORTED);
    assert!(error.mend().contains("supportedSASLMechanisms"));
}

#[tokio::test]
async fn a_kdc_or_a_server_that_never_answers_meets_the_deadline() {
    let silent = Proxy::start(|stream| {
        Box::pin(async move {
            let _held = stream;
            std::future::pending::<()>().await;
        })
    })
    .await;
    let short = |source: Arc<ToySource>| {
        open(&DirectoryConfig {
            sasl: Some(source),
            connection_timeout: Duration::from_millis(300),
            max_connections: 2,
            ..anonymous(silent.url())
        })
    };
    let error = short(source(true, true)).lookup("grace").await;
    assert!(
        matches!(
            error,
            Err(DirectoryError::Timeout {
                operation: "bind",
                ..
            })
        ),
        "{error:?}"
    );
    // No more threads wait for the KDC than there may be connections, however many logins wait.
    let slow = source(true, false);
    let directory = short(Arc::clone(&slow));
    for _ in 0..5 {
        let error = directory.lookup("grace").await.unwrap_err();
        assert!(matches!(error, DirectoryError::Sasl { .. }), "{error:?}");
        assert!(error.is_unavailable() && error.mend().contains("KDC"));
    }
    assert_eq!(slow.started.load(Ordering::SeqCst), 2);
    *slow.answers.lock().unwrap() = true;
    slow.answered.notify_all();
    let both = Directory::new(&DirectoryConfig {
        binddn: "cn=vault".into(),
        sasl: Some(slow),
        ..DirectoryConfig::default()
    });
    assert_eq!(both.map(drop).unwrap_err().field, "binddn");
}
