//! The initiating side, for the command line, for services and for tests: a ticket cache, a keytab
//! or a password becomes a Negotiate token, and the server's answer is verified (mutual
//! authentication). No environment variable is read or set here beyond what libkrb5 itself reads at
//! its start (KRB5_CONFIG, KRB5CCNAME): another krb5.conf needs a process that is started with it.

use std::ffi::{CStr, CString};
use std::fmt;
use std::path::{Path, PathBuf};

use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_KRB5, GSS_NT_HOSTBASED_SERVICE, GSS_NT_KRB5_PRINCIPAL, Oid, OidSet};
use ring::digest;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::acceptor::ChannelBindings;
use crate::error::krb5;
use crate::gss::{self, Status};
use crate::keytab::{Keytab, KeytabError, MAX_KEYTAB_BYTES, hex};
use crate::principal::{PrincipalError, ServiceAccount};
use crate::spnego::{self, TokenError};

/// A client that can ask for service tickets. Blocks where it talks to the KDC.
pub struct Initiator {
    credential: Cred,
    /// Who or what asks, for messages.
    client: String,
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
        Self::acquire(None, &store, client)
    }

    /// Logs in with a key of a keytab file. `principal` may leave the realm to the keytab. Tickets
    /// are kept in memory, shared by initiators with the same keytab and principal, and renewed
    /// from the keytab.
    pub fn from_keytab(path: &Path, principal: &str) -> Result<Self, InitiateError> {
        let unreadable = |error: std::io::Error| InitiateError::KeytabFile {
            path: path.to_owned(),
            error,
        };
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_KEYTAB_BYTES as u64 {
            return Err(InitiateError::Keytab {
                path: path.to_owned(),
                error: KeytabError::TooLarge {
                    bytes: MAX_KEYTAB_BYTES + 1,
                },
            });
        }
        let bytes = Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
        let keytab = Keytab::parse(&bytes)
            .and_then(|keytab| keytab.for_service_account(principal, false))
            .map_err(|error| InitiateError::Keytab {
                path: path.to_owned(),
                error,
            })?;
        let principal = keytab.entries()[0].principal().to_string();
        // libkrb5 keeps a MEMORY cache until the process ends, so a name that is not reused would
        // leak one for each initiator; a keytab that was exported anew gets another.
        let identity = format!("{}\n{principal}\n{}", path.display(), keytab.fingerprint());
        let identity = digest::digest(&digest::SHA256, identity.as_bytes());
        let identity = hex(&identity.as_ref()[..16]);
        let ccache = CString::new(format!("MEMORY:obol-{identity}"))
            .expect("hexadecimal digits hold no NUL");
        let store = [
            (CLIENT_KEYTAB, store_path("FILE:", path)?),
            (CCACHE, ccache),
        ];
        Self::acquire(Some(&principal), &store, principal.clone())
    }

    /// Logs in with a password. Tickets are kept in memory and go with the last context.
    pub fn from_password(principal: &str, password: &str) -> Result<Self, InitiateError> {
        ServiceAccount::parse(principal).map_err(|error| InitiateError::BadName {
            name: principal.to_owned(),
            error,
        })?;
        let acquire = || {
            let name = Name::new(principal.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))?;
            let mut mechs = OidSet::new();
            mechs.add(GSS_MECH_KRB5)?;
            Cred::acquire_with_password(
                Some(&name),
                password,
                None,
                CredUsage::Initiate,
                Some(&mechs),
            )
        };
        acquire()
            .map(|credential| Self {
                credential,
                client: principal.to_owned(),
            })
            .map_err(|error| {
                InitiateError::from_status(Status::from_libgssapi(error), principal, None)
            })
    }

    /// Makes the token for a service: `HTTP@host` (the host is made canonical as krb5.conf says) or
    /// `HTTP/host`, `HTTP/host@REALM` (taken literally). Asks for mutual authentication: the
    /// server's answer goes to [`Negotiation::finish`].
    pub fn negotiate(
        &self,
        spn: &str,
        bindings: Option<&ChannelBindings>,
    ) -> Result<(Vec<u8>, Negotiation), InitiateError> {
        let failed = |error| {
            InitiateError::from_status(Status::from_libgssapi(error), &self.client, Some(spn))
        };
        let bindings = bindings.map(ChannelBindings::as_bytes);
        let target = service_name(spn)?.map_err(failed)?;
        let mut context = ClientCtx::new(
            Some(self.credential.clone()),
            target,
            CtxFlags::GSS_C_MUTUAL_FLAG | CtxFlags::GSS_C_INTEG_FLAG,
            Some(GSS_MECH_KRB5),
        );
        let ap_req = context
            .step(None, bindings)
            .map_err(failed)?
            .ok_or(InitiateError::Reply(TokenError::NoMechToken))?;
        let token = spnego::frame_init(&ap_req).map_err(InitiateError::Reply)?;
        let negotiation = Negotiation {
            context,
            bindings: bindings.map(<[u8]>::to_vec),
            spn: spn.to_owned(),
        };
        Ok((token, negotiation))
    }

    fn acquire(
        principal: Option<&str>,
        store: &[(&CStr, CString)],
        client: String,
    ) -> Result<Self, InitiateError> {
        let store: Vec<(&CStr, &CStr)> = store
            .iter()
            .map(|(key, value)| (*key, value.as_c_str()))
            .collect();
        let credential = gss::initiator(principal, &store)
            .map_err(|status| InitiateError::from_status(status, &client, None))?;
        // The library resolves a credential lazily; its errors belong here, not into the first
        // negotiation.
        match credential.lifetime() {
            Ok(lifetime) if lifetime.is_zero() => Err(InitiateError::TicketExpired { client }),
            Ok(_) => Ok(Self { credential, client }),
            Err(error) => Err(InitiateError::from_status(
                Status::from_libgssapi(error),
                &client,
                None,
            )),
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
    context: ClientCtx,
    bindings: Option<Vec<u8>>,
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
            .step(Some(ap_rep), self.bindings.as_deref())
            .map_err(|error| InitiateError::NotMutual {
                text: Status::from_libgssapi(error).text,
            })?;
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
    #[error("{client} holds no ticket")]
    NoTicket { client: String },
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
    #[error("{name:?} is no Kerberos name: {error}")]
    BadName { name: String, error: PrincipalError },
    #[error("the path {path} cannot be handed to libkrb5")]
    BadPath { path: PathBuf },
    #[error("the server's answer: {0}")]
    Reply(TokenError),
    #[error("the server did not prove its identity: {text}")]
    NotMutual { text: String },
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
                 service account (setspn, addprinc)"
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
            Self::ClockSkew => "synchronise this host's clock (NTP)",
            Self::KdcUnreachable { .. } => {
                "check the network, the firewall (port 88, TCP and UDP) and the KDC's address in \
                 krb5.conf or DNS"
            }
            Self::UnknownRealm { .. } => {
                "name the realm and its KDC in krb5.conf ([libdefaults] and [realms]), or in DNS"
            }
            Self::KeytabFile { .. } | Self::BadPath { .. } => "check the path and its permissions",
            Self::Keytab { .. } => "export the keytab again, for this principal",
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

    fn from_status(status: Status, client: &str, spn: Option<&str>) -> Self {
        let client = client.to_owned();
        let spn = spn.unwrap_or_default().to_owned();
        let Status { major, minor, text } = status;
        match minor {
            krb5::FCC_NOFILE
            | krb5::CC_NOTFOUND
            | krb5::KG_CCACHE_NOMATCH
            | krb5::KG_TGT_MISSING
            | krb5::KG_EMPTY_CCACHE => Self::NoTicket { client },
            krb5::AP_ERR_TKT_EXPIRED => Self::TicketExpired { client },
            krb5::KDC_ERR_S_PRINCIPAL_UNKNOWN => Self::UnknownService { spn },
            krb5::KDC_ERR_C_PRINCIPAL_UNKNOWN => Self::UnknownClient { client },
            krb5::KDC_ERR_PREAUTH_FAILED | krb5::AP_ERR_BAD_INTEGRITY if spn.is_empty() => {
                Self::WrongPassword { client }
            }
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
fn service_name(spn: &str) -> Result<Result<Name, libgssapi::error::Error>, InitiateError> {
    let literal = spn.split('@').next().is_some_and(|name| name.contains('/'));
    let kind: Oid<'static> = if literal {
        GSS_NT_KRB5_PRINCIPAL
    } else {
        GSS_NT_HOSTBASED_SERVICE
    };
    ServiceAccount::parse(spn).map_err(|error| InitiateError::BadName {
        name: spn.to_owned(),
        error,
    })?;
    Ok(Name::new(spn.as_bytes(), Some(kind)))
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
