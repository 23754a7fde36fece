//! Leases: a secret with an end. An engine hands one out with [`Leased`]; the core registers it in one commit, shows
//! its id to the client, and comes back to the engine to renew or revoke it.
//!
//! An engine that does something outside (makes a user in a database) before it can answer writes a
//! [`LeaseIntent`] first: what a crash leaves half-done is then found and revoked.

use std::time::Duration;

use obol_storage::{Batch, View};
use schemars::{Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{Output, Part, Response, Result};

/// What a secrets engine says of a secret that it hands out for a time.
#[derive(Debug, Clone, Default)]
pub struct Lease {
    /// Zero: the mount's default.
    pub ttl: Duration,
    /// The limit of all renewals together. Zero: the mount's maximum.
    pub max_ttl: Duration,
    pub renewable: bool,
    /// What the engine needs to see again when the lease is renewed or revoked. Rests encrypted and is shown to
    /// nobody.
    pub internal: Map<String, Value>,
    /// What was written before the engine acted outside; goes in the commit that registers the lease.
    pub intent: Option<LeaseIntent>,
    /// Nothing is registered: `ttl` is a hint, how long the client may keep what it read (kv version 1).
    pub hint: bool,
    /// Given by the core when it registers the lease; empty until then, and for a hint.
    pub id: String,
}

impl Lease {
    /// A secret that nobody has to give back, with a hint how long it may be kept.
    pub fn hint(ttl: Duration) -> Self {
        Self {
            ttl,
            hint: true,
            ..Self::default()
        }
    }
}

/// What an engine answers to a renewal.
#[derive(Debug, Clone, Default)]
pub struct LeaseRenewal {
    /// Caps what was asked for. Zero: the mount's limits alone.
    pub ttl: Duration,
    /// As in [`Lease`]; zero: what the lease was issued with.
    pub max_ttl: Duration,
    /// In the place of what was kept; `None`: unchanged.
    pub internal: Option<Map<String, Value>>,
}

/// A handler's answer that is leased: `data` and the lease beside it.
#[derive(Debug, Clone)]
pub struct Leased<T> {
    pub answer: T,
    pub lease: Lease,
}

impl<T: Output> Output for Leased<T> {
    fn into_response(self) -> Result<Response> {
        let mut response = self.answer.into_response()?;
        response.lease = Some(self.lease);
        Ok(response)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        T::schema(generator)
    }

    const PART: Part = T::PART;
    const STATUS: u16 = T::STATUS;
    const ALSO: &'static [u16] = T::ALSO;
    const MEDIA: &'static [&'static str] = T::MEDIA;
}

/// The promise to revoke what is about to be made outside, durable in the mount's own storage before it is made.
/// Whoever writes one either returns it in a [`Lease`], or leaves it: the core then calls
/// [`crate::Backend::revoke_lease`] with `internal` once [`LeaseIntent::AGE`] has passed.
#[derive(Debug, Clone)]
pub struct LeaseIntent {
    path: String,
}

/// An intent as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredIntent {
    /// Seconds since 1970.
    pub written: u64,
    pub internal: Map<String, Value>,
}

impl LeaseIntent {
    /// The folder of intents in every mount's storage: reserved for them.
    pub const FOLDER: &'static str = "lease-intent/";
    /// How old an intent must be before it counts as left behind: longer than any request takes.
    pub const AGE: Duration = Duration::from_secs(300);

    /// Writes the intent; durable when this returns. `storage` is the mount's own.
    pub async fn write(storage: &View, internal: &Map<String, Value>, now: u64) -> Result<Self> {
        let path = format!("{}{}", Self::FOLDER, Uuid::new_v4());
        let stored = StoredIntent {
            written: now,
            internal: internal.clone(),
        };
        storage.put_json(&path, &stored).await?;
        Ok(Self {
            path: storage.full(&path),
        })
    }

    /// Takes the promise off in the commit that keeps it in another way.
    pub fn settle_in(&self, batch: &mut Batch) {
        batch.delete(self.path.clone());
    }
}
