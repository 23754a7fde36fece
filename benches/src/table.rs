//! Tables for people and for ARCHITECTURE.md: Markdown, aligned.

use std::time::Duration;

use crate::load::Measured;

pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    stolen: Option<f64>,
}

impl Table {
    pub(crate) fn new(title: &str, columns: &[&str]) -> Self {
        println!("\n### {title}\n");
        Self {
            rows: vec![columns.iter().map(ToString::to_string).collect()],
            stolen: None,
        }
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.to_vec());
    }

    /// A line of throughput: rate, latencies, memory, and its share of the limit.
    pub(crate) fn measured(
        &mut self,
        name: &str,
        measured: &Measured,
        resident: Option<f64>,
        share: f64,
        aim: &str,
    ) {
        self.row(&[
            name.to_owned(),
            format!("{:.0}", measured.per_second),
            micros(measured.p50),
            micros(measured.p99),
            resident.map_or_else(|| "—".into(), |mib| format!("{mib:.0} MiB")),
            format!("{:.0} %", 100.0 * share),
            aim.to_owned(),
        ]);
    }

    /// Notes what share of the processor the host has kept during a measurement.
    pub(crate) fn stolen(&mut self, share: f64) {
        self.stolen = Some(self.stolen.map_or(share, |most| most.max(share)));
    }

    pub(crate) fn print(self) {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (n, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            println!("| {} |", cells.join(" | "));
            if n == 0 {
                let lines: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                println!("| {} |", lines.join(" | "));
            }
        }
        if let Some(most) = self.stolen {
            println!(
                "\nOf what counts here the host kept at most {:.0} % of the processor.",
                100.0 * most
            );
        }
    }
}

pub(crate) const THROUGHPUT: [&str; 7] = [
    "what",
    "ops/s",
    "p50",
    "p99",
    "resident",
    "of the limit",
    "aim",
];

pub(crate) fn micros(duration: Duration) -> String {
    format!("{:.0} µs", duration.as_secs_f64() * 1e6)
}
