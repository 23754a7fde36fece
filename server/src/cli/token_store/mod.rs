//! Where `login` keeps the token for the commands after it: `~/.vault-token`, or a token helper that `~/.vault` names
//! (Vault's page "Use a custom token helper").

mod file;
mod helper;

use std::fmt;
use std::path::{Path, PathBuf};

use obol_mount::Secret;

use self::file::TokenFile;
use self::helper::Helper;
use super::client::Address;
use super::env::Env;
use super::failure::{Failure, file_failure};
use crate::hcl::{self, Value};

pub(super) enum TokenStore {
    File(TokenFile),
    Helper(Helper),
}

impl TokenStore {
    /// As `~/.vault` says, or the file that `VAULT_CONFIG_PATH` names; `address` is the server's, for a helper that keeps
    /// a token for each.
    pub(super) fn of(env: &Env, address: &Address) -> Result<Self, Failure> {
        Ok(match helper_of(env)? {
            Some(program) => Self::Helper(Helper::new(program, address)),
            None => Self::File(TokenFile::of(env)),
        })
    }

    /// The token that is kept, if there is one.
    pub(super) fn read(&self) -> Result<Option<Secret>, Failure> {
        match self {
            Self::File(file) => file.read(),
            Self::Helper(helper) => helper.get(),
        }
    }

    /// Keeps the token, in the place of the one before.
    pub(super) fn keep(&self, token: &Secret) -> Result<(), Failure> {
        match self {
            Self::File(file) => file.write(token),
            Self::Helper(helper) => helper.store(token),
        }
    }

    /// Forgets the token, if it is this one.
    pub(super) fn forget(&self, token: &Secret) -> Result<(), Failure> {
        match self.read()? {
            Some(kept) if kept.expose() == token.expose() => match self {
                Self::File(file) => file.remove(),
                Self::Helper(helper) => helper.erase(),
            },
            _ => Ok(()),
        }
    }

    /// What a shell runs to have the token on its standard output.
    pub(super) fn shown_by(&self) -> String {
        match self {
            Self::File(_) => "cat ~/.vault-token".to_owned(),
            Self::Helper(helper) => helper.shown_by(),
        }
    }
}

/// As messages name it.
impl fmt::Display for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(_) => f.write_str("~/.vault-token"),
            Self::Helper(helper) => helper.fmt(f),
        }
    }
}

/// The program that the settings of the command line name. Whoever has one does not want tokens in a plain file, so what
/// cannot be read is an error.
fn helper_of(env: &Env) -> Result<Option<PathBuf>, Failure> {
    let (path, asked) = match (env.get("CONFIG_PATH"), env.raw("HOME")) {
        (Some(path), _) => (PathBuf::from(path), true),
        (None, Some(home)) => (Path::new(home).join(".vault"), false),
        (None, None) => return Ok(None),
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if !asked && file::is_absent(&error) => return Ok(None),
        Err(error) => return Err(file_failure("read", path.display(), &error)),
    };
    let refused = |error: hcl::Error| Failure::local(format!("{}: {error}", path.display()));
    let mut helper = None;
    for member in hcl::parse(&text).map_err(refused)?.members {
        let at = |at, message: &str| refused(hcl::Error::at(&text, at, message));
        if member.key.text != KEY || !member.labels.is_empty() {
            let message = format!("unknown key {}: the only one is {KEY}", member.key.text);
            return Err(at(member.key.at, &message));
        }
        let Value::Text(program) = &member.value.value else {
            return Err(at(member.value.at, "token_helper must be a string"));
        };
        helper = match program.as_str() {
            "" => None,
            // Looked for on PATH or in the working directory, it would be whoever's is found there.
            program if !Path::new(program).is_absolute() => {
                let message = "token_helper must be the full path of a program";
                return Err(at(member.value.at, message));
            }
            program => Some(PathBuf::from(program)),
        };
    }
    Ok(helper)
}

const KEY: &str = "token_helper";
