//! A new root token for those who hold the keys: enough of them, given one by one, make one. It comes back encrypted for
//! whoever was named at the start, or XORed with a one-time password that was agreed on then, so that whoever gives the
//! last key does not see it alone.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use obol_mount::{Error, Result, Secret};
use obol_storage::seal::{self, Share};
use obol_storage::{Batch, Error as StorageError};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::collect::{Collected, same_nonce};
use super::policies::ROOT;
use super::tokens::NewToken;
use super::{Core, Live, unix_now};
use crate::pgp::Recipient;

/// The generation of a root token, if one is under way. In memory: sealing or a restart cancels it.
#[derive(Default)]
pub struct RootGeneration(Mutex<Option<Attempt>>);

struct Attempt {
    given: Collected,
    cover: Cover,
}

/// What hides the token on its way.
pub enum Cover {
    /// A one-time password of as many bytes.
    Otp(Secret),
    /// Encryption for this person.
    Pgp(Box<Recipient>),
}

/// Where it stands.
pub struct RootStatus {
    pub nonce: String,
    pub started: bool,
    pub progress: usize,
    pub required: u8,
    /// The token XORed with the one-time password, or encrypted, in base64; when it is complete.
    pub encoded_token: Option<String>,
    /// Of the PGP key that the token is encrypted with.
    pub pgp_fingerprint: Option<String>,
    /// The one-time password, where this server chose it: told once, at the start.
    pub otp: Option<Secret>,
}

impl RootGeneration {
    pub async fn status(&self, core: &Core) -> Result<RootStatus> {
        let required = threshold(core).await?;
        Ok(match &*self.0.lock().await {
            None => RootStatus::idle(required),
            Some(attempt) => attempt.status(),
        })
    }

    /// Begins, with the caller's cover or a one-time password that is made here.
    pub async fn start(
        &self,
        core: &Core,
        live: &Live,
        cover: Option<Cover>,
    ) -> Result<RootStatus> {
        let required = threshold(core).await?;
        let (cover, made) = match cover {
            Some(Cover::Otp(otp)) if otp.expose().len() != TOKEN_LENGTH => {
                return Err(Error::bad_request(format!(
                    "field \"otp\": expected {TOKEN_LENGTH} bytes, as many as the token has"
                )));
            }
            Some(cover) => (cover, None),
            None => {
                let otp = live.tokens.random_base62(TOKEN_LENGTH)?;
                let otp = Secret::new(otp.as_str().to_owned());
                (Cover::Otp(otp.clone()), Some(otp))
            }
        };
        let mut attempt = self.0.lock().await;
        if attempt.is_some() {
            return Err(Error::bad_request(
                "a root generation is under way already: finish it, or cancel it with DELETE",
            ));
        }
        let begun = attempt.insert(Attempt {
            given: Collected::new(required),
            cover,
        });
        let mut status = begun.status();
        status.otp = made;
        Ok(status)
    }

    pub async fn cancel(&self, nonce: Option<&str>) -> Result<()> {
        let mut attempt = self.0.lock().await;
        if let (Some(attempt), Some(nonce)) = (&*attempt, nonce)
            && !same_nonce(&attempt.given.nonce, nonce)
        {
            return Err(Error::bad_request(
                "the nonce is not that of the operation under way",
            ));
        }
        *attempt = None;
        Ok(())
    }

    /// Takes one key; the last one makes the token and ends the attempt.
    pub async fn update(
        &self,
        core: &Core,
        live: &Live,
        nonce: &str,
        share: Share,
    ) -> Result<RootStatus> {
        let mut slot = self.0.lock().await;
        let attempt = slot
            .as_mut()
            .ok_or_else(|| Error::bad_request("no root generation is under way"))?;
        let Some(enough) = attempt.given.add(nonce, share)? else {
            return Ok(attempt.status());
        };
        seal::verify_shares(&core.barrier, &enough)
            .await
            .map_err(proof_error)?;
        let id = live.tokens.random_base62(TOKEN_LENGTH - PREFIX.len())?;
        let token = Zeroizing::new(format!("{PREFIX}{}", id.as_str()));
        let root = NewToken {
            policies: vec![ROOT.to_owned()],
            display_name: ROOT.to_owned(),
            path: "auth/token/root".to_owned(),
            immortal: true,
            id: Some(Secret::new(token.as_str().to_owned())),
            ..NewToken::default()
        };
        // Covered first: a token that lives and that nobody can be told would live for ever.
        let encoded = attempt.cover.over(&token)?;
        live.tokens
            .issue(root, core.limits(None), Batch::new(), unix_now())
            .await?;
        let mut status = attempt.status();
        status.progress = usize::from(status.required);
        status.encoded_token = Some(encoded);
        *slot = None;
        tracing::warn!("a root token was generated with the operators' keys");
        Ok(status)
    }
}

impl Cover {
    fn over(&self, token: &str) -> Result<String> {
        match self {
            Self::Otp(otp) => {
                let pairs = token.bytes().zip(otp.expose().bytes());
                let mixed: Zeroizing<Vec<u8>> = Zeroizing::new(pairs.map(|(a, b)| a ^ b).collect());
                Ok(STANDARD_NO_PAD.encode(&*mixed))
            }
            Self::Pgp(holder) => {
                let message = holder.encrypt(token.as_bytes()).map_err(Error::internal)?;
                Ok(STANDARD.encode(message))
            }
        }
    }
}

impl Attempt {
    fn status(&self) -> RootStatus {
        RootStatus {
            nonce: self.given.nonce.clone(),
            started: true,
            progress: self.given.progress(),
            required: self.given.need,
            encoded_token: None,
            pgp_fingerprint: match &self.cover {
                Cover::Otp(_) => None,
                Cover::Pgp(holder) => Some(holder.fingerprint()),
            },
            otp: None,
        }
    }
}

impl RootStatus {
    fn idle(required: u8) -> Self {
        Self {
            nonce: String::new(),
            started: false,
            progress: 0,
            required,
            encoded_token: None,
            pgp_fingerprint: None,
            otp: None,
        }
    }
}

async fn threshold(core: &Core) -> Result<u8> {
    let config = seal::config(&core.barrier).await?;
    Ok(config.ok_or(StorageError::NotInitialized)?.threshold)
}

fn proof_error(error: StorageError) -> Error {
    match error {
        StorageError::WrongKey => Error::bad_request(
            "these keys are not the right ones; all of them were forgotten, give them again",
        ),
        StorageError::Share(why) => {
            Error::bad_request(format!("{why}; all keys were forgotten, give them again"))
        }
        other => other.into(),
    }
}

/// Every service token begins like this.
const PREFIX: &str = "obs.";
/// Bytes of a root token, and so of the one-time password.
pub const TOKEN_LENGTH: usize = 32;
