//! `operator usage`: how many clients the server had in a time.

use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use crate::cli::client::{Client, HttpFlags, Request};
use crate::cli::failure::{Failure, Outcome, SUCCESS};
use crate::cli::output::{Format, FormatFlag, cell, table};
use crate::cli::{Command, Example, Session};

/// Show how many clients there were: in the present month and the eleven before it, or in a time that you name
///
/// A client is an entity, or all tokens that have no entity and the same policies. It counts once, however often it
/// came. Needs a token whose policies grant `read` on sys/internal/counters/activity.
#[derive(clap::Args)]
pub(in crate::cli) struct Usage {
    /// The first month: YYYY-MM, YYYY-MM-DD, an RFC 3339 time, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    start_time: Option<String>,
    /// The last month, in the same forms
    #[arg(long, value_name = "TIME")]
    end_time: Option<String>,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Usage {
    const NAME: &'static str = "operator usage";
    const EXAMPLES: &'static [Example] = &[
        ("The last twelve months", "obol operator usage"),
        (
            "One month",
            "obol operator usage -start-time=2026-10 -end-time=2026-10",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let mut request = Request::get("sys/internal/counters/activity");
        for (flag, field, time) in [
            ("-start-time", "start_time", &self.start_time),
            ("-end-time", "end_time", &self.end_time),
        ] {
            if let Some(text) = time {
                let time = parse(text).ok_or_else(|| {
                    Failure::local(format!(
                        "{flag}: expected YYYY-MM, YYYY-MM-DD, a time such as 2026-11-01T00:00:00Z, or seconds since 1970"
                    ))
                })?;
                request = request.query(field, time.to_string());
            }
        }
        let client = Client::new(&self.http, &session.env)?;
        let doing = "asking how many clients there were";
        let body = client
            .send(request)
            .map_err(|failure| failure.doing(doing))?
            .body;
        if format != Format::Table || body["wrap_info"].is_object() {
            return session.print_secret(format, &body).map(|()| SUCCESS);
        }
        session.warnings(&body);
        let data = &body["data"];
        if !data.is_object() {
            return nothing(session, &client);
        }
        session.line(&format!(
            "Period start: {}\nPeriod end: {}\n",
            cell(&data["start_time"]),
            cell(&data["end_time"])
        ))?;
        session.line(&table(rows(data)))?;
        Ok(SUCCESS)
    }
}

/// The names are those of Vault's command line.
fn rows(data: &Value) -> Vec<Vec<String>> {
    let row = |name: &str, counts: &Value| {
        let mut row = vec![name.to_owned()];
        let fields = [
            "entity_clients",
            "non_entity_clients",
            "secret_syncs",
            "acme_clients",
            "clients",
        ];
        row.extend(fields.map(|field| cell(&counts[field])));
        row
    };
    let header = [
        "Namespace path",
        "Distinct entities",
        "Non-Entity tokens",
        "Secret syncs",
        "ACME clients",
        "Active clients",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for namespace in data["by_namespace"].as_array().into_iter().flatten() {
        let path = match namespace["namespace_path"].as_str() {
            Some("") | None => "[root]",
            Some(path) => path,
        };
        rows.push(row(path, &namespace["counts"]));
    }
    rows.push(Vec::new());
    rows.push(row("Total", &data["total"]));
    rows
}

/// There were no clients, or nobody counts them.
fn nothing(session: &mut Session<'_>, client: &Client) -> Outcome {
    session.line("No data is available for the given time range.")?;
    // Only a hint: whoever may not read the configuration has the answer all the same.
    let config = client.send(Request::get("sys/internal/counters/config").internal());
    if config.is_ok_and(|answer| answer.body["data"]["enabled"] == "disable") {
        session.note("Clients are not counted: obol write sys/internal/counters/config enabled=enable turns it on.");
    }
    Ok(SUCCESS)
}

/// A moment of the month that is meant.
fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let midnight = |date: Date| date.midnight().assume_utc().unix_timestamp();
    let date = format_description!("[year]-[month]-[day]");
    if let Ok(seconds) = text.parse::<u64>() {
        return i64::try_from(seconds).ok();
    }
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(time.unix_timestamp());
    }
    if let Ok(date) = Date::parse(text, &date) {
        return Some(midnight(date));
    }
    Date::parse(&format!("{text}-01"), &date).ok().map(midnight)
}
