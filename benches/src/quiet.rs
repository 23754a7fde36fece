//! A virtual machine gets less of the processor while its host is busy with others, half of it in one second and all of
//! it in the next. The kernel counts what was kept from it ("steal", proc_stat(5)), so a measurement that lost too much
//! can be made again.

use crate::Failure;
use crate::table::Table;

/// The processor time of the machine up to a moment, in ticks.
pub(crate) struct Meter {
    stolen: u64,
    all: u64,
}

impl Meter {
    pub(crate) fn begin() -> Result<Self, Failure> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in the first two already.
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            stolen: *ticks.get(7).ok_or("no steal in /proc/stat")?,
            all: ticks.iter().sum(),
        })
    }

    /// The share of the processor's time since then that the host has kept.
    pub(crate) fn stolen(&self) -> Result<f64, Failure> {
        let now = Self::begin()?;
        let all = now.all.saturating_sub(self.all).max(1);
        Ok(now.stolen.saturating_sub(self.stolen) as f64 / all as f64)
    }
}

/// Measures, again and again until the host leaves the machine alone meanwhile. The quietest counts, and the table says
/// what was stolen from it.
pub(crate) async fn quietly<T>(
    table: &mut Table,
    mut measure: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut tries = Tries::default();
    while tries.wants_more() {
        let meter = Meter::begin()?;
        let measured = measure().await?;
        tries.add(meter.stolen()?, measured);
    }
    let (measured, stolen) = tries.quietest()?;
    table.stolen(stolen);
    Ok(measured)
}

/// One measurement, made again until the host leaves the machine alone meanwhile; the quietest counts.
pub(crate) struct Tries<T> {
    best: Option<(f64, T)>,
    left: u32,
}

impl<T> Default for Tries<T> {
    fn default() -> Self {
        Self {
            best: None,
            left: MOST,
        }
    }
}

impl<T> Tries<T> {
    pub(crate) fn wants_more(&self) -> bool {
        self.left > 0 && self.best.as_ref().is_none_or(|(stolen, _)| *stolen > QUIET)
    }

    pub(crate) fn has_one(&self) -> bool {
        self.best.is_some()
    }

    /// Takes a measurement, and the share that was stolen meanwhile.
    pub(crate) fn add(&mut self, stolen: f64, measured: T) {
        self.left -= 1;
        if self.best.as_ref().is_none_or(|(least, _)| stolen < *least) {
            self.best = Some((stolen, measured));
        }
    }

    /// The quietest measurement, and what was stolen meanwhile.
    pub(crate) fn quietest(self) -> Result<(T, f64), Failure> {
        let (stolen, measured) = self.best.ok_or("nothing was measured")?;
        Ok((measured, stolen))
    }
}

/// The share that may be stolen from a measurement.
const QUIET: f64 = 0.04;
/// How often a measurement is made at most.
const MOST: u32 = 8;
