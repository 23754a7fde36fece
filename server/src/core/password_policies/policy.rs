//! A password policy's text, parsed: `length = 20`, and blocks `rule "charset" { charset = "...", min-chars = 1 }`, in
//! HCL or JSON. What the language does not know is refused with its line and column.

use std::collections::BTreeSet;

use crate::hcl::{self, Error, Name, Node, Object, Stanza, Value, quoted, suggest};

/// A policy that can be met.
#[derive(Debug)]
pub struct PasswordPolicy {
    pub(super) length: usize,
    /// Every character of every rule, each once.
    pub(super) charset: Vec<char>,
    /// Those that ask for something.
    pub(super) rules: Vec<Rule>,
}

/// At least so many characters must be of this set.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) charset: BTreeSet<char>,
    pub(super) min_chars: usize,
}

impl PasswordPolicy {
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_TEXT {
            let message = format!("a password policy may not be longer than {MAX_TEXT} bytes");
            return Err(Error::at("", 0, message));
        }
        Reader { text }.policy(&hcl::parse(text)?)
    }
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn policy(&self, root: &Object) -> Result<PasswordPolicy, Error> {
        let (mut length, mut rules) = (None, Vec::new());
        for member in &root.members {
            match member.key.text.as_str() {
                "length" if member.labels.is_empty() => {
                    if length.is_some() {
                        return Err(self.error(member.key.at, "`length` is set twice"));
                    }
                    let value = self.count(&member.value)?;
                    if !(MIN_LENGTH..=MAX_LENGTH).contains(&value) {
                        let message =
                            format!("`length` must be between {MIN_LENGTH} and {MAX_LENGTH}");
                        return Err(self.error(member.value.at, message));
                    }
                    length = Some(value);
                }
                "rule" => {
                    let stanzas = member
                        .stanzas()
                        .map_err(|(at, message)| self.error(at, message))?;
                    for stanza in stanzas {
                        rules.push(self.rule(&stanza)?);
                    }
                }
                _ => return Err(self.unknown(&member.key, &["length", "rule"])),
            }
        }
        let length = length.ok_or_else(|| self.error(0, "`length` is missing"))?;
        if rules.is_empty() {
            return Err(self.error(0, "there is no rule \"charset\": of which characters?"));
        }
        let charset: BTreeSet<char> = rules
            .iter()
            .flat_map(|rule: &Rule| rule.charset.iter().copied())
            .collect();
        if charset.len() > MAX_CHARSET {
            let message = format!("all rules together may name {MAX_CHARSET} characters");
            return Err(self.error(0, message));
        }
        rules.retain(|rule| rule.min_chars > 0);
        self.check_possible(length, &rules)?;
        Ok(PasswordPolicy {
            length,
            charset: charset.into_iter().collect(),
            rules,
        })
    }

    fn rule(&self, stanza: &Stanza<'_>) -> Result<Rule, Error> {
        if stanza.label.text != "charset" {
            let message = format!(
                "unknown rule {}; there is \"charset\"",
                quoted(&stanza.label.text)
            );
            return Err(self.error(stanza.label.at, message));
        }
        let (mut charset, mut min_chars) = (None, None);
        for member in &stanza.body.members {
            if let Some(label) = member.labels.first() {
                return Err(self.error(label.at, "a key of a rule takes no label"));
            }
            let twice = match member.key.text.as_str() {
                "charset" => charset.replace(self.charset(&member.value)?).is_some(),
                "min-chars" => min_chars.replace(self.count(&member.value)?).is_some(),
                _ => return Err(self.unknown(&member.key, &["charset", "min-chars"])),
            };
            if twice {
                let message = format!("{} is set twice", quoted(&member.key.text));
                return Err(self.error(member.key.at, message));
            }
        }
        Ok(Rule {
            charset: charset
                .ok_or_else(|| self.error(stanza.label.at, "the rule has no `charset`"))?,
            min_chars: min_chars.unwrap_or(0),
        })
    }

    fn charset(&self, node: &Node) -> Result<BTreeSet<char>, Error> {
        let Value::Text(text) = &node.value else {
            let message = format!("expected a string, found {}", node.value.kind());
            return Err(self.error(node.at, message));
        };
        if text.is_empty() {
            return Err(self.error(node.at, "`charset` may not be empty"));
        }
        if text.chars().any(char::is_control) {
            return Err(self.error(node.at, "`charset` may hold printable characters only"));
        }
        Ok(text.chars().collect())
    }

    /// A whole number that is not negative, also as a text.
    fn count(&self, node: &Node) -> Result<usize, Error> {
        let number = match &node.value {
            Value::Number(number) => number.as_u64(),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        number
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| self.error(node.at, "expected a whole number that is not negative"))
    }

    /// Whether any password meets all rules. One character can count for several, so only rules whose sets have
    /// nothing in common add up.
    fn check_possible(&self, length: usize, rules: &[Rule]) -> Result<(), Error> {
        let mut apart: Vec<&Rule> = Vec::new();
        for rule in rules {
            if apart
                .iter()
                .all(|other| other.charset.is_disjoint(&rule.charset))
            {
                apart.push(rule);
            }
        }
        let needed = apart
            .iter()
            .map(|rule| rule.min_chars)
            .fold(0, usize::saturating_add);
        let longest = rules.iter().map(|rule| rule.min_chars).max().unwrap_or(0);
        if needed.max(longest) > length {
            let message = "no password of this `length` has the `min-chars` of all rules";
            return Err(self.error(0, message));
        }
        Ok(())
    }

    fn unknown(&self, key: &Name, known: &[&str]) -> Error {
        let hint = match suggest(&key.text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.error(key.at, format!("unknown key {}; {hint}", quoted(&key.text)))
    }

    fn error(&self, at: usize, message: impl Into<String>) -> Error {
        Error::at(self.text, at, message)
    }
}

