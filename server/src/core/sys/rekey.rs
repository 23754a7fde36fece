//! `sys/rekey` and `sys/rekey-recovery-key`: new keys in the place of those that unseal the server, or that prove an
//! operator. Every step needs a token with `sudo` (threats: `rekey-unauthenticated`): Vault's clients send one, and
//! are told 403 without.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::fields::{Count, Flag};
use obol_mount::{Bare, Cx, Data, Error, Methods, NoContent, Result, Routes, Secret, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seal::{parse_share, small};
use super::{System, required};
use crate::core::Live;
use crate::core::handing_out::{fingerprints, recipients};
use crate::core::rekey::{Asked, KeyBackup, RekeyStatus, RekeyStep, Rekeying, VerifyStatus};

pub(super) fn routes() -> Routes<System> {
    let barrier: Which = |live| &live.rekeying;
    let recovery: Which = |live| &live.recovery_rekeying;
    Routes::new()
        .sudo(
            "rekey/init",
            "Whether a rekey is under way; begin one, cancel it",
            init(barrier),
        )
        .sudo(
            "rekey/update",
            "Give one of the present unseal keys; the last one makes the new keys",
            update(barrier),
        )
        .sudo(
            "rekey/verify",
            "Prove the new keys, before they come into force",
            verify(barrier),
        )
        .sudo(
            "rekey/backup",
            "The stored copy of the new keys, encrypted with PGP for their holders; delete it",
            backup(barrier),
        )
        .sudo(
            "rekey-recovery-key/init",
            "The same for the recovery keys of a server that unseals itself",
            init(recovery),
        )
        .sudo(
            "rekey-recovery-key/update",
            "Give one of the present recovery keys; the last one makes the new keys",
            update(recovery),
        )
        .sudo(
            "rekey-recovery-key/verify",
            "Prove the new recovery keys, before they come into force",
            verify(recovery),
        )
        .sudo(
            "rekey-recovery-key/backup",
            "The stored copy of the new recovery keys, encrypted with PGP for their holders; delete it",
            backup(recovery),
        )
}

/// Which of the two kinds of keys.
type Which = fn(&Live) -> &Rekeying;

fn init(which: Which) -> Methods<System> {
    get(move |cx| show_status(cx, which))
        .post(move |cx, input| start_rekey(cx, which, input))
        .delete(move |cx, input| cancel_rekey(cx, which, input))
}

fn update(which: Which) -> Methods<System> {
    post(move |cx, input| give_old(cx, which, input))
}

fn verify(which: Which) -> Methods<System> {
    get(move |cx| show_verification(cx, which))
        .post(move |cx, input| give_new(cx, which, input))
        .delete(move |cx| restart_verification(cx, which))
}

fn backup(which: Which) -> Methods<System> {
    get(move |cx| show_backup(cx, which)).delete(move |cx| delete_backup(cx, which))
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
    /// Public PGP keys in base64, one for each new key: it is encrypted for the holder of the one in its place.
    pgp_keys: Option<Vec<String>>,
    /// Store the encrypted keys, too, until `backup` is deleted or the keys are replaced again. Needs `pgp_keys`.
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
    /// Of the PGP keys that the new keys will be encrypted with; null where they will not be.
    pgp_fingerprints: Option<Vec<String>>,
    /// Whether the encrypted keys will be stored, too.
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
    /// In hexadecimal. Where they are encrypted, a PGP message each, which holds the key in hexadecimal.
    keys: Vec<String>,
    /// The same in base64.
    keys_base64: Vec<String>,
    /// Of the PGP keys that the new keys are encrypted with, in their order; null where they are not.
    pgp_fingerprints: Option<Vec<String>>,
    /// Whether the encrypted keys are stored, too; at the latest when they come into force.
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

/// Keys in the form in which they were handed out: encrypted, by the fingerprints of their holders' PGP keys.
#[derive(Serialize, JsonSchema)]
pub(super) struct Backup {
    /// Names the rekey that made them.
    nonce: String,
    /// In hexadecimal.
    keys: BTreeMap<String, Vec<String>>,
    /// The same in base64.
    keys_base64: BTreeMap<String, Vec<String>>,
}

impl From<KeyBackup> for Backup {
    fn from(KeyBackup { nonce, keys }: KeyBackup) -> Self {
        let base64 = |key: &String| STANDARD.encode(hex::decode(key).unwrap_or_default());
        let keys_base64 = keys
            .iter()
            .map(|(fingerprint, keys)| (fingerprint.clone(), keys.iter().map(base64).collect()));
        Self {
            nonce,
            keys_base64: keys_base64.collect(),
            keys,
        }
    }
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

async fn show_status(cx: Cx<System>, which: Which) -> Result<Bare<RekeyState>> {
    rekey_state(&cx, which).await.map(Bare)
}

async fn rekey_state(cx: &Cx<System>, which: Which) -> Result<RekeyState> {
    let (core, live) = (cx.core()?, cx.live()?);
    Ok(which(&live).status(&core.barrier).await?.into())
}

impl From<RekeyStatus> for RekeyState {
    fn from(status: RekeyStatus) -> Self {
        let asked = status.asked.as_ref();
        Self {
            nonce: status.nonce,
            started: asked.is_some(),
            t: asked.map_or(0, |asked| asked.threshold),
            n: asked.map_or(0, |asked| asked.shares),
            progress: status.progress,
            required: status.required,
            pgp_fingerprints: asked.and_then(|asked| fingerprints(&asked.holders)),
            backup: asked.is_some_and(|asked| asked.backup),
            verification_required: asked.is_some_and(|asked| asked.verify),
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

async fn start_rekey(cx: Cx<System>, which: Which, input: StartInput) -> Result<Bare<RekeyState>> {
    let shares = small(input.secret_shares, "secret_shares")?;
    let asked = Asked {
        shares,
        threshold: small(input.secret_threshold, "secret_threshold")?,
        verify: input.require_verification.0,
        holders: recipients(input.pgp_keys, shares, "pgp_keys")?,
        backup: input.backup.0,
    };
    if asked.backup && asked.holders.is_empty() {
        return Err(Error::bad_request(
            "backup: only encrypted keys are stored; give pgp_keys, too",
        ));
    }
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

async fn cancel_rekey(cx: Cx<System>, which: Which, input: CancelInput) -> Result<NoContent> {
    let live = cx.live()?;
    which(&live).cancel(input.nonce.as_deref()).await?;
    Ok(NoContent)
}

async fn give_old(cx: Cx<System>, which: Which, input: ShareInput) -> Result<Bare<Step>> {
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
        backup,
        verification_nonce,
        warning,
    } = step
    else {
        return Ok(Bare(Step::More(rekey_state(&cx, which).await?)));
    };
    Ok(Bare(Step::Complete(Rekeyed {
        nonce,
        complete: true,
        keys: keys.hexadecimal(),
        keys_base64: keys.base64(),
        pgp_fingerprints: keys.fingerprints,
        backup,
        verification_required: verification_nonce.is_some(),
        verification_nonce: verification_nonce.unwrap_or_default(),
        warnings: warning.map(|warning| [warning]),
    })))
}

async fn give_new(cx: Cx<System>, which: Which, input: ShareInput) -> Result<Bare<VerifyStep>> {
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

async fn show_verification(cx: Cx<System>, which: Which) -> Result<Bare<Verification>> {
    let live = cx.live()?;
    Ok(Bare(which(&live).verify_status().await?.into()))
}

async fn restart_verification(cx: Cx<System>, which: Which) -> Result<Bare<Verification>> {
    let live = cx.live()?;
    Ok(Bare(which(&live).restart_verification().await?.into()))
}

async fn show_backup(cx: Cx<System>, which: Which) -> Result<Data<Backup>> {
    let (core, live) = (cx.core()?, cx.live()?);
    Ok(Data(which(&live).backup(&core.barrier).await?.into()))
}

async fn delete_backup(cx: Cx<System>, which: Which) -> Result<NoContent> {
    let (core, live) = (cx.core()?, cx.live()?);
    which(&live).delete_backup(&core.barrier).await?;
    Ok(NoContent)
}
