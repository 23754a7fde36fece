//! The slow, obvious model: the rules of Vault's page, written down as they read, compared with the trie on random
//! policies and paths.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use obol_mount::Operation;
use proptest::prelude::*;

use super::{Access, Acl, Policy};

/// Whether a pattern matches a path, segment by segment.
fn matches(pattern: &str, path: &str) -> bool {
    let parts: Vec<_> = pattern.split('/').collect();
    let segments: Vec<_> = path.split('/').collect();
    let glob = pattern.ends_with('*');
    if segments.len() < parts.len() || (!glob && segments.len() > parts.len()) {
        return false;
    }
    parts.iter().enumerate().all(|(i, part)| match part {
        part if glob && i == parts.len() - 1 => segments[i].starts_with(part.trim_end_matches('*')),
        &"+" => true,
        part => *part == segments[i],
    })
}

/// Whether `p1` has lower priority than `p2`: the five criteria, one after another.
fn lower(p1: &str, p2: &str) -> bool {
    let first_wildcard = |p: &str| {
        (0..p.len()).find(|&i| {
            let at_start = i == 0 || p.as_bytes()[i - 1] == b'/';
            let at_end = i + 1 == p.len() || p.as_bytes()[i + 1] == b'/';
            p.as_bytes()[i] == b'*' || (p.as_bytes()[i] == b'+' && at_start && at_end)
        })
    };
    let pluses = |p: &str| p.split('/').filter(|segment| *segment == "+").count();
    match (first_wildcard(p1), first_wildcard(p2)) {
        (Some(_), None) => return true,
        (None, Some(_)) => return false,
        (Some(a), Some(b)) if a != b => return a < b,
        _ => {}
    }
    if p1.ends_with('*') != p2.ends_with('*') {
        return p1.ends_with('*');
    }
    if pluses(p1) != pluses(p2) {
        return pluses(p1) > pluses(p2);
    }
    if p1.len() != p2.len() {
        return p1.len() < p2.len();
    }
    p1 < p2
}

type Rules = Vec<(String, Vec<&'static str>)>;

fn best(patterns: Vec<&String>) -> Option<&String> {
    patterns
        .into_iter()
        .reduce(|a, b| if lower(a, b) { b } else { a })
}

/// The capabilities of the rule that decides, or none: all policies' rules in one list, deny over all of one pattern.
fn decide(rules: &Rules, path: &str, list: bool) -> BTreeSet<&'static str> {
    let bare = path.strip_suffix('/').unwrap_or(path);
    let forms = match list {
        true => vec![bare.to_owned(), format!("{bare}/")],
        false => vec![bare.to_owned()],
    };
    let capabilities = |pattern: &str| -> BTreeSet<_> {
        let all: BTreeSet<_> = rules
            .iter()
            .filter(|(p, _)| p == pattern)
            .flat_map(|(_, words)| words.clone())
            .collect();
        if all.contains("deny") {
            BTreeSet::from(["deny"])
        } else {
            all
        }
    };
    let spelt = best(
        rules
            .iter()
            .map(|(p, _)| p)
            .filter(|p| forms.iter().any(|f| matches(p, f)))
            .collect(),
    );
    let folded = best(
        rules
            .iter()
            .map(|(p, _)| p)
            .filter(|p| capabilities(p).contains("deny"))
            .filter(|p| {
                forms
                    .iter()
                    .any(|f| matches(&p.to_lowercase(), &f.to_lowercase()))
            })
            .collect(),
    );
    match (spelt, folded) {
        (None, None) => BTreeSet::new(),
        (Some(rule), None) | (None, Some(rule)) => capabilities(rule),
        (Some(spelt), Some(deny))
            if lower(spelt, deny) && spelt.to_lowercase() != deny.to_lowercase() =>
        {
            capabilities(deny)
        }
        (Some(spelt), Some(_)) => capabilities(spelt),
    }
}

fn segment() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("ab"), Just("A"), Just("aB")]
}

fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof![3 => segment(), 2 => Just("+"), 1 => Just("a+")];
    let end = prop_oneof![3 => Just(""), 1 => Just("/"), 2 => Just("/*"), 1 => Just("/a*"), 1 => Just("/A*"), 1 => Just("/ab*")];
    (prop::collection::vec(part, 0..4), end).prop_filter_map("a pattern", |(parts, end)| {
        let text = format!("{}{end}", parts.join("/"));
        let text = text.strip_prefix('/').unwrap_or(&text).to_owned();
        (!text.is_empty()).then_some(text)
    })
}

fn words() -> impl Strategy<Value = Vec<&'static str>> {
    let word = prop_oneof![
        3 => Just("read"), 2 => Just("list"), 2 => Just("update"), 1 => Just("sudo"), 2 => Just("deny")
    ];
    prop::collection::vec(word, 0..3)
}

fn policies() -> impl Strategy<Value = Vec<Rules>> {
    prop::collection::vec(prop::collection::vec((pattern(), words()), 0..6), 1..4)
}

fn path() -> impl Strategy<Value = String> {
    (prop::collection::vec(segment(), 1..5), any::<bool>())
        .prop_map(|(segments, slash)| segments.join("/") + if slash { "/" } else { "" })
}

fn compile(policies: &[Rules]) -> Acl {
    let parsed = policies.iter().enumerate().map(|(i, rules)| {
        let blocks = rules
            .iter()
            .map(|(path, words)| format!("path {path:?} {{ capabilities = {words:?} }}\n"));
        Arc::new(Policy::parse(&format!("p{i}"), &blocks.collect::<String>()).unwrap())
    });
    Acl::compile(&parsed.collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_trie_decides_as_the_model_does(policies in policies(), paths in prop::collection::vec(path(), 1..12)) {
        let acl = compile(&policies);
        let rules: Rules = policies.concat();
        for path in &paths {
            for operation in [Operation::Read, Operation::Update, Operation::List, Operation::Delete] {
                let expected = decide(&rules, path, operation == Operation::List);
                let decision = acl.check(&Access { operation, path, data: None, wrap_ttl: None });
                prop_assert_eq!(
                    decision.allowed, expected.contains(operation.as_str()),
                    "{:?} {} {:?} {:?}", operation, path, expected, decision
                );
                prop_assert_eq!(decision.sudo, expected.contains("sudo"));
            }
            let mut expected = decide(&rules, path, false);
            // A folder is asked about for its listing.
            if path.ends_with('/') {
                expected.retain(|word| !["list", "deny"].contains(word));
                expected.extend(decide(&rules, path, true).take("list"));
            }
            let mut expected: Vec<_> = expected.into_iter().collect();
            if expected.is_empty() {
                expected.push("deny");
            }
            prop_assert_eq!(acl.capabilities(path), expected, "{}", path);
        }
    }

    #[test]
    fn the_order_of_patterns_is_the_models(a in pattern(), b in pattern()) {
        let parse = |text: &str| super::Pattern::parse(text).unwrap();
        prop_assert_eq!(parse(&a) < parse(&b), lower(&a, &b), "{} {}", a, b);
    }

    #[test]
    fn the_order_of_policies_does_not_matter(policies in policies(), path in path()) {
        let reversed: Vec<_> = policies.iter().rev().cloned().collect();
        prop_assert_eq!(compile(&policies).capabilities(&path), compile(&reversed).capabilities(&path));
    }

    #[test]
    fn formatting_a_policy_keeps_its_rules(policies in policies(), junk in "[#/ \n]{0,6}") {
        for rules in &policies {
            let blocks = rules.iter().map(|(path, words)| format!("path {path:?}{{capabilities={words:?}}} #{junk}\n"));
            let text = blocks.collect::<String>();
            if let Ok(policy) = Policy::parse("p", &text) {
                let neat = super::format(&text).unwrap();
                let reread = Policy::parse("p", &neat).unwrap();
                prop_assert_eq!(reread.rules(), policy.rules());
                prop_assert_eq!(super::format(&neat).unwrap(), neat);
            }
        }
    }
}