/// Vault's bounds; the longest length is our own, so that one request cannot ask for work without end.
const MIN_LENGTH: usize = 4;
const MAX_LENGTH: usize = 1024;
const MAX_CHARSET: usize = 256;
const MAX_TEXT: usize = 1 << 16;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_in_hcl_and_in_json() {
        let hcl = r#"
            length = 20
            rule "charset" { charset = "abcab" }
            rule "charset" {
              charset = "cd€"
              min-chars = 2
            }
        "#;
        let json = r#"{"length": 20, "rule": [{"charset": {"charset": "abcab"}}, {"charset": {"charset": "cd€", "min-chars": 2}}]}"#;
        for text in [hcl, json] {
            let policy = PasswordPolicy::parse(text).unwrap();
            assert_eq!(policy.length, 20);
            assert_eq!(policy.charset, ['a', 'b', 'c', 'd', '€']);
            assert_eq!(policy.rules.len(), 1);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let rule = r#"rule "charset" { charset = "ab" }"#;
        for (text, said) in [
            ("length = 20", "no rule"),
            (rule, "`length` is missing"),
            (&format!("length = 3\n{rule}"), "line 1, column 10"),
            (&format!("length = 5000\n{rule}"), "between 4 and 1024"),
            (
                &format!("length = 9\nlenght = 9\n{rule}"),
                "line 2, column 1: unknown key `lenght`; did you mean `length`?",
            ),
            ("length = 9\nrule \"charset\" {}", "no `charset`"),
            (
                "length = 9\nrule \"chars\" { charset = \"ab\" }",
                "unknown rule",
            ),
            ("length = 9\nrule \"charset\" { charset = \"\" }", "empty"),
            (
                "length = 9\nrule \"charset\" { charset = \"a\\tb\" }",
                "printable",
            ),
            (
                "length = 9\nrule \"charset\" { charset = 7 }",
                "expected a string",
            ),
            (
                "length = 9\nrule \"charset\" {\n charset = \"ab\"\n min-chars = -1\n}",
                "line 4",
            ),
            (
                "length = 9\nrule \"charset\" {\n charset = \"ab\"\n min-chars = 10\n}",
                "no password",
            ),
            (
                "length = 9\nrule \"charset\" {\n charset = \"ab\"\n min-chars = 5\n}\nrule \"charset\" {\n charset = \"cd\"\n min-chars = 5\n}",
                "no password",
            ),
        ] {
            let error = PasswordPolicy::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
