//! `keys/`: creating, reading, configuring, rotating, trimming and deleting keys.

use std::collections::BTreeMap;

use obol_mount::fields::{Count, Flag, Ttl};
use obol_mount::{Cx, Error, Keys, NoContent, Output, Reply, Response, Result};
use obol_storage::{Batch, Error as StorageError};
use ring::signature::KeyPair;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::head::{Head, Wanted, check_rotate_period};
use super::key_type::KeyType;
use super::material::{Material, Opened};
use super::store::{KEYS, NANOS, NO_KEY};
use super::{Transit, check_name, nanos, sign};
use crate::listing::Page;

/// The key that a path names.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Named {
    /// The key.
    pub(super) name: String,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Create {
    /// The key: letters, digits, `_`, and between them `-` and `.`.
    name: String,
    /// aes128-gcm96, aes256-gcm96 (the default), chacha20-poly1305, ed25519, ecdsa-p256, ecdsa-p384, ecdsa-p521, rsa-2048,
    /// rsa-3072, rsa-4096 or hmac.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Every use needs a `context`, from which the key that is used is derived.
    #[serde(default)]
    derived: Flag,
    /// The same message and context give the same ciphertext. Needs `derived`.
    #[serde(default)]
    convergent_encryption: Flag,
    /// The key may be exported. Cannot be taken back.
    #[serde(default)]
    exportable: Flag,
    /// The key may be backed up in the clear. Cannot be taken back.
    #[serde(default)]
    allow_plaintext_backup: Flag,
    /// The length of an `hmac` key in bytes, 32 to 512; for the other types 0, or nothing.
    #[serde(default)]
    key_size: Count,
    /// How long until the key rotates by itself; 0 is never, else at least an hour.
    #[serde(default)]
    auto_rotate_period: Ttl,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Read {
    /// The key.
    name: String,
    /// For a derived ed25519 key: the context, as base64, whose public keys are wanted.
    context: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Configure {
    /// The key.
    name: String,
    /// The first version whose ciphertexts are decrypted and whose signatures are valid.
    min_decryption_version: Option<Count>,
    /// The first version that may be asked for to encrypt, sign or compute an HMAC; 0 is `min_decryption_version`.
    min_encryption_version: Option<Count>,
    /// The key may be deleted.
    deletion_allowed: Option<Flag>,
    /// The key may be exported. Cannot be taken back.
    exportable: Option<Flag>,
    /// The key may be backed up in the clear. Cannot be taken back.
    allow_plaintext_backup: Option<Flag>,
    /// How long until the key rotates by itself; 0 is never, else at least an hour.
    auto_rotate_period: Option<Ttl>,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Trim {
    /// The key.
    name: String,
    /// Versions before this one are removed for good.
    #[serde(alias = "min_version")]
    #[schemars(extend("x-aliases" = ["min_version"]))]
    min_available_version: Option<Count>,
}

/// A key without its secrets.
#[derive(Serialize, JsonSchema)]
struct KeyInfo {
    name: String,
    #[serde(rename = "type")]
    kind: KeyType,
    derived: bool,
    /// Whether the key may be deleted.
    deletion_allowed: bool,
    /// The first version that there is: those before it were trimmed. 0: none was.
    min_available_version: u64,
    /// The first version whose ciphertexts are decrypted and whose signatures are valid.
    min_decryption_version: u64,
    /// The first version that may be asked for to encrypt, sign or compute an HMAC; 0 is `min_decryption_version`.
    min_encryption_version: u64,
    /// What encrypts and signs where no version is asked for.
    latest_version: u64,
    exportable: bool,
    allow_plaintext_backup: bool,
    /// Whether `encrypt` takes the key.
    supports_encryption: bool,
    /// Whether `decrypt` takes the key.
    supports_decryption: bool,
    /// Whether `sign` and `verify` take the key.
    supports_signing: bool,
    /// Whether keys of its type can be `derived`.
    supports_derivation: bool,
    /// Seconds after which the key rotates by itself; 0: it does not.
    auto_rotate_period: u64,
    /// Always false: keys are made here.
    imported_key: bool,
    /// In bytes, of `hmac` keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_size: Option<u32>,
    /// How keys are derived.
    #[serde(skip_serializing_if = "Option::is_none")]
    kdf: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    convergent_encryption: Option<bool>,
    /// Of convergent keys: in which way their nonces are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    convergent_encryption_version: Option<u32>,
    /// When it was backed up the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_info: Option<MarkInfo>,
    /// When it was restored from a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    restore_info: Option<MarkInfo>,
    /// The versions from `min_decryption_version` on, by number.
    keys: BTreeMap<u64, VersionInfo>,
}

#[derive(Serialize, JsonSchema)]
struct MarkInfo {
    /// RFC 3339.
    time: String,
    /// The key's latest version then.
    version: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum VersionInfo {
    /// When it was made, in seconds since 1970.
    Made(u64),
    Public {
        name: &'static str,
        /// PEM; base64 for ed25519, and empty where it depends on the context.
        public_key: String,
        /// RFC 3339.
        creation_time: String,
    },
}

/// A key, and what its request has to be told.
pub(super) struct Shown {
    info: KeyInfo,
    warnings: Vec<String>,
}

pub(super) async fn create(cx: Cx<Transit>, input: Create) -> Result<Shown> {
    check_name(&input.name)?;
    let wanted = Wanted {
        kind: Some(KeyType::parse(input.kind.as_deref().unwrap_or_default())?),
        derived: input.derived.0,
        convergent: input.convergent_encryption.0,
        exportable: input.exportable.0,
        allow_plaintext_backup: input.allow_plaintext_backup.0,
        key_size: u32::try_from(input.key_size.0).unwrap_or(u32::MAX),
        auto_rotate_period: input.auto_rotate_period.as_secs(),
    };
    let created = cx.create(&input.name, &wanted).await?;
    let mut shown = cx.shown(&input.name, None).await?;
    if !created {
        shown
            .warnings
            .push(format!("key {} already existed", input.name));
    }
    Ok(shown)
}

pub(super) async fn read(cx: Cx<Transit>, input: Read) -> Result<Shown> {
    if cx.head(&input.name).await?.is_none() {
        return Err(Error::not_found());
    }
    cx.shown(&input.name, input.context.as_deref()).await
}

pub(super) async fn list(cx: Cx<Transit>, page: Page) -> Result<Keys> {
    page.of(&cx.storage, KEYS).await
}

pub(super) async fn delete(cx: Cx<Transit>, input: Named) -> Result<NoContent> {
    let refuse =
        |why: &str| Error::bad_request(format!("error deleting policy {}: {why}", input.name));
    for _ in 0..super::store::MAX_ATTEMPTS {
        let Some(current) = cx.head(&input.name).await? else {
            return Err(refuse("could not delete key; not found"));
        };
        if !current.head.deletion_allowed {
            return Err(refuse("deletion is not allowed for this key"));
        }
        let mut batch = Batch::new();
        cx.delete_key_in(&mut batch, &input.name, &current);
        match cx.storage.commit(batch).await {
            Ok(()) => {
                cx.live.forget(&input.name);
                return Ok(NoContent);
            }
            Err(StorageError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::unavailable(
        "the key changed while it was to be deleted; try again",
    ))
}

pub(super) async fn configure(cx: Cx<Transit>, input: Configure) -> Result<Shown> {
    if let Some(period) = input.auto_rotate_period {
        check_rotate_period(period.as_secs())?;
    }
    let mut warnings = Vec::new();
    cx.change(&input.name, |head, _| {
        warnings.clear();
        let before = head.clone();
        input.apply(head, &mut warnings)?;
        Ok((*head != before).then_some(()))
    })
    .await?;
    let mut shown = cx.shown(&input.name, None).await?;
    shown.warnings = warnings;
    Ok(shown)
}

pub(super) async fn rotate(cx: Cx<Transit>, input: Named) -> Result<Shown> {
    cx.rotate(&input.name, |_| true).await?;
    cx.shown(&input.name, None).await
}

pub(super) async fn trim(cx: Cx<Transit>, input: Trim) -> Result<NoContent> {
    let Some(Count(first)) = input.min_available_version else {
        return Err(Error::bad_request("missing min_available_version"));
    };
    cx.change(&input.name, |head, batch| {
        let refuse = |why: &str| {
            Err(Error::bad_request(format!(
                "minimum available version {why}"
            )))
        };
        if first < head.min_available {
            return refuse("cannot be decremented");
        }
        if head.min_encryption == 0 {
            return refuse("cannot be set when minimum encryption version is not set");
        }
        if head.min_decryption == 0 {
            return refuse("cannot be set when minimum decryption version is not set");
        }
        if first > head.latest {
            return refuse("cannot be higher than the latest key version");
        }
        if first > head.min_encryption {
            return refuse("cannot be higher than minimum encryption version");
        }
        if first > head.min_decryption {
            return refuse("cannot be higher than minimum decryption version");
        }
        if first == head.min_available {
            return Ok(None);
        }
        for version in head.min_available.max(1)..first {
            cx.delete_version_in(batch, &head.id, version);
        }
        head.min_available = first;
        Ok(Some(()))
    })
    .await?;
    Ok(NoContent)
}

impl Configure {
    fn apply(&self, head: &mut Head, warnings: &mut Vec<String>) -> Result<()> {
        if let Some(Count(version)) = self.min_decryption_version {
            let version = if version == 0 {
                warnings.push(
                    "since Vault 0.3, transit key numbering starts at 1; forcing minimum to 1"
                        .to_owned(),
                );
                1
            } else {
                version
            };
            in_range(head, "decryption", version)?;
            head.min_decryption = version;
        }
        if let Some(Count(version)) = self.min_encryption_version {
            if version > 0 || head.min_available > 0 {
                in_range(head, "encryption", version)?;
            }
            head.min_encryption = version;
        }
        // 0 is the latest version.
        if head.min_encryption > 0 && head.min_encryption < head.min_decryption {
            return Err(Error::bad_request(format!(
                "cannot set min encryption/decryption values; min_encryption_version of {} must be greater than or equal to min_decryption_version of {}",
                head.min_encryption, head.min_decryption
            )));
        }
        if let Some(Flag(allowed)) = self.deletion_allowed {
            head.deletion_allowed = allowed;
        }
        let mut only_on = |name: &str, wanted: Option<Flag>, value: &mut bool| match wanted {
            Some(Flag(true)) => *value = true,
            Some(Flag(false)) if *value => warnings.push(format!(
                "{name} stays true: once it is on, it cannot be turned off"
            )),
            _ => {}
        };
        only_on("exportable", self.exportable, &mut head.exportable);
        only_on(
            "allow_plaintext_backup",
            self.allow_plaintext_backup,
            &mut head.allow_plaintext_backup,
        );
        if let Some(period) = self.auto_rotate_period {
            head.auto_rotate_period = period.as_secs();
        }
        Ok(())
    }
}

fn in_range(head: &Head, what: &str, version: u64) -> Result<()> {
    if version > head.latest {
        return Err(Error::bad_request(format!(
            "cannot set min {what} version of {version}, latest key version is {}",
            head.latest
        )));
    }
    if version < head.min_available {
        return Err(Error::bad_request(format!(
            "cannot set min {what} version of {version}, minimum available version is {}",
            head.min_available
        )));
    }
    Ok(())
}

impl Transit {
    /// Creates a key with its first version; `false` where there is one of this name already.
    pub(super) async fn create(&self, name: &str, wanted: &Wanted) -> Result<bool> {
        let mut head = Head::new(wanted)?;
        if self.head(name).await?.is_some() {
            return Ok(false);
        }
        let material = Material::make(head.kind, head.key_size, nanos()).await?;
        let mut batch = Batch::new();
        self.add_version(&mut batch, &mut head, &material)?;
        self.put_head(&mut batch, name, None, &head)?;
        match self.storage.commit(batch).await {
            Ok(()) => Ok(true),
            // Somebody else created it first.
            Err(StorageError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a new version, if the key is one that should have one.
    pub(super) async fn rotate(&self, name: &str, should: impl Fn(&Head) -> bool) -> Result<bool> {
        let Some(current) = self.head(name).await? else {
            return Err(Error::bad_request(NO_KEY));
        };
        if !should(&current.head) {
            return Ok(false);
        }
        let material = Material::make(current.head.kind, current.head.key_size, nanos()).await?;
        let rotated = self
            .change(name, |head, batch| {
                // Another key took the name while the material was made.
                if head.id != current.head.id || !should(head) {
                    return Ok(None);
                }
                self.add_version(batch, head, &material)?;
                Ok(Some(()))
            })
            .await?;
        Ok(rotated.is_some())
    }

    /// Rotates unless somebody has since `version` was the latest.
    pub(super) async fn rotate_if_latest(&self, name: &str, version: u64) -> Result<bool> {
        self.rotate(name, |head| head.latest == version).await
    }

    async fn shown(&self, name: &str, context: Option<&str>) -> Result<Shown> {
        let current = self.head(name).await?;
        let head = current.ok_or_else(|| Error::bad_request(NO_KEY))?.head;
        let first = head.min_decryption.max(head.min_available);
        let mut keys = BTreeMap::new();
        for (number, material) in self.materials(&head.id, first, head.latest).await? {
            keys.insert(number, version_info(&head, &material, context)?);
        }
        let encrypts = head.kind.encrypts();
        let mark = |mark: super::head::Mark| -> Result<MarkInfo> {
            Ok(MarkInfo {
                time: rfc3339(mark.time)?,
                version: mark.version,
            })
        };
        let info = KeyInfo {
            name: name.to_owned(),
            kind: head.kind,
            derived: head.derived,
            deletion_allowed: head.deletion_allowed,
            min_available_version: head.min_available,
            min_decryption_version: head.min_decryption,
            min_encryption_version: head.min_encryption,
            latest_version: head.latest,
            exportable: head.exportable,
            allow_plaintext_backup: head.allow_plaintext_backup,
            supports_encryption: encrypts,
            supports_decryption: encrypts,
            supports_signing: head.kind.signs(),
            supports_derivation: head.kind.derives(),
            auto_rotate_period: head.auto_rotate_period,
            imported_key: false,
            key_size: (head.key_size > 0).then_some(head.key_size),
            kdf: head.derived.then_some("hkdf_sha256"),
            convergent_encryption: head.derived.then_some(head.convergent),
            convergent_encryption_version: head.convergent.then_some(3),
            backup_info: head.backed_up.map(mark).transpose()?,
            restore_info: head.restored.map(mark).transpose()?,
            keys,
        };
        Ok(Shown {
            info,
            warnings: Vec::new(),
        })
    }
}

fn version_info(head: &Head, material: &Material, context: Option<&str>) -> Result<VersionInfo> {
    if !head.kind.has_public_key() {
        return Ok(VersionInfo::Made(material.created / NANOS));
    }
    let public_key = match (head.derived, context) {
        (false, _) => material.public.clone().unwrap_or_default(),
        (true, None) => String::new(),
        (true, Some(_)) => {
            let context = super::context(head, context)?;
            let Opened::Derives(root) = material.open(head.kind, true)? else {
                return Err(Error::internal("a derived key opened as another"));
            };
            let pair = sign::derived_pair(&root, &context)?;
            let public = crate::base64_field::encode(pair.public_key().as_ref());
            String::clone(&public)
        }
    };
    Ok(VersionInfo::Public {
        name: head.kind.public_name(),
        public_key,
        creation_time: rfc3339(material.created)?,
    })
}

pub(super) fn rfc3339(nanos: u64) -> Result<String> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanos))
        .map_err(Error::internal)?
        .format(&Rfc3339)
        .map_err(Error::internal)
}

impl Output for Shown {
    fn into_response(self) -> Result<Response> {
        let mut response = Response::new(Reply::json(&self.info)?);
        response.warnings = self.warnings;
        Ok(response)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<KeyInfo>())
    }
}
