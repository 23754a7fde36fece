//! The limit of logins: the bare accept loop, a credential for each thread and nothing around it. A process of its
//! own in the realm, as the server is.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use obol_kerberos::{Acceptor, AcceptorOptions, Keytab};

use crate::Failure;
use crate::load::{Run, histogram};

/// Accepts the tokens for some time, beginning again after the last. The loop keeps no replays, so a server can take
/// them afterwards.
pub(crate) fn measure(
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
        .arg(ACCEPT)
        .arg(&file)
        .arg(account)
        .arg(time.as_millis().to_string())
        .envs(env.iter().cloned())
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
pub(crate) fn serve(keytab: &Path, account: &str, time: Duration) -> Result<(), Failure> {
    let keytab = Keytab::parse(&std::fs::read(keytab)?)?.for_service_account(account, false)?;
    // What the server asks of a ticket by default.
    let options = AcceptorOptions {
        decode_pac: true,
        ..AcceptorOptions::default()
    };
    let acceptor = Acceptor::new(&keytab, options)?;
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
                let (acceptor, tokens, next, ready) = (&acceptor, &tokens, &next, &ready);
                scope.spawn(move || -> Result<Histogram<u64>, Failure> {
                    // Acquires the thread's credential.
                    let acquired = acceptor.accept(first, None);
                    ready.wait();
                    acquired?;
                    let mut histogram = histogram();
                    let end = Instant::now() + time;
                    loop {
                        let begun = Instant::now();
                        if begun >= end {
                            break;
                        }
                        let token = &tokens[next.fetch_add(1, Ordering::Relaxed) % tokens.len()];
                        std::hint::black_box(acceptor.accept(token, None)?);
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

/// The argument that makes this program the accept loop.
pub(crate) const ACCEPT: &str = "accept-loop";

/// As many as the machine has cores; the server's pool does the same.
pub(crate) const THREADS: usize = 2;
