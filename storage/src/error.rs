//! The one error type of the barrier, the views and the seals. No text holds a secret: paths,
//! terms and causes appear, values and keys never.

use crate::engine::EngineError;
use crate::seal::{ShareError, StaticKeyError};

/// Why storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The keys are not in memory.
    #[error("storage is sealed")]
    Sealed,
    #[error("storage is not initialized")]
    NotInitialized,
    #[error("storage is already initialized")]
    AlreadyInitialized,
    /// Somebody else changed what a write had been based on; nothing was written.
    #[error("{path:?} was changed by somebody else in the meantime")]
    Conflict { path: String },
    /// The key, or the shares together, are well-formed, but not the ones that open this storage.
    #[error("the key does not open this storage")]
    WrongKey,
    /// A stored value is not what was once written at this path.
    #[error("the value at {path:?} cannot be read: {why}")]
    Corrupt { path: String, why: Corruption },
    #[error("{path:?} is not a valid storage path: {why}")]
    BadPath { path: String, why: &'static str },
    /// A value is not the JSON that its reader expects. The position is told, the text is not.
    #[error("the value at {path:?} has an unexpected form at line {line}, column {column}")]
    BadForm {
        path: String,
        line: usize,
        column: usize,
    },
    /// A value cannot be written as JSON.
    #[error("a value for {path:?} cannot be written as JSON")]
    NotJson { path: String },
    #[error(transparent)]
    Share(#[from] ShareError),
    #[error(transparent)]
    StaticKey(#[from] StaticKeyError),
    /// Shares and threshold that cannot work together.
    #[error("{0}")]
    SealParameters(&'static str),
    /// The storage was initialized with another kind of seal.
    #[error("this storage is guarded by a seal of kind {found}, not {asked}")]
    SealKind {
        found: &'static str,
        asked: &'static str,
    },
    /// The system's source of random numbers failed.
    #[error("the system's random number generator failed")]
    Random,
    /// More values in one batch than one key may ever encrypt.
    #[error("a batch of {0} values is more than one key may encrypt")]
    BatchTooLarge(u64),
    #[error(transparent)]
    Engine(EngineError),
}

/// What is wrong with a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    #[error("it is truncated")]
    Truncated,
    #[error("its format {0} is unknown")]
    UnknownFormat(u8),
    #[error("its key term {0} is not in the keyring")]
    UnknownTerm(u32),
    #[error("it was altered, or belongs to another path")]
    Authentication,
    #[error("its contents are malformed")]
    Malformed,
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Conflict { key } => Self::Conflict { path: key },
            other => Self::Engine(other),
        }
    }
}

impl Error {
    pub(crate) fn corrupt(path: &str, why: Corruption) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            why,
        }
    }
}
