//! `sys/generate-root`: a root token for those who hold enough keys. Every step needs a token with `sudo` besides
//! (threats: `rekey-unauthenticated`).

use obol_mount::{Bare, Cx, Error, NoContent, Result, Routes, Secret, get, post};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::seal::parse_share;
use super::{System, required};
use crate::core::generate_root::{RootStatus, TOKEN_LENGTH};

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .sudo(
            "generate-root/attempt",
            "Whether a root token is being generated; begin, cancel",
            get(status).post(start).delete(cancel),
        )
        .sudo(
            "generate-root/update",
            "Give one key; the last one makes the token",
            post(update),
        )
}

/// Begins.
#[derive(Deserialize, JsonSchema)]
pub(super) struct StartInput {
    /// A one-time password of as many bytes as the token has (`otp_length`), with which it comes back XORed. Without
    /// it the server makes one and tells it once.
    otp: Option<Secret>,
    /// Encrypting the token with PGP is not supported: a request that asks for it is refused.
    pgp_key: Option<String>,
}

/// Cancels.
#[derive(Deserialize, JsonSchema)]
pub(super) struct CancelInput {
    /// The attempt's nonce. Where it is given it must be the right one.
    nonce: Option<String>,
}

/// One key.
#[derive(Deserialize, JsonSchema)]
pub(super) struct ShareInput {
    /// An unseal key, or a recovery key where the server unseals itself, in hexadecimal or base64.
    key: Option<Secret>,
    /// The attempt's nonce, as its status shows it.
    #[serde(default)]
    nonce: String,
}

pub(super) async fn status(cx: Cx<System>) -> Result<Bare> {
    let (core, live) = (cx.core()?, cx.live()?);
    Ok(show(live.root_generation.status(&core).await?))
}

pub(super) async fn start(cx: Cx<System>, input: StartInput) -> Result<Bare> {
    if input.pgp_key.is_some_and(|key| !key.is_empty()) {
        return Err(Error::bad_request(
            "encrypting the token with PGP is not supported: use a one-time password (otp)",
        ));
    }
    let (core, live) = (cx.core()?, cx.live()?);
    let otp = input.otp.filter(|otp| !otp.is_empty());
    Ok(show(live.root_generation.start(&core, &live, otp).await?))
}

pub(super) async fn cancel(cx: Cx<System>, input: CancelInput) -> Result<NoContent> {
    let live = cx.live()?;
    live.root_generation.cancel(input.nonce.as_deref()).await?;
    Ok(NoContent)
}

pub(super) async fn update(cx: Cx<System>, input: ShareInput) -> Result<Bare> {
    let (core, live) = (cx.core()?, cx.live()?);
    let share = parse_share(&required(input.key, "key")?)?;
    // Goes on when the client goes away, so that an attempt is never left half-ended.
    let step = tokio::spawn(async move {
        live.root_generation
            .update(&core, &live, &input.nonce, share)
            .await
    });
    Ok(show(step.await.map_err(Error::internal)??))
}

fn show(status: RootStatus) -> Bare {
    let encoded = status.encoded_token.as_deref().unwrap_or_default();
    let mut body = json!({
        "nonce": status.nonce,
        "started": status.started,
        "progress": status.progress,
        "required": status.required,
        "complete": status.encoded_token.is_some(),
        "encoded_token": encoded,
        // The same under the name that older clients read.
        "encoded_root_token": encoded,
        "pgp_fingerprint": "",
        "otp": "",
        "otp_length": TOKEN_LENGTH,
    });
    if let Some(otp) = status.otp {
        body["otp"] = otp.expose().into();
    }
    Bare(body)
}
