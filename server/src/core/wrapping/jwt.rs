//! Wrapping tokens in JWT form (RFC 7519): the token with its accessor, its times and the address at which it is
//! unwrapped, signed. Only this server reads them, with one algorithm and one header, so there is nothing of a
//! general JWT reader here that could be talked into another.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use obol_mount::{Error, Result, Secret};
use obol_storage::{Batch, Error as StorageError, View};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Vault signs with ES512; ring has no P-521, and nobody but the server that signed verifies.
const HEADER: &str = r#"{"alg":"ES384","typ":"JWT"}"#;
const KEY: &str = "jwt-key";
const WRAPPING: &str = "wrapping";
/// Seconds by which the clock of another node may be behind.
const LEEWAY: u64 = 5;

/// The claims, with Vault's names.
#[derive(Serialize)]
pub(super) struct Claims<'a> {
    accessor: &'a str,
    addr: &'a str,
    exp: u64,
    iat: u64,
    /// The token itself.
    jti: &'a str,
    nbf: u64,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// What is read of them.
#[derive(Deserialize)]
struct Claimed {
    exp: u64,
    jti: Secret,
    nbf: u64,
    #[serde(rename = "type")]
    kind: String,
}

impl<'a> Claims<'a> {
    pub(super) fn new(
        token: &'a Secret,
        accessor: &'a str,
        addr: &'a str,
        now: u64,
        ttl: u64,
    ) -> Self {
        Self {
            accessor,
            addr,
            exp: now.saturating_add(ttl),
            iat: now,
            jti: token.expose(),
            nbf: now.saturating_sub(LEEWAY),
            kind: WRAPPING,
        }
    }
}

/// The signing key of this installation.
pub(super) struct Signer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    /// Reads the key, or makes it: the first of several nodes that asks.
    pub(super) async fn open(storage: &View) -> Result<Self> {
        let random = SystemRandom::new();
        let pkcs8 = match storage.get(KEY).await? {
            Some(entry) => entry.value,
            None => {
                let new = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random)
                    .map_err(|_| Error::internal("no randomness"))?;
                let new = Zeroizing::new(new.as_ref().to_vec());
                let mut batch = Batch::new();
                storage.expect_absent_in(&mut batch, KEY);
                storage.put_in(&mut batch, KEY, new.clone());
                match storage.commit(batch).await {
                    Ok(()) => new,
                    Err(StorageError::Conflict { .. }) => {
                        let made = storage.get(KEY).await?;
                        made.ok_or_else(|| Error::internal("the signing key has gone"))?
                            .value
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &pkcs8, &random)
            .map_err(|_| Error::internal("the record of the signing key is malformed"))?;
        Ok(Self { pair, random })
    }

    pub(super) fn sign(&self, claims: &Claims<'_>) -> Result<Secret> {
        let claims = Zeroizing::new(serde_json::to_vec(claims).map_err(Error::internal)?);
        let mut token = Zeroizing::new(format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(HEADER),
            URL_SAFE_NO_PAD.encode(claims.as_slice())
        ));
        let signature = self
            .pair
            .sign(&self.random, token.as_bytes())
            .map_err(|_| Error::internal("signing failed"))?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Ok(Secret::new(token.to_string()))
    }

    /// The token inside; `None` when this is none of ours, or has ended.
    pub(super) fn open_token(&self, token: &str, now: u64) -> Option<Secret> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if header != URL_SAFE_NO_PAD.encode(HEADER) {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, self.pair.public_key())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(claims).ok()?);
        let claims: Claimed = serde_json::from_slice(&claims).ok()?;
        let valid = claims.kind == WRAPPING && claims.nbf <= now + LEEWAY && now < claims.exp;
        valid.then_some(claims.jti)
    }
}

/// Three parts, of which the first is an object in base64. No token of ours looks so by itself.
pub(super) fn looks_like_one(token: &str) -> bool {
    token.starts_with("eyJ") && token.matches('.').count() == 2
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, key.as_ref(), &random)
                .unwrap();
        Signer { pair, random }
    }

    #[test]
    fn a_signed_token_opens_in_its_time_with_its_key_and_unchanged() {
        let signer = signer();
        let token = Secret::new("obs.inner".into());
        let claims = Claims::new(&token, "acc", "https://obol.test:8200", 1000, 60);
        let signed = signer.sign(&claims).unwrap();
        assert!(looks_like_one(signed.expose()));
        let opened = |text: &str, now| signer.open_token(text, now).map(|t| t.expose().to_owned());
        assert_eq!(opened(signed.expose(), 1059).as_deref(), Some("obs.inner"));
        assert_eq!(opened(signed.expose(), 1060), None);
        assert_eq!(opened(signed.expose(), 900), None);
        assert_eq!(
            self::signer().open_token(signed.expose(), 1010).map(drop),
            None
        );
        let (head, rest) = signed.expose().split_once('.').unwrap();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        assert_eq!(opened(&format!("{none}.{rest}"), 1010), None);
        let (claims, signature) = rest.split_once('.').unwrap();
        let changed = claims.replacen('e', "f", 1);
        assert_eq!(opened(&format!("{head}.{changed}.{signature}"), 1010), None);
        assert_eq!(opened(&format!("{head}.{claims}."), 1010), None);
        assert_eq!(opened("eyJ..", 1010), None);
    }
}
