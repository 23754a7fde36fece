//! SASL GSSAPI binds (RFC 4752 over RFC 4513 §5.2.1): the service account proves itself with a
//! Kerberos ticket, so that no bind password exists.
//!
//! This crate knows no Kerberos: who configures a [`SaslSource`] brings the exchange's contents
//! ([`SaslGssapi`]), and here are the LDAP messages around them, the deadlines, and, in
//! src/bridge.rs, the framing of the security layer (RFC 4422 §3.7). The exchange is spoken on the
//! connection before the LDAP library has it; nothing more than the answers to its own requests is
//! read from the server, so that nothing injected before the layer is taken for protected.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ldap3::asn1::{PL, StructureTag, TagClass, parse_tag};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::error::{DirectoryError, ResultCode};
use crate::message::{MAX_MESSAGE, whole_messages};
use crate::session::printable;

/// Where SASL GSSAPI exchanges come from: a credential such as a keytab.
pub trait SaslSource: Send + Sync {
    /// Who binds, for logs and errors, such as `vault_svc@EXAMPLE.COM`.
    fn name(&self) -> String;

    /// Begins an exchange with one server. Runs on a thread that may block, as for the KDC.
    fn start(&self, server: &SaslServer) -> Result<Box<dyn SaslGssapi>, SaslError>;
}

/// The server that a SASL exchange is with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslServer {
    /// The host as the URL has it, for `ldap/HOST`; never looked up in reverse.
    pub host: String,
    /// TLS protects the connection: no security layer is to be chosen. Without it, one with
    /// confidentiality must be.
    pub over_tls: bool,
    /// Over TLS: the channel binding `tls-server-end-point:` and the digest (RFC 5929 §4).
    pub channel_binding: Option<Vec<u8>>,
}

/// One SASL GSSAPI exchange from the client's side, its last message (RFC 4752 §3.1) included, and
/// then its security layer.
pub trait SaslGssapi: Send {
    /// The next message for the server. `None` at first, then what the server sent. Runs on a
    /// thread that may block.
    fn step(&mut self, challenge: Option<&[u8]>) -> Result<Vec<u8>, SaslError>;

    /// Both sides are who they say, and the layer is agreed on: only the server's success is to
    /// come. A success that comes earlier is refused.
    fn is_complete(&self) -> bool;

    /// What follows is wrapped.
    fn has_layer(&self) -> bool;

    /// Most bytes that [`wrap`](Self::wrap) may be given at once, so that the server can take the
    /// result.
    fn max_send(&self) -> usize;

    /// Most bytes in one wrapped message, as the server was told.
    fn max_receive(&self) -> usize;

    /// Seals. Must not block.
    fn wrap(&mut self, plain: &[u8]) -> Result<Vec<u8>, SaslError>;

    /// Opens. Must not block.
    fn unwrap(&mut self, sealed: &[u8]) -> Result<Vec<u8>, SaslError>;
}

/// Why this side cannot go on with a SASL exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct SaslError {
    /// The exact cause.
    pub cause: String,
    /// What the operator can do about it.
    pub mend: String,
    /// It may pass by itself, such as a KDC that is away.
    pub is_unavailable: bool,
}

/// The security layer of one connection.
pub(crate) struct Layer {
    context: Mutex<Box<dyn SaslGssapi>>,
    max_send: usize,
    pub(crate) max_receive: usize,
}

impl Layer {
    pub(crate) fn new(exchange: Box<dyn SaslGssapi>) -> Self {
        Self {
            max_send: exchange.max_send(),
            max_receive: exchange.max_receive().min(MAX_MESSAGE),
            context: Mutex::new(exchange),
        }
    }

