//! The initiating side, for the command line, for services and for tests: a ticket cache, a keytab
//! or a password becomes a Negotiate token, and the server's answer is verified (mutual
//! authentication). No environment variable is read or set here beyond what libkrb5 itself reads at
//! its start (KRB5_CONFIG, KRB5CCNAME): another krb5.conf needs a process that is started with it.

use std::any::Any;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::acceptor::ChannelBindings;
use crate::error::krb5;
use crate::gss::{ClientContext, Credential, Name, SharedCredential, Status};
use crate::keytab::{Keytab, KeytabError, MAX_KEYTAB_BYTES};
use crate::krb5::MemoryCache;
use crate::memfd::sealed_memfd;
use crate::principal::{Principal, PrincipalError, ServiceAccount};
use crate::sasl::SecurityLayer;
use crate::spnego::{self, TokenError};

/// A client that can ask for service tickets. Blocks where it talks to the KDC. Several threads may
/// use one.
pub struct Initiator {
    source: Source,
    /// Who or what asks, for messages.
    client: String,
}

enum Source {
    /// A ticket cache as it is, or the tickets of a password.
    Fixed(Arc<SharedCredential>),
    /// A keytab: the library gets new tickets when the old ones come to their end, but only for a
    /// credential that is acquired anew; so each use acquires one.
    Keytab(Arc<KeytabSource>),
}

/// Tickets are in `cache` and go with it. Shared with the contexts that are being made.
struct KeytabSource {
    /// Kept open as long as libkrb5 may look it up under /proc/self/fd.
    _memfd: OwnedFd,
    keytab_name: CString,
    cache: MemoryCache,
    principal: String,
}

impl Initiator {
    /// Uses a ticket cache: the named file, or the one that libkrb5 finds (KRB5CCNAME, krb5.conf,
    /// the default).
    pub fn from_ccache(path: Option<&Path>) -> Result<Self, InitiateError> {
        let (store, client) = match path {
            None => (Vec::new(), "the default ticket cache".to_owned()),
            Some(path) => (
                vec![(CCACHE, store_path("FILE:", path)?)],
                format!("the ticket cache {}", path.display()),
            ),
        };
        let store: Vec<(&CStr, &CStr)> = store
            .iter()
            .map(|(key, value)| (*key, value.as_c_str()))
            .collect();
        Credential::initiator(None, &store)
            .and_then(|credential| resolved(&credential).map(|left| (credential, left)))
            .map_err(|status| InitiateError::from_status(status, &client, None))
            .and_then(|(credential, left)| Self::fixed(credential, left, client))
    }

    /// Logs in with a key of a keytab file. `principal` may leave the realm to the keytab.
    /// Otherwise as [`Initiator::from_keytab_bytes`].
    pub fn from_keytab(path: &Path, principal: &str) -> Result<Self, InitiateError> {
        let unreadable = |error: std::io::Error| InitiateError::KeytabFile {
            path: path.to_owned(),
            error,
        };
        let unusable = |error: KeytabError| InitiateError::Keytab {
            path: path.to_owned(),
            error,
        };
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_KEYTAB_BYTES as u64 {
            return Err(unusable(KeytabError::TooLarge {
                bytes: MAX_KEYTAB_BYTES + 1,
            }));
        }
        let bytes = Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
        let keytab = Keytab::parse(&bytes).map_err(unusable)?;
        Self::from_keytab_bytes(&keytab, Some(principal)).map_err(|error| match error {
            InitiateError::NotInKeytab(error) => unusable(error),
            other => other,
        })
    }

    /// Logs in with a key of a keytab in memory: nothing is written to a disk, neither keys nor
    /// tickets. Without a `principal` it is the first name of a single component, as accounts have
    /// in Active Directory, or else the first entry. Asks the KDC at once. Tickets are kept for the
    /// initiator's life, and renewed from the keytab as they come to their end.
    pub fn from_keytab_bytes(
        keytab: &Keytab,
        principal: Option<&str>,
    ) -> Result<Self, InitiateError> {
        let own;
        let wanted = match principal {
            Some(principal) => principal,
            None => {
                own = account_of(keytab).to_string();
                &own
            }
        };
        let keytab = keytab
            .for_service_account(wanted, false)
            .map_err(InitiateError::NotInKeytab)?;
        let principal = keytab.entries()[0].principal().to_string();
        let memfd = sealed_memfd(c"client-keytab", &keytab.to_bytes())
            .map_err(|error| InitiateError::Memory(error.into()))?;
        let keytab_name = CString::new(format!("FILE:/proc/self/fd/{}", memfd.as_raw_fd()))
            .expect("a number and a constant hold no NUL");
        let initiator = Self {
            client: principal.clone(),
            source: Source::Keytab(Arc::new(KeytabSource {
                _memfd: memfd,
                keytab_name,
                cache: MemoryCache::new(),
                principal,
            })),
        };
        initiator.credential()?;
        Ok(initiator)
    }

