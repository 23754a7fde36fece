//! Records that are kept by the name of a user, a group or a role, in folders. One function decides which names are
//! one name ([`fold`]); storing, listing and logging in all go through it (threats: `case-fold-group`).

use std::collections::BTreeMap;

use obol_mount::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};

use crate::store::{Change, Store};

/// The name under which a group or a user is known here. The one place where names become equal.
pub(crate) fn fold(name: &str, case_sensitive: bool) -> String {
    if case_sensitive {
        name.to_owned()
    } else {
        name.to_lowercase()
    }
}

/// The name under which failed logins are counted: a directory ignores case and needless spaces whatever is configured
/// here, and how its letters are written (RFC 4518): no spelling may buy another guess (threats: `alias-case`).
pub(crate) fn counted(name: &str) -> String {
    obol_directory::prepared(name)
}

/// A user's one name, where the directory may have been asked in another case: its own spelling, if that is the
/// name that came; or else (a mail address, say) the name that came, in lower case.
pub(crate) fn spelled(came: &str, in_directory: &str) -> String {
    let folded = came.to_lowercase();
    match in_directory.to_lowercase() == folded {
        true => in_directory.to_owned(),
        false => folded,
    }
}

/// A checked, folded name.
pub(crate) struct Name(String);

impl Name {
    /// `whose` says what it names: "a group's name".
    pub(crate) fn parse(whose: &str, text: &str, case_sensitive: bool) -> Result<Self> {
        let refuse = |why: &str| Err(Error::bad_request(format!("name: {whose} name {why}")));
        if text.is_empty() {
            return refuse("may not be empty");
        }
        if text.len() > MAX_NAME_BYTES {
            return refuse("may not be longer than 512 bytes");
        }
        if text.chars().any(char::is_control) {
            return refuse("may not hold control characters");
        }
        Ok(Self(fold(text, case_sensitive)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its record is. A name may hold what a segment of a path may not: slashes, or nothing but dots.
    pub(crate) fn path(&self, folder: &str) -> String {
        let mut path = String::from(folder);
        let is_dots = matches!(self.0.as_str(), "." | "..");
        for c in self.0.chars() {
            match c {
                '%' => path.push_str("%25"),
                '/' => path.push_str("%2F"),
                '.' if is_dots => path.push_str("%2E"),
                c => path.push(c),
            }
        }
        path
    }

    fn of_path(folder: &str, path: &str) -> Self {
        let name = path.strip_prefix(folder).unwrap_or(path);
        // `%` last: what it stood for must not be read as an escape.
        let name = name
            .replace("%2F", "/")
            .replace("%2E", ".")
            .replace("%25", "%");
        Self(name)
    }
}

/// Every record of a folder, by folded name.
pub(crate) async fn all<T: DeserializeOwned>(
    store: &Store,
    folder: &str,
) -> Result<BTreeMap<String, T>> {
    let mut all = BTreeMap::new();
    for (path, entry) in store.scan(folder).await? {
        let record: T = store.view().parse(&path, &entry)?;
        all.insert(Name::of_path(folder, &path).0, record);
    }
    Ok(all)
}

/// The names in a folder, sorted.
pub(crate) async fn list(store: &Store, folder: &str) -> Result<Vec<String>> {
    let paths = store.scan(folder).await?;
    let mut names: Vec<String> = paths
        .iter()
        .map(|(path, _)| Name::of_path(folder, path).0)
        .collect();
    names.sort();
    Ok(names)
}

/// Whether a folder holds anything.
pub(crate) async fn any(store: &Store, folder: &str) -> Result<bool> {
    Ok(!store.view().scan_folder(folder, None, 1).await?.is_empty())
}

/// Moves every record to its folded name, because names are no longer told apart by case. Refused when
/// two would become one: which of the two it should be is for the operator to say. `what` they are: "groups".
pub(crate) async fn fold_all<T: DeserializeOwned + Serialize>(
    store: &Store,
    folder: &str,
    what: &str,
    change: &mut Change<'_>,
) -> Result<()> {
    let mut folded: BTreeMap<String, String> = BTreeMap::new();
    for (name, record) in all::<T>(store, folder).await? {
        let one = fold(&name, false);
        if let Some(other) = folded.insert(one.clone(), name.clone()) {
            return Err(Error::bad_request(format!(
                "case_sensitive_names: the {what} {other:?} and {name:?} would become one; delete one of them first"
            )));
        }
        if one != name {
            change.delete(&Name(name).path(folder));
            change.put(&Name(one).path(folder), &record)?;
        }
    }
    Ok(())
}

/// For the write that begins to tell names apart, where names were written before.
pub(crate) const NOW_TOLD_APART: &str = "case_sensitive_names: the names written so far are stored in lower case, and match only users and groups that LDAP spells so; identity goes on to take aliases for one that differ in case alone";
const MAX_NAME_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FOLDER: &str = "group/";

    fn path(name: &str) -> String {
        Name(name.to_owned()).path(FOLDER)
    }

    #[test]
    fn case_fold_group_names_are_one_unless_case_counts() {
        for spelling in ["Admins", "ADMINS", "admins"] {
            assert_eq!(fold(spelling, false), "admins");
            assert_eq!(fold(spelling, true), spelling);
        }
        assert_eq!(fold("GRÜẞE", false), fold("grüße", false));
    }

    #[test]
    fn alias_case_a_name_is_counted_and_known_as_one_however_it_is_spelled() {
        for spelling in [
            "Grace  Hopper",
            " grace hopper",
            "GRACE HOPPER\u{a0}",
            "\u{ff47}race ho\u{ad}pper",
        ] {
            assert_eq!(counted(spelling), "grace hopper");
        }
        for (came, in_directory, name) in [
            ("GRACE", "grace", "grace"),
            ("grace", "Grace", "Grace"),
            ("Grace@Example.com", "grace", "grace@example.com"),
        ] {
            assert_eq!(spelled(came, in_directory), name);
        }
    }

    #[test]
    fn names_that_no_path_could_hold_are_stored_all_the_same() {
        for name in [
            ".",
            "..",
            "a/b",
            "../x",
            "100%",
            "%2F",
            "%252F",
            "a/../b",
            "r&d, \"more\"",
        ] {
            let path = path(name);
            assert_eq!(path.matches('/').count(), 1, "{path}");
            assert!(!path.ends_with("/.") && !path.ends_with("/.."), "{path}");
            assert_eq!(Name::of_path(FOLDER, &path).0, name);
        }
    }

    proptest! {
        #[test]
        fn every_name_has_a_path_of_its_own(one in "[%/.2F5Ea]{1,8}", other in "[%/.2F5Ea]{1,8}") {
            prop_assert_eq!(Name::of_path(FOLDER, &path(&one)).0, one.clone());
            prop_assert_eq!(path(&one) == path(&other), one == other);
        }
    }
}
