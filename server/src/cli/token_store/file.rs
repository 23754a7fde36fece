//! `~/.vault-token`, as Vault's own helper keeps it.

use std::io::{Error, ErrorKind};
use std::path::PathBuf;

use obol_mount::Secret;

use crate::cli::env::Env;
use crate::cli::failure::{Failure, file_failure};
use crate::cli::files;

/// `None` where there is no home directory.
pub(in crate::cli) struct TokenFile(Option<PathBuf>);

impl TokenFile {
    pub(super) fn of(env: &Env) -> Self {
        Self(
            env.raw("HOME")
                .map(|home| PathBuf::from(home).join(".vault-token")),
        )
    }

    pub(super) fn read(&self) -> Result<Option<Secret>, Failure> {
        let Some(path) = &self.0 else {
            return Ok(None);
        };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let token = Secret::new(text.trim().to_owned());
                Ok((!token.is_empty()).then_some(token))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(file_failure("read", path.display(), &error)),
        }
    }

    /// Readable by its owner alone.
    pub(super) fn write(&self, token: &Secret) -> Result<(), Failure> {
        let path = self.0.as_ref().ok_or_else(|| {
            Failure::local("there is no place to keep the token: HOME is not set")
        })?;
        files::replace(path, token.expose().as_bytes(), 0o600)
    }

    pub(super) fn remove(&self) -> Result<(), Failure> {
        match &self.0 {
            None => Ok(()),
            Some(path) => std::fs::remove_file(path)
                .map_err(|error| file_failure("remove", path.display(), &error)),
        }
    }
}

pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
