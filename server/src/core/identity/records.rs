//! Entities, groups and their aliases as they are stored. Times are seconds since 1970.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::kept::Kept;
use crate::core::unix_now;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entity {
    pub id: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Checked names, `root` never among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    #[serde(default)]
    pub disabled: bool,
    /// At most one for each mount.
    #[serde(default)]
    pub aliases: Vec<Alias>,
    /// The entities that this one has taken in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<String>,
    pub created: u64,
    pub updated: u64,
}

/// The name of an entity, or of an external group, at one auth method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    pub id: String,
    /// As it was first spelled; compared without case.
    pub name: String,
    /// The accessor of the auth mount.
    pub mount: String,
    /// What the auth method says of the user, as of the last login.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// What the operator says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub local: bool,
    /// The entities that it belonged to before merges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged_from: Vec<String>,
    pub created: u64,
    pub updated: u64,
}

/// What fills a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// Members are named here.
    #[default]
    Internal,
    /// Members are those whose login says that they are in the group of the alias.
    External,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    pub id: String,
    pub name: String,
    pub kind: GroupKind,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub member_groups: Vec<String>,
    /// Of an external group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    pub created: u64,
    pub updated: u64,
    /// Counts the changes.
    pub modified: u64,
}

impl Kept for Entity {
    const KIND: &'static str = "entity";

    fn id(&self) -> &str {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Kept for Group {
    const KIND: &'static str = "group";

    fn id(&self) -> &str {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Entity {
    /// A new one, with a name made from its id when none is given.
    pub(super) fn new(name: Option<String>) -> Self {
        let id = Uuid::new_v4().to_string();
        let now = unix_now();
        Self {
            name: name.unwrap_or_else(|| made_up("entity", &id)),
            id,
            metadata: BTreeMap::new(),
            policies: Vec::new(),
            disabled: false,
            aliases: Vec::new(),
            merged: Vec::new(),
            created: now,
            updated: now,
        }
    }

    pub fn alias_at(&self, mount: &str) -> Option<&Alias> {
        self.aliases.iter().find(|alias| alias.mount == mount)
    }

    /// Every id under which it may be resolved.
    pub(super) fn ids(&self) -> impl Iterator<Item = String> + '_ {
        self.merged
            .iter()
            .cloned()
            .chain(std::iter::once(self.id.clone()))
    }
}

impl Alias {
    pub(super) fn new(name: &str, mount: &str) -> Self {
        let now = unix_now();
        Self {
            id: Uuid::new_v4().to_string(),
            name: name.to_owned(),
            mount: mount.to_owned(),
            metadata: BTreeMap::new(),
            custom_metadata: BTreeMap::new(),
            local: false,
            merged_from: Vec::new(),
            created: now,
            updated: now,
        }
    }
}

impl Group {
    pub(super) fn new(name: Option<String>, kind: GroupKind) -> Self {
        let id = Uuid::new_v4().to_string();
        let now = unix_now();
        Self {
            name: name.unwrap_or_else(|| made_up("group", &id)),
            id,
            kind,
            metadata: BTreeMap::new(),
            policies: Vec::new(),
            member_groups: Vec::new(),
            alias: None,
            created: now,
            updated: now,
            modified: 0,
        }
    }
}

/// `entity_8d6a45e5`, as Vault makes them up.
fn made_up(what: &str, id: &str) -> String {
    let short: String = id.chars().take(8).collect();
    format!("{what}_{short}")
}

fn is_false(flag: &bool) -> bool {
    !flag
}
