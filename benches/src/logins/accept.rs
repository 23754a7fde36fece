//! The limit of logins: the bare accept loop of GSSAPI, a credential for each thread and nothing around it; and to compare
//! with it, this project's acceptor in the same loop. Processes of their own in the realm, as the server is.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use libgssapi::context::{SecurityContext, ServerCtx};
use libgssapi::credential::{Cred, CredUsage};
use obol_kerberos::{Acceptor, AcceptorOptions, Keytab};

use crate::Failure;
use crate::load::{Run, histogram};

/// Who accepts.
#[derive(Clone, Copy)]
pub(crate) enum By {
    /// gss_accept_sec_context, through a crate that is not ours: the limit must not move with what is measured against it.
    Gssapi,
    /// The same, and asks whose ticket it was.
    GssapiWithName,
    /// What the server does with a token: the name, the groups of the PAC and the digest against replays with it.
    Acceptor,
}

/// Accepts the tokens for some time, beginning again after the last. Neither loop keeps replays, so a server can take
/// them afterwards.
pub(crate) fn measure(
    by: By,
    env: &[(String, String)],
    keytab: &[u8],
    account: &str,
    tokens: &[String],
    time: Duration,
) -> Result<Run, Failure> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("keytab");
    std::fs::write(&file, keytab)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(match by {
            By::Gssapi => GSSAPI,
            By::GssapiWithName => GSSAPI_WITH_NAME,
            By::Acceptor => ACCEPTOR,
        })
        .arg(&file)
        .arg(account)
        .arg(time.as_millis().to_string())
        .envs(env.iter().cloned())
        .env("KRB5_KTNAME", &file)
        .env("KRB5RCACHENAME", "none:")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    {
        let mut input = std::io::BufWriter::new(child.stdin.take().ok_or("no input")?);
        for token in tokens {
            writeln!(input, "{token}")?;
        }
        input.flush()?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let nanos = numbers
        .next()
        .ok_or("the accept loop came to an early end")??;
    let mut latencies = histogram();
    while let (Some(value), Some(count)) = (numbers.next(), numbers.next()) {
        latencies.record_n(value?, count?)?;
    }
    Ok(Run {
        latencies,
        time: Duration::from_nanos(nanos),
    })
}

/// The other side: tokens come in, a line each; when all are there they are accepted. What goes out is how many
/// nanoseconds that took, then a line for each latency: nanoseconds, and how many took so long.
pub(crate) fn serve_gssapi(time: Duration, with_name: bool) -> Result<(), Failure> {
    serve(time, || {
        let credential = Cred::acquire(None, None, CredUsage::Accept, None)?;
        Ok(move |token: &[u8]| -> Result<(), Failure> {
            let mut context = ServerCtx::new(Some(credential.clone()));
            std::hint::black_box(context.step(token, None)?);
            if !context.is_complete() {
                return Err("the context is not complete".into());
            }
            if with_name {
                std::hint::black_box(context.source_name()?.display_name()?);
            }
            Ok(())
        })
    })
}

/// The same, by what the server does.
pub(crate) fn serve_acceptor(keytab: &Path, account: &str, time: Duration) -> Result<(), Failure> {
    let keytab = Keytab::parse(&std::fs::read(keytab)?)?.for_service_account(account, false)?;
    // What the server asks of a ticket by default.
    let options = AcceptorOptions {
        decode_pac: true,
        ..AcceptorOptions::default()
    };
    let acceptor = Acceptor::new(&keytab, options)?;
    serve(time, || {
        let acceptor = acceptor.clone();
        Ok(move |token: &[u8]| -> Result<(), Failure> {
            std::hint::black_box(acceptor.accept(token, None)?);
            Ok(())
        })
    })
}

/// `accepting` makes what one thread accepts with.
fn serve<A>(
    time: Duration,
    accepting: impl Fn() -> Result<A, Failure> + Sync,
) -> Result<(), Failure>
where
    A: FnMut(&[u8]) -> Result<(), Failure>,
{
    let mut tokens = Vec::new();
    for line in std::io::stdin().lock().lines() {
        tokens.push(STANDARD.decode(line?.trim())?);
    }
    let first = tokens.first().ok_or("no tokens")?;
    let next = AtomicUsize::new(0);
    let ready = std::sync::Barrier::new(THREADS + 1);
    let mut all = histogram();
    let elapsed = std::thread::scope(|scope| -> Result<Duration, Failure> {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (accepting, tokens, next, ready) = (&accepting, &tokens, &next, &ready);
                scope.spawn(move || -> Result<Histogram<u64>, Failure> {
                    // What is made at the first use is made before the clock runs.
                    let made = accepting().and_then(|mut accept| accept(first).map(|()| accept));
                    ready.wait();
                    let mut accept = made?;
                    let mut histogram = histogram();
                    let end = Instant::now() + time;
                    loop {
                        let begun = Instant::now();
                        if begun >= end {
                            break;
                        }
                        let token = &tokens[next.fetch_add(1, Ordering::Relaxed) % tokens.len()];
                        accept(token)?;
                        histogram.record(u64::try_from(begun.elapsed().as_nanos())?)?;
                    }
                    Ok(histogram)
                })
            })
            .collect();
        ready.wait();
        let begun = Instant::now();
        for thread in threads {
            all.add(thread.join().map_err(|_| "a thread panicked")??)?;
        }
        Ok(begun.elapsed())
    })?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    writeln!(out, "{}", elapsed.as_nanos())?;
    for step in all.iter_recorded() {
        let (value, count) = (step.value_iterated_to(), step.count_since_last_iteration());
        writeln!(out, "{value} {count}")?;
    }
    out.flush()?;
    Ok(())
}

/// The arguments that make this program an accept loop.
pub(crate) const GSSAPI: &str = "accept-loop-gssapi";
pub(crate) const GSSAPI_WITH_NAME: &str = "accept-loop-gssapi-with-name";
pub(crate) const ACCEPTOR: &str = "accept-loop-acceptor";

/// As many as the machine has cores; the server's pool does the same.
pub(crate) const THREADS: usize = 2;
