//! `read`, `write`, `patch`, `delete`, `list`, `unwrap`, `path-help`: any path of the API.

use std::collections::BTreeSet;

use obol_mount::Secret;
use serde_json::{Map, Value, json};

use super::answer::AnswerFlags;
use super::client::{Client, HttpFlags, Request, Token, TokenSource};
use super::data;
use super::failure::{Failure, Outcome, REMOTE, SUCCESS};
use super::output::{DetailedFlag, Format, FormatFlag, cell, table};
use super::{Command, Example, Session};

/// Read a secret or a configuration
///
/// Any path below /v1/ of the API. key=value arguments go into the query. With -format=raw the answer is printed as it
/// comes, also where it is no JSON.
#[derive(clap::Args)]
pub(super) struct Read {
    path: String,
    /// Parameters of the query
    #[arg(value_name = "KEY=VALUE")]
    data: Vec<String>,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for Read {
    const NAME: &'static str = "read";
    const EXAMPLES: &'static [Example] = &[
        (
            "Read the configuration of the Kerberos auth method",
            "obol read auth/kerberos/config",
        ),
        (
            "One field alone, for a script",
            "obol read -field=service_account auth/kerberos/config",
        ),
        (
            "What Prometheus would read",
            "obol read -format=raw sys/metrics format=prometheus",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        if let Some(client) = self.answer.open_raw(session)? {
            let path = sanitised(&self.path);
            let request = with_query(Request::get(path), &self.data, session)?;
            client
                .download(request, &mut |piece| session.bytes(piece))
                .map_err(|failure| failure.doing(format!("reading {path}")))?;
            return Ok(SUCCESS);
        }
        let (client, show) = self.answer.open(session)?;
        let path = sanitised(&self.path);
        let request = with_query(Request::get(path), &self.data, session)?;
        let found = client
            .find(request)
            .map_err(|failure| failure.doing(format!("reading {path}")))?;
        let Some(answer) = found.filter(|answer| !answer.is_empty()) else {
            return Err(nothing_at(path));
        };
        show.secret(session, &answer.body)
    }
}

/// Write data to a path
///
/// What it does is up to the path: storing a secret, configuring, logging in. Values may be read from a file
/// (key=@file) or from standard input (key=-); a lone @file.json or - is a whole JSON object.
#[derive(clap::Args)]
pub(super) struct Write {
    path: String,
    /// What to write: key=value, key=@file, key=-, @file.json or -
    #[arg(value_name = "DATA")]
    data: Vec<String>,
    /// Write without data
    #[arg(long, visible_alias = "f")]
    force: bool,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for Write {
    const NAME: &'static str = "write";
    const EXAMPLES: &'static [Example] = &[
        (
            "Give the Kerberos auth method its keytab, which must be base64",
            "base64 -w0 vault.keytab | obol write auth/kerberos/config keytab=- service_account=vault_svc",
        ),
        (
            "Configure from a file of JSON",
            "obol write auth/kerberos/config/ldap @ldap.json",
        ),
        (
            "Map a group to policies",
            "obol write auth/kerberos/groups/engineers policies=app,default",
        ),
        (
            "Write to a path that takes no data",
            "obol write -force sys/seal",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let (client, show) = self.answer.open(session)?;
        let path = sanitised(&self.path);
        if self.data.is_empty() && !self.force {
            return Err(Failure::local("there is no data to write")
                .hint("Add key=value arguments, or -force to write without any."));
        }
        let data = data::parse(&self.data, &mut session.stdin)?;
        let request = if data.is_empty() {
            Request::put_empty(path)
        } else {
            Request::put(path, Value::Object(data))
        };
        let answer = client
            .send(request)
            .map_err(|failure| failure.doing(format!("writing data to {path}")))?;
        show.secret_or(
            session,
            &answer.body,
            &format!("Success! Data written to: {path}"),
        )
    }
}

/// Change some fields at a path and leave the others as they are
///
/// The data is a JSON merge patch (RFC 7396): what is given replaces, null takes away, where a whole object comes from
/// @file.json or -. Only paths that say so can be patched; `kv patch` is for secrets.
#[derive(clap::Args)]
pub(super) struct Patch {
    path: String,
    /// What to change: key=value, key=@file, key=-, @file.json or -
    #[arg(value_name = "DATA")]
    data: Vec<String>,
    /// Send the request without data
    #[arg(long, visible_alias = "f")]
    force: bool,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for Patch {
    const NAME: &'static str = "patch";
    const EXAMPLES: &'static [Example] = &[
        (
            "Change one limit of a secret's metadata",
            "obol patch secret/metadata/app/db max_versions=5",
        ),
        (
            "Take a field away, which needs JSON",
            "echo '{\"custom_metadata\": {\"owner\": null}}' | obol patch secret/metadata/app/db -",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let (client, show) = self.answer.open(session)?;
        let path = sanitised(&self.path);
        if self.data.is_empty() && !self.force {
            return Err(Failure::local("there is nothing to change")
                .hint("Add key=value arguments, or -force to send the request without any."));
        }
        let data = data::parse(&self.data, &mut session.stdin)?;
        let answer = client
            .send(Request::patch(path, Value::Object(data)))
            .map_err(|failure| {
                let failure = match failure.status() {
                    Some(405) => failure.hint(format!(
                        "{path} cannot be patched: `obol write` replaces it."
                    )),
                    _ => failure,
                };
                failure.doing(format!("patching {path}"))
            })?;
        show.secret_or(
            session,
            &answer.body,
            &format!("Success! Data written to: {path}"),
        )
    }
}

/// Delete what is at a path
#[derive(clap::Args)]
pub(super) struct Delete {
    path: String,
    /// Parameters of the query
    #[arg(value_name = "KEY=VALUE")]
    data: Vec<String>,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for Delete {
    const NAME: &'static str = "delete";
    const EXAMPLES: &'static [Example] = &[(
        "Take a group's mapping away",
        "obol delete auth/kerberos/groups/engineers",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let (client, show) = self.answer.open(session)?;
        let path = sanitised(&self.path);
        let request = with_query(Request::delete(path), &self.data, session)?;
        let answer = client
            .send(request)
            .map_err(|failure| failure.doing(format!("deleting {path}")))?;
        show.secret_or(
            session,
            &answer.body,
            &format!("Success! Data deleted (if it existed) at: {path}"),
        )
    }
}

/// List the names below a path
#[derive(clap::Args)]
pub(super) struct List {
    path: String,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    detailed: DetailedFlag,
}

impl Command for List {
    const NAME: &'static str = "list";
    const EXAMPLES: &'static [Example] = &[
        (
            "Which groups are mapped to policies?",
            "obol list auth/kerberos/groups",
        ),
        (
            "With what the server tells of each name",
            "obol list -detailed identity/entity/id",
        ),
        (
            "As JSON, an array of names",
            "obol list -format=json auth/token/accessors",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let path = sanitised(&self.path);
        if !self.detailed.resolve(&session.env)? {
            return list(session, &client, format, path);
        }
        let found = client
            .find(Request::list(path))
            .map_err(|failure| failure.doing(format!("listing {path}")))?;
        let answer = found.ok_or_else(|| nothing_at(path))?;
        if format != Format::Table || !answer.body["data"]["keys"].is_array() {
            return session.print_secret(format, &answer.body).map(|()| SUCCESS);
        }
        session.line(&table(with_info(&answer.body["data"])))?;
        Ok(SUCCESS)
    }
}

/// The names of a listing, and in further columns what `key_info` tells of each.
fn with_info(data: &Value) -> Vec<Vec<String>> {
    let info = |key: &str| data["key_info"][key].as_object();
    let keys: Vec<&str> = data["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let columns: BTreeSet<&String> = keys
        .iter()
        .filter_map(|key| info(key))
        .flat_map(Map::keys)
        .collect();
    let header =
        std::iter::once("Keys".to_owned()).chain(columns.iter().map(|name| (*name).clone()));
    let mut rows = vec![header.collect()];
    for key in keys {
        let cells = columns
            .iter()
            .map(|name| match info(key).and_then(|info| info.get(*name)) {
                Some(value) => cell(value),
                None => "n/a".to_owned(),
            });
        rows.push(std::iter::once(key.to_owned()).chain(cells).collect());
    }
    rows
}

/// Read what a wrapping token holds, which uses the token up
#[derive(clap::Args)]
pub(super) struct Unwrap {
    /// The wrapping token, or - to read it from standard input; without it, the token of this shell is unwrapped
    token: Option<String>,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for Unwrap {
    const NAME: &'static str = "unwrap";
    const EXAMPLES: &'static [Example] = &[(
        "Unwrap a token that came on standard input",
        "obol unwrap - < wrapped",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let (mut client, show) = self.answer.open(session)?;
        let given = match self.token.as_deref() {
            Some("-") => Some(session.read_secret("wrapping token")?),
            Some(token) => Some(Secret::new(token.trim().to_owned())),
            None => None,
        };
        let mut request = Request::put_empty("sys/wrapping/unwrap");
        if let Some(secret) = given {
            // As curl it stands in the body: the header there is always that of this shell's token.
            if client.shows_curl() {
                let body = json!({ "token": secret.expose() });
                request = Request::put("sys/wrapping/unwrap", body);
            } else {
                client.token = Some(Token {
                    secret,
                    source: TokenSource::Command,
                });
            }
        }
        let answer = client
            .send(request)
            .map_err(|failure| failure.doing("unwrapping"))?;
        show.secret_or(
            session,
            &answer.body,
            "Success! There was nothing in the wrapping token.",
        )
    }
}

/// Show what a path of the API is for, and its parameters
#[derive(clap::Args)]
pub(super) struct PathHelp {
    path: String,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for PathHelp {
    const NAME: &'static str = "path-help";
    const EXAMPLES: &'static [Example] = &[
        (
            "Which parameters does it take?",
            "obol path-help auth/kerberos/config/ldap",
        ),
        (
            "What is a secret of kv version 2 made of?",
            "obol path-help secret/data/app",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let path = sanitised(&self.path);
        let answer = client
            .send(Request::get(path).query("help", "1"))
            .map_err(|failure| failure.doing(format!("reading the help of {path}")))?;
        if format != Format::Table {
            return session.print_value(format, &answer.body).map(|()| SUCCESS);
        }
        match answer.data().get("help").and_then(Value::as_str) {
            Some(help) => session.line(help.trim_end()).map(|()| SUCCESS),
            None => Err(Failure::remote(format!(
                "the server has no help for {path}"
            ))),
        }
    }
}

/// Lists a path; an empty listing is an error, as for Vault.
pub(super) fn list(
    session: &mut Session<'_>,
    client: &Client,
    format: Format,
    path: &str,
) -> Outcome {
    let found = client
        .find(Request::list(path))
        .map_err(|failure| failure.doing(format!("listing {path}")))?;
    match found {
        Some(answer) if answer.body["wrap_info"].is_object() => {
            session.print_secret(format, &answer.body)?
        }
        Some(answer) if answer.body["data"]["keys"].is_array() => {
            session.print_keys(format, &answer.body)?
        }
        _ => {
            if format != Format::Table {
                session.print_value(format, &json!({}))?;
                return Ok(REMOTE);
            }
            return Err(nothing_at(path));
        }
    }
    Ok(SUCCESS)
}

pub(super) fn nothing_at(path: &str) -> Failure {
    Failure::remote(format!("there is nothing at {path}"))
}

/// A path without the slashes around it, which users add and the API does not have.
pub(super) fn sanitised(path: &str) -> &str {
    path.trim().trim_matches('/')
}

fn with_query(
    mut request: Request,
    arguments: &[String],
    session: &mut Session<'_>,
) -> Result<Request, Failure> {
    let data: Map<String, Value> = data::parse(arguments, &mut session.stdin)?;
    for (key, value) in &data {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            request = request.query(key, text);
        }
    }
    Ok(request)
}
