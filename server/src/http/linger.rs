//! A connection that the server ends while its client still sends. A socket that is closed with unread bytes is reset, and
//! the reset takes with it the answer that the client has not read yet: a 431 for headers that are too large, or a 413, would
//! mostly be seen as "connection reset". So the server says that it has nothing more to say, and reads on for a moment.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// How long a client may take to read the answer and close.
const PATIENCE: Duration = Duration::from_secs(5);
const DISCARDED_AT_ONCE: usize = 16 << 10;

/// A stream that goes back to whoever made it when it is dropped.
pub(super) struct Lent {
    stream: Option<TcpStream>,
    owner: Option<oneshot::Sender<TcpStream>>,
}

/// Where a lent stream comes back.
pub(super) struct Returned(oneshot::Receiver<TcpStream>);

/// Lends a stream to whatever serves it.
pub(super) fn lend(stream: TcpStream) -> (Lent, Returned) {
    let (owner, returned) = oneshot::channel();
    let lent = Lent {
        stream: Some(stream),
        owner: Some(owner),
    };
    (lent, Returned(returned))
}

impl Returned {
    /// Ends the connection, once whoever served it has dropped it: what the client still sends is read and thrown away,
    /// until it closes or its time is over.
    pub(super) async fn close(mut self) {
        // None where it was upgraded or leaked: then it is not ours to close.
        let Ok(mut stream) = self.0.try_recv() else {
            return;
        };
        let _ = tokio::time::timeout(PATIENCE, async {
            // Fails where the client is gone: so does the first read.
            let _ = stream.shutdown().await;
            let mut discarded = vec![0; DISCARDED_AT_ONCE];
            while matches!(stream.read(&mut discarded).await, Ok(read) if read > 0) {}
        })
        .await;
    }
}

impl Lent {
    /// There until it is dropped.
    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        let stream = self.get_mut().stream.as_mut();
        stream
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(stream), Some(owner)) = (self.stream.take(), self.owner.take()) {
            // Nobody may be waiting for it: then it is closed here.
            let _ = owner.send(stream);
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
