//! Rekeying, step by step: asked for, proven with the old keys, where it was wanted confirmed with the new ones, and
//! put into force. It lives in memory: sealing or a restart cancels it, and leaves the old keys valid.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use obol_mount::{Error, Result};
use obol_storage::seal::{
    self, NewKeys, RekeyTarget, Share, check_new_keys, delete_key_backup, install_new_keys,
    key_backup, prepare_new_keys,
};
use obol_storage::{Barrier, Error as StorageError};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::collect::{Collected, same_nonce};
use super::handing_out::HandedOut;
use crate::pgp::Recipient;

/// The rekeying of one kind of keys.
pub struct Rekeying {
    target: RekeyTarget,
    stage: Mutex<Stage>,
}

enum Stage {
    Idle,
    /// Old keys are being collected.
    Proving {
        asked: Asked,
        given: Collected,
    },
    /// The new keys were given out and are being confirmed; the old ones are in force.
    Verifying {
        asked: Asked,
        nonce: String,
        keys: NewKeys,
        given: Collected,
    },
    /// The new keys are in force. Whoever gave the last old key may ask again for a while: an answer that got lost on
    /// its way would otherwise have taken the only copy of the keys with it.
    Done {
        nonce: String,
        last: Share,
        keys: HandedOut,
        backup: bool,
        since: Instant,
        certain: bool,
    },
}

/// What was asked for.
#[derive(Clone)]
pub struct Asked {
    pub shares: u8,
    pub threshold: u8,
    pub verify: bool,
    /// For whom the new keys are encrypted, one for each; nobody: they are not encrypted.
    pub holders: Arc<[Recipient]>,
    /// Whether the encrypted keys are stored, too.
    pub backup: bool,
}

/// Encrypted keys, stored in case they get lost on their way to their holders.
#[derive(Serialize, Deserialize)]
pub struct KeyBackup {
    /// Of the rekey that made them.
    pub nonce: String,
    /// In hexadecimal, by the fingerprints of their holders' PGP keys.
    pub keys: BTreeMap<String, Vec<String>>,
}

/// Where a rekeying stands.
pub struct RekeyStatus {
    pub nonce: String,
    pub asked: Option<Asked>,
    pub progress: usize,
    pub required: u8,
    pub verification_nonce: String,
}

/// What a share has led to.
pub enum RekeyStep {
    /// More of the old keys are wanted.
    More,
    /// The new keys, given out once.
    Complete {
        nonce: String,
        keys: HandedOut,
        /// Whether they were, or will be, stored in their encrypted form.
        backup: bool,
        /// Where they must be confirmed before they are in force.
        verification_nonce: Option<String>,
        warning: Option<&'static str>,
    },
}

/// Where the confirmation of new keys stands.
pub struct VerifyStatus {
    pub nonce: String,
    pub asked: Asked,
    pub progress: usize,
}

impl Rekeying {
    pub fn new(target: RekeyTarget) -> Self {
        Self {
            target,
            stage: Mutex::new(Stage::Idle),
        }
    }

    pub async fn status(&self, barrier: &Barrier) -> Result<RekeyStatus> {
        let config = seal::config(barrier)
            .await?
            .ok_or(StorageError::NotInitialized)?;
        let stage = self.stage.lock().await;
        let mut status = RekeyStatus {
            nonce: String::new(),
            asked: None,
            progress: 0,
            required: config.threshold,
            verification_nonce: String::new(),
        };
        match &*stage {
            Stage::Idle | Stage::Done { .. } => {}
            Stage::Proving { asked, given } => {
                status.nonce.clone_from(&given.nonce);
                status.asked = Some(asked.clone());
                status.progress = given.progress();
                status.required = given.need;
            }
            Stage::Verifying {
                asked,
                nonce,
                given,
                ..
            } => {
                status.nonce.clone_from(nonce);
                status.asked = Some(asked.clone());
                status.verification_nonce.clone_from(&given.nonce);
            }
        }
        Ok(status)
    }

