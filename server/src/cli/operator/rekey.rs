//! `operator rekey`: new unseal or recovery keys in the place of the present ones.

use obol_mount::Secret;
use serde_json::{Value, json};

use super::pgp_keys::{self, HOW_TO_DECRYPT};
use super::{DEFAULT_SHARES, DEFAULT_THRESHOLD, print_rows, share};
use crate::cli::client::{Client, HttpFlags, Request};
use crate::cli::failure::{Failure, Outcome, SUCCESS};
use crate::cli::interrupt;
use crate::cli::output::{Format, FormatFlag, cell};
use crate::cli::{Command, Example, Session};

/// Replace the unseal keys (or recovery keys) by new ones
///
/// Begin with -init. Then each holder of a present key runs the command without it and is asked for the key, without
/// echo; the last one gets the new keys. With -init -verify the new keys come into force only when enough of them were
/// given back with -verify, so that none can be lost on its way. With -init -pgp-keys each is printed encrypted for its
/// holder, and with -backup the server keeps a copy of what it printed, for -backup-retrieve. Every step needs a token with sudo on sys/rekey.
#[derive(clap::Args)]
pub(in crate::cli) struct Rekey {
    /// A present key (a new one with -verify), or - to read it from standard input; asked for otherwise
    key: Option<String>,
    /// Begin
    #[arg(long, group = "step")]
    init: bool,
    /// Give up; with -verify: begin the verification again
    #[arg(long, group = "step")]
    cancel: bool,
    /// Show how far it is; with -verify: how far the verification is
    #[arg(long, group = "step")]
    status: bool,
    /// With -init: verify the new keys before they come into force. Otherwise: the step of that verification
    #[arg(long)]
    verify: bool,
    /// With -init: how many new keys, 5 by default
    #[arg(long, visible_alias = "n", value_name = "N")]
    key_shares: Option<u16>,
    /// With -init: how many of them are needed, 3 by default
    #[arg(long, visible_alias = "t", value_name = "N")]
    key_threshold: Option<u16>,
    /// With -init: files with the public PGP keys of those who will hold the new keys, one for each
    #[arg(long, value_name = "FILE,...", value_delimiter = ',')]
    pgp_keys: Vec<String>,
    /// With -init and -pgp-keys: let the server keep a copy of the encrypted keys
    #[arg(long)]
    backup: bool,
    /// Print that copy
    #[arg(long, group = "step")]
    backup_retrieve: bool,
    /// Delete it
    #[arg(long, group = "step")]
    backup_delete: bool,
    /// The operation to take part in, as -init and -status show it; needed where the key is an argument
    #[arg(long, value_name = "NONCE")]
    nonce: Option<String>,
    /// Which keys: barrier (those that unseal) or recovery
    #[arg(long, value_name = "barrier|recovery", value_parser = ["barrier", "recovery"], default_value = "barrier", hide_default_value = true, hide_possible_values = true)]
    target: String,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Rekey {
    const NAME: &'static str = "operator rekey";
    const EXAMPLES: &'static [Example] = &[
        (
            "Begin: seven keys, any four of which will open the server, each to be given back first",
            "obol operator rekey -init -key-shares=7 -key-threshold=4 -verify",
        ),
        (
            "Give a present key, which is asked for",
            "obol operator rekey",
        ),
        ("Give a new key back", "obol operator rekey -verify"),
        (
            "Begin: two keys, each to be printed so that only its holder can read it, and kept in that form",
            "obol operator rekey -init -key-shares=2 -key-threshold=2 -pgp-keys=ann.asc,bob.asc -backup",
        ),
        ("How far is it?", "obol operator rekey -status"),
        (
            "Give up; the present keys stay",
            "obol operator rekey -cancel",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let of_init = self.key_shares.is_some()
            || self.key_threshold.is_some()
            || !self.pgp_keys.is_empty()
            || self.backup;
        if !self.init && of_init {
            return Err(Failure::local(
                "-key-shares, -key-threshold, -pgp-keys and -backup go with -init",
            ));
        }
        let no_key = [
            self.init,
            self.cancel,
            self.status,
            self.backup_retrieve,
            self.backup_delete,
        ];
        if self.key.is_some() && no_key.contains(&true) {
            return Err(Failure::local(
                "-init, -cancel, -status, -backup-retrieve and -backup-delete take no key",
            ));
        }
        if self.backup_retrieve {
            let answer = client
                .send(Request::get(self.api("backup")))
                .map_err(|failure| failure.doing("reading the backup"))?;
            return session.print_secret(format, &answer.body).map(|()| SUCCESS);
        }
        if self.backup_delete {
            client
                .send(Request::delete(self.api("backup")))
                .map_err(|failure| failure.doing("deleting the backup"))?;
            session.line("Success! Deleted the backup of the keys (if there was one)")?;
            return Ok(SUCCESS);
        }
        if self.init {
            return self.begin(session, &client, format);
        }
        if self.cancel {
            return self.give_up(session, &client);
        }
        let status = self.ask_status(&client, !self.status)?;
        if self.status {
            return print_status(session, format, &status);
        }
        self.give(session, &client, format, &status)
    }
}

impl Rekey {
    fn api(&self, step: &str) -> String {
        match self.target.as_str() {
            "recovery" => format!("sys/rekey-recovery-key/{step}"),
            _ => format!("sys/rekey/{step}"),
        }
    }