    /// One frame, or several, for the wire.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, SaslError> {
        let mut context = self.context();
        let mut frames = Vec::with_capacity(plain.len() + 64);
        for part in plain.chunks(self.max_send) {
            let sealed = context.wrap(part)?;
            let length = u32::try_from(sealed.len()).map_err(|_| SaslError {
                cause: "a sealed message is too long".into(),
                mend: String::new(),
                is_unavailable: false,
            })?;
            frames.extend_from_slice(&length.to_be_bytes());
            frames.extend_from_slice(&sealed);
        }
        Ok(frames)
    }

    /// The contents of one frame, without its length.
    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, SaslError> {
        self.context().unwrap(sealed)
    }

    fn context(&self) -> std::sync::MutexGuard<'_, Box<dyn SaslGssapi>> {
        // A context that panicked half-way only yields errors, or what the checks behind it refuse.
        self.context
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A bind under way.
pub(crate) struct SaslBind<'a> {
    pub(crate) url: &'a str,
    pub(crate) source: &'a Arc<dyn SaslSource>,
    /// Bounds the threads that wait for a KDC, those whose bind was given up included.
    pub(crate) threads: &'a Arc<Semaphore>,
    pub(crate) limit: Duration,
    pub(crate) deadline: Instant,
}

impl SaslBind<'_> {
    /// Binds; returns the layer if one was agreed on.
    pub(crate) async fn run<S>(
        &self,
        stream: &mut S,
        server: SaslServer,
    ) -> Result<Option<Layer>, DirectoryError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let over_tls = server.over_tls;
        let source = Arc::clone(self.source);
        let mut exchange = self.blocking(move || source.start(&server)).await?;
        let mut challenge: Option<Vec<u8>> = None;
        for id in 1..=MAX_STEPS {
            let token = {
                let (back, token) = self
                    .blocking(move || {
                        let token = exchange.step(challenge.as_deref())?;
                        Ok((exchange, token))
                    })
                    .await?;
                exchange = back;
                token
            };
            let answer = match timeout_at(self.deadline, ask(stream, id, &token)).await {
                Ok(answer) => answer.map_err(|fault| fault.into_error(self.url))?,
                Err(_) => {
                    return Err(DirectoryError::Timeout {
                        url: self.url.to_owned(),
                        operation: "bind",
                        after: self.limit,
                    });
                }
            };
            match answer.code {
                ResultCode::SASL_BIND_IN_PROGRESS if !exchange.is_complete() => {
                    challenge = Some(answer.credentials.unwrap_or_default());
                }
                ResultCode::SUCCESS if exchange.is_complete() => {
                    return self.layer(exchange, over_tls);
                }
                ResultCode::SUCCESS | ResultCode::SASL_BIND_IN_PROGRESS => {
                    return Err(self.protocol(match answer.code {
                        ResultCode::SUCCESS => {
                            "it says that the bind succeeded before it proved who it is"
                        }
                        _ => "it goes on with a bind that is complete",
                    }));
                }
                code => {
                    return Err(DirectoryError::SaslRefused {
                        url: self.url.to_owned(),
                        name: self.source.name(),
                        code,
                        text: answer.text,
                    });
                }
            }
        }
        Err(self.protocol("its part of the bind has no end"))
    }

    fn layer(
        &self,
        exchange: Box<dyn SaslGssapi>,
        over_tls: bool,
    ) -> Result<Option<Layer>, DirectoryError> {
        if !exchange.has_layer() {
            return match over_tls {
                true => Ok(None),
                // The exchange should have seen to it; the groups would cross the network in the clear.
                false => Err(self.protocol("it wants no security layer on a plain connection")),
            };
        }
        let layer = Layer::new(exchange);
        match layer.max_send == 0 || layer.max_receive == 0 {
            true => Err(self.protocol("its security layer takes no messages")),
            false => Ok(Some(layer)),
        }
    }

    fn protocol(&self, cause: &str) -> DirectoryError {
        DirectoryError::Protocol {
            url: self.url.to_owned(),
            cause: cause.to_owned(),
        }
    }

    /// Runs a step of ours where it may wait for the KDC, until the deadline.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SaslError> + Send + 'static,
    ) -> Result<T, DirectoryError> {
        let threads = Arc::clone(self.threads);
        let outcome = timeout_at(self.deadline, async move {
            let permit = threads.acquire_owned().await;
            let work = tokio::task::spawn_blocking(move || {
                // Held until the thread is free again, whoever still waits for it.
                let _permit = permit;
                work()
            });
            work.await
        });
        let error = match outcome.await {
            Ok(Ok(Ok(value))) => return Ok(value),
            Ok(Ok(Err(error))) => error,
            Ok(Err(_panic)) => SaslError {
                cause: "the Kerberos library failed".into(),
                mend: "look at this server's log".into(),
                is_unavailable: false,
            },
            Err(_late) => SaslError {
                cause: format!("no ticket within {:?}", self.limit),
                mend: "check that the KDC of the realm can be reached, and how krb5.conf or DNS names it".into(),
                is_unavailable: true,
            },
        };
        Err(DirectoryError::Sasl {
            url: self.url.to_owned(),
            name: self.source.name(),
            error,
        })
    }
}

