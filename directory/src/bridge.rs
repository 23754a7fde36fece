//! Carries LDAP messages between a server's socket, TLS or not, and the LDAP library.
//!
//! The library reads from one end of a socket pair; a task here moves the bytes. That is where TLS
//! is put under it (src/tls.rs), and where a hostile server is stopped: the library decodes BER
//! recursively and without a bound on size, so each message is checked for both before it goes on.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

/// Largest message taken from a server, in bytes: an entry with some hundred thousand values.
const MAX_MESSAGE: usize = 32 << 20;
/// Deepest nesting of BER elements in a message. Answers to searches reach 5.
const MAX_NESTING: usize = 16;
/// Longest wait for a server to take the TLS close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A running bridge; dropping it cuts the connection.
pub(crate) struct Bridge {
    task: AbortHandle,
    fault: Arc<OnceLock<String>>,
}

impl Bridge {
    /// Starts carrying between `server` and the returned socket.
    pub(crate) fn start<S>(server: S) -> io::Result<(Self, StdUnixStream)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (near, far) = StdUnixStream::pair()?;
        near.set_nonblocking(true)?;
        let near = UnixStream::from_std(near)?;
        let fault = Arc::new(OnceLock::new());
        let task = tokio::spawn(carry(server, near, Arc::clone(&fault))).abort_handle();
        Ok((Self { task, fault }, far))
    }

    /// Why the connection ended, once it has.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry<S>(server: S, near: UnixStream, fault: Arc<OnceLock<String>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (mut from_library, mut to_library) = near.into_split();
    let end = tokio::select! {
        end = inbound(&mut from_server, &mut to_library) => end,
        end = tokio::io::copy(&mut from_library, &mut to_server) => match end {
            Ok(_) => "closed by this side".to_owned(),
            Err(cause) => cause.to_string(),
        },
    };
    // First the reason, then the end that makes someone ask for it.
    let _ = fault.set(end);
    drop((from_library, to_library));
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, to_server.shutdown()).await;
}

/// Moves whole, checked messages; returns why it stopped.
async fn inbound<R, W>(from: &mut R, to: &mut W) -> String
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        let whole = match whole_messages(&buffer) {
            Ok(whole) => whole,
            Err(reason) => return format!("the server sent {reason}"),
        };
        if whole > 0 {
            if let Err(cause) = to.write_all(&buffer[..whole]).await {
                return cause.to_string();
            }
            buffer.drain(..whole);
        }
        match from.read_buf(&mut buffer).await {
            Ok(0) if buffer.is_empty() => return "the server closed the connection".into(),
            Ok(0) => return "the server closed the connection in the middle of a message".into(),
            Ok(_) => {}
            Err(cause) => return cause.to_string(),
        }
    }
}

/// How many bytes at the front of `buffer` are whole messages, all of them checked.
fn whole_messages(buffer: &[u8]) -> Result<usize, &'static str> {
    let mut at = 0;
    while let Some(header) = Header::read(&buffer[at..])? {
        if header.tag != 0x30 {
            return Err("something that is not LDAP");
        }
        if header.contents > MAX_MESSAGE {
            return Err("a message too large");
        }
        let end = at + header.length + header.contents;
        if end > buffer.len() {
            break;
        }
        check_nesting(&buffer[at..end])?;
        at = end;
    }
    Ok(at)
}

/// Walks the elements of one message without recursion.
fn check_nesting(message: &[u8]) -> Result<(), &'static str> {
    const BROKEN: &str = "a broken message";
    let mut ends = [0; MAX_NESTING];
    let mut depth = 0;
    let mut limit = message.len();
    let mut at = 0;
    loop {
        while at == limit {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            limit = ends[depth];
        }
        let header = Header::read(&message[at..limit])?.ok_or(BROKEN)?;
        at += header.length;
        let end = at.checked_add(header.contents).ok_or(BROKEN)?;
        if end > limit {
            return Err(BROKEN);
        }
        if header.tag & 0x20 == 0 {
            at = end;
        } else {
            if depth == MAX_NESTING {
                return Err("a message nested too deeply");
            }
            ends[depth] = limit;
            depth += 1;
            limit = end;
        }
    }
}

/// The tag and length at the front of a BER element.
struct Header {
    tag: u8,
    /// Bytes of tag and length.
    length: usize,
    /// Bytes of contents.
    contents: usize,
}

impl Header {
    /// `None`: more bytes are needed. LDAP uses definite lengths and small tags alone (RFC 4511 §5.1).
    fn read(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let [tag, first, rest @ ..] = bytes else {
            return Ok(None);
        };
        if tag & 0x1f == 0x1f {
            return Err("a tag that LDAP does not have");
        }
        if *first < 0x80 {
            return Ok(Some(Self {
                tag: *tag,
                length: 2,
                contents: usize::from(*first),
            }));
        }
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return Err("a length that LDAP does not have");
        }
        let Some(digits) = rest.get(..count) else {
            return Ok(None);
        };
        let contents = digits
            .iter()
            .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        Ok(Some(Self {
            tag: *tag,
            length: 2 + count,
            contents,
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        match contents.len() {
            short @ 0..=0x7f => bytes.push(short as u8),
            long => {
                bytes.push(0x84);
                bytes.extend_from_slice(&(long as u32).to_be_bytes());
            }
        }
        bytes.extend_from_slice(contents);
        bytes
    }

    #[test]
    fn whole_messages_pass_and_the_rest_waits() {
        let message = element(
            0x30,
            &[element(2, &[1]), element(0x61, &element(4, b"x"))].concat(),
        );
        let two = [message.clone(), message.clone()].concat();
        for cut in 0..=two.len() {
            let whole = cut / message.len() * message.len();
            assert_eq!(whole_messages(&two[..cut]), Ok(whole));
        }
    }

    #[test]
    fn a_message_nested_deeply_is_stopped_before_the_decoder() {
        let nest =
            |depth: usize| (1..depth).fold(element(0x30, &[]), |inner, _| element(0x30, &inner));
        assert!(whole_messages(&nest(MAX_NESTING)).is_ok());
        assert_eq!(
            whole_messages(&nest(MAX_NESTING + 1)),
            Err("a message nested too deeply")
        );
        assert_eq!(
            whole_messages(&nest(20_000)),
            Err("a message nested too deeply")
        );
    }

    #[test]
    fn sizes_and_shapes_that_are_not_ldap_are_stopped() {
        assert!(whole_messages(b"HTTP/1.1 400").is_err());
        assert!(whole_messages(&[0x30, 0x80]).is_err());
        assert!(whole_messages(&[0x30, 0x85, 0, 0, 0, 0, 1]).is_err());
        assert_eq!(
            whole_messages(&[0x30, 0x84, 0x7f, 0, 0, 0]),
            Err("a message too large")
        );
        // The element inside is longer than the message around it.
        assert_eq!(whole_messages(&[0x30, 2, 4, 9]), Err("a broken message"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut message = vec![0x30, bytes.len() as u8];
            message.extend_from_slice(&bytes);
            if let Ok(whole) = whole_messages(&message) {
                prop_assert!(whole == message.len());
                // What passes, the library's own decoder reads to the end.
                prop_assert!(ldap3::asn1::parse_tag(&message).is_ok_and(|(rest, _)| rest.is_empty()));
            }
        }
    }
}
