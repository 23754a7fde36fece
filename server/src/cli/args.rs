//! Flags as a user of Vault types them: `-flag` and `--flag`, `-flag=value` and `-flag value`, booleans with or
//! without a value, before or after the arguments. They are rewritten into the one form that clap reads.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command};

use super::env::parse_bool;
use super::failure::Failure;
use crate::hcl::suggest;

/// Rewrites the words after `obol`. `root` is the built tree of commands: only it knows which flags take a value.
pub(super) fn normalise(root: &Command, words: &[String]) -> Result<Vec<String>, Failure> {
    if let [only] = words
        && ["-v", "-version", "--version"].contains(&only.as_str())
    {
        return Ok(vec!["version".to_owned()]);
    }
    let mut command = root;
    let mut out = Vec::with_capacity(words.len());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            out.push(word.clone());
            out.extend(words.cloned());
            break;
        }
        let Some(flag) = flag_body(word) else {
            match command.find_subcommand(word) {
                Some(next) => command = next,
                None if command.has_subcommands() => return Err(unknown_command(command, word)),
                None => {}
            }
            out.push(word.clone());
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        if matches!(name, "h" | "help") {
            out.push("--help".to_owned());
            continue;
        }
        if command.has_subcommands() {
            return Err(
                Failure::local(format!("the flag -{name} stands before the command")).hint(
                    "Flags come after it: obol status -address=https://vault.example.com:8200",
                ),
            );
        }
        match (find(command, name), value) {
            // clap knows how to refuse it, with a suggestion.
            (None, None) => out.push(format!("--{name}")),
            (None, Some(value)) => out.push(format!("--{name}={value}")),
            (Some(arg), value) if is_switch(arg) => {
                if boolean(name, value)? {
                    out.push(format!("--{name}"));
                } else {
                    out.retain(|earlier| flag_body(earlier) != Some(name));
                }
            }
            (Some(arg), value) if is_boolean(arg) => {
                out.push(format!("--{name}={}", boolean(name, value)?))
            }
            (Some(_), Some(value)) => out.push(format!("--{name}={value}")),
            // The next word is the value, whatever it looks like: `-version -1`, `-description -`.
            (Some(_), None) => match words.next() {
                Some(value) => out.push(format!("--{name}={value}")),
                None => {
                    return Err(Failure::local(format!(
                        "the flag -{name} needs a value: -{name}=..."
                    )));
                }
            },
        }
    }
    Ok(out)
}

fn unknown_command(group: &Command, word: &str) -> Failure {
    let known: Vec<&str> = group.get_subcommands().map(Command::get_name).collect();
    let path = group.get_bin_name().unwrap_or("obol");
    let failure = Failure::local(format!("{path} has no command {word:?}"));
    match suggest(word, known.iter().copied()) {
        Some(near) => failure.hint(format!("Did you mean `{path} {near}`?")),
        None => failure.hint(format!("Its commands: {}", known.join(", "))),
    }
}

/// What follows the dashes. A lone `-` stands for standard input and is an argument.
pub(super) fn flag_body(word: &str) -> Option<&str> {
    let body = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    (!body.is_empty()).then_some(body)
}

pub(super) fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().unwrap_or_default().contains(&name)
    })
}

/// Present or absent.
pub(super) fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// True, false or absent.
pub(super) fn is_boolean(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == ValueParser::bool().type_id()
}

fn boolean(name: &str, value: Option<&str>) -> Result<bool, Failure> {
    let value = value.unwrap_or("true");
    parse_bool(value).ok_or_else(|| Failure::local(format!("the flag -{name} is true or false")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tree() -> Command {
        let value = |name: &'static str| Arg::new(name).long(name).action(ArgAction::Set);
        let leaf = Command::new("put")
            .arg(value("format"))
            .arg(value("cas"))
            .arg(
                Arg::new("force")
                    .long("force")
                    .alias("f")
                    .action(ArgAction::SetTrue),
            )
            .arg(value("renewable").value_parser(ValueParser::bool()))
            .arg(Arg::new("rest").num_args(0..));
        let mut root = Command::new("obol").subcommand(Command::new("kv").subcommand(leaf));
        root.build();
        root
    }

    fn normal(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        normalise(&tree(), &words).unwrap()
    }

    #[test]
    fn one_dash_and_two_are_the_same() {
        assert_eq!(
            normal("kv put -format=json a"),
            ["kv", "put", "--format=json", "a"]
        );
        assert_eq!(
            normal("kv put --format=json a"),
            ["kv", "put", "--format=json", "a"]
        );
        assert_eq!(normal("kv put -f a"), ["kv", "put", "--f", "a"]);
    }

    #[test]
    fn a_value_may_be_the_next_word_even_when_it_looks_like_a_flag() {
        assert_eq!(
            normal("kv put -format json a"),
            ["kv", "put", "--format=json", "a"]
        );
        assert_eq!(normal("kv put -cas -1 a"), ["kv", "put", "--cas=-1", "a"]);
        assert_eq!(
            normal("kv put a b=c -cas 0"),
            ["kv", "put", "a", "b=c", "--cas=0"]
        );
    }

    #[test]
    fn switches_take_no_word_and_may_be_turned_off() {
        assert_eq!(normal("kv put -force a"), ["kv", "put", "--force", "a"]);
        assert_eq!(
            normal("kv put -force=true a"),
            ["kv", "put", "--force", "a"]
        );
        assert_eq!(normal("kv put -force a -force=false"), ["kv", "put", "a"]);
        assert_eq!(
            normal("kv put -renewable a"),
            ["kv", "put", "--renewable=true", "a"]
        );
        assert_eq!(
            normal("kv put -renewable=F a"),
            ["kv", "put", "--renewable=false", "a"]
        );
    }

    #[test]
    fn a_dash_is_an_argument_and_nothing_is_read_after_two() {
        assert_eq!(normal("kv put a -"), ["kv", "put", "a", "-"]);
        assert_eq!(normal("kv put a k=-"), ["kv", "put", "a", "k=-"]);
        assert_eq!(
            normal("kv put -- -format=json"),
            ["kv", "put", "--", "-format=json"]
        );
    }

    #[test]
    fn help_and_version_have_their_short_forms() {
        for form in ["-h", "-help", "--help"] {
            assert_eq!(normal(&format!("kv {form}")), ["kv", "--help"]);
        }
        assert_eq!(normal("-v"), ["version"]);
        assert_eq!(normal("-version"), ["version"]);
    }

    #[test]
    fn an_unknown_command_is_answered_with_the_nearest_or_with_all() {
        let refuse = |word: &str| {
            normalise(&tree(), &["kv".into(), word.into()])
                .unwrap_err()
                .to_string()
        };
        assert!(refuse("ptu").contains("`obol kv put`"), "{}", refuse("ptu"));
        assert!(
            refuse("frobnicate").contains("put"),
            "{}",
            refuse("frobnicate")
        );
    }

    #[test]
    fn a_flag_before_the_command_is_told_where_it_belongs() {
        let words = ["-format=json".into(), "kv".into(), "put".into()];
        assert!(
            normalise(&tree(), &words)
                .unwrap_err()
                .to_string()
                .contains("after")
        );
    }

    #[test]
    fn a_flag_without_its_value_and_a_strange_boolean_are_refused_without_the_value() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let error = normalise(&tree(), &words("kv put a -cas"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("-cas"), "{error}");
        let error = normalise(&tree(), &words("kv put -force=s3cret"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("-force") && !error.contains("s3cret"),
            "{error}"
        );
    }
}
