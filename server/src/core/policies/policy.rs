//! One policy: its text, parsed into rules. What the language does not know is refused with its line and column,
//! so that no rule is silently without effect.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use obol_mount::duration;
use serde_json::{Map, Value as Json};

use super::builtin::ROOT;
use super::capability::{Capabilities, Capability};
use super::fold;
use super::name::PolicyName;
use super::parameters::Parameters;
use super::pattern::Pattern;
use super::template::Template;
pub use crate::hcl::Error as PolicyError;
use crate::hcl::{self, Name, Node, Object, Stanza, Value, quoted, suggest};

/// The longest text of a policy in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// A parsed policy. Only [`Policy::root`] is root.
#[derive(Debug, Clone)]
pub struct Policy {
    name: PolicyName,
    text: Arc<str>,
    rules: Vec<Rule>,
    templates: Vec<TemplatedRule>,
}

/// What a policy says of one path: the blocks of the same path are joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub pattern: Pattern,
    pub capabilities: Capabilities,
    /// `None` when there are none. Boxed: most rules have none.
    pub parameters: Option<Box<Parameters>>,
}

/// A rule whose path is another for each entity.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplatedRule {
    pub template: Template,
    pub capabilities: Capabilities,
    pub parameters: Option<Box<Parameters>>,
}

impl Policy {
    /// Reads a policy in HCL or JSON.
    ///
    /// # Errors
    /// A bad name is reported at line 1, column 1; everything else where it stands in the text. `root` has no text
    /// and cannot be written.
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        let name = PolicyName::parse(name).map_err(|e| PolicyError::at("", 0, e.to_string()))?;
        if name.is_root() {
            return Err(PolicyError::at(
                "",
                0,
                "the policy `root` is built in and cannot be written",
            ));
        }
        if text.len() > MAX_TEXT {
            return Err(PolicyError::too_large());
        }
        let (rules, templates) = Reader { text }.policy(&hcl::parse(text)?)?;
        Ok(Self {
            name,
            text: text.into(),
            rules,
            templates,
        })
    }

    /// The built-in policy that allows everything. It has no text.
    pub fn root() -> Arc<Self> {
        let name = PolicyName::parse(ROOT).expect("`root` is a policy name");
        Arc::new(Self {
            name,
            text: "".into(),
            rules: Vec::new(),
            templates: Vec::new(),
        })
    }

    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The rules, each path once.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules whose paths have templates.
    pub fn templates(&self) -> &[TemplatedRule] {
        &self.templates
    }

    pub fn is_root(&self) -> bool {
        self.name.is_root()
    }
}

impl PolicyError {
    pub(super) fn too_large() -> Self {
        Self::at(
            "",
            0,
            format!("a policy may not be longer than {MAX_TEXT} bytes"),
        )
    }
}

impl Rule {
    /// Joins what is said of the same path elsewhere: capabilities unite, and deny leaves nothing else.
    pub(super) fn merge(&mut self, other: &Self) {
        self.capabilities |= other.capabilities;
        match (&mut self.parameters, &other.parameters) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
        if self.capabilities.is_deny() {
            self.parameters = None;
        }
    }
}

const TOP_KEYS: [&str; 2] = ["path", "name"];

