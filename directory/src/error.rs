//! What can go wrong between the server and a directory, told apart.
//!
//! `Display` is one line for the operator's log. [`DirectoryError::cause`] is the exact cause
//! below it and [`DirectoryError::mend`] what to look at. None of them holds a password. All of
//! them hold addresses, names and filters: a client of a login gets none of it.

use std::fmt;
use std::time::Duration;

use crate::sasl::SaslError;

/// Why a lookup or an authentication did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// No TCP connection, or the server went silent before the connection was usable.
    #[error("cannot connect to {url}: {cause}")]
    Dial {
        url: String,
        cause: String,
        timed_out: bool,
    },
    /// TCP works, TLS does not: certificate, name, version, or StartTLS refused.
    #[error("no TLS with {url}: {cause}")]
    Tls {
        url: String,
        cause: String,
        kind: TlsFault,
    },
    /// The server refused the configured service account.
    #[error("{url} refused the bind as {binddn:?}: {code}{}", colon(text))]
    Bind {
        url: String,
        binddn: String,
        code: ResultCode,
        text: String,
    },
    /// The server refused the service account's Kerberos ticket, or the mechanism.
    #[error("{url} refused the GSSAPI bind as {name}: {code}{}", colon(text))]
    SaslRefused {
        url: String,
        name: String,
        code: ResultCode,
        text: String,
    },
    /// This side could not go on with the GSSAPI bind: no ticket, or a server that is not itself.
    #[error("no GSSAPI bind with {url} as {name}: {error}")]
    Sasl {
        url: String,
        name: String,
        error: SaslError,
    },
    /// The server refused the user's own name and password.
    #[error("{url} refused the user {user:?}: {code}{}", colon(text))]
    Credentials {
        url: String,
        user: String,
        code: ResultCode,
        text: String,
    },
    /// An empty password, which would have been an anonymous bind.
    #[error("an empty password was refused before it could become an anonymous bind")]
    NullBind,
    /// A search was answered with an error.
    #[error(
        "{url} answered the search for {filter} under {base:?} with {code}{}",
        colon(text)
    )]
    Search {
        url: String,
        base: String,
        filter: String,
        code: ResultCode,
        text: String,
    },
    /// No entry for the user. `near` is the name of an entry that the directory matched although
    /// it is spelled differently (case aside).
    #[error("no user {username:?} under {base:?}{}", near_note(near.as_deref()))]
    UserNotFound {
        username: String,
        base: String,
        filter: String,
        near: Option<String>,
    },
    /// More than one entry for the user.
    #[error("more than one entry under {base:?} fits {filter}")]
    UserAmbiguous {
        username: String,
        base: String,
        filter: String,
    },
    /// `use_token_groups` is on, and the user's entry shows no `tokenGroups`.
    #[error("the entry {user_dn:?} shows no tokenGroups")]
    NoTokenGroups { user_dn: String },
    /// The server, or this side, cut the answer short: what was received is not used.
    #[error(
        "the answer to {filter} under {base:?} was cut short after {received} entries: {cause}"
    )]
    SizeLimit {
        base: String,
        filter: String,
        received: usize,
        cause: String,
    },
    /// The server took a request and did not answer in time.
    #[error("{url} did not answer the {operation} within {:?}", rounded(*after))]
    Timeout {
        url: String,
        operation: &'static str,
        after: Duration,
    },
    /// An established connection broke, and so did the fresh one after it.
    #[error("the connection to {url} broke during the {operation}: {cause}")]
    Lost {
        url: String,
        operation: &'static str,
        cause: String,
    },
    /// The server sent what is not LDAP, or not an answer to the question.
    #[error("{url} does not speak proper LDAP: {cause}")]
    Protocol { url: String, cause: String },
    /// Every configured server failed; each one's own error, in the order tried.
    #[error("no directory server is usable: {}", each(attempts))]
    NoServer { attempts: Vec<DirectoryError> },
    /// All connections are in use.
    #[error("all {connections} directory connections were in use for {waited:?}")]
    Busy {
        connections: usize,
        waited: Duration,
    },
}

