//! `auth list`, `enable`, `disable`, `tune`.

use super::client::{Client, HttpFlags};
use super::failure::Outcome;
use super::mounts::{self, Family, NewMount, TuneFlags, pairs};
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
    http: HttpFlags,
}

impl Command for Tune {
    const NAME: &'static str = "auth tune";
    const EXAMPLES: &'static [Example] = &[(
        "Logins last eight hours, renewed at most a day",
        "obol auth tune -default-lease-ttl=8h -max-lease-ttl=24h kerberos",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        mounts::tune(
            session,
            &client,
            &AUTH,
            &self.path,
            &self.tune,
            self.token_type.as_deref(),
        )
    }
}
