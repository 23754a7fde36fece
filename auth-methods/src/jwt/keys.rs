//! The public keys of an issuer, from a JWKS document or from PEM, and the proof that one of them signed a JWT.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation};
use serde_json::{Map, Value};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::signatures::{self, ALGORITHMS};

/// One public key, and what may be verified with it.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl Key {
    /// `None` where the key is of no use here: of another kind, for encryption, symmetric, too weak.
    pub(super) fn of_jwk(jwk: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk.clone()).ok()?;
        let common = &jwk.common;
        if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        if common
            .key_operations
            .as_ref()
            .is_some_and(|operations| !operations.contains(&KeyOperations::Verify))
        {
            return None;
        }
        let (mut algorithms, key) = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let modulus = decode(&rsa.n)?;
                // Some issuers write the sign byte of DER, which is no part of the number (RFC 7518 §6.3.1.1).
                let leading = modulus.iter().take_while(|byte| **byte == 0).count();
                let modulus = &modulus[leading..];
                is_strong(modulus.len()).then_some(())?;
                let exponent = decode(&rsa.e)?;
                (
                    rsa_algorithms(),
                    DecodingKey::from_rsa_raw_components(modulus, &exponent),
                )
            }
            AlgorithmParameters::EllipticCurve(ec) => {
                let (algorithm, bytes) = match ec.curve {
                    EllipticCurve::P256 => (Algorithm::ES256, 32),
                    EllipticCurve::P384 => (Algorithm::ES384, 48),
                    _ => return None,
                };
                let (x, y) = (decode(&ec.x)?, decode(&ec.y)?);
                (x.len() == bytes && y.len() == bytes).then_some(())?;
                let point = [&[4][..], &x, &y].concat();
                (vec![algorithm], DecodingKey::from_ec_der(&point))
            }
            AlgorithmParameters::OctetKeyPair(pair) => {
                (pair.curve == EllipticCurve::Ed25519).then_some(())?;
                let key = decode(&pair.x)?;
                (key.len() == 32).then_some(())?;
                (vec![Algorithm::EdDSA], DecodingKey::from_ed_der(&key))
            }
            // A shared secret among them: whoever reads the document could sign with it.
            _ => return None,
        };
        if let Some(only) = common.key_algorithm {
            algorithms.retain(|algorithm| only == (*algorithm).into());
        }
        (!algorithms.is_empty()).then(|| Self {
            id: common.key_id.clone(),
            algorithms,
            key,
        })
    }

    /// A public key or a certificate in PEM. The error says what is wrong and repeats nothing.
    pub(super) fn of_pem(text: &str) -> Result<Self, &'static str> {
        let mut blocks = Pem::iter_from_buffer(text.trim().as_bytes());
        let pem = match (blocks.next(), blocks.next()) {
            (Some(Ok(pem)), None) => pem,
            (Some(Ok(_)), Some(_)) => return Err("it holds more than one PEM block"),
            _ => return Err("it is not PEM"),
        };
        const BROKEN: &str = "it is broken";
        match pem.label.as_str() {
            "PUBLIC KEY" => {
                let (_, info) =
                    SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|_| BROKEN)?;
                Self::of_info(&info)
            }
            "CERTIFICATE" => {
                let certificate = pem.parse_x509().map_err(|_| BROKEN)?;
                Self::of_info(certificate.public_key())
            }
            "RSA PUBLIC KEY" => Ok(Self {
                id: None,
                algorithms: rsa_algorithms(),
                key: DecodingKey::from_rsa_der(&pem.contents),
            }),
            label if label.contains("PRIVATE") => {
                Err("it is a private key: only the public one belongs here")
            }
            _ => Err("it is neither a public key nor a certificate"),
        }
    }

    fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, &'static str> {
        let bytes = &info.subject_public_key.data;
        let (algorithms, key) = match info.parsed() {
            Ok(PublicKey::RSA(rsa)) => {
                // With the sign byte, perhaps.
                if !is_strong(rsa.modulus.len()) {
                    return Err("it is an RSA key of less than 2048 bits");
                }
                (rsa_algorithms(), DecodingKey::from_rsa_der(bytes))
            }
            Ok(PublicKey::EC(_)) => {
                let algorithm = match bytes.len() {
                    65 => Algorithm::ES256,
                    97 => Algorithm::ES384,
                    _ => return Err("its curve is neither P-256 nor P-384"),
                };
                (vec![algorithm], DecodingKey::from_ec_der(bytes))
            }
            _ if info.algorithm.algorithm.to_id_string() == ED25519 && bytes.len() == 32 => {
                (vec![Algorithm::EdDSA], DecodingKey::from_ed_der(bytes))
            }
            _ => return Err("it is no RSA, P-256, P-384 or Ed25519 key"),
        };
        Ok(Self {
            id: None,
            algorithms,
            key,
        })
    }

    fn may_have_signed(&self, header: &Header) -> bool {
        let is_named = match (&header.kid, &self.id) {
            (Some(asked), Some(own)) => asked == own,
            _ => true,
        };
        is_named && self.algorithms.contains(&header.alg)
    }
}

/// A JWT's header, checked: nothing in it is obeyed but the name of the key and the algorithm, if that is allowed.
pub(super) struct Checked<'j> {
    jwt: &'j str,
    header: Header,
}

impl<'j> Checked<'j> {
    pub(super) fn parse(jwt: &'j str, allowed: &[Algorithm]) -> Result<Self, &'static str> {
        if jwt.len() > MAX_JWT_BYTES {
            return Err("it is longer than 64 KiB");
        }
        // `none` and whatever else is no known algorithm does not parse.
        let header = jsonwebtoken::decode_header(jwt)
            .map_err(|_| "it is malformed, or its algorithm is none that is known here")?;
        if !ALGORITHMS.contains(&header.alg) || !allowed.contains(&header.alg) {
            return Err("its algorithm is none of jwt_supported_algs");
        }
        // What must be understood is not (RFC 7515 §4.1.11), and what is compressed or encrypted is no JWS.
        if header.crit.is_some() || header.zip.is_some() || header.enc.is_some() {
            return Err("its header asks for something that is not supported");
        }
        Ok(Self { jwt, header })
    }

    /// Whether one of these keys may have signed it, as far as the header says.
    pub(super) fn is_by_one_of(&self, keys: &[Key]) -> bool {
        keys.iter().any(|key| key.may_have_signed(&self.header))
    }

    /// The claims, if one of these keys has signed them.
    pub(super) fn claims(&self, keys: &[Key]) -> Option<Map<String, Value>> {
        signatures::install();
        let mut validation = Validation::new(self.header.alg);
        // Times and audiences are looked at with the role (`claims.rs`).
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        keys.iter()
            .filter(|key| key.may_have_signed(&self.header))
            .find_map(|key| {
                jsonwebtoken::decode::<Map<String, Value>>(self.jwt, &key.key, &validation).ok()
            })
            .map(|token| token.claims)
    }
}

fn rsa_algorithms() -> Vec<Algorithm> {
    AlgorithmFamily::Rsa.algorithms().to_vec()
}

/// ring verifies with 2048 to 8192 bits.
fn is_strong(modulus_bytes: usize) -> bool {
    modulus_bytes >= 256
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

const MAX_JWT_BYTES: usize = 64 * 1024;
/// RFC 8410.
const ED25519: &str = "1.3.101.112";
