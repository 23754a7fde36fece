//! LDAP and Active Directory: who a user is in the directory and which groups they are in.
//!
//! [`Directory`] is built once from a [`DirectoryConfig`] (everything that can be refused is
//! refused there, before any network), keeps a bounded pool of bound connections to the first
//! server that answers, and is then asked by name: [`Directory::lookup`] for a user whom
//! Kerberos has authenticated already, [`Directory::authenticate`] for a user with a password,
//! [`Directory::group_names_of_sids`] for the groups that a ticket says. Answers may be kept for a
//! stated time (src/cache.rs). [`Directory::probe`] and [`Directory::explain_user`] tell an operator
//! what is wrong. The searches are bound with a name and password, by GSSAPI ([`SaslSource`]), or not
//! at all. Nothing here knows HTTP, mounts or policies; names are returned as the directory spells them.

mod authenticate;
mod bridge;
mod cache;
mod config;
mod dial;
pub mod dn;
mod error;
mod filter;
mod lookup;
mod message;
mod name;
mod pool;
mod probe;
mod sasl;
mod server_url;
mod session;
mod settings;
mod sid;
mod spn;
mod tls;
mod user;

pub use cache::CacheCounters;
pub use config::{ConfigError, DereferenceAliases, DirectoryConfig, TlsVersion};
pub use error::{DirectoryError, ResultCode, TlsFault};
pub use lookup::{CacheStats, Directory, Membership};
pub use name::prepared;
pub use probe::{FilterUsed, ProbeStep, ServerProbe, StepName, UserProbe};
pub use sasl::{SaslError, SaslGssapi, SaslServer, SaslSource};
pub use sid::{SidNames, sid_text};
pub use spn::SpnOwner;
pub use user::Standing;
