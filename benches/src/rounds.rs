//! Lines that share a limit, measured in turns. The machine is not the same from one minute to the next, so each round
//! measures the limit and every line for a moment, and a line's share of the limit is the median over the rounds. What
//! the host disturbs is measured again.

use std::sync::Arc;
use std::time::Duration;

use crate::limit::Limit;
use crate::load::{self, Run};
use crate::process::Server;
use crate::quiet::quietly;
use crate::table::Table;
use crate::{Failure, Plan};

/// Requests of one kind.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) aim: &'static str,
    /// The n-th request of a client; `n` begins again with each round.
    pub(crate) make: Arc<dyn Fn(usize, u64) -> Vec<u8> + Send + Sync>,
    /// Whether the table says that nothing was written to a disk.
    pub(crate) tells_writes: bool,
}

impl Line {
    pub(crate) fn new(
        name: &'static str,
        aim: &'static str,
        make: impl Fn(usize, u64) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            aim,
            make: Arc::new(make),
            tells_writes: false,
        }
    }
}

/// What the rounds of one line came to.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) run: Run,
    /// Of the limit's rate in the same round.
    shares: Vec<f64>,
}

impl Sum {
    pub(crate) fn add(&mut self, run: Run, limit: &Run) -> Result<(), Failure> {
        self.shares.push(run.per_second() / limit.per_second());
        self.run.add(run)
    }

    /// The share of the limit that it had in the round in the middle.
    pub(crate) fn share(&self) -> f64 {
        let mut sorted = self.shares.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// How long something is measured in one round.
pub(crate) fn slice(plan: Plan) -> Duration {
    Duration::from_secs(plan.seconds) / ROUNDS
}

/// Measures the limit and each line for `plan.seconds` altogether, and adds a row for each. Returns the limit's rate.
pub(crate) async fn compare(
    table: &mut Table,
    plan: Plan,
    limit: &Limit,
    server: &Server,
    clients: usize,
    lines: &[Line],
) -> Result<f64, Failure> {
    let slice = slice(plan);
    let mut limits = Run::default();
    let mut sums: Vec<Sum> = lines.iter().map(|_| Sum::default()).collect();
    let mut bytes = vec![0; lines.len()];
    let mut resident = vec![0.0; lines.len()];
    for _ in 0..ROUNDS {
        let of_limit = quietly(table, async || limit.measure(clients, slice).await).await?;
        for (at, line) in lines.iter().enumerate() {
            let run = quietly(table, async || {
                let written = server.written()?;
                let make = line.make.clone();
                let run = load::run(server.address, clients, slice, move |c, n| make(c, n)).await?;
                bytes[at] += server.written()? - written;
                Ok(run)
            })
            .await?;
            sums[at].add(run, &of_limit)?;
            resident[at] = server.resident()?;
        }
        limits.add(of_limit)?;
    }
    table.measured(limit.name(), &limits.measured(), None, 1.0, "the limit");
    for (at, line) in lines.iter().enumerate() {
        let name = match bytes[at] {
            0 if line.tells_writes => format!("{}: 0 bytes written", line.name),
            _ => line.name.to_owned(),
        };
        let (measured, share) = (sums[at].run.measured(), sums[at].share());
        table.measured(&name, &measured, Some(resident[at]), share, line.aim);
    }
    Ok(limits.per_second())
}

pub(crate) const ROUNDS: u32 = 5;
