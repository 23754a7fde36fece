//! The transit engine: encryption, signatures and HMACs with keys that stay in the server, after Vault's API page "Transit
//! secrets engine".
//!
//! What a mount keeps in its view:
//!
//! | path | holds |
//! | --- | --- |
//! | `config` | the mount's settings, once they were written |
//! | `keys/<name>` | a key's settings and the numbers of its versions |
//! | `versions/<id>/<n>` | the material of a version; `<id>` belongs to one life of a key |
//! | `uses/<id>/<n>` | how many encryptions with a version are done or reserved |
//! | `due/<time>/<name>` | keys that rotate by themselves, by when |
//!
//! A key's record is small and is read by every request; the material is read once and stays opened ([`live`]). Ciphertexts
//! have Vault's layout, so what Vault encrypted opens here once the key is here.

mod backup;
mod batch;
mod cipher;
mod ciphertext;
mod encrypt;
mod export;
mod head;
mod hmac;
mod key_type;
mod keys;
mod live;
mod material;
mod settings;
mod sign;
mod store;
mod uses;
mod verify;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use obol_mount::{
    Backend, Error, Family, Kind, MountContext, OpenFuture, Result, RouteTable, Routes, get, list,
    post,
};
use obol_storage::View;
use zeroize::Zeroizing;

use crate::turns::Turns;
use crate::{base64_field, tools};
use head::Head;
use live::Live;
use uses::Limits;

pub(crate) fn kind() -> Kind {
    Kind {
        name: "transit",
        aliases: &[],
        family: Family::Secrets,
        about: "Encryption, signatures and HMACs with keys that stay in the server",
        open: Arc::new(open),
        docs: || routes().docs(),
    }
}

fn open(context: MountContext) -> OpenFuture {
    Box::pin(async move {
        let transit = Transit::new(context.storage);
        let settings = transit.settings().await?;
        transit.live.resize(settings.cache_size);
        Ok(Arc::new(transit) as Arc<dyn Backend>)
    })
}

struct Transit {
    storage: View,
    live: Live,
    limits: Limits,
    /// By the name of the key that is changed.
    turns: Turns,
}

#[async_trait]
impl Backend for Transit {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }

    /// Rotates the keys whose time has come. Several servers may come to one key at once: the commit of one of them
    /// succeeds, and the others find that the key is not due any more.
    async fn tidy(&self, now: SystemTime) -> Result<()> {
        self.live.resize(self.settings().await?.cache_size);
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        loop {
            let due = self.due(now, DUE_PAGE).await?;
            let mut rotated = 0;
            for (_, name) in &due {
                let is_due = |head: &Head| head.due().is_some_and(|due| due <= now);
                match self.rotate(name, is_due).await {
                    Ok(done) => rotated += usize::from(done),
                    Err(error) => {
                        tracing::warn!(%error, "a transit key could not rotate by itself");
                    }
                }
            }
            if due.len() < DUE_PAGE || rotated == 0 {
                return Ok(());
            }
        }
    }
}

fn routes() -> Routes<Transit> {
    Routes::new()
        .at("keys", "All keys", list(keys::list))
        .at(
            "keys/{name}",
            "A key: its settings and its versions",
            get(keys::read).post(keys::create).delete(keys::delete),
        )
        .at(
            "keys/{name}/config",
            "Settings of a key",
            post(keys::configure),
        )
        .at(
            "keys/{name}/rotate",
            "Makes a new version of a key",
            post(keys::rotate),
        )
        .at(
            "keys/{name}/trim",
            "Removes old versions of a key for good",
            post(keys::trim),
        )
        .at(
            "encrypt/{name}",
            "Encrypts; creates the key where the caller may",
            post(encrypt::encrypt).exists(encrypt::exists),
        )
        .at("decrypt/{name}", "Decrypts", post(encrypt::decrypt))
        .at(
            "rewrap/{name}",
            "Encrypts a ciphertext anew with the latest version, without showing the message",
            post(encrypt::rewrap),
        )
        .at(
            "datakey/plaintext/{name}",
            "A new key for the client's own encryption, in the clear and encrypted",
            post(encrypt::plain_data_key),
        )
        .at(
            "datakey/wrapped/{name}",
            "A new key for the client's own encryption, encrypted only",
            post(encrypt::wrapped_data_key),
        )
        .at("hmac/{name}", "Computes an HMAC", post(hmac::make))
        .at(
            "hmac/{name}/{urlalgorithm}",
            "Computes an HMAC over the hash in the path",
            post(hmac::make),
        )
        .at("sign/{name}", "Signs", post(verify::sign))
        .at(
            "sign/{name}/{urlalgorithm}",
            "Signs with the hash in the path",
            post(verify::sign),
        )
        .at(
            "verify/{name}",
            "Verifies a signature or an HMAC",
            post(verify::verify),
        )
        .at(
            "verify/{name}/{urlalgorithm}",
            "Verifies a signature or an HMAC with the hash in the path",
            post(verify::verify),
        )
        .at(
            "export/{type}/{name}",
            "The material of a key that may leave the server",
            get(export::export),
        )
        .at(
            "export/{type}/{name}/{version}",
            "The material of one version of such a key",
            get(export::export),
        )
        .at(
            "backup/{name}",
            "A whole key, in the clear",
            get(backup::backup),
        )
        .at(
            "restore",
            "Restores a key under the name that it had",
            post(backup::restore),
        )
        .at(
            "restore/{name}",
            "Restores a key under a name",
            post(backup::restore),
        )
        .at("random", "Random bytes", post(tools::random))
        .at(
            "random/{source}",
            "Random bytes from a source, or so many random bytes",
            post(tools::random),
        )
        .at(
            "random/{source}/{bytes}",
            "So many random bytes from a source",
            post(tools::random),
        )
        .at("hash", "Hashes", post(tools::hash))
        .at(
            "hash/{algorithm}",
            "Hashes with the algorithm in the path",
            post(tools::hash),
        )
        .at(
            "config/keys",
            "How keys come to be",
            get(settings::read_keys).post(settings::write_keys),
        )
        .at(
            "cache-config",
            "How many keys stay opened in memory",
            get(settings::read_cache).post(settings::write_cache),
        )
}

impl Transit {
    fn new(storage: View) -> Self {
        Self {
            storage,
            live: Live::new(0),
            limits: Limits::default(),
            turns: Turns::default(),
        }
    }
}

/// A name as Vault allows it: letters, digits and `_`, and between them `-` and `.` too.
fn check_name(name: &str) -> Result<()> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inner = |c: char| word(c) || matches!(c, '-' | '.');
    if name.len() <= MAX_NAME
        && name.chars().all(inner)
        && name.starts_with(word)
        && name.ends_with(word)
    {
        return Ok(());
    }
    Err(Error::bad_request(
        "name: expected letters, digits and _, and between them - and . too, at most 255 of them",
    ))
}

/// The context of a request, decoded; a derived key needs one.
fn context(head: &Head, text: Option<&str>) -> Result<Zeroizing<Vec<u8>>> {
    let context = base64_field::decode("context", text.unwrap_or_default())?;
    if head.derived && context.is_empty() {
        return Err(Error::bad_request(
            "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key",
        ));
    }
    Ok(context)
}

/// Nanoseconds since 1970.
fn nanos() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    u64::try_from(since).unwrap_or(u64::MAX)
}

/// How many keys are rotated at a time.
const DUE_PAGE: usize = 64;
const MAX_NAME: usize = 255;
