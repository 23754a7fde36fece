//! The one error of the mount contract: what the client is told, and, apart from it, what the operator is told.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal. `status` is the HTTP status that Vault documents for the case; `messages` go to the
/// client and must give nothing away; `cause` goes to the operator's log and must hold no secret either.
#[derive(Debug)]
pub struct Error {
    status: u16,
    messages: Vec<String>,
    cause: Option<String>,
    headers: Vec<(&'static str, String)>,
}

impl Error {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            messages: vec![message.into()],
            cause: None,
            headers: Vec::new(),
        }
    }

    /// 400: the request is wrong, and the message says how.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// 415: the body is of a type that the request does not take.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, message)
    }

    /// 401 with a `WWW-Authenticate: Negotiate` challenge (RFC 4559, section 4).
    pub fn challenge(message: impl Into<String>) -> Self {
        Self::new(401, message).with_header("WWW-Authenticate", "Negotiate")
    }

    /// 401 without a challenge: trying again with the same scheme will not help.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, message)
    }

    /// 403. One text for every reason, as Vault sends it.
    pub fn forbidden() -> Self {
        Self::new(403, "permission denied")
    }

    /// 403 with a reason that gives nothing away (a token that may not do this at all).
    pub fn forbidden_because(message: impl Into<String>) -> Self {
        Self::new(403, message)
    }

    /// 404 with an empty list of errors, as Vault answers for what does not exist.
    pub fn not_found() -> Self {
        Self {
            status: 404,
            messages: Vec::new(),
            cause: None,
            headers: Vec::new(),
        }
    }

    /// 404 with a reason.
    pub fn not_found_because(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// 405: the path is there, this operation is not.
    pub fn unsupported_operation() -> Self {
        Self::new(405, "unsupported operation")
    }

    /// 413: the body, or something in it, is larger than allowed.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, message)
    }

    /// 429: come back later.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(429, message).with_header("Retry-After", "1")
    }

    /// 429, with the seconds after which it is worth trying again.
    pub fn too_many_until(message: impl Into<String>, seconds: u64) -> Self {
        Self::new(429, message).with_header("Retry-After", seconds.to_string())
    }

    /// 500. The client learns nothing but that it happened; the cause is for the log.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(500, "internal error").with_cause(cause)
    }

    /// 500 with a sentence for the client, and the cause for the log.
    pub fn new_internal(message: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self::new(500, message).with_cause(cause)
    }

    /// 502: something that this server leans on (a directory, a KDC) failed.
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(502, message)
    }

    /// 503: sealed, overloaded or shutting down.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, message).with_header("Retry-After", "1")
    }

    /// The precise cause for the operator's log: no secret, no token.
    pub fn with_cause(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        for message in &self.messages {
            write!(f, " {message}")?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<obol_storage::Error> for Error {
    fn from(error: obol_storage::Error) -> Self {
        use obol_storage::Error as Storage;
        match error {
            Storage::Sealed => Self::unavailable("Obol is sealed"),
            Storage::Conflict { .. } => {
                Self::unavailable("the data changed while this request was at work; try again")
                    .with_cause(error)
            }
            Storage::BadPath { .. } => {
                Self::bad_request("the path holds a segment or a character that is not allowed")
            }
            Storage::Engine(_) => Self::unavailable("storage is unavailable").with_cause(error),
            _ => Self::internal(error),
        }
    }
}
