//! The compiled rules of a set of policies: a trie over path segments.
//!
//! Of the patterns that match a path only the greatest in Vault's priority order decides ([`Pattern`]'s order). The
//! order does not depend on the path, so it is computed once: each rule's index is its rank, each node knows the
//! best rank below it, and a search leaves out what cannot win. A check allocates nothing unless a path with
//! capitals meets a set with deny rules, or a request has constrained parameters.
//!
//! Two decisions beyond the page:
//!
//! * The path of a LIST stands for both its forms, `foo` and `foo/`; of the rules that match either, the best decides.
//!   So a rule for `foo` and one for `foo/*` both reach LIST on `foo` (a fault of the past: GHSA-xp3c-3jw3-4vcr). For
//!   everything else a slash at the end does not count, as it does not for the router: it is no way around a rule, and
//!   a rule for `foo/*` grants nothing on `foo`.
//! * A deny rule matches whatever the case of the path (Vault since 2.2.2), because some mounts fold names. A rule
//!   that is spelt exactly as the request and has the same pattern otherwise is the more specific one.
//! * Below `auth/`, `identity/` and `sys/`, where names are folded, so does every rule that is more specific than the one
//!   that matches in the request's own spelling: `users/VIP` is no way around a rule for `users/vip` that grants less than
//!   the one for `users/*`. What no rule matches in its own spelling is not granted by one in another.

use std::borrow::Cow;
use std::collections::BTreeMap;
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
use super::policy::{Policy, Rule, TemplatedRule};
use super::template::{Filled, Values};
use super::trie::Trie;

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
    /// The deny rules.
    denies: InAnyCase,
    /// These, and the rules that can match where names are folded.
    folded: InAnyCase,
    /// The rules that are others for each entity, each with its policy.
    templates: Vec<(PolicyName, TemplatedRule)>,
    /// What one entity's rules lie on: the rules of everybody with these policies. Shared, so that an entity costs
    /// memory for its own rules alone.
    base: Option<Arc<Acl>>,
    /// A deny rule could not be made for this entity: nothing is allowed.
    barred: bool,
}

