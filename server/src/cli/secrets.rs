//! `secrets list`, `enable`, `disable`, `tune`, `move`.

use serde_json::json;

use super::client::{Client, HttpFlags};
use super::failure::Outcome;
use super::mounts::{self, Family, NewMount, TuneFlags, TuneMore, pairs};
use super::output::{DetailedFlag, FormatFlag};
use super::{Command, Example, Session};

const SECRETS: Family = Family {
    api: "sys/mounts",
    noun: "secrets engine",
};

/// List the enabled secrets engines
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
    const NAME: &'static str = "secrets list";
    const EXAMPLES: &'static [Example] = &[
        ("Paths, types and accessors", "obol secrets list"),
        ("With lifetimes and options", "obol secrets list -detailed"),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let detailed = self.detailed.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        mounts::list(session, &client, &SECRETS, format, detailed)
    }
}

/// Enable a secrets engine
#[derive(clap::Args)]
pub(super) struct Enable {
    /// What to enable: kv, kv-v2, ...
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Where it is mounted; the type by default
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Version of the engine: kv has 1 and 2
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    #[command(flatten)]
    tune: TuneFlags,
    /// Option of the engine; may be repeated
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
    const NAME: &'static str = "secrets enable";
    const EXAMPLES: &'static [Example] = &[
        (
            "Key-value secrets with versions, at team/",
            "obol secrets enable -path=team -version=2 kv",
        ),
        ("The same at kv-v2/", "obol secrets enable kv-v2"),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let mut options = pairs("options", &self.options)?;
        // Vault's shorthand for the versions of kv: the mount keeps its name, the type is kv.
        let (kind, implied) = match self.kind.trim() {
            "kv-v1" => ("kv", Some(1)),
            "kv-v2" => ("kv", Some(2)),
            kind => (kind, None),
        };
        if let Some(version) = self.version.or(implied) {
            options.insert("version".to_owned(), json!(version.to_string()));
        }
        let new = NewMount {
            kind,
            path: self.path.as_deref().or(Some(self.kind.trim())),
            tune: &self.tune,
            token_type: None,
            options,
            local: self.local,
            seal_wrap: self.seal_wrap,
        };
        mounts::enable(session, &client, &SECRETS, new)
    }
}

/// Disable a secrets engine, delete its data and revoke its leases
#[derive(clap::Args)]
pub(super) struct Disable {
    path: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Disable {
    const NAME: &'static str = "secrets disable";
    const EXAMPLES: &'static [Example] = &[(
        "Delete everything below team/",
        "obol secrets disable team/",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        mounts::disable(session, &client, &SECRETS, &self.path)
    }
}

/// Change the lifetimes and other settings of a secrets engine
#[derive(clap::Args)]
pub(super) struct Tune {
    path: String,
    #[command(flatten)]
    tune: TuneFlags,
    /// Version of the engine: 2 turns version 1 of kv into version 2
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// Option of the engine; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    options: Vec<String>,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Tune {
    const NAME: &'static str = "secrets tune";
    const EXAMPLES: &'static [Example] = &[(
        "Another note for people",
        "obol secrets tune -description=\"payments team\" team/",
    )];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let mut options = pairs("options", &self.options)?;
        if let Some(version) = self.version {
            options.insert("version".to_owned(), json!(version.to_string()));
        }
        let more = TuneMore {
            options,
            ..TuneMore::default()
        };
        mounts::tune(session, &client, &SECRETS, &self.path, &self.tune, more)
    }
}

/// Move a secrets engine to another path; the leases that it has given out are revoked
///
/// Its data moves with it. Policies that name the old path stay as they are.
#[derive(clap::Args)]
pub(super) struct Move {
    #[arg(value_name = "FROM")]
    from: String,
    #[arg(value_name = "TO")]
    to: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Move {
    const NAME: &'static str = "secrets move";
    const EXAMPLES: &'static [Example] =
        &[("Give it its final name", "obol secrets move kv-new/ kv/")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        mounts::r#move(session, &client, &SECRETS, &self.from, &self.to)
    }
}

/// Turn version 1 of the kv engine into version 2, which keeps older versions
#[derive(clap::Args)]
pub(super) struct EnableVersioning {
    path: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for EnableVersioning {
    const NAME: &'static str = "kv enable-versioning";
    const EXAMPLES: &'static [Example] = &[("Of a whole mount", "obol kv enable-versioning kv/")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let client = Client::new(&self.http, &session.env)?;
        let more = TuneMore {
            options: pairs("options", &["version=2".to_owned()])?,
            ..TuneMore::default()
        };
        mounts::tune(
            session,
            &client,
            &SECRETS,
            &self.path,
            &TuneFlags::default(),
            more,
        )
    }
}
