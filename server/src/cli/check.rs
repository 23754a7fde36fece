//! `operator check`: whether what the server stores agrees with itself.

use serde_json::{Map, Value, json};

use super::client::{Client, HttpFlags, Request};
use super::failure::{Outcome, REMOTE, SUCCESS};
use super::output::{Format, FormatFlag, cell, table};
use super::{Command, Example, Session};

/// Look for what does not agree in storage: tokens, leases, mounts, cubbyholes, identities and their indexes
///
/// Reads and changes nothing. Exit status 0 when all is well, 2 when something was found, which is then listed by its
/// place in storage. Needs a token whose policies grant `read` and `sudo` on sys/internal/check. What it finds of tokens
/// and leases, `auth/token/tidy` and `sys/leases/tidy` mend.
#[derive(clap::Args)]
pub(super) struct Check {
    /// How many findings of each kind are shown at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: u32,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Check {
    const NAME: &'static str = "operator check";
    const EXAMPLES: &'static [Example] = &[
        ("Is everything as it should be?", "obol operator check"),
        (
            "For a script: status 2 and a list when it is not",
            "obol operator check -format=json",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let mut findings = Vec::new();
        let mut more = false;
        // One request for each, so that none of them takes too long.
        for section in SECTIONS {
            let request = Request::get("sys/internal/check")
                .query("section", section)
                .query("limit", self.limit.to_string());
            let answer = client
                .send(request)
                .map_err(|failure| failure.doing(format!("checking {section}")))?;
            let data = &answer.body["data"];
            findings.extend(data["findings"].as_array().cloned().unwrap_or_default());
            more |= data["more"] == Value::Bool(true);
        }
        let status = if findings.is_empty() { SUCCESS } else { REMOTE };
        if format != Format::Table {
            let all = json!({ "findings": findings, "more": more });
            return session.print_value(format, &all).map(|()| status);
        }
        if findings.is_empty() {
            session.line("Everything agrees.")?;
            return Ok(status);
        }
        let mut rows = vec![vec![
            "Section".to_owned(),
            "Path".to_owned(),
            "What".to_owned(),
        ]];
        let none = Map::new();
        for finding in &findings {
            let finding = finding.as_object().unwrap_or(&none);
            let of = |name: &str| finding.get(name).map(cell).unwrap_or_default();
            rows.push(vec![of("section"), of("path"), of("what")]);
        }
        session.line(&table(rows))?;
        if more {
            session.note("There may be more: ask for them with a larger -limit.");
        }
        Ok(status)
    }
}

const SECTIONS: [&str; 5] = ["tokens", "leases", "mounts", "cubbyholes", "identity"];
