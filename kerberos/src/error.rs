//! Why a ticket was not accepted, said to the operator: the cause, and what to do about it. The
//! words for the client are made elsewhere and give nothing away. Nothing here holds a key or a
//! token.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::enctype::Enctype;
use crate::keytab::KeySummary;
use crate::krb5::Krb5Error;
use crate::principal::{Principal, PrincipalError};
use crate::spnego::{ApRequest, TokenError};

/// What a ticket says about itself without being opened. Not authenticated: for messages alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketFacts {
    pub service: Principal,
    pub enctype: Enctype,
    pub kvno: Option<u32>,
}

impl From<&ApRequest<'_>> for TicketFacts {
    fn from(request: &ApRequest<'_>) -> Self {
        Self {
            service: request.service.clone(),
            enctype: request.ticket_enctype,
            kvno: request.ticket_kvno,
        }
    }
}

impl fmt::Display for TicketFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ticket for {} (", self.service)?;
        if let Some(kvno) = self.kvno {
            write!(f, "kvno {kvno}, ")?;
        }
        write!(f, "{})", self.enctype)
    }
}

/// Why no key of the keytab opens a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The keytab has keys of other realms only.
    Realm { held: Vec<String> },
    /// The keytab is of services by name, and the ticket's is none of them: the client was led to
    /// another name.
    Service { held: Vec<Principal> },
    /// The keytab has no key of the ticket's version.
    Kvno { held: Vec<u32> },
    /// The keytab has the ticket's version, but not under its encryption type.
    Enctype { held: Vec<Enctype> },
    /// The keytab has keys of the ticket's service, version and type, under a name that is not the service account's, and
    /// so does not count.
    SetAside { held: Principal },
    /// Version and type are there, and the key is another one; or krb5.conf does not permit the
    /// type, which libkrb5 reports in the same words.
    Key { held: Vec<Principal> },
}

impl Mismatch {
    /// `keys` are those that count, `set_aside` what the keytab holds beside them.
    pub(crate) fn find(
        ticket: &TicketFacts,
        keys: &[KeySummary],
        set_aside: &[KeySummary],
    ) -> Self {
        let in_realm: Vec<&KeySummary> = keys
            .iter()
            .filter(|key| key.principal.realm() == ticket.service.realm())
            .collect();
        if in_realm.is_empty() {
            return Self::Realm {
                held: distinct(keys.iter().map(|key| key.principal.realm().to_owned())),
            };
        }
        let is_named = |principal: &Principal| {
            let (named, held) = (ticket.service.components(), principal.components());
            named.len() == held.len()
                && named
                    .iter()
                    .zip(held)
                    .all(|(a, b)| a.eq_ignore_ascii_case(b))
        };
        let same_kvno = |key: &&KeySummary| ticket.kvno.is_none_or(|kvno| key.is_of_version(kvno));
        let opens_it = |key: &&KeySummary| {
            key.principal.realm() == ticket.service.realm()
                && is_named(&key.principal)
                && same_kvno(key)
                && key.enctype == ticket.enctype
        };
        if let Some(key) = set_aside.iter().find(opens_it) {
            return Self::SetAside {
                held: key.principal.clone(),
            };
        }
        // An account's key opens the tickets of all its services, whatever they are called.
        let is_account = |principal: &Principal| principal.instance().is_none();
        let mut principals = in_realm.iter().map(|key| &key.principal);
        if !principals.any(|principal| is_named(principal) || is_account(principal)) {
            return Self::Service {
                held: distinct(in_realm.iter().map(|key| key.principal.clone())),
            };
        }
        let of_version: Vec<&KeySummary> = in_realm.iter().copied().filter(same_kvno).collect();
        if of_version.is_empty() {
            return Self::Kvno {
                held: distinct(in_realm.iter().map(|key| key.kvno)),
            };
        }
        if !of_version.iter().any(|key| key.enctype == ticket.enctype) {
            return Self::Enctype {
                held: distinct(of_version.iter().map(|key| key.enctype)),
            };
        }
        Self::Key {
            held: distinct(of_version.iter().map(|key| key.principal.clone())),
        }
    }
}

/// How far a client's clock is from this host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockOffset {
    Ahead(Duration),
    Behind(Duration),
}

