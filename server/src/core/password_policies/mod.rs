//! Password policies: how passwords for other systems are made. [`policy`] is the language, [`generate`] the dice.

mod generate;
mod policy;

use obol_mount::{Error, Result};
use obol_storage::View;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use policy::PasswordPolicy;

/// The policies as they are stored: their texts, by name.
pub struct PasswordPolicies {
    storage: View,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    text: String,
}

impl PasswordPolicies {
    pub fn new(storage: View) -> Self {
        Self { storage }
    }

    /// Stores a policy that parses and by which a password was made. What is refused changes nothing.
    pub async fn put(&self, name: &str, text: &str) -> Result<()> {
        let policy = parse(text)?;
        policy.generate()?;
        let stored = Stored {
            text: text.to_owned(),
        };
        Ok(self.storage.put_json(&path(name)?, &stored).await?)
    }

    pub async fn text(&self, name: &str) -> Result<Option<String>> {
        let stored: Option<Stored> = self.storage.get_json(&path(name)?).await?;
        Ok(stored.map(|stored| stored.text))
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        Ok(self.storage.delete(&path(name)?).await?)
    }

    pub async fn names(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        Ok(self.storage.list("", after, limit).await?)
    }

    /// A password by a policy; `None`: there is no such policy.
    pub async fn generate(&self, name: &str) -> Result<Option<Zeroizing<String>>> {
        match self.text(name).await? {
            Some(text) => parse(&text)?.generate().map(Some),
            None => Ok(None),
        }
    }
}

fn parse(text: &str) -> Result<PasswordPolicy> {
    PasswordPolicy::parse(text).map_err(|error| {
        Error::bad_request(format!("failed to parse the password policy: {error}"))
    })
}

fn path(name: &str) -> Result<String> {
    let odd = name.is_empty()
        || name.len() > MAX_NAME
        || name != name.trim()
        || name.contains(|c: char| c.is_control() || c == '/');
    match odd {
        true => Err(Error::bad_request(format!(
            "name: expected 1 to {MAX_NAME} bytes without slashes, control characters and blanks at the ends"
        ))),
        false => Ok(name.to_owned()),
    }
}

/// In bytes.
const MAX_NAME: usize = 256;