const RULE_KEYS: [&str; 8] = [
    "capabilities",
    "policy",
    "allowed_parameters",
    "denied_parameters",
    "required_parameters",
    "min_wrapping_ttl",
    "max_wrapping_ttl",
    "comment",
];

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn policy(&self, root: &Object) -> Result<(Vec<Rule>, Vec<TemplatedRule>), PolicyError> {
        let mut rules: BTreeMap<Pattern, Rule> = BTreeMap::new();
        let mut templates = Vec::new();
        for member in &root.members {
            match member.key.text.as_str() {
                "path" => {
                    for stanza in member
                        .stanzas()
                        .map_err(|(at, message)| self.error(at, message))?
                    {
                        let label = &stanza.label;
                        let refuse = |why: &dyn std::fmt::Display| {
                            self.error(label.at, format!("path {}: {why}", quoted(&label.text)))
                        };
                        if Template::is_in(&label.text) {
                            let template = Template::parse(&label.text).map_err(|e| refuse(&e))?;
                            let (capabilities, parameters) = self.body(&stanza)?;
                            templates.push(TemplatedRule {
                                template,
                                capabilities,
                                parameters,
                            });
                            continue;
                        }
                        let pattern = Pattern::parse(&label.text).map_err(|e| refuse(&e))?;
                        let (capabilities, parameters) = self.body(&stanza)?;
                        let rule = Rule {
                            pattern,
                            capabilities,
                            parameters,
                        };
                        match rules.get_mut(&rule.pattern) {
                            Some(known) => known.merge(&rule),
                            None => {
                                rules.insert(rule.pattern.clone(), rule);
                            }
                        }
                    }
                }
                // A label for people, as in Vault: the name under which a policy is stored is the one that counts.
                "name" if member.labels.is_empty() => {
                    self.string(&member.value)?;
                }
                _ => return Err(self.unknown(&member.key, &TOP_KEYS)),
            }
        }
        Ok((rules.into_values().collect(), templates))
    }

    /// What a block says of its path.
    fn body(
        &self,
        stanza: &Stanza<'_>,
    ) -> Result<(Capabilities, Option<Box<Parameters>>), PolicyError> {
        let mut capabilities = None;
        let mut parameters = Parameters::default();
        let mut seen = HashSet::new();
        for member in &stanza.body.members {
            let key = member.key.text.as_str();
            if !RULE_KEYS.contains(&key) {
                return Err(self.unknown(&member.key, &RULE_KEYS));
            }
            if let Some(label) = member.labels.first() {
                return Err(self.error(label.at, format!("{} takes no label", quoted(key))));
            }
            if !seen.insert(key) {
                return Err(self.error(
                    member.key.at,
                    format!("{} is set twice; remove one of them", quoted(key)),
                ));
            }
            let value = &member.value;
            match key {
                "capabilities" => {
                    *capabilities.get_or_insert(Capabilities::NONE) |= self.capabilities(value)?;
                }
                "policy" => {
                    *capabilities.get_or_insert(Capabilities::NONE) |= self.shorthand(value)?
                }
                "allowed_parameters" => parameters.allowed = self.values(value)?,
                "denied_parameters" => parameters.denied = self.values(value)?,
                "required_parameters" => {
                    for item in self.list(value)? {
                        parameters
                            .required
                            .insert(fold(self.string(item)?).into_owned());
                    }
                }
                "min_wrapping_ttl" => parameters.min_wrapping_ttl = self.ttl(value)?,
                "comment" => drop(self.string(value)?),
                _ => parameters.max_wrapping_ttl = self.ttl(value)?,
            }
        }
        let Some(capabilities) = capabilities else {
            let message = format!(
                "path {} has no `capabilities`, so it would allow nothing",
                quoted(&stanza.label.text)
            );
            return Err(self.error(stanza.label.at, message));
        };
        if let (Some(min), Some(max)) = (parameters.min_wrapping_ttl, parameters.max_wrapping_ttl)
            && min > max
        {
            return Err(self.error(
                stanza.label.at,
                "`min_wrapping_ttl` is longer than `max_wrapping_ttl`",
            ));
        }
        let bare = parameters.is_empty() || capabilities.is_deny();
        Ok((capabilities, (!bare).then(|| Box::new(parameters))))
    }

    fn capabilities(&self, node: &Node) -> Result<Capabilities, PolicyError> {
        self.list(node)?
            .iter()
            .map(|item| {
                let word = self.string(item)?;
                Capability::parse(word).ok_or_else(|| {
                    let hint = match suggest(word, Capability::names()) {
                        Some(near) => format!("; did you mean `{near}`?"),
                        None if word == "write" => "; write `create` and `update`".into(),
                        None => format!(
                            "; known are {}",
                            Capability::names().collect::<Vec<_>>().join(", ")
                        ),
                    };
                    self.error(
                        item.at,
                        format!("unknown capability {}{hint}", quoted(word)),
                    )
                })
            })
            .collect()
    }

    /// The older way to write capabilities: one word for a set.
    fn shorthand(&self, node: &Node) -> Result<Capabilities, PolicyError> {
        use Capability::*;
        let words: &[Capability] = match self.string(node)? {
            "deny" => &[Deny],
            "read" => &[Read, List],
            "write" => &[Create, Read, Update, Delete, List],
            "sudo" => &[Create, Read, Update, Delete, List, Sudo],
            other => {
                let message = format!(
                    "unknown policy {}; known are deny, read, write, sudo",
                    quoted(other)
                );
                return Err(self.error(node.at, message));
            }
        };
        Ok(words.iter().copied().collect())
    }

    /// `{ "name" = [values], ... }`, names folded.
    fn values(&self, node: &Node) -> Result<BTreeMap<String, Vec<Json>>, PolicyError> {
        let Value::Object(object) = &node.value else {
            let found = node.value.kind();
            return Err(self.error(
                node.at,
                format!("expected {{ \"parameter\" = [values] }}, found {found}"),
            ));
        };
        let mut map = BTreeMap::new();
        for member in &object.members {
            if let Some(label) = member.labels.first() {
                return Err(self.error(label.at, "expected `=` and a list of values"));
            }
            let name = fold(&member.key.text).into_owned();
            let items = self.list(&member.value)?;
            if name == "*" && !items.is_empty() {
                return Err(self.error(
                    member.value.at,
                    "the only value that the parameter `*` takes is []",
                ));
            }
            let values = items
                .iter()
                .map(|item| self.json(item))
                .collect::<Result<_, _>>()?;
            if map.insert(name, values).is_some() {
                let message = format!(
                    "{} is set twice (names are compared without case)",
                    quoted(&member.key.text)
                );
                return Err(self.error(member.key.at, message));
            }
        }
        Ok(map)
    }

    fn json(&self, node: &Node) -> Result<Json, PolicyError> {
        Ok(match &node.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text) => {
                if text.contains("{{identity.") {
                    return Err(self.error(node.at, super::PatternError::Template.to_string()));
                }
                Json::String(text.to_string())
            }
            Value::List(items) => Json::Array(
                items
                    .iter()
                    .map(|item| self.json(item))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(object) => {
                let mut map = Map::new();
                for member in &object.members {
                    if let Some(label) = member.labels.first() {
                        return Err(self.error(label.at, "expected `=` and a value"));
                    }
                    map.insert(member.key.text.clone(), self.json(&member.value)?);
                }
                Json::Object(map)
            }
        })
    }

    fn ttl(&self, node: &Node) -> Result<Option<Duration>, PolicyError> {
        let parsed = match &node.value {
            Value::Text(text) => duration::parse(text),
            Value::Number(number) => duration::parse(&number.to_string()),
            other => {
                return Err(self.error(
                    node.at,
                    format!("expected a duration such as \"1h\", found {}", other.kind()),
                ));
            }
        };
        let ttl = parsed.map_err(|e| self.error(node.at, e.to_string()))?;
        // Zero is "not set", as in Vault.
        Ok((!ttl.is_zero()).then_some(ttl))
    }

    fn list<'n>(&self, node: &'n Node) -> Result<&'n [Node], PolicyError> {
        match &node.value {
            Value::List(items) => Ok(items),
            other => Err(self.error(
                node.at,
                format!("expected a list, [ ... ], found {}", other.kind()),
            )),
        }
    }

    fn string<'n>(&self, node: &'n Node) -> Result<&'n str, PolicyError> {
        match &node.value {
            Value::Text(text) => Ok(text),
            other => Err(self.error(
                node.at,
                format!("expected a string, found {}", other.kind()),
            )),
        }
    }

    fn unknown(&self, key: &Name, known: &[&str]) -> PolicyError {
        let hint = match suggest(&key.text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.error(key.at, format!("unknown key {}; {hint}", quoted(&key.text)))
    }

    fn error(&self, at: usize, message: impl Into<String>) -> PolicyError {
        PolicyError::at(self.text, at, message)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(text: &str) -> Vec<(String, String)> {
        let policy = Policy::parse("test", text).unwrap();
        policy
            .rules()
            .iter()
            .map(|r| {
                (
                    r.pattern.as_str().into(),
                    r.capabilities.names().collect::<Vec<_>>().join(","),
                )
            })
            .collect()
    }

    fn error(text: &str) -> String {
        Policy::parse("test", text).unwrap_err().to_string()
    }

    #[test]
    fn hcl_and_json_say_the_same() {
        let hcl = "name = \"x\"\npath \"/secret/*\" { capabilities = [\"read\", \"list\"] }\npath \"secret/a\" { policy = \"deny\" }";
        let expected = [
            ("secret/*".to_owned(), "list,read".to_owned()),
            ("secret/a".to_owned(), "deny".to_owned()),
        ];
        assert_eq!(rules(hcl), expected);
        for json in [
            r#"{"path": {"secret/*": {"capabilities": ["read", "list"]}, "secret/a": {"policy": "deny"}}}"#,
            r#"{"path": [{"secret/*": [{"capabilities": ["read", "list"]}]}, {"secret/a": {"policy": "deny"}}]}"#,
        ] {
            assert_eq!(rules(json), expected);
        }
        assert_eq!(rules(""), []);
        assert_eq!(rules("# nothing"), []);
    }

    #[test]
    fn the_old_shorthand_stands_for_sets() {
        for (word, set) in [
            ("read", "list,read"),
            ("write", "create,delete,list,read,update"),
            ("sudo", "create,delete,list,read,sudo,update"),
            ("deny", "deny"),
        ] {
            assert_eq!(
                rules(&format!("path \"a\" {{ policy = \"{word}\" }}"))[0].1,
                set
            );
        }
        assert_eq!(
            rules(r#"path "a" { policy = "read", capabilities = ["update", "sudo"] }"#)[0].1,
            "list,read,sudo,update"
        );
        assert_eq!(
            rules(r#"path "a" { policy = "deny", capabilities = ["read"] }"#)[0].1,
            "deny"
        );
    }

    #[test]
    fn blocks_of_one_path_are_joined_and_deny_wins() {
        let text = r#"path "a" { capabilities = ["read"] } path "/a" { capabilities = ["list"] }"#;
        assert_eq!(rules(text), [("a".to_owned(), "list,read".to_owned())]);
        let text = r#"path "a" { capabilities = ["read"] } path "a" { capabilities = ["deny"] }"#;
        assert_eq!(rules(text), [("a".to_owned(), "deny".to_owned())]);
    }

    #[test]
    fn errors_name_line_column_and_the_mend() {
        for (text, message) in [
            (
                "path \"a\" {\n  capabilites = [\"read\"]\n}",
                "line 2, column 3: unknown key `capabilites`; did you mean `capabilities`?",
            ),
            (
                "path \"a\" {\n  capabilities = [\"read\", \"raed\"]\n}",
                "line 2, column 27: unknown capability `raed`; did you mean `read`?",
            ),
            (
                "path \"a\" { capabilities = [\"write\"] }",
                "line 1, column 28: unknown capability `write`; write `create` and `update`",
            ),
            (
                "{\"path\": {\"a\": {\"capabilities\": [\"read\"],\n \"mfa_methods\": []}}}",
                "line 2, column 2: unknown key `mfa_methods`; known here: capabilities, policy, allowed_parameters, \
                 denied_parameters, required_parameters, min_wrapping_ttl, max_wrapping_ttl, comment",
            ),
            (
                "paths \"a\" {}",
                "line 1, column 1: unknown key `paths`; did you mean `path`?",
            ),
            (
                "path \"a\" {}",
                "line 1, column 6: path `a` has no `capabilities`, so it would allow nothing",
            ),
            (
                "path \"a\" { capabilities = \"read\" }",
                "line 1, column 27: expected a list, [ ... ], found a string",
            ),
            (
                "path \"a\" { capabilities = [1] }",
                "line 1, column 28: expected a string, found a number",
            ),
            (
                "path \"a/+*\" { capabilities = [] }",
                "line 1, column 6: path `a/+*`: `+*` is not allowed: `+` stands for one whole segment; use `+/*` or `*`",
            ),
            (
                "path \"a/{{identity.entity.id}}/*\" { capabilities = []\n capabilities = [] }",
                "line 2, column 2: `capabilities` is set twice; remove one of them",
            ),
            (
                "path \"a\" { capabilities = []\n min_wrapping_ttl = \"2h\"\n max_wrapping_ttl = 3600 }",
                "line 1, column 6: `min_wrapping_ttl` is longer than `max_wrapping_ttl`",
            ),
            (
                "path \"a\" { capabilities = []\n allowed_parameters = { \"*\" = [1] } }",
                "line 2, column 31: the only value that the parameter `*` takes is []",
            ),
            (
                "path \"a\" { capabilities = []\n denied_parameters = { \"a\" = [], \"A\" = [] } }",
                "line 2, column 34: `A` is set twice (names are compared without case)",
            ),
            (
                "path \"a\" { capabilities = []\n capabilities = [] }",
                "line 2, column 2: `capabilities` is set twice; remove one of them",
            ),
            (
                "path \"a\" \"b\" {}",
                "line 1, column 10: `path` takes one label",
            ),
            (
                "path = 1",
                "line 1, column 8: expected a block: path \"...\" { ... }, found a number",
            ),
            (
                "path \"a\" {",
                "line 1, column 11: `}` is missing at the end",
            ),
            (
                "name = 1",
                "line 1, column 8: expected a string, found a number",
            ),
        ] {
            assert_eq!(error(text), message);
        }
        assert!(
            error("path \"a\" { capabilities = []\n min_wrapping_ttl = \"soon\" }")
                .starts_with("line 2, column 21: ")
        );
        assert!(
            error("path \"a\" { capabilities = []\n min_wrapping_ttl = -1 }")
                .starts_with("line 2, column 21: ")
        );
    }

    #[test]
    fn root_and_bad_names_cannot_be_written() {
        for name in ["root", "ROOT", " root", "root\0", "", "a/b"] {
            assert!(Policy::parse(name, "").is_err(), "{name:?}");
        }
        assert!(Policy::root().is_root());
        assert_eq!(Policy::parse("Dev", "").unwrap().name().as_str(), "dev");
    }

    #[test]
    fn json_bomb_a_text_that_is_too_large_is_refused() {
        assert!(error(&" ".repeat(MAX_TEXT + 1)).contains("longer than"));
        assert!(Policy::parse("a", &" ".repeat(MAX_TEXT)).is_ok());
    }

    #[test]
    fn glob_in_template_templates_stand_in_paths_and_nowhere_else() {
        let policy = Policy::parse(
            "test",
            "path \"a/{{identity.entity.name}}/*\" { capabilities = [\"read\"] }",
        )
        .unwrap();
        assert_eq!((policy.rules().len(), policy.templates().len()), (0, 1));
        for (path, why) in [
            ("a/{{identity.entity.nam}}", "unknown template"),
            ("a/{{identity.entity.name", "without"),
            ("a/{{identity.entity.name}}/*/x", "wildcard only"),
        ] {
            let text = error(&format!("path \"{path}\" {{ capabilities = [] }}"));
            assert!(
                text.starts_with("line 1, column 6: ") && text.contains(why),
                "{text}"
            );
        }
        let with = |value: &str| {
            let text = format!(
                "path \"a\" {{ capabilities = []\n allowed_parameters = {{ f = [\"{value}\"] }} }}"
            );
            Policy::parse("a", &text)
        };
        assert!(with("(member={{.UserDN}})").is_ok());
        assert!(with("{{identity.entity.name}}").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,80}") {
            let _ = Policy::parse("test", &text);
            let _ = Policy::parse("test", &format!("path \"{text}\" {{ capabilities = [\"{text}\"] }}"));
            let _ = Policy::parse("test", &format!("{{\"path\": {{\"a\": {text}}}}}"));
        }
    }
}
