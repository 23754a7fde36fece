//! `policy list`, `read`, `write`, `delete`, `fmt`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::client::{Client, HttpFlags, Request};
use super::data::{read_file, read_stdin};
use super::failure::{Failure, Outcome, SUCCESS, file_failure};
use super::files;
use super::logical::nothing_at;
use super::output::{Format, FormatFlag, field_of};
use super::{Command, Example, Session};

/// List the names of all policies
#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for List {
    const NAME: &'static str = "policy list";
    const EXAMPLES: &'static [Example] = &[("One name a line", "obol policy list")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let answer = client
            .send(Request::list("sys/policies/acl"))
            .map_err(|failure| failure.doing("listing policies"))?;
        let names = &answer.body["data"]["keys"];
        if format != Format::Table {
            return session.print_value(format, names).map(|()| SUCCESS);
        }
        session.warnings(&answer.body);
        let names: Vec<&str> = names
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        session.line(&names.join("\n"))?;
        Ok(SUCCESS)
    }
}

/// Print the text of a policy
#[derive(clap::Args)]
pub(super) struct Read {
    name: String,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Read {
    const NAME: &'static str = "policy read";
    const EXAMPLES: &'static [Example] = &[(
        "Into a file, to change it",
        "obol policy read app > app.hcl",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let name = policy_name(&self.name)?;
        let path = format!("sys/policies/acl/{name}");
        let found = client
            .find(Request::get(&path))
            .map_err(|failure| failure.doing(format!("reading the policy {name}")))?;
        let Some(answer) = found else {
            return Err(nothing_at(&path));
        };
        match (
            format,
            field_of(&answer.body, "policy").and_then(Value::as_str),
        ) {
            (Format::Table, Some(text)) => session.line(text.trim_end_matches('\n'))?,
            (Format::Table, None) => return Err(Failure::remote("the answer holds no policy")),
            (format, text) => session.print_value(format, &json!({ "policy": text }))?,
        }
        Ok(SUCCESS)
    }
}

/// Write a policy, new or in place of the old one
#[derive(clap::Args)]
pub(super) struct Write {
    name: String,
    /// File with the policy in HCL or JSON, or - for standard input
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Write {
    const NAME: &'static str = "policy write";
    const EXAMPLES: &'static [Example] = &[
        ("From a file", "obol policy write app app.hcl"),
        (
            "From standard input",
            "echo 'path \"secret/data/app/*\" { capabilities = [\"read\"] }' | obol policy write app -",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let name = policy_name(&self.name)?;
        let text = match self.file.as_str() {
            "-" => read_stdin(&mut session.stdin)?,
            file => read_file(file)?,
        };
        let answer = client
            .send(Request::put(
                format!("sys/policies/acl/{name}"),
                json!({ "policy": text }),
            ))
            .map_err(|failure| failure.doing(format!("writing the policy {name}")))?;
        session.warnings(&answer.body);
        session.line(&format!("Success! Uploaded policy: {name}"))?;
        Ok(SUCCESS)
    }
}

/// Delete a policy: tokens that hold it lose what it granted, at once
#[derive(clap::Args)]
pub(super) struct Delete {
    name: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Delete {
    const NAME: &'static str = "policy delete";
    const EXAMPLES: &'static [Example] =
        &[("Take it away from everyone", "obol policy delete app")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let name = policy_name(&self.name)?;
        client
            .send(Request::delete(format!("sys/policies/acl/{name}")))
            .map_err(|failure| failure.doing(format!("deleting the policy {name}")))?;
        session.line(&format!("Success! Deleted policy (if it existed): {name}"))?;
        Ok(SUCCESS)
    }
}

/// Format a policy file in place; the meaning stays the same
#[derive(clap::Args)]
pub(super) struct Fmt {
    #[arg(value_name = "FILE")]
    file: String,
}

impl Command for Fmt {
    const NAME: &'static str = "policy fmt";
    const EXAMPLES: &'static [Example] = &[(
        "Tidy a file up before it is committed",
        "obol policy fmt app.hcl",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let text = read_file(&self.file)?;
        let formatted = crate::core::policies::format(&text).map_err(|error| {
            Failure::local(error.to_string()).doing(format!("formatting {}", self.file))
        })?;
        if formatted != text {
            // Through a link to the file itself, which a rename would otherwise replace.
            let path = std::fs::canonicalize(&self.file)
                .map_err(|error| file_failure("find", &self.file, &error))?;
            let mode = mode_of(&path)?;
            files::replace(&path, formatted.as_bytes(), mode)?;
        }
        session.line(&format!("Success! Formatted policy: {}", self.file))?;
        Ok(SUCCESS)
    }
}

fn mode_of(path: &Path) -> Result<u32, Failure> {
    let metadata =
        std::fs::metadata(path).map_err(|error| file_failure("read", path.display(), &error))?;
    Ok(metadata.permissions().mode() & 0o7777)
}

/// Names are folded to lower case by the server too; here so that messages show the name that counts.
fn policy_name(name: &str) -> Result<String, Failure> {
    let name = name.trim().to_lowercase();
    if name.is_empty() || name.contains('/') {
        return Err(Failure::local(
            "the name of the policy is missing or holds a slash",
        ));
    }
    Ok(name)
}
