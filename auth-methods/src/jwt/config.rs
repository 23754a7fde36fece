//! `config`: where the keys are that tokens are verified with, and whose tokens they must be. A write replaces it
//! whole, as Vault's does, and the issuer is asked for its keys before it is stored.

use std::str::FromStr;

use jsonwebtoken::Algorithm;
use obol_mount::fields::{CommaList, Flag};
use obol_mount::{Cx, Data, Error, Result, Written};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::info;

use super::issuer::Issuer;
use super::key_source::KeySource;
use super::keys::Key;
use super::signatures::ALGORITHMS;
use super::{CONFIG, Jwt};
use crate::store::{self, ATTEMPTS};

/// `GET config`.
pub(super) async fn read(cx: Cx<Jwt>) -> Result<Option<Data<StoredConfig>>> {
    Ok(cx.store.read(CONFIG).await?.map(Data))
}

/// `POST config`. Replaces what was there.
pub(super) async fn write(cx: Cx<Jwt>, input: WriteConfig) -> Result<Written> {
    let skip_check = input.skip_jwks_validation.0;
    let config = input.checked()?;
    let mut warnings = config.warnings();
    if let Some((field, issuer)) = config.issuer()?
        && let Err(fault) = issuer.keys().await
    {
        match skip_check {
            true => warnings.push(format!("{field}: {fault}")),
            false => return Err(Error::bad_request(format!("{field}: {fault}"))),
        }
    }
    for _ in 0..ATTEMPTS {
        let mut change = cx.store.begin().await?;
        change.put(CONFIG, &config)?;
        if change.commit().await? {
            info!(
                mount = &*cx.request.mount,
                oidc_discovery_url = config.oidc_discovery_url,
                jwks_url = config.jwks_url,
                bound_issuer = config.bound_issuer,
                "the JWT configuration was written"
            );
            return Ok(Written { warnings });
        }
    }
    Err(store::too_busy())
}

/// Says whose tokens are accepted. One of `oidc_discovery_url`, `jwks_url` and `jwt_validation_pubkeys` is needed.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteConfig {
    /// The issuer, as it calls itself: its discovery document is at `/.well-known/openid-configuration` below this URL
    /// and must name it. `https://`, or `http://` on this machine.
    #[serde(default)]
    oidc_discovery_url: String,
    /// The CA certificates (PEM) to believe when the issuer is asked, instead of the machine's own.
    #[serde(default)]
    oidc_discovery_ca_pem: String,
    /// Where the issuer's keys are (a JWKS document). `https://`, or `http://` on this machine.
    #[serde(default)]
    jwks_url: String,
    /// The CA certificates (PEM) to believe for `jwks_url`, instead of the machine's own.
    #[serde(default)]
    jwks_ca_pem: String,
    /// Public keys or certificates (PEM) to verify tokens with: RSA (2048 bits or more), P-256, P-384, Ed25519.
    #[serde(default)]
    jwt_validation_pubkeys: CommaList,
    /// What `iss` must be in each token. Empty: the issuer of `oidc_discovery_url`; or, with keys from elsewhere, anything.
    #[serde(default)]
    bound_issuer: String,
    /// The signatures that are accepted, of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA. Empty: all.
    #[serde(default)]
    jwt_supported_algs: CommaList,
    /// The role of a login that names none.
    #[serde(default)]
    default_role: String,
    /// Stores the configuration also where the issuer does not give its keys now, and warns.
    #[serde(default)]
    skip_jwks_validation: Flag,
    /// Of the browser flow, which is not there: must be empty.
    oidc_client_id: Option<Value>,
    /// Of the browser flow, which is not there: must be empty.
    oidc_client_secret: Option<Value>,
    /// Of the browser flow, which is not there: must be empty.
    oidc_response_mode: Option<Value>,
    /// Of the browser flow, which is not there: must be empty.
    oidc_response_types: Option<Value>,
    /// Of the browser flow, which is not there: must be empty.
    provider_config: Option<Value>,
    /// Of the browser flow, which is not there: must be empty.
    namespace_in_state: Option<Value>,
    /// Several key sets are not supported: enable a mount for each, or use a document with all keys.
    jwks_pairs: Option<Value>,
}

/// The record, and what is returned. Nothing in it is secret.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
pub(super) struct StoredConfig {
    bound_issuer: String,
    default_role: String,
    jwks_ca_pem: String,
    jwks_url: String,
    jwt_supported_algs: Vec<String>,
    jwt_validation_pubkeys: Vec<String>,
    oidc_discovery_ca_pem: String,
    oidc_discovery_url: String,
}

/// The configuration as logins use it.
pub(super) struct Verifier {
    pub(super) source: KeySource,
    pub(super) algorithms: Vec<Algorithm>,
    /// What `iss` must be.
    pub(super) issuer: Option<String>,
    default_role: String,
}

impl Verifier {
    /// The role that a login is for: the one that it names, or else the default one.
    pub(super) fn role_named(&self, named: &str) -> Option<String> {
        let name = match named {
            "" => self.default_role.clone(),
            named => named.to_lowercase(),
        };
        (!name.is_empty()).then_some(name)
    }
}

