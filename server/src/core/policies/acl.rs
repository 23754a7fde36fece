//! The compiled rules of a set of policies: a trie over path segments.
//!
//! Of the patterns that match a path only the greatest in Vault's priority order decides ([`Pattern`]'s order). The
//! order does not depend on the path, so it is computed once: each rule's index is its rank, each node knows the
//! best rank below it, and a search leaves out what cannot win. A check allocates nothing unless a path with
//! capitals meets a set with deny rules, or a request has constrained parameters.
//!
//! Two decisions beyond the page:
//!
//! * A path with a trailing slash, and the path of every LIST, stands for both its forms, `foo` and `foo/`; of the
//!   rules that match either, the best decides. So a rule for `foo` and one for `foo/*` both reach LIST on `foo`
//!   (a fault of the past: GHSA-xp3c-3jw3-4vcr), and a slash at the end is no way around a rule.
//! * A deny rule matches whatever the case of the path (Vault since 2.2.2), because some mounts fold names. A rule
//!   that is spelt exactly as the request and has the same pattern otherwise is the more specific one.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use obol_mount::Operation;
use serde_json::{Map, Value};

use super::capability::{Capabilities, Capability};
use super::fold;
use super::name::PolicyName;
use super::parameters::Parameters;
use super::pattern::{Pattern, Step};
use super::policy::{Policy, Rule};

/// What a request wants.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    pub operation: Operation,
    /// Checked and decoded ([`crate::core::path::RequestPath::as_sent`]).
    pub path: &'a str,
    /// Every parameter that the mount will see, from the body and from the query, as one map, without those of the
    /// protocol itself (`list`, `help`). A name that came in both must have been refused before.
    pub data: Option<&'a Map<String, Value>>,
    /// What the client asked for in `X-Vault-Wrap-TTL`.
    pub wrap_ttl: Option<Duration>,
}

/// The answer, and why.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    pub allowed: bool,
    /// The caller is root or has `sudo` on this path; a root-protected path needs this beside `allowed`.
    pub sudo: bool,
    pub reason: Reason<'a>,
    /// The pattern of the rule that decided.
    pub rule: Option<&'a str>,
    /// The policies that rule comes from, for the audit log.
    pub policies: &'a [PolicyName],
}

/// Why a request is allowed or not: for the operator's log, never for the client, who learns "permission denied".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    Root,
    Granted,
    /// No rule matches the path.
    NoRule,
    /// The rule says `deny`.
    Denied,
    /// The rule lacks the capability that the operation needs.
    CapabilityMissing(Capability),
    /// The rule demands a wrapped response.
    WrappingRequired,
    /// The wrapping TTL is outside what the rule allows.
    WrappingTtl,
    /// A parameter that the rule requires is absent or null.
    ParameterMissing(&'a str),
    /// A parameter, or its value, is one that the rule denies. The name is the rule's.
    ParameterDenied(&'a str),
    /// A parameter, or its value, is not among those that the rule allows.
    ParameterNotAllowed,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Granted => f.write_str("granted"),
            Self::NoRule => f.write_str("no rule matches the path"),
            Self::Denied => f.write_str("the rule denies"),
            Self::CapabilityMissing(capability) => {
                let set: Capabilities = [*capability].into_iter().collect();
                write!(
                    f,
                    "the rule does not grant {}",
                    set.names().collect::<String>()
                )
            }
            Self::WrappingRequired => f.write_str("the rule requires response wrapping"),
            Self::WrappingTtl => f.write_str("the wrapping TTL is outside the rule's bounds"),
            Self::ParameterMissing(name) => write!(f, "the rule requires the parameter `{name}`"),
            Self::ParameterDenied(name) => {
                write!(f, "the rule denies the parameter `{name}` or its value")
            }
            Self::ParameterNotAllowed => {
                f.write_str("a parameter or its value is not among those the rule allows")
            }
        }
    }
}

/// The rules of a set of policies, ready to answer. Shared by all tokens with that set.
#[derive(Debug, Clone, Default)]
pub struct Acl {
    root: bool,
    /// By ascending priority: the index is the rank.
    rules: Vec<Compiled>,
    trie: Trie,
    /// The deny rules, their patterns in lower case.
    denies: Trie,
    /// Some deny rule is written with a capital, so that even a path without any has to be looked up there.
    denies_have_capitals: bool,
}

#[derive(Debug, Clone)]
struct Compiled {
    pattern: Pattern,
    capabilities: Capabilities,
    parameters: Option<Box<Parameters>>,
    policies: Box<[PolicyName]>,
}