/// What the server says to one step.
struct Answer {
    code: ResultCode,
    text: String,
    credentials: Option<Vec<u8>>,
}

enum Fault {
    Lost(String),
    Protocol(String),
}

impl Fault {
    fn into_error(self, url: &str) -> DirectoryError {
        let url = url.to_owned();
        match self {
            Self::Lost(cause) => DirectoryError::Lost {
                url,
                operation: "bind",
                cause,
            },
            Self::Protocol(cause) => DirectoryError::Protocol { url, cause },
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(cause: std::io::Error) -> Self {
        Self::Lost(cause.to_string())
    }
}

/// Sends one bind request and reads the one answer to it.
async fn ask<S>(stream: &mut S, id: u8, token: &[u8]) -> Result<Answer, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&bind_request(id, token)).await?;
    stream.flush().await?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let whole =
            whole_messages(&buffer).map_err(|fault| Fault::Protocol(format!("it sent {fault}")))?;
        if whole > 0 {
            return read_answer(&buffer, id);
        }
        if buffer.len() > MAX_ANSWER {
            return Err(Fault::Protocol(
                "its answer to the bind is too large".into(),
            ));
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(Fault::Lost("the server closed the connection".into()));
        }
    }
}

/// BindRequest (RFC 4511 §4.2): version 3, no name, SASL with the mechanism GSSAPI. Its tokens are
/// no secrets: whoever sees them cannot use them.
fn bind_request(id: u8, token: &[u8]) -> Vec<u8> {
    // An empty message of the mechanism is empty credentials, not none.
    let sasl = [element(0x04, b"GSSAPI"), element(0x04, token)].concat();
    let bind = [&[2, 1, 3, 4, 0][..], &element(0xa3, &sasl)].concat();
    let message = [&[2, 1, id][..], &element(0x60, &bind)].concat();
    element(0x30, &message)
}

/// A BER element of definite length (RFC 4511 §5.1).
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let mut bytes = Vec::with_capacity(contents.len() + 10);
    bytes.push(tag);
    match contents.len() {
        0..=0x7f => bytes.push(length[length.len() - 1]),
        _ => {
            let digits = &length[length.iter().take_while(|digit| **digit == 0).count()..];
            // A length of a few bytes at most, so this cannot overflow.
            bytes.push(0x80 | digits.len() as u8);
            bytes.extend_from_slice(digits);
        }
    }
    bytes.extend_from_slice(contents);
    bytes
}

