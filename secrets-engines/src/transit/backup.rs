//! `backup/` and `restore/`: a whole key, in the clear, as one text.

use std::collections::BTreeMap;

use obol_mount::fields::Flag;
use obol_mount::{Cx, Data, Error, NoContent, Result, Secret};
use obol_storage::{Batch, Error as StorageError, from_json, to_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::head::{Head, Mark};
use super::keys::Named;
use super::material::Material;
use super::store::{MAX_ATTEMPTS, uses_path};
use super::{Transit, check_name, nanos};
use crate::base64_field;

#[derive(Serialize, JsonSchema)]
pub(super) struct Backup {
    /// The key with all its versions, in the clear: guard it like the key.
    #[serde(serialize_with = "expose")]
    #[schemars(with = "String")]
    backup: Zeroizing<String>,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Restore {
    /// The name of the restored key; without it, the one that it had.
    name: Option<String>,
    /// What `backup` answered.
    backup: Option<Secret>,
    /// Replaces a key of this name.
    #[serde(default)]
    force: Flag,
}

/// What a backup holds, as JSON in base64.
#[derive(Serialize, Deserialize)]
struct Content {
    /// Names the format and its version.
    obol_transit_backup: u32,
    name: String,
    head: Head,
    versions: BTreeMap<u64, Material>,
    /// Encryptions that were done or reserved: a restored key has not begun anew (threats: `nonce-reuse`).
    uses: BTreeMap<u64, u64>,
}

pub(super) async fn backup(cx: Cx<Transit>, input: Named) -> Result<Data<Backup>> {
    for _ in 0..MAX_ATTEMPTS {
        let Some(current) = cx.head(&input.name).await? else {
            return Err(Error::not_found());
        };
        let mut head = current.head.clone();
        if !head.exportable {
            return Err(Error::bad_request("exporting is disallowed on the policy"));
        }
        if !head.allow_plaintext_backup {
            return Err(Error::bad_request(
                "plaintext backup is disallowed on the policy",
            ));
        }
        head.backed_up = Some(Mark {
            time: nanos(),
            version: head.latest,
        });
        let first = head.min_available.max(1);
        let versions = cx.materials(&head.id, first, head.latest).await?;
        let mut uses = BTreeMap::new();
        for (number, _) in &versions {
            if let Some(used) = cx.storage.get_json(&uses_path(&head.id, *number)).await? {
                uses.insert(*number, used);
            }
        }
        let content = Content {
            obol_transit_backup: FORMAT,
            name: input.name.clone(),
            head,
            versions: versions.into_iter().collect(),
            uses,
        };
        // On the condition that the key is as it was read: what was read belongs together.
        let mut batch = Batch::new();
        cx.put_head(&mut batch, &input.name, Some(&current), &content.head)?;
        match cx.storage.commit(batch).await {
            Ok(()) => {
                let json = to_json(&content).map_err(Error::internal)?;
                return Ok(Data(Backup {
                    backup: base64_field::encode(&json),
                }));
            }
            Err(StorageError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy())
}

pub(super) async fn restore(cx: Cx<Transit>, input: Restore) -> Result<NoContent> {
    let backup = input
        .backup
        .filter(|backup| !backup.is_empty())
        .ok_or_else(|| Error::bad_request("missing required field \"backup\""))?;
    let content = read(&backup)?;
    let name = input.name.unwrap_or_else(|| content.name.clone());
    check_name(&name)?;
    for _ in 0..MAX_ATTEMPTS {
        let old = cx.head(&name).await?;
        if old.is_some() && !input.force.0 {
            return Err(Error::bad_request(format!("key {name:?} already exists")));
        }
        let mut head = content.head.clone();
        // A life of its own: what is stored of the key that it was, or replaces, is not its own.
        head.id = Uuid::new_v4().simple().to_string();
        head.restored = Some(Mark {
            time: nanos(),
            version: head.latest,
        });
        let mut batch = Batch::new();
        if let Some(old) = &old {
            cx.delete_material_in(&mut batch, &old.head.id);
        }
        cx.put_head(&mut batch, &name, old.as_ref(), &head)?;
        for (number, material) in &content.versions {
            cx.put_version(&mut batch, &head.id, *number, material)?;
        }
        for (number, used) in &content.uses {
            let path = uses_path(&head.id, *number);
            cx.storage.put_json_in(&mut batch, &path, used)?;
        }
        match cx.storage.commit(batch).await {
            Ok(()) => return Ok(NoContent),
            Err(StorageError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy())
}

/// Reads a backup and checks that a key can be made of it.
fn read(backup: &Secret) -> Result<Content> {
    let refuse = || Error::bad_request("backup: this is no backup of a transit key of this server");
    let json = base64_field::decode("backup", backup.expose())?;
    // serde's text may quote the backup: it goes nowhere.
    let content: Content = from_json(&json).map_err(|_| refuse())?;
    let head = &content.head;
    let first = head.min_available.max(1);
    let whole = content.obol_transit_backup == FORMAT
        && head.adds_up()
        && content.versions.len() as u64 == head.latest + 1 - first
        && content.versions.keys().copied().eq(first..=head.latest)
        && content
            .uses
            .keys()
            .all(|number| content.versions.contains_key(number))
        && content
            .versions
            .values()
            .all(|material| material.open(head.kind, head.derived).is_ok());
    if !whole {
        return Err(refuse());
    }
    Ok(content)
}

fn busy() -> Error {
    Error::unavailable("the key changed while it was read; try again")
}

fn expose<S: Serializer>(text: &Zeroizing<String>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(text)
}

const FORMAT: u32 = 1;
