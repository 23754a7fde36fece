//! `operator init`, `unseal`, `seal`; and in rooms of their own what is done with enough keys or to the whole store.

pub(super) mod backup;
pub(super) mod generate_root;
mod pgp_keys;
pub(super) mod rekey;
pub(super) mod rotate;
pub(super) mod usage;

use obol_mount::Secret;
use serde_json::{Value, json};

use super::client::{Client, HttpFlags, Request};
use super::failure::{Failure, LOCAL, Outcome, REMOTE, SUCCESS};
use super::interrupt;
use super::output::{Format, FormatFlag, table};
use super::status::print_seal_status;
use super::{Command, Example, Session};

/// Initialise a new server: make its keys and its root token
///
/// Prints the unseal keys and the root token, once. The server keeps neither: whoever has fewer keys than the
/// threshold can never open it again.
#[derive(clap::Args)]
pub(super) struct Init {
    /// Only tell whether it is initialised: exit status 0 yes, 2 no, 1 could not ask
    #[arg(long)]
    status: bool,
    /// How many unseal keys to make, 5 by default
    #[arg(long, visible_alias = "n", value_name = "N")]
    key_shares: Option<u16>,
    /// How many of them open the server, 3 by default
    #[arg(long, visible_alias = "t", value_name = "N")]
    key_threshold: Option<u16>,
    /// With auto-unseal: how many recovery keys to make, 5 by default
    #[arg(long, value_name = "N")]
    recovery_shares: Option<u16>,
    /// With auto-unseal: how many of them are needed, 3 by default
    #[arg(long, value_name = "N")]
    recovery_threshold: Option<u16>,
    /// Files with the public PGP keys of those who will hold the unseal keys, one for each: they are printed encrypted
    #[arg(long, value_name = "FILE,...", value_delimiter = ',')]
    pgp_keys: Vec<String>,
    /// With auto-unseal: the same for the recovery keys
    #[arg(long, value_name = "FILE,...", value_delimiter = ',')]
    recovery_pgp_keys: Vec<String>,
    /// A file with the public PGP key that the root token is encrypted with
    #[arg(long, value_name = "FILE")]
    root_token_pgp_key: Option<String>,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Init {
    const NAME: &'static str = "operator init";
    const EXAMPLES: &'static [Example] = &[
        (
            "Five keys, any three of which open the server",
            "obol operator init",
        ),
        (
            "One key, for a server of your own, in a form for scripts",
            "obol operator init -key-shares=1 -key-threshold=1 -format=json",
        ),
        (
            "Two keys, printed so that only their holders can read them, and the root token likewise",
            "obol operator init -key-shares=2 -key-threshold=2 -pgp-keys=ann.asc,bob.asc -root-token-pgp-key=ann.asc",
        ),
        ("Has it been done?", "obol operator init -status"),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::without_token(&self.http, &session.env)?;
        if self.status {
            return init_status(session, &client, format);
        }
        let seal = client.send(Request::get("sys/seal-status").internal());
        let auto = seal
            .map_err(|failure| failure.doing("asking for the kind of seal"))?
            .body["recovery_seal"]
            == Value::Bool(true);
        let or = |given: Option<u16>, default: u16, used: bool| given.or(used.then_some(default));
        // As many keys as there are holders, where they are named.
        let held = |holders: &[String]| match u16::try_from(holders.len()) {
            Ok(0) | Err(_) => DEFAULT_SHARES,
            Ok(holders) => holders,
        };
        let shares = or(self.key_shares, held(&self.pgp_keys), !auto);
        let threshold = or(self.key_threshold, DEFAULT_THRESHOLD, !auto);
        let recovery_shares = or(self.recovery_shares, held(&self.recovery_pgp_keys), auto);
        let recovery_threshold = or(self.recovery_threshold, DEFAULT_THRESHOLD, auto);
        let mut body = json!({});
        for (key, value) in [
            ("secret_shares", shares),
            ("secret_threshold", threshold),
            ("recovery_shares", recovery_shares),
            ("recovery_threshold", recovery_threshold),
        ] {
            if let Some(value) = value {
                body[key] = value.into();
            }
        }
        for (field, files) in [
            ("pgp_keys", &self.pgp_keys),
            ("recovery_pgp_keys", &self.recovery_pgp_keys),
        ] {
            if !files.is_empty() {
                body[field] = pgp_keys::read_all(files)?.into();
            }
        }
        if let Some(file) = &self.root_token_pgp_key {
            body["root_token_pgp_key"] = pgp_keys::read(file)?.into();
        }
        let encrypted = Encrypted {
            keys: !self.pgp_keys.is_empty() || !self.recovery_pgp_keys.is_empty(),
            root_token: self.root_token_pgp_key.is_some(),
        };
        // The answer is the only copy of the keys: Ctrl-C waits until it is printed.
        interrupt::hold(|| {
            let made = client
                .send(Request::put("sys/init", body))
                .map_err(|failure| failure.doing("initialising"))?
                .body;
            print_made(
                session,
                format,
                &made,
                encrypted,
                [shares, threshold],
                [recovery_shares, recovery_threshold],
            )
        })
    }
}

