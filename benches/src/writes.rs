//! Durable writes over HTTP against the storage engine's own synced puts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use crate::load::{self, Measured, request};
use crate::process::Server;
use crate::table::{THROUGHPUT, Table};
use crate::{Failure, Plan};

const CLIENTS: usize = 64;
const VALUE: usize = 600;

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mut table = Table::new("Durable writes, 64 clients", &THROUGHPUT);
    let limit = tokio::task::spawn_blocking(move || synced_puts(plan.seconds)).await??;
    table.measured(
        "RocksDB synced puts, 600 bytes, 64 threads",
        &limit,
        None,
        limit.per_second,
        "the limit",
    );

    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path()).await?;
    let (root, _) = server.set_up().await?;
    let body = json!({ "data": { "value": "x".repeat(VALUE - 150) } }).to_string();
    {
        let (root, body) = (root.clone(), body.clone());
        let write = move |client, n| {
            request(
                "POST",
                &format!("/v1/secret/data/c{client}/n{n}"),
                &root,
                Some(&body),
            )
        };
        let measured = load::run(server.address, CLIENTS, plan.seconds, write).await?;
        table.measured(
            "kv v2 write, new secrets",
            &measured,
            Some(server.resident()?),
            limit.per_second,
            "≥ 50 %",
        );
    }
    let write = move |client, _| {
        request(
            "POST",
            &format!("/v1/secret/data/c{client}/same"),
            &root,
            Some(&body),
        )
    };
    let measured = load::run(server.address, CLIENTS, plan.seconds, write).await?;
    table.measured(
        "kv v2 write, new versions",
        &measured,
        Some(server.resident()?),
        limit.per_second,
        "≥ 50 %",
    );
    table.print();
    Ok(())
}

/// 64 threads that each put and wait for the disk, as RocksDB groups them.
pub(crate) fn synced_puts(seconds: u64) -> Result<Measured, Failure> {
    let dir = tempfile::tempdir()?;
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    let db = rocksdb::DB::open(&options, dir.path())?;
    let stop = AtomicBool::new(false);
    let value = vec![7u8; VALUE];
    let mut all = Histogram::<u64>::new(3)?;
    std::thread::scope(|scope| -> Result<(), Failure> {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|thread| {
                let (db, stop, value) = (&db, &stop, &value);
                scope.spawn(move || -> Result<Histogram<u64>, Failure> {
                    let mut histogram = Histogram::<u64>::new(3)?;
                    let mut write = rocksdb::WriteOptions::default();
                    write.set_sync(true);
                    for n in 0u64.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let begun = Instant::now();
                        db.put_opt(format!("key/{thread:02}/{n:010}"), value, &write)?;
                        histogram.record(u64::try_from(begun.elapsed().as_nanos())?)?;
                    }
                    Ok(histogram)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            all.add(thread.join().map_err(|_| "a thread panicked")??)?;
        }
        Ok(())
    })?;
    Ok(Measured {
        per_second: all.len() as f64 / seconds as f64,
        p50: Duration::from_nanos(all.value_at_quantile(0.5)),
        p99: Duration::from_nanos(all.value_at_quantile(0.99)),
    })
}