/// Reads a BindResponse (RFC 4511 §4.2.2), which must be all there is.
fn read_answer(bytes: &[u8], id: u8) -> Result<Answer, Fault> {
    let broken = || Fault::Protocol("its answer to the bind cannot be decoded".into());
    let (rest, message) = parse_tag(bytes).map_err(|_| broken())?;
    let mut parts = children(message).ok_or_else(broken)?.into_iter();
    let answered = parts.next().and_then(primitive).ok_or_else(broken)?;
    let operation = parts.next().ok_or_else(broken)?;
    let kind = operation.id;
    let mut parts = children(operation).ok_or_else(broken)?.into_iter();
    let code = parts.next().and_then(primitive).ok_or_else(broken)?;
    let code = code.iter().fold(0u32, |sum, b| sum << 8 | u32::from(*b));
    let _matched_dn = parts.next();
    let text = parts.next().and_then(primitive).ok_or_else(broken)?;
    let text = printable(&String::from_utf8_lossy(&text));
    if kind == EXTENDED_RESPONSE {
        // The notice of disconnection (RFC 4511 §4.4.1).
        let code = ResultCode(code);
        return Err(Fault::Lost(format!(
            "the server hangs up with {code}: {text}"
        )));
    }
    if kind != BIND_RESPONSE || answered != [id] {
        return Err(Fault::Protocol(
            "it answers the bind with something else".into(),
        ));
    }
    if !rest.is_empty() {
        return Err(Fault::Protocol(
            "it sent more than the answer to the bind".into(),
        ));
    }
    let credentials = parts
        .find(|part| part.class == TagClass::Context && part.id == SERVER_SASL_CREDS)
        .and_then(primitive);
    Ok(Answer {
        code: ResultCode(code),
        text,
        credentials,
    })
}

fn children(tag: StructureTag) -> Option<Vec<StructureTag>> {
    match tag.payload {
        PL::C(children) => Some(children),
        PL::P(_) => None,
    }
}

fn primitive(tag: StructureTag) -> Option<Vec<u8>> {
    match tag.payload {
        PL::P(bytes) => Some(bytes),
        PL::C(_) => None,
    }
}

const BIND_RESPONSE: u64 = 1;
const EXTENDED_RESPONSE: u64 = 24;
const SERVER_SASL_CREDS: u64 = 7;
/// Two tokens each way and the agreement on a layer are usual.
const MAX_STEPS: u8 = 16;
/// Largest answer to one step, in bytes.
const MAX_ANSWER: usize = 256 << 10;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(id: u8, tag: u8, credentials: Option<&[u8]>) -> Vec<u8> {
        let mut result = vec![10, 1, 14, 4, 0, 4, 2, b'n', b'o'];
        if let Some(credentials) = credentials {
            result.extend(element(0x87, credentials));
        }
        element(0x30, &[vec![2, 1, id], element(tag, &result)].concat())
    }

    #[test]
    fn answers_to_binds_are_read() {
        let long = vec![7; 300];
        for credentials in [None, Some(&b""[..]), Some(b"token"), Some(&long)] {
            let bytes = response(3, 0x61, credentials);
            assert_eq!(whole_messages(&bytes), Ok(bytes.len()));
            let Ok(answer) = read_answer(&bytes, 3) else {
                panic!("{bytes:x?}");
            };
            assert_eq!(answer.code, ResultCode::SASL_BIND_IN_PROGRESS);
            assert_eq!(answer.text, "no");
            assert_eq!(answer.credentials.as_deref(), credentials);
        }
        assert!(matches!(
            read_answer(&response(2, 0x61, None), 3),
            Err(Fault::Protocol(_))
        ));
        // The notice of disconnection.
        assert!(matches!(
            read_answer(&response(0, 0x78, None), 3),
            Err(Fault::Lost(cause)) if cause.ends_with(": no")
        ));
    }

    #[test]
    fn requests_are_ber_of_every_length() {
        for length in [0, 5, 100, 200, 70_000] {
            let request = bind_request(1, &vec![9; length]);
            let (rest, _) = parse_tag(&request).unwrap();
            assert!(rest.is_empty());
        }
        assert_eq!(
            bind_request(1, b"t"),
            b"\x30\x17\x02\x01\x01\x60\x12\x02\x01\x03\x04\x00\xa3\x0b\x04\x06GSSAPI\x04\x01t"
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_judged_without_a_panic(
            at in 0usize..64,
            byte in any::<u8>(),
            tail in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut bytes = response(3, 0x61, Some(b"token"));
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.extend(tail);
            if whole_messages(&bytes).is_ok_and(|whole| whole > 0) {
                let _ = read_answer(&bytes, 3);
            }
        }
    }
}
