//! `kv metadata get`, `delete`: what version 2 of the engine knows about a secret.

use serde_json::Value;

use super::data::finish;
use super::{Located, Place};
use crate::cli::client::{Client, HttpFlags, Request};
use crate::cli::failure::{Failure, Outcome, SUCCESS};
use crate::cli::logical::nothing_at;
use crate::cli::output::{FieldFlag, Format, FormatFlag, field_of, heading, members_width};
use crate::cli::{Command, Example, Session};

/// Show the versions of a secret, their times and limits
#[derive(clap::Args)]
pub(in crate::cli) struct Get {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    field: FieldFlag,
}

impl Command for Get {
    const NAME: &'static str = "kv metadata get";
    const EXAMPLES: &'static [Example] = &[(
        "Which versions are there?",
        "obol kv metadata get secret/app/db",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let located = Located::find(&client, self.place.mount.mount.as_deref(), &self.place.path)?;
        located.only_v2("kv metadata")?;
        let path = located.api_path("metadata");
        let found = client
            .find(Request::get(&path))
            .map_err(|failure| failure.doing(format!("reading {path}")))?;
        let Some(answer) = found.filter(|answer| !answer.is_empty()) else {
            return Err(nothing_at(&path));
        };
        if let Some(name) = &self.field.field {
            return session
                .print_field(format, name, field_of(&answer.body, name))
                .map(|()| SUCCESS);
        }
        if format != Format::Table || answer.body["wrap_info"].is_object() {
            return session.print_secret(format, &answer.body).map(|()| SUCCESS);
        }
        session.warnings(&answer.body);
        print(session, &path, &answer.body["data"])?;
        Ok(SUCCESS)
    }
}

/// Delete a secret with all its versions, for ever
#[derive(clap::Args)]
pub(in crate::cli) struct Delete {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Delete {
    const NAME: &'static str = "kv metadata delete";
    const EXAMPLES: &'static [Example] = &[(
        "Leave nothing of it",
        "obol kv metadata delete secret/app/db",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let located = Located::find(&client, self.place.mount.mount.as_deref(), &self.place.path)?;
        located.only_v2("kv metadata")?;
        let path = located.api_path("metadata");
        let answer = client
            .send(Request::delete(&path))
            .map_err(|failure| failure.doing(format!("deleting {path}")))?;
        finish(
            session,
            format,
            &answer.body,
            &format!("Success! Data deleted (if it existed) at: {path}"),
        )
    }
}

fn print(session: &mut Session<'_>, path: &str, data: &Value) -> Result<(), Failure> {
    session.line(&format!(
        "{}\n{path}\n",
        heading("Metadata Path", path.chars().count())
    ))?;
    let Some(mut members) = data.as_object().cloned() else {
        return Ok(());
    };
    let versions = members.remove("versions").unwrap_or_default();
    session.line(&heading("Metadata", members_width(&members)))?;
    session.print_value(Format::Table, &Value::Object(members))?;
    let mut versions: Vec<(u64, &Value)> = versions
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(number, version)| Some((number.parse().ok()?, version)))
        .collect();
    versions.sort_by_key(|(number, _)| *number);
    for (number, version) in versions {
        let width = version.as_object().map_or(0, members_width);
        session.line(&format!(
            "\n{}",
            heading(&format!("Version {number}"), width)
        ))?;
        session.print_value(Format::Table, version)?;
    }
    Ok(())
}
