//! Public PGP keys from files, for the keys and tokens that are encrypted with them.

use std::path::Path;

use crate::cli::failure::{Failure, file_failure};
use crate::pgp::Recipient;

/// Reads each file and writes its key as the API takes it: in base64. What cannot encrypt is refused here, with the
/// file's name, before anything is asked of the server.
pub(super) fn read_all(files: &[String]) -> Result<Vec<String>, Failure> {
    files.iter().map(|file| read(file)).collect()
}

pub(super) fn read(file: &str) -> Result<String, Failure> {
    if let Some(name) = file.strip_prefix("keybase:") {
        return Err(
            Failure::local("keys are read from files, not from Keybase").hint(format!(
                "Fetch the key, look whether its fingerprint is the right one, and give its file: \
                 `curl -o {name}.asc https://keybase.io/{name}/pgp_keys.asc`"
            )),
        );
    }
    // Vault's command line takes both.
    let path = Path::new(file.strip_prefix('@').unwrap_or(file));
    let content =
        std::fs::read(path).map_err(|error| file_failure("read", path.display(), &error))?;
    Recipient::parse(&content)
        .and_then(|key| key.to_base64())
        .map_err(|error| {
            Failure::local(format!("{}: {error}", path.display()))
                .hint("`gpg --export --armor NAME > NAME.asc` writes a public key to a file.")
        })
}

/// How people read what was encrypted for them.
pub(super) const HOW_TO_DECRYPT: &str = "echo 'THE TEXT' | base64 -d | gpg -d";
