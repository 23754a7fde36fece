//! `status`: whether the server is initialised and sealed.

use serde_json::Value;

use super::client::{Client, HttpFlags, Request};
use super::failure::{Failure, LOCAL, Outcome, REMOTE, SUCCESS};
use super::output::{Format, FormatFlag, cell, table};
use super::{Command, Example, Session};

/// Show whether the server is initialised and sealed
///
/// The exit status tells it too: 0 unsealed, 2 sealed, 1 when the server could not be asked.
#[derive(clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Status {
    const NAME: &'static str = "status";
    const EXAMPLES: &'static [Example] = &[
        ("Ask the server of VAULT_ADDR", "obol status"),
        (
            "Ask another one, for a script",
            "obol status -address=https://vault.example.com:8200 -format=json",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        // No token: the answer is public, and a stale token must not stand in the way.
        let client = Client::without_token(&self.http, &session.env)?;
        let status = client.send(Request::get("sys/seal-status"));
        let status = status
            .map_err(|failure| unless_replaced(failure.doing("checking the seal status")))?
            .body;
        print_seal_status(session, &client, format, status.clone())?;
        Ok(if status["sealed"] == Value::Bool(true) {
            REMOTE
        } else {
            SUCCESS
        })
    }
}

/// 2 means sealed here, so that no failure may end with it.
fn unless_replaced(failure: Failure) -> Failure {
    if failure.replacement().is_some() {
        failure
    } else {
        failure.with_exit(LOCAL)
    }
}

/// The seal status with what `sys/leader` adds to it, as `status`, `operator unseal` and scripts expect it.
pub(super) fn print_seal_status(
    session: &mut Session<'_>,
    client: &Client,
    format: Format,
    mut status: Value,
) -> Result<(), Failure> {
    if let Some(status) = status.as_object_mut() {
        // A sealed server cannot tell; an old one has no such path. Neither is worth a message.
        let leader = client
            .send(Request::get("sys/leader").internal())
            .map(|answer| answer.body)
            .unwrap_or_default();
        let known = [
            "ha_enabled",
            "is_self",
            "active_time",
            "leader_address",
            "leader_cluster_address",
        ];
        for key in known.iter().filter(|key| !leader[**key].is_null()) {
            status
                .entry((*key).to_owned())
                .or_insert_with(|| leader[*key].clone());
        }
    }
    if format != Format::Table {
        return session.print_value(format, &status);
    }
    session.line(&table(rows(&status)))
}

fn rows(status: &Value) -> Vec<Vec<String>> {
    let mut rows = vec![vec!["Key".to_owned(), "Value".to_owned()]];
    let mut row = |label: &str, value: String| rows.push(vec![label.to_owned(), value]);
    let sealed = status["sealed"] == Value::Bool(true);
    let recovery = status["recovery_seal"] == Value::Bool(true);
    row("Seal Type", cell(&status["type"]));
    row("Initialized", cell(&status["initialized"]));
    row("Sealed", cell(&status["sealed"]));
    row(
        if recovery {
            "Total Recovery Shares"
        } else {
            "Total Shares"
        },
        cell(&status["n"]),
    );
    row("Threshold", cell(&status["t"]));
    if sealed {
        row(
            "Unseal Progress",
            format!("{}/{}", cell(&status["progress"]), cell(&status["t"])),
        );
        row("Unseal Nonce", cell(&status["nonce"]));
    }
    if status["migration"] == Value::Bool(true) {
        row("Seal Migration in Progress", "true".to_owned());
    }
    let optional = [
        ("Version", "version"),
        ("Build Date", "build_date"),
        ("Storage Type", "storage_type"),
        ("Cluster Name", "cluster_name"),
        ("Cluster ID", "cluster_id"),
        ("HA Enabled", "ha_enabled"),
    ];
    for (label, key) in optional {
        if status[key].as_str() != Some("") && !status[key].is_null() {
            row(label, cell(&status[key]));
        }
    }
    if status["ha_enabled"] == Value::Bool(true) && !sealed {
        row("HA Cluster", cell(&status["leader_cluster_address"]));
        let active = status["is_self"] == Value::Bool(true);
        row(
            "HA Mode",
            if active { "active" } else { "standby" }.to_owned(),
        );
        if active {
            row("Active Since", cell(&status["active_time"]));
        } else {
            row("Active Node Address", cell(&status["leader_address"]));
        }
    }
    rows
}
