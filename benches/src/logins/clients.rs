//! The clients: AP-REQs made ahead of time, each good for one login, by a process that lives in the realm (libkrb5
//! reads KRB5_CONFIG when it starts, and a process must not change its own environment).

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_kerberos::Initiator;

use super::world::{PASSWORD, USERS, user};
use crate::Failure;

/// Negotiate tokens in base64, as they go into the header.
pub(crate) type Tokens = Arc<Vec<String>>;

/// The process that makes tokens: every user has a ticket of their own, and they take turns.
pub(crate) struct Clients {
    child: Child,
    orders: ChildStdin,
    tokens: BufReader<ChildStdout>,
}

impl Clients {
    /// Logs every user in to the KDC. `env` leads to it.
    pub(crate) fn start(env: &[(String, String)], service: &str) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([CLIENTS, service])
            .envs(env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no input")?;
        let tokens = BufReader::new(child.stdout.take().ok_or("no output")?);
        eprintln!("  logging {USERS} users in to the KDC ...");
        let mut clients = Self {
            child,
            orders,
            tokens,
        };
        // The first for each fetches the service ticket.
        clients.make(USERS)?;
        Ok(clients)
    }

    /// Makes as many tokens. They are valid for five minutes.
    pub(crate) fn make(&mut self, count: usize) -> Result<Tokens, Failure> {
        if count > USERS {
            eprintln!("  making {count} tokens ...");
        }
        writeln!(self.orders, "{count}")?;
        self.orders.flush()?;
        let mut tokens = Vec::with_capacity(count);
        for _ in 0..count {
            let mut line = String::new();
            if self.tokens.read_line(&mut line)? == 0 {
                return Err("the clients came to an early end".into());
            }
            line.truncate(line.trim_end().len());
            line.shrink_to_fit();
            tokens.push(line);
        }
        Ok(Arc::new(tokens))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other side: a line with a number comes in, as many lines with tokens go out.
pub(crate) fn serve(service: &str) -> Result<(), Failure> {
    let initiators = (0..USERS)
        .map(|n| Initiator::from_password(&user(n), PASSWORD))
        .collect::<Result<Vec<_>, _>>()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut next = 0;
    for line in std::io::stdin().lock().lines() {
        let count: usize = line?.trim().parse()?;
        // A user is one thread's alone: a credential is used under a lock.
        let made = std::thread::scope(|scope| -> Result<Vec<Vec<String>>, Failure> {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let initiators = &initiators;
                    scope.spawn(move || -> Result<Vec<String>, Failure> {
                        (next..next + count)
                            .filter(|n| n % USERS % THREADS == thread)
                            .map(|n| {
                                let initiator = &initiators[n % USERS];
                                let (token, _) = initiator.negotiate(service, None)?;
                                Ok(STANDARD.encode(token))
                            })
                            .collect()
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().map_err(|_| "a thread panicked")?
            };
            threads.into_iter().map(join).collect()
        })?;
        let mut made: Vec<_> = made.into_iter().map(Vec::into_iter).collect();
        for n in next..next + count {
            let token = made[n % USERS % THREADS]
                .next()
                .ok_or("a token is missing")?;
            writeln!(out, "{token}")?;
        }
        out.flush()?;
        next = (next + count) % USERS;
    }
    Ok(())
}

/// The argument that makes this program the clients.
pub(crate) const CLIENTS: &str = "clients";

const THREADS: usize = 2;
