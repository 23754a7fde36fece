//! Carries LDAP messages between a server's socket, TLS or not, and the LDAP library.
//!
//! The library reads from one end of a socket pair; a task here moves the bytes. That is where TLS
//! is put under it (src/tls.rs), where a SASL security layer is put on and taken off (RFC 4422
//! §3.7: each sealed message after its length in four bytes), and where a hostile server is
//! stopped: the library trusts what it decodes, so each message is checked before it goes on
//! (src/message.rs).

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::message::{Fault, MAX_MESSAGE, whole_messages};
use crate::sasl::Layer;

/// Most bytes taken in answer to one request: the library queues them faster than they are used.
const MAX_ANSWER: usize = MAX_MESSAGE;
/// What is said of a server that sends more.
pub(crate) const TOO_MUCH: Fault = "too much in answer to one request";
/// Longest wait for a server to take the last bytes, and for the TLS close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A running bridge; dropping it cuts the connection.
pub(crate) struct Bridge {
    task: JoinHandle<()>,
    end: Arc<OnceLock<End>>,
}

/// How a connection came to its end.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// It broke, or either side closed it.
    Closed(String),
    /// The server sent something that is not passed on.
    Refused(Fault),
}

impl Bridge {
    /// Starts carrying between `server` and the returned socket, inside `layer` if there is one.
    pub(crate) fn start<S>(server: S, layer: Option<Layer>) -> io::Result<(Self, StdUnixStream)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (near, far) = StdUnixStream::pair()?;
        near.set_nonblocking(true)?;
        let near = UnixStream::from_std(near)?;
        let end = Arc::new(OnceLock::new());
        let task = tokio::spawn(carry(server, near, layer, Arc::clone(&end)));
        Ok((Self { task, end }, far))
    }

    /// Waits until what the library has sent is with the server and the connection is closed. The
    /// library must have closed its side.
    pub(crate) async fn finish(mut self) {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, &mut self.task).await;
    }

    /// Why the connection ended, once it has.
    pub(crate) fn end(&self) -> Option<&End> {
        self.end.get()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry<S>(server: S, near: UnixStream, layer: Option<Layer>, end: Arc<OnceLock<End>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (mut from_library, mut to_library) = near.into_split();
    let answered = AtomicUsize::new(0);
    let layer = layer.as_ref();
    let why = tokio::select! {
        why = inbound(&mut from_server, &mut to_library, layer, &answered) => why,
        sent = outbound(&mut from_library, &mut to_server, layer, &answered) => End::Closed(match sent {
            Ok(()) => "closed by this side".to_owned(),
            Err(cause) => cause.to_string(),
        }),
    };
    // First the reason, then the end that makes someone ask for it.
    let _ = end.set(why);
    drop((from_library, to_library));
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, to_server.shutdown()).await;
}

/// Moves requests until the library closes its side.
async fn outbound<R, W>(
    from: &mut R,
    to: &mut W,
    layer: Option<&Layer>,
    answered: &AtomicUsize,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 4 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        answered.store(0, Ordering::Relaxed);
        match layer {
            Some(layer) => {
                let sealed = layer.seal(&buffer[..length]).map_err(io::Error::other)?;
                to.write_all(&sealed).await?;
            }
            None => to.write_all(&buffer[..length]).await?,
        }
        to.flush().await?;
    }
}

/// Moves whole, checked messages; returns why it stopped.
async fn inbound<R, W>(
    from: &mut R,
    to: &mut W,
    layer: Option<&Layer>,
    answered: &AtomicUsize,
) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut sealed = Vec::new();
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        if let Some(layer) = layer
            && let Err(fault) = open_frames(layer, &mut sealed, &mut buffer)
        {
            return End::Refused(fault);
        }
        let whole = match whole_messages(&buffer) {
            Ok(whole) => whole,
            Err(fault) => return End::Refused(fault),
        };
        if whole > 0 {
            if let Err(cause) = to.write_all(&buffer[..whole]).await {
                return End::Closed(cause.to_string());
            }
            buffer.drain(..whole);
        }
        let into = match layer {
            Some(_) => &mut sealed,
            None => &mut buffer,
        };
        match from.read_buf(into).await {
            Ok(0) => {
                return End::Closed(match buffer.is_empty() && sealed.is_empty() {
                    true => "the server closed the connection".into(),
                    false => "the server closed the connection in the middle of a message".into(),
                });
            }
            Ok(length) => {
                if answered.fetch_add(length, Ordering::Relaxed) + length > MAX_ANSWER {
                    return End::Refused(TOO_MUCH);
                }
            }
            Err(cause) => return End::Closed(cause.to_string()),
        }
    }
}

/// Takes the whole frames off the front of `sealed` and appends what is in them to `plain`.
fn open_frames(layer: &Layer, sealed: &mut Vec<u8>, plain: &mut Vec<u8>) -> Result<(), Fault> {
    let mut at = 0;
    while let Some((length, rest)) = sealed[at..].split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > layer.max_receive {
            return Err("a sealed message too large");
        }
        let Some(frame) = rest.get(..length) else {
            break;
        };
        let opened = layer.open(frame);
        plain.extend_from_slice(&opened.map_err(|_| "a sealed message that cannot be opened")?);
        at += 4 + length;
    }
    sealed.drain(..at);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sasl::{SaslError, SaslGssapi};

    /// Seals nothing: the frames alone are looked at here.
    struct Bare;

    impl SaslGssapi for Bare {
        fn step(&mut self, _: Option<&[u8]>) -> Result<Vec<u8>, SaslError> {
            Ok(Vec::new())
        }
        fn is_complete(&self) -> bool {
            true
        }
        fn has_layer(&self) -> bool {
            true
        }
        fn max_send(&self) -> usize {
            100
        }
        fn max_receive(&self) -> usize {
            300
        }
        fn wrap(&mut self, plain: &[u8]) -> Result<Vec<u8>, SaslError> {
            Ok(plain.to_vec())
        }
        fn unwrap(&mut self, sealed: &[u8]) -> Result<Vec<u8>, SaslError> {
            Ok(sealed.to_vec())
        }
    }

    fn bare() -> Layer {
        Layer::new(Box::new(Bare))
    }

    proptest! {
        #[test]
        fn what_is_framed_comes_out_however_it_is_cut(
            plain in proptest::collection::vec(any::<u8>(), 0..1000),
            cuts in proptest::collection::vec(1usize..200, 0..20),
        ) {
            let layer = bare();
            let wire = layer.seal(&plain).unwrap();
            let (mut sealed, mut opened, mut at) = (Vec::new(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([wire.len()]) {
                let end = (at + cut).min(wire.len());
                sealed.extend_from_slice(&wire[at..end]);
                at = end;
                open_frames(&layer, &mut sealed, &mut opened).unwrap();
                prop_assert!(sealed.len() < 104);
            }
            prop_assert!(sealed.is_empty());
            prop_assert_eq!(opened, plain);
        }

        #[test]
        fn any_bytes_are_framed_or_refused_without_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let before = bytes.len();
            let mut opened = Vec::new();
            if open_frames(&bare(), &mut bytes, &mut opened).is_ok() {
                prop_assert!(opened.len() + bytes.len() <= before);
            }
        }
    }
}
