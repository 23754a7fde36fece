//! Help, examples, usage errors.

use std::collections::BTreeSet;

use super::harness::{Shell, split};
use crate::cli::{COMMANDS, GROUPS, args, tree};

/// The obol command of an example: behind a pipe or inside `$(...)`, before a redirection.
fn command_line(example: &str) -> Vec<String> {
    let line = example.rsplit(" | ").next().unwrap();
    let line = line
        .split(" < ")
        .next()
        .unwrap()
        .split(" > ")
        .next()
        .unwrap();
    let line = match line.split_once("$(") {
        Some((_, inner)) => inner.trim_end_matches(')'),
        None => line,
    };
    let mut words = split(line);
    assert_eq!(words.remove(0), "obol", "{example}");
    words
}

#[test]
fn every_command_has_examples_that_it_understands() {
    let root = tree();
    for entry in COMMANDS {
        assert!(!entry.examples.is_empty(), "{} has no example", entry.name);
        for (about, line) in entry.examples {
            let words = args::normalise(&root, &command_line(line)).unwrap();
            let parsed = root
                .clone()
                .try_get_matches_from(std::iter::once("obol".to_owned()).chain(words));
            let matches = parsed.unwrap_or_else(|error| panic!("{line}\n{error}"));
            let (name, _) = crate::cli::leaf(&matches);
            assert_eq!(name, entry.name, "{line}");
            assert!(!about.ends_with(['.', ':']), "{about}");
        }
    }
}

#[test]
fn every_command_and_group_says_what_it_is_for_and_shows_its_examples() {
    let shell = Shell::empty();
    for entry in COMMANDS {
        let help = shell.run(&format!("{} -h", entry.name)).ok().out;
        assert!(help.contains("EXAMPLES"), "{help}");
        assert!(help.contains(entry.examples[0].1), "{help}");
        let first = help.lines().next().unwrap_or_default();
        assert!(
            !first.is_empty() && !first.starts_with("Usage"),
            "{}: {help}",
            entry.name
        );
        let long = shell.run(&format!("help {}", entry.name)).ok().out;
        assert!(long.contains("EXAMPLES"), "{long}");
    }
    for (group, about) in GROUPS {
        let help = shell.run(&format!("{group} -help")).ok().out;
        assert!(help.contains(about), "{help}");
        let below = format!("{group} ");
        let count = COMMANDS
            .iter()
            .filter(|entry| entry.name.starts_with(&below))
            .count();
        assert!(count > 0, "the group {group} is empty");
    }
}

/// `-field` and `-format` as Vault's pages on its commands have them: `-field` where one thing is answered, never on a
/// listing. What is marked has one of them in Obol alone.
#[test]
fn field_and_format_stand_where_vault_documents_them() {
    const BOTH: &[&str] = &[
        "login",
        "read",
        "write",
        "patch",
        "delete",
        "unwrap",
        "kv get",
        "kv put",
        "kv patch",
        "kv rollback",     // ours: it answers as kv put does
        "kv metadata get", // ours
        "lease lookup",    // ours
        "lease renew",     // ours
        "token create",
        "token lookup", // ours
        "token renew",  // ours
        "plugin info",
    ];
    const FORMAT: &[&str] = &[
        "list",
        "path-help",
        "kv list",
        "kv delete",
        "kv undelete",
        "kv destroy",
        "kv metadata put",
        "kv metadata patch",
        "kv metadata delete",
        "lease revoke", // ours
        "token capabilities",
        "policy list",
        "policy read",
        "auth list",
        "secrets list",
        "audit list",
        "kerberos doctor",         // ours
        "kerberos keytab inspect", // ours
        "status",
        "operator init",
        "operator unseal",
        "operator rekey",
        "operator generate-root",
        "operator rotate",
        "operator key-status",
        "operator usage",
        "operator check", // ours
        "plugin list",
        "print token", // ours
        "version-history",
        "version", // ours
    ];
    let root = tree();
    let with = |flag: &str| -> BTreeSet<&str> {
        let leaf = |name: &str| {
            let find = |command: &clap::Command, word| command.find_subcommand(word).cloned();
            name.split(' ')
                .try_fold(root.clone(), |command, word| find(&command, word))
        };
        let has = |name: &&str| args::find(&leaf(name).unwrap(), flag).is_some();
        COMMANDS
            .iter()
            .map(|entry| entry.name)
            .filter(has)
            .collect()
    };
    let wanted =
        "a new command goes into the list that Vault's page on it says, or is marked as ours";
    assert_eq!(with("field"), BOTH.iter().copied().collect(), "{wanted}");
    let format = BOTH.iter().chain(FORMAT).copied();
    assert_eq!(with("format"), format.collect(), "{wanted}");
}

