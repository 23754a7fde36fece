//! The command line `obol`: Vault's verbs, flags, variables and exit statuses over the HTTP API.
//!
//! A command is a struct whose fields are its arguments, with an implementation of [`Command`], in the file of its
//! group; and one line in [`COMMANDS`]. Help, parsing and the check of its examples derive from these.

mod answer;
mod args;
mod audit;
mod auth;
mod check;
mod client;
mod completion;
mod data;
mod debug;
mod dev_banner;
mod env;
mod failure;
mod files;
mod interrupt;
mod kerberos;
mod kv;
mod lease;
mod logical;
mod login;
mod mounts;
mod observe;
mod operator;
mod output;
mod policy;
mod print;
mod prompt;
mod secrets;
mod server;
mod status;
mod token;
mod token_store;
mod version;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

pub use dev_banner::dev_banner;
use env::{Env, VARIABLES};
use failure::{Failure, LOCAL, Outcome, SUCCESS};

/// Every command, in the order in which help lists them. To add one: its struct in the file of its group, a line here.
const COMMANDS: &[Entry] = &[
    entry::<login::Login>(),
    entry::<logical::Read>(),
    entry::<logical::Write>(),
    entry::<logical::Patch>(),
    entry::<logical::Delete>(),
    entry::<logical::List>(),
    entry::<logical::Unwrap>(),
    entry::<logical::PathHelp>(),
    entry::<print::PrintToken>(),
    entry::<kv::data::Get>(),
    entry::<kv::data::Put>(),
    entry::<kv::changes::Patch>(),
    entry::<kv::changes::Rollback>(),
    entry::<kv::data::List>(),
    entry::<kv::data::Delete>(),
    entry::<kv::versions::Undelete>(),
    entry::<kv::versions::Destroy>(),
    entry::<secrets::EnableVersioning>(),
    entry::<kv::metadata::Get>(),
    entry::<kv::metadata::Put>(),
    entry::<kv::metadata::Patch>(),
    entry::<kv::metadata::Delete>(),
    entry::<lease::Lookup>(),
    entry::<lease::Renew>(),
    entry::<lease::Revoke>(),
    entry::<token::Lookup>(),
    entry::<token::Create>(),
    entry::<token::Renew>(),
    entry::<token::Revoke>(),
    entry::<token::Capabilities>(),
    entry::<policy::List>(),
    entry::<policy::Read>(),
    entry::<policy::Write>(),
    entry::<policy::Delete>(),
    entry::<policy::Fmt>(),
    entry::<auth::List>(),
    entry::<auth::Enable>(),
    entry::<auth::Disable>(),
    entry::<auth::Tune>(),
    entry::<auth::Move>(),
    entry::<auth::Help>(),
    entry::<secrets::List>(),
    entry::<secrets::Enable>(),
    entry::<secrets::Disable>(),
    entry::<secrets::Tune>(),
    entry::<secrets::Move>(),
    entry::<audit::List>(),
    entry::<audit::Enable>(),
    entry::<audit::Disable>(),
    entry::<kerberos::doctor::Doctor>(),
    entry::<kerberos::keytab::Inspect>(),
    entry::<status::Status>(),
    entry::<operator::Init>(),
    entry::<operator::Unseal>(),
    entry::<operator::Seal>(),
    entry::<operator::rekey::Rekey>(),
    entry::<operator::generate_root::GenerateRoot>(),
    entry::<operator::rotate::Rotate>(),
    entry::<operator::rotate::KeyStatus>(),
    entry::<operator::rotate::StepDown>(),
    entry::<operator::backup::Backup>(),
    entry::<operator::backup::Restore>(),
    entry::<operator::backup::RaftSave>(),
    entry::<operator::backup::RaftRestore>(),
    entry::<operator::usage::Usage>(),
    entry::<check::Check>(),
    entry::<server::Server>(),
    entry::<observe::PluginList>(),
    entry::<observe::PluginInfo>(),
    entry::<observe::Monitor>(),
    entry::<observe::VersionHistory>(),
    entry::<debug::Debug>(),
    entry::<observe::Namespace>(),
    entry::<completion::Completion>(),
    entry::<version::Version>(),
];

