//! `sys/rekey` and `sys/rekey-recovery-key`: new keys in the place of those that unseal the server, or that prove an
//! operator. Every step needs a token with `sudo` (threats: `rekey-unauthenticated`): Vault's clients send one, and
//! are told 403 without.

use obol_mount::fields::{Count, Flag};
use obol_mount::{Bare, Cx, Error, NoContent, Result, Routes, Secret, get};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seal::{parse_share, small, texts_of};
use super::{System, required};
use crate::core::Live;
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

    pub(super) async fn status(cx: Cx<System>) -> Result<Bare<RekeyState>> {
        show_status(&cx, which).await
    }

    pub(super) async fn start(cx: Cx<System>, input: StartInput) -> Result<Bare<RekeyState>> {
        start_rekey(&cx, which, input).await
    }

    pub(super) async fn cancel(cx: Cx<System>, input: CancelInput) -> Result<NoContent> {
        cancel_rekey(&cx, which, input).await
    }

    pub(super) async fn update(cx: Cx<System>, input: ShareInput) -> Result<Bare<Step>> {
        give_old(&cx, which, input).await
    }

    pub(super) async fn verify_status(cx: Cx<System>) -> Result<Bare<Verification>> {
        let live = cx.live()?;
        Ok(Bare(which(&live).verify_status().await?.into()))
    }

    pub(super) async fn verify(cx: Cx<System>, input: ShareInput) -> Result<Bare<VerifyStep>> {
        give_new(&cx, which, input).await
    }

    pub(super) async fn restart_verification(cx: Cx<System>) -> Result<Bare<Verification>> {
        let live = cx.live()?;
        Ok(Bare(which(&live).restart_verification().await?.into()))
    }
}

mod recovery {
    use super::*;

    fn which(live: &Live) -> &Rekeying {
        &live.recovery_rekeying
    }

    pub(super) async fn status(cx: Cx<System>) -> Result<Bare<RekeyState>> {
        show_status(&cx, which).await
    }

    pub(super) async fn start(cx: Cx<System>, input: StartInput) -> Result<Bare<RekeyState>> {
        start_rekey(&cx, which, input).await
    }

    pub(super) async fn cancel(cx: Cx<System>, input: CancelInput) -> Result<NoContent> {
        cancel_rekey(&cx, which, input).await
    }

    pub(super) async fn update(cx: Cx<System>, input: ShareInput) -> Result<Bare<Step>> {
        give_old(&cx, which, input).await
    }

    pub(super) async fn verify_status(cx: Cx<System>) -> Result<Bare<Verification>> {
        let live = cx.live()?;
        Ok(Bare(which(&live).verify_status().await?.into()))
    }

    pub(super) async fn verify(cx: Cx<System>, input: ShareInput) -> Result<Bare<VerifyStep>> {
        give_new(&cx, which, input).await
    }

    pub(super) async fn restart_verification(cx: Cx<System>) -> Result<Bare<Verification>> {
        let live = cx.live()?;
        Ok(Bare(which(&live).restart_verification().await?.into()))
    }
}

type Which = fn(&Live) -> &Rekeying;

/// How far a rekey has come.
#[derive(Serialize, JsonSchema)]
pub(super) struct RekeyState {
    /// Names the rekey; empty when there is none.
    nonce: String,
    /// Whether a rekey is under way; the proof of the new keys is a part of it.
    started: bool,
    /// How many of the new keys will be needed; 0 when nothing was begun.
    t: u8,
    /// How many new keys there will be; 0 when nothing was begun.
    n: u8,
    /// How many different present keys were given so far.
    progress: usize,
    /// How many are needed.
    required: u8,
    /// Always null: PGP is not supported.
    pgp_fingerprints: (),
    /// Always false, likewise.
    backup: bool,
    /// The new keys come into force when enough of them were given back.
    verification_required: bool,
    /// Names the round of giving them back; empty until then.
    verification_nonce: String,
}