/// What about TLS failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The chain ends in no CA that is believed.
    UnknownCa,
    /// The certificate is for another name.
    NameMismatch,
    /// Expired or not yet valid.
    CertificateTime,
    /// Any other fault of the certificate.
    Certificate,
    /// The server wants to see a certificate of ours, or does not accept it.
    ClientCertificate,
    /// The two sides share no TLS version (or no cipher of it).
    Version,
    /// The server refused or does not know StartTLS.
    StartTls,
    /// The server hung up instead of saying what it dislikes.
    BrokenOff,
    /// Anything else, such as an answer that is not TLS.
    Other,
}

impl DirectoryError {
    /// The exact cause, without the sentence around it.
    pub fn cause(&self) -> String {
        match self {
            Self::Dial { cause, .. }
            | Self::Tls { cause, .. }
            | Self::SizeLimit { cause, .. }
            | Self::Lost { cause, .. }
            | Self::Protocol { cause, .. } => cause.clone(),
            Self::Sasl { error, .. } => error.cause.clone(),
            Self::Bind { code, text, .. }
            | Self::SaslRefused { code, text, .. }
            | Self::Credentials { code, text, .. }
            | Self::Search { code, text, .. } => {
                let account = ad_account_state(text).map(|state| format!(" ({state})"));
                format!("{code}{}{}", colon(text), account.unwrap_or_default())
            }
            Self::UserNotFound { filter, near, .. } => match near {
                Some(near) => format!("{filter} found only {near:?}, which is another name"),
                None => format!("{filter} found nothing"),
            },
            Self::UserAmbiguous { filter, .. } => format!("{filter} found more than one entry"),
            Self::NoTokenGroups { .. } => self.to_string(),
            Self::NoServer { attempts } => each(attempts),
            Self::NullBind | Self::Timeout { .. } | Self::Busy { .. } => self.to_string(),
        }
    }

