//! Storage engines, the barrier that encrypts everything, and the seals that guard its key.
//!
//! From the bottom: an [`Engine`] is an ordered key-value store with atomic, durable, conditional
//! commits. The [`Barrier`] encrypts every value that goes through it and binds it to its path. A
//! [`View`] is one prefix behind the barrier, which is all that a mount ever gets. The [`seal`]
//! module guards the root key, under which the barrier's keyring rests.

mod barrier;
mod engine;
mod error;
mod memory;
mod path;
#[cfg(feature = "rocksdb")]
mod rocksdb;
pub mod seal;
pub mod snapshot;
mod timing;
mod view;

pub use barrier::{Barrier, BarrierMeters, BarrierOptions, Batch, Entry, KeyStatus, Seen};
pub use engine::{Aborted, Commit, Engine, EngineError, Expected, NextEntry, Op};
pub use error::{Corruption, Error};
pub use memory::Memory;
#[cfg(feature = "rocksdb")]
pub use rocksdb::{RocksDb, RocksDbOptions};
pub use seal::{RootKey, SealConfig, SealKind, Share, ShareError};
pub use timing::{Summary, Timing};
pub use view::{View, from_json, to_json};
