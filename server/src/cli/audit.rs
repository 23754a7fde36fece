//! `audit list`, `enable`, `disable`.

use serde_json::{Value, json};

use super::client::{Client, HttpFlags, Request};
use super::data;
use super::failure::{Failure, Outcome, SUCCESS};
use super::logical::sanitised;
use super::output::{DetailedFlag, Format, FormatFlag, cell, table};
use super::{Command, Example, Session};

/// List the enabled audit devices
#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    detailed: DetailedFlag,
}

impl Command for List {
    const NAME: &'static str = "audit list";
    const EXAMPLES: &'static [Example] = &[(
        "Which devices record requests, and how?",
        "obol audit list -detailed",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let detailed = self.detailed.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let answer = client
            .send(Request::get("sys/audit"))
            .map_err(|failure| failure.doing("listing the audit devices"))?;
        let devices = answer
            .body
            .get("data")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        if format != Format::Table {
            return session
                .print_value(format, &Value::Object(devices))
                .map(|()| SUCCESS);
        }
        session.warnings(&answer.body);
        if devices.is_empty() {
            return Err(Failure::remote("no audit device is enabled"));
        }
        let header: &[&str] = if detailed {
            &["Path", "Type", "Description", "Local", "Options"]
        } else {
            &["Path", "Type", "Description"]
        };
        let mut rows = vec![
            header
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        ];
        let mut paths: Vec<&String> = devices.keys().collect();
        paths.sort_unstable();
        for path in paths {
            let device = &devices[path];
            let mut row = vec![
                path.clone(),
                cell(&device["type"]),
                cell(&device["description"]),
            ];
            if detailed {
                row.extend([cell(&device["local"]), cell(&device["options"])]);
            }
            rows.push(row);
        }
        session.line(&table(rows))?;
        Ok(SUCCESS)
    }
}

/// Enable an audit device: from then on every request is recorded there, or refused
#[derive(clap::Args)]
pub(super) struct Enable {
    /// What to enable: file, syslog or socket
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Options of the device
    #[arg(value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Its name; the type by default
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// A note for people
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    description: String,
    /// Not to be replicated to other clusters
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Enable {
    const NAME: &'static str = "audit enable";
    const EXAMPLES: &'static [Example] = &[
        (
            "Record into a file",
            "obol audit enable file file_path=/var/log/obol/audit.log",
        ),
        (
            "Record to standard output, under another name",
            "obol audit enable -path=console file file_path=stdout",
        ),
        (
            "Send to the local syslog",
            "obol audit enable syslog tag=obol facility=AUTH",
        ),
        (
            "Send to a collector",
            "obol audit enable socket address=logs.example.com:9090 socket_type=tcp",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let options = data::parse_texts(&self.options, &mut session.stdin)?;
        let kind = self.kind.trim();
        let path = sanitised(self.path.as_deref().unwrap_or(kind));
        let body = json!({ "type": kind, "description": self.description, "local": self.local, "options": options });
        client
            .send(Request::put(format!("sys/audit/{path}"), body))
            .map_err(|failure| failure.doing(format!("enabling the {kind} audit device")))?;
        session.line(&format!(
            "Success! Enabled the {kind} audit device at: {path}/"
        ))?;
        Ok(SUCCESS)
    }
}

/// Disable an audit device
#[derive(clap::Args)]
pub(super) struct Disable {
    path: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Disable {
    const NAME: &'static str = "audit disable";
    const EXAMPLES: &'static [Example] = &[("Stop recording there", "obol audit disable console/")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let path = sanitised(&self.path);
        client
            .send(Request::delete(format!("sys/audit/{path}")))
            .map_err(|failure| failure.doing(format!("disabling the audit device at {path}/")))?;
        session.line(&format!(
            "Success! Disabled the audit device (if it was enabled) at: {path}/"
        ))?;
        Ok(SUCCESS)
    }
}
