//! `~/.vault-token`: where `login` keeps the token for the commands after it, as Vault's own helper does.

use std::io::ErrorKind;
use std::path::PathBuf;

use obol_mount::Secret;

use super::env::Env;
use super::failure::{Failure, file_failure};
use super::files;

/// The stored token; `None` when there is none, or no home directory to look in.
pub(super) fn read(env: &Env) -> Result<Option<Secret>, Failure> {
    let Some(path) = path(env) else {
        return Ok(None);
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let token = Secret::new(text.trim().to_owned());
            Ok((!token.is_empty()).then_some(token))
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(file_failure("read", path.display(), &error)),
    }
}

/// Keeps the token, readable by its owner alone.
pub(super) fn store(env: &Env, token: &Secret) -> Result<PathBuf, Failure> {
    let path = path(env)
        .ok_or_else(|| Failure::local("there is no place to keep the token: HOME is not set"))?;
    // Who has one does not want tokens in a plain file.
    let settings = path.with_file_name(".vault");
    let names_a_helper = |line: &str| line.trim_start().starts_with("token_helper");
    if std::fs::read_to_string(&settings).is_ok_and(|text| text.lines().any(names_a_helper)) {
        return Err(Failure::local(format!(
            "{} names a token_helper: token helpers are not supported, and the token is not written into a plain file instead",
            settings.display()
        )));
    }
    files::replace(&path, token.expose().as_bytes(), 0o600)?;
    Ok(path)
}

/// Forgets the token, if it is this one.
pub(super) fn forget(env: &Env, token: &Secret) -> Result<(), Failure> {
    let (Some(path), Some(stored)) = (path(env), read(env)?) else {
        return Ok(());
    };
    if stored.expose() != token.expose() {
        return Ok(());
    }
    std::fs::remove_file(&path).map_err(|error| file_failure("remove", path.display(), &error))
}

fn path(env: &Env) -> Option<PathBuf> {
    Some(PathBuf::from(env.raw("HOME")?).join(".vault-token"))
}
