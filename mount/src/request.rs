//! What a handler is given: the backend, the facts of the request, and (as its own argument) the typed input.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{Caller, Error, Result, Secret};

/// What is done to a path. A write becomes `Create` or `Update` by whether the thing exists, where the route can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Create,
    Read,
    Update,
    Patch,
    Delete,
    List,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }
}

/// The facts of one request, shared by everything that handles it.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    /// UUID of the request; also in the audit log and in the client's answer.
    pub id: String,
    pub operation: Operation,
    /// Where the mount is, with trailing slash: `auth/kerberos/`.
    pub mount: Arc<str>,
    /// The path below the mount.
    pub path: String,
    pub caller: Option<Caller>,
    pub peer: Option<IpAddr>,
    /// The caller's token as it came: for the few routes that act on the calling token itself.
    pub token: Option<Secret>,
    /// The `Authorization` header, given to login routes only.
    pub authorization: Option<Secret>,
    /// The hash of the TLS certificate that the client saw (`tls-server-end-point`, RFC 5929 section 4): what a
    /// login can be bound to. None without TLS.
    pub end_point: Option<Arc<[u8]>>,
    pub wrap_ttl: Option<Duration>,
    /// The body, where it is no JSON but a file: for the few routes that take one.
    pub upload: Option<Upload>,
    pub now: SystemTime,
}

/// A body that is longer than what should be in memory, piece by piece as it comes. It ends with the channel; an error
/// says that the client broke off.
#[derive(Clone)]
pub struct Upload(Arc<Mutex<Option<mpsc::Receiver<Result<Bytes>>>>>);

impl Upload {
    pub fn new(pieces: mpsc::Receiver<Result<Bytes>>) -> Self {
        Self(Arc::new(Mutex::new(Some(pieces))))
    }

    /// The pieces; `None` for who asks a second time.
    pub fn take(&self) -> Option<mpsc::Receiver<Result<Bytes>>> {
        // The lock is held for this statement alone, which does not panic.
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.take()
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upload")
    }
}

impl RequestInfo {
    /// Seconds since 1970, the unit of every stored time.
    pub fn now_unix(&self) -> u64 {
        self.now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs())
    }

    /// The calling token itself.
    pub fn token(&self) -> Result<&Secret> {
        self.token.as_ref().ok_or_else(Error::forbidden)
    }

    /// The caller of a route that needs a token. The core has checked it; a login route has none.
    pub fn caller(&self) -> Result<&Caller> {
        self.caller.as_ref().ok_or_else(Error::forbidden)
    }
}

/// A handler's first argument. Derefs to the backend, so that a handler reads as if it were a method of it.
pub struct Cx<B> {
    pub backend: Arc<B>,
    pub request: Arc<RequestInfo>,
}

impl<B> Clone for Cx<B> {
    fn clone(&self) -> Self {
        Self {
            backend: self.backend.clone(),
            request: self.request.clone(),
        }
    }
}

impl<B> Deref for Cx<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.backend
    }
}
