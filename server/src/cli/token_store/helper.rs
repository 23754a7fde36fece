//! A token helper: a program that keeps tokens elsewhere, in a keychain perhaps. It is run with one argument: `get` prints
//! the token, `store` reads it from standard input, `erase` forgets it. It may take its time, to ask somebody.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use obol_mount::Secret;
use zeroize::Zeroizing;

use crate::cli::client::{Address, quoted};
use crate::cli::failure::Failure;

pub(in crate::cli) struct Helper {
    program: PathBuf,
    /// Helpers keep one token for each.
    address: String,
}

impl Helper {
    pub(super) fn new(program: PathBuf, address: &Address) -> Self {
        Self {
            program,
            address: address.to_string(),
        }
    }

    pub(super) fn get(&self) -> Result<Option<Secret>, Failure> {
        let printed = self.run("get", None)?;
        let token = std::str::from_utf8(&printed)
            .map_err(|_| Failure::local(format!("{self} printed something that is no text")))?;
        let token = Secret::new(token.trim().to_owned());
        Ok((!token.is_empty()).then_some(token))
    }

    pub(super) fn store(&self, token: &Secret) -> Result<(), Failure> {
        self.run("store", Some(token)).map(drop)
    }

    pub(super) fn erase(&self) -> Result<(), Failure> {
        self.run("erase", None).map(drop)
    }

    pub(super) fn shown_by(&self) -> String {
        format!("{} get", quoted(&self.program.display().to_string()))
    }

    fn run(&self, operation: &str, input: Option<&Secret>) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let failed = |error: std::io::Error| {
            Failure::local(format!("{self} cannot be run: {error}"))
                .hint("token_helper in ~/.vault names it. It must be there and executable.")
        };
        let mut child = Command::new(&self.program)
            .arg(operation)
            // Whatever variable or flag it came from.
            .env("VAULT_ADDR", &self.address)
            .stdin(input.map_or_else(Stdio::null, |_| Stdio::piped()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let (Some(token), Some(mut stdin)) = (input, child.stdin.take()) {
            match stdin.write_all(token.expose().as_bytes()) {
                // Its status tells whether it needed it.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                written => written.map_err(failed)?,
            }
        }
        let output = child.wait_with_output().map_err(failed)?;
        let printed = Zeroizing::new(output.stdout);
        if output.status.success() {
            return Ok(printed);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Failure::local(format!(
            "{self} failed to {operation} the token ({}): {}",
            output.status,
            said.trim()
        )))
    }
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token helper {}", self.program.display())
    }
}