    /// Begins. Refuses numbers of keys that cannot work before anybody has typed a key.
    pub async fn start(&self, barrier: &Barrier, asked: Asked) -> Result<()> {
        let config = seal::config(barrier)
            .await?
            .ok_or(StorageError::NotInitialized)?;
        check_new_keys(config.kind, self.target, asked.shares, asked.threshold)
            .map_err(rekey_error)?;
        if asked.verify
            && self.target == RekeyTarget::Barrier
            && config.kind == seal::SealKind::Static
        {
            return Err(Error::bad_request(
                "require_verification: this server unseals itself, so there are no new keys to verify",
            ));
        }
        if !asked.holders.is_empty()
            && self.target == RekeyTarget::Barrier
            && config.kind == seal::SealKind::Static
        {
            return Err(Error::bad_request(
                "pgp_keys: this server unseals itself, so there are no new keys to encrypt",
            ));
        }
        let mut stage = self.stage.lock().await;
        if matches!(*stage, Stage::Proving { .. } | Stage::Verifying { .. }) {
            return Err(Error::bad_request(
                "a rekey is under way already: finish it, or cancel it with DELETE",
            ));
        }
        *stage = Stage::Proving {
            asked,
            given: Collected::new(config.threshold),
        };
        Ok(())
    }

    /// Cancels. New keys that were not confirmed never come into force. A nonce that is given must be the right one.
    pub async fn cancel(&self, nonce: Option<&str>) -> Result<()> {
        let mut stage = self.stage.lock().await;
        let known = match &*stage {
            Stage::Idle | Stage::Done { .. } => None,
            Stage::Proving { given, .. } => Some(&given.nonce),
            Stage::Verifying { nonce, .. } => Some(nonce),
        };
        if let (Some(known), Some(nonce)) = (known, nonce)
            && !same_nonce(known, nonce)
        {
            return Err(Error::bad_request(
                "the nonce is not that of the operation under way",
            ));
        }
        *stage = Stage::Idle;
        Ok(())
    }

    /// Takes one of the old keys. The last one makes the new keys and, where nobody wants to confirm them first, puts
    /// them into force. The caller must not drop this half-way: see `sys/rekey.rs`.
    pub async fn update(
        &self,
        barrier: &Barrier,
        seal: &seal::Seal,
        nonce: &str,
        share: Share,
    ) -> Result<RekeyStep> {
        let mut stage = self.stage.lock().await;
        let (asked, enough, nonce) = match &mut *stage {
            Stage::Proving { asked, given } => {
                let Some(enough) = given.add(nonce, share.clone())? else {
                    return Ok(RekeyStep::More);
                };
                (asked.clone(), enough, given.nonce.clone())
            }
            Stage::Done {
                nonce: known,
                last,
                keys,
                backup,
                certain,
                ..
            } if same_nonce(known, nonce) && *last == share => {
                return Ok(RekeyStep::Complete {
                    nonce: known.clone(),
                    keys: keys.clone(),
                    backup: *backup,
                    verification_nonce: None,
                    warning: (!*certain).then_some(UNCERTAIN),
                });
            }
            Stage::Verifying { .. } => {
                return Err(Error::bad_request(
                    "the new keys were given out and wait to be verified, at .../verify",
                ));
            }
            Stage::Idle | Stage::Done { .. } => {
                return Err(Error::bad_request("no rekey is under way"));
            }
        };
        let mut keys =
            prepare_new_keys(barrier, self.target, &enough, asked.shares, asked.threshold)
                .await
                .map_err(rekey_error)?;
        let out = HandedOut::new(keys.shares(), &asked.holders)?;
        if asked.backup {
            keys.keep_backup(KeyBackup::of(&nonce, &out)?);
        }
        let backup = asked.backup;
        if asked.verify {
            let given = Collected::new(asked.threshold);
            let complete = RekeyStep::Complete {
                nonce: nonce.clone(),
                keys: out,
                backup,
                verification_nonce: Some(given.nonce.clone()),
                warning: None,
            };
            *stage = Stage::Verifying {
                asked,
                nonce,
                keys,
                given,
            };
            return Ok(complete);
        }
        let installed = install_new_keys(barrier, seal, &keys).await;
        let complete = RekeyStep::Complete {
            nonce: nonce.clone(),
            keys: out.clone(),
            backup,
            verification_nonce: None,
            warning: None,
        };
        // The disk may have taken the commit and failed only then: the new keys must not be lost with the error.
        let certain = !matches!(installed, Err(StorageError::Engine(_)));
        if installed.is_ok() || !certain {
            *stage = Stage::Done {
                nonce,
                last: share,
                keys: out,
                backup,
                since: Instant::now(),
                certain,
            };
        }
        match installed {
            Ok(()) => {
                self.log("the keys were replaced");
                Ok(complete)
            }
            Err(error) if !certain => Err(Error::unavailable(
                "storage failed while the new keys were put into force: repeat this request to be shown them, and keep the old keys too",
            )
            .with_cause(error)),
            Err(error) => Err(rekey_error(error)),
        }
    }

