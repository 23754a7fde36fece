//! Encryption by transit against an empty handler, and against the cipher itself.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::json;

use crate::load::{self, Measured, request};
use crate::process::{Server, empty_handler};
use crate::table::{THROUGHPUT, Table};
use crate::{Failure, Plan};

const CLIENTS: usize = 32;
const PLAINTEXT: usize = 1024;

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mut table = Table::new("Transit, 1 KiB, 32 connections", &THROUGHPUT);
    let limit = empty_handler(CLIENTS, plan.seconds).await?;
    table.measured(
        "axum with an empty JSON handler",
        &limit,
        None,
        limit.per_second,
        "the limit",
    );
    let cipher = tokio::task::spawn_blocking(move || cipher(plan.seconds)).await??;
    table.measured(
        "ring's AES-256-GCM on 2 threads",
        &cipher,
        None,
        limit.per_second,
        "to compare",
    );

    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path()).await?;
    let (root, _) = server.set_up().await?;
    let mount = json!({ "type": "transit" });
    server
        .call("POST", "/v1/sys/mounts/transit", &root, Some(mount))
        .await?;
    server
        .call("POST", "/v1/transit/keys/orders", &root, Some(json!({})))
        .await?;
    let body = json!({ "plaintext": STANDARD.encode(vec![7u8; PLAINTEXT]) });
    let sealed = server
        .call(
            "POST",
            "/v1/transit/encrypt/orders",
            &root,
            Some(body.clone()),
        )
        .await?;
    let ciphertext = &sealed["data"]["ciphertext"];
    for (name, path, body) in [
        ("encrypt", "/v1/transit/encrypt/orders", body.to_string()),
        (
            "decrypt",
            "/v1/transit/decrypt/orders",
            json!({ "ciphertext": ciphertext }).to_string(),
        ),
    ] {
        let root = root.clone();
        let measured = load::run(server.address, CLIENTS, plan.seconds, move |_, _| {
            request("POST", path, &root, Some(&body))
        })
        .await?;
        table.measured(
            name,
            &measured,
            Some(server.resident()?),
            limit.per_second,
            "≥ 60 %",
        );
    }
    table.print();
    Ok(())
}

/// Sealing and nothing else, on as many threads as the machine has cores.
fn cipher(seconds: u64) -> Result<Measured, Failure> {
    let time = Duration::from_secs(seconds);
    let mut all = Histogram::<u64>::new(3)?;
    std::thread::scope(|scope| -> Result<(), Failure> {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || -> Result<Histogram<u64>, Failure> {
                    let key = UnboundKey::new(&AES_256_GCM, &[1; 32]).map_err(|_| "a key")?;
                    let key = LessSafeKey::new(key);
                    let mut histogram = Histogram::<u64>::new(3)?;
                    let mut data = vec![7u8; PLAINTEXT];
                    let begun = Instant::now();
                    for n in 0u64.. {
                        let sent = Instant::now();
                        if sent - begun > time {
                            break;
                        }
                        let mut nonce = [0; 12];
                        nonce[..8].copy_from_slice(&n.to_le_bytes());
                        let nonce = Nonce::assume_unique_for_key(nonce);
                        let tag = key
                            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut data)
                            .map_err(|_| "sealing failed")?;
                        let _ = std::hint::black_box(tag);
                        histogram.record(u64::try_from(sent.elapsed().as_nanos())?)?;
                    }
                    Ok(histogram)
                })
            })
            .collect();
        for thread in threads {
            all.add(thread.join().map_err(|_| "a thread panicked")??)?;
        }
        Ok(())
    })?;
    Ok(Measured {
        per_second: all.len() as f64 / time.as_secs_f64(),
        p50: Duration::from_nanos(all.value_at_quantile(0.5)),
        p99: Duration::from_nanos(all.value_at_quantile(0.99)),
    })
}
