//! `monitor`, `version-history`, `plugin list`, `plugin info`; and `namespace`, which there is not.

use std::io::Write as _;

use serde_json::{Value, json};

use super::answer::AnswerFlags;
use super::client::{Client, HttpFlags, Request};
use super::failure::{Failure, Outcome, SUCCESS};
use super::logical::{nothing_at, sanitised};
use super::output::{Format, FormatFlag, cell, printable, table};
use super::{Command, Example, Session};

/// Show what the server logs, as it happens, until Ctrl-C
///
/// It may be more than the server writes into its own log. Needs a token whose policies grant `read` on sys/monitor.
#[derive(clap::Args)]
pub(super) struct Monitor {
    /// How important a line must be: trace, debug, info, warn or error
    #[arg(long, value_name = "LEVEL", value_parser = ["trace", "debug", "info", "warn", "error"], default_value = "info", hide_possible_values = true)]
    log_level: String,
    /// standard, or json: one object a line
    #[arg(long, value_name = "standard|json", value_parser = ["standard", "json"], default_value = "standard", hide_default_value = true, hide_possible_values = true)]
    log_format: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Monitor {
    const NAME: &'static str = "monitor";
    const EXAMPLES: &'static [Example] = &[
        (
            "Look on while somebody logs in",
            "obol monitor -log-level=debug",
        ),
        (
            "For another program",
            "obol monitor -log-format=json > server.log",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let request = Request::get("sys/monitor")
            .query("log_level", self.log_level)
            .query("log_format", self.log_format)
            .without_wrapping();
        let terminal = session.stdout_is_terminal;
        let stdout = &mut session.stdout;
        let mut line = Vec::new();
        client
            .download(request, &mut |piece| {
                line.extend_from_slice(piece);
                // Whole lines: a character must not be cut in two where it is made harmless.
                let Some(end) = line.iter().rposition(|byte| *byte == b'\n') else {
                    return Ok(line.len() < MAX_LINE);
                };
                let rest = line.split_off(end + 1);
                let whole = std::mem::replace(&mut line, rest);
                let written = match terminal {
                    true => {
                        stdout.write_all(printable(&String::from_utf8_lossy(&whole)).as_bytes())
                    }
                    false => stdout.write_all(&whole),
                };
                match written.and_then(|()| stdout.flush()) {
                    Ok(()) => Ok(true),
                    // The reader went away (`obol monitor | head`).
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
                    Err(error) => Err(Failure::local(format!(
                        "cannot write to standard output: {error}"
                    ))),
                }
            })
            .map_err(|failure| failure.doing("monitoring the log"))?;
        Ok(SUCCESS)
    }
}

/// Show which versions have run on the server's storage, and since when
#[derive(clap::Args)]
pub(super) struct VersionHistory {
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for VersionHistory {
    const NAME: &'static str = "version-history";
    const EXAMPLES: &'static [Example] = &[("When was it upgraded?", "obol version-history")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let path = "sys/version-history";
        let answer = client
            .find(Request::list(path))
            .map_err(|failure| failure.doing("reading the version history"))?
            .ok_or_else(|| nothing_at(path))?;
        let body = &answer.body;
        if format != Format::Table || body["wrap_info"].is_object() {
            return session.print_secret(format, body).map(|()| SUCCESS);
        }
        session.warnings(body);
        let header = ["Version", "Installation Time", "Build Date"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for version in body["data"]["keys"].as_array().into_iter().flatten() {
            let name = version.as_str().unwrap_or_default();
            let info = &body["data"]["key_info"][name];
            rows.push(vec![
                name.to_owned(),
                cell(&info["timestamp_installed"]),
                cell(&info["build_date"]),
            ]);
        }
        session.line(&table(rows))?;
        Ok(SUCCESS)
    }
}

/// List what can be enabled: all of it is part of the server
#[derive(clap::Args)]
pub(super) struct PluginList {
    /// auth, secret or database; all of them otherwise
    #[arg(value_name = "TYPE", value_parser = ["auth", "secret", "database"], hide_possible_values = true)]
    kind: Option<String>,
    /// With versions
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for PluginList {
    const NAME: &'static str = "plugin list";
    const EXAMPLES: &'static [Example] = &[
        ("Everything", "obol plugin list"),
        ("Which auth methods are there?", "obol plugin list auth"),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let answer = client
            .send(Request::get("sys/plugins/catalog"))
            .map_err(|failure| failure.doing("listing plugins"))?;
        if answer.body["wrap_info"].is_object() {
            return session.print_secret(format, &answer.body).map(|()| SUCCESS);
        }
        let wanted = |plugin: &&Value| {
            let kind = self.kind.as_deref();
            kind.is_none_or(|kind| plugin["type"].as_str() == Some(kind))
        };
        let mut plugins: Vec<Value> = answer.body["data"]["detailed"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(wanted)
            .cloned()
            .collect();
        let key = |plugin: &Value| (cell(&plugin["type"]), cell(&plugin["name"]));
        plugins.sort_by_key(key);
        if format != Format::Table {
            return session
                .print_value(format, &json!(plugins))
                .map(|()| SUCCESS);
        }
        session.warnings(&answer.body);
        let mut header = vec!["Name", "Type", "Version"];
        if self.detailed {
            header.push("Deprecation Status");
        }
        let mut rows = vec![header.iter().map(|name| (*name).to_owned()).collect()];
        for plugin in &plugins {
            let keys = ["name", "type", "version", "deprecation_status"];
            let row = keys.iter().take(header.len());
            rows.push(row.map(|key| cell(&plugin[*key])).collect());
        }
        session.line(&table(rows))?;
        Ok(SUCCESS)
    }
}

/// Show one of the things that can be enabled
#[derive(clap::Args)]
pub(super) struct PluginInfo {
    /// auth, secret or database
    #[arg(value_name = "TYPE", value_parser = ["auth", "secret", "database"], hide_possible_values = true)]
    kind: String,
    name: String,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for PluginInfo {
    const NAME: &'static str = "plugin info";
    const EXAMPLES: &'static [Example] = &[("Is it built in?", "obol plugin info auth kerberos")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let (client, show) = self.answer.open(session)?;
        let path = format!(
            "sys/plugins/catalog/{}/{}",
            self.kind,
            sanitised(&self.name)
        );
        let answer = client
            .find(Request::get(&path))
            .map_err(|failure| failure.doing("reading the plugin"))?
            .ok_or_else(|| nothing_at(&path))?;
        show.secret(session, &answer.body)
    }
}

/// There are no namespaces: every command of Vault's for them is refused
#[derive(clap::Args)]
pub(super) struct Namespace {
    #[arg(value_name = "ANYTHING", allow_hyphen_values = true)]
    words: Vec<String>,
}

impl Command for Namespace {
    const NAME: &'static str = "namespace";
    const EXAMPLES: &'static [Example] =
        &[("Refused, with what to do instead", "obol namespace list")];

    fn run(self, _: &mut Session<'_>) -> Outcome {
        let what = match self.words.first() {
            Some(word) => format!("namespace {word}: this server has no namespaces"),
            None => "this server has no namespaces".to_owned(),
        };
        Err(Failure::local(what).hint(
            "A path of its own for each team (obol secrets enable -path=team kv-v2) and policies \
             for it do what most namespaces are for; a second server does the rest.",
        ))
    }
}

/// A line of a log is shorter; whoever sends more is no log.
const MAX_LINE: usize = 1 << 20;
