//! `groups`: which policies an LDAP group means. One function decides which names are one name
//! ([`fold`]); storing, listing and logging in all go through it (threats: `case-fold-group`).

use std::collections::BTreeMap;

use obol_mount::fields::CommaList;
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, assignable_policies};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Kerberos;
use super::ldap::case_sensitive_names;
use super::store::{self, ATTEMPTS, Change, GROUPS, Store};

/// `LIST groups`.
pub(super) async fn list(cx: Cx<Kerberos>) -> Result<Keys> {
    let keys = all(&cx.store).await?.into_keys().collect();
    Ok(Keys { keys })
}

/// `GET groups/{name}`.
pub(super) async fn read(cx: Cx<Kerberos>, input: GroupPath) -> Result<Option<Data<Group>>> {
    let name = GroupName::parse(&input.name, case_sensitive_names(&cx.store).await?)?;
    Ok(cx.store.read(&name.path()).await?.map(Data))
}

/// `POST groups/{name}`. Replaces the policies.
pub(super) async fn write(cx: Cx<Kerberos>, input: WriteGroup) -> Result<NoContent> {
    let group = Group {
        policies: assignable_policies("policies", &input.policies.0)?,
    };
    for _ in 0..ATTEMPTS {
        let mut change = cx.store.begin().await?;
        let name = GroupName::parse(&input.name, case_sensitive_names(&cx.store).await?)?;
        change.put(&name.path(), &group)?;
        if change.commit().await? {
            return Ok(NoContent);
        }
    }
    Err(store::too_busy())
}

/// `DELETE groups/{name}`. A group that is not there is deleted already.
pub(super) async fn delete(cx: Cx<Kerberos>, input: GroupPath) -> Result<NoContent> {
    for _ in 0..ATTEMPTS {
        let mut change = cx.store.begin().await?;
        let name = GroupName::parse(&input.name, case_sensitive_names(&cx.store).await?)?;
        change.delete(&name.path());
        if change.commit().await? {
            return Ok(NoContent);
        }
    }
    Err(store::too_busy())
}

/// Every group and its policies, by folded name.
pub(super) async fn all(store: &Store) -> Result<BTreeMap<String, Vec<String>>> {
    let mut groups = BTreeMap::new();
    for (path, entry) in store.scan(GROUPS).await? {
        let group: Group = store.view().parse(&path, &entry)?;
        groups.insert(GroupName::of_path(&path).0, group.policies);
    }
    Ok(groups)
}

/// Whether any group is mapped.
pub(super) async fn any(store: &Store) -> Result<bool> {
    Ok(!store.view().scan_folder(GROUPS, None, 1).await?.is_empty())
}

/// Moves every group to its folded name, because names are no longer told apart by case. Refused when
/// two groups would become one: whose policies it should have is for the operator to say.
pub(super) async fn fold_all(store: &Store, change: &mut Change<'_>) -> Result<()> {
    let mut folded: BTreeMap<String, String> = BTreeMap::new();
    for (name, policies) in all(store).await? {
        let one = fold(&name, false);
        if let Some(other) = folded.insert(one.clone(), name.clone()) {
            return Err(Error::bad_request(format!(
                "case_sensitive_names: the groups {other:?} and {name:?} would become one; delete one of them first"
            )));
        }
        if one != name {
            change.delete(&GroupName(name).path());
            change.put(&GroupName(one).path(), &Group { policies })?;
        }
    }
    Ok(())
}

/// The name under which a group or a user is known here. The one place where names become equal.
pub(super) fn fold(name: &str, case_sensitive: bool) -> String {
    if case_sensitive {
        name.to_owned()
    } else {
        name.to_lowercase()
    }
}

/// A group.
#[derive(Deserialize, JsonSchema)]
pub(super) struct GroupPath {
    /// The name of the LDAP group.
    name: String,
}

/// Maps a group to policies.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteGroup {
    /// The name of the LDAP group.
    name: String,
    /// The policies of the group's members, as a list or comma-separated.
    #[serde(default)]
    policies: CommaList,
}

/// A group's policies; the record, and what is returned.
#[derive(Deserialize, Serialize, JsonSchema)]
pub(super) struct Group {
    policies: Vec<String>,
}

/// A checked, folded name.
struct GroupName(String);

impl GroupName {
    fn parse(text: &str, case_sensitive: bool) -> Result<Self> {
        let refuse = |why: &str| Err(Error::bad_request(format!("name: a group's name {why}")));
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

    /// A name may hold what a segment of a path may not: slashes, or nothing but dots.
    fn path(&self) -> String {
        let mut path = String::from(GROUPS);
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

    fn of_path(path: &str) -> Self {
        let name = path.strip_prefix(GROUPS).unwrap_or(path);
        // `%` last: what it stood for must not be read as an escape.
        let name = name
            .replace("%2F", "/")
            .replace("%2E", ".")
            .replace("%25", "%");
        Self(name)
    }
}

const MAX_NAME_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_fold_group_names_are_one_unless_case_counts() {
        for spelling in ["Admins", "ADMINS", "admins"] {
            assert_eq!(fold(spelling, false), "admins");
            assert_eq!(fold(spelling, true), spelling);
        }
        assert_eq!(fold("GRÜẞE", false), fold("grüße", false));
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
            let path = GroupName(name.to_owned()).path();
            assert_eq!(path.matches('/').count(), 1, "{path}");
            assert!(!path.ends_with("/.") && !path.ends_with("/.."), "{path}");
            assert_eq!(GroupName::of_path(&path).0, name);
        }
    }

    proptest! {
        #[test]
        fn every_name_has_a_path_of_its_own(one in "[%/.2F5Ea]{1,8}", other in "[%/.2F5Ea]{1,8}") {
            let path = GroupName(one.clone()).path();
            prop_assert_eq!(GroupName::of_path(&path).0, one.clone());
            prop_assert_eq!(path == GroupName(other.clone()).path(), one == other);
        }
    }
}
