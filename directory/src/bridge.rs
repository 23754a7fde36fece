//! Carries LDAP messages between a server's socket, TLS or not, and the LDAP library.
//!
//! The library reads from one end of a socket pair; a task here moves the bytes. That is where TLS
//! is put under it (src/tls.rs), and where a hostile server is stopped: the library trusts what it
//! decodes, so each message is checked before it goes on (src/message.rs).

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::message::{Fault, MAX_MESSAGE, whole_messages};

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
    /// Starts carrying between `server` and the returned socket.
    pub(crate) fn start<S>(server: S) -> io::Result<(Self, StdUnixStream)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (near, far) = StdUnixStream::pair()?;
        near.set_nonblocking(true)?;
        let near = UnixStream::from_std(near)?;
        let end = Arc::new(OnceLock::new());
        let task = tokio::spawn(carry(server, near, Arc::clone(&end)));
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

async fn carry<S>(server: S, near: UnixStream, end: Arc<OnceLock<End>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (mut from_library, mut to_library) = near.into_split();
    let answered = AtomicUsize::new(0);
    let why = tokio::select! {
        why = inbound(&mut from_server, &mut to_library, &answered) => why,
        sent = outbound(&mut from_library, &mut to_server, &answered) => End::Closed(match sent {
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
async fn outbound<R, W>(from: &mut R, to: &mut W, answered: &AtomicUsize) -> io::Result<()>
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
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
    }
}

/// Moves whole, checked messages; returns why it stopped.
async fn inbound<R, W>(from: &mut R, to: &mut W, answered: &AtomicUsize) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
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
        match from.read_buf(&mut buffer).await {
            Ok(0) => {
                return End::Closed(match buffer.is_empty() {
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