impl WriteConfig {
    fn checked(self) -> Result<StoredConfig> {
        for (field, value) in [
            ("oidc_client_id", &self.oidc_client_id),
            ("oidc_client_secret", &self.oidc_client_secret),
            ("oidc_response_mode", &self.oidc_response_mode),
            ("oidc_response_types", &self.oidc_response_types),
            ("provider_config", &self.provider_config),
            ("namespace_in_state", &self.namespace_in_state),
        ] {
            if !is_empty(value) {
                return Err(Error::bad_request(format!("{field}: {NO_BROWSER_FLOW}")));
            }
        }
        if !is_empty(&self.jwks_pairs) {
            return Err(Error::bad_request(
                "jwks_pairs: several key sets are not supported; enable a mount for each issuer",
            ));
        }
        let config = StoredConfig {
            bound_issuer: self.bound_issuer,
            default_role: self.default_role.to_lowercase(),
            jwks_ca_pem: self.jwks_ca_pem,
            jwks_url: self.jwks_url,
            jwt_supported_algs: self.jwt_supported_algs.0,
            jwt_validation_pubkeys: self.jwt_validation_pubkeys.0,
            oidc_discovery_ca_pem: self.oidc_discovery_ca_pem,
            oidc_discovery_url: self.oidc_discovery_url,
        };
        let sources = [
            !config.oidc_discovery_url.is_empty(),
            !config.jwks_url.is_empty(),
            !config.jwt_validation_pubkeys.is_empty(),
        ];
        if sources.iter().filter(|given| **given).count() != 1 {
            return Err(Error::bad_request(
                "exactly one of oidc_discovery_url, jwks_url and jwt_validation_pubkeys must be given",
            ));
        }
        for (field, pem, url) in [
            (
                "oidc_discovery_ca_pem",
                &config.oidc_discovery_ca_pem,
                &config.oidc_discovery_url,
            ),
            ("jwks_ca_pem", &config.jwks_ca_pem, &config.jwks_url),
        ] {
            if !pem.is_empty() && url.is_empty() {
                let url = field.trim_end_matches("_ca_pem");
                return Err(Error::bad_request(format!(
                    "{field}: it has no use without {url}_url"
                )));
            }
        }
        // All that can be refused without asking anybody.
        config.verifier()?;
        Ok(config)
    }
}

impl StoredConfig {
    /// What logins use; asks nobody yet. The errors are for the operator who wrote the configuration.
    pub(super) fn verifier(&self) -> Result<Verifier> {
        let source = match self.issuer()? {
            Some((_, issuer)) => KeySource::asked(issuer),
            None => KeySource::Written(self.keys()?),
        };
        let issuer = match self.bound_issuer.is_empty() {
            false => Some(self.bound_issuer.clone()),
            true => Some(self.oidc_discovery_url.clone()).filter(|url| !url.is_empty()),
        };
        Ok(Verifier {
            source,
            algorithms: self.algorithms()?,
            issuer,
            default_role: self.default_role.clone(),
        })
    }

    /// Whom to ask for keys, and the field that says so.
    fn issuer(&self) -> Result<Option<(&'static str, Issuer)>> {
        let (field, issuer) = match (&*self.oidc_discovery_url, &*self.jwks_url) {
            ("", "") => return Ok(None),
            ("", url) => ("jwks_url", Issuer::of_jwks(url, &self.jwks_ca_pem)),
            (url, _) => (
                "oidc_discovery_url",
                Issuer::discovered(url, &self.oidc_discovery_ca_pem),
            ),
        };
        let issuer = issuer.map_err(|why| Error::bad_request(format!("{field}: {why}")))?;
        Ok(Some((field, issuer)))
    }

    fn keys(&self) -> Result<Vec<Key>> {
        let keys = self.jwt_validation_pubkeys.iter().enumerate();
        keys.map(|(index, pem)| {
            Key::of_pem(pem).map_err(|why| {
                Error::bad_request(format!(
                    "jwt_validation_pubkeys: key number {}: {why}",
                    index + 1
                ))
            })
        })
        .collect()
    }

    fn algorithms(&self) -> Result<Vec<Algorithm>> {
        if self.jwt_supported_algs.is_empty() {
            return Ok(ALGORITHMS.to_vec());
        }
        let names = self.jwt_supported_algs.iter();
        names
            .map(|name| {
                let known = Algorithm::from_str(name).ok();
                known
                    .filter(|algorithm| ALGORITHMS.contains(algorithm))
                    .ok_or_else(|| {
                        Error::bad_request(
                            "jwt_supported_algs: expected RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA",
                        )
                    })
            })
            .collect()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.oidc_discovery_url.is_empty() && self.bound_issuer.is_empty() {
            warnings.push(
                "bound_issuer is empty: tokens of every issuer that signs with these keys are accepted"
                    .to_owned(),
            );
        }
        warnings
    }
}

pub(super) fn is_empty(value: &Option<Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(_) => false,
    }
}

pub(super) const NO_BROWSER_FLOW: &str =
    "the browser flow (OIDC with a redirect) is not supported; roles are of type jwt";
