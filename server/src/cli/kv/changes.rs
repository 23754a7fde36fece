//! `kv patch`, `rollback`: a new version made of an older one, in version 2 of the engine.

use serde_json::{Map, Value, json};

use super::data::print_written;
use super::{Located, Place};
use crate::cli::client::{Client, HttpFlags, Request};
use crate::cli::data;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{FieldFlag, FormatFlag};
use crate::cli::{Command, Example, Session};

/// Change some fields of a secret and leave the others as they are
///
/// Needs the capability `patch` on the secret. Without it, the secret is read, changed here and written back, which
/// needs `read` and `update`; nothing is overwritten that somebody else has written in between.
#[derive(clap::Args)]
pub(in crate::cli) struct Patch {
    #[command(flatten)]
    place: Place,
    /// The fields to change: key=value, key=@file, key=-, @file.json or -
    #[arg(value_name = "DATA")]
    data: Vec<String>,
    /// Field to take away; may be repeated
    #[arg(long, value_name = "KEY")]
    remove_data: Vec<String>,
    /// Change only if the current version is this one
    #[arg(long, value_name = "N")]
    cas: Option<i64>,
    /// patch: let the server change it; rw: read, change and write. By default the one that the policies allow
    #[arg(long, value_name = "patch|rw", value_parser = ["patch", "rw"], hide_possible_values = true)]
    method: Option<String>,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    field: FieldFlag,
}

impl Command for Patch {
    const NAME: &'static str = "kv patch";
    const EXAMPLES: &'static [Example] = &[
        (
            "Another password, the same user",
            "obol kv patch secret/app/db password=@new.txt",
        ),
        (
            "Take a field away",
            "obol kv patch -remove-data=old_password secret/app/db",
        ),
        (
            "Only if nobody has written since version 3",
            "obol kv patch -cas=3 -mount=secret app/db password=@new.txt",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let mut changes = data::parse(&self.data, &mut session.stdin)?;
        for key in &self.remove_data {
            if changes.insert(key.clone(), Value::Null).is_some() {
                return Err(Failure::local(format!(
                    "{key} is to be changed and taken away at once"
                )));
            }
        }
        if changes.is_empty() {
            return Err(Failure::local("there is nothing to change")
                .hint("Add key=value arguments, or -remove-data=KEY."));
        }
        let client = Client::new(&self.http, &session.env)?;
        let located = Located::find(&client, self.place.mount.mount.as_deref(), &self.place.path)?;
        located.only_v2("kv patch")?;
        let path = located.api_path("data");
        let doing = |failure: Failure| failure.doing(format!("patching {path}"));
        let cas = self.cas.filter(|cas| *cas >= 0);
        let answer = if self.method.as_deref() == Some("rw") {
            read_and_write(&client, &path, &changes, cas).map_err(doing)?
        } else {
            let options = cas.map_or_else(|| json!({}), |cas| json!({ "cas": cas }));
            let body = json!({ "data": changes, "options": options });
            match client.send(Request::patch(&path, body)) {
                Ok(answer) => answer,
                Err(failure) if failure.is_not_found() => {
                    return Err(doing(
                        Failure::remote(format!("there is no secret at {path} to be changed"))
                            .hint("`obol kv put` makes one."),
                    ));
                }
                Err(failure)
                    if self.method.is_none() && matches!(failure.status(), Some(403 | 405)) =>
                {
                    session.note(
                        "The server does not let this token patch; reading, changing and writing \
                         instead.\n",
                    );
                    read_and_write(&client, &path, &changes, cas).map_err(doing)?
                }
                Err(failure) => return Err(doing(failure)),
            }
        };
        print_written(session, format, &self.field, &path, &answer)
    }
}

/// Writes what was read with the changes in it, on the condition that nobody has written meanwhile.
fn read_and_write(
    client: &Client,
    path: &str,
    changes: &Map<String, Value>,
    cas: Option<i64>,
) -> Result<crate::cli::client::Answer, Failure> {
    let (mut secret, version) = read(client, path, None)?;
    if let Some(cas) = cas
        && u64::try_from(cas) != Ok(version)
    {
        return Err(Failure::remote(format!(
            "the current version is {version}, not {cas}"
        )));
    }
    merge(&mut secret, changes);
    write(client, path, secret, version)
}

