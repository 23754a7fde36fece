//! `sys/rekey` and `sys/rekey-recovery-key`: new keys in the place of those that unseal the server, or that prove an
//! operator. Every step needs a token with `sudo` (threats: `rekey-unauthenticated`): Vault's clients send one, and
//! are told 403 without.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::fields::{Count, Flag};
use obol_mount::{Bare, Cx, Error, NoContent, Result, Routes, Secret, get};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::seal::{parse_share, small};
use super::{System, required};
use crate::core::Live;
use crate::core::hex;
use crate::core::rekey::{Asked, RekeyStatus, RekeyStep, Rekeying, VerifyStatus};

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .sudo(
            "rekey/init",
            "Whether a rekey is under way; begin one, cancel it",
            get(barrier::status)
                .post(barrier::start)
                .delete(barrier::cancel),
        )
        .sudo(
            "rekey/update",
            "Give one of the present unseal keys; the last one makes the new keys",
            obol_mount::post(barrier::update),
        )
        .sudo(
            "rekey/verify",
            "Prove the new keys, before they come into force",
            get(barrier::verify_status)
                .post(barrier::verify)
                .delete(barrier::restart_verification),
        )
        .sudo(
            "rekey/backup",
            "Not offered: new keys are not encrypted with PGP, so there is no backup of them",
            get(no_backup).delete(no_backup),
        )
        .sudo(
            "rekey-recovery-key/init",
            "The same for the recovery keys of a server that unseals itself",
            get(recovery::status)
                .post(recovery::start)
                .delete(recovery::cancel),
        )
        .sudo(
            "rekey-recovery-key/update",
            "Give one of the present recovery keys; the last one makes the new keys",
            obol_mount::post(recovery::update),
        )
        .sudo(
            "rekey-recovery-key/verify",
            "Prove the new recovery keys, before they come into force",
            get(recovery::verify_status)
                .post(recovery::verify)
                .delete(recovery::restart_verification),
        )
        .sudo(
            "rekey-recovery-key/backup",
            "Not offered: new keys are not encrypted with PGP, so there is no backup of them",
            get(no_backup).delete(no_backup),
        )
}

/// Begins a rekey.
#[derive(Deserialize, JsonSchema)]
pub(super) struct StartInput {
    /// How many new keys there will be. 1 where the server unseals itself.
    secret_shares: Option<Count>,
    /// How many of them are needed. 1 where the server unseals itself.
    secret_threshold: Option<Count>,
    /// The new keys come into force only when enough of them were given back: no key can be lost on its way.
    #[serde(default)]
    require_verification: Flag,
    /// Encrypting the keys with PGP is not supported: a request that asks for it is refused.
    pgp_keys: Option<Vec<String>>,
    /// Belongs to `pgp_keys`: refused when true.
    #[serde(default)]
    backup: Flag,
    /// Must equal `secret_shares` where the server unseals itself, and be 0 otherwise.
    stored_shares: Option<Count>,
}

/// Cancels a rekey.
#[derive(Deserialize, JsonSchema)]
pub(super) struct CancelInput {
    /// The rekey's nonce. Where it is given it must be the right one.
    nonce: Option<String>,
}

/// One key.
#[derive(Deserialize, JsonSchema)]
pub(super) struct ShareInput {
    /// The key, in hexadecimal or base64.
    key: Option<Secret>,
    /// The nonce of the operation, as its status shows it.
    #[serde(default)]
    nonce: String,
}

mod barrier {
    use super::*;

    fn which(live: &Live) -> &Rekeying {
        &live.rekeying
    }

    pub(super) async fn status(cx: Cx<System>) -> Result<Bare> {
        show_status(&cx, which).await
    }

    pub(super) async fn start(cx: Cx<System>, input: StartInput) -> Result<Bare> {
        start_rekey(&cx, which, input).await
    }

    pub(super) async fn cancel(cx: Cx<System>, input: CancelInput) -> Result<NoContent> {
        cancel_rekey(&cx, which, input).await
    }

    pub(super) async fn update(cx: Cx<System>, input: ShareInput) -> Result<Bare> {
        give_old(&cx, which, input).await
    }

    pub(super) async fn verify_status(cx: Cx<System>) -> Result<Bare> {
        Ok(verification(&which(&*cx.live()?).verify_status().await?))
    }

    pub(super) async fn verify(cx: Cx<System>, input: ShareInput) -> Result<Bare> {
        give_new(&cx, which, input).await
    }

    pub(super) async fn restart_verification(cx: Cx<System>) -> Result<Bare> {
        let live = cx.live()?;
        Ok(verification(&which(&live).restart_verification().await?))
    }
}

mod recovery {
    use super::*;

    fn which(live: &Live) -> &Rekeying {
        &live.recovery_rekeying
    }

    pub(super) async fn status(cx: Cx<System>) -> Result<Bare> {
        show_status(&cx, which).await
    }

    pub(super) async fn start(cx: Cx<System>, input: StartInput) -> Result<Bare> {
        start_rekey(&cx, which, input).await
    }

    pub(super) async fn cancel(cx: Cx<System>, input: CancelInput) -> Result<NoContent> {
        cancel_rekey(&cx, which, input).await
    }

