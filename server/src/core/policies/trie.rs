//! The trie of rules over path segments. What it knows of a rule is its rank: of the rules that match, the highest.

use std::collections::HashMap;

use super::pattern::{Pattern, Step};

/// Nodes refer to each other by index; node 0 is the root.
#[derive(Debug, Clone, Default)]
pub(super) struct Trie {
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
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a pattern; where one is already there (deny rules that differ only in case), the better rank stays.
    pub(super) fn insert(&mut self, pattern: &Pattern, rank: usize) {
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

    /// The best rule for a path, whose trailing slash does not count; with `both_forms` also of those for the path with
    /// that slash.
    pub(super) fn find(&self, path: &str, both_forms: bool) -> Option<usize> {
        let bare = path.strip_suffix('/').unwrap_or(path);
        let mut best = None;
        if let Some(root) = self.nodes.first() {
            self.walk(root, Some(bare), both_forms, &mut best);
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