impl ClockOffset {
    /// What it is for a client that gave this time just now. The way here counts as the clock's
    /// fault; it is short.
    pub(crate) fn of(client: SystemTime) -> Self {
        match client.duration_since(SystemTime::now()) {
            Ok(ahead) => Self::Ahead(ahead),
            Err(behind) => Self::Behind(behind.duration()),
        }
    }

    pub fn by(self) -> Duration {
        match self {
            Self::Ahead(by) | Self::Behind(by) => by,
        }
    }
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.by().as_secs();
        match self {
            Self::Ahead(_) => write!(f, "{seconds} seconds ahead of"),
            Self::Behind(_) => write!(f, "{seconds} seconds behind"),
        }
    }
}

/// Why a token was not accepted. `Display` is the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// The token is no Kerberos request: garbage, NTLM, another mechanism.
    Token(TokenError),
    /// The ticket, or its session key, is of a type that the configuration does not allow.
    EnctypeNotAllowed {
        ticket: TicketFacts,
        /// The refused type.
        enctype: Enctype,
        /// The refused type is the session key's, not the ticket's.
        session_key: bool,
        /// What the configuration allows; empty where it does not say, and the type is a retired
        /// one.
        allowed: Vec<Enctype>,
    },
    /// No key of the keytab opens the ticket.
    NoMatchingKey {
        ticket: TicketFacts,
        mismatch: Mismatch,
    },
    /// The clocks of client and server differ by too much.
    ClockSkew {
        ticket: TicketFacts,
        /// By how much, where that can be known.
        offset: Option<ClockOffset>,
        /// The acceptor's own bound, where that is what refused, and not libkrb5's (`clockskew` in
        /// krb5.conf, five minutes).
        allowed: Option<Duration>,
    },
    /// By this host's clock the ticket has come to its end.
    TicketExpired {
        ticket: TicketFacts,
        /// How far the client's clock is from this host's, where that can be known.
        offset: Option<ClockOffset>,
    },
    /// By this host's clock the ticket is one of the future, or it is postdated.
    TicketNotYetValid {
        ticket: TicketFacts,
        offset: Option<ClockOffset>,
    },
    /// The ticket was opened, and the request inside does not belong to it or was altered.
    Altered {
        ticket: TicketFacts,
    },
    /// The request is Kerberos and not GSSAPI's: `fault` says what is wrong with its checksum.
    NotGssapi {
        ticket: TicketFacts,
        fault: &'static str,
    },
    /// libkrb5's own configuration does not permit the type of the session key.
    EnctypeNotPermitted {
        ticket: TicketFacts,
    },
    /// The client bound its login to another TLS connection than this one.
    ChannelBindings {
        ticket: TicketFacts,
    },
    /// Channel bindings are required, and the client sent none.
    NotBound {
        ticket: TicketFacts,
    },
    /// Channel bindings are required, and the connection has none to compare with.
    NothingToBind {
        ticket: TicketFacts,
    },
    /// The client is anonymous (RFC 8062).
    Anonymous,
    /// The context would need another round trip.
    NotComplete,
    /// The client's name cannot be used.
    ClientName(PrincipalError),
    ClientNameNotText,
    /// libkrb5 refused for a reason that has no variant of its own.
    Library(Krb5Error),
    /// All workers are busy and the queue is full.
    Busy,
    /// No worker answered before the deadline.
    Deadline,
    /// A worker died over this token.
    Internal,
}

impl AcceptError {
    /// What libkrb5 says, about a ticket. `keys` are those that count, `set_aside` what the keytab holds beside them.
    pub(crate) fn of(
        error: Krb5Error,
        ticket: TicketFacts,
        keys: &[KeySummary],
        set_aside: &[KeySummary],
    ) -> Self {
        match error.code {
            krb5::AP_ERR_SKEW => Self::ClockSkew {
                ticket,
                offset: None,
                allowed: None,
            },
            krb5::AP_ERR_TKT_EXPIRED => Self::TicketExpired {
                ticket,
                offset: None,
            },
            krb5::AP_ERR_TKT_NYV | krb5::AP_ERR_TKT_INVALID => Self::TicketNotYetValid {
                ticket,
                offset: None,
            },
            krb5::AP_ERR_BADMATCH | krb5::AP_ERR_INAPP_CKSUM => Self::Altered { ticket },
            krb5::NOPERM_ETYPE | krb5::PROG_ETYPE_NOSUPP | krb5::BAD_ENCTYPE => {
                Self::EnctypeNotPermitted { ticket }
            }
            krb5::KT_NOTFOUND
            | krb5::KT_KVNONOTFOUND
            | krb5::AP_ERR_NOKEY
            | krb5::AP_ERR_NOT_US
            | krb5::AP_ERR_BADKEYVER
            | krb5::AP_ERR_MODIFIED
            | krb5::AP_ERR_BAD_INTEGRITY => Self::NoMatchingKey {
                mismatch: Mismatch::find(&ticket, keys, set_aside),
                ticket,
            },
            _ => Self::Library(error),
        }
    }

