//! `export/`: the material of a key that may leave the server.

use std::collections::BTreeMap;

use obol_mount::{Cx, Data, Error, Result};
use p256::elliptic_curve::pkcs8::DecodePrivateKey;
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::pkcs8::LineEnding;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use super::Transit;
use super::head::Head;
use super::key_type::KeyType;
use super::material::Material;
use crate::base64_field;

#[derive(Deserialize, JsonSchema)]
pub(super) struct Export {
    /// encryption-key, signing-key, hmac-key or public-key.
    #[serde(rename = "type")]
    what: String,
    /// The key.
    name: String,
    /// One version, or `latest`; without it, all from `min_decryption_version` on.
    version: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Exported {
    /// The key.
    name: String,
    #[serde(rename = "type")]
    kind: KeyType,
    /// By version. Base64 for ciphers, HMACs and ed25519; PEM for RSA (PKCS #1) and ECDSA (SEC 1), and for their public
    /// halves.
    #[serde(serialize_with = "expose")]
    #[schemars(with = "BTreeMap<u64, String>")]
    keys: BTreeMap<u64, Zeroizing<String>>,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    Encryption,
    Signing,
    Hmac,
    Public,
}

pub(super) async fn export(cx: Cx<Transit>, input: Export) -> Result<Data<Exported>> {
    let what = match input.what.as_str() {
        "encryption-key" => What::Encryption,
        "signing-key" => What::Signing,
        "hmac-key" => What::Hmac,
        "public-key" => What::Public,
        _ => {
            return Err(Error::bad_request(
                "invalid export type: expected encryption-key, signing-key, hmac-key or public-key",
            ));
        }
    };
    let Some(current) = cx.head(&input.name).await? else {
        return Err(Error::not_found());
    };
    let head = current.head;
    if !head.exportable && what != What::Public {
        return Err(Error::bad_request("private key material is not exportable"));
    }
    let fits = match what {
        What::Encryption => head.kind.encrypts(),
        What::Signing => head.kind.signs(),
        What::Public => head.kind.has_public_key() && !head.derived,
        What::Hmac => true,
    };
    if !fits {
        return Err(Error::bad_request(format!(
            "{} is not something that this key of type {} has",
            input.what,
            head.kind.as_str()
        )));
    }
    let lowest = head.min_decryption.max(head.min_available);
    let (first, last) = match input.version.as_deref() {
        None | Some("") => (lowest, head.latest),
        Some("latest") => (head.latest, head.latest),
        Some(number) => {
            let number: u64 = number
                .strip_prefix('v')
                .unwrap_or(number)
                .parse()
                .map_err(|_| Error::bad_request("version: expected a number or latest"))?;
            if number < lowest {
                return Err(Error::bad_request(
                    "version for export is below minimum decryption version",
                ));
            }
            (number, number)
        }
    };
    let mut keys = BTreeMap::new();
    for (number, material) in cx.materials(&head.id, first, last.min(head.latest)).await? {
        keys.insert(number, exported(what, &head, &material)?);
    }
    if keys.is_empty() {
        return Err(Error::bad_request(
            "version does not exist or cannot be found",
        ));
    }
    Ok(Data(Exported {
        name: input.name,
        kind: head.kind,
        keys,
    }))
}

fn exported(what: What, head: &Head, material: &Material) -> Result<Zeroizing<String>> {
    let key = material.key.expose();
    match what {
        What::Hmac => return Ok(base64_field::encode(material.hmac.expose())),
        What::Public => return Ok(Zeroizing::new(material.public.clone().unwrap_or_default())),
        What::Encryption | What::Signing => {}
    }
    Ok(match head.kind {
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
            let key = RsaPrivateKey::from_pkcs8_der(key).map_err(Error::internal)?;
            key.to_pkcs1_pem(LineEnding::LF).map_err(Error::internal)?
        }
        KeyType::EcdsaP256 => {
            let key = p256::SecretKey::from_pkcs8_der(key).map_err(Error::internal)?;
            key.to_sec1_pem(LineEnding::LF).map_err(Error::internal)?
        }
        KeyType::EcdsaP384 => {
            let key = p384::SecretKey::from_pkcs8_der(key).map_err(Error::internal)?;
            key.to_sec1_pem(LineEnding::LF).map_err(Error::internal)?
        }
        KeyType::EcdsaP521 => {
            let key = p521::SecretKey::from_pkcs8_der(key).map_err(Error::internal)?;
            key.to_sec1_pem(LineEnding::LF).map_err(Error::internal)?
        }
        _ => base64_field::encode(key),
    })
}

fn expose<S: Serializer>(keys: &BTreeMap<u64, Zeroizing<String>>, s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(keys.iter().map(|(number, key)| (number, key.as_str())))
}
