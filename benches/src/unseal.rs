//! Unsealing with many live tokens against unsealing with few: the index of expiry is never loaded.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use obol::core::tokens::NewToken;
use obol::core::{Core, Settings, unix_now};
use obol_storage::seal::{Seal, Share};
use obol_storage::{Batch, RocksDb, RocksDbOptions};

use crate::process::Server;
use crate::table::Table;
use crate::{Failure, Plan};

const ROUNDS: usize = 5;
const WRITERS: u64 = 256;

struct Unsealed {
    time: Duration,
    resident: f64,
}

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let few = with_tokens(10).await?;
    let many = with_tokens(plan.tokens).await?;
    let mut table = Table::new(
        "Unsealing with live tokens",
        &[
            "live tokens",
            "unseal (median of 5)",
            "resident after",
            "ratio",
            "aim",
        ],
    );
    let row = |tokens: u64, unsealed: &Unsealed, ratio: String, aim: &str| {
        [
            tokens.to_string(),
            format!("{:.1} ms", unsealed.time.as_secs_f64() * 1e3),
            format!("{:.1} MiB", unsealed.resident),
            ratio,
            aim.to_owned(),
        ]
    };
    table.row(&row(10, &few, "1".into(), "the limit"));
    let ratio = many.time.as_secs_f64() / few.time.as_secs_f64();
    let more = many.resident - few.resident;
    table.row(&row(
        plan.tokens,
        &many,
        format!("{ratio:.2}×, {more:+.1} MiB"),
        "≤ 1.2×, ≤ +20 MB",
    ));
    table.print();
    Ok(())
}

async fn with_tokens(tokens: u64) -> Result<Unsealed, Failure> {
    let dir = tempfile::tempdir()?;
    let key = fill(dir.path(), tokens).await?;
    let mut times = Vec::new();
    let mut resident: f64 = 0.0;
    for _ in 0..ROUNDS {
        let server = Server::start(dir.path()).await?;
        let begun = Instant::now();
        server.unseal(&key).await?;
        times.push(begun.elapsed());
        // Long enough for the upkeep to have read the front of the index.
        tokio::time::sleep(Duration::from_secs(3)).await;
        resident = resident.max(server.resident()?);
    }
    times.sort();
    Ok(Unsealed {
        time: times[ROUNDS / 2],
        resident,
    })
}

/// Makes a storage with live tokens, through the server's own core, and returns the unseal key.
async fn fill(dir: &Path, tokens: u64) -> Result<String, Failure> {
    eprintln!("  making {tokens} tokens ...");
    let engine = Arc::new(RocksDb::open(dir.join("db"), RocksDbOptions::default())?);
    let core = Core::new(engine.clone(), Seal::Shamir, Settings::default())?;
    let new = core.initialize(1, 1, None).await?;
    let share = new.shares.first().ok_or("no share")?.expose().to_vec();
    core.unseal(Share::from_bytes(&share)?, false).await?;
    let live = core.live()?;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let live = live.clone();
            let core = core.clone();
            tokio::spawn(async move {
                for _ in (writer..tokens).step_by(WRITERS as usize) {
                    let token = NewToken {
                        policies: vec!["default".into()],
                        display_name: "bench".into(),
                        path: "auth/token/create".into(),
                        ttl: Duration::from_secs(86_400),
                        renewable: true,
                        ..NewToken::default()
                    };
                    let limits = core.limits(None);
                    live.tokens
                        .issue(token, limits, Batch::new(), unix_now())
                        .await
                        .map_err(|e| format!("{e:?}"))?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    drop(live);
    core.seal().await;
    obol_storage::Engine::close(&*engine).await?;
    Ok(share.iter().map(|byte| format!("{byte:02x}")).collect())
}