impl Acl {
    /// Joins policies. The same pattern in several of them is one rule: capabilities unite, deny wins, constraints
    /// are joined. [`Policy::root`] among them allows everything.
    pub fn compile(policies: &[Arc<Policy>]) -> Self {
        if policies.iter().any(|policy| policy.is_root()) {
            return Self {
                root: true,
                ..Self::default()
            };
        }
        let mut joined: BTreeMap<&Pattern, (Rule, Vec<PolicyName>)> = BTreeMap::new();
        for policy in policies {
            for rule in policy.rules() {
                match joined.get_mut(&rule.pattern) {
                    Some((known, from)) => {
                        known.merge(rule);
                        from.push(policy.name().clone());
                    }
                    None => {
                        joined.insert(&rule.pattern, (rule.clone(), vec![policy.name().clone()]));
                    }
                }
            }
        }
        let mut acl = Self::default();
        for (rank, (rule, mut policies)) in joined.into_values().enumerate() {
            acl.trie.insert(&rule.pattern, rank);
            if rule.capabilities.is_deny() {
                let folded = rule.pattern.folded();
                acl.denies_have_capitals |= folded.as_str() != rule.pattern.as_str();
                acl.denies.insert(&folded, rank);
            }
            policies.sort();
            policies.dedup();
            acl.rules.push(Compiled {
                pattern: rule.pattern,
                capabilities: rule.capabilities,
                parameters: rule.parameters,
                policies: policies.into(),
            });
        }
        acl
    }

    /// Whether the set is root.
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// Decides on one request.
    pub fn check(&self, access: &Access<'_>) -> Decision<'_> {
        if self.root {
            return Decision {
                allowed: true,
                sudo: true,
                reason: Reason::Root,
                rule: None,
                policies: &[],
            };
        }
        let Some(rule) = self.find(access.path, access.operation == Operation::List) else {
            return Decision {
                allowed: false,
                sudo: false,
                reason: Reason::NoRule,
                rule: None,
                policies: &[],
            };
        };
        let needed = Capability::from(access.operation);
        let reason = if rule.capabilities.is_deny() {
            Reason::Denied
        } else if !rule.capabilities.contains(needed) {
            Reason::CapabilityMissing(needed)
        } else {
            let checked = rule.parameters.as_ref().map_or(Ok(()), |p| {
                p.check(access.operation, access.data, access.wrap_ttl)
            });
            checked.err().unwrap_or(Reason::Granted)
        };
        Decision {
            allowed: reason == Reason::Granted,
            sudo: rule.capabilities.contains(Capability::Sudo),
            reason,
            rule: Some(rule.pattern.as_str()),
            policies: &rule.policies,
        }
    }

    /// What may be done on a path, as `sys/capabilities` answers: sorted words, `["deny"]` for nothing at all,
    /// `["root"]` for everything.
    pub fn capabilities(&self, path: &str) -> Vec<&'static str> {
        if self.root {
            return vec!["root"];
        }
        let found: Vec<_> = self
            .find(path, false)
            .map(|rule| rule.capabilities.names().collect())
            .unwrap_or_default();
        if found.is_empty() {
            vec!["deny"]
        } else {
            found
        }
    }

    /// Whether some rule grants anything on a mount (`secret/`) or below it: what a caller may know to exist. Takes
    /// time with the number of rules; it is for listings, not for authorising.
    pub fn reaches(&self, mount: &str) -> bool {
        let grants = |rule: &&Compiled| {
            rule.capabilities != Capabilities::NONE && !rule.capabilities.is_deny()
        };
        self.root
            || self
                .rules
                .iter()
                .filter(grants)
                .any(|rule| below(&rule.pattern, mount.trim_end_matches('/')))
    }

    /// The rule that decides on a path. `both_forms` is set for LIST.
    fn find(&self, path: &str, both_forms: bool) -> Option<&Compiled> {
        let found = self.trie.find(path, both_forms);
        let mut rank = found;
        if !self.denies.is_empty() {
            let folded = fold(path);
            if self.denies_have_capitals || matches!(folded, Cow::Owned(_)) {
                rank = rank.max(self.denies.find(&folded, both_forms));
            }
        }
        let (mut rule, found) = (&self.rules[rank?], found.map(|found| &self.rules[found]));
        // The rule in the spelling of the request, against a deny of the same pattern in another spelling.
        if let Some(spelt) = found
            && spelt.pattern != rule.pattern
            && fold(spelt.pattern.as_str()) == fold(rule.pattern.as_str())
        {
            rule = spelt;
        }
        Some(rule)
    }
}

