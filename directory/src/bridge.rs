//! Carries LDAP messages between a server's socket, TLS or not, and the LDAP library.
//!
//! The library reads from one end of a socket pair; a task here moves the bytes. That is where TLS
//! is put under it (src/tls.rs), and where a hostile server is stopped: the library trusts what it
//! decodes, so each message is checked before it goes on (src/message.rs).

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

use crate::message::whole_messages;

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