    /// What the operator can do about it.
    pub fn mend(&self) -> String {
        match self {
            Self::Dial { timed_out: true, .. } => {
                "check the host and port in url, and that a firewall lets the connection through".into()
            }
            Self::Dial { .. } => {
                "check the host and port in url, and that the directory server is running".into()
            }
            Self::Tls { kind, .. } => match kind {
                TlsFault::UnknownCa => {
                    "put the PEM of the CA that issued the server's certificate into certificate"
                }
                TlsFault::NameMismatch => {
                    "use the name that the server's certificate is issued for in url"
                }
                TlsFault::CertificateTime => "renew the server's certificate, or check the clocks",
                TlsFault::Certificate => "replace the server's certificate",
                TlsFault::ClientCertificate => {
                    "set client_tls_cert and client_tls_key to a certificate that the server accepts"
                }
                TlsFault::Version => {
                    "widen tls_min_version and tls_max_version to what the server offers"
                }
                TlsFault::StartTls => {
                    "turn StartTLS on at the server, or use an ldaps:// URL instead of starttls"
                }
                TlsFault::BrokenOff => {
                    "check that the port speaks TLS, and that the server takes a version between tls_min_version and tls_max_version"
                }
                TlsFault::Other => {
                    "check that the port speaks TLS: ldaps:// is usually 636, ldap:// with starttls 389"
                }
            }
            .into(),
            Self::Bind { code, text, .. } => match ad_account_state(text) {
                Some(WRONG_PASSWORD) => "check binddn and bindpass".into(),
                Some(state) => format!("mend the service account: {state}"),
                None if *code == ResultCode::INVALID_CREDENTIALS => {
                    "check binddn and bindpass".into()
                }
                None if *code == ResultCode::STRONGER_AUTH_REQUIRED
                    || *code == ResultCode::CONFIDENTIALITY_REQUIRED =>
                {
                    "the server wants an encrypted connection: use ldaps:// or starttls".into()
                }
                None if *code == ResultCode::UNWILLING_TO_PERFORM => {
                    "the server wants a binddn with a bindpass".into()
                }
                None => "check what the server allows binddn to do".into(),
            },
            Self::Sasl { error, .. } => error.mend.clone(),
            Self::SaslRefused { url, code, text, .. } => match ad_account_state(text) {
                Some(state) if *code == ResultCode::INVALID_CREDENTIALS => {
                    format!("mend the account of the keytab: {state}")
                }
                _ if *code == ResultCode::AUTH_METHOD_NOT_SUPPORTED => {
                    "the server offers no GSSAPI (supportedSASLMechanisms of its root DSE): give it a keytab for its ldap/ principal, or use binddn and bindpass".into()
                }
                _ if *code == ResultCode::STRONGER_AUTH_REQUIRED
                    || *code == ResultCode::CONFIDENTIALITY_REQUIRED =>
                {
                    "the server wants an encrypted connection: use ldaps:// or starttls".into()
                }
                _ => format!(
                    "check that the host in {url} is the name that the server's ldap/ principal has, that the server's keytab holds that principal's present key, and the clocks"
                ),
            },
            Self::Credentials { text, .. } => match ad_account_state(text) {
                Some(state) if state != WRONG_PASSWORD => {
                    format!("a matter for the user's administrator: {state}")
                }
                _ => "the user's name or password is wrong, or the account may not log in".into(),
            },
            Self::NullBind => "send a password; deny_null_bind refuses empty ones".into(),
            Self::Search { code, .. } => match *code {
                ResultCode::NO_SUCH_OBJECT => {
                    "check userdn and groupdn, and that the bound account may read them".into()
                }
                ResultCode::INVALID_DN_SYNTAX => "check userdn and groupdn".into(),
                ResultCode::OPERATIONS_ERROR | ResultCode::INSUFFICIENT_ACCESS => {
                    "set binddn and bindpass to an account that may search".into()
                }
                ResultCode::REFERRAL => {
                    "another server holds this part of the tree: point url or the base DN at it".into()
                }
                ResultCode::BUSY | ResultCode::UNAVAILABLE | ResultCode::TIME_LIMIT_EXCEEDED => {
                    "look at the load of the directory server, and index what the filter compares".into()
                }
                _ => "check the base DN and the filter against the server's schema".into(),
            },
            Self::UserNotFound { near: Some(_), .. } => {
                "the directory ignores accents or spaces that are part of the name; rename one of the two".into()
            }
            Self::UserNotFound { .. } => {
                "check userdn, userattr and userfilter (with upndomain: that the user's userPrincipalName is the name in the ticket and that domain), and that the bound account may read users".into()
            }
            Self::UserAmbiguous { .. } => {
                "narrow userdn or userfilter until it finds one entry per name".into()
            }
            Self::NoTokenGroups { .. } => {
                "only Active Directory has tokenGroups: turn use_token_groups off, or let the bound account read the attribute (it is a member of \"Windows Authorization Access Group\" where that is needed)".into()
            }
            Self::SizeLimit { .. } => {
                "raise the server's size limit for the bound account, or narrow groupdn or groupfilter".into()
            }
            Self::Timeout { operation: "bind", .. } => {
                "look at the directory server; if it is only slow, raise connection_timeout".into()
            }
            Self::Timeout { .. } => {
                "look at the directory server; if it is only slow, index what the filters compare or raise request_timeout".into()
            }
            // A server of TLS 1.3 misses our certificate only after the handshake (RFC 8446 §4.4.2.4),
            // and its alert may be lost with the connection.
            Self::Lost { operation: "bind", .. } => {
                "look at the directory server's log; one that wants to see a certificate (client_tls_cert) breaks off here as well".into()
            }
            Self::Lost { .. } => "look at the directory server's log".into(),
            Self::Protocol { .. } => "check that url points at an LDAP server".into(),
            Self::NoServer { attempts } => {
                let mut mends: Vec<String> = Vec::new();
                for attempt in attempts {
                    let mend = attempt.mend();
                    if !mends.contains(&mend) {
                        mends.push(mend);
                    }
                }
                mends.join("; ")
            }
            Self::Busy { .. } => {
                "raise max_connections, or look at why the directory answers slowly".into()
            }
        }
    }

