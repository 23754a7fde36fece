//! `encrypt/`, `decrypt/`, `rewrap/` and `datakey/`.

use std::sync::Arc;

use obol_mount::fields::{Count, Flag};
use obol_mount::{Cx, Data, Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use super::Transit;
use super::batch::{Answer, Batch, unused};
use super::cipher::{self, Around, cannot};
use super::ciphertext;
use super::head::Wanted;
use super::key_type::KeyType;
use super::live::Key;
use super::store::NO_KEY;
use crate::base64_field;
use crate::randomness;

#[derive(Deserialize, JsonSchema)]
pub(super) struct Encrypt {
    /// The key.
    name: String,
    /// What to encrypt, as base64.
    plaintext: Option<Secret>,
    /// For a derived key: the context, as base64, that the key for this message is derived for.
    context: Option<String>,
    /// Data, as base64, that is not encrypted but must be the same when the message is decrypted.
    associated_data: Option<String>,
    /// The version to encrypt with; 0, or nothing, is the latest.
    key_version: Option<Count>,
    /// A nonce of the client's own is for keys of Vault's first versions, which do not exist here: leave it out.
    nonce: Option<String>,
    /// The type of the key, where this request creates it: aes128-gcm96, aes256-gcm96 (the default) or chacha20-poly1305.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Where this request creates the key: the same message and context give the same ciphertext. Needs a `context`.
    convergent_encryption: Option<Flag>,
    /// Many messages in one request, in the place of `plaintext`.
    batch_input: Option<Vec<EncryptItem>>,
    /// The HTTP status where some of a batch failed and some did not; without it, 400.
    partial_failure_response_code: Option<Count>,
}

/// One message of a batch.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct EncryptItem {
    /// What to encrypt, as base64.
    plaintext: Option<Secret>,
    /// For a derived key, as base64.
    context: Option<String>,
    /// Data, as base64, that must be the same when the message is decrypted.
    associated_data: Option<String>,
    /// The version to encrypt with; 0, or nothing, is the latest.
    key_version: Option<Count>,
    /// Leave it out.
    nonce: Option<String>,
    /// Comes back with the result of this message.
    reference: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Encrypted {
    /// `vault:`, the version of the key, and the message.
    #[serde(serialize_with = "base64_field::serialize")]
    #[schemars(with = "String")]
    ciphertext: String,
    /// The version that encrypted it.
    key_version: u64,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Decrypt {
    /// The key.
    name: String,
    /// What `encrypt` answered.
    ciphertext: Option<String>,
    /// For a derived key: the context, as base64, that it was encrypted with.
    context: Option<String>,
    /// The data, as base64, that it was encrypted with.
    associated_data: Option<String>,
    /// Leave it out.
    nonce: Option<String>,
    /// Many ciphertexts in one request, in the place of `ciphertext`.
    batch_input: Option<Vec<DecryptItem>>,
    /// The HTTP status where some of a batch failed and some did not; without it, 400.
    partial_failure_response_code: Option<Count>,
}

/// One ciphertext of a batch.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct DecryptItem {
    /// What `encrypt` answered.
    ciphertext: Option<String>,
    /// For a derived key, as base64.
    context: Option<String>,
    /// The data, as base64, that it was encrypted with.
    associated_data: Option<String>,
    /// Leave it out.
    nonce: Option<String>,
    /// Comes back with the result of this ciphertext.
    reference: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Decrypted {
    /// The message, as base64.
    #[serde(serialize_with = "base64_field::serialize")]
    #[schemars(with = "String")]
    plaintext: Zeroizing<String>,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Rewrap {
    /// The key.
    name: String,
    /// What `encrypt` answered once.
    ciphertext: Option<String>,
    /// For a derived key: the context, as base64, that it was encrypted with.
    context: Option<String>,
    /// The data, as base64, that it was encrypted with.
    associated_data: Option<String>,
    /// The version to encrypt with; 0, or nothing, is the latest.
    key_version: Option<Count>,
    /// Leave it out.
    nonce: Option<String>,
    /// Many ciphertexts in one request, in the place of `ciphertext`.
    batch_input: Option<Vec<RewrapItem>>,
    /// The HTTP status where some of a batch failed and some did not; without it, 400.
    partial_failure_response_code: Option<Count>,
}

/// One ciphertext of a batch.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct RewrapItem {
    /// What `encrypt` answered once.
    ciphertext: Option<String>,
    /// For a derived key, as base64.
    context: Option<String>,
    /// The data, as base64, that it was encrypted with.
    associated_data: Option<String>,
    /// The version to encrypt with; 0, or nothing, is the latest.
    key_version: Option<Count>,
    /// Leave it out.
    nonce: Option<String>,
    /// Comes back with the result of this ciphertext.
    reference: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct MakeDataKey {
    /// The key that the new one is encrypted with.
    name: String,
    /// How long the new key is: 128, 256 (the default) or 512 bits.
    bits: Option<Count>,
    /// For a derived key: the context, as base64.
    context: Option<String>,
    /// Data, as base64, that must be the same when the new key is decrypted.
    associated_data: Option<String>,
    /// The version to encrypt with; 0, or nothing, is the latest.
    key_version: Option<Count>,
    /// Leave it out.
    nonce: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct DataKey {
    /// The new key, encrypted: `decrypt` gives it back.
    ciphertext: String,
    /// The version that encrypted it.
    key_version: u64,
    /// The new key as base64; not from `datakey/wrapped`.
    #[serde(
        serialize_with = "expose_some",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    plaintext: Option<Zeroizing<String>>,
}

pub(super) async fn encrypt(cx: Cx<Transit>, input: Encrypt) -> Result<Answer<Encrypted>> {
    let first_context = match &input.batch_input {
        Some(items) => items.first().and_then(|item| item.context.as_deref()),
        None => input.context.as_deref(),
    };
    let key = match cx.find(&input.name).await? {
        Some(key) => key,
        None => {
            let wanted = Wanted {
                kind: Some(upsert_type(input.kind.as_deref().unwrap_or_default())?),
                derived: first_context.is_some_and(|context| !context.is_empty()),
                convergent: input.convergent_encryption.unwrap_or_default().0,
                ..Wanted::default()
            };
            if wanted.convergent && !wanted.derived {
                return Err(Error::bad_request(
                    "convergent encryption requires derivation to be enabled, so context is required",
                ));
            }
            upsert(&cx, &input.name, &wanted).await?
        }
    };
    let Some(items) = input.batch_input else {
        let item = EncryptItem {
            plaintext: input.plaintext,
            context: input.context,
            associated_data: input.associated_data,
            key_version: input.key_version,
            nonce: input.nonce,
            reference: None,
        };
        return encrypt_one(&cx, &key, &item).await.map(Answer::one);
    };
    let mut batch = Batch::new(items.len())?;
    for mut item in items {
        let outcome = encrypt_one(&cx, &key, &item).await;
        batch.add(item.reference.take(), outcome).await;
    }
    let unused = unused(&[
        ("plaintext", sent_secret(&input.plaintext)),
        ("context", sent(&input.context)),
        ("associated_data", sent(&input.associated_data)),
        ("nonce", sent(&input.nonce)),
        ("key_version", input.key_version.is_some()),
    ]);
    Ok(batch
        .answer(input.partial_failure_response_code)
        .warn(unused))
}

/// Whether the key is there: a policy may allow to encrypt with it and not to create it.
pub(super) async fn exists(cx: Cx<Transit>, input: super::keys::Named) -> Result<bool> {
    Ok(cx.find(&input.name).await?.is_some())
}

pub(super) async fn decrypt(cx: Cx<Transit>, input: Decrypt) -> Result<Answer<Decrypted>> {
    let key = cx.key(&input.name).await?;
    let Some(items) = input.batch_input else {
        let item = DecryptItem {
            ciphertext: input.ciphertext,
            context: input.context,
            associated_data: input.associated_data,
            nonce: input.nonce,
            reference: None,
        };
        return decrypt_one(&cx, &key, &item).await.map(Answer::one);
    };
    let mut batch = Batch::new(items.len())?;
    for mut item in items {
        let outcome = decrypt_one(&cx, &key, &item).await;
        batch.add(item.reference.take(), outcome).await;
    }
    let unused = unused(&[
        ("ciphertext", sent(&input.ciphertext)),
        ("context", sent(&input.context)),
        ("associated_data", sent(&input.associated_data)),
        ("nonce", sent(&input.nonce)),
    ]);
    Ok(batch
        .answer(input.partial_failure_response_code)
        .warn(unused))
}

pub(super) async fn rewrap(cx: Cx<Transit>, input: Rewrap) -> Result<Answer<Encrypted>> {
    let key = cx.key(&input.name).await?;
    let Some(items) = input.batch_input else {
        let item = RewrapItem {
            ciphertext: input.ciphertext,
            context: input.context,
            associated_data: input.associated_data,
            key_version: input.key_version,
            nonce: input.nonce,
            reference: None,
        };
        return rewrap_one(&cx, &key, &item).await.map(Answer::one);
    };
    let mut batch = Batch::new(items.len())?;
    for mut item in items {
        let outcome = rewrap_one(&cx, &key, &item).await;
        batch.add(item.reference.take(), outcome).await;
    }
    let unused = unused(&[
        ("ciphertext", sent(&input.ciphertext)),
        ("context", sent(&input.context)),
        ("associated_data", sent(&input.associated_data)),
        ("nonce", sent(&input.nonce)),
        ("key_version", input.key_version.is_some()),
    ]);
    Ok(batch
        .answer(input.partial_failure_response_code)
        .warn(unused))
}

pub(super) async fn plain_data_key(cx: Cx<Transit>, input: MakeDataKey) -> Result<Data<DataKey>> {
    data_key(cx, input, true).await.map(Data)
}

pub(super) async fn wrapped_data_key(cx: Cx<Transit>, input: MakeDataKey) -> Result<Data<DataKey>> {
    data_key(cx, input, false).await.map(Data)
}

async fn data_key(cx: Cx<Transit>, input: MakeDataKey, plain: bool) -> Result<DataKey> {
    let key = cx.key(&input.name).await?;
    let around = around(&key, &input.context, &input.associated_data, &input.nonce)?;
    let length = match input.bits {
        None | Some(Count(256)) => 32,
        Some(Count(512)) => 64,
        Some(Count(128)) => 16,
        Some(_) => {
            return Err(Error::bad_request(
                "invalid bit length; bits: expected 128, 256 or 512",
            ));
        }
    };
    let version = version_to_encrypt(&cx, &key, input.key_version).await?;
    let bytes = randomness::bytes(length)?;
    let ciphertext = cipher::encrypt_bytes(&key.head, &version, &bytes, &around)?;
    Ok(DataKey {
        ciphertext,
        key_version: version.number,
        plaintext: plain.then(|| base64_field::encode(&bytes)),
    })
}

async fn encrypt_one(transit: &Transit, key: &Key, item: &EncryptItem) -> Result<Encrypted> {
    let plaintext = item
        .plaintext
        .as_ref()
        .ok_or_else(|| Error::bad_request("missing plaintext to encrypt"))?;
    let around = around(key, &item.context, &item.associated_data, &item.nonce)?;
    let version = version_to_encrypt(transit, key, item.key_version).await?;
    let ciphertext = cipher::encrypt(&key.head, &version, plaintext.expose(), &around).await?;
    Ok(Encrypted {
        ciphertext,
        key_version: version.number,
    })
}

async fn decrypt_one(transit: &Transit, key: &Key, item: &DecryptItem) -> Result<Decrypted> {
    let around = around(key, &item.context, &item.associated_data, &item.nonce)?;
    let message = open(transit, key, item.ciphertext.as_deref(), &around).await?;
    Ok(Decrypted {
        plaintext: base64_field::encode(&message),
    })
}

async fn rewrap_one(transit: &Transit, key: &Key, item: &RewrapItem) -> Result<Encrypted> {
    let around = around(key, &item.context, &item.associated_data, &item.nonce)?;
    let message = open(transit, key, item.ciphertext.as_deref(), &around).await?;
    let version = version_to_encrypt(transit, key, item.key_version).await?;
    let ciphertext = cipher::encrypt_bytes(&key.head, &version, &message, &around)?;
    Ok(Encrypted {
        ciphertext,
        key_version: version.number,
    })
}

async fn open(
    transit: &Transit,
    key: &Key,
    ciphertext: Option<&str>,
    around: &Around,
) -> Result<Zeroizing<Vec<u8>>> {
    if !key.head.kind.encrypts() {
        return Err(cannot("decryption", &key.head));
    }
    let ciphertext = ciphertext
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Error::bad_request("missing ciphertext to decrypt"))?;
    let (number, body) = ciphertext::parse(ciphertext, "ciphertext", &key.head)?;
    let version = transit.version(key, number).await?;
    cipher::decrypt(&key.head, &version, body, around).await
}

/// The version to encrypt with, with one encryption counted.
async fn version_to_encrypt(
    transit: &Transit,
    key: &Key,
    asked: Option<Count>,
) -> Result<Arc<super::live::Version>> {
    if !key.head.kind.encrypts() {
        return Err(cannot("encryption", &key.head));
    }
    let number = key.head.version_to_use(asked.unwrap_or_default().0)?;
    let version = transit.version(key, number).await?;
    transit.spend(key, &version).await?;
    Ok(version)
}

/// Decodes what goes with a message.
fn around(
    key: &Key,
    context: &Option<String>,
    associated_data: &Option<String>,
    nonce: &Option<String>,
) -> Result<Around> {
    if sent(nonce) {
        return Err(Error::bad_request("nonce provided when not allowed"));
    }
    Ok(Around {
        context: super::context(&key.head, context.as_deref())?,
        associated_data: base64_field::decode(
            "associated_data",
            associated_data.as_deref().unwrap_or_default(),
        )?,
    })
}

/// The types that `encrypt` makes.
fn upsert_type(text: &str) -> Result<KeyType> {
    let kind = KeyType::parse(text)?;
    match kind.cipher() {
        Some(_) => Ok(kind),
        None => Err(Error::bad_request(format!(
            "key type {} not supported for this operation",
            kind.as_str()
        ))),
    }
}

/// Creates the key, as Vault does where the caller may create it; unless the mount's settings forbid it.
async fn upsert(transit: &Transit, name: &str, wanted: &Wanted) -> Result<Arc<Key>> {
    if transit.settings().await?.disable_upsert {
        return Err(Error::bad_request(NO_KEY));
    }
    super::check_name(name)?;
    transit.create(name, wanted).await?;
    transit.key(name).await
}

fn sent(field: &Option<String>) -> bool {
    field.as_deref().is_some_and(|text| !text.is_empty())
}

fn sent_secret(field: &Option<Secret>) -> bool {
    field.as_ref().is_some_and(|secret| !secret.is_empty())
}

fn expose_some<S: Serializer>(text: &Option<Zeroizing<String>>, s: S) -> Result<S::Ok, S::Error> {
    text.as_ref().map(|text| text.as_str()).serialize(s)
}
