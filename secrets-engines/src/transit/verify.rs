//! `sign/` and `verify/`.

use std::borrow::Cow;
use std::fmt;

use obol_mount::fields::{Count, Flag};
use obol_mount::{Cx, Error, Result, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::Transit;
use super::batch::{Answer, Batch, unused};
use super::ciphertext;
use super::hmac;
use super::live::{Key, Version};
use super::sign::{self, How, Marshaling, Salt, cannot};
use crate::base64_field;
use crate::hashes::Hash;
use std::sync::Arc;

#[derive(Deserialize, JsonSchema)]
pub(super) struct Sign {
    /// The key.
    name: String,
    /// The hash, in the path: it wins over `hash_algorithm`.
    urlalgorithm: Option<String>,
    /// sha1, sha2-224, sha2-256 (the default), sha2-384, sha2-512, sha3-224, sha3-256, sha3-384, sha3-512, or none (RSA with
    /// pkcs1v15 and prehashed only). Ed25519 has its own.
    hash_algorithm: Option<String>,
    /// The old name of `hash_algorithm`.
    algorithm: Option<String>,
    /// What to sign, as base64; nothing is an empty text.
    input: Option<Secret>,
    /// The version to sign with; 0, or nothing, is the latest.
    key_version: Option<Count>,
    /// For a derived key: the context, as base64.
    context: Option<String>,
    /// The input is a digest by `hash_algorithm` already.
    #[serde(default)]
    prehashed: Flag,
    /// For RSA: pss (the default) or pkcs1v15.
    signature_algorithm: Option<String>,
    /// asn1 (the default) or jws: how ECDSA signatures are put together, and the alphabet of the base64.
    marshaling_algorithm: Option<String>,
    /// For RSA with pss: auto (the default: the longest), hash (as long as the hash), or a number of bytes.
    #[serde(default)]
    salt_length: SaltLength,
    /// Many inputs in one request, in the place of `input`.
    batch_input: Option<Vec<SignItem>>,
}

/// One input of a batch.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct SignItem {
    /// What to sign, as base64.
    input: Option<Secret>,
    /// For a derived key, as base64.
    context: Option<String>,
    /// Comes back with the result of this input.
    reference: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Signature {
    /// `vault:`, the version of the key, and the signature.
    signature: String,
    /// The version that signed.
    key_version: u64,
    /// Of a derived key: base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Verify {
    /// The key.
    name: String,
    /// The hash, in the path: it wins over `hash_algorithm`.
    urlalgorithm: Option<String>,
    /// As for `sign`; for an `hmac`, the hash of the HMAC.
    hash_algorithm: Option<String>,
    /// The old name of `hash_algorithm`.
    algorithm: Option<String>,
    /// What was signed, as base64; nothing is an empty text.
    input: Option<Secret>,
    /// What `sign` answered.
    signature: Option<String>,
    /// What `hmac` answered, in the place of a signature.
    hmac: Option<String>,
    /// For a derived key: the context, as base64.
    context: Option<String>,
    /// The input is a digest by `hash_algorithm` already.
    #[serde(default)]
    prehashed: Flag,
    /// For RSA: pss (the default) or pkcs1v15.
    signature_algorithm: Option<String>,
    /// asn1 (the default) or jws.
    marshaling_algorithm: Option<String>,
    /// For RSA with pss: auto (the default: any), hash (as long as the hash), or a number of bytes.
    #[serde(default)]
    salt_length: SaltLength,
    /// Many signatures in one request.
    batch_input: Option<Vec<VerifyItem>>,
}

/// One signature of a batch.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct VerifyItem {
    /// What was signed, as base64.
    input: Option<Secret>,
    /// What `sign` answered.
    signature: Option<String>,
    /// What `hmac` answered, in the place of a signature.
    hmac: Option<String>,
    /// For a derived key, as base64.
    context: Option<String>,
    /// Comes back with the result of this signature.
    reference: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Verdict {
    /// Whether the signature, or the HMAC, is that of the input.
    valid: bool,
}

pub(super) async fn sign(cx: Cx<Transit>, input: Sign) -> Result<Answer<Signature>> {
    let key = cx.find(&input.name).await?;
    let key = key.ok_or_else(|| Error::bad_request("signing key not found"))?;
    if !key.head.kind.signs() {
        return Err(cannot("signing", &key.head));
    }
    let how = How {
        hash: signature_hash(&[&input.urlalgorithm, &input.hash_algorithm, &input.algorithm])?,
        prehashed: input.prehashed.0,
        pss: is_pss(input.signature_algorithm.as_deref())?,
        marshaling: marshaling(input.marshaling_algorithm.as_deref())?,
        salt: input.salt_length.0,
    };
    how.check(&key.head)?;
    let number = key
        .head
        .version_to_use(input.key_version.unwrap_or_default().0)?;
    let version = cx.version(&key, number).await?;
    let Some(items) = input.batch_input else {
        let item = SignItem {
            input: Some(input.input.unwrap_or_default()),
            context: input.context,
            reference: None,
        };
        return sign_one(&key, &version, how, &item).await.map(Answer::one);
    };
    let mut batch = Batch::new(items.len())?;
    for mut item in items {
        let outcome = sign_one(&key, &version, how, &item).await;
        batch.add(item.reference.take(), outcome).await;
    }
    let unused = unused(&[
        ("input", sent_secret(&input.input)),
        ("context", sent(&input.context)),
    ]);
    Ok(batch.answer_each().warn(unused))
}

pub(super) async fn verify(cx: Cx<Transit>, input: Verify) -> Result<Answer<Verdict>> {
    let key = cx.find(&input.name).await?;
    let key = key.ok_or_else(|| Error::bad_request("signature verification key not found"))?;
    let asked = Asked {
        algorithms: [input.urlalgorithm, input.hash_algorithm, input.algorithm],
        prehashed: input.prehashed.0,
        pss: is_pss(input.signature_algorithm.as_deref())?,
        marshaling: marshaling(input.marshaling_algorithm.as_deref())?,
        salt: input.salt_length.0,
    };
    let Some(items) = input.batch_input else {
        let item = VerifyItem {
            input: Some(input.input.unwrap_or_default()),
            signature: input.signature,
            hmac: input.hmac,
            context: input.context,
            reference: None,
        };
        return verify_one(&cx, &key, &asked, &item).await.map(Answer::one);
    };
    let mut batch = Batch::new(items.len())?;
    all_of_one_kind(&items)?;
    for mut item in items {
        let outcome = verify_one(&cx, &key, &asked, &item).await;
        let failed = Verdict { valid: false };
        batch.add_or(item.reference.take(), outcome, failed).await;
    }
    let unused = unused(&[
        ("input", sent_secret(&input.input)),
        ("signature", sent(&input.signature)),
        ("hmac", sent(&input.hmac)),
        ("context", sent(&input.context)),
    ]);
    Ok(batch.answer_each().warn(unused))
}

/// A batch is of signatures or of HMACs, as in Vault.
fn all_of_one_kind(items: &[VerifyItem]) -> Result<()> {
    let count = |kind: fn(&VerifyItem) -> bool| items.iter().filter(|item| kind(item)).count();
    let signatures = count(|item| item.signature.is_some());
    let codes = count(|item| item.hmac.is_some());
    let refuse = |why: &str| Err(Error::bad_request(why));
    match (signatures, codes) {
        (0, 0) => refuse("neither a 'signature' nor an 'hmac' was given to verify"),
        (1.., 1..) => {
            refuse("elements of batch_input must all provide 'signature' or all provide 'hmac'")
        }
        (found, 0) if found < items.len() => {
            refuse("some elements of batch_input are missing 'signature'")
        }
        (0, found) if found < items.len() => {
            refuse("some elements of batch_input are missing 'hmac'")
        }
        _ => Ok(()),
    }
}

/// What a verification asks for, before it is known whether it is of a signature or of an HMAC.
struct Asked {
    algorithms: [Option<String>; 3],
    prehashed: bool,
    pss: bool,
    marshaling: Marshaling,
    salt: Salt,
}

async fn sign_one(
    key: &Key,
    version: &Arc<Version>,
    how: How,
    item: &SignItem,
) -> Result<Signature> {
    let context = super::context(&key.head, item.context.as_deref())?;
    let input = decoded(&item.input)?;
    let signed = sign::sign(&key.head, version, how, &context, &input).await?;
    Ok(Signature {
        signature: signed.text,
        key_version: version.number,
        public_key: signed.public,
    })
}

async fn verify_one(
    transit: &Transit,
    key: &Key,
    asked: &Asked,
    item: &VerifyItem,
) -> Result<Verdict> {
    let algorithms: Vec<_> = asked.algorithms.iter().collect();
    let valid = match (filled(&item.signature), filled(&item.hmac)) {
        (Some(signature), None) => {
            if !key.head.kind.signs() {
                return Err(cannot("verification", &key.head));
            }
            let how = How {
                hash: signature_hash(&algorithms)?,
                prehashed: asked.prehashed,
                pss: asked.pss,
                marshaling: asked.marshaling,
                salt: asked.salt,
            };
            how.check(&key.head)?;
            let context = super::context(&key.head, item.context.as_deref())?;
            let input = decoded(&item.input)?;
            let (number, body) = ciphertext::parse(signature, "signature", &key.head)?;
            let version = transit.version(key, number).await?;
            sign::verify(&key.head, &version, how, &context, &input, body)?
        }
        (None, Some(code)) => {
            let hash = hmac::algorithm(&algorithms)?;
            let input = decoded(&item.input)?;
            hmac::verify(transit, key, hash, &input, code).await?
        }
        (None, None) => {
            return Err(Error::bad_request(
                "neither a 'signature' nor an 'hmac' was given to verify",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(Error::bad_request(
                "provide one of 'signature' or 'hmac', not both",
            ));
        }
    };
    Ok(Verdict { valid })
}

fn decoded(input: &Option<Secret>) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    let input = input
        .as_ref()
        .ok_or_else(|| Error::bad_request("missing required field \"input\""))?;
    base64_field::decode("input", input.expose())
}

/// The first of the fields that names a hash; `None` where it is `none`.
fn signature_hash(fields: &[&Option<String>]) -> Result<Option<Hash>> {
    let named = fields.iter().find_map(|field| filled(field));
    match named {
        Some("none") => Ok(None),
        named => Hash::parse("hash_algorithm", named.unwrap_or_default()).map(Some),
    }
}

fn is_pss(text: Option<&str>) -> Result<bool> {
    match text {
        None | Some("" | "pss") => Ok(true),
        Some("pkcs1v15") => Ok(false),
        Some(_) => Err(Error::bad_request(
            "unsupported signature algorithm; signature_algorithm: expected pss or pkcs1v15",
        )),
    }
}

fn marshaling(text: Option<&str>) -> Result<Marshaling> {
    match text {
        None | Some("" | "asn1") => Ok(Marshaling::Asn1),
        Some("jws") => Ok(Marshaling::Jws),
        Some(_) => Err(Error::bad_request(
            "invalid marshaling type; marshaling_algorithm: expected asn1 or jws",
        )),
    }
}

fn filled(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}

fn sent(field: &Option<String>) -> bool {
    filled(field).is_some()
}

fn sent_secret(field: &Option<Secret>) -> bool {
    field.as_ref().is_some_and(|secret| !secret.is_empty())
}

/// `auto`, `hash` or a number, also as text.
struct SaltLength(Salt);

impl Default for SaltLength {
    fn default() -> Self {
        Self(Salt::Auto)
    }
}

impl<'de> Deserialize<'de> for SaltLength {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct SaltVisitor;
        const EXPECTED: &str = "expected auto, hash, or a number of bytes";
        impl Visitor<'_> for SaltVisitor {
            type Value = SaltLength;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto, hash, or a number of bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SaltLength, E> {
                match text {
                    "" | "auto" => Ok(SaltLength(Salt::Auto)),
                    "hash" => Ok(SaltLength(Salt::Hash)),
                    text => self.visit_u64(text.parse().map_err(|_| E::custom(EXPECTED))?),
                }
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SaltLength, E> {
                match number {
                    // As in Go's crypto/rsa.
                    -1 => Ok(SaltLength(Salt::Hash)),
                    number => self.visit_u64(number.try_into().map_err(|_| E::custom(EXPECTED))?),
                }
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<SaltLength, E> {
                match number {
                    // As in Vault.
                    0 => Ok(SaltLength(Salt::Auto)),
                    number => usize::try_from(number)
                        .map(|bytes| SaltLength(Salt::Bytes(bytes)))
                        .map_err(|_| E::custom(EXPECTED)),
                }
            }
        }
        d.deserialize_any(SaltVisitor)
    }
}

impl JsonSchema for SaltLength {
    fn schema_name() -> Cow<'static, str> {
        "SaltLength".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "examples": ["auto", "hash", 32] })
    }
}