    fn begin(&self, session: &mut Session<'_>, client: &Client, format: Format) -> Outcome {
        // As many keys as there are holders, where they are named.
        let held = match u16::try_from(self.pgp_keys.len()) {
            Ok(0) | Err(_) => DEFAULT_SHARES,
            Ok(holders) => holders,
        };
        let mut body = json!({
            "secret_shares": self.key_shares.unwrap_or(held),
            "secret_threshold": self.key_threshold.unwrap_or(DEFAULT_THRESHOLD),
            "require_verification": self.verify,
        });
        if !self.pgp_keys.is_empty() {
            body["pgp_keys"] = pgp_keys::read_all(&self.pgp_keys)?.into();
        }
        if self.backup {
            body["backup"] = true.into();
        }
        let status = client
            .send(Request::put(self.api("init"), body))
            .map_err(|failure| failure.doing("beginning the rekey"))?
            .body;
        if format == Format::Table {
            session.note(if self.verify {
                "The new keys come into force when enough of them were given back: hand each out, \
                 then run `obol operator rekey -verify` with it.\n"
            } else {
                "WARNING! The new keys come into force as soon as they are made. If they get lost \
                 on their way, nothing opens the server again: -verify, given with -init, prevents \
                 that.\n"
            });
        }
        print_status(session, format, &status)
    }

    fn give_up(&self, session: &mut Session<'_>, client: &Client) -> Outcome {
        let step = if self.verify { "verify" } else { "init" };
        let mut request = Request::delete(self.api(step));
        if let Some(nonce) = &self.nonce {
            request = request.query("nonce", nonce);
        }
        client
            .send(request)
            .map_err(|failure| failure.doing("cancelling"))?;
        session.line(if self.verify {
            "Success! The verification begins again (if there was one)."
        } else {
            "Success! Canceled rekeying (if it was started)"
        })?;
        Ok(SUCCESS)
    }

    fn ask_status(&self, client: &Client, on_the_way: bool) -> Result<Value, Failure> {
        let step = if self.verify { "verify" } else { "init" };
        let mut request = Request::get(self.api(step));
        if on_the_way {
            request = request.internal();
        }
        let answer = client
            .send(request)
            .map_err(|failure| failure.doing("asking how far the rekey is"))?;
        Ok(answer.body)
    }

