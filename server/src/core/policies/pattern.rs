//! The path of a rule: literal segments, `+` for one whole segment, `*` at the very end for any rest.

use std::cmp::{Ordering, Reverse};
use std::fmt;

use super::fold;
use crate::core::path::MAX_PATH;

/// More segments than this are refused; it bounds the depth of the trie.
const MAX_SEGMENTS: usize = 256;

/// A checked pattern, without the leading slash that Vault allows and strips.
///
/// The order is Vault's priority: of the patterns that match a path, the greatest decides.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Box<str>,
    /// Byte offset of the first `+` segment or of the `*`; `usize::MAX` for an exact path.
    first_wildcard: usize,
    plus_segments: usize,
}

/// One step of a pattern through the trie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Literal(&'a str),
    Plus,
    /// The last step of a pattern that ends in `*`: what the rest of the path begins with.
    Prefix(&'a str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the path is empty")]
    Empty,
    #[error(
        "the path is longer than {MAX_PATH} bytes or deeper than {MAX_SEGMENTS} segments, which no request can be"
    )]
    TooLong,
    #[error("`+*` is not allowed: `+` stands for one whole segment; use `+/*` or `*`")]
    PlusStar,
    #[error(
        "`*` is a wildcard only as the last character; use `+` for a whole segment in the middle"
    )]
    InnerStar,
    #[error(
        "an empty, `.` or `..` segment: no request has such a path, so the rule would never match"
    )]
    NeverMatches,
    #[error(
        "a control character or a backslash: no request has such a path, so the rule would never match"
    )]
    Character,
    #[error("a template cannot stand here: it works in the path of a rule")]
    Template,
}

impl Pattern {
    /// Checks a rule's path. Stricter than Vault where a rule could never match: it is refused, so that nobody
    /// relies on it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.strip_prefix('/').unwrap_or(text);
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > MAX_PATH || text.split('/').count() > MAX_SEGMENTS {
            return Err(PatternError::TooLong);
        }
        if text.contains("{{") {
            return Err(PatternError::Template);
        }
        if text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(PatternError::Character);
        }
        if text.ends_with("+*") {
            return Err(PatternError::PlusStar);
        }
        let body = text.strip_suffix('*');
        if body.unwrap_or(text).contains('*') {
            return Err(PatternError::InnerStar);
        }
        // The segments that must be whole: of a glob, those before its last slash.
        let whole = match body {
            Some(body) => body.rfind('/').map(|slash| &body[..slash]),
            None => Some(text.strip_suffix('/').unwrap_or(text)),
        };
        if whole.is_some_and(|whole| whole.split('/').any(|s| matches!(s, "" | "." | ".."))) {
            return Err(PatternError::NeverMatches);
        }
        let mut first_wildcard = usize::MAX;
        let mut plus_segments = 0;
        let mut at = 0;
        for segment in text.split('/') {
            if segment == "+" {
                plus_segments += 1;
                first_wildcard = first_wildcard.min(at);
            }
            at += segment.len() + 1;
        }
        if body.is_some() {
            first_wildcard = first_wildcard.min(text.len() - 1);
        }
        Ok(Self {
            text: text.into(),
            first_wildcard,
            plus_segments,
        })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_glob(&self) -> bool {
        self.text.ends_with('*')
    }

    /// The pattern without case, for matching paths without case; its priority stays this one's.
    pub(super) fn folded(&self) -> Self {
        Self {
            text: fold(&self.text).into(),
            ..self.clone()
        }
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let mut segments = self.text.split('/').peekable();
        std::iter::from_fn(move || {
            let segment = segments.next()?;
            Some(match (segment.strip_suffix('*'), segment) {
                (Some(prefix), _) if segments.peek().is_none() => Step::Prefix(prefix),
                (_, "+") => Step::Plus,
                _ => Step::Literal(segment),
            })
        })
    }
}

/// Vault's five priority rules, in their order ("Policies" page, "Policy syntax"): of two patterns the lower is the
/// one whose first wildcard comes earlier; that ends in `*` when the other does not; that has more `+` segments;
/// that is shorter; that is smaller lexicographically.
impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |p: &Self| {
            (
                p.first_wildcard,
                !p.is_glob(),
                Reverse(p.plus_segments),
                p.text.len(),
            )
        };
        key(self)
            .cmp(&key(other))
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn the_leading_slash_is_stripped_as_in_vault() {
        assert_eq!(pattern("/secret/foo").as_str(), "secret/foo");
        assert_eq!(pattern("/*").as_str(), "*");
    }

    #[test]
    fn patterns_that_mislead_are_refused() {
        use PatternError::*;
        for (text, error) in [
            ("", Empty),
            ("/", Empty),
            ("secret/+*", PlusStar),
            ("+*", PlusStar),
            ("secret/*/x", InnerStar),
            ("*secret", InnerStar),
            ("secret/**", InnerStar),
            ("secret//x", NeverMatches),
            ("//secret", NeverMatches),
            ("secret/../x", NeverMatches),
            ("secret/.", NeverMatches),
            ("secret/..", NeverMatches),
            ("secret//", NeverMatches),
            ("secret//*", NeverMatches),
            ("secret/../*", NeverMatches),
            ("secret/\0", Character),
            ("secret\\x", Character),
            ("secret/{{identity.entity.id}}/*", Template),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
        assert_eq!(Pattern::parse(&"a".repeat(MAX_PATH + 1)), Err(TooLong));
        assert_eq!(Pattern::parse(&"a/".repeat(MAX_SEGMENTS)), Err(TooLong));
    }

    #[test]
    fn wildcards_split_into_steps() {
        use Step::*;
        let steps = |text| {
            pattern(text)
                .steps()
                .map(|s| format!("{s:?}"))
                .collect::<Vec<_>>()
        };
        let shown = |steps: &[Step<'_>]| steps.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>();
        assert_eq!(steps("a/+/b*"), shown(&[Literal("a"), Plus, Prefix("b")]));
        assert_eq!(steps("a/*"), shown(&[Literal("a"), Prefix("")]));
        assert_eq!(steps("*"), shown(&[Prefix("")]));
        assert_eq!(steps("a/"), shown(&[Literal("a"), Literal("")]));
        // Part of a segment, `+` is only a letter.
        assert_eq!(steps("a+b/+c"), shown(&[Literal("a+b"), Literal("+c")]));
    }

    /// The examples of the page, and one pair for each rule.
    #[test]
    fn vaults_priority_rules_order_patterns() {
        for (lower, higher) in [
            ("secret/*", "secret/foo"),
            ("secret/+/foo", "secret/foo/+"),
            ("secret/*", "secret/foo*"),
            ("secret/+/*", "secret/+/foo"),
            ("foo/bar/+/baz*", "foo/bar/+/baz"),
            ("secret/+/+/foo/*", "secret/*"),
            ("+/*", "*"),
            ("foo/+/+/baz", "foo/+/bar/baz"),
            ("foo/bar/+/b*", "foo/bar/+/ba*"),
            ("secret/+/a", "secret/+/b"),
            ("secret/foo", "secret/foo/"),
            ("foo/metadata/+/private/*", "foo/metadata/*"),
        ] {
            assert!(pattern(lower) < pattern(higher), "{lower} < {higher}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "[a+*/.{]{0,10}|\\PC{0,20}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(Pattern::parse(pattern.as_str()).unwrap(), pattern.clone());
                prop_assert!(pattern.steps().count() >= 1);
            }
        }
    }
}