    /// The directory cannot answer now and may later: an outage, not a verdict on the user.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Dial { .. } | Self::Timeout { .. } | Self::Lost { .. } | Self::Busy { .. } => {
                true
            }
            Self::NoServer { attempts } => attempts.iter().any(Self::is_unavailable),
            Self::Sasl { error, .. } => error.is_unavailable,
            Self::Bind { code, .. }
            | Self::SaslRefused { code, .. }
            | Self::Credentials { code, .. }
            | Self::Search { code, .. } => code.is_passing(),
            _ => false,
        }
    }

    /// A verdict on the user: unknown, ambiguous, or the password is wrong.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::UserNotFound { .. } | Self::UserAmbiguous { .. } | Self::NullBind => true,
            Self::Credentials { code, .. } => !code.is_passing(),
            _ => false,
        }
    }
}

/// An LDAP result code (RFC 4511 §4.1.9), printed with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultCode(pub u32);

impl ResultCode {
    pub const SUCCESS: Self = Self(0);
    pub const OPERATIONS_ERROR: Self = Self(1);
    pub const TIME_LIMIT_EXCEEDED: Self = Self(3);
    pub const SIZE_LIMIT_EXCEEDED: Self = Self(4);
    pub const AUTH_METHOD_NOT_SUPPORTED: Self = Self(7);
    pub const STRONGER_AUTH_REQUIRED: Self = Self(8);
    pub const REFERRAL: Self = Self(10);
    pub const ADMIN_LIMIT_EXCEEDED: Self = Self(11);
    pub const CONFIDENTIALITY_REQUIRED: Self = Self(13);
    pub const SASL_BIND_IN_PROGRESS: Self = Self(14);
    pub const NO_SUCH_OBJECT: Self = Self(32);
    pub const INVALID_DN_SYNTAX: Self = Self(34);
    pub const INVALID_CREDENTIALS: Self = Self(49);
    pub const INSUFFICIENT_ACCESS: Self = Self(50);
    pub const BUSY: Self = Self(51);
    pub const UNAVAILABLE: Self = Self(52);
    pub const UNWILLING_TO_PERFORM: Self = Self(53);

    /// A state of the server that passes.
    pub(crate) fn is_passing(self) -> bool {
        matches!(
            self,
            Self::BUSY | Self::UNAVAILABLE | Self::TIME_LIMIT_EXCEEDED
        )
    }

    fn name(self) -> &'static str {
        match self.0 {
            0 => "success",
            1 => "operationsError",
            2 => "protocolError",
            3 => "timeLimitExceeded",
            4 => "sizeLimitExceeded",
            7 => "authMethodNotSupported",
            8 => "strongerAuthRequired",
            10 => "referral",
            11 => "adminLimitExceeded",
            12 => "unavailableCriticalExtension",
            13 => "confidentialityRequired",
            14 => "saslBindInProgress",
            16 => "noSuchAttribute",
            17 => "undefinedAttributeType",
            18 => "inappropriateMatching",
            21 => "invalidAttributeSyntax",
            32 => "noSuchObject",
            33 => "aliasProblem",
            34 => "invalidDNSyntax",
            36 => "aliasDereferencingProblem",
            48 => "inappropriateAuthentication",
            49 => "invalidCredentials",
            50 => "insufficientAccessRights",
            51 => "busy",
            52 => "unavailable",
            53 => "unwillingToPerform",
            54 => "loopDetect",
            80 => "other",
            _ => "an LDAP result",
        }
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

/// Of a deadline that was on its way already, what was left is a matter of microseconds.
fn rounded(time: Duration) -> Duration {
    const STEP: u64 = 10;
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.saturating_add(STEP / 2) / STEP * STEP)
}

