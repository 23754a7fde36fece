//! Kerberos for Obol: principals, keytabs, SPNEGO tokens, accepting and initiating contexts.
//! The only crate that calls GSSAPI, and so the only one with `unsafe` (all of it in `gss.rs`).
//! It knows nothing of HTTP, storage or policy: it turns a token into an authenticated name.

mod acceptor;
mod enctype;
mod error;
mod gss;
mod initiator;
mod keytab;
mod pool;
mod principal;
mod spnego;

pub use acceptor::{
    Accepted, Acceptor, AcceptorError, AcceptorOptions, CertificateHash, ChannelBindings,
    ContextFlags,
};
pub use enctype::{Enctype, UnknownEnctype};
pub use error::{AcceptError, Mismatch, TicketFacts};
pub use initiator::{InitiateError, Initiator, Negotiation};
pub use keytab::{KeySummary, Keytab, KeytabEntry, KeytabError, MAX_KEYTAB_BYTES, Place};
pub use pool::{AcceptorPool, PoolOptions};
pub use principal::{Principal, PrincipalError, ServiceAccount};
pub use spnego::{
    ApRequest, HeaderError, MAX_TOKEN_BYTES, Mechanism, NegotiateToken, TokenError,
    authenticator_digest, parse_authorization_header,
};
