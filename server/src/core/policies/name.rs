//! Policy names as the core keeps them, and sets of them. What a name may be is decided in one place for tokens,
//! roles, groups and settings alike: [`obol_mount::PolicyName`].

use std::collections::BTreeSet;
use std::fmt;

pub use obol_mount::PolicyNameError as NameError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::builtin::{DEFAULT, RESPONSE_WRAPPING, ROOT};

/// A checked policy name with what the core knows of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(obol_mount::PolicyName);

impl PolicyName {
    /// Checks a name and folds it to lower case.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        obol_mount::PolicyName::parse(text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The built-in policy that allows everything. Whoever gives a token this name must themselves be root.
    pub fn is_root(&self) -> bool {
        self.0.is_root()
    }

    /// Whether the policy may be written: all but `root` and `response-wrapping`.
    pub fn is_writable(&self) -> bool {
        !self.is_root() && self.as_str() != RESPONSE_WRAPPING
    }

    /// Whether the policy may be deleted: all but the built-in ones.
    pub fn is_deletable(&self) -> bool {
        self.is_writable() && self.as_str() != DEFAULT
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for PolicyName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::borrow::Borrow<str> for PolicyName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Serialize for PolicyName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for PolicyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The policies of a token or of a role: sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PolicySet(Vec<PolicyName>);

/// Checks every name of a list, drops repetitions and sorts. What the server keeps for its own tokens is refused.
pub fn parse_policy_list<T: AsRef<str>>(
    names: impl IntoIterator<Item = T>,
) -> Result<PolicySet, NameError> {
    names
        .into_iter()
        .map(|name| match PolicyName::parse(name.as_ref())? {
            name if name.as_str() == RESPONSE_WRAPPING => Err(NameError::Reserved),
            name => Ok(name),
        })
        .collect()
}

impl PolicySet {
    pub fn names(&self) -> &[PolicyName] {
        &self.0
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0
            .binary_search_by(|known| known.as_str().cmp(name))
            .is_ok()
    }

    /// Whether the set makes its bearer root, whatever else is in it.
    pub fn grants_root(&self) -> bool {
        self.contains(ROOT)
    }

    /// The set with one name more.
    pub fn with(self, name: PolicyName) -> Self {
        self.0.into_iter().chain([name]).collect()
    }

    /// Whether every name here is in `other` too: what a child token may be given without sudo.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.0.iter().all(|name| other.contains(name.as_str()))
    }

    /// The names as texts, for storage and answers.
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl FromIterator<PolicyName> for PolicySet {
    fn from_iter<I: IntoIterator<Item = PolicyName>>(names: I) -> Self {
        Self(
            names
                .into_iter()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        )
    }
}

impl<'de> Deserialize<'de> for PolicySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<PolicyName>::deserialize(deserializer).map(|names| names.into_iter().collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn policy_name_case_no_spelling_of_root_is_another_policy() {
        for spelling in ["root", "Root", "ROOT", "rOOt"] {
            assert!(PolicyName::parse(spelling).unwrap().is_root(), "{spelling}");
            assert!(
                parse_policy_list(["dev", spelling]).unwrap().grants_root(),
                "{spelling}"
            );
        }
        for (smuggled, error) in [
            (" ROOT", NameError::Blank),
            ("root ", NameError::Blank),
            ("root\u{a0}", NameError::Blank),
            ("\u{3000}root", NameError::Blank),
            ("root\0", NameError::Control),
            ("\0root", NameError::Control),
            ("root\n", NameError::Control),
            ("ro\u{200b}ot", NameError::Control),
            ("root\u{feff}", NameError::Control),
            ("ro\u{ad}ot", NameError::Control),
            ("root/", NameError::Separator),
            ("a/../root", NameError::Separator),
            ("root,default", NameError::Separator),
            ("root\\", NameError::Separator),
            ("", NameError::Empty),
            ("..", NameError::Dots),
        ] {
            assert_eq!(PolicyName::parse(smuggled), Err(error), "{smuggled:?}");
            assert_eq!(
                parse_policy_list(["dev", smuggled]),
                Err(error),
                "{smuggled:?}"
            );
        }
    }

    #[test]
    fn a_list_is_sorted_folded_and_without_repetitions() {
        let set = parse_policy_list(["Web", "dev", "web", "DEV", "default"]).unwrap();
        assert_eq!(set.to_strings(), ["default", "dev", "web"]);
        assert!(!set.grants_root());
        assert!(set.contains("dev") && !set.contains("Dev"));
    }

    #[test]
    fn a_child_may_be_given_what_its_parent_has() {
        let parent = parse_policy_list(["a", "b"]).unwrap();
        assert!(parse_policy_list(["B"]).unwrap().is_subset_of(&parent));
        assert!(!parse_policy_list(["b", "c"]).unwrap().is_subset_of(&parent));
        assert!(!parse_policy_list(["root"]).unwrap().is_subset_of(&parent));
    }

    #[test]
    fn root_is_not_written_and_built_in_policies_are_not_deleted() {
        let name = |text| PolicyName::parse(text).unwrap();
        assert!(!name("ROOT").is_writable() && !name("root").is_deletable());
        assert!(name("default").is_writable() && !name("Default").is_deletable());
        assert!(name("dev").is_writable() && name("dev").is_deletable());
    }

    #[test]
    fn error_leaks_input_a_refusal_shows_nothing_of_the_name() {
        let error = PolicyName::parse("hunter2/").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        let error = serde_json::from_str::<PolicySet>(r#"["hunter2,"]"#).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    proptest! {
        #[test]
        fn a_name_is_its_own_folding_and_root_only_when_it_reads_so(text in "\\PC{0,12}|[rR][oO][oO][tT]|.{0,6}") {
            if let Ok(name) = PolicyName::parse(&text) {
                prop_assert_eq!(PolicyName::parse(name.as_str()).unwrap(), name.clone());
                prop_assert_eq!(name.is_root(), text.eq_ignore_ascii_case("root"));
                prop_assert!(!name.as_str().contains(['/', '\0', ',']));
            }
        }
    }
}
