//! `completion`: a few lines for a shell, which ask this program what may come next. It answers from the one table of
//! commands, so that a new command or flag is completed without anybody doing anything.

use clap::{Arg, Command as Tree};

use super::args::{flag_body, is_boolean, is_switch};
use super::failure::{Outcome, SUCCESS};
use super::{Command, Example, Session, args, tree};

/// Print what makes a shell complete commands, flags and their values
#[derive(clap::Args)]
pub(super) struct Completion {
    /// The shell: bash, zsh or fish
    #[arg(value_name = "SHELL", value_parser = [
        clap::builder::PossibleValue::new("bash"),
        clap::builder::PossibleValue::new("zsh"),
        clap::builder::PossibleValue::new("fish"),
        // What those lines call: the words after `obol` so far, behind --.
        clap::builder::PossibleValue::new("words").hide(true),
    ])]
    shell: String,
    #[arg(hide = true)]
    words: Vec<String>,
}

impl Command for Completion {
    const NAME: &'static str = "completion";
    const EXAMPLES: &'static [Example] = &[
        (
            "For bash, from the next shell on",
            "obol completion bash > ~/.local/share/bash-completion/completions/obol",
        ),
        (
            "For zsh, in a directory of its fpath",
            "obol completion zsh > ~/.zfunc/_obol",
        ),
        (
            "For fish",
            "obol completion fish > ~/.config/fish/completions/obol.fish",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let text = match self.shell.as_str() {
            "bash" => BASH.to_owned(),
            "zsh" => ZSH.to_owned(),
            "fish" => FISH.to_owned(),
            _ => {
                for candidate in candidates(&tree(), &self.words) {
                    session.line(&candidate)?;
                }
                return Ok(SUCCESS);
            }
        };
        session.raw(&text)?;
        Ok(SUCCESS)
    }
}

/// What the last word may become. Nothing where only the user knows; shells complete file names then.
fn candidates(root: &Tree, words: &[String]) -> Vec<String> {
    let Some((last, before)) = words.split_last() else {
        return candidates(root, &[String::new()]);
    };
    let mut command = root;
    let mut arguments = 0;
    // A flag that waits for its value: bash has split `-flag=value` into three words.
    let mut waiting: Option<&Arg> = None;
    let mut after_equals = false;
    for word in before {
        if word == "=" && waiting.is_some() {
            after_equals = true;
            continue;
        }
        if waiting
            .take()
            .is_some_and(|arg| after_equals || !optional(arg))
        {
            after_equals = false;
            continue;
        }
        after_equals = false;
        match flag_body(word) {
            Some(flag) => waiting = args::find(command, flag).filter(|arg| !is_switch(arg)),
            None => match command.find_subcommand(word) {
                Some(next) => command = next,
                None if command.has_subcommands() => return Vec::new(),
                None => arguments += 1,
            },
        }
    }
    let fitting = |values: Vec<String>, typed: &str| {
        let fits = |value: &String| value.starts_with(typed);
        values.into_iter().filter(fits).collect::<Vec<_>>()
    };
    if let Some(arg) = waiting {
        if last == "=" {
            return values(arg);
        }
        if after_equals || !optional(arg) {
            return fitting(values(arg), last);
        }
    }
    if last.starts_with('-') {
        if command.has_subcommands() {
            return fitting(vec!["-help".to_owned()], last);
        }
        let dashes = if last.starts_with("--") { "--" } else { "-" };
        if let Some((flag, typed)) = last.trim_start_matches('-').split_once('=') {
            let found = args::find(command, flag).map(values).unwrap_or_default();
            let found = fitting(found, typed).into_iter();
            return found
                .map(|value| format!("{dashes}{flag}={value}"))
                .collect();
        }
        let mut flags: Vec<String> = command
            .get_arguments()
            .filter(|arg| !arg.is_hide_set())
            .filter_map(|arg| {
                let name = arg.get_long()?;
                let takes = !is_switch(arg) && !optional(arg) && name != "help";
                Some(format!("{dashes}{name}{}", if takes { "=" } else { "" }))
            })
            .collect();
        flags.sort_unstable();
        return fitting(flags, last);
    }
    if command.has_subcommands() {
        let names = command
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(|command| command.get_name().to_owned());
        return fitting(names.collect(), last);
    }
    let positional = command.get_positionals().nth(arguments);
    fitting(positional.map(values).unwrap_or_default(), last)
}

