//! Throwaway, real realms for tests and demos: MIT krb5-kdc and OpenLDAP as Debian ships them,
//! each in a directory of its own, on free loopback ports, as any user, several at once.
//! Nothing of the system's own configuration is read or written but the LDAP schema files.
//! And Active Directory, as Samba's domain controller: on a loopback address of its own, because
//! its LDAP ports are fixed, and as root.
//!
//! ```no_run
//! # fn main() -> obol_testbed::Result<()> {
//! use obol_testbed::{Realm, RealmOptions};
//!
//! let realm = Realm::start(RealmOptions::default())?;
//! let grace = realm.kinit("grace")?;
//! let status = realm.kdc.command("curl")
//!     .envs(grace.env())
//!     .args(["--negotiate", "-u:", "http://localhost:8200/v1/auth/kerberos/login"])
//!     .status();
//! # Ok(()) }
//! ```
//!
//! Everything goes away with its owner: on drop and on panic the daemons are killed and their
//! directory is removed; when the whole process dies, be it by SIGKILL, the kernel kills the
//! daemons (`setpriv --pdeathsig`) and a small watcher removes the directory.

mod client;
mod clock;
mod daemon;
mod error;
pub mod issuer;
pub mod keytab;
pub mod ldap;
mod ldif;
pub mod mit;
mod ports;
pub mod programs;
pub mod realm;
pub mod samba;
mod scratch;
pub mod tls;

pub use client::CCache;
pub use clock::ShiftedClock;
pub use daemon::{guarded, spawn_for_life};
pub use error::{Error, Result};
pub use issuer::{Behaviour, Issuer, SigningKey};
pub use keytab::Keytab;
pub use ldap::people;
pub use ldap::{LdapOptions, OpenLdap, TlsVersion, Transport};
pub use mit::{KeepOldKeys, MitOptions, MitRealm};
pub use ports::PortLease;
pub use realm::{Realm, RealmOptions};
pub use samba::{AdOptions, SambaAd};
pub use scratch::Scratch;
pub use tls::Ca;