/// The words that stand before commands.
const GROUPS: &[(&str, &str)] = &[
    ("kv", "Secrets of the key-value engine, version 1 or 2"),
    (
        "kv metadata",
        "What the engine knows about a secret: versions, times, limits",
    ),
    (
        "lease",
        "Leases: what was handed out for a time, renewed or taken back",
    ),
    ("print", "What the other commands would use"),
    ("token", "Tokens: look up, create, renew, revoke"),
    ("policy", "Policies: who may do what"),
    ("auth", "Auth methods: how clients log in"),
    ("secrets", "Secrets engines: where secrets live"),
    ("audit", "Audit devices: where every request is recorded"),
    ("plugin", "What can be enabled"),
    (
        "kerberos",
        "Setting up the Kerberos login: find faults, look into keytabs",
    ),
    ("kerberos keytab", "Files of service keys"),
    (
        "operator",
        "Running a server: initialise, unseal, seal, new keys, backups",
    ),
    ("operator raft", "Vault's names for backups"),
    ("operator raft snapshot", "Vault's names for backups"),
];

/// Runs the command line (`args_os()`, the program's name first) and gives the exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Result<Vec<String>, OsString> = args
        .into_iter()
        .skip(1)
        .map(OsString::into_string)
        .collect();
    let mut session = Session {
        env: Env::of_process(),
        stdin: Box::new(std::io::stdin()),
        stdin_is_terminal: std::io::stdin().is_terminal(),
        stdout: Box::new(std::io::stdout()),
        stdout_is_terminal: std::io::stdout().is_terminal(),
        stderr: Box::new(std::io::stderr()),
        stderr_is_terminal: std::io::stderr().is_terminal(),
        words: Vec::new(),
    };
    let status = match words {
        Ok(words) => execute(words, &mut session),
        Err(_) => report(
            &Failure::local("the arguments must be UTF-8 text"),
            &mut session,
        ),
    };
    ExitCode::from(status)
}

/// The command line as the handbook shows it: each command's name, and its help.
pub fn manual() -> Vec<(String, String)> {
    let root = tree();
    COMMANDS
        .iter()
        .map(|entry| {
            let mut command = &root;
            for word in entry.name.split(' ') {
                command = command
                    .find_subcommand(word)
                    .expect("the tree is made of these entries");
            }
            // At a width of its own, whatever the terminal's is.
            let mut command = command.clone().term_width(MAX_WIDTH);
            (entry.name.to_owned(), command.render_help().to_string())
        })
        .collect()
}

/// A command of the line.
trait Command: clap::Args {
    /// The words after `obol`: "kv get".
    const NAME: &'static str;
    /// At least one. Help shows them, and a test checks that each is understood.
    const EXAMPLES: &'static [Example];

    fn run(self, session: &mut Session<'_>) -> Outcome;
}

/// What a line does, and the line: `obol kv get secret/app`.
type Example = (&'static str, &'static str);

/// What surrounds a command: its environment, its streams.
struct Session<'a> {
    env: Env,
    stdin: Box<dyn Read + 'a>,
    stdin_is_terminal: bool,
    stdout: Box<dyn Write + 'a>,
    stdout_is_terminal: bool,
    stderr: Box<dyn Write + 'a>,
    stderr_is_terminal: bool,
    /// The command line after `obol`, for the one command that starts the program anew.
    words: Vec<String>,
}

