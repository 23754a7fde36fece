//! `operator rotate`, `key-status`, `step-down`.

use serde_json::Value;

use super::print_rows;
use crate::cli::client::{Client, HttpFlags, Request};
use crate::cli::failure::{Failure, Outcome, SUCCESS};
use crate::cli::output::{Format, FormatFlag, cell};
use crate::cli::{Command, Example, Session};

/// Encrypt with a new key from now on; what is stored stays readable
///
/// Needs a token whose policies grant `update` and `sudo` on sys/rotate. The unseal keys stay: `operator rekey` replaces
/// those.
#[derive(clap::Args)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Rotate {
    const NAME: &'static str = "operator rotate";
    const EXAMPLES: &'static [Example] = &[("Rotate now", "obol operator rotate")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        client
            .send(Request::put_empty("sys/rotate"))
            .map_err(|failure| failure.doing("rotating the key"))?;
        let shown = key_status(&client);
        if format == Format::Table {
            session.line("Success! Rotated key\n")?;
        }
        print(
            session,
            format,
            &shown.map_err(|failure| failure.doing("the key is rotated; showing it"))?,
        )
    }
}

/// Show the key that values are encrypted with: its number, its age, how much it was used
#[derive(clap::Args)]
pub(in crate::cli) struct KeyStatus {
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for KeyStatus {
    const NAME: &'static str = "operator key-status";
    const EXAMPLES: &'static [Example] =
        &[("Since when is this key in use?", "obol operator key-status")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let body =
            key_status(&client).map_err(|failure| failure.doing("reading the key status"))?;
        print(session, format, &body)
    }
}

/// Ask the active server of a cluster to let another one take over; a server that is alone goes on
#[derive(clap::Args)]
pub(in crate::cli) struct StepDown {
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for StepDown {
    const NAME: &'static str = "operator step-down";
    const EXAMPLES: &'static [Example] = &[("Before maintenance", "obol operator step-down")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        client
            .send(Request::put_empty("sys/step-down"))
            .map_err(|failure| failure.doing("stepping down"))?;
        session.line(&format!("Success! Stepped down: {}", client.address()))?;
        Ok(SUCCESS)
    }
}

fn key_status(client: &Client) -> Result<Value, Failure> {
    Ok(client.send(Request::get("sys/key-status"))?.body)
}

fn print(session: &mut Session<'_>, format: Format, body: &Value) -> Outcome {
    if format != Format::Table || body["wrap_info"].is_object() {
        return session.print_secret(format, body).map(|()| SUCCESS);
    }
    let data = &body["data"];
    print_rows(
        session,
        vec![
            ("Key Term", cell(&data["term"])),
            ("Install Time", cell(&data["install_time"])),
            ("Encryption Count", cell(&data["encryptions"])),
        ],
    )
}