    pub(super) async fn update(cx: Cx<System>, input: ShareInput) -> Result<Bare> {
        give_old(&cx, which, input).await
    }

    pub(super) async fn verify_status(cx: Cx<System>) -> Result<Bare> {
        Ok(verification(&which(&*cx.live()?).verify_status().await?))
    }

    pub(super) async fn verify(cx: Cx<System>, input: ShareInput) -> Result<Bare> {
        give_new(&cx, which, input).await
    }

    pub(super) async fn restart_verification(cx: Cx<System>) -> Result<Bare> {
        let live = cx.live()?;
        Ok(verification(&which(&live).restart_verification().await?))
    }
}

type Which = fn(&Live) -> &Rekeying;

async fn show_status(cx: &Cx<System>, which: Which) -> Result<Bare> {
    let (core, live) = (cx.core()?, cx.live()?);
    Ok(bare(status_body(
        &which(&live).status(&core.barrier).await?,
    )))
}

fn status_body(status: &RekeyStatus) -> Value {
    json!({
        "nonce": status.nonce,
        "started": status.asked.is_some(),
        "t": status.asked.map_or(0, |asked| asked.threshold),
        "n": status.asked.map_or(0, |asked| asked.shares),
        "progress": status.progress,
        "required": status.required,
        "pgp_fingerprints": null,
        "backup": false,
        "verification_required": status.asked.is_some_and(|asked| asked.verify),
        "verification_nonce": status.verification_nonce,
    })
}

async fn start_rekey(cx: &Cx<System>, which: Which, input: StartInput) -> Result<Bare> {
    if input.pgp_keys.is_some_and(|keys| !keys.is_empty()) || input.backup.0 {
        return Err(Error::bad_request(
            "encrypting keys with PGP, and so a backup of them, is not supported; nothing was begun",
        ));
    }
    let asked = Asked {
        shares: small(input.secret_shares, "secret_shares")?,
        threshold: small(input.secret_threshold, "secret_threshold")?,
        verify: input.require_verification.0,
    };
    if let Some(Count(stored)) = input.stored_shares
        && stored != 0
        && (cx.core()?.sealing.kind() == obol_storage::SealKind::Shamir || stored != 1)
    {
        return Err(Error::bad_request(
            "stored_shares must be 0 with Shamir's shares, and 1 where the server unseals itself",
        ));
    }
    let (core, live) = (cx.core()?, cx.live()?);
    which(&live).start(&core.barrier, asked).await?;
    show_status(cx, which).await
}

async fn cancel_rekey(cx: &Cx<System>, which: Which, input: CancelInput) -> Result<NoContent> {
    let live = cx.live()?;
    which(&live).cancel(input.nonce.as_deref()).await?;
    Ok(NoContent)
}

async fn give_old(cx: &Cx<System>, which: Which, input: ShareInput) -> Result<Bare> {
    let (core, live) = (cx.core()?, cx.live()?);
    let share = parse_share(&required(input.key, "key")?)?;
    // Goes on when the client goes away: a commit without its place in memory would lose the new keys.
    let step = tokio::spawn(async move {
        which(&live)
            .update(&core.barrier, core.sealing.seal(), &input.nonce, share)
            .await
    });
    let step = step.await.map_err(Error::internal)??;
    let RekeyStep::Complete {
        nonce,
        keys,
        verification_nonce,
        warning,
    } = step
    else {
        return show_status(cx, which).await;
    };
    let hexadecimal: Vec<String> = keys.iter().map(|s| hex(s.expose()).to_string()).collect();
    let base64: Vec<String> = keys.iter().map(|s| STANDARD.encode(s.expose())).collect();
    let mut body = json!({
        "nonce": nonce,
        "complete": true,
        "keys": hexadecimal,
        "keys_base64": base64,
        "pgp_fingerprints": null,
        "backup": false,
        "verification_required": verification_nonce.is_some(),
        "verification_nonce": verification_nonce.unwrap_or_default(),
    });
    if let Some(warning) = warning {
        body["warnings"] = json!([warning]);
    }
    Ok(bare(body))
}

async fn give_new(cx: &Cx<System>, which: Which, input: ShareInput) -> Result<Bare> {
    let (core, live) = (cx.core()?, cx.live()?);
    let share = parse_share(&required(input.key, "key")?)?;
    let work = {
        let live = live.clone();
        tokio::spawn(async move {
            which(&live)
                .verify(&core.barrier, core.sealing.seal(), &input.nonce, share)
                .await
        })
    };
    match work.await.map_err(Error::internal)?? {
        Some(nonce) => Ok(bare(json!({ "nonce": nonce, "complete": true }))),
        None => Ok(verification(&which(&live).verify_status().await?)),
    }
}

fn verification(status: &VerifyStatus) -> Bare {
    bare(json!({
        "nonce": status.nonce,
        "started": true,
        "t": status.asked.threshold,
        "n": status.asked.shares,
        "progress": status.progress,
    }))
}

pub(super) async fn no_backup(_: Cx<System>) -> Result<NoContent> {
    Err(Error::bad_request(
        "a backup holds keys that were encrypted with PGP, which is not supported: there is none",
    ))
}

fn bare(body: Value) -> Bare {
    Bare(body)
}
