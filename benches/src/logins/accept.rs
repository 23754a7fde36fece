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
use crate::load::Measured;

/// Accepts the tokens for `seconds`, beginning again after the last. The loop keeps no replays, so a server can take
/// them afterwards.
pub(crate) fn measure(
    env: &[(String, String)],
    keytab: &[u8],
    account: &str,
    tokens: &[String],
    seconds: u64,
) -> Result<Measured, Failure> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("keytab");
    std::fs::write(&file, keytab)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(ACCEPT)
        .arg(&file)
        .arg(account)
        .arg(seconds.to_string())
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
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [accepted, nanos, p50, p99] = numbers[..] else {
        return Err("the accept loop came to an early end".into());
    };
    Ok(Measured {
        per_second: accepted as f64 / Duration::from_nanos(nanos).as_secs_f64(),
        p50: Duration::from_nanos(p50),
        p99: Duration::from_nanos(p99),
    })
}

/// The other side: tokens come in, a line each; when all are there they are accepted.
pub(crate) fn serve(keytab: &Path, account: &str, seconds: u64) -> Result<(), Failure> {
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
    let mut all = Histogram::<u64>::new(3)?;
    let elapsed = std::thread::scope(|scope| -> Result<Duration, Failure> {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (acceptor, tokens, next, ready) = (&acceptor, &tokens, &next, &ready);
                scope.spawn(move || -> Result<Histogram<u64>, Failure> {
                    // Acquires the thread's credential.
                    let acquired = acceptor.accept(first, None);
                    ready.wait();
                    acquired?;
                    let mut histogram = Histogram::<u64>::new(3)?;
                    let end = Instant::now() + Duration::from_secs(seconds);
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
    println!(
        "{} {} {} {}",
        all.len(),
        elapsed.as_nanos(),
        all.value_at_quantile(0.5),
        all.value_at_quantile(0.99)
    );
    Ok(())
}

/// The argument that makes this program the accept loop.
pub(crate) const ACCEPT: &str = "accept-loop";

/// As many as the machine has cores; the server's pool does the same.
pub(crate) const THREADS: usize = 2;