/// Whether the flag stands without a value, too.
fn optional(arg: &Arg) -> bool {
    is_switch(arg) || is_boolean(arg)
}

fn values(arg: &Arg) -> Vec<String> {
    if is_boolean(arg) {
        return vec!["true".to_owned(), "false".to_owned()];
    }
    let values = arg.get_possible_values().into_iter();
    values
        .filter(|value| !value.is_hide_set())
        .map(|value| value.get_name().to_owned())
        .collect()
}

const BASH: &str = r#"# Completion of obol for bash.
_obol() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <("${COMP_WORDS[0]}" completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o default -F _obol obol
"#;

const ZSH: &str = r#"#compdef obol
# Completion of obol for zsh.
_obol() {
    local -a found
    found=("${(@f)$("${words[1]}" completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -z "${found[1]}" ]]; then
        _files
    elif [[ ${#found} -eq 1 && "${found[1]}" == *= ]]; then
        compadd -S '' -- "${found[@]}"
    else
        compadd -- "${found[@]}"
    fi
}
# Loaded from fpath, this file is the body of the function at its first call, and that one is to complete already.
if [[ "${funcstack[1]:-}" == _obol ]]; then
    _obol "$@"
else
    compdef _obol obol
fi
"#;

const FISH: &str = r#"# Completion of obol for fish.
function __obol_candidates
    set -l typed (commandline -opc) (commandline -ct)
    $typed[1] completion words -- $typed[2..-1] 2>/dev/null
end
complete -c obol -a '(__obol_candidates)'
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        candidates(&tree(), &words)
    }

    #[test]
    fn commands_are_completed_word_by_word() {
        assert_eq!(of(&["opera"]), ["operator"]);
        assert_eq!(of(&["operator", "reke"]), ["rekey"]);
        assert!(of(&[""]).contains(&"kv".to_owned()));
        assert_eq!(of(&["kv", "metadata", "pa"]), ["patch"]);
        assert!(of(&["nothing", ""]).is_empty());
    }

    #[test]
    fn flags_are_completed_with_one_dash_or_two_and_with_their_values() {
        assert_eq!(of(&["kv", "get", "-form"]), ["-format="]);
        assert_eq!(of(&["kv", "get", "--form"]), ["--format="]);
        assert_eq!(of(&["kv", "get", "-format=j"]), ["-format=json"]);
        assert_eq!(of(&["lease", "revoke", "-pre"]), ["-prefix"]);
        // As bash has split it, and with a blank.
        assert_eq!(of(&["kv", "get", "-format", "=", "j"]), ["json"]);
        assert_eq!(
            of(&["kv", "get", "-format", "="]),
            ["table", "json", "yaml"]
        );
        assert_eq!(of(&["kv", "get", "-format", "y"]), ["yaml"]);
        assert_eq!(
            of(&["kv", "get", "-format", "=", "json", "-fie"]),
            ["-field="]
        );
        assert_eq!(of(&["operator", "rekey", "-target", "re"]), ["recovery"]);
        assert_eq!(
            of(&["token", "create", "-renewable=f"]),
            ["-renewable=false"]
        );
        assert_eq!(of(&["kv", "-"]), ["-help"]);
    }

    #[test]
    fn every_command_and_every_flag_is_completed() {
        for entry in super::super::COMMANDS {
            let mut words: Vec<&str> = entry.name.split(' ').collect();
            let name = words.pop().unwrap_or_default();
            words.push(name);
            assert!(of(&words).contains(&name.to_owned()), "{}", entry.name);
            words.push("-");
            assert!(!of(&words).is_empty(), "{}", entry.name);
        }
    }

    #[test]
    fn what_only_the_user_knows_is_left_to_the_shell() {
        assert!(of(&["kv", "get", "secret/"]).is_empty());
        assert!(of(&["kv", "get", "-field", ""]).is_empty());
        assert_eq!(of(&["completion", ""]), ["bash", "zsh", "fish"]);
    }
}
