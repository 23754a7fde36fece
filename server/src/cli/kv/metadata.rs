//! `kv metadata get`, `put`, `patch`, `delete`: what version 2 of the engine knows about a secret.

use serde_json::{Map, Value, json};

use super::{Located, Place};
use crate::cli::answer::Show;
use crate::cli::client::{Client, HttpFlags, Request, seconds};
use crate::cli::failure::{Failure, Outcome, SUCCESS};
use crate::cli::logical::nothing_at;
use crate::cli::mounts::pairs;
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

// Flattened into commands; a doc comment here would replace the command's own.
#[derive(clap::Args)]
struct Settings {
    /// How many versions are kept; 0 for as many as the mount says
    #[arg(long, value_name = "N")]
    max_versions: Option<u64>,
    /// Whether every write must name the version that it replaces
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    cas_required: Option<bool>,
    /// How long a version lives before it is deleted; 0 for as long as the mount says
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    delete_version_after: Option<String>,
    /// A note on the secret, not a secret itself; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    custom_metadata: Vec<String>,
}

impl Settings {
    fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        if let Some(versions) = self.max_versions {
            body.insert("max_versions".to_owned(), versions.into());
        }
        if let Some(required) = self.cas_required {
            body.insert("cas_required".to_owned(), required.into());
        }
        match self.delete_version_after.as_deref() {
            None => {}
            // Vault's word for "never", whatever the mount says.
            Some(never) if never.starts_with('-') => {
                body.insert("delete_version_after".to_owned(), json!(never));
            }
            Some(text) => {
                let after = seconds("delete-version-after", text)?;
                body.insert(
                    "delete_version_after".to_owned(),
                    json!(format!("{after}s")),
                );
            }
        }
        if !self.custom_metadata.is_empty() {
            let notes = pairs("custom-metadata", &self.custom_metadata)?;
            body.insert("custom_metadata".to_owned(), Value::Object(notes));
        }
        Ok(body)
    }
}

/// Set the limits of a secret and the notes on it; the secret need not exist yet
///
/// Notes (-custom-metadata) replace all that were there; `kv metadata patch` changes single ones.
#[derive(clap::Args)]
pub(in crate::cli) struct Put {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Put {
    const NAME: &'static str = "kv metadata put";
    const EXAMPLES: &'static [Example] = &[(
        "Keep five versions, each for a month",
        "obol kv metadata put -max-versions=5 -delete-version-after=720h secret/app/db",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let body = Value::Object(self.settings.body()?);
        send_settings(session, &self.place, &self.http, &self.format, |path| {
            Request::put(path, body)
        })
    }
}

/// Change single limits of a secret and single notes on it
#[derive(clap::Args)]
pub(in crate::cli) struct Patch {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    settings: Settings,
    /// Note to take away; may be repeated
    #[arg(long, value_name = "KEY")]
    remove_custom_metadata: Vec<String>,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Patch {
    const NAME: &'static str = "kv metadata patch";
    const EXAMPLES: &'static [Example] = &[
        (
            "One more note",
            "obol kv metadata patch -custom-metadata=owner=payments secret/app/db",
        ),
        (
            "Take a note away",
            "obol kv metadata patch -remove-custom-metadata=owner secret/app/db",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let mut body = self.settings.body()?;
        if !self.remove_custom_metadata.is_empty() {
            let notes = body.entry("custom_metadata").or_insert_with(|| json!({}));
            for key in &self.remove_custom_metadata {
                notes[key] = Value::Null;
            }
        }
        if body.is_empty() {
            return Err(Failure::local(
                "there is nothing to change: give at least one of the flags",
            ));
        }
        send_settings(session, &self.place, &self.http, &self.format, |path| {
            Request::patch(path, Value::Object(body))
        })
    }
}

fn send_settings(
    session: &mut Session<'_>,
    place: &Place,
    http: &HttpFlags,
    format: &FormatFlag,
    request: impl FnOnce(&str) -> Request,
) -> Outcome {
    let format = format.resolve(&session.env)?;
    let client = Client::new(http, &session.env)?;
    let located = Located::find(&client, place.mount.mount.as_deref(), &place.path)?;
    located.only_v2("kv metadata")?;
    let path = located.api_path("metadata");
    let answer = client
        .send(request(&path))
        .map_err(|failure| failure.doing(format!("writing to {path}")))?;
    let done = format!("Success! Data written to: {path}");
    Show::whole(format).secret_or(session, &answer.body, &done)
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
        Show::whole(format).secret_or(
            session,
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
