//! `kv get`, `put`, `list`, `delete`.

use serde_json::{Value, json};

use super::{Located, MountFlag, Place, version_numbers};
use crate::cli::answer::Show;
use crate::cli::client::{Answer, Client, HttpFlags, Request};
use crate::cli::data;
use crate::cli::failure::{Failure, Outcome, SUCCESS};
use crate::cli::logical::{self, nothing_at};
use crate::cli::output::{FieldFlag, Format, FormatFlag, field_of, heading, members_width};
use crate::cli::{Command, Example, Session};

/// Read a secret
#[derive(clap::Args)]
pub(in crate::cli) struct Get {
    #[command(flatten)]
    place: Place,
    /// An older version of it (version 2 of the engine)
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    field: FieldFlag,
}

impl Command for Get {
    const NAME: &'static str = "kv get";
    const EXAMPLES: &'static [Example] = &[
        (
            "Read the secret app/db of the mount secret/",
            "obol kv get secret/app/db",
        ),
        (
            "The same, with the mount apart",
            "obol kv get -mount=secret app/db",
        ),
        (
            "One field alone",
            "obol kv get -field=password secret/app/db",
        ),
        ("How it was before", "obol kv get -version=1 secret/app/db"),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let located = Located::find(&client, self.place.mount.mount.as_deref(), &self.place.path)?;
        let path = located.api_path("data");
        let mut request = Request::get(&path);
        if let Some(version) = self.version.filter(|version| *version > 0) {
            located.only_v2("-version")?;
            request = request.query("version", version.to_string());
        }
        let found = client
            .find(request)
            .map_err(|failure| failure.doing(format!("reading {path}")))?;
        let Some(answer) = found.filter(|answer| !answer.is_empty()) else {
            return Err(nothing_at(&path));
        };
        let body = &answer.body;
        if !located.v2 || body["wrap_info"].is_object() {
            return match (&self.field.field, format) {
                (None, Format::Table) if !body["wrap_info"].is_object() => {
                    session.warnings(body);
                    print_section(session, "Data", &body["data"], false)?;
                    Ok(SUCCESS)
                }
                _ => Show::new(format, &self.field).secret(session, body),
            };
        }
        let secret = &body["data"]["data"];
        if let Some(name) = &self.field.field {
            if secret.is_null() {
                return Err(Failure::remote(format!(
                    "the version at {path} is deleted or destroyed"
                )));
            }
            let value = secret
                .get(name)
                .or_else(|| (name == "data").then_some(secret));
            session.print_field(format, name, value)?;
            return Ok(SUCCESS);
        }
        if format != Format::Table {
            return session.print_value(format, body).map(|()| SUCCESS);
        }
        session.warnings(body);
        print_path(session, &path)?;
        print_section(session, "Metadata", &body["data"]["metadata"], true)?;
        print_section(session, "Data", secret, false)?;
        Ok(SUCCESS)
    }
}

/// Store a secret; version 2 of the engine keeps the older versions
///
/// The fields given replace the whole secret. Values may be read from a file (key=@file) or from standard input
/// (key=-); a lone @file.json or - is a whole JSON object.
#[derive(clap::Args)]
pub(in crate::cli) struct Put {
    #[command(flatten)]
    place: Place,
    /// The secret: key=value, key=@file, key=-, @file.json or -
    #[arg(value_name = "DATA", required = true)]
    data: Vec<String>,
    /// Write only if the current version is this one; 0: only if there is none
    #[arg(long, value_name = "N")]
    cas: Option<i64>,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    field: FieldFlag,
}

impl Command for Put {
    const NAME: &'static str = "kv put";
    const EXAMPLES: &'static [Example] = &[
        (
            "Store two fields",
            "obol kv put secret/app/db user=app password=s3cret",
        ),
        (
            "Keep the value out of the shell's history",
            "obol kv put secret/app/db password=- < password.txt",
        ),
        (
            "From a file of JSON",
            "obol kv put -mount=secret app/db @db.json",
        ),
        (
            "Only if nobody has written since version 3",
            "obol kv put -cas=3 secret/app/db password=@new.txt",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let secret = data::parse(&self.data, &mut session.stdin)?;
        let located = Located::find(&client, self.place.mount.mount.as_deref(), &self.place.path)?;
        let path = located.api_path("data");
        // Vault's flag is -1 by default, which scripts write out: no condition.
        let cas = self.cas.filter(|cas| *cas >= 0);
        let body = if located.v2 {
            let options = cas.map_or_else(|| json!({}), |cas| json!({ "cas": cas }));
            json!({ "data": secret, "options": options })
        } else {
            if cas.is_some() {
                located.only_v2("-cas")?;
            }
            Value::Object(secret)
        };
        let answer = client
            .send(Request::put(&path, body))
            .map_err(|failure| failure.doing(format!("writing data to {path}")))?;
        print_written(session, format, &self.field, &path, &answer)
    }
}