/// What of the answer is encrypted for its holders.
#[derive(Clone, Copy)]
struct Encrypted {
    keys: bool,
    root_token: bool,
}

fn print_made(
    session: &mut Session<'_>,
    format: Format,
    made: &Value,
    encrypted: Encrypted,
    [shares, threshold]: [Option<u16>; 2],
    [recovery_shares, recovery_threshold]: [Option<u16>; 2],
) -> Outcome {
    let list = |key: &str| -> Vec<Value> { made[key].as_array().cloned().unwrap_or_default() };
    let (keys, recovery_keys) = (list("keys_base64"), list("recovery_keys_base64"));
    if format != Format::Table {
        // These names are those of Vault's command line; the API's differ.
        let stored = keys.is_empty();
        return session
            .print_value(
                format,
                &json!({
                    "unseal_keys_b64": keys,
                    "unseal_keys_hex": list("keys"),
                    "unseal_shares": if stored { Some(1) } else { shares },
                    "unseal_threshold": if stored { Some(1) } else { threshold },
                    "recovery_keys_b64": recovery_keys,
                    "recovery_keys_hex": list("recovery_keys"),
                    "recovery_keys_shares": recovery_shares.unwrap_or(0),
                    "recovery_keys_threshold": recovery_threshold.unwrap_or(0),
                    "root_token": made["root_token"],
                }),
            )
            .map(|()| SUCCESS);
    }
    let mut text = String::new();
    for (label, keys) in [("Unseal Key", &keys), ("Recovery Key", &recovery_keys)] {
        for (index, key) in keys.iter().enumerate() {
            text.push_str(&format!(
                "{label} {}: {}\n",
                index + 1,
                key.as_str().unwrap_or_default()
            ));
        }
    }
    text.push_str(&format!(
        "\nInitial Root Token: {}\n\n",
        made["root_token"].as_str().unwrap_or_default()
    ));
    text.push_str(&if keys.is_empty() {
        "The server is initialised and unseals itself.".to_owned()
    } else {
        let n = threshold.unwrap_or_default();
        format!(
            "Give each key to someone else. {n} of {} open the server, after every start and\n\
                 every seal; nothing else does, and the server keeps no copy. Then:\n\n\
                 \u{20}   obol operator unseal",
            keys.len()
        )
    });
    if !recovery_keys.is_empty() {
        let n = recovery_threshold.unwrap_or_default();
        text.push_str(&format!(
            "\n\nThe recovery keys do not open the server. {n} of {} approve what is otherwise\n\
                 done with unseal keys, such as making a new root token.",
            recovery_keys.len()
        ));
    }
    let what = match (encrypted.keys, encrypted.root_token) {
        (false, false) => None,
        (true, false) => Some("Each key is"),
        (false, true) => Some("The root token is"),
        (true, true) => Some("Each key, and the root token, is"),
    };
    if let Some(what) = what {
        text.push_str(&format!(
            "\n\n{what} encrypted with the PGP key of its holder, who reads it with:\n\n    {}",
            pgp_keys::HOW_TO_DECRYPT
        ));
    }
    session.line(&text)?;
    Ok(SUCCESS)
}

fn init_status(session: &mut Session<'_>, client: &Client, format: Format) -> Outcome {
    let answer =
        client
            .send(Request::get("sys/init"))
            .map_err(|failure| match failure.replacement() {
                Some(_) => failure,
                None => failure
                    .doing("checking whether it is initialised")
                    .with_exit(LOCAL),
            })?;
    let initialised = answer.body["initialized"] == Value::Bool(true);
    match format {
        Format::Table => session.line(if initialised {
            "The server is initialised"
        } else {
            "The server is not initialised"
        })?,
        format => session.print_value(format, &json!({ "initialized": initialised }))?,
    }
    Ok(if initialised { SUCCESS } else { REMOTE })
}