/// Rules that match whatever the case of the path: their patterns in lower case.
#[derive(Debug, Clone, Default)]
struct InAnyCase {
    rules: Trie,
    /// One of them is written with a capital, so that even a path without any has to be looked up here.
    have_capitals: bool,
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
        let mut joined = Joined::new();
        let mut templates = Vec::new();
        for policy in policies {
            for rule in policy.rules() {
                join(&mut joined, rule, policy.name());
            }
            for rule in policy.templates() {
                templates.push((policy.name().clone(), rule.clone()));
            }
        }
        Self {
            templates,
            ..Self::of(joined)
        }
    }

    /// These rules with the templates filled for one entity. Where none are left, the rules themselves.
    pub fn for_entity(self: &Arc<Self>, values: &dyn Values) -> Arc<Self> {
        if self.root || self.templates.is_empty() {
            return self.clone();
        }
        let mut joined = Joined::new();
        let mut barred = false;
        for (policy, rule) in &self.templates {
            let pattern = match rule.template.fill(values) {
                Filled::Pattern(pattern) => pattern,
                Filled::Absent => continue,
                Filled::Unusable => {
                    barred |= rule.capabilities.is_deny();
                    tracing::warn!(
                        policy = policy.as_str(),
                        denies = rule.capabilities.is_deny(),
                        "a value of the caller's entity cannot stand in the path of a templated rule"
                    );
                    continue;
                }
            };
            let own = Rule {
                pattern,
                capabilities: rule.capabilities,
                parameters: rule.parameters.clone(),
            };
            join(&mut joined, &own, policy);
        }
        if joined.is_empty() && !barred {
            return self.clone();
        }
        // What everybody's rules say of the same path.
        for (pattern, (rule, policies)) in &mut joined {
            if let Ok(at) = self.rules.binary_search_by(|r| r.pattern.cmp(pattern)) {
                let shared = &self.rules[at];
                rule.merge(&Rule {
                    pattern: shared.pattern.clone(),
                    capabilities: shared.capabilities,
                    parameters: shared.parameters.clone(),
                });
                policies.extend(shared.policies.iter().cloned());
            }
        }
        Arc::new(Self {
            base: Some(self.clone()),
            barred,
            ..Self::of(joined)
        })
    }

    /// Whether entities have rules of their own here.
    pub fn has_templates(&self) -> bool {
        !self.templates.is_empty()
    }

    fn of(joined: Joined) -> Self {
        let mut acl = Self::default();
        for (rank, (rule, mut policies)) in joined.into_values().enumerate() {
            acl.trie.insert(&rule.pattern, rank);
            let denies = rule.capabilities.is_deny();
            if denies {
                acl.denies.insert(&rule.pattern, rank);
            }
            if denies || names_may_be_folded(&rule.pattern) {
                acl.folded.insert(&rule.pattern, rank);
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
                reason: match self.barred {
                    true => Reason::Denied,
                    false => Reason::NoRule,
                },
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
        let of = |both_forms| {
            self.find(path, both_forms)
                .map_or(Capabilities::NONE, |rule| rule.capabilities)
        };
        let mut found = of(false);
        // A folder is asked about for its listing.
        if path.ends_with('/') {
            let own = [Capability::List, Capability::Deny];
            found = found.without(&own)
                | match of(true).contains(Capability::List) {
                    true => [Capability::List].into_iter().collect(),
                    false => Capabilities::NONE,
                };
        }
        let words: Vec<_> = found.names().collect();
        if words.is_empty() {
            vec!["deny"]
        } else {
            words
        }
    }

    /// Every rule's pattern and what it grants, as words; none where nothing is allowed.
    pub fn rules(&self) -> impl Iterator<Item = (&str, Vec<&'static str>)> {
        // Of the same pattern the own rule is the joined one.
        let shared = self.base.iter().flat_map(|base| &base.rules);
        let shared = shared.filter(|rule| {
            let own = self
                .rules
                .binary_search_by(|own| own.pattern.cmp(&rule.pattern));
            own.is_err()
        });
        let all = shared.chain(&self.rules).filter(|_| !self.barred);
        all.map(|rule| {
            let words: Vec<_> = rule.capabilities.names().collect();
            (rule.pattern.as_str(), words)
        })
    }

    /// Whether some rule grants anything on a mount (`secret/`) or below it: what a caller may know to exist. Takes
    /// time with the number of rules; it is for listings, not for authorising.
    pub fn reaches(&self, mount: &str) -> bool {
        let grants = |rule: &&Compiled| {
            rule.capabilities != Capabilities::NONE && !rule.capabilities.is_deny()
        };
        self.root
            || !self.barred
                && self
                    .base
                    .iter()
                    .flat_map(|base| &base.rules)
                    .chain(&self.rules)
                    .filter(grants)
                    .any(|rule| below(&rule.pattern, mount.trim_end_matches('/')))
    }

    /// The rule that decides on a path. `both_forms` is set for LIST.
    fn find(&self, path: &str, both_forms: bool) -> Option<&Compiled> {
        if self.barred {
            return None;
        }
        let Some(base) = &self.base else {
            let spelt = self.trie.find(path, both_forms);
            let found = self.find_here(path, both_forms, spelt, spelt.is_some());
            return found.map(|(rule, _)| rule);
        };
        // What a rule of either layer grants, a narrower one of the other may take away.
        let [own, shared] = [self, &**base].map(|layer| layer.trie.find(path, both_forms));
        let granted = own.is_some() || shared.is_some();
        let own = self.find_here(path, both_forms, own, granted);
        let shared = base.find_here(path, both_forms, shared, granted);
        let (Some((own, own_spelt)), Some((shared, shared_spelt))) = (own, shared) else {
            return own.or(shared).map(|(rule, _)| rule);
        };
        // Of the same pattern the own rule is the joined one.
        if own.pattern == shared.pattern {
            return Some(own);
        }
        if own_spelt != shared_spelt && same_but_for_case(&own.pattern, &shared.pattern) {
            return Some(if own_spelt { own } else { shared });
        }
        Some(if own.pattern > shared.pattern {
            own
        } else {
            shared
        })
    }

    /// The same among the rules of this layer, and whether the rule is spelt as the request. `found` is the best that
    /// is; `granted` says whether there is one in any layer.
    fn find_here(
        &self,
        path: &str,
        both_forms: bool,
        found: Option<usize>,
        granted: bool,
    ) -> Option<(&Compiled, bool)> {
        let mut rank = found;
        let in_any_case = match granted && names_are_folded(path) {
            true => &self.folded,
            false => &self.denies,
        };
        if !in_any_case.rules.is_empty() {
            let folded = fold(path);
            if in_any_case.have_capitals || matches!(folded, Cow::Owned(_)) {
                rank = rank.max(in_any_case.rules.find(&folded, both_forms));
            }
        }
        let (mut rule, found) = (&self.rules[rank?], found.map(|found| &self.rules[found]));
        // The rule in the spelling of the request, against one of the same pattern in another spelling.
        if let Some(spelt) = found
            && spelt.pattern != rule.pattern
            && same_but_for_case(&spelt.pattern, &rule.pattern)
        {
            rule = spelt;
        }
        let is_spelt = found.is_some_and(|found| found.pattern == rule.pattern);
        Some((rule, is_spelt))
    }
}

impl InAnyCase {
    fn insert(&mut self, pattern: &Pattern, rank: usize) {
        let folded = pattern.folded();
        self.have_capitals |= folded.as_str() != pattern.as_str();
        self.rules.insert(&folded, rank);
    }
}

/// Whether a pattern can match where names are folded.
fn names_may_be_folded(pattern: &Pattern) -> bool {
    let folded = pattern.folded();
    names_are_folded(folded.as_str()) || folded.as_str().starts_with('+')
}

/// Whether names below this path are the same in any case: those of users, roles, groups, entities and policies.
fn names_are_folded(path: &str) -> bool {
    ["auth/", "identity/", "sys/"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

/// Rules by their paths, in the order of their priority, each with the policies it is from.
type Joined = BTreeMap<Pattern, (Rule, Vec<PolicyName>)>;

fn join(joined: &mut Joined, rule: &Rule, policy: &PolicyName) {
    match joined.get_mut(&rule.pattern) {
        Some((known, from)) => {
            known.merge(rule);
            from.push(policy.clone());
        }
        None => {
            joined.insert(rule.pattern.clone(), (rule.clone(), vec![policy.clone()]));
        }
    }
}

fn same_but_for_case(one: &Pattern, other: &Pattern) -> bool {
    fold(one.as_str()) == fold(other.as_str())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