    pub async fn verify_status(&self) -> Result<VerifyStatus> {
        match &*self.stage.lock().await {
            Stage::Verifying { asked, given, .. } => Ok(VerifyStatus {
                nonce: given.nonce.clone(),
                asked: asked.clone(),
                progress: given.progress(),
            }),
            _ => Err(no_verification()),
        }
    }

    /// Takes one of the new keys; the last one puts them into force. `None` while more are wanted, else the nonce.
    pub async fn verify(
        &self,
        barrier: &Barrier,
        seal: &seal::Seal,
        nonce: &str,
        share: Share,
    ) -> Result<Option<String>> {
        let mut stage = self.stage.lock().await;
        let Stage::Verifying { keys, given, .. } = &mut *stage else {
            return Err(no_verification());
        };
        let Some(enough) = given.add(nonce, share)? else {
            return Ok(None);
        };
        keys.verify(&enough).map_err(rekey_error)?;
        let nonce = given.nonce.clone();
        install_new_keys(barrier, seal, keys)
            .await
            .map_err(|error| match error {
                // Both sets of keys are in the operators' hands, so either outcome is fine.
                StorageError::Engine(_) => Error::unavailable(
                    "storage failed while the new keys were put into force: keep the old and the new keys, one of them is valid",
                )
                .with_cause(error),
                other => rekey_error(other),
            })?;
        *stage = Stage::Idle;
        self.log("the keys were replaced by verified ones");
        Ok(Some(nonce))
    }

    /// Begins the confirmation again, with another nonce.
    pub async fn restart_verification(&self) -> Result<VerifyStatus> {
        let mut stage = self.stage.lock().await;
        let Stage::Verifying { asked, given, .. } = &mut *stage else {
            return Err(no_verification());
        };
        *given = Collected::new(asked.threshold);
        Ok(VerifyStatus {
            nonce: given.nonce.clone(),
            asked: asked.clone(),
            progress: 0,
        })
    }

    /// The encrypted keys in force, where the rekey that made them was to store them.
    pub async fn backup(&self, barrier: &Barrier) -> Result<KeyBackup> {
        let stored = key_backup(barrier, self.target).await?;
        let stored = stored.ok_or_else(|| {
            Error::bad_request(
                "there is no backup: the keys in force were made without pgp_keys and backup, or it was deleted",
            )
        })?;
        serde_json::from_slice(&stored).map_err(Error::internal)
    }

    pub async fn delete_backup(&self, barrier: &Barrier) -> Result<()> {
        Ok(delete_key_backup(barrier, self.target).await?)
    }

    /// Forgets new keys that nobody came back for.
    pub async fn forget_old(&self) {
        let mut stage = self.stage.lock().await;
        if matches!(&*stage, Stage::Done { since, .. } if since.elapsed() > ASK_AGAIN) {
            *stage = Stage::Idle;
        }
    }

    fn log(&self, what: &'static str) {
        match self.target {
            RekeyTarget::Barrier => tracing::info!(keys = "unseal and root", "{what}"),
            RekeyTarget::Recovery => tracing::info!(keys = "recovery", "{what}"),
        }
    }
}

impl KeyBackup {
    fn of(nonce: &str, out: &HandedOut) -> Result<Vec<u8>> {
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let fingerprints = out.fingerprints.iter().flatten();
        for (fingerprint, key) in fingerprints.zip(out.hexadecimal()) {
            keys.entry(fingerprint.clone()).or_default().push(key);
        }
        let nonce = nonce.to_owned();
        serde_json::to_vec(&Self { nonce, keys }).map_err(Error::internal)
    }
}

fn no_verification() -> Error {
    Error::bad_request("no rekey waits to be verified")
}

fn rekey_error(error: StorageError) -> Error {
    match error {
        StorageError::WrongKey => Error::bad_request(
            "these keys are not the right ones; all of them were forgotten, give them again",
        ),
        StorageError::Share(why) => {
            Error::bad_request(format!("{why}; all keys were forgotten, give them again"))
        }
        StorageError::SealParameters(why) => Error::bad_request(why),
        StorageError::SealKind { .. } => Error::bad_request(
            "this server is unsealed with Shamir's shares: it has no recovery keys to replace",
        ),
        StorageError::Conflict { .. } => Error::bad_request(
            "another server has replaced the keys in the meantime: cancel, and begin again with the present keys",
        ),
        other => other.into(),
    }
}

const UNCERTAIN: &str = "Storage failed while these keys were put into force. Keep them and the old ones: after a restart one of the two sets opens the server.";

/// How long new keys are remembered for whoever gave the last old one.
const ASK_AGAIN: Duration = Duration::from_secs(600);
