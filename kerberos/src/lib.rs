//! Kerberos for Obol: principals, keytabs, SPNEGO tokens, accepting and initiating contexts.
//! The only crate that calls libkrb5 and GSSAPI, and so the only one with `unsafe` (all of it in `krb5/` and `gss/`).
//! It knows nothing of HTTP, storage or policy: it turns a token into an authenticated name.

mod acceptor;
mod enctype;
mod error;
mod gss;
mod gss_checksum;
mod initiator;
mod keytab;
mod krb5;
mod memfd;
mod pac;
mod pool;
mod principal;
mod sasl;
mod sid;
mod spnego;

pub use acceptor::{
    Accepted, Acceptor, AcceptorError, AcceptorOptions, BindingMode, CertificateHash,
    ChannelBindings, ContextFlags,
};
pub use enctype::{Enctype, UnknownEnctype};
pub use error::{AcceptError, ClockOffset, Mismatch, TicketFacts};
pub use initiator::{InitiateError, Initiator, Negotiation};
pub use keytab::{KeySummary, Keytab, KeytabEntry, KeytabError, MAX_KEYTAB_BYTES, Place};
pub use krb5::{Krb5Error, library_clock_skew};
pub use pac::{GroupMembership, Pac, PacError, PacState, SidAndAttributes};
pub use pool::{AcceptorPool, PoolOptions};
pub use principal::{Principal, PrincipalError, ServiceAccount};
pub use sasl::{SaslClient, SecurityLayer};
pub use sid::{Sid, SidError};
pub use spnego::{
    ApRequest, HeaderError, MAX_TOKEN_BYTES, Mechanism, NegotiateToken, TokenError,
    authenticator_digest, parse_authorization_header,
};
