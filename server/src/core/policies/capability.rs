//! What a rule may grant, as a set of bits.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use obol_mount::Operation;

/// One word of a rule's `capabilities`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Capability {
    Create = 1,
    Delete = 1 << 1,
    Deny = 1 << 2,
    List = 1 << 3,
    Patch = 1 << 4,
    Read = 1 << 5,
    /// Reading from a snapshot (Vault 1.20). Recorded and reported; no request needs it yet.
    Recover = 1 << 6,
    /// Needed, beside the operation's own, on root-protected paths.
    Sudo = 1 << 7,
    /// Receiving events. Recorded and reported; no request needs it yet.
    Subscribe = 1 << 8,
    Update = 1 << 9,
}

impl Capability {
    /// In alphabetical order, which is the order in which `sys/capabilities` answers.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Create, "create"),
        (Self::Delete, "delete"),
        (Self::Deny, "deny"),
        (Self::List, "list"),
        (Self::Patch, "patch"),
        (Self::Read, "read"),
        (Self::Recover, "recover"),
        (Self::Subscribe, "subscribe"),
        (Self::Sudo, "sudo"),
        (Self::Update, "update"),
    ];

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == word)
            .map(|&(capability, _)| capability)
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|&(_, name)| name)
    }
}

impl From<Operation> for Capability {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Create => Self::Create,
            Operation::Read => Self::Read,
            Operation::Update => Self::Update,
            Operation::Patch => Self::Patch,
            Operation::Delete => Self::Delete,
            Operation::List => Self::List,
        }
    }
}

/// A set of capabilities. A set with `deny` holds nothing else: deny takes precedence over all that is granted
/// beside it, sudo included.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(u16);

impl Capabilities {
    pub const NONE: Self = Self(0);
    pub const DENY: Self = Self(Capability::Deny as u16);

    pub fn contains(self, capability: Capability) -> bool {
        self.0 & capability as u16 != 0
    }

    pub fn without(self, others: &[Capability]) -> Self {
        let others = others.iter().fold(0, |set, other| set | *other as u16);
        Self(self.0 & !others)
    }

    pub fn is_deny(self) -> bool {
        self.contains(Capability::Deny)
    }

    /// The words, in alphabetical order; none for an empty set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Capability::ALL
            .into_iter()
            .filter(move |&(capability, _)| self.contains(capability))
            .map(|(_, name)| name)
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        let union = Self(self.0 | other.0);
        if union.is_deny() { Self::DENY } else { union }
    }
}

impl BitOrAssign for Capabilities {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(words: I) -> Self {
        words
            .into_iter()
            .fold(Self::NONE, |set, word| set | Self(word as u16))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_and_names_one_bit() {
        for (capability, name) in Capability::ALL {
            assert_eq!(Capability::parse(name), Some(capability));
            assert!(Capabilities::from_iter([capability]).names().eq([name]));
        }
        assert_eq!(Capability::parse("write"), None);
        assert!(Capability::names().is_sorted());
    }

    #[test]
    fn deny_leaves_nothing_beside_it() {
        let all: Capabilities = Capability::ALL
            .iter()
            .map(|&(capability, _)| capability)
            .collect();
        assert_eq!(all, Capabilities::DENY);
        assert_eq!(
            Capabilities::DENY | Capabilities::from_iter([Capability::Sudo]),
            Capabilities::DENY
        );
    }
}
