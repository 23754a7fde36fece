//! `make bench`: what the server does against what the machine can do, measured in the same run.
//!
//! Every line is a ratio against a limit: the same HTTP stack with an empty handler, or the storage engine's own
//! synced writes, the cipher itself, the bare accept loop of Kerberos, the same LDAP searches without a server. The load
//! comes from one thread of this process; the server is a process of its own.

mod idle;
mod limit;
mod load;
mod logins;
mod many;
mod process;
mod quiet;
mod reads;
mod rounds;
mod table;
mod tokens;
mod transit;
mod unseal;
mod writes;

use std::process::ExitCode;
use std::time::Duration;

/// The allocator that the server uses, so that the limit has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
obol-benches: measures the server built beside it (target/release/obol)

    obol-benches                  every table
    obol-benches reads writes     some of: idle, reads, transit, writes, tokens, many, unseal, logins
    obol-benches unseal --tokens 100000
    obol-benches logins --logins 1000000

Options:
    --seconds N    how long each line is measured (default 5)
    --tokens N     live tokens, and live leases (default 1000000)
    --logins N     logins for the table of their memory (default 50000)
";

/// What to measure, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seconds: u64,
    pub(crate) tokens: u64,
    pub(crate) logins: u64,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let mut plan = Plan {
        seconds: 5,
        tokens: 1_000_000,
        logins: 50_000,
    };
    let mut wanted: Vec<String> = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok());
        match arg.as_str() {
            "--seconds" => match number() {
                Some(n) => plan.seconds = n,
                None => return usage(),
            },
            "--tokens" => match number() {
                Some(n) => plan.tokens = n,
                None => return usage(),
            },
            "--logins" => match number() {
                Some(n) => plan.logins = n,
                None => return usage(),
            },
            logins::CLIENTS => {
                let service = args.next().unwrap_or_default();
                return report(logins::serve_clients(&service));
            }
            by @ (logins::GSSAPI | logins::GSSAPI_WITH_NAME | logins::ACCEPTOR) => {
                let keytab = args.next().unwrap_or_default();
                let account = args.next().unwrap_or_default();
                let time = args.next().and_then(|n| n.parse().ok()).unwrap_or(1000);
                let time = Duration::from_millis(time);
                return report(match by {
                    logins::GSSAPI => logins::serve_gssapi(time, false),
                    logins::GSSAPI_WITH_NAME => logins::serve_gssapi(time, true),
                    _ => logins::serve_acceptor(keytab.as_ref(), &account, time),
                });
            }
            "limit-server" => return report(limit::serve()),
            "idle" | "reads" | "transit" | "writes" | "tokens" | "many" | "unseal" | "logins" => {
                wanted.push(arg);
            }
            _ => return usage(),
        }
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(error.into())),
    };
    report(runtime.block_on(run(plan, &wanted)))
}

async fn run(plan: Plan, wanted: &[String]) -> Result<(), Failure> {
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if wants("idle") {
        idle::run().await?;
    }
    if wants("reads") {
        reads::run(plan).await?;
    }
    if wants("transit") {
        transit::run(plan).await?;
    }
    if wants("writes") {
        writes::run(plan).await?;
    }
    if wants("tokens") {
        tokens::run(plan).await?;
    }
    if wants("many") {
        many::run(plan).await?;
    }
    if wants("unseal") {
        unseal::run(plan).await?;
    }
    if wants("logins") {
        logins::run(plan).await?;
    }
    Ok(())
}

fn usage() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}

fn report(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("obol-benches: {error}");
            ExitCode::FAILURE
        }
    }
}
