//! `lease lookup`, `renew`, `revoke`: what was handed out for a time.

use serde_json::json;

use super::answer::AnswerFlags;
use super::client::{Client, HttpFlags, Request, seconds};
use super::failure::{Failure, Outcome, SUCCESS};
use super::logical::sanitised;
use super::output::{Format, FormatFlag};
use super::{Command, Example, Session};

/// Show a lease: when it was issued, how long it still lives
#[derive(clap::Args)]
pub(super) struct Lookup {
    #[arg(value_name = "LEASE_ID")]
    lease_id: String,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for Lookup {
    const NAME: &'static str = "lease lookup";
    const EXAMPLES: &'static [Example] = &[(
        "How long is this still good for?",
        "obol lease lookup auth/kerberos/login/hc8bd0a",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let (client, show) = self.answer.open(session)?;
        let id = sanitised(&self.lease_id);
        let answer = client
            .send(Request::put("sys/leases/lookup", json!({ "lease_id": id })))
            .map_err(|failure| failure.doing(format!("looking up the lease {id}")))?;
        show.secret(session, &answer.body)
    }
}

/// Renew a lease, up to its longest lifetime
#[derive(clap::Args)]
pub(super) struct Renew {
    #[arg(value_name = "LEASE_ID")]
    lease_id: String,
    /// For how long, where the server lets it be asked for: 1h
    #[arg(long, visible_alias = "i", value_name = "DURATION")]
    increment: Option<String>,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for Renew {
    const NAME: &'static str = "lease renew";
    const EXAMPLES: &'static [Example] = &[(
        "Ask for one more hour",
        "obol lease renew -increment=1h database/creds/app/2f6a614c",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let (client, show) = self.answer.open(session)?;
        let id = sanitised(&self.lease_id);
        let mut body = json!({ "lease_id": id });
        if let Some(increment) = &self.increment {
            body["increment"] = seconds("increment", increment)?;
        }
        let answer = client
            .send(Request::put("sys/leases/renew", body))
            .map_err(|failure| failure.doing(format!("renewing the lease {id}")))?;
        show.secret(session, &answer.body)
    }
}

/// Revoke a lease, or with -prefix everything that was handed out below a path
///
/// The server answers once the revocation is queued, and goes on trying until it works. With -sync it answers when it
/// is done, or with the reason why not.
#[derive(clap::Args)]
pub(super) struct Revoke {
    #[arg(value_name = "LEASE_ID|PREFIX")]
    lease_id: String,
    /// The argument is the beginning of lease ids: all of them are revoked. Needs sudo on sys/leases/revoke-prefix
    #[arg(long)]
    prefix: bool,
    /// With -prefix: forget the leases even where the engine cannot take back what it gave. Needs sudo
    #[arg(long, visible_alias = "f")]
    force: bool,
    /// Wait until it is done
    #[arg(long)]
    sync: bool,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Revoke {
    const NAME: &'static str = "lease revoke";
    const EXAMPLES: &'static [Example] = &[
        (
            "Take one back",
            "obol lease revoke database/creds/app/2f6a614c",
        ),
        (
            "Everything below a path, and wait for it",
            "obol lease revoke -prefix -sync database/creds/app",
        ),
        (
            "Where the engine cannot take it back any more",
            "obol lease revoke -force -prefix database/",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        if self.force && !self.prefix {
            return Err(Failure::local("-force goes with -prefix")
                .hint("A single lease is revoked by its engine, or stays until that works."));
        }
        if self.force && self.sync {
            return Err(Failure::local(
                "-force is always done at once: leave -sync out",
            ));
        }
        let client = Client::new(&self.http, &session.env)?;
        let id = sanitised(&self.lease_id);
        if id.is_empty() {
            return Err(Failure::local("the lease id is empty"));
        }
        let sync = json!({ "sync": self.sync });
        let request = match (self.prefix, self.force) {
            (true, true) => {
                session.note(
                    "WARNING! Leases are forgotten by force: what an engine gave out may stay \
                     valid outside.\n",
                );
                Request::put_empty(format!("sys/leases/revoke-force/{id}"))
            }
            (true, false) => Request::put(format!("sys/leases/revoke-prefix/{id}"), sync),
            (false, _) => Request::put(
                "sys/leases/revoke",
                json!({ "lease_id": id, "sync": self.sync }),
            ),
        };
        let answer = client
            .send(request)
            .map_err(|failure| failure.doing(format!("revoking {id}")))?;
        session.warnings(&answer.body);
        if format == Format::Table {
            session.line(&match (self.prefix, self.force, self.sync) {
                (true, true, _) => {
                    format!("Success! Force revoked any leases with prefix: {id}")
                }
                (_, _, false) => "All revocation operations queued successfully!".to_owned(),
                (true, _, true) => format!("Success! Revoked any leases with prefix: {id}"),
                (false, _, true) => format!("Success! Revoked lease: {id}"),
            })?;
        }
        Ok(SUCCESS)
    }
}