/// Active Directory does not tell a name that it does not know from a wrong password.
const WRONG_PASSWORD: &str = "the name or the password is wrong";

/// Active Directory puts the state of an account into the text of invalidCredentials, as
/// `data 533`; the codes are Windows' own logon errors.
fn ad_account_state(text: &str) -> Option<&'static str> {
    let data = text.split("data ").nth(1)?;
    let code = data.split([',', ' ']).next()?;
    Some(match code {
        "525" => "the account does not exist",
        "52e" => WRONG_PASSWORD,
        "52f" => "an account restriction forbids the login",
        "530" => "the account may not log in at this hour",
        "531" => "the account may not log in from this machine",
        "532" => "the password has expired",
        "533" => "the account is disabled",
        "568" => "the account is in too many groups",
        "701" => "the account has expired",
        "773" => "the password must be changed first",
        "775" => "the account is locked out",
        _ => return None,
    })
}

fn colon(text: &str) -> String {
    match text.is_empty() {
        true => String::new(),
        false => format!(": {}", text.trim_end_matches('\0')),
    }
}

fn near_note(near: Option<&str>) -> String {
    near.map(|near| format!(" (the directory offered {near:?})"))
        .unwrap_or_default()
}

fn each(attempts: &[DirectoryError]) -> String {
    let all: Vec<_> = attempts.iter().map(ToString::to_string).collect();
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_was_waited_is_told_as_it_was_configured() {
        for (left, told) in [(2_999_759, "3s"), (1_000_000, "1s"), (250_000, "250ms")] {
            let error = DirectoryError::Timeout {
                url: "ldaps://dc1:636".into(),
                operation: "bind",
                after: Duration::from_micros(left),
            };
            assert!(
                error.to_string().ends_with(&format!("within {told}")),
                "{error}"
            );
            assert!(error.mend().contains("connection_timeout"));
        }
    }

    fn bind(code: ResultCode, text: &str) -> DirectoryError {
        DirectoryError::Bind {
            url: "ldaps://dc1:636".into(),
            binddn: "cn=vault".into(),
            code,
            text: text.into(),
        }
    }

    #[test]
    fn active_directorys_account_states_are_put_into_words() {
        let text = "80090308: LdapErr: DSID-0C090446, comment: AcceptSecurityContext error, data 775, v4563";
        let error = bind(ResultCode::INVALID_CREDENTIALS, text);
        assert!(error.cause().ends_with("(the account is locked out)"));
        assert_eq!(
            error.mend(),
            "mend the service account: the account is locked out"
        );
        let other = bind(ResultCode::INVALID_CREDENTIALS, "data 9999, v1");
        assert_eq!(other.mend(), "check binddn and bindpass");
    }

    #[test]
    fn outage_refusal_and_misconfiguration_are_told_apart() {
        let url = || "ldap://a:389".to_owned();
        let refused = bind(ResultCode::INVALID_CREDENTIALS, "");
        let busy = bind(ResultCode::BUSY, "");
        let dial = DirectoryError::Dial {
            url: url(),
            cause: "refused".into(),
            timed_out: false,
        };
        let untrusted = DirectoryError::Tls {
            url: url(),
            cause: "self-signed certificate".into(),
            kind: TlsFault::UnknownCa,
        };
        let none = |attempts| DirectoryError::NoServer { attempts };
        for (error, unavailable, refusal) in [
            (refused, false, false),
            (busy, true, false),
            (none(vec![untrusted.clone(), dial.clone()]), true, false),
            (none(vec![untrusted.clone()]), false, false),
            (untrusted, false, false),
            (dial, true, false),
            (DirectoryError::NullBind, false, true),
        ] {
            assert_eq!(error.is_unavailable(), unavailable, "{error}");
            assert_eq!(error.is_refusal(), refusal, "{error}");
            assert!(!error.cause().is_empty() && !error.mend().is_empty());
        }
    }
}
