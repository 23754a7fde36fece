//! `auth list`, `enable`, `disable`, `tune`, `move`, `help`.

use super::client::{Client, HttpFlags, Request};
use super::failure::{Failure, Outcome, SUCCESS};
use super::logical::sanitised;
use super::login;
use super::mounts::{self, Family, LockoutFlags, NewMount, TuneFlags, TuneMore, pairs};
use super::output::{DetailedFlag, FormatFlag};
use super::{Command, Example, Session};

const AUTH: Family = Family {
    api: "sys/auth",
    noun: "auth method",
};

/// List the enabled auth methods
#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    detailed: DetailedFlag,
}

impl Command for List {
    const NAME: &'static str = "auth list";
    const EXAMPLES: &'static [Example] = &[
        ("Paths, types and accessors", "obol auth list"),
        ("With lifetimes and options", "obol auth list -detailed"),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let detailed = self.detailed.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        mounts::list(session, &client, &AUTH, format, detailed)
    }
}

/// Enable an auth method
#[derive(clap::Args)]
pub(super) struct Enable {
    /// What to enable: kerberos, ...
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Where clients find it, below auth/; the type by default
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    #[command(flatten)]
    tune: TuneFlags,
    /// Kind of the tokens that it issues: service, batch, default-service, default-batch
    #[arg(long, value_name = "TYPE")]
    token_type: Option<String>,
    /// Option of the method; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Not to be replicated to other clusters
    #[arg(long)]
    local: bool,
    /// Ask for the seal's own encryption of critical values
    #[arg(long)]
    seal_wrap: bool,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Enable {
    const NAME: &'static str = "auth enable";
    const EXAMPLES: &'static [Example] = &[
        (
            "Log in with Kerberos, at auth/kerberos/",
            "obol auth enable kerberos",
        ),
        (
            "A second one, for another realm",
            "obol auth enable -path=kerberos-lab -description=\"lab realm\" kerberos",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let new = NewMount {
            kind: &self.kind,
            path: self.path.as_deref(),
            tune: &self.tune,
            token_type: self.token_type.as_deref(),
            options: pairs("options", &self.options)?,
            local: self.local,
            seal_wrap: self.seal_wrap,
        };
        mounts::enable(session, &client, &AUTH, new)
    }
}

/// Disable an auth method and revoke every token that it issued
#[derive(clap::Args)]
pub(super) struct Disable {
    path: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Disable {
    const NAME: &'static str = "auth disable";
    const EXAMPLES: &'static [Example] = &[(
        "End all logins at auth/kerberos-lab/",
        "obol auth disable kerberos-lab",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        mounts::disable(session, &client, &AUTH, &self.path)
    }
}

/// Change the lifetimes and other settings of an auth method
#[derive(clap::Args)]
pub(super) struct Tune {
    path: String,
    #[command(flatten)]
    tune: TuneFlags,
    /// Kind of the tokens that it issues: service, batch, default-service, default-batch
    #[arg(long, value_name = "TYPE")]
    token_type: Option<String>,
    #[command(flatten)]
    lockout: LockoutFlags,
    /// Option of the method; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    options: Vec<String>,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Tune {
    const NAME: &'static str = "auth tune";
    const EXAMPLES: &'static [Example] = &[
        (
            "Logins last eight hours, renewed at most a day",
            "obol auth tune -default-lease-ttl=8h -max-lease-ttl=24h kerberos",
        ),
        (
            "Ten wrong passwords lock a name for an hour",
            "obol auth tune -user-lockout-threshold=10 -user-lockout-duration=1h userpass",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        mounts::tune(
            session,
            &client,
            &AUTH,
            &self.path,
            &self.tune,
            TuneMore {
                token_type: self.token_type.as_deref(),
                lockout: Some(&self.lockout),
                options: pairs("options", &self.options)?,
            },
        )
    }
}

/// Move an auth method to another path; the tokens that it has issued are revoked
///
/// Users, roles and settings move with it. Policies that name the old path stay as they are.
#[derive(clap::Args)]
pub(super) struct Move {
    /// Where it is, with auth/ or without
    #[arg(value_name = "FROM")]
    from: String,
    #[arg(value_name = "TO")]
    to: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Move {
    const NAME: &'static str = "auth move";
    const EXAMPLES: &'static [Example] = &[(
        "Give it its final name",
        "obol auth move kerberos-lab kerberos",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        mounts::r#move(session, &client, &AUTH, &self.from, &self.to)
    }
}

/// Show how to log in with an auth method
#[derive(clap::Args)]
pub(super) struct Help {
    /// A type (kerberos, userpass ...), or the path of an enabled method
    #[arg(value_name = "TYPE|PATH")]
    method: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Help {
    const NAME: &'static str = "auth help";
    const EXAMPLES: &'static [Example] = &[("With Kerberos", "obol auth help kerberos")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let name = sanitised(&self.method);
        if let Some(help) = login::help_of(name) {
            return session.line(help).map(|()| SUCCESS);
        }
        let client = Client::new(&self.http, &session.env)?;
        let answer = client
            .send(Request::get("sys/auth"))
            .map_err(|failure| failure.doing("listing every auth method"))?;
        let path = name.strip_prefix("auth/").unwrap_or(name);
        let mount = answer.data().get(&format!("{path}/"));
        let kind = mount.and_then(|mount| mount["type"].as_str());
        let Some(kind) = kind else {
            return Err(Failure::remote(format!(
                "there is no auth method at {path}/, and none of the type {path}"
            )));
        };
        match login::help_of(kind) {
            Some(help) => session.line(&format!("{path}/ is of the type {kind}. {help}"))?,
            None => session.line(&format!(
                "{path}/ is of the type {kind}, which logs in through the API: \
                 obol path-help auth/{path}/login"
            ))?,
        }
        if path != kind {
            session.line(&format!(
                "\nWith -path={path}, as it has a name of its own."
            ))?;
        }
        Ok(SUCCESS)
    }
}
