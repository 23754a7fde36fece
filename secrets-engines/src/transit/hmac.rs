//! `hmac/`: authentication codes with the HMAC key that every version of every key has.

use obol_mount::fields::Count;
use obol_mount::{Cx, Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::Transit;
use super::batch::{Answer, Batch, unused};
use super::ciphertext;
use super::live::Key;
use crate::base64_field;
use crate::hashes::Hash;

#[derive(Deserialize, JsonSchema)]
pub(super) struct MakeHmac {
    /// The key.
    name: String,
    /// The hash, in the path: it wins over `algorithm`.
    urlalgorithm: Option<String>,
    /// sha2-224, sha2-256 (the default), sha2-384, sha2-512, sha3-224, sha3-256, sha3-384 or sha3-512.
    algorithm: Option<String>,
    /// What to authenticate, as base64.
    input: Option<Secret>,
    /// The version to use; 0, or nothing, is the latest.
    key_version: Option<Count>,
    /// Many inputs in one request, in the place of `input`.
    batch_input: Option<Vec<HmacItem>>,
}

/// One input of a batch.
#[derive(Deserialize, JsonSchema)]
pub(super) struct HmacItem {
    /// What to authenticate, as base64.
    input: Option<Secret>,
    /// Comes back with the result of this input.
    reference: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Made {
    /// `vault:`, the version of the key, and the code.
    hmac: String,
}

pub(super) async fn make(cx: Cx<Transit>, input: MakeHmac) -> Result<Answer<Made>> {
    let key = cx.key(&input.name).await?;
    let hash = algorithm(&[&input.urlalgorithm, &input.algorithm])?;
    let number = key
        .head
        .version_to_use(input.key_version.unwrap_or_default().0)?;
    let version = cx.version(&key, number).await?;
    let make = |data: &Option<Secret>| -> Result<Made> {
        let data = data
            .as_ref()
            .ok_or_else(|| Error::bad_request("missing input for HMAC"))?;
        let data = base64_field::decode("input", data.expose())?;
        let code = hash.hmac(version.hmac.expose(), &data);
        Ok(Made {
            hmac: ciphertext::text(number, &code),
        })
    };
    let Some(items) = input.batch_input else {
        return make(&input.input).map(Answer::one);
    };
    let mut batch = Batch::new(items.len())?;
    for item in items {
        batch.add(item.reference, make(&item.input)).await;
    }
    let unused = unused(&[("input", input.input.is_some_and(|input| !input.is_empty()))]);
    Ok(batch.answer_each().warn(unused))
}

/// Whether the code is that of the input. A code that is too old or malformed is refused, not invalid.
pub(super) async fn verify(
    transit: &Transit,
    key: &Key,
    hash: Hash,
    data: &[u8],
    code: &str,
) -> Result<bool> {
    let (number, body) = ciphertext::parse(code, "HMAC", &key.head)?;
    let code = base64_field::decode("hmac", body)?;
    let version = transit.version(key, number).await?;
    let expected = hash.hmac(version.hmac.expose(), data);
    Ok(expected.ct_eq(&code).into())
}

/// The first of the fields that names a hash.
pub(super) fn algorithm(fields: &[&Option<String>]) -> Result<Hash> {
    let named = fields.iter().find_map(|field| field.as_deref());
    Hash::parse_strong("algorithm", named.unwrap_or_default())
}
