//! The limits: the same axum and serde_json with a handler that does nothing, and the storage engine's own synced puts.

use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::any;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Failure;
use crate::load::{self, Run, histogram, request};

/// Bytes of a value that is put.
pub(crate) const VALUE: usize = 600;

/// What a table's lines are compared with.
pub(crate) enum Limit {
    Handler(Handler, Option<String>),
    Puts(Arc<Puts>),
}

impl Limit {
    pub(crate) fn empty_handler() -> Result<Self, Failure> {
        Ok(Self::Handler(Handler::start()?, None))
    }

    /// The same handler, which is posted a body of JSON and parses it.
    pub(crate) fn empty_handler_given(body: String) -> Result<Self, Failure> {
        Ok(Self::Handler(Handler::start()?, Some(body)))
    }

    pub(crate) fn synced_puts() -> Result<Self, Failure> {
        Ok(Self::Puts(Arc::new(Puts::open()?)))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Handler(_, None) => "axum with an empty JSON handler",
            Self::Handler(_, Some(_)) => "axum with an empty JSON handler, posted the same",
            Self::Puts(_) => "RocksDB synced puts, 600 bytes, 64 threads",
        }
    }

    pub(crate) async fn measure(&self, clients: usize, time: Duration) -> Result<Run, Failure> {
        match self {
            Self::Handler(handler, body) => {
                let body = body.clone();
                let make = move |_, _| match &body {
                    Some(body) => request("POST", "/v1/anything", "", Some(body)),
                    None => request("GET", "/v1/anything", "", None),
                };
                load::run(handler.address, clients, time, make).await
            }
            Self::Puts(puts) => {
                let puts = puts.clone();
                tokio::task::spawn_blocking(move || puts.measure(time)).await?
            }
        }
    }
}

/// The server with the empty handler: this program again.
pub(crate) struct Handler {
    child: Child,
    address: SocketAddr,
}

impl Handler {
    fn start() -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("limit-server")
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse()?));
        Ok(Self { child, address })
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves on a free port, whose number it prints, until it is killed.
pub(crate) fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?.port());
        let router = Router::new().fallback(any(|body: Bytes| async move {
            let parsed = match body.is_empty() {
                true => Value::Null,
                false => serde_json::from_slice(&body).unwrap_or_default(),
            };
            drop(black_box(parsed));
            axum::Json(json!({ "data": { "value": "empty" } }))
        }));
        axum::serve(listener, router).await?;
        Ok(())
    })
}

/// A store of RocksDB alone.
pub(crate) struct Puts {
    db: rocksdb::DB,
    next: AtomicU64,
    // Behind the store, which is closed first.
    _dir: TempDir,
}

impl Puts {
    fn open() -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        Ok(Self {
            db: rocksdb::DB::open(&options, dir.path())?,
            next: AtomicU64::new(0),
            _dir: dir,
        })
    }

    /// 64 threads that each put and wait for the disk, as RocksDB groups them.
    pub(crate) fn measure(&self, time: Duration) -> Result<Run, Failure> {
        let stop = AtomicBool::new(false);
        let value = vec![7u8; VALUE];
        let mut latencies = histogram();
        std::thread::scope(|scope| -> Result<(), Failure> {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (stop, value) = (&stop, &value);
                    scope.spawn(move || self.put_until(thread, stop, value))
                })
                .collect();
            std::thread::sleep(time);
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                latencies.add(thread.join().map_err(|_| "a thread panicked")??)?;
            }
            Ok(())
        })?;
        Ok(Run { latencies, time })
    }

    fn put_until(
        &self,
        thread: usize,
        stop: &AtomicBool,
        value: &[u8],
    ) -> Result<Histogram<u64>, Failure> {
        let mut latencies = histogram();
        let mut write = rocksdb::WriteOptions::default();
        write.set_sync(true);
        while !stop.load(Ordering::Relaxed) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let begun = Instant::now();
            let key = format!("key/{thread:02}/{n:010}");
            self.db.put_opt(key, value, &write)?;
            latencies.record(u64::try_from(begun.elapsed().as_nanos())?)?;
        }
        Ok(latencies)
    }
}

const THREADS: usize = 64;
