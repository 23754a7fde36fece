//! Route patterns: `config`, `groups/{name}`, `data/{path*}` (the rest, at least one segment),
//! `metadata/{path**}` (the rest, perhaps nothing), `mounts/{path*}/tune` (a rest with a fixed end).

use std::fmt;

/// A pattern, parsed once when a mount is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: &'static str,
    head: Vec<Segment>,
    /// A parameter that takes several segments, and the fixed ones after it.
    rest: Option<Rest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(&'static str),
    Param(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rest {
    name: &'static str,
    may_be_empty: bool,
    tail: Vec<&'static str>,
}

/// A pattern that a backend declared wrongly: a mistake of the programmer, found when the mount opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPattern(pub &'static str);

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route pattern {:?} is malformed", self.0)
    }
}

impl std::error::Error for BadPattern {}

impl Pattern {
    pub fn parse(text: &'static str) -> Result<Self, BadPattern> {
        let bad = || BadPattern(text);
        let mut head = Vec::new();
        let mut rest: Option<Rest> = None;
        for segment in text.split('/').filter(|_| !text.is_empty()) {
            let param = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
            match (param, &mut rest) {
                (None, _) if segment.is_empty() || segment.contains(['{', '}', '*']) => {
                    return Err(bad());
                }
                (None, None) => head.push(Segment::Literal(segment)),
                (None, Some(rest)) => rest.tail.push(segment),
                (Some(_), Some(_)) => return Err(bad()),
                (Some(name), None) if name.ends_with('*') => {
                    let may_be_empty = name.ends_with("**");
                    rest = Some(Rest {
                        name: name.trim_end_matches('*'),
                        may_be_empty,
                        tail: Vec::new(),
                    });
                }
                (Some(name), None) => head.push(Segment::Param(name)),
            }
        }
        Ok(Self { text, head, rest })
    }

    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The pattern as OpenAPI writes it: without the stars.
    pub fn openapi_path(&self) -> String {
        self.text.replace("**}", "}").replace("*}", "}")
    }

    /// The names of the parameters, in order.
    pub fn params(&self) -> impl Iterator<Item = &'static str> + '_ {
        let head = self.head.iter().filter_map(|s| match s {
            Segment::Param(name) => Some(*name),
            Segment::Literal(_) => None,
        });
        head.chain(self.rest.iter().map(|r| r.name))
    }

    /// Whether a parameter takes several segments.
    pub fn takes_slashes(&self, param: &str) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.name == param)
    }

    /// The parameters' values if `path` (no leading, no trailing slash) matches.
    pub fn matches<'p>(&self, path: &'p str) -> Option<Vec<(&'static str, &'p str)>> {
        let mut params = Vec::new();
        let mut left = path;
        let mut exhausted = path.is_empty();
        for segment in &self.head {
            if exhausted {
                return None;
            }
            let (here, after) = match left.split_once('/') {
                Some((here, after)) => (here, after),
                None => {
                    exhausted = true;
                    (left, "")
                }
            };
            match segment {
                Segment::Literal(literal) if *literal == here => {}
                Segment::Literal(_) => return None,
                Segment::Param(name) => params.push((*name, here)),
            }
            left = after;
        }
        match &self.rest {
            None => exhausted.then_some(params),
            Some(rest) => {
                let mut middle = if exhausted { "" } else { left };
                for (i, literal) in rest.tail.iter().rev().enumerate() {
                    let cut = middle.strip_suffix(literal)?;
                    middle = match cut.strip_suffix('/') {
                        Some(cut) => cut,
                        // The fixed end is all there is: fine only for a rest that may be empty.
                        None if cut.is_empty() && i + 1 == rest.tail.len() => "",
                        None => return None,
                    };
                }
                if middle.is_empty() && !rest.may_be_empty {
                    return None;
                }
                params.push((rest.name, middle));
                Some(params)
            }
        }
    }

    /// Orders patterns so that the first match is the most specific one.
    pub fn specificity(&self) -> (usize, usize, bool) {
        let literals = self
            .head
            .iter()
            .filter(|s| matches!(s, Segment::Literal(_)))
            .count();
        let tail = self.rest.as_ref().map_or(0, |r| r.tail.len());
        (literals + tail, self.head.len(), self.rest.is_none())
    }

    /// The first segment, if it is fixed: the key of the route table.
    pub fn first_literal(&self) -> Option<&'static str> {
        match self.head.first() {
            Some(Segment::Literal(literal)) => Some(literal),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn m<'p>(pattern: &'static str, path: &'p str) -> Option<Vec<(&'static str, &'p str)>> {
        Pattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn fixed_paths_match_themselves_alone() {
        assert_eq!(m("config/ldap", "config/ldap"), Some(vec![]));
        assert_eq!(m("config", "config/ldap"), None);
        assert_eq!(m("config/ldap", "config"), None);
        assert_eq!(m("", ""), Some(vec![]));
        assert_eq!(m("", "x"), None);
    }

    #[test]
    fn a_parameter_takes_one_segment() {
        assert_eq!(
            m("groups/{name}", "groups/admins"),
            Some(vec![("name", "admins")])
        );
        assert_eq!(m("groups/{name}", "groups/a/b"), None);
        assert_eq!(m("groups/{name}", "groups"), None);
    }

    #[test]
    fn a_rest_takes_many_segments_and_may_have_a_fixed_end() {
        assert_eq!(m("data/{path*}", "data/a/b"), Some(vec![("path", "a/b")]));
        assert_eq!(m("data/{path*}", "data"), None);
        assert_eq!(m("metadata/{path**}", "metadata"), Some(vec![("path", "")]));
        assert_eq!(
            m("mounts/{path*}/tune", "mounts/a/b/tune"),
            Some(vec![("path", "a/b")])
        );
        assert_eq!(m("mounts/{path*}/tune", "mounts/tune"), None);
        assert_eq!(m("mounts/{path*}/tune", "mounts/aatune"), None);
        assert_eq!(m("{path**}", ""), Some(vec![("path", "")]));
    }

    #[test]
    fn malformed_patterns_are_found_at_start() {
        for text in ["a//b", "{a*}/{b}", "a{b}", "/a"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn params_are_listed_in_order() {
        let pattern = Pattern::parse("roles/{role}/{rest*}/end").unwrap();
        assert_eq!(pattern.params().collect::<Vec<_>>(), ["role", "rest"]);
        assert_eq!(pattern.openapi_path(), "roles/{role}/{rest}/end");
    }
}
