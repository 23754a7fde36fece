//! Encryption by transit against an empty handler, and against the cipher itself.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::json;

use crate::limit::Limit;
use crate::load::{Run, histogram, request};
use crate::process::Server;
use crate::rounds::{Line, compare};
use crate::table::{THROUGHPUT, Table};
use crate::{Failure, Plan};

const CLIENTS: usize = 32;
const PLAINTEXT: usize = 1024;

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mut table = Table::new("Transit, 1 KiB, 32 connections", &THROUGHPUT);
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
    let post = |name, path: &'static str, body: String| {
        let root = root.clone();
        Line::new(name, "≥ 60 %", move |_, _| {
            request("POST", path, &root, Some(&body))
        })
    };
    let sealed = json!({ "ciphertext": sealed["data"]["ciphertext"] });
    let limit = Limit::empty_handler_given(body.to_string())?;
    let lines = [
        post("encrypt", "/v1/transit/encrypt/orders", body.to_string()),
        post("decrypt", "/v1/transit/decrypt/orders", sealed.to_string()),
    ];
    let limit = compare(&mut table, plan, &limit, &server, CLIENTS, &lines).await?;
    let time = Duration::from_secs(plan.seconds);
    let unasked = Limit::empty_handler()?;
    let run = unasked.measure(CLIENTS, time).await?;
    let share = run.per_second() / limit;
    table.measured(unasked.name(), &run.measured(), None, share, "to compare");
    let cipher = tokio::task::spawn_blocking(move || cipher(time)).await??;
    let share = cipher.per_second() / limit;
    table.measured(
        "ring's AES-256-GCM on 2 threads",
        &cipher.measured(),
        None,
        share,
        "to compare",
    );
    table.print();
    Ok(())
}

/// Sealing and nothing else, on as many threads as the machine has cores.
fn cipher(time: Duration) -> Result<Run, Failure> {
    let mut latencies = histogram();
    std::thread::scope(|scope| -> Result<(), Failure> {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || -> Result<Histogram<u64>, Failure> {
                    let key = UnboundKey::new(&AES_256_GCM, &[1; 32]).map_err(|_| "a key")?;
                    let key = LessSafeKey::new(key);
                    let mut histogram = histogram();
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
            latencies.add(thread.join().map_err(|_| "a thread panicked")??)?;
        }
        Ok(())
    })?;
    Ok(Run { latencies, time })
}
