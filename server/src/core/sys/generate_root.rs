//! `sys/generate-root`: a root token for those who hold enough keys. Every step needs a token with `sudo` besides
//! (threats: `rekey-unauthenticated`).

use obol_mount::{Bare, Cx, Error, NoContent, Result, Routes, Secret, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seal::parse_share;
use super::{System, required};
use crate::core::generate_root::{Cover, RootStatus, TOKEN_LENGTH};
use crate::core::handing_out::recipient;

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
    /// A public PGP key in base64 that the token is encrypted with, in the place of a one-time password.
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

pub(super) async fn status(cx: Cx<System>) -> Result<Bare<Attempt>> {
    let (core, live) = (cx.core()?, cx.live()?);
    Ok(show(live.root_generation.status(&core).await?))
}

pub(super) async fn start(cx: Cx<System>, input: StartInput) -> Result<Bare<Attempt>> {
    let otp = input.otp.filter(|otp| !otp.is_empty());
    let cover = match (otp, recipient(input.pgp_key, "pgp_key")?) {
        (Some(_), Some(_)) => {
            return Err(Error::bad_request(
                "the token is covered by one of otp and pgp_key, not by both",
            ));
        }
        (Some(otp), None) => Some(Cover::Otp(otp)),
        (None, Some(holder)) => Some(Cover::Pgp(Box::new(holder))),
        (None, None) => None,
    };
    let (core, live) = (cx.core()?, cx.live()?);
    Ok(show(live.root_generation.start(&core, &live, cover).await?))
}

pub(super) async fn cancel(cx: Cx<System>, input: CancelInput) -> Result<NoContent> {
    let live = cx.live()?;
    live.root_generation.cancel(input.nonce.as_deref()).await?;
    Ok(NoContent)
}

pub(super) async fn update(cx: Cx<System>, input: ShareInput) -> Result<Bare<Attempt>> {
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

/// How far the attempt has come.
#[derive(Serialize, JsonSchema)]
pub(super) struct Attempt {
    /// Names the attempt; empty when there is none.
    nonce: String,
    /// Whether there is an attempt; true in the answer that completes it, too.
    started: bool,
    /// How many different keys were given so far.
    progress: usize,
    /// How many are needed.
    required: u8,
    /// The token is in `encoded_token`.
    complete: bool,
    /// The token XORed with the one-time password, or a PGP message with it, in base64; empty until enough keys were given.
    encoded_token: String,
    /// The same, under the name that older clients read.
    encoded_root_token: String,
    /// Of the PGP key that the token is encrypted with; empty where it is not.
    pgp_fingerprint: String,
    /// The one-time password, in the answer to the beginning and where the server made it; empty otherwise.
    otp: String,
    /// How many bytes a one-time password must have.
    otp_length: usize,
}

fn show(status: RootStatus) -> Bare<Attempt> {
    let complete = status.encoded_token.is_some();
    let encoded = status.encoded_token.unwrap_or_default();
    Bare(Attempt {
        nonce: status.nonce,
        started: status.started,
        progress: status.progress,
        required: status.required,
        complete,
        encoded_token: encoded.clone(),
        encoded_root_token: encoded,
        pgp_fingerprint: status.pgp_fingerprint.unwrap_or_default(),
        otp: status
            .otp
            .map_or_else(String::new, |otp| otp.expose().to_owned()),
        otp_length: TOKEN_LENGTH,
    })
}
