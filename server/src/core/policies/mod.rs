//! ACL policies: the language, the names, and the compiled rules that authorise a request.
//!
//! [`Policy::parse`] reads one policy; [`Acl::compile`] joins the policies of a token into a trie, once for all
//! tokens with the same set; [`Acl::check`] answers for one request without reading anything else.
//! The rules are those of Vault's "Policies" page
//! (<https://developer.hashicorp.com/vault/docs/concepts/policies>); where this server is stricter, the item says so.

mod acl;
mod builtin;
mod capability;
mod name;
mod parameters;
mod pattern;
mod policy;
mod template;
mod trie;

use std::borrow::Cow;

pub use acl::{Access, Acl, Decision, Reason};
pub use builtin::{DEFAULT, DEFAULT_TEXT, RESPONSE_WRAPPING, RESPONSE_WRAPPING_TEXT, ROOT};
pub use capability::{Capabilities, Capability};
pub use name::{NameError, PolicyName, PolicySet, parse_policy_list};
pub use parameters::Parameters;
pub use pattern::{Pattern, PatternError};
pub use policy::{MAX_TEXT, Policy, PolicyError, Rule, TemplatedRule};
pub use template::{OfAlias, OfGroup, Parameter, Values};

/// Lays out a policy's text for `obol policy fmt`: comments are kept, the meaning is unchanged, and formatting what
/// is formatted changes nothing. Only the syntax is checked; [`Policy::parse`] checks the rest.
pub fn format(text: &str) -> Result<String, PolicyError> {
    if text.len() > MAX_TEXT {
        return Err(PolicyError::too_large());
    }
    crate::hcl::format(text)
}

/// A text without case, letter by letter: the beginning of a folded text is the folded beginning, which
/// `str::to_lowercase` does not promise (a final sigma is folded by its neighbours).
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|b| b.is_ascii() && !b.is_ascii_uppercase())
    {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().flat_map(char::to_lowercase).collect())
}

#[cfg(test)]
mod model;
