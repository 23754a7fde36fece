//! Response wrapping: the answer stays here, the client gets a token that fetches it once. See Vault's "Response
//! Wrapping" page (<https://developer.hashicorp.com/vault/docs/concepts/response-wrapping>).
//!
//! The token is a service token with one use and a policy of its own; the answer is written in the commit that makes
//! the token, and removed in the one that removes it. Whoever removes the answer has it: that is one commit too, so
//! an answer is unwrapped once, whichever way and by however many at a time it is asked for.
//!
//! | path below `core/wrapping/` | holds |
//! | --- | --- |
//! | `info/<hmac of the token>` | when, for how long and for which path it was made |
//! | `body/<hmac of the token>` | the answer |
//! | `jwt-key` | the key that signs tokens in JWT form |

mod jwt;

use std::time::{Duration, SystemTime};

use obol_mount::{Auth, Error, Reply, Response, Result, Secret, WrapInfo};
use obol_storage::{Batch, Error as StorageError, View};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use super::policies::RESPONSE_WRAPPING;
use super::request::Outgoing;
use super::tokens::{Cached, Limits, NewToken, TokenId};
use super::{Core, Live, unix_now};

pub(crate) const UNWRAP: &str = "sys/wrapping/unwrap";
pub(crate) const REWRAP: &str = "sys/wrapping/rewrap";

/// What the client asked for in `X-Vault-Wrap-TTL` and `X-Vault-Wrap-Format`.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub ttl: Duration,
    /// The token as a signed JWT that says where to unwrap it.
    pub jwt: bool,
}

/// An answer that was wrapped.
pub(crate) struct Wrapped {
    /// `wrap_info` of the envelope: the one time that the wrapping token is seen.
    pub(crate) info: Box<WrapInfo>,
    pub(crate) id: TokenId,
}

/// What is known of a wrapped answer without unwrapping it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Info {
    /// RFC 3339.
    pub(crate) creation_time: String,
    /// Seconds.
    pub(crate) creation_ttl: u64,
    /// The request that was answered.
    pub(crate) creation_path: String,
    /// The status of the answer.
    status: u16,
    /// Of a token that is inside, its accessor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrapped_accessor: Option<String>,
    #[serde(default)]
    jwt: bool,
}

/// An answer that was taken out.
pub(crate) struct Content {
    info: Info,
    body: Zeroizing<Vec<u8>>,
}

/// All wrapped answers of an unsealed server.
pub struct Wrapping {
    storage: View,
    signer: OnceCell<jwt::Signer>,
}

impl Wrapping {
    pub(crate) fn new(storage: View) -> Self {
        Self {
            storage,
            signer: OnceCell::new(),
        }
    }

    /// Adds to a batch the removal of what a token has wrapped.
    pub(crate) fn forget_token(&self, token_id: &str, batch: &mut Batch) {
        self.storage.delete_in(batch, &info_path(token_id));
        self.storage.delete_in(batch, &body_path(token_id));
    }

    /// The token itself, where it came as one of our JWTs; anything else as it is.
    pub(crate) async fn unpacked(&self, token: &Secret) -> Result<Secret> {
        if !jwt::looks_like_one(token.expose()) {
            return Ok(token.clone());
        }
        let inner = self.signer().await?.open_token(token.expose(), unix_now());
        Ok(inner.unwrap_or_else(|| token.clone()))
    }

    /// What is known of a living token's answer.
    pub(crate) async fn info(&self, token: &Cached) -> Result<Option<Info>> {
        Ok(self.storage.get_json(&info_path(token.id.as_str())).await?)
    }

