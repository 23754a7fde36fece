//! Many of a thing: a folder of 100,000 keys is listed, a parent of 100,000 children is revoked while others read, and
//! a million leases lie on the disk.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::load::{self, request};
use crate::process::Server;
use crate::table::{Table, micros};
use crate::{Failure, Plan};

const CLIENTS: usize = 64;
const READERS: usize = 8;
const KEYS: u64 = 100_000;
const PAGE: usize = 1000;

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    listing().await?;
    family(plan).await?;
    leases(plan).await
}

async fn listing() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path()).await?;
    let (root, _) = server.set_up().await?;
    eprintln!("  writing {KEYS} secrets ...");
    let token = root.clone();
    let each = KEYS.div_ceil(CLIENTS as u64);
    load::times(server.address, CLIENTS, each, move |client, n| {
        let path = format!("/v1/secret/metadata/many/{client:02}-{n:06}");
        request("POST", &path, &token, Some(r#"{"max_versions": 1}"#))
    })
    .await?;
    let before = server.resident()?;
    let begun = Instant::now();
    let (mut after, mut seen, mut pages) = (String::new(), 0, 0);
    let mut slowest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let path = format!("/v1/secret/metadata/many?list=true&limit={PAGE}&after={after}");
        let page = server.call("GET", &path, &root, None).await?;
        slowest = slowest.max(asked.elapsed());
        let keys = page["data"]["keys"].as_array().ok_or("no keys")?;
        seen += keys.len();
        pages += 1;
        match keys.last().and_then(|key| key.as_str()) {
            Some(last) if keys.len() == PAGE => last.clone_into(&mut after),
            _ => break,
        }
    }
    let mut table = Table::new(
        "Listing a folder of 100,000 secrets by pages of 1,000",
        &[
            "keys",
            "pages",
            "in all",
            "slowest page",
            "resident",
            "more than before",
            "aim",
        ],
    );
    let resident = server.resident()?;
    table.row(&[
        seen.to_string(),
        pages.to_string(),
        format!("{:.0} ms", begun.elapsed().as_secs_f64() * 1e3),
        micros(slowest),
        format!("{resident:.1} MiB"),
        format!("{:+.1} MiB", resident - before),
        "flat".into(),
    ]);
    table.print();
    Ok(())
}

async fn family(plan: Plan) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path()).await?;
    let (root, _) = server.set_up().await?;
    let secret = json!({ "data": { "user": "app" } });
    server
        .call("POST", "/v1/secret/data/app", &root, Some(secret))
        .await?;
    let made = json!({ "policies": ["root"], "ttl": "1h" });
    let parent = server
        .call("POST", "/v1/auth/token/create", &root, Some(made))
        .await?;
    let parent = parent["auth"]["client_token"].as_str().ok_or("no token")?;
    eprintln!("  making {KEYS} children of a token ...");
    let token = parent.to_owned();
    let each = KEYS.div_ceil(CLIENTS as u64);
    load::times(server.address, CLIENTS, each, move |_, _| {
        let body = r#"{"policies": ["default"], "ttl": "1h"}"#;
        request("POST", "/v1/auth/token/create", &token, Some(body))
    })
    .await?;

    let reads = async || {
        let root = root.clone();
        let time = Duration::from_secs(plan.seconds);
        let read = move |_, _| request("GET", "/v1/secret/data/app", &root, None);
        let run = load::run(server.address, READERS, time, read).await?;
        Ok::<_, Failure>(run.measured())
    };
    let idle = reads().await?;
    let begun = Instant::now();
    let doomed = json!({ "token": parent });
    server
        .call("POST", "/v1/auth/token/revoke", &root, Some(doomed))
        .await?;
    let answered = begun.elapsed();
    let busy = reads().await?;
    let path = "/v1/auth/token/accessors?list=true&limit=3";
    loop {
        let left = server.call("GET", path, &root, None).await?;
        if left["data"]["keys"]
            .as_array()
            .is_some_and(|keys| keys.len() == 1)
        {
            break;
        }
        if begun.elapsed() > Duration::from_secs(300) {
            return Err("the children of a revoked token are still there".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let gone = begun.elapsed();

    let mut table = Table::new(
        "Reads while a token with 100,000 children is revoked",
        &["what", "reads/s", "p50", "p99", "of the idle p99", "aim"],
    );
    let ratio = busy.p99.as_secs_f64() / idle.p99.as_secs_f64();
    for (what, measured, ratio, aim) in [
        (
            "nothing else".to_owned(),
            &idle,
            "1×".to_owned(),
            "the limit",
        ),
        (
            format!(
                "revocation: answered after {:.0} ms, the last child gone after {:.1} s",
                answered.as_secs_f64() * 1e3,
                gone.as_secs_f64()
            ),
            &busy,
            format!("{ratio:.1}×"),
            "≤ 3×",
        ),
    ] {
        table.row(&[
            what,
            format!("{:.0}", measured.per_second),
            micros(measured.p50),
            micros(measured.p99),
            ratio,
            aim.to_owned(),
        ]);
    }
    table.print();
    Ok(())
}

async fn leases(plan: Plan) -> Result<(), Failure> {
    let few = with_leases(CLIENTS as u64).await?;
    let many = with_leases(plan.tokens).await?;
    let mut table = Table::new(
        "Unsealed with live leases",
        &[
            "live leases",
            "made each second",
            "resident after",
            "more",
            "aim",
        ],
    );
    let more = format!("{:+.1} MiB", many.1 - few.1);
    for (leases, (rate, resident), more, aim) in [
        (CLIENTS as u64, few, "—".to_owned(), "the limit"),
        (plan.tokens, many, more, "≤ +20 MB"),
    ] {
        table.row(&[
            leases.to_string(),
            format!("{rate:.0}"),
            format!("{resident:.1} MiB"),
            more,
            aim.to_owned(),
        ]);
    }
    table.print();
    Ok(())
}

/// Leases made a second, and what is resident once a server has been started on them.
async fn with_leases(leases: u64) -> Result<(f64, f64), Failure> {
    let dir = tempfile::tempdir()?;
    let (key, rate) = {
        let server = Server::start(dir.path()).await?;
        let (root, key) = server.set_up().await?;
        let mount =
            json!({ "type": "kv", "options": { "version": "1", "leased_passthrough": "true" } });
        server
            .call("POST", "/v1/sys/mounts/leased", &root, Some(mount))
            .await?;
        let secret = json!({ "value": "x", "ttl": "24h" });
        server
            .call("POST", "/v1/leased/app", &root, Some(secret))
            .await?;
        eprintln!("  making {leases} leases ...");
        let each = leases.div_ceil(CLIENTS as u64);
        let made = load::times(server.address, CLIENTS, each, move |_, _| {
            request("GET", "/v1/leased/app", &root, None)
        })
        .await?;
        (key, made.per_second())
    };
    let server = Server::start(dir.path()).await?;
    server.unseal(&key).await?;
    // Long enough for the upkeep to have read the front of the index.
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok((rate, server.resident()?))
}
