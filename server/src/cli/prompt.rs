//! Asking for a secret on the terminal, without echo.

use std::fs::File;

use obol_mount::Secret;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::Session;
use super::data;
use super::failure::Failure;
use super::interrupt;
use super::output::printable;

impl Session<'_> {
    /// Asks on the terminal, and only there: a secret that is piped in must be announced with `-`.
    pub(super) fn ask_secret(
        &mut self,
        name: &str,
        non_interactive: bool,
    ) -> Result<Secret, Failure> {
        self.may_ask(
            name,
            non_interactive,
            format!("Write - as the argument to read the {name} from standard input."),
        )?;
        let secret =
            hidden(&format!("{} (will be hidden): ", capitalised(name))).map_err(|error| {
                Failure::local(format!("cannot read the {name} from the terminal: {error}"))
            })?;
        tidy(secret, name)
    }

    fn may_ask(
        &self,
        what: &str,
        non_interactive: bool,
        hint: impl Into<String>,
    ) -> Result<(), Failure> {
        let why = match (non_interactive, self.stdin_is_terminal) {
            (true, _) => "-non-interactive forbids to ask for it",
            (_, false) => "there is no terminal to ask on",
            (false, true) => return Ok(()),
        };
        Err(Failure::local(format!("the {what} is missing, and {why}")).hint(hint))
    }

    /// Asks for a password on the terminal. Taken as it is typed: blanks may be part of it.
    pub(super) fn ask_password(
        &mut self,
        of: &str,
        non_interactive: bool,
    ) -> Result<Secret, Failure> {
        self.ask_value("password", &format!("password of {of}"), non_interactive)
    }

    /// Asks for the value of `key`, which is taken as it is typed.
    pub(super) fn ask_value(
        &mut self,
        key: &str,
        what: &str,
        non_interactive: bool,
    ) -> Result<Secret, Failure> {
        self.may_ask(
            what,
            non_interactive,
            format!("Write {key}=- to read it from standard input."),
        )?;
        let prompt = format!("{} (will be hidden): ", capitalised(&printable(what)));
        let value = hidden(&prompt).map_err(|error| {
            Failure::local(format!("cannot read the {key} from the terminal: {error}"))
        })?;
        if value.is_empty() {
            return Err(Failure::local(format!("the {key} is empty")));
        }
        Ok(value)
    }

    /// Standard input as a password: all of it but the newline that `echo` adds.
    pub(super) fn read_password(&mut self) -> Result<Secret, Failure> {
        password(Secret::new(data::read_stdin(&mut self.stdin)?))
    }

    /// Standard input as a secret, without the newline that `echo` adds.
    pub(super) fn read_secret(&mut self, name: &str) -> Result<Secret, Failure> {
        tidy(Secret::new(data::read_stdin(&mut self.stdin)?), name)
    }
}

fn hidden(prompt: &str) -> std::io::Result<Secret> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let before = tcgetattr(&terminal)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let restore = {
        let (terminal, before) = (terminal.try_clone()?, before.clone());
        move || {
            let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
        }
    };
    // rpassword restores the terminal when it returns, but not when a signal ends the process while it reads; and it
    // asks before it silences the terminal, so that a quick paste would be seen.
    interrupt::restoring(restore, || {
        tcsetattr(&terminal, OptionalActions::Now, &silent)?;
        let answer = rpassword::prompt_password(prompt).map(Secret::new);
        tcsetattr(&terminal, OptionalActions::Now, &before)?;
        answer
    })
}

fn tidy(secret: Secret, name: &str) -> Result<Secret, Failure> {
    let tidy = secret.expose().trim();
    if tidy.is_empty() {
        return Err(Failure::local(format!("the {name} is empty")));
    }
    Ok(Secret::new(tidy.to_owned()))
}

/// A password that came from a file or a pipe.
pub(super) fn password(text: Secret) -> Result<Secret, Failure> {
    let line = text.expose();
    let line = line.strip_suffix('\n').unwrap_or(line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Failure::local("the password is empty"));
    }
    Ok(Secret::new(line.to_owned()))
}

pub(super) fn capitalised(name: &str) -> String {
    let mut chars = name.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