    /// Whether more can be said once the client's own time is known, and where to say it.
    pub(crate) fn offset_mut(&mut self) -> Option<&mut Option<ClockOffset>> {
        match self {
            Self::ClockSkew { offset, .. }
            | Self::TicketExpired { offset, .. }
            | Self::TicketNotYetValid { offset, .. } => Some(offset),
            _ => None,
        }
    }

    /// The exact cause, for the operator's log.
    pub fn cause(&self) -> String {
        match self {
            Self::Token(error) => error.to_string(),
            Self::EnctypeNotAllowed {
                ticket,
                enctype,
                session_key,
                allowed,
            } => {
                let of = if *session_key {
                    "session key"
                } else {
                    "ticket"
                };
                let why = match allowed.as_slice() {
                    [] => "which is retired or unknown".to_owned(),
                    allowed => format!("and the configuration allows {}", join(allowed)),
                };
                format!("{ticket} was refused: its {of} is of type {enctype}, {why}")
            }
            Self::NoMatchingKey { ticket, mismatch } => match mismatch {
                Mismatch::Realm { held } => format!(
                    "{ticket} was issued by realm {}; the keytab holds keys of {}",
                    ticket.service.realm(),
                    join(held)
                ),
                Mismatch::Service { held } => format!(
                    "{ticket} is for a service that the keytab has no keys of; it holds keys of {}",
                    join(held)
                ),
                Mismatch::Kvno { held } => format!(
                    "{ticket} is encrypted with kvno {}; the keytab holds kvno {} for that account",
                    ticket.kvno.unwrap_or_default(),
                    join(held)
                ),
                Mismatch::Enctype { held } => format!(
                    "{ticket} is encrypted with {}; the keytab holds only {} for that key version",
                    ticket.enctype,
                    join(held)
                ),
                Mismatch::SetAside { held } => format!(
                    "{ticket} is for a name of which the keytab has such a key, but only the service \
                     account's keys count, and it is not {held}"
                ),
                Mismatch::Key { held } => format!(
                    "no key opens {ticket}, although the keytab has that version and type (of {})",
                    join(held)
                ),
            },
            Self::ClockSkew {
                ticket,
                offset,
                allowed,
            } => {
                let mut cause = match offset {
                    Some(offset) => format!("the client's clock is {offset} this host's"),
                    None => "the clocks of the client and of this host differ too much".to_owned(),
                };
                if let Some(allowed) = allowed {
                    cause.push_str(&format!(
                        ", and the configuration allows {} seconds",
                        allowed.as_secs()
                    ));
                }
                format!("{cause} (with {ticket})")
            }
            Self::TicketExpired { ticket, offset } => match significant(*offset) {
                None => format!("{ticket} has expired"),
                Some(offset) => format!(
                    "by this host's clock, {ticket} has expired, and the client's clock is \
                     {offset} it"
                ),
            },
            Self::TicketNotYetValid { ticket, offset } => match significant(*offset) {
                None => format!("by this host's clock, {ticket} is not valid yet"),
                Some(offset) => format!(
                    "by this host's clock, {ticket} is not valid yet, and the client's clock is \
                     {offset} it"
                ),
            },
            Self::Altered { ticket } => {
                format!("the request with {ticket} was altered or does not belong to it")
            }
            Self::NotGssapi { ticket, fault } => {
                format!("the request with {ticket} is not one of GSSAPI's: {fault}")
            }
            Self::EnctypeNotPermitted { ticket } => {
                format!(
                    "libkrb5 on this host does not permit the encryption type of the session key \
                     with {ticket}"
                )
            }
            Self::ChannelBindings { ticket } => {
                format!(
                    "the client used {ticket} over another TLS connection than the one that \
                     reached this server"
                )
            }
            Self::NotBound { ticket } => {
                format!("the client did not bind {ticket} to its TLS connection, as is required")
            }
            Self::NothingToBind { ticket } => {
                format!(
                    "channel bindings are required, and {ticket} came over a connection that has \
                     none: TLS does not end at this server, or its certificate is signed without a \
                     hash (Ed25519), so that there is nothing to bind to (RFC 5929)"
                )
            }
            Self::Anonymous => "the client is anonymous".to_owned(),
            Self::NotComplete => "the client's mechanism wants another round trip".to_owned(),
            Self::ClientName(error) => format!("the client's name cannot be used: {error}"),
            Self::ClientNameNotText => "the client's name is not UTF-8".to_owned(),
            Self::Library(error) => error.to_string(),
            Self::Busy => "all Kerberos workers are busy and their queue is full".to_owned(),
            Self::Deadline => "no Kerberos worker answered in time".to_owned(),
            Self::Internal => "a Kerberos worker failed over this token".to_owned(),
        }
    }