struct Entry {
    name: &'static str,
    examples: &'static [Example],
    describe: fn(clap::Command) -> clap::Command,
    run: fn(&ArgMatches, &mut Session<'_>) -> Outcome,
}

const fn entry<C: Command>() -> Entry {
    Entry {
        name: C::NAME,
        examples: C::EXAMPLES,
        describe: C::augment_args,
        run: |matches, session| match C::from_arg_matches(matches) {
            Ok(command) => command.run(session),
            Err(error) => Err(Failure::local(error.to_string())),
        },
    }
}

fn execute(words: Vec<String>, session: &mut Session<'_>) -> u8 {
    let root = tree();
    session.words = words;
    let matches = match args::normalise(&root, &session.words) {
        Ok(words) => root
            .clone()
            .try_get_matches_from(std::iter::once("obol".to_owned()).chain(words)),
        Err(failure) => return report(&failure, session),
    };
    let matches = match matches {
        Ok(matches) => matches,
        Err(error) => return usage(&error, session),
    };
    let (name, matches) = leaf(&matches);
    let entry = COMMANDS
        .iter()
        .find(|entry| entry.name == name)
        .expect("the tree is made of these entries");
    match (entry.run)(matches, session) {
        Ok(status) => status,
        Err(failure) => report(&failure, session),
    }
}

fn report(failure: &Failure, session: &mut Session<'_>) -> u8 {
    if let Some(text) = failure.replacement() {
        return match session.line(text) {
            Ok(()) => failure.exit(),
            Err(failure) => report(&failure, session),
        };
    }
    if !failure.is_quiet() {
        session.note(&failure.to_string());
    }
    failure.exit()
}

/// clap's own answers: help, and what is wrong with the line. Arguments are not repeated: one too many may be a key
/// share or a token that was pasted in the wrong place.
fn usage(error: &clap::Error, session: &mut Session<'_>) -> u8 {
    if error.kind() == ErrorKind::DisplayHelp {
        return match session.line(error.to_string().trim_end()) {
            Ok(()) => SUCCESS,
            Err(failure) => report(&failure, session),
        };
    }
    let is_flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.starts_with('-'),
        _ => false,
    };
    let text = match error.kind() {
        ErrorKind::UnknownArgument if !is_flag => {
            "error: too many arguments\n\nFor more information, try '--help'.".to_owned()
        }
        _ => error.to_string(),
    };
    session.note(text.trim_end());
    LOCAL
}

fn leaf(matches: &ArgMatches) -> (String, &ArgMatches) {
    let mut name = String::new();
    let mut matches = matches;
    while let Some((word, below)) = matches.subcommand() {
        if !name.is_empty() {
            name.push(' ');
        }
        name.push_str(word);
        matches = below;
    }
    (name, matches)
}

/// The tree of [`COMMANDS`] as clap reads it.
fn tree() -> clap::Command {
    let variables: Vec<String> = VARIABLES
        .iter()
        .map(|(name, about)| format!("  {:<26}{about}", format!("VAULT_{name}")))
        .collect();
    let root = clap::Command::new("obol")
        .about("A secrets and auth server that speaks Vault's HTTP API, Kerberos first")
        .max_term_width(MAX_WIDTH)
        .after_help(format!(
            "Flags may be written -flag or --flag, -flag=value or -flag value, before or after the arguments.\n\
             `obol help COMMAND` and `obol COMMAND -h` tell more, with examples.\n\n\
             Environment (each also with OBOL_ in place of VAULT_, which wins):\n{}\n\n\
             Exit status: 0 success, 1 a mistake on this side, 2 the server refused or was not reached.",
            variables.join("\n")
        ));
    let mut root = with_children(root, "");
    root.build();
    root
}

fn with_children(parent: clap::Command, prefix: &str) -> clap::Command {
    let mut parent = parent
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand_value_name("COMMAND")
        .subcommand_help_heading("Commands")
        // `auth help METHOD` is a command of its own, in the place of clap's.
        .disable_help_subcommand(
            COMMANDS
                .iter()
                .any(|entry| entry.name == format!("{prefix}help")),
        );
    let mut seen: Vec<&str> = Vec::new();
    for entry in COMMANDS {
        let Some(rest) = entry.name.strip_prefix(prefix) else {
            continue;
        };
        let word = rest.split(' ').next().unwrap_or(rest);
        if seen.contains(&word) {
            continue;
        }
        seen.push(word);
        let child = clap::Command::new(word).max_term_width(MAX_WIDTH);
        let child = if word == rest {
            (entry.describe)(child)
                .args_override_self(true)
                .after_help(examples(entry))
        } else {
            let name = format!("{prefix}{word}");
            let about = GROUPS
                .iter()
                .find(|(group, _)| *group == name)
                .map_or("", |(_, about)| about);
            with_children(child.about(about), &format!("{name} "))
        };
        parent = parent.subcommand(child);
    }
    parent
}

fn examples(entry: &Entry) -> String {
    let blocks: Vec<String> = entry
        .examples
        .iter()
        .map(|(about, line)| format!("  {about}:\n\n      $ {line}"))
        .collect();
    format!("EXAMPLES\n\n{}", blocks.join("\n\n"))
}

const MAX_WIDTH: usize = 110;
