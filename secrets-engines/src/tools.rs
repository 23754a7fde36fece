//! Random bytes and hashes: the same paths in `transit/` and in `sys/tools/`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use obol_mount::fields::Count;
use obol_mount::{Cx, Data, Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hashes::Hash;
use crate::{base64_field, randomness};

#[derive(Deserialize, JsonSchema)]
pub struct RandomInput {
    /// Where the bytes come from: `platform`, the system's generator. In the path, a number here is `bytes`.
    source: Option<String>,
    /// How many bytes, 1 to 131072; 32 without it.
    bytes: Option<Count>,
    /// `base64` (the default) or `hex`.
    format: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct RandomBytes {
    /// In the format that was asked for.
    random_bytes: String,
}

#[derive(Deserialize, JsonSchema)]
pub struct HashInput {
    /// What to hash, as base64.
    input: Option<Secret>,
    /// sha2-224, sha2-256 (the default), sha2-384, sha2-512, sha3-224, sha3-256, sha3-384 or sha3-512.
    algorithm: Option<String>,
    /// `hex` (the default) or `base64`.
    format: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct HashSum {
    /// In the format that was asked for.
    sum: String,
}

pub async fn random<B: Send + Sync + 'static>(
    _: Cx<B>,
    input: RandomInput,
) -> Result<Data<RandomBytes>> {
    let (mut count, mut source) = (input.bytes.map(|Count(count)| count), input.source);
    if count.is_none()
        && let Some(number) = source.as_deref().and_then(|text| text.parse().ok())
    {
        count = Some(number);
        source = None;
    }
    // A seal with randomness of its own (`seal`, `all`) does not exist here: nothing is mixed in silently.
    if !matches!(source.as_deref(), None | Some("" | "platform")) {
        return Err(Error::bad_request(
            "unsupported entropy source; source: expected platform",
        ));
    }
    let count = match count {
        None => 32,
        Some(0) => return Err(Error::bad_request("\"bytes\" cannot be less than 1")),
        Some(count @ 1..=MAX_RANDOM) => count as usize,
        Some(_) => {
            return Err(Error::bad_request(format!(
                "\"bytes\" should be less than or equal to {MAX_RANDOM}"
            )));
        }
    };
    let write = Format::parse(input.format.as_deref(), Format::Base64)?;
    let bytes = randomness::bytes(count)?;
    Ok(Data(RandomBytes {
        random_bytes: write.text(&bytes),
    }))
}

pub async fn hash<B: Send + Sync + 'static>(_: Cx<B>, input: HashInput) -> Result<Data<HashSum>> {
    let write = Format::parse(input.format.as_deref(), Format::Hex)?;
    let hash = Hash::parse_strong("algorithm", input.algorithm.as_deref().unwrap_or_default())?;
    let data = input
        .input
        .ok_or_else(|| Error::bad_request("missing required field \"input\""))?;
    let data = base64_field::decode("input", data.expose())?;
    Ok(Data(HashSum {
        sum: write.text(&hash.digest(&data)),
    }))
}

/// How bytes are written.
enum Format {
    Base64,
    Hex,
}

impl Format {
    fn parse(text: Option<&str>, default: Self) -> Result<Self> {
        match text {
            None | Some("") => Ok(default),
            Some("base64") => Ok(Self::Base64),
            Some("hex") => Ok(Self::Hex),
            Some(_) => Err(Error::bad_request(
                "unsupported encoding format; format: must be \"hex\" or \"base64\"",
            )),
        }
    }

    fn text(&self, bytes: &[u8]) -> String {
        match self {
            Self::Base64 => STANDARD.encode(bytes),
            Self::Hex => hex::encode(bytes),
        }
    }
}

/// Bytes of one request, as in Vault.
const MAX_RANDOM: u64 = 128 * 1024;
