//! `kv undelete`, `destroy`: versions of a secret, in version 2 of the engine.

use serde_json::json;

use super::{Located, Place, version_numbers};
use crate::cli::answer::Show;
use crate::cli::client::{Client, HttpFlags, Request};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::FormatFlag;
use crate::cli::{Command, Example, Session};

/// Bring deleted versions of a secret back
#[derive(clap::Args)]
pub(in crate::cli) struct Undelete {
    #[command(flatten)]
    which: Which,
}

impl Command for Undelete {
    const NAME: &'static str = "kv undelete";
    const EXAMPLES: &'static [Example] = &[(
        "Bring version 3 back",
        "obol kv undelete -versions=3 secret/app/db",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        self.which.change(session, "undelete", "Data written to")
    }
}

/// Take versions of a secret away for ever
#[derive(clap::Args)]
pub(in crate::cli) struct Destroy {
    #[command(flatten)]
    which: Which,
}

impl Command for Destroy {
    const NAME: &'static str = "kv destroy";
    const EXAMPLES: &'static [Example] = &[(
        "Destroy versions 1 and 2",
        "obol kv destroy -versions=1,2 secret/app/db",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        self.which.change(session, "destroy", "Data written to")
    }
}

// Flattened into commands; a doc comment here would replace the command's own.
#[derive(clap::Args)]
struct Which {
    #[command(flatten)]
    place: Place,
    /// Which versions: -versions=1,2
    #[arg(long, value_name = "N,N", required = true)]
    versions: Vec<String>,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Which {
    fn change(self, session: &mut Session<'_>, section: &str, done: &str) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let versions = version_numbers(&self.versions)?;
        if versions.is_empty() {
            return Err(Failure::local("-versions names no version: -versions=1,2"));
        }
        let client = Client::new(&self.http, &session.env)?;
        let located = Located::find(&client, self.place.mount.mount.as_deref(), &self.place.path)?;
        located.only_v2(&format!("kv {section}"))?;
        let path = located.api_path(section);
        let answer = client
            .send(Request::put(&path, json!({ "versions": versions })))
            .map_err(|failure| failure.doing(format!("writing to {path}")))?;
        Show::whole(format).secret_or(session, &answer.body, &format!("Success! {done}: {path}"))
    }
}