/// The new keys, given out this once.
#[derive(Serialize, JsonSchema)]
pub(super) struct Rekeyed {
    /// Names the rekey that made them.
    nonce: String,
    /// Always true.
    complete: bool,
    /// In hexadecimal.
    keys: Vec<String>,
    /// The same in base64.
    keys_base64: Vec<String>,
    /// Always null: PGP is not supported.
    pgp_fingerprints: (),
    /// Always false, likewise.
    backup: bool,
    /// They come into force when enough of them were given back to `verify`.
    verification_required: bool,
    /// Names the round of giving them back; empty where that is not asked for.
    verification_nonce: String,
    /// What the operator should know besides; left out when that is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<[&'static str; 1]>,
}

/// The new keys; or how far the rekey has come, while more of the present keys are needed.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Step {
    Complete(Rekeyed),
    More(RekeyState),
}

/// How far the proof of the new keys has come.
#[derive(Serialize, JsonSchema)]
pub(super) struct Verification {
    /// Names this round.
    nonce: String,
    /// Always true.
    started: bool,
    /// How many of the new keys are needed.
    t: u8,
    /// How many there are.
    n: u8,
    /// How many different ones were given so far.
    progress: usize,
}

/// The new keys are in force.
#[derive(Serialize, JsonSchema)]
pub(super) struct Verified {
    /// Names the round of giving them back.
    nonce: String,
    /// Always true.
    complete: bool,
}

/// The new keys are in force; or how far their proof has come.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum VerifyStep {
    Complete(Verified),
    More(Verification),
}

async fn show_status(cx: &Cx<System>, which: Which) -> Result<Bare<RekeyState>> {
    rekey_state(cx, which).await.map(Bare)
}

async fn rekey_state(cx: &Cx<System>, which: Which) -> Result<RekeyState> {
    let (core, live) = (cx.core()?, cx.live()?);
    Ok(which(&live).status(&core.barrier).await?.into())
}

impl From<RekeyStatus> for RekeyState {
    fn from(status: RekeyStatus) -> Self {
        Self {
            nonce: status.nonce,
            started: status.asked.is_some(),
            t: status.asked.map_or(0, |asked| asked.threshold),
            n: status.asked.map_or(0, |asked| asked.shares),
            progress: status.progress,
            required: status.required,
            pgp_fingerprints: (),
            backup: false,
            verification_required: status.asked.is_some_and(|asked| asked.verify),
            verification_nonce: status.verification_nonce,
        }
    }
}

impl From<VerifyStatus> for Verification {
    fn from(status: VerifyStatus) -> Self {
        Self {
            nonce: status.nonce,
            started: true,
            t: status.asked.threshold,
            n: status.asked.shares,
            progress: status.progress,
        }
    }
}

async fn start_rekey(cx: &Cx<System>, which: Which, input: StartInput) -> Result<Bare<RekeyState>> {
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

async fn give_old(cx: &Cx<System>, which: Which, input: ShareInput) -> Result<Bare<Step>> {
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
        return Ok(Bare(Step::More(rekey_state(cx, which).await?)));
    };
    let (keys, keys_base64) = texts_of(&keys);
    Ok(Bare(Step::Complete(Rekeyed {
        nonce,
        complete: true,
        keys,
        keys_base64,
        pgp_fingerprints: (),
        backup: false,
        verification_required: verification_nonce.is_some(),
        verification_nonce: verification_nonce.unwrap_or_default(),
        warnings: warning.map(|warning| [warning]),
    })))
}

async fn give_new(cx: &Cx<System>, which: Which, input: ShareInput) -> Result<Bare<VerifyStep>> {
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
    Ok(Bare(match work.await.map_err(Error::internal)?? {
        Some(nonce) => VerifyStep::Complete(Verified {
            nonce,
            complete: true,
        }),
        None => VerifyStep::More(which(&live).verify_status().await?.into()),
    }))
}

pub(super) async fn no_backup(_: Cx<System>) -> Result<NoContent> {
    Err(Error::bad_request(
        "a backup holds keys that were encrypted with PGP, which is not supported: there is none",
    ))
}