/// Give the server one of its unseal keys
///
/// Without a key as argument it is asked for, without echo. A key on the command line stays in the shell's history.
/// Where the configuration has another kind of seal than before, `-migrate` with every key changes to it.
#[derive(clap::Args)]
pub(super) struct Unseal {
    /// An unseal key, or - to read it from standard input
    key: Option<String>,
    /// Forget the keys that were given so far
    #[arg(long)]
    reset: bool,
    /// Change to the kind of seal that the configuration has now; with unseal keys, or recovery keys to give up a static key
    #[arg(long)]
    migrate: bool,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Unseal {
    const NAME: &'static str = "operator unseal";
    const EXAMPLES: &'static [Example] = &[
        ("Be asked for a key", "obol operator unseal"),
        ("Read a key from a file", "obol operator unseal - < key.txt"),
        ("Begin again", "obol operator unseal -reset"),
        (
            "Change the kind of seal, after the configuration was changed",
            "obol operator unseal -migrate",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::without_token(&self.http, &session.env)?;
        let body = if self.reset {
            json!({ "reset": true })
        } else {
            let key = match self.key.as_deref() {
                Some("-") => session.read_secret("unseal key")?,
                Some(key) => Secret::new(key.trim().to_owned()),
                None => session.ask_secret("unseal key", self.http.non_interactive)?,
            };
            let mut body = json!({ "key": key.expose() });
            if self.migrate {
                body["migrate"] = true.into();
            }
            body
        };
        let answer = client
            .send(Request::put("sys/unseal", body))
            .map_err(|failure| failure.doing("unsealing"))?;
        print_seal_status(session, &client, format, answer.body)?;
        Ok(SUCCESS)
    }
}

/// Seal the server: it forgets its keys and answers nothing until it is unsealed
///
/// Needs a token whose policies grant `update` and `sudo` on sys/seal.
#[derive(clap::Args)]
pub(super) struct Seal {
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Seal {
    const NAME: &'static str = "operator seal";
    const EXAMPLES: &'static [Example] = &[("Seal at once", "obol operator seal")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        client
            .send(Request::put_empty("sys/seal"))
            .map_err(|failure: Failure| failure.doing("sealing"))?;
        session.line("Success! The server is sealed.")?;
        Ok(SUCCESS)
    }
}

/// A key for a step that several people take part in, and the nonce that says which operation they mean. The nonce is
/// shown to whoever is asked for a key, so that they see what they approve; a key that was prepared needs it prepared too.
fn share(
    session: &mut Session<'_>,
    http: &HttpFlags,
    kind: &str,
    key: Option<&str>,
    nonce: Option<&str>,
    status: &Value,
) -> Result<(Secret, String), Failure> {
    let current = status["nonce"].as_str().unwrap_or_default();
    if let Some(nonce) = nonce
        && nonce != current
    {
        return Err(Failure::local(format!(
            "-nonce names another operation than the one under way, which is {current}"
        )));
    }
    let missing = || {
        Failure::local("-nonce is needed where the key is not asked for").hint(format!(
            "The operation under way is {current}. If that is the one you mean: -nonce={current}"
        ))
    };
    let key = match key {
        Some(_) if nonce.is_none() => return Err(missing()),
        Some("-") => session.read_secret(kind)?,
        Some(key) => Secret::new(key.trim().to_owned()),
        None => {
            session.note(&format!("Operation nonce: {current}"));
            session.ask_secret(kind, http.non_interactive)?
        }
    };
    Ok((key, current.to_owned()))
}

/// A table whose rows have the order and the names that Vault's command line gives them.
fn print_rows(session: &mut Session<'_>, rows: Vec<(&str, String)>) -> Outcome {
    let header = vec!["Key".to_owned(), "Value".to_owned()];
    let rows = rows
        .into_iter()
        .map(|(label, value)| vec![label.to_owned(), value]);
    let all = std::iter::once(header).chain(rows).collect();
    session.line(&table(all)).map(|()| SUCCESS)
}

const DEFAULT_SHARES: u16 = 5;
const DEFAULT_THRESHOLD: u16 = 3;