    fn give(
        &self,
        session: &mut Session<'_>,
        client: &Client,
        format: Format,
        status: &Value,
    ) -> Outcome {
        if status["started"] != Value::Bool(true) {
            return Err(Failure::local("no rekey is under way")
                .hint("`obol operator rekey -init` begins one."));
        }
        let kind = match (self.verify, self.target.as_str()) {
            (true, _) => "new key",
            (false, "recovery") => "recovery key",
            (false, _) => "unseal key",
        };
        let (key, nonce) = share(
            session,
            &self.http,
            kind,
            self.key.as_deref(),
            self.nonce.as_deref(),
            status,
        )?;
        let step = if self.verify { "verify" } else { "update" };
        let request = Request::put(
            self.api(step),
            json!({ "key": key.expose(), "nonce": nonce }),
        );
        // The last step's answer is the only copy of the new keys: Ctrl-C waits until they are printed.
        interrupt::hold(|| {
            let body = client
                .send(request)
                .map_err(|failure| failure.doing("giving the key"))?
                .body;
            session.warnings(&body);
            if body["wrap_info"].is_object() || format != Format::Table {
                return session.print_secret(format, &body).map(|()| SUCCESS);
            }
            match (body["complete"] == Value::Bool(true), self.verify) {
                (false, _) => print_status(session, format, &body),
                (true, true) => {
                    session.line("Success! The new keys are verified and in force; the old ones are worth nothing.")?;
                    Ok(SUCCESS)
                }
                (true, false) => self.print_keys(session, &body),
            }
        })
    }

    fn print_keys(&self, session: &mut Session<'_>, body: &Value) -> Outcome {
        let keys = body["keys_base64"].as_array().into_iter().flatten();
        let mut text = String::new();
        for (index, key) in keys.enumerate() {
            let key = key.as_str().unwrap_or_default();
            let holder = match body["pgp_fingerprints"][index].as_str() {
                Some(fingerprint) => format!(" for {fingerprint}"),
                None => String::new(),
            };
            text.push_str(&format!("Key {}{holder}: {key}\n", index + 1));
        }
        text.push_str(&format!("\nOperation nonce: {}\n\n", cell(&body["nonce"])));
        let text = Secret::new(text);
        session.line(text.expose().trim_end_matches('\n'))?;
        session.line("")?;
        if body["pgp_fingerprints"].is_array() {
            session.line(&format!(
                "Each key is encrypted with the PGP key of its holder, who reads it with:\n\n    {HOW_TO_DECRYPT}\n"
            ))?;
        }
        session.line(&if body["verification_required"] == Value::Bool(true) {
            format!(
                "Give each key to someone else. They are not in force yet: run\n\n    \
                 obol operator rekey -verify{}\n\nwith each until enough were given back \
                 (verification nonce: {}). Until then the old keys hold.",
                if self.target == "recovery" {
                    " -target=recovery"
                } else {
                    ""
                },
                cell(&body["verification_nonce"]),
            )
        } else {
            "Give each key to someone else. They are in force; the old ones are worth nothing."
                .to_owned()
        })?;
        Ok(SUCCESS)
    }
}

fn print_status(session: &mut Session<'_>, format: Format, status: &Value) -> Outcome {
    if format != Format::Table || status["wrap_info"].is_object() {
        return session.print_secret(format, status).map(|()| SUCCESS);
    }
    let mut rows = vec![
        ("Nonce", cell(&status["nonce"])),
        ("Started", cell(&status["started"])),
    ];
    if status["started"] == Value::Bool(true) {
        // A verification needs as many keys as the new threshold says; it has no field of its own for that.
        let verifying = status["required"].is_null();
        let (label, needed) = match verifying {
            true => ("Verification Progress", &status["t"]),
            false => ("Rekey Progress", &status["required"]),
        };
        rows.push((
            label,
            format!("{}/{}", cell(&status["progress"]), cell(needed)),
        ));
        rows.push(("New Shares", cell(&status["n"])));
        rows.push(("New Threshold", cell(&status["t"])));
        if !verifying {
            if let Some(fingerprints) = status["pgp_fingerprints"].as_array() {
                let fingerprints: Vec<String> = fingerprints.iter().map(cell).collect();
                rows.push(("PGP Fingerprints", fingerprints.join(", ")));
                rows.push(("Backup", cell(&status["backup"])));
            }
            rows.push((
                "Verification Required",
                cell(&status["verification_required"]),
            ));
            if status["verification_nonce"]
                .as_str()
                .is_some_and(|nonce| !nonce.is_empty())
            {
                rows.push(("Verification Nonce", cell(&status["verification_nonce"])));
            }
        }
    }
    print_rows(session, rows)
}
