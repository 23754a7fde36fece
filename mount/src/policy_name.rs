//! Policy names: the one place where a text becomes a name that can grant something.
//!
//! Every field that carries policies (tokens, roles, groups, settings of auth methods) goes through here, so
//! that no spelling of `root` (` ROOT`, `Root`, a trailing NUL) is another policy in one place and root in the
//! next: CVE-2025-5999 and CVE-2025-64761 were exactly that (threats: `policy-name-case`).

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;

use crate::{Error, Result};

/// A checked policy name: lower case, as Vault keeps names, and without anything that a reader could take for
/// nothing (blanks around it, control and invisible characters) or for a separator.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(Box<str>);

/// Why a text is no policy name. Shows nothing of the text: it may be a secret that was sent to the wrong field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyNameError {
    Empty,
    TooLong,
    Blank,
    Control,
    Separator,
    Dots,
    /// `root`, where only names that an operator may hand out are taken.
    Root,
    /// `response-wrapping`, which the server gives to its own tokens alone.
    Reserved,
}

impl PolicyName {
    /// The built-in policy that allows everything.
    pub const ROOT: &str = "root";
    /// The built-in policy that every token has unless it asks not to.
    pub const DEFAULT: &str = "default";
    /// The built-in policy of wrapping tokens, which nothing else has.
    pub const RESPONSE_WRAPPING: &str = "response-wrapping";

    /// Checks a name and folds it to lower case. `root` is a name, too: see [`PolicyName::assignable`].
    pub fn parse(text: &str) -> Result<Self, PolicyNameError> {
        if text.is_empty() {
            return Err(PolicyNameError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(PolicyNameError::TooLong);
        }
        if text.chars().any(is_invisible) {
            return Err(PolicyNameError::Control);
        }
        if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
            return Err(PolicyNameError::Blank);
        }
        // A comma would split the name in two wherever policies are given as one comma-separated text.
        if text.contains(['/', '\\', ',']) {
            return Err(PolicyNameError::Separator);
        }
        if matches!(text, "." | "..") {
            return Err(PolicyNameError::Dots);
        }
        Ok(Self(text.to_lowercase().into()))
    }

    /// Checks a name that a configuration hands out. That is never `root`: who configures an auth method
    /// must not become root by it (CVE-2024-9180 was of that kind).
    pub fn assignable(text: &str) -> Result<Self, PolicyNameError> {
        match Self::parse(text)? {
            name if name.is_root() => Err(PolicyNameError::Root),
            name if name.as_str() == Self::RESPONSE_WRAPPING => Err(PolicyNameError::Reserved),
            name => Ok(name),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        &*self.0 == Self::ROOT
    }
}

/// Checks the policies that `field` of a configuration hands out: folded, each once, in the order given.
pub fn assignable_policies(field: &str, names: &[String]) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut checked = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let name = PolicyName::assignable(name).map_err(|why| {
            Error::bad_request(format!("{field}: policy number {}: {why}", index + 1))
        })?;
        if seen.insert(name.clone()) {
            checked.push(name.as_str().to_owned());
        }
    }
    Ok(checked)
}

/// Whether two lists of checked names grant the same, `default` aside: a token has it or not by its own choice.
pub fn same_policies(one: &[String], other: &[String]) -> bool {
    let set = |names: &[String]| -> BTreeSet<String> {
        names
            .iter()
            .filter(|n| *n != PolicyName::DEFAULT)
            .cloned()
            .collect()
    };
    set(one) == set(other)
}

impl fmt::Display for PolicyNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a policy name may not be empty",
            Self::TooLong => "a policy name may not be longer than 256 bytes",
            Self::Blank => "a policy name may not begin or end with a blank",
            Self::Control => "a policy name may not hold control or invisible characters",
            Self::Separator => "a policy name may not hold a slash, a backslash or a comma",
            Self::Dots => "`.` and `..` are no policy names",
            Self::Root => "the policy `root` cannot be given out",
            Self::Reserved => "the policy `response-wrapping` cannot be given out",
        })
    }
}

impl std::error::Error for PolicyNameError {}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for PolicyName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Control characters, and those of Unicode that print as nothing: a name must be what it looks like.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        )
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}')
        || matches!(c, '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The longest name in bytes.
const MAX_NAME: usize = 256;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn policy_name_case_no_spelling_of_root_is_handed_out() {
        for spelling in ["root", "Root", "ROOT", "rOOt"] {
            assert!(PolicyName::parse(spelling).unwrap().is_root());
            assert_eq!(PolicyName::assignable(spelling), Err(PolicyNameError::Root));
        }
        for smuggled in [
            " ROOT",
            "root ",
            "root\u{a0}",
            "root\0",
            "\0root",
            "root\n",
            "ro\u{200b}ot",
            "root/",
            "root,x",
            "root\\",
            "",
            "..",
        ] {
            assert!(PolicyName::parse(smuggled).is_err(), "{smuggled:?}");
            assert!(
                assignable_policies("policies", &texts(&["dev", smuggled])).is_err(),
                "{smuggled:?}"
            );
        }
    }

    #[test]
    fn a_list_is_folded_without_repetitions_and_keeps_its_order() {
        let list =
            assignable_policies("policies", &texts(&["Web", "dev", "web", "default"])).unwrap();
        assert_eq!(list, ["web", "dev", "default"]);
    }

    #[test]
    fn error_leaks_input_a_refusal_names_the_place_and_not_the_text() {
        let error = assignable_policies("policies", &texts(&["dev", "hunter2/"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("policies: policy number 2"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn lists_are_the_same_whatever_their_order_and_default() {
        assert!(same_policies(
            &texts(&["a", "b", "default"]),
            &texts(&["b", "a"])
        ));
        assert!(!same_policies(&texts(&["a"]), &texts(&["a", "b"])));
        assert!(same_policies(&[], &texts(&["default"])));
    }
}