    /// Logs in with a password: asks the KDC at once, keeps the tickets in memory and nowhere else,
    /// and forgets the password and them with the last context. `principal` may leave the realm to
    /// krb5.conf.
    pub fn from_password(principal: &str, password: &str) -> Result<Self, InitiateError> {
        ServiceAccount::parse(principal).map_err(|error| InitiateError::BadName {
            name: principal.to_owned(),
            error,
        })?;
        // libkrb5 has no words for an empty password, and reads one up to its first NUL.
        if password.is_empty() || password.contains('\0') {
            return Err(InitiateError::WrongPassword {
                client: principal.to_owned(),
            });
        }
        Credential::password(principal, password)
            .and_then(|credential| resolved(&credential).map(|left| (credential, left)))
            .map_err(|status| InitiateError::from_status(status, principal, None))
            .and_then(|(credential, left)| Self::fixed(credential, left, principal.to_owned()))
    }

    /// Makes the token for a service: `HTTP@host` (the host is made canonical as krb5.conf says) or
    /// `HTTP/host`, `HTTP/host@REALM` (taken literally). Asks for mutual authentication: the
    /// server's answer goes to [`Negotiation::finish`].
    pub fn negotiate(
        &self,
        spn: &str,
        bindings: Option<&ChannelBindings>,
    ) -> Result<(Vec<u8>, Negotiation), InitiateError> {
        let wanted = libgssapi_sys::GSS_C_MUTUAL_FLAG | libgssapi_sys::GSS_C_INTEG_FLAG;
        let mut context = self.context(spn, wanted, bindings)?;
        let ap_req = context
            .step(None)
            .map_err(|status| InitiateError::from_status(status, &self.client, Some(spn)))?;
        let token = spnego::frame_init(&ap_req).map_err(InitiateError::Reply)?;
        let negotiation = Negotiation {
            context,
            spn: spn.to_owned(),
        };
        Ok((token, negotiation))
    }

    /// Who logs in, or the ticket cache that says so: for messages.
    pub fn client(&self) -> &str {
        &self.client
    }

    pub(crate) fn context(
        &self,
        spn: &str,
        wanted: u32,
        bindings: Option<&ChannelBindings>,
    ) -> Result<ClientContext, InitiateError> {
        let target = service_name(spn)?
            .map_err(|status| InitiateError::from_status(status, &self.client, Some(spn)))?;
        let bindings = bindings.map(ChannelBindings::as_bytes);
        Ok(ClientContext::new(
            self.credential()?,
            target,
            wanted,
            bindings,
        ))
    }

    fn credential(&self) -> Result<Arc<SharedCredential>, InitiateError> {
        let source = match &self.source {
            Source::Fixed(credential) => return Ok(Arc::clone(credential)),
            Source::Keytab(source) => source,
        };
        let store = [
            (CLIENT_KEYTAB, source.keytab_name.as_c_str()),
            (CCACHE, source.cache.name()),
        ];
        let acquired = Credential::initiator(Some(&source.principal), &store)
            .and_then(|credential| resolved(&credential).map(|left| (credential, left)))
            .map_err(|status| InitiateError::from_status(status, &self.client, None))?;
        match acquired {
            (_, 0) => Err(self.expired()),
            (credential, _) => {
                let store: Arc<dyn Any + Send + Sync> = Arc::<KeytabSource>::clone(source);
                Ok(Arc::new(SharedCredential::new(credential, Some(store))))
            }
        }
    }

    fn fixed(credential: Credential, left: u32, client: String) -> Result<Self, InitiateError> {
        let initiator = Self {
            source: Source::Fixed(Arc::new(SharedCredential::new(credential, None))),
            client,
        };
        match left {
            0 => Err(initiator.expired()),
            _ => Ok(initiator),
        }
    }

    fn expired(&self) -> InitiateError {
        InitiateError::TicketExpired {
            client: self.client.clone(),
        }
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// A token that was sent, waiting for the server's answer.
pub struct Negotiation {
    context: ClientContext,
    spn: String,
}

impl Negotiation {
    /// Verifies the token of the server's `WWW-Authenticate: Negotiate` header: only the service
    /// itself can have made it. An answer without one is for the caller to refuse.
    pub fn finish(mut self, reply: &[u8]) -> Result<(), InitiateError> {
        let ap_rep = spnego::read_reply(reply)
            .map_err(InitiateError::Reply)?
            .ok_or_else(|| InitiateError::NotMutual {
                text: "its answer holds no proof".to_owned(),
            })?;
        self.context
            .step(Some(ap_rep))
            .map_err(|status| InitiateError::NotMutual { text: status.text })?;
        if self.context.is_complete() {
            Ok(())
        } else {
            Err(InitiateError::NotMutual {
                text: "it wants another round trip".to_owned(),
            })
        }
    }
}

impl fmt::Debug for Negotiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negotiation")
            .field("spn", &self.spn)
            .finish_non_exhaustive()
    }
}

