//! Names that operators give to what a method keeps: the one place where their spellings become equal.

use obol_mount::{Error, Result};

/// Checks a name and folds it to lower case, as Vault keeps names (threats: `alias-case`). `field` is what the error
/// calls it.
pub(crate) fn fold(field: &str, text: &str) -> Result<String> {
    let refuse = |why: &str| Err(Error::bad_request(format!("{field}: {why}")));
    if text.is_empty() || text.len() > MAX {
        return refuse("expected 1 to 256 bytes");
    }
    if text != text.trim() {
        return refuse("a name may not begin or end with a blank");
    }
    if text.contains(|c: char| c.is_control() || c == '/') {
        return refuse("a name may not hold a slash or a control character");
    }
    if matches!(text, "." | "..") {
        return refuse("a name may not be . or ..");
    }
    Ok(text.to_lowercase())
}

/// In bytes.
const MAX: usize = 256;