/// RFC 7396: an object is changed member by member, null takes away, everything else replaces.
fn merge(target: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (key, change) in changes {
        match change {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(inner) => {
                let slot = target.entry(key.clone()).or_insert_with(|| json!({}));
                if !slot.is_object() {
                    *slot = json!({});
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner);
                }
            }
            value => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The fields of a version (the latest, where none is named), and the number of the latest.
fn read(
    client: &Client,
    path: &str,
    version: Option<u64>,
) -> Result<(Map<String, Value>, u64), Failure> {
    let gone =
        |which: &str| Failure::remote(format!("{which} at {path} is deleted or was never there"));
    // The data, unless that is deleted, and the number of the version.
    type Found = (Option<Map<String, Value>>, u64);
    let of = |version: Option<u64>| -> Result<Option<Found>, Failure> {
        let mut request = Request::get(path).internal();
        if let Some(version) = version {
            request = request.query("version", version.to_string());
        }
        Ok(client.find(request)?.map(|answer| {
            let data = &answer.body["data"];
            let number = data["metadata"]["version"].as_u64().unwrap_or_default();
            (data["data"].as_object().cloned(), number)
        }))
    };
    let latest = of(None)?;
    let number = latest.as_ref().map_or(0, |(_, number)| *number);
    match version {
        None => match latest {
            Some((Some(secret), number)) => Ok((secret, number)),
            _ => Err(gone("the latest version")),
        },
        Some(version) => match of(Some(version))? {
            Some((Some(secret), _)) => Ok((secret, number)),
            _ => Err(gone(&format!("version {version}"))),
        },
    }
}

fn write(
    client: &Client,
    path: &str,
    secret: Map<String, Value>,
    cas: u64,
) -> Result<crate::cli::client::Answer, Failure> {
    let body = json!({ "data": secret, "options": { "cas": cas } });
    client
        .send(Request::put(path, body))
        .map_err(|failure| match failure.status() {
            Some(400) => failure.hint("Where somebody else has written meanwhile, run it again."),
            _ => failure,
        })
}

/// Make an older version of a secret the newest one
///
/// Writes a copy of it as a new version; nothing is lost, and nothing is overwritten that somebody writes meanwhile.
#[derive(clap::Args)]
pub(in crate::cli) struct Rollback {
    #[command(flatten)]
    place: Place,
    /// The version to go back to
    #[arg(long, value_name = "N", required = true)]
    version: u64,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    field: FieldFlag,
}

impl Command for Rollback {
    const NAME: &'static str = "kv rollback";
    const EXAMPLES: &'static [Example] = &[(
        "As it was in version 2",
        "obol kv rollback -version=2 secret/app/db",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        if self.version == 0 {
            return Err(Failure::local("-version counts from 1"));
        }
        let client = Client::new(&self.http, &session.env)?;
        let located = Located::find(&client, self.place.mount.mount.as_deref(), &self.place.path)?;
        located.only_v2("kv rollback")?;
        let path = located.api_path("data");
        let doing = |failure: Failure| failure.doing(format!("rolling {path} back"));
        let (secret, latest) = read(&client, &path, Some(self.version)).map_err(doing)?;
        let answer = write(&client, &path, secret, latest).map_err(doing)?;
        print_written(session, format, &self.field, &path, &answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_go_into_objects_and_null_takes_away() {
        let (Value::Object(mut secret), Value::Object(changes)) = (
            json!({"a": 1, "b": {"c": 1, "d": 2}, "e": "x"}),
            json!({"a": null, "b": {"c": null, "f": 3}, "e": {"g": null, "h": 1}}),
        ) else {
            unreachable!()
        };
        merge(&mut secret, &changes);
        assert_eq!(
            Value::Object(secret),
            json!({"b": {"d": 2, "f": 3}, "e": {"h": 1}})
        );
    }
}