/// Why no token could be made, or the server's answer is not believed. `Display` is the cause,
/// [`InitiateError::mend`] what to do.
#[derive(Debug, Error)]
pub enum InitiateError {
    /// `text` names the cache that libkrb5 looked into.
    #[error("{client} holds no ticket ({text})")]
    NoTicket { client: String, text: String },
    #[error("the ticket in {client} has expired")]
    TicketExpired { client: String },
    #[error("the KDC does not know the service {spn}")]
    UnknownService { spn: String },
    #[error("the KDC does not know the client {client}")]
    UnknownClient { client: String },
    #[error("the password or key of {client} is wrong")]
    WrongPassword { client: String },
    #[error("the password of {client} has expired")]
    PasswordExpired { client: String },
    #[error("the account {client} is locked, disabled or expired")]
    AccountDisabled { client: String },
    #[error("the KDC and this host share no encryption type for this ({text})")]
    NoCommonEnctype { text: String },
    #[error(
        "{client} has no key of the type that the KDC asks for, or no other way that it takes, to prove who it is"
    )]
    NoPreauth { client: String },
    #[error("the clock of this host differs too much from the KDC's or the server's")]
    ClockSkew,
    #[error("no KDC of the realm can be reached ({text})")]
    KdcUnreachable { text: String },
    #[error("the realm is not known on this host ({text})")]
    UnknownRealm { text: String },
    #[error("the keytab {path} cannot be read: {error}")]
    KeytabFile {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("the keytab {path}: {error}")]
    Keytab { path: PathBuf, error: KeytabError },
    #[error("the keytab: {0}")]
    NotInKeytab(KeytabError),
    #[error("the keytab cannot be put into memory: {0}")]
    Memory(std::io::Error),
    #[error("{name:?} is no Kerberos name: {error}")]
    BadName { name: String, error: PrincipalError },
    #[error("the path {path} cannot be handed to libkrb5")]
    BadPath { path: PathBuf },
    #[error("the server's answer: {0}")]
    Reply(TokenError),
    #[error("the server did not prove its identity: {text}")]
    NotMutual { text: String },
    #[error("{server} offers {offered:?} for the connection, and none of it is wanted here")]
    NoSecurityLayer {
        server: String,
        offered: Vec<SecurityLayer>,
    },
    #[error("{server} does not keep to SASL GSSAPI: {text}")]
    Sasl { server: String, text: String },
    #[error("a message of {bytes} bytes is too large for this connection, which takes {most}")]
    MessageTooLarge { bytes: usize, most: usize },
    #[error("GSSAPI: {text} (major {major:#x}, minor {minor})")]
    Library {
        major: u32,
        minor: i32,
        text: String,
    },
}