/// What a new version is answered with.
pub(super) fn print_written(
    session: &mut Session<'_>,
    format: Format,
    field: &FieldFlag,
    path: &str,
    answer: &Answer,
) -> Outcome {
    let body = &answer.body;
    if answer.is_empty() {
        if format == Format::Table {
            session.line(&format!("Success! Data written to: {path}"))?;
        }
        return Ok(SUCCESS);
    }
    if let Some(name) = &field.field {
        session.print_field(format, name, field_of(body, name))?;
    } else if format != Format::Table || body["wrap_info"].is_object() {
        session.print_secret(format, body)?;
    } else {
        session.warnings(body);
        print_path(session, path)?;
        print_section(session, "Metadata", &body["data"], false)?;
    }
    Ok(SUCCESS)
}

/// List the names of secrets; a name that ends in / has more below it
#[derive(clap::Args)]
pub(in crate::cli) struct List {
    /// Where to list: MOUNT or MOUNT/PATH, or PATH alone with -mount
    #[arg(value_name = "PATH")]
    path: Option<String>,
    #[command(flatten)]
    mount: MountFlag,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for List {
    const NAME: &'static str = "kv list";
    const EXAMPLES: &'static [Example] = &[
        ("Everything at the top of a mount", "obol kv list secret/"),
        ("Below a path", "obol kv list -mount=secret app"),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let path = self.path.as_deref().unwrap_or_default();
        let located = Located::find(&client, self.mount.mount.as_deref(), path)?;
        logical::list(session, &client, format, &located.api_path("metadata"))
    }
}

/// Delete a secret; version 2 of the engine can bring it back
///
/// Without -versions the latest version is deleted. `kv undelete` brings a version back, `kv destroy` takes it away
/// for ever, `kv metadata delete` takes away all versions.
#[derive(clap::Args)]
pub(in crate::cli) struct Delete {
    #[command(flatten)]
    place: Place,
    /// These versions instead of the latest: -versions=1,2
    #[arg(long, value_name = "N,N")]
    versions: Vec<String>,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Delete {
    const NAME: &'static str = "kv delete";
    const EXAMPLES: &'static [Example] = &[
        ("Delete the latest version", "obol kv delete secret/app/db"),
        (
            "Delete older versions",
            "obol kv delete -versions=1,2 secret/app/db",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let versions = version_numbers(&self.versions)?;
        let client = Client::new(&self.http, &session.env)?;
        let located = Located::find(&client, self.place.mount.mount.as_deref(), &self.place.path)?;
        let (path, request) = if versions.is_empty() {
            let path = located.api_path("data");
            (path.clone(), Request::delete(path))
        } else {
            located.only_v2("-versions")?;
            let path = located.api_path("delete");
            (
                path.clone(),
                Request::put(path, json!({ "versions": versions })),
            )
        };
        let answer = client
            .send(request)
            .map_err(|failure| failure.doing(format!("deleting {path}")))?;
        Show::whole(format).secret_or(
            session,
            &answer.body,
            &format!("Success! Data deleted (if it existed) at: {path}"),
        )
    }
}

fn print_path(session: &mut Session<'_>, path: &str) -> Result<(), Failure> {
    session.line(&format!(
        "{}\n{path}\n",
        heading("Secret Path", path.chars().count())
    ))
}

fn print_section(
    session: &mut Session<'_>,
    title: &str,
    members: &Value,
    blank: bool,
) -> Result<(), Failure> {
    let Some(map) = members.as_object() else {
        return Ok(());
    };
    session.line(&heading(title, members_width(map)))?;
    session.print_value(Format::Table, members)?;
    if blank { session.line("") } else { Ok(()) }
}