#[test]
fn every_group_is_described() {
    for entry in COMMANDS {
        if let Some((group, _)) = entry.name.rsplit_once(' ') {
            assert!(
                GROUPS.iter().any(|(name, _)| *name == group),
                "{group} is missing from GROUPS"
            );
        }
    }
}

#[test]
fn the_tree_is_sound() {
    tree().debug_assert();
}

#[test]
fn help_without_a_command_lists_commands_and_variables() {
    let shell = Shell::empty();
    for line in ["-h", "--help", "help"] {
        let help = shell.run(line).ok().out;
        for word in ["login", "operator", "VAULT_ADDR", "OBOL_", "Exit status"] {
            assert!(help.contains(word), "{word} is missing:\n{help}");
        }
    }
    assert_eq!(shell.run("").status, 1);
}

#[test]
fn an_unknown_command_is_answered_with_a_suggestion() {
    let shell = Shell::empty();
    shell.run("lgoin").failed(1, "`obol login`");
    shell.run("kv gte secret/x").failed(1, "`obol kv get`");
    shell.run("kv frobnicate").failed(1, "undelete");
    shell
        .run("-address=http://x status")
        .failed(1, "come after");
    shell
        .run("kv get -fromat=json secret/x")
        .failed(1, "--format");
}

#[test]
fn an_argument_too_many_is_not_repeated() {
    let ran = Shell::empty()
        .run("operator unseal key1 s3cret-key2")
        .failed(1, "too many arguments");
    assert!(!ran.err.contains("s3cret"), "{}", ran.err);
}

#[test]
fn the_version_is_printed_in_three_spellings() {
    let shell = Shell::empty();
    let version = shell.run("version").ok().out;
    assert!(version.starts_with("Obol v"), "{version}");
    for line in ["-v", "-version", "--version"] {
        assert_eq!(shell.run(line).ok().out, version);
    }
    let json = shell.run("version -format=json").ok().out;
    assert!(json.contains("\"version\""), "{json}");
}

#[test]
fn the_environment_may_choose_the_format_and_a_flag_wins() {
    let shell = Shell::empty().set("VAULT_FORMAT", "JSON");
    assert!(shell.run("version").ok().out.starts_with('{'));
    assert!(
        shell
            .run("version -format=table")
            .ok()
            .out
            .starts_with("Obol")
    );
    let shell = shell.set("OBOL_FORMAT", "yaml");
    assert!(shell.run("version").ok().out.starts_with("version:"));
    shell
        .set("OBOL_FORMAT", "xml")
        .run("version")
        .failed(1, "OBOL_FORMAT");
}

#[test]
fn a_server_needs_a_configuration_or_dev() {
    let shell = Shell::empty();
    shell.run("server").failed(1, "-dev");
    shell
        .run("server -dev-root-token-id=x")
        .failed(1, "go with -dev");
    shell.run("server -dev -config=/etc/x").failed(1, "-config");
    shell
        .run("server -dev -dev-listen-address=nowhere")
        .failed(1, "127.0.0.1:8200");
}