/// Whether a pattern can match a mount's path or something below it.
fn below(pattern: &Pattern, mount: &str) -> bool {
    let mut steps = pattern.steps();
    for segment in mount.split('/') {
        match steps.next() {
            Some(Step::Literal(literal)) if literal == segment => {}
            Some(Step::Plus) => {}
            Some(Step::Prefix(prefix)) => return segment.starts_with(prefix),
            Some(Step::Literal(_)) | None => return false,
        }
    }
    true
}

/// Nodes refer to each other by index; node 0 is the root.
#[derive(Debug, Clone, Default)]
struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    plus: Option<usize>,
    /// The rule whose pattern ends here.
    exact: Option<usize>,
    /// The rules whose pattern goes on with a beginning and `*`.
    globs: HashMap<Box<str>, usize>,
    /// The lengths of those beginnings, longest first, each once.
    glob_lengths: Vec<usize>,
    /// The best rank here and below.
    best: Option<usize>,
}

impl Trie {
    fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a pattern; where one is already there (deny rules that differ only in case), the better rank stays.
    fn insert(&mut self, pattern: &Pattern, rank: usize) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for step in pattern.steps() {
            self.nodes[at].best = self.nodes[at].best.max(Some(rank));
            let fresh = self.nodes.len();
            let node = &mut self.nodes[at];
            let next = match step {
                Step::Literal(segment) => *node.literals.entry(segment.into()).or_insert(fresh),
                Step::Plus => *node.plus.get_or_insert(fresh),
                Step::Prefix(prefix) => {
                    let known = node.globs.entry(prefix.into()).or_insert(rank);
                    *known = rank.max(*known);
                    if let Err(place) = node
                        .glob_lengths
                        .binary_search_by(|length| prefix.len().cmp(length))
                    {
                        node.glob_lengths.insert(place, prefix.len());
                    }
                    return;
                }
            };
            if next == fresh {
                self.nodes.push(Node::default());
            }
            at = next;
        }
        let end = &mut self.nodes[at];
        end.exact = end.exact.max(Some(rank));
        end.best = end.best.max(Some(rank));
    }

    fn find(&self, path: &str, both_forms: bool) -> Option<usize> {
        let bare = path.strip_suffix('/');
        let mut best = None;
        if let Some(root) = self.nodes.first() {
            self.walk(
                root,
                Some(bare.unwrap_or(path)),
                both_forms || bare.is_some(),
                &mut best,
            );
        }
        best
    }

    /// Raises `best` to the best rank that matches `rest` from this node on. `rest` is `None` at the path's end.
    /// The recursion is as deep as the longest pattern, which is bounded.
    fn walk(&self, node: &Node, rest: Option<&str>, slash: bool, best: &mut Option<usize>) {
        if node.best <= *best {
            return;
        }
        let Some(rest) = rest else {
            *best = node.exact.max(*best);
            if slash {
                // The empty segment behind the trailing slash, which `+` and `*` match too.
                let ends = node.literals.get("").copied().into_iter().chain(node.plus);
                let exact = ends.filter_map(|end| self.nodes[end].exact).max();
                *best = exact.max(node.globs.get("").copied()).max(*best);
            }
            return;
        };
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        if let Some(&child) = node.literals.get(segment) {
            self.walk(&self.nodes[child], rest, slash, best);
        }
        // Of the globs at one node the longest is the best.
        let glob = node
            .glob_lengths
            .iter()
            .find_map(|&length| node.globs.get(segment.get(..length)?));
        *best = glob.copied().max(*best);
        if let Some(plus) = node.plus {
            self.walk(&self.nodes[plus], rest, slash, best);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn compile(texts: &[&str]) -> Acl {
        let policies = texts
            .iter()
            .enumerate()
            .map(|(i, text)| Arc::new(Policy::parse(&format!("p{i}"), text).unwrap()));
        Acl::compile(&policies.collect::<Vec<_>>())
    }

    fn access(operation: Operation, path: &str) -> Access<'_> {
        Access {
            operation,
            path,
            data: None,
            wrap_ttl: None,
        }
    }

    fn allows(acl: &Acl, operation: Operation, path: &str) -> bool {
        acl.check(&access(operation, path)).allowed
    }

    #[test]
    fn root_may_do_everything_and_says_so() {
        let acl = Acl::compile(&[Policy::root()]);
        let decision = acl.check(&access(Operation::Delete, "sys/anything"));
        assert!(decision.allowed && decision.sudo && acl.is_root());
        assert_eq!(acl.capabilities("any/path"), ["root"]);
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let acl = Acl::compile(&[]);
        assert_eq!(
            acl.check(&access(Operation::Read, "secret/data/a")).reason,
            Reason::NoRule
        );
        assert_eq!(compile(&[""]).capabilities("a"), ["deny"]);
    }

    #[test]
    fn globs_and_segments_match_as_vaults_page_shows() {
        let acl = compile(&[r#"
            path "secret/foo" { capabilities = ["read"] }
            path "secret/bar/*" { capabilities = ["read"] }
            path "secret/zip-*" { capabilities = ["read"] }
            path "kv/+/teamb" { capabilities = ["read"] }
            path "kv/+/+/teamb" { capabilities = ["read"] }
        "#]);
        for (path, allowed) in [
            ("secret/foo", true),
            ("secret/food", false),
            ("secret/foo/bar", false),
            ("secret/bar/zip", true),
            ("secret/bar/zip/zap", true),
            ("secret/bars/zip", false),
            ("secret/bar", false),
            ("secret/zip-zap", true),
            ("secret/zip-zap/zong", true),
            ("secret/zip/zap", false),
            ("kv/x/teamb", true),
            ("kv/x/y/teamb", true),
            ("kv/teamb", false),
            ("kv/x/y/z/teamb", false),
        ] {
            assert_eq!(allows(&acl, Operation::Read, path), allowed, "{path}");
        }
    }

    #[test]
    fn only_the_highest_priority_pattern_decides() {
        let acl = compile(&[r#"
            path "1/2/*" { capabilities = ["create"] }
            path "1/2/+" { capabilities = ["read"] }
            path "1/2/+/+" { capabilities = ["update"] }
        "#]);
        assert!(
            !allows(&acl, Operation::Read, "1/2/3/4") && allows(&acl, Operation::Update, "1/2/3/4")
        );
        assert!(
            allows(&acl, Operation::Read, "1/2/3") && !allows(&acl, Operation::Update, "1/2/3")
        );
        assert!(allows(&acl, Operation::Create, "1/2/3/4/5"));
        assert_eq!(
            acl.check(&access(Operation::Read, "1/2/3")).rule,
            Some("1/2/+")
        );
    }

    #[test]
    fn the_same_pattern_in_several_policies_unites_and_deny_wins() {
        let acl = compile(&[
            r#"path "kv/a" { capabilities = ["update"] } path "kv/b" { capabilities = ["read", "sudo"] }"#,
            r#"path "kv/a" { capabilities = ["read"] } path "kv/b" { capabilities = ["deny"] }"#,
        ]);
        assert_eq!(acl.capabilities("kv/a"), ["read", "update"]);
        assert_eq!(acl.capabilities("kv/b"), ["deny"]);
        let decision = acl.check(&access(Operation::Read, "kv/a"));
        assert_eq!(
            decision
                .policies
                .iter()
                .map(PolicyName::as_str)
                .collect::<Vec<_>>(),
            ["p0", "p1"]
        );
        let decision = acl.check(&access(Operation::Read, "kv/b"));
        assert_eq!(
            (decision.allowed, decision.sudo, decision.reason),
            (false, false, Reason::Denied)
        );
    }

    #[test]
    fn list_bypasses_deny_a_more_specific_deny_reaches_list_on_its_prefix() {
        let list = |acl: &Acl, path| allows(acl, Operation::List, path);
        // GHSA-xp3c-3jw3-4vcr, word for word.
        let acl = compile(&[r#"
            path "secrets/metadata/*" { capabilities = ["list"] }
            path "secrets/metadata/restricted/*" { capabilities = ["deny"] }
        "#]);
        for path in [
            "secrets/metadata/restricted",
            "secrets/metadata/restricted/",
            "secrets/metadata/restricted/x",
        ] {
            assert!(!list(&acl, path), "{path}");
        }
        assert!(list(&acl, "secrets/metadata/open") && list(&acl, "secrets/metadata/"));
        // The deny may be written with or without the slash, exact or with a segment wildcard.
        for deny in ["kv/private", "kv/private/", "kv/private*", "kv/+/", "kv/+"] {
            let acl = compile(&[&format!(
                "path \"kv/*\" {{ capabilities = [\"list\"] }}\npath \"{deny}\" {{ capabilities = [\"deny\"] }}"
            )]);
            assert!(
                !list(&acl, "kv/private") && !list(&acl, "kv/private/"),
                "{deny}"
            );
        }
    }

    #[test]
    fn a_list_rule_works_with_and_without_its_slash() {
        for rule in [
            "foo/sys/policies",
            "foo/sys/policies/",
            "+/sys/policies",
            "+/sys/policies/",
            "foo/sys/policies/*",
        ] {
            let acl = compile(&[&format!("path \"{rule}\" {{ capabilities = [\"list\"] }}")]);
            for path in ["foo/sys/policies", "foo/sys/policies/"] {
                assert!(allows(&acl, Operation::List, path), "{rule} {path}");
            }
        }
    }

    #[test]
    fn a_trailing_slash_is_no_way_around_a_rule() {
        let acl = compile(&[r#"
            path "secret/*" { capabilities = ["read"] }
            path "secret/x" { capabilities = ["deny"] }
        "#]);
        assert!(
            !allows(&acl, Operation::Read, "secret/x")
                && !allows(&acl, Operation::Read, "secret/x/")
        );
    }

    #[test]
    fn a_deny_rule_matches_whatever_the_case() {
        let acl = compile(&[r#"
            path "secret/data/*" { capabilities = ["read"] }
            path "secret/data/example" { capabilities = ["deny"] }
            path "secret/data/Team/*" { capabilities = ["deny"] }
            path "secret/data/EXAMPLE2" { capabilities = ["read"] }
            path "secret/data/example2" { capabilities = ["deny"] }
            path "secret/data/team/open/x" { capabilities = ["read"] }
        "#]);
        for path in [
            "secret/data/example",
            "secret/data/EXAMPLE",
            "secret/DATA/example",
            "secret/data/team/a",
            "secret/data/TEAM/a",
        ] {
            assert!(!allows(&acl, Operation::Read, path), "{path}");
        }
        // A more specific rule still decides, and so does the one that is spelt as the request is.
        assert!(allows(&acl, Operation::Read, "secret/data/team/open/x"));
        assert!(allows(&acl, Operation::Read, "secret/data/EXAMPLE2"));
        assert!(!allows(&acl, Operation::Read, "secret/data/Example2"));
        assert!(allows(&acl, Operation::Read, "secret/data/other"));
    }

    #[test]
    fn letters_are_folded_one_by_one() {
        // `str::to_lowercase` folds the last letter of ΑΣ by its neighbours.
        let acl = compile(&[r#"
            path "kv/*" { capabilities = ["read"] }
            path "kv/ΑΣ*" { capabilities = ["deny"] }
        "#]);
        for path in ["kv/ΑΣ", "kv/ΑΣΑ", "kv/ασα", "kv/ασ"] {
            assert!(!allows(&acl, Operation::Read, path), "{path}");
        }
    }

    #[test]
    fn grants_are_case_sensitive() {
        let acl = compile(&[r#"path "secret/Data" { capabilities = ["read"] }"#]);
        assert!(
            allows(&acl, Operation::Read, "secret/Data")
                && !allows(&acl, Operation::Read, "secret/data")
        );
    }

    #[test]
    fn a_wildcard_character_in_a_request_is_only_a_character() {
        let acl = compile(&[r#"
            path "secret/+/x" { capabilities = ["read"] }
            path "secret/a*" { capabilities = ["read"] }
        "#]);
        assert!(
            !allows(&acl, Operation::Read, "secret/*") && !allows(&acl, Operation::Read, "+/+/x")
        );
        assert!(
            allows(&acl, Operation::Read, "secret/+/x")
                && allows(&acl, Operation::Read, "secret/a*")
        );
    }

    #[test]
    fn what_may_be_known_of_a_mount_follows_the_rules_below_it() {
        let acl = compile(&[r#"
            path "foo/+/+/*" { capabilities = ["read"] }
            path "bar*" { capabilities = ["read"] }
            path "auth/token/lookup-self" { capabilities = ["read"] }
            path "hidden/*" { capabilities = ["deny"] }
        "#]);
        for (mount, reached) in [
            ("foo/", true),
            ("foo/bar/", true),
            ("barn/", true),
            ("auth/token/", true),
            ("auth/", true),
            ("hidden/", false),
            ("secret/", false),
            ("ba/", false),
        ] {
            assert_eq!(acl.reaches(mount), reached, "{mount}");
        }
    }

    #[test]
    fn reasons_are_told_to_the_operator() {
        let acl =
            compile(&[r#"path "a" { capabilities = ["read"], required_parameters = ["x"] }"#]);
        assert_eq!(
            acl.check(&access(Operation::Update, "a"))
                .reason
                .to_string(),
            "the rule does not grant update"
        );
        assert_eq!(
            acl.check(&access(Operation::Read, "a")).reason.to_string(),
            "the rule requires the parameter `x`"
        );
    }
}