    /// Takes the answer of a token out, for one caller only.
    pub(crate) async fn take(&self, token: &Cached) -> Result<Option<Content>> {
        let mut batch = Batch::new();
        let Some(content) = self.taken_in(token, &mut batch).await? else {
            return Ok(None);
        };
        match self.storage.commit(batch).await {
            Ok(()) => Ok(Some(content)),
            // It was there a moment ago and nobody writes it anew: somebody else has it.
            Err(StorageError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The answer of a token, and in the batch its removal, which fails when it is gone by then.
    async fn taken_in(&self, token: &Cached, batch: &mut Batch) -> Result<Option<Content>> {
        if !is_wrapping_token(token) {
            return Ok(None);
        }
        let (info_path, body_path) = (info_path(token.id.as_str()), body_path(token.id.as_str()));
        let Some((info, seen)) = self.storage.get_json_seen::<Info>(&info_path).await? else {
            return Ok(None);
        };
        let Some(body) = self.storage.get(&body_path).await? else {
            return Ok(None);
        };
        self.storage.expect_in(batch, &info_path, &seen);
        self.storage.delete_in(batch, &info_path);
        self.storage.delete_in(batch, &body_path);
        Ok(Some(Content {
            info,
            body: body.value,
        }))
    }

    async fn signer(&self) -> Result<&jwt::Signer> {
        self.signer
            .get_or_try_init(|| jwt::Signer::open(&self.storage))
            .await
    }
}

impl Core {
    /// Wraps what would have been the answer. `None` where there is nothing to wrap: an answer without content, or
    /// one that is a wrapping token already.
    pub(super) async fn wrap(
        &self,
        live: &Live,
        asked: Asked,
        request: &str,
        path: &str,
        response: &Response,
        auth: Option<&Auth>,
    ) -> Result<Option<Wrapped>> {
        if matches!(response.reply, Reply::Wrapped(_)) {
            return Ok(None);
        }
        if matches!(response.reply, Reply::Text(_) | Reply::Stream(_)) {
            return Err(Error::bad_request(
                "this answer is no JSON and cannot be wrapped: send the request without X-Vault-Wrap-TTL",
            ));
        }
        let answer = Outgoing::encode(request, response, auth, None, false)?;
        if answer.body.is_empty() {
            return Ok(None);
        }
        let accessor = auth.map(|auth| auth.accessor.as_str());
        let content = Content {
            info: Info {
                creation_time: now_rfc3339()?,
                // A part of a second is a second: zero would mean the default.
                creation_ttl: asked.ttl.as_secs() + u64::from(asked.ttl.subsec_nanos() > 0),
                creation_path: path.to_owned(),
                status: answer.status,
                wrapped_accessor: accessor.filter(|a| !a.is_empty()).map(str::to_owned),
                jwt: asked.jwt,
            },
            body: Zeroizing::new(answer.body),
        };
        self.wrap_content(live, content, Batch::new())
            .await
            .map(Some)
    }

    /// The same answer in a new token; the old one is spent in the same commit. `None` when it was before.
    pub(crate) async fn rewrap(&self, live: &Live, old: &Cached) -> Result<Option<Wrapped>> {
        let mut batch = Batch::new();
        let Some(mut content) = live.wrapping.taken_in(old, &mut batch).await? else {
            return Ok(None);
        };
        content.info.creation_time = now_rfc3339()?;
        let wrapped = match self.wrap_content(live, content, batch).await {
            Ok(wrapped) => wrapped,
            Err(_) if live.wrapping.info(old).await?.is_none() => return Ok(None),
            Err(error) => return Err(error),
        };
        live.discard(&old.id).await;
        Ok(Some(wrapped))
    }

    async fn wrap_content(
        &self,
        live: &Live,
        mut content: Content,
        mut with: Batch,
    ) -> Result<Wrapped> {
        // Like every token a wrapping token ends within the system's limit.
        let limit = self.settings.max_lease_ttl;
        let ttl = Duration::from_secs(content.info.creation_ttl).min(limit);
        content.info.creation_ttl = ttl.as_secs();
        let token = live.tokens.random_token()?;
        let id = live.tokens.id_of(token.expose());
        let storage = &live.wrapping.storage;
        let Content { info, body } = content;
        storage.put_json_in(&mut with, &info_path(id.as_str()), &info)?;
        storage.put_in(&mut with, &body_path(id.as_str()), body);
        let new = NewToken {
            policies: vec![RESPONSE_WRAPPING.to_owned()],
            path: info.creation_path.clone(),
            ttl,
            explicit_max_ttl: ttl,
            num_uses: 1,
            id: Some(token.clone()),
            ..NewToken::default()
        };
        let limits = Limits {
            default_ttl: ttl,
            max_ttl: ttl,
        };
        let issued = live.tokens.issue(new, limits, with, unix_now()).await?;
        let shown = if info.jwt {
            let claims = jwt::Claims::new(
                &token,
                &issued.entry.accessor,
                &self.settings.api_addr,
                issued.entry.created,
                ttl.as_secs(),
            );
            live.wrapping.signer().await?.sign(&claims)?
        } else {
            token
        };
        let wrap_info = WrapInfo {
            token: shown,
            accessor: issued.entry.accessor.clone(),
            ttl: info.creation_ttl,
            creation_time: info.creation_time,
            creation_path: info.creation_path,
            wrapped_accessor: info.wrapped_accessor,
        };
        Ok(Wrapped {
            info: Box::new(wrap_info),
            id,
        })
    }
}

impl Content {
    /// The answer as it would have been sent, and its status.
    pub(crate) fn into_parts(self) -> Result<(Value, u16)> {
        let body: Value = serde_json::from_slice(&self.body)
            .map_err(|_| Error::internal("a wrapped answer is not JSON"))?;
        Ok((body, self.info.status))
    }
}

/// What an unwrapped answer held, for the audit log: `data` and `auth`, as if it had been given at once.
pub(super) fn unwrapped_parts(answer: &Value) -> (Option<&Map<String, Value>>, Option<&Value>) {
    let enveloped = answer.get("wrap_info").is_some() && answer.get("request_id").is_some();
    if enveloped {
        let auth = answer.get("auth").filter(|auth| auth.is_object());
        (answer["data"].as_object(), auth)
    } else {
        (answer.as_object(), None)
    }
}

/// What unwrapping answers for anything that cannot be unwrapped. Clients look for these words.
pub(crate) fn invalid() -> Error {
    Error::bad_request("wrapping token is not valid or does not exist")
}

/// Whether the calling token itself is what a request wants unwrapped.
pub(super) fn unwraps_its_own_token(path: &str, data: &Map<String, Value>) -> bool {
    let other = data
        .get("token")
        .is_some_and(|token| token.as_str() != Some("") && !token.is_null());
    matches!(path, UNWRAP | REWRAP) && !other
}

pub(crate) fn is_wrapping_token(token: &Cached) -> bool {
    matches!(token.entry.policies.as_slice(), [only] if only == RESPONSE_WRAPPING)
}

fn info_path(token_id: &str) -> String {
    format!("info/{token_id}")
}

fn body_path(token_id: &str) -> String {
    format!("body/{token_id}")
}

fn now_rfc3339() -> Result<String> {
    OffsetDateTime::from(SystemTime::now())
        .format(&Rfc3339)
        .map_err(Error::internal)
}
