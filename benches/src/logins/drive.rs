//! Logins over HTTP with tokens that were made before: as many as the server takes, or on a fixed schedule.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Semaphore;

use super::clients::Tokens;
use crate::Failure;
use crate::load::{Connection, Run, histogram};

/// One login; returns the body of the answer.
pub(crate) async fn log_in(address: SocketAddr, token: &str) -> Result<Vec<u8>, Failure> {
    let mut connection = Connection::open(address).await?;
    let (status, body) = connection.call(&request(token)).await?;
    succeeded(status, &body)?;
    Ok(body)
}

/// Each connection logs in again as soon as it has its answer, until the tokens are used up or the
/// time is over.
pub(crate) async fn closed_loop(
    address: SocketAddr,
    connections: usize,
    tokens: &Tokens,
    time: Duration,
) -> Result<Run, Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let opened = open(address, connections).await?;
    let begun = Instant::now();
    let tasks: Vec<_> = opened
        .into_iter()
        .map(|mut connection| {
            let (tokens, next) = (tokens.clone(), next.clone());
            tokio::spawn(async move {
                let mut histogram = histogram();
                while let Some(token) = tokens.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = request(token);
                    let sent = Instant::now();
                    if sent - begun > time {
                        break;
                    }
                    let (status, body) = connection.exchange(&request).await?;
                    let took = sent.elapsed();
                    succeeded(status, body)?;
                    histogram.record(u64::try_from(took.as_nanos())?)?;
                }
                Ok::<_, Failure>(histogram)
            })
        })
        .collect();
    let latencies = gather(tasks).await?;
    let time = begun.elapsed();
    Ok(Run { latencies, time })
}

/// One login every `1 / per_second` seconds, whether the ones before have been answered or not. The time of each is
/// counted from when it was due: a server that stalls makes all that wait behind it late. Those of a [`TICK`] are sent
/// together at its end, and count as late by that.
pub(crate) async fn open_loop(
    address: SocketAddr,
    connections: usize,
    tokens: &Tokens,
    per_second: f64,
) -> Result<Histogram<u64>, Failure> {
    let due = Arc::new(Semaphore::new(0));
    let next = Arc::new(AtomicUsize::new(0));
    let opened = open(address, connections).await?;
    let begin = Instant::now() + Duration::from_millis(10);
    let at = move |n: usize| begin + Duration::from_secs_f64(n as f64 / per_second);
    let tasks: Vec<_> = opened
        .into_iter()
        .map(|mut connection| {
            let (tokens, next, due) = (tokens.clone(), next.clone(), due.clone());
            tokio::spawn(async move {
                let mut histogram = histogram();
                // Each connection is woken once more when all are taken.
                loop {
                    due.acquire().await?.forget();
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(token) = tokens.get(n) else { break };
                    let (status, body) = connection.exchange(&request(token)).await?;
                    succeeded(status, body)?;
                    histogram.record(u64::try_from(at(n).elapsed().as_nanos())?)?;
                }
                Ok::<_, Failure>(histogram)
            })
        })
        .collect();
    // A thread keeps the schedule: the runtime's timers are good to a millisecond only. It is not woken for each login:
    // that took a tenth of the machine, half of what the schedule leaves free.
    let count = tokens.len();
    let pacer = std::thread::spawn(move || {
        let mut released = 0;
        while released < count {
            std::thread::sleep(TICK);
            let past = begin.elapsed().as_secs_f64() * per_second;
            let ready = (past as usize).min(count);
            due.add_permits(ready - released);
            released = ready;
        }
        due.add_permits(connections);
    });
    let all = gather(tasks).await?;
    pacer.join().map_err(|_| "a thread panicked")?;
    Ok(all)
}

/// Half a millisecond.
const TICK: Duration = Duration::from_micros(500);

async fn open(address: SocketAddr, connections: usize) -> Result<Vec<Connection>, Failure> {
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        opened.push(Connection::open(address).await?);
    }
    Ok(opened)
}

type Task = tokio::task::JoinHandle<Result<Histogram<u64>, Failure>>;

async fn gather(tasks: Vec<Task>) -> Result<Histogram<u64>, Failure> {
    let mut all = Histogram::<u64>::new(3)?;
    for task in tasks {
        all.add(task.await??)?;
    }
    Ok(all)
}

fn request(token: &str) -> Vec<u8> {
    format!(
        "POST /v1/auth/kerberos/login HTTP/1.1\r\nHost: localhost\r\nAuthorization: Negotiate {token}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn succeeded(status: u16, body: &[u8]) -> Result<(), Failure> {
    match status {
        200 => Ok(()),
        _ => Err(format!("a login: {status} {}", String::from_utf8_lossy(body)).into()),
    }
}
