//! The headers that an operator adds to the pages for people: `sys/config/ui/headers`.

use std::collections::BTreeMap;

use obol_mount::{Error, Result};
use serde::{Deserialize, Serialize};

use super::audit::headers::folded;

const MAX_HEADERS: usize = 64;
const MAX_VALUE: usize = 4096;

/// What the pages say themselves and what frames an answer; changing it would open or break them.
const OWN: [&str; 8] = [
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "set-cookie",
    "location",
    "x-content-type-options",
];

/// Values by the header's name in lower case. They take the place of the page's own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UiHeaders(pub BTreeMap<String, Vec<String>>);

impl UiHeaders {
    pub fn set(&mut self, name: &str, values: &[String]) -> Result<()> {
        let name = folded(name)?;
        if name.starts_with("x-vault-") || OWN.contains(&name.as_str()) {
            return Err(Error::bad_request(format!(
                "the header {name} cannot be set for the pages"
            )));
        }
        let plain = |value: &String| {
            value.len() <= MAX_VALUE && value.bytes().all(|b| (b' '..=b'~').contains(&b))
        };
        if values.is_empty() || !values.iter().all(plain) {
            return Err(Error::bad_request(
                "values is required: a list of texts of printable ASCII",
            ));
        }
        if self.0.len() >= MAX_HEADERS && !self.0.contains_key(&name) {
            return Err(Error::bad_request(format!(
                "at most {MAX_HEADERS} headers can be set"
            )));
        }
        self.0.insert(name, values.to_vec());
        Ok(())
    }
}
