//! `groups`: which policies a group of the directory means.

use std::collections::{BTreeSet, HashMap};

use obol_kerberos::Sid;
use obol_mount::fields::CommaList;
use obol_mount::{Cx, Data, Keys, NoContent, Result, Written, assignable_policies};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DirectoryMount, case_sensitive_names};
use crate::named::{self, Name, fold};
use crate::store::{self, ATTEMPTS, Store};

/// `LIST groups`.
pub(crate) async fn list<M: DirectoryMount>(cx: Cx<M>) -> Result<Keys> {
    let keys = named::list(cx.store(), GROUPS).await?;
    Ok(Keys { keys })
}

/// `GET groups/{name}`.
pub(crate) async fn read<M: DirectoryMount>(
    cx: Cx<M>,
    input: GroupPath,
) -> Result<Option<Data<Group>>> {
    let name = name(&*cx.backend, &input.name).await?;
    Ok(cx.store().read(&name.path(GROUPS)).await?.map(Data))
}

/// `POST groups/{name}`. Replaces the policies.
pub(crate) async fn write<M: DirectoryMount>(cx: Cx<M>, input: WriteGroup) -> Result<Written> {
    let group = Group {
        policies: assignable_policies("policies", &input.policies.0)?,
    };
    let unheard = match is_sid(&input.name) {
        true => cx.sids_unheard().await?,
        false => None,
    };
    let warning = |mend| {
        format!("the name is a SID, and nobody is known here to be in a group by its SID: {mend}")
    };
    let warnings: Vec<String> = unheard.map(warning).into_iter().collect();
    for _ in 0..ATTEMPTS {
        let mut change = cx.store().begin().await?;
        let name = name(&*cx.backend, &input.name).await?;
        change.put(&name.path(GROUPS), &group)?;
        if change.commit().await? {
            return Ok(Written { warnings });
        }
    }
    Err(store::too_busy())
}

/// `DELETE groups/{name}`. A group that is not there is deleted already.
pub(crate) async fn delete<M: DirectoryMount>(cx: Cx<M>, input: GroupPath) -> Result<NoContent> {
    for _ in 0..ATTEMPTS {
        let mut change = cx.store().begin().await?;
        let name = name(&*cx.backend, &input.name).await?;
        change.delete(&name.path(GROUPS));
        if change.commit().await? {
            return Ok(NoContent);
        }
    }
    Err(store::too_busy())
}

async fn name<M: DirectoryMount>(mount: &M, text: &str) -> Result<Name> {
    Name::parse("a group's", text, case_sensitive_names(mount).await?)
}

/// The policies of every mapped group, by folded name.
#[derive(Default)]
pub(crate) struct GroupMap(HashMap<String, Vec<String>>);

impl GroupMap {
    pub(crate) async fn read(store: &Store) -> Result<Self> {
        let groups = named::all::<Group>(store, GROUPS).await?;
        Ok(Self(
            groups
                .into_iter()
                .map(|(name, group)| (name, group.policies))
                .collect(),
        ))
    }

    /// The folded names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// The policies that these groups mean, sorted, each once. Whoever may make groups in the directory may name one as
    /// another group's SID is written: what is mapped to a SID is for those of whom somebody else says that they are in it.
    pub(crate) fn policies<'n>(
        &self,
        names: impl Iterator<Item = &'n String>,
        sids: impl Iterator<Item = &'n String>,
        case_sensitive: bool,
    ) -> BTreeSet<&String> {
        names
            .filter(|name| !is_sid(name))
            .chain(sids)
            .filter_map(|name| self.0.get(&fold(name, case_sensitive)))
            .flatten()
            .collect()
    }
}

/// The groups of a user whose names may be aliases in identity: one that is named as a SID could be taken for another.
pub(crate) fn aliases(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| !is_sid(name));
    names
}

/// Whether a name is that of a group by its SID, and not by what the directory calls it.
pub(crate) fn is_sid(name: &str) -> bool {
    name.parse::<Sid>().is_ok()
}

/// A group.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct GroupPath {
    /// The name of the LDAP group.
    name: String,
}

/// Maps a group to policies.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct WriteGroup {
    /// The name of the LDAP group.
    name: String,
    /// The policies of the group's members, as a list or comma-separated.
    #[serde(default)]
    policies: CommaList,
}

/// A group's policies; the record, and what is returned.
#[derive(Deserialize, Serialize, JsonSchema)]
pub(crate) struct Group {
    policies: Vec<String>,
}

pub(crate) const GROUPS: &str = "group/";
