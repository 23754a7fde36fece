//! `token lookup`, `create`, `renew`, `revoke`, `capabilities`.

use obol_mount::Secret;
use serde_json::{Value, json};

use super::answer::AnswerFlags;
use super::client::{Client, HttpFlags, Request, seconds};
use super::failure::{Failure, Outcome, SUCCESS};
use super::logical::sanitised;
use super::mounts::pairs;
use super::output::{Format, FormatFlag};
use super::token_store::TokenStore;
use super::{Command, Example, Session};

/// Show what the server knows about a token: its policies, its lifetime, how it came to be
#[derive(clap::Args)]
pub(super) struct Lookup {
    /// A token, or its accessor with -accessor, or - for standard input; without it, the token of this shell
    #[arg(value_name = "TOKEN|ACCESSOR")]
    token: Option<String>,
    /// The argument is an accessor
    #[arg(long)]
    accessor: bool,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for Lookup {
    const NAME: &'static str = "token lookup";
    const EXAMPLES: &'static [Example] = &[
        ("Who am I?", "obol token lookup"),
        (
            "Of another token, by its accessor",
            "obol token lookup -accessor 9793c9b3-e04a-46f3-e7b8-748d7da248da",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let (client, show) = self.answer.open(session)?;
        let request = match subject(session, self.token.as_deref(), self.accessor)? {
            Subject::Own => Request::get("auth/token/lookup-self"),
            Subject::Token(token) => {
                Request::post("auth/token/lookup", json!({ "token": token.expose() }))
            }
            Subject::Accessor(accessor) => Request::post(
                "auth/token/lookup-accessor",
                json!({ "accessor": accessor }),
            ),
        };
        let answer = client
            .send(request)
            .map_err(|failure| failure.doing("looking up the token"))?;
        show.secret(session, &answer.body)
    }
}

/// Make a token, a child of the token of this shell
///
/// Without -policy it gets the policies of its parent. It ends with its parent, unless -orphan is given.
#[derive(clap::Args)]
pub(super) struct Create {
    /// Policy of the token; may be repeated
    #[arg(long, value_name = "NAME")]
    policy: Vec<String>,
    /// How long it lives before it must be renewed: 30m, 8h
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// How long it may live at all, renewals or not
    #[arg(long, value_name = "DURATION")]
    explicit_max_ttl: Option<String>,
    /// Renewed for so long each time, without an end
    #[arg(long, value_name = "DURATION")]
    period: Option<String>,
    /// service, which can be renewed and revoked, or batch, which is stored nowhere
    #[arg(long = "type", value_name = "service|batch")]
    kind: Option<String>,
    /// Whether it can be renewed, true by default
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    renewable: Option<bool>,
    /// It does not end with its parent
    #[arg(long)]
    orphan: bool,
    /// Without the policy "default"
    #[arg(long)]
    no_default_policy: bool,
    /// A name for logs, not a secret
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// How often it can be used; 0 for no limit
    #[arg(long, value_name = "N")]
    use_limit: Option<u64>,
    /// A note on the token, for the audit log; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// Make it by this role
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Name it after this alias of the role's list
    #[arg(long, value_name = "NAME")]
    entity_alias: Option<String>,
    /// The token itself, instead of one that the server makes up. Needs sudo; it stays in the shell's history
    #[arg(long, value_name = "TOKEN")]
    id: Option<String>,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for Create {
    const NAME: &'static str = "token create";
    const EXAMPLES: &'static [Example] = &[
        (
            "For an application, eight hours",
            "obol token create -policy=app -ttl=8h -display-name=app",
        ),
        (
            "A token for a script, alone on the line",
            "obol token create -policy=ci -type=batch -ttl=15m -field=token",
        ),
        (
            "One that outlives you and can be used twice",
            "obol token create -orphan -use-limit=2 -policy=app",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let (client, show) = self.answer.open(session)?;
        let mut body = json!({});
        for (key, flag, value) in [
            ("ttl", "ttl", &self.ttl),
            (
                "explicit_max_ttl",
                "explicit-max-ttl",
                &self.explicit_max_ttl,
            ),
            ("period", "period", &self.period),
        ] {
            if let Some(value) = value {
                body[key] = seconds(flag, value)?;
            }
        }
        for (key, value) in [
            ("type", &self.kind),
            ("display_name", &self.display_name),
            ("entity_alias", &self.entity_alias),
            ("id", &self.id),
        ] {
            if let Some(value) = value {
                body[key] = json!(value);
            }
        }
        if !self.policy.is_empty() {
            body["policies"] = json!(self.policy);
        }
        if !self.metadata.is_empty() {
            body["meta"] = Value::Object(pairs("metadata", &self.metadata)?);
        }
        if let Some(limit) = self.use_limit {
            body["num_uses"] = json!(limit);
        }
        if let Some(renewable) = self.renewable {
            body["renewable"] = json!(renewable);
        }
        for (key, value) in [
            ("no_parent", self.orphan),
            ("no_default_policy", self.no_default_policy),
        ] {
            if value {
                body[key] = json!(true);
            }
        }
        let path = match &self.role {
            Some(role) => format!("auth/token/create/{}", sanitised(role)),
            None => "auth/token/create".to_owned(),
        };
        let answer = client
            .send(Request::post(path, body))
            .map_err(|failure| failure.doing("creating the token"))?;
        show.secret(session, &answer.body)
    }
}

/// Renew a token, up to its longest lifetime
#[derive(clap::Args)]
pub(super) struct Renew {
    /// A token, or its accessor with -accessor, or - for standard input; without it, the token of this shell
    #[arg(value_name = "TOKEN|ACCESSOR")]
    token: Option<String>,
    /// The argument is an accessor
    #[arg(long)]
    accessor: bool,
    /// For how long, where the server lets it be asked for
    #[arg(long, visible_alias = "i", value_name = "DURATION")]
    increment: Option<String>,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Command for Renew {
    const NAME: &'static str = "token renew";
    const EXAMPLES: &'static [Example] = &[
        ("Stay logged in", "obol token renew"),
        ("Ask for one more hour", "obol token renew -increment=1h"),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let (client, show) = self.answer.open(session)?;
        let mut body = json!({});
        if let Some(increment) = &self.increment {
            body["increment"] = seconds("increment", increment)?;
        }
        let path = match subject(session, self.token.as_deref(), self.accessor)? {
            Subject::Own => "auth/token/renew-self",
            Subject::Token(token) => {
                body["token"] = json!(token.expose());
                "auth/token/renew"
            }
            Subject::Accessor(accessor) => {
                body["accessor"] = json!(accessor);
                "auth/token/renew-accessor"
            }
        };
        let answer = client
            .send(Request::put(path, body))
            .map_err(|failure| failure.doing("renewing the token"))?;
        show.secret(session, &answer.body)
    }
}

/// Revoke a token, with everything that was made by it
#[derive(clap::Args)]
pub(super) struct Revoke {
    /// A token, or its accessor with -accessor, or a path with -mode=path, or - for standard input
    #[arg(value_name = "TOKEN|ACCESSOR|PATH")]
    token: Option<String>,
    /// The argument is an accessor
    #[arg(long)]
    accessor: bool,
    /// The token of this shell; a kept copy goes too
    #[arg(long = "self")]
    own: bool,
    /// orphan: leave its children alive; path: revoke every token that was made at this path
    #[arg(long, value_name = "orphan|path", value_parser = ["orphan", "path"], hide_possible_values = true)]
    mode: Option<String>,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Revoke {
    const NAME: &'static str = "token revoke";
    const EXAMPLES: &'static [Example] = &[
        ("Log out", "obol token revoke -self"),
        (
            "Somebody's token, by its accessor",
            "obol token revoke -accessor 9793c9b3-e04a-46f3-e7b8-748d7da248da",
        ),
        (
            "All logins of an auth method",
            "obol token revoke -mode=path auth/kerberos",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let doing = |failure: Failure| failure.doing("revoking the token");
        if self.own {
            if self.token.is_some() || self.accessor || self.mode.is_some() {
                return Err(Failure::local(
                    "-self takes no argument, -accessor or -mode",
                ));
            }
            client
                .send(Request::put_empty("auth/token/revoke-self"))
                .map_err(doing)?;
            if let Some(token) = &client.token {
                TokenStore::of(&session.env, client.address())?.forget(&token.secret)?;
            }
            session.line("Success! Revoked token (if it existed)")?;
            return Ok(SUCCESS);
        }
        let request = match (
            self.mode.as_deref(),
            subject(session, self.token.as_deref(), self.accessor)?,
        ) {
            (_, Subject::Own) => {
                return Err(Failure::local(
                    "which token? Name it, or its accessor with -accessor, or give -self",
                ));
            }
            (Some(_), Subject::Accessor(_)) => {
                return Err(Failure::local("-accessor and -mode exclude each other"));
            }
            (Some("path"), Subject::Token(path)) => Request::put_empty(format!(
                "sys/leases/revoke-prefix/{}",
                sanitised(path.expose())
            )),
            (Some(_), Subject::Token(token)) => Request::put(
                "auth/token/revoke-orphan",
                json!({ "token": token.expose() }),
            ),
            (None, Subject::Token(token)) => {
                Request::put("auth/token/revoke", json!({ "token": token.expose() }))
            }
            (None, Subject::Accessor(accessor)) => Request::put(
                "auth/token/revoke-accessor",
                json!({ "accessor": accessor }),
            ),
        };
        client.send(request).map_err(doing)?;
        session.line("Success! Revoked token (if it existed)")?;
        Ok(SUCCESS)
    }
}

/// Show what a token may do at a path
#[derive(clap::Args)]
pub(super) struct Capabilities {
    /// [TOKEN] PATH; without a token, the token of this shell. With -accessor: ACCESSOR PATH
    #[arg(value_name = "TOKEN PATH", num_args = 1..=2, required = true)]
    arguments: Vec<String>,
    /// The first argument is an accessor
    #[arg(long)]
    accessor: bool,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Capabilities {
    const NAME: &'static str = "token capabilities";
    const EXAMPLES: &'static [Example] = &[
        ("May I?", "obol token capabilities secret/data/app/db"),
        (
            "May they?",
            "obol token capabilities -accessor 9793c9b3-e04a-46f3-e7b8-748d7da248da secret/data/app/db",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let (whose, path) = match self.arguments.as_slice() {
            [path] => (None, path),
            [whose, path] => (Some(whose.as_str()), path),
            _ => return Err(Failure::local("too many arguments: [TOKEN] PATH")),
        };
        let request = match subject(session, whose, self.accessor)? {
            Subject::Own => Request::post("sys/capabilities-self", json!({ "paths": [path] })),
            Subject::Token(token) => Request::post(
                "sys/capabilities",
                json!({ "token": token.expose(), "paths": [path] }),
            ),
            Subject::Accessor(accessor) => Request::post(
                "sys/capabilities-accessor",
                json!({ "accessor": accessor, "paths": [path] }),
            ),
        };
        let answer = client
            .send(request)
            .map_err(|failure| failure.doing(format!("listing the capabilities on {path}")))?;
        let found = answer
            .data()
            .get(path.as_str())
            .or_else(|| answer.data().get("capabilities"));
        let mut capabilities: Vec<&str> = found
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if capabilities.is_empty() {
            return Err(Failure::remote(format!(
                "the answer holds no capabilities for {path}"
            )));
        }
        capabilities.sort_unstable();
        match format {
            Format::Table => session.line(&capabilities.join(", "))?,
            format => session.print_value(format, &json!(capabilities))?,
        }
        Ok(SUCCESS)
    }
}

/// Whom a command is about.
enum Subject {
    Own,
    Token(Secret),
    Accessor(String),
}

fn subject(
    session: &mut Session<'_>,
    argument: Option<&str>,
    accessor: bool,
) -> Result<Subject, Failure> {
    let secret = match argument {
        None if accessor => return Err(Failure::local("-accessor needs an accessor as argument")),
        None => return Ok(Subject::Own),
        Some("-") => session.read_secret("token")?,
        Some(text) => Secret::new(text.trim().to_owned()),
    };
    if secret.is_empty() {
        return Err(Failure::local("the token is empty"));
    }
    Ok(if accessor {
        Subject::Accessor(secret.expose().to_owned())
    } else {
        Subject::Token(secret)
    })
}