impl InitiateError {
    /// What to do about it.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::NoTicket { .. } | Self::TicketExpired { .. } => {
                "run kinit to get a ticket (klist shows what is there)"
            }
            Self::UnknownService { .. } => {
                "check the server's address: the SPN is made of it; or register the SPN for the \
                 account that the server runs as (setspn, addprinc)"
            }
            Self::UnknownClient { .. } => {
                "check the spelling of the principal, its case and its realm"
            }
            Self::WrongPassword { .. } => "enter the password again, or export the keytab again",
            Self::PasswordExpired { .. } => "change the password (kpasswd)",
            Self::AccountDisabled { .. } => {
                "ask the directory's administrators to enable the account"
            }
            Self::NoCommonEnctype { .. } => {
                "give the account AES keys (change its password, export its keytab again), or see \
                 permitted_enctypes in krb5.conf"
            }
            Self::NoPreauth { .. } => {
                "export the keytab with all of the account's encryption types; for a password, see \
                 what else the KDC wants of the account (a smart card, a one-time password)"
            }
            Self::ClockSkew => "synchronise this host's clock (NTP)",
            Self::KdcUnreachable { .. } => {
                "check the network, the firewall (port 88, TCP and UDP) and the KDC's address in \
                 krb5.conf or DNS"
            }
            Self::UnknownRealm { .. } => {
                "name the realm and its KDC in krb5.conf ([libdefaults] and [realms]), or in DNS; a \
                 realm's case counts, and Active Directory's realms are in capitals"
            }
            Self::KeytabFile { .. } | Self::BadPath { .. } => "check the path and its permissions",
            Self::Keytab { .. } | Self::NotInKeytab(_) => {
                "export the keytab again, for this principal"
            }
            Self::Memory(_) => "raise the limits of this process (memory, open files)",
            Self::NoSecurityLayer { .. } => {
                "use TLS (ldaps://), or let the server offer encryption for SASL GSSAPI"
            }
            Self::Sasl { .. } => {
                "check that the address leads to the real server; see the server's log"
            }
            Self::MessageTooLarge { .. } => "send it in several parts",
            Self::BadName { .. } => "write the name as primary/instance@REALM",
            Self::Reply(_) | Self::NotMutual { .. } => {
                "check that the address leads to the real server and that no proxy rewrites its \
                 WWW-Authenticate header"
            }
            Self::Library { .. } => {
                "run it again with KRB5_TRACE=/dev/stderr to see what libkrb5 does"
            }
        }
    }

    pub(crate) fn from_status(status: Status, client: &str, spn: Option<&str>) -> Self {
        let client = client.to_owned();
        let spn = spn.unwrap_or_default().to_owned();
        let Status { major, minor, text } = status;
        match minor {
            krb5::FCC_NOFILE
            | krb5::CC_NOTFOUND
            | krb5::KG_CCACHE_NOMATCH
            | krb5::KG_TGT_MISSING
            | krb5::KG_EMPTY_CCACHE => Self::NoTicket { client, text },
            krb5::AP_ERR_TKT_EXPIRED => Self::TicketExpired { client },
            krb5::KDC_ERR_S_PRINCIPAL_UNKNOWN => Self::UnknownService { spn },
            krb5::KDC_ERR_C_PRINCIPAL_UNKNOWN => Self::UnknownClient { client },
            krb5::KDC_ERR_PREAUTH_FAILED | krb5::AP_ERR_BAD_INTEGRITY if spn.is_empty() => {
                Self::WrongPassword { client }
            }
            // Of this side: no mechanism that the KDC offers could be gone through. The text speaks
            // of the last one tried, which says nothing about the key that was missing.
            krb5::PREAUTH_FAILED => Self::NoPreauth { client },
            krb5::KDC_ERR_KEY_EXP => Self::PasswordExpired { client },
            krb5::KDC_ERR_CLIENT_REVOKED | krb5::KDC_ERR_NAME_EXP => {
                Self::AccountDisabled { client }
            }
            krb5::KDC_ERR_ETYPE_NOSUPP | krb5::CONFIG_ETYPE_NOSUPP | krb5::NOPERM_ETYPE => {
                Self::NoCommonEnctype { text }
            }
            krb5::AP_ERR_SKEW => Self::ClockSkew,
            krb5::KDC_UNREACH => Self::KdcUnreachable { text },
            krb5::REALM_CANT_RESOLVE | krb5::REALM_UNKNOWN | krb5::CONFIG_NODEFREALM => {
                Self::UnknownRealm { text }
            }
            _ if major & CREDENTIALS_EXPIRED == CREDENTIALS_EXPIRED => {
                Self::TicketExpired { client }
            }
            _ => Self::Library { major, minor, text },
        }
    }
}

/// The outer result is a name that is refused here, the inner one libkrb5's.
fn service_name(spn: &str) -> Result<Result<Name, Status>, InitiateError> {
    ServiceAccount::parse(spn).map_err(|error| InitiateError::BadName {
        name: spn.to_owned(),
        error,
    })?;
    let (name, realm) = spn.split_once('@').unwrap_or((spn, ""));
    Ok(match name.contains('/') {
        // Without a realm in the name libkrb5 would take `default_realm`, which a host need not have, and which need not
        // be the client's. An empty one asks the client's KDC, which knows or refers onwards.
        true => Name::principal(&format!("{name}@{realm}")),
        false => Name::host_based(spn),
    })
}

/// The library resolves a credential lazily; its errors belong to the login, not to the first
/// negotiation.
fn resolved(credential: &Credential) -> Result<u32, Status> {
    credential.lifetime()
}

fn account_of(keytab: &Keytab) -> &Principal {
    let entries = keytab.entries();
    entries
        .iter()
        .find(|entry| entry.principal().instance().is_none())
        .unwrap_or(&entries[0])
        .principal()
}

fn store_path(kind: &str, path: &Path) -> Result<CString, InitiateError> {
    path.to_str()
        .and_then(|text| CString::new(format!("{kind}{text}")).ok())
        .ok_or_else(|| InitiateError::BadPath {
            path: path.to_owned(),
        })
}

const CCACHE: &CStr = c"ccache";
const CLIENT_KEYTAB: &CStr = c"client_keytab";

/// GSS_S_CREDENTIALS_EXPIRED of RFC 2744.
const CREDENTIALS_EXPIRED: u32 = 11 << 16;
