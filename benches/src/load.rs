//! The load: keep-alive connections that each send a request, read the answer to its end and send the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;

/// What came of a run.
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// One HTTP/1.1 connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(16 << 10),
        })
    }

    /// Sends a request and reads the answer: its status and body.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>), Failure> {
        let (status, body) = self.exchange(request).await?;
        Ok((status, body.to_vec()))
    }

    /// The same without copying the body: for measured loops.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<(u16, &[u8]), Failure> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some(head) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let text = std::str::from_utf8(&self.buffer[..head])?;
                let status: u16 = text.get(9..12).ok_or("no status line")?.parse()?;
                let length = text.split("\r\n").find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse::<usize>().ok())?
                });
                let end = head + 4 + length.unwrap_or(0);
                while self.buffer.len() < end {
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        return Err("the server closed the connection".into());
                    }
                }
                return Ok((status, &self.buffer[head + 4..end]));
            }
        }
    }
}

/// An HTTP/1.1 request as bytes.
pub(crate) fn request(method: &str, path: &str, token: &str, body: Option<&str>) -> Vec<u8> {
    let body = body.unwrap_or_default();
    let token = if token.is_empty() {
        String::new()
    } else {
        format!("X-Vault-Token: {token}\r\n")
    };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{token}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// `clients` connections for `seconds`; `make` gives the n-th request of a client. An answer that is no success ends
/// the run: a fast refusal is no result.
pub(crate) async fn run(
    address: SocketAddr,
    clients: usize,
    seconds: u64,
    make: impl Fn(usize, u64) -> Vec<u8> + Send + Sync + 'static,
) -> Result<Measured, Failure> {
    let make = Arc::new(make);
    let warm_up = Duration::from_millis(500);
    let begin = Instant::now() + warm_up;
    let end = begin + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for client in 0..clients {
        let make = make.clone();
        let mut connection = Connection::open(address).await?;
        tasks.push(tokio::spawn(async move {
            let mut histogram = Histogram::<u64>::new(3)?;
            let mut n = 0;
            loop {
                let request = make(client, n);
                n += 1;
                let sent = Instant::now();
                let (status, ..) = connection.exchange(&request).await?;
                let now = Instant::now();
                if !(200..300).contains(&status) {
                    return Err(Failure::from(format!("the server answered {status}")));
                }
                if now >= end {
                    return Ok(histogram);
                }
                if sent >= begin {
                    histogram.record(u64::try_from((now - sent).as_nanos())?)?;
                }
            }
        }));
    }
    let mut all = Histogram::<u64>::new(3)?;
    for task in tasks {
        all.add(task.await??)?;
    }
    Ok(Measured {
        per_second: all.len() as f64 / seconds as f64,
        p50: Duration::from_nanos(all.value_at_quantile(0.5)),
        p99: Duration::from_nanos(all.value_at_quantile(0.99)),
    })
}
