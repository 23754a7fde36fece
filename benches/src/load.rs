//! The load: keep-alive connections that each send a request, read the answer to its end and send the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;

/// What came of some time of load.
pub(crate) struct Run {
    /// Nanoseconds of each request.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) time: Duration,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            latencies: histogram(),
            time: Duration::ZERO,
        }
    }
}

impl Run {
    pub(crate) fn add(&mut self, more: Run) -> Result<(), Failure> {
        self.latencies.add(more.latencies)?;
        self.time += more.time;
        Ok(())
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }

    pub(crate) fn measured(&self) -> Measured {
        Measured {
            per_second: self.per_second(),
            p50: Duration::from_nanos(self.latencies.value_at_quantile(0.5)),
            p99: Duration::from_nanos(self.latencies.value_at_quantile(0.99)),
        }
    }
}

/// An empty histogram of nanoseconds, as exact as three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are within what the histogram can do")
}

/// A run in short.
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

/// `clients` connections for some time; `make` gives the n-th request of a client. An answer that is no success ends
/// the run: a fast refusal is no result.
pub(crate) async fn run(
    address: SocketAddr,
    clients: usize,
    time: Duration,
    make: impl Fn(usize, u64) -> Vec<u8> + Send + Sync + 'static,
) -> Result<Run, Failure> {
    let begin = Instant::now() + Duration::from_millis(300);
    let latencies = drive(address, clients, begin, begin + time, u64::MAX, make).await?;
    Ok(Run { latencies, time })
}

/// The same until each client has sent `each` requests.
pub(crate) async fn times(
    address: SocketAddr,
    clients: usize,
    each: u64,
    make: impl Fn(usize, u64) -> Vec<u8> + Send + Sync + 'static,
) -> Result<Run, Failure> {
    let begin = Instant::now();
    let latencies = drive(address, clients, begin, begin + LONGEST, each, make).await?;
    let time = begin.elapsed();
    Ok(Run { latencies, time })
}

/// Each client sends until `end`, or until it has sent `each`; what is sent from `begin` on counts.
async fn drive(
    address: SocketAddr,
    clients: usize,
    begin: Instant,
    end: Instant,
    each: u64,
    make: impl Fn(usize, u64) -> Vec<u8> + Send + Sync + 'static,
) -> Result<Histogram<u64>, Failure> {
    let make = Arc::new(make);
    let mut tasks = Vec::new();
    for client in 0..clients {
        let make = make.clone();
        let mut connection = Connection::open(address).await?;
        tasks.push(tokio::spawn(async move {
            let mut histogram = histogram();
            for n in 0..each {
                let request = make(client, n);
                let sent = Instant::now();
                let (status, body) = connection.exchange(&request).await?;
                if !(200..300).contains(&status) {
                    let body = String::from_utf8_lossy(body);
                    return Err(Failure::from(format!(
                        "the server answered {status} {body}"
                    )));
                }
                let now = Instant::now();
                if now >= end {
                    break;
                }
                if sent >= begin {
                    histogram.record(u64::try_from((now - sent).as_nanos())?)?;
                }
            }
            Ok(histogram)
        }));
    }
    let mut all = histogram();
    for task in tasks {
        all.add(task.await??)?;
    }
    Ok(all)
}

/// Nothing that is counted takes so long.
const LONGEST: Duration = Duration::from_secs(3600);
