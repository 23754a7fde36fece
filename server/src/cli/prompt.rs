//! Asking for a secret on the terminal, without echo.

use std::fs::File;

use obol_mount::Secret;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::Session;
use super::data;
use super::failure::Failure;
use super::interrupt;

impl Session<'_> {
    /// Asks on the terminal, and only there: a secret that is piped in must be announced with `-`.
    pub(super) fn ask_secret(
        &mut self,
        name: &str,
        non_interactive: bool,
    ) -> Result<Secret, Failure> {
        if non_interactive || !self.stdin_is_terminal {
            let why = if non_interactive {
                "-non-interactive forbids to ask for it"
            } else {
                "there is no terminal to ask on"
            };
            return Err(
                Failure::local(format!("the {name} is missing, and {why}")).hint(format!(
                    "Write - as the argument to read the {name} from standard input."
                )),
            );
        }
        let secret =
            hidden(&format!("{} (will be hidden): ", capitalised(name))).map_err(|error| {
                Failure::local(format!("cannot read the {name} from the terminal: {error}"))
            })?;
        tidy(secret, name)
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

pub(super) fn capitalised(name: &str) -> String {
    let mut chars = name.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