    /// What to do about it.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Token(TokenError::Ntlm | TokenError::OtherMechanism(_)) => {
                "the client has no Kerberos ticket for this server: check that it is in the \
                 domain, that the URL's host has an SPN, and that the client trusts this host for \
                 Negotiate"
            }
            Self::Token(TokenError::TooLarge) => {
                "the user is in very many groups: reduce them, or limit the PAC"
            }
            Self::Token(_) => {
                "the client is not a Kerberos client, or something on the way changed its header"
            }
            Self::EnctypeNotAllowed { .. } => {
                "enable AES for the service account (msDS-SupportedEncryptionTypes, or new keys), \
                 or widen allowed_enctypes"
            }
            Self::NoMatchingKey { mismatch, .. } => match mismatch {
                Mismatch::Realm { .. } => {
                    "export a keytab from the realm that issues the tickets, or correct the \
                     client's realm"
                }
                Mismatch::Service { .. } => {
                    "see which name leads clients to this service: another one in the URL, an alias, \
                     or reverse DNS (rdns and dns_canonicalize_hostname in the client's krb5.conf); \
                     or export a keytab that holds this service too"
                }
                Mismatch::Kvno { .. } => {
                    "export a new keytab (the account's password changed since), or let clients \
                     fetch new tickets (klist purge, kinit) if theirs are the old ones"
                }
                Mismatch::Enctype { .. } => {
                    "export a keytab with all of the account's encryption types"
                }
                Mismatch::SetAside { .. } => {
                    "name that principal as service_account in config, or export a keytab of the \
                     service account with its keys of today"
                }
                Mismatch::Key { .. } => {
                    "export a new keytab for the account that owns this SPN now (its password was \
                     set anew, or the SPN belongs to another account); if the key is right, see \
                     whether permitted_enctypes in this host's krb5.conf leaves the type out"
                }
            },
            Self::ClockSkew { .. } => "synchronise the clocks of client, KDC and this host (NTP)",
            Self::TicketExpired { offset, .. } if significant(*offset).is_some() => {
                "synchronise the clocks of client, KDC and this host (NTP)"
            }
            Self::TicketExpired { .. } => "let the client get a new ticket (kinit)",
            Self::TicketNotYetValid { .. } => {
                "synchronise the clocks of client, KDC and this host (NTP); a postdated ticket \
                 must be validated first (kinit -v)"
            }
            Self::Altered { .. } => "look for a proxy that rewrites headers, or for an attack",
            Self::NotGssapi { .. } => "use a client that logs in by GSSAPI or SSPI (RFC 4121)",
            Self::EnctypeNotPermitted { .. } => {
                "check permitted_enctypes, allow_rc4 and allow_weak_crypto in krb5.conf, or give \
                 the account AES keys"
            }
            Self::ChannelBindings { .. } => {
                "let TLS end at this server, or give it the certificate that clients see; \
                 otherwise this is a relayed login"
            }
            Self::NotBound { .. } => {
                "use a client that sends channel bindings (Windows: extended protection), or set \
                 them to accept instead of require"
            }
            Self::NothingToBind { .. } => {
                "let clients connect to a TLS listener of this server whose certificate is signed \
                 with ECDSA or RSA, or do not require channel bindings"
            }
            Self::Anonymous => "log in as a named principal",
            Self::NotComplete => "use a client that sends a Kerberos ticket in its first token",
            Self::ClientName(_) | Self::ClientNameNotText => "rename the principal",
            Self::Library(_) => {
                "look the message up in the documentation of MIT Kerberos; KRB5_TRACE shows more"
            }
            Self::Busy | Self::Deadline => {
                "let clients retry; raise the number of Kerberos workers if this lasts"
            }
            Self::Internal => "report it with the log around this line",
        }
    }

    /// Whether the fault lies with this server's load, not with the token: worth a retry.
    pub fn is_overload(&self) -> bool {
        matches!(self, Self::Busy | Self::Deadline)
    }

    /// Whether the client sent NTLM, plain or inside SPNEGO.
    pub fn is_ntlm(&self) -> bool {
        matches!(self, Self::Token(TokenError::Ntlm))
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

impl std::error::Error for AcceptError {}

impl From<Krb5Error> for AcceptError {
    fn from(error: Krb5Error) -> Self {
        Self::Library(error)
    }
}

impl From<TokenError> for AcceptError {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

/// An offset that explains something: requests are seconds old, clocks differ by some more.
fn significant(offset: Option<ClockOffset>) -> Option<ClockOffset> {
    offset.filter(|offset| offset.by() >= Duration::from_secs(60))
}

fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn join<T: fmt::Display>(values: &[T]) -> String {
    let mut text = values
        .iter()
        .take(MAX_LISTED)
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if values.len() > MAX_LISTED {
        text.push_str(" and more");
    }
    text
}

const MAX_LISTED: usize = 20;

/// libkrb5's error codes (krb5.h), as they come through the minor status.
#[rustfmt::skip]
pub(crate) mod krb5 {
    pub(crate) const KDC_ERR_NAME_EXP: i32 = -1765328383;
    pub(crate) const KDC_ERR_C_PRINCIPAL_UNKNOWN: i32 = -1765328378;
    pub(crate) const KDC_ERR_S_PRINCIPAL_UNKNOWN: i32 = -1765328377;
    pub(crate) const KDC_ERR_ETYPE_NOSUPP: i32 = -1765328370;
    pub(crate) const KDC_ERR_CLIENT_REVOKED: i32 = -1765328366;
    pub(crate) const KDC_ERR_KEY_EXP: i32 = -1765328361;
    pub(crate) const KDC_ERR_PREAUTH_FAILED: i32 = -1765328360;
    pub(crate) const AP_ERR_BAD_INTEGRITY: i32 = -1765328353;
    pub(crate) const AP_ERR_TKT_EXPIRED: i32 = -1765328352;
    pub(crate) const AP_ERR_TKT_NYV: i32 = -1765328351;
    pub(crate) const AP_ERR_NOT_US: i32 = -1765328349;
    pub(crate) const AP_ERR_BADMATCH: i32 = -1765328348;
    pub(crate) const AP_ERR_SKEW: i32 = -1765328347;
    pub(crate) const AP_ERR_MODIFIED: i32 = -1765328343;
    pub(crate) const AP_ERR_BADKEYVER: i32 = -1765328340;
    pub(crate) const AP_ERR_NOKEY: i32 = -1765328339;
    pub(crate) const AP_ERR_INAPP_CKSUM: i32 = -1765328334;
    pub(crate) const CC_NOTFOUND: i32 = -1765328243;
    pub(crate) const AP_ERR_TKT_INVALID: i32 = -1765328239;
    pub(crate) const PROG_ETYPE_NOSUPP: i32 = -1765328234;
    pub(crate) const REALM_UNKNOWN: i32 = -1765328230;
    pub(crate) const KDC_UNREACH: i32 = -1765328228;
    pub(crate) const BAD_ENCTYPE: i32 = -1765328196;
    pub(crate) const KT_NOTFOUND: i32 = -1765328203;
    pub(crate) const FCC_NOFILE: i32 = -1765328189;
    pub(crate) const CONFIG_NODEFREALM: i32 = -1765328160;
    pub(crate) const PREAUTH_FAILED: i32 = -1765328174;
    pub(crate) const KT_KVNONOTFOUND: i32 = -1765328154;
    pub(crate) const REALM_CANT_RESOLVE: i32 = -1765328164;
    pub(crate) const CONFIG_ETYPE_NOSUPP: i32 = -1765328147;
    pub(crate) const NOPERM_ETYPE: i32 = -1765328148;
    /// The Kerberos mechanism's own table (base 39756032).
    pub(crate) const KG_CCACHE_NOMATCH: i32 = 39756032;
    pub(crate) const KG_TGT_MISSING: i32 = 39756034;
    pub(crate) const KG_EMPTY_CCACHE: i32 = 39756044;
}
