//! The accepting side: a keytab in memory becomes an `Acceptor`, a Negotiate token becomes an
//! authenticated name. The keytab lies in a sealed memfd and nowhere else; libkrb5 reads it through
//! the credential store. Replays are not refused here: the digest that comes with every accepted
//! request is what the caller's own replay refusal keeps.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ring::digest;
use thiserror::Error;

use crate::enctype::Enctype;
use crate::error::{AcceptError, ClockOffset, TicketFacts};
use crate::gss;
use crate::keytab::{KeySummary, Keytab};
use crate::krb5::{self, Krb5Error};
use crate::memfd::sealed_memfd;
use crate::pac::{Pac, PacState};
use crate::principal::{Principal, PrincipalError};
use crate::spnego::{self, ApRequest, NegotiateToken};

/// What an acceptor insists on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptorOptions {
    /// Encryption types that tickets and their session keys may have. `None` leaves the choice to
    /// libkrb5's `permitted_enctypes`.
    pub allowed_enctypes: Option<Vec<Enctype>>,
    /// Read who the user is and their groups from the ticket, where an Active Directory put them
    /// there: [`Accepted::pac`]. Off unless asked for; it costs some microseconds for each login.
    pub decode_pac: bool,
    /// How far a client's clock may be from this host's, where that is to be less than libkrb5
    /// allows ([`crate::library_clock_skew`]). Costs a second decryption for each login.
    pub clock_skew: Option<Duration>,
    /// What is asked of the client's channel bindings.
    pub channel_bindings: BindingMode,
}

/// What an acceptor asks of channel bindings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindingMode {
    /// They are not looked at: for a server that does not know the certificate that clients see.
    Ignore,
    /// Where the client sent some, they must match the connection's; a client that sent none
    /// passes, with [`Accepted::channel_bound`] false.
    #[default]
    Accept,
    /// A client that sent none is refused, and so is everyone who comes over a connection without
    /// bindings.
    Require,
}

/// Accepts tickets with the keys of one keytab. Cheap to clone; the keytab goes with the last
/// clone.
#[derive(Clone)]
pub struct Acceptor(Arc<Inner>);

struct Inner {
    /// Kept open as long as libkrb5 may look it up under /proc/self/fd.
    _memfd: OwnedFd,
    keytab_name: CString,
    keys: Vec<KeySummary>,
    set_aside: Vec<KeySummary>,
    options: AcceptorOptions,
    clock_skew: Duration,
    fingerprint: String,
}

impl Acceptor {
    /// Puts the keytab where libkrb5 can read it, and asks libkrb5 once for a credential from it.
    /// Give the keys of the service account alone ([`Keytab::for_service_account`]): every key in
    /// the keytab opens tickets.
    pub fn new(keytab: &Keytab, options: AcceptorOptions) -> Result<Self, AcceptorError> {
        let library = krb5::library_clock_skew()?;
        let clock_skew = options.clock_skew.unwrap_or(library);
        if clock_skew > library {
            return Err(AcceptorError::ClockSkew {
                asked: clock_skew,
                library,
            });
        }
        let memfd = sealed_memfd(c"keytab", &keytab.to_bytes())
            .map_err(|error| AcceptorError::Memfd(error.into()))?;
        let keytab_name = CString::new(format!("FILE:/proc/self/fd/{}", memfd.as_raw_fd()))
            .expect("a number and a constant hold no NUL");
        acquire(&keytab_name).map_err(|status| AcceptorError::Credential(status.text))?;
        Ok(Self(Arc::new(Inner {
            _memfd: memfd,
            keytab_name,
            keys: keytab.summary(),
            set_aside: keytab.set_aside().to_vec(),
            options,
            clock_skew,
            fingerprint: keytab.fingerprint(),
        })))
    }

    /// Accepts one Negotiate token, already decoded from base64. Blocks for the cryptography, some
    /// hundred microseconds, and never touches the network; an async caller goes through
    /// [`crate::AcceptorPool`].
    ///
    /// `bindings` are those of the connection that the token came over, if it has any;
    /// [`AcceptorOptions::channel_bindings`] says what they mean.
    pub fn accept(
        &self,
        token: &[u8],
        bindings: Option<&ChannelBindings>,
    ) -> Result<Accepted, AcceptError> {
        self.run(token, bindings, false)
    }

    /// The same, and says whose key opened the ticket: [`Accepted::target`]. Two more calls of GSSAPI
    /// for that are a fifth of an accept.
    pub fn accept_naming_target(
        &self,
        token: &[u8],
        bindings: Option<&ChannelBindings>,
    ) -> Result<Accepted, AcceptError> {
        self.run(token, bindings, true)
    }

    fn run(
        &self,
        token: &[u8],
        bindings: Option<&ChannelBindings>,
        name_target: bool,
    ) -> Result<Accepted, AcceptError> {
        let token = NegotiateToken::parse(token)?;
        let mech_token = token.kerberos()?;
        let request = ApRequest::parse(mech_token)?;
        self.check_enctypes(&request)?;
        krb5::keep_configuration();
        let ticket = TicketFacts::from(&request);
        let bindings = match self.0.options.channel_bindings {
            BindingMode::Ignore => None,
            BindingMode::Accept => bindings,
            BindingMode::Require if bindings.is_some() => bindings,
            BindingMode::Require => return Err(AcceptError::NothingToBind { ticket }),
        };
        let established = with_credential(&self.0, |credential| {
            gss::accept(
                credential,
                mech_token,
                bindings.map(ChannelBindings::as_bytes),
                name_target,
            )
        })
        .and_then(|result| result)
        .map_err(|status| self.refused(status, &request))?;
        if established.continue_needed {
            return Err(AcceptError::NotComplete);
        }
        let flags = ContextFlags(established.flags);
        let channel_bound =
            bindings.is_some() && flags.has(libgssapi_sys::GSS_C_CHANNEL_BOUND_FLAG);
        if self.0.options.channel_bindings == BindingMode::Require && !channel_bound {
            return Err(AcceptError::NotBound { ticket });
        }
        self.check_clock(&request)?;
        let client = name(&established.client, &ticket, self)?;
        if client.anonymous
            || flags.has(libgssapi_sys::GSS_C_ANON_FLAG)
            || client.principal.is_anonymous()
        {
            return Err(AcceptError::Anonymous);
        }
        let target = match &established.target {
            Some(target) => name(target, &ticket, self).ok(),
            None => None,
        };
        let pac = match self.0.options.decode_pac {
            true => pac(&established.client, &ticket, self)?,
            false => PacState::NotRead,
        };
        let ap_rep = (!established.reply.is_empty()).then_some(established.reply.as_slice());
        Ok(Accepted {
            client: client.principal,
            target: target.map(|target| target.principal),
            reply: spnego::frame_reply(&token, ap_rep)?,
            authenticator_digest: request.authenticator_digest(),
            ticket_service: ticket.service,
            ticket_enctype: ticket.enctype,
            ticket_kvno: ticket.kvno,
            session_enctype: request.session_enctype,
            expires: established.lifetime,
            pac,
            channel_bound,
            flags,
        })
    }

    /// What the keytab holds, without the keys.
    pub fn keys(&self) -> &[KeySummary] {
        &self.0.keys
    }

    /// How far a client's clock may be from this host's: the most for this acceptor's life, whatever
    /// becomes of krb5.conf (where that comes to allow more, it is noticed within a second). A
    /// request can be replayed for so long before and after its time.
    pub fn clock_skew(&self) -> Duration {
        self.0.clock_skew
    }

    /// The keytab's [`Keytab::fingerprint`], for logs.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// GSSAPI's refusal in this crate's words. Where a clock may be the reason, the request is opened
    /// again to see how far the client's is off.
    fn refused(&self, status: gss::Status, request: &ApRequest<'_>) -> AcceptError {
        let ticket = TicketFacts::from(request);
        let mut error = self.error(status, &ticket);
        if let Some(offset) = error.offset_mut() {
            let time = krb5::client_time(&self.0.keytab_name, request.message);
            *offset = time.ok().map(ClockOffset::of);
        }
        error
    }

    fn error(&self, status: gss::Status, ticket: &TicketFacts) -> AcceptError {
        AcceptError::from_status(status, ticket, &self.0.keys, &self.0.set_aside)
    }

    /// libkrb5 takes its bound from krb5.conf alone, as it stands now. Where that allows more than
    /// this acceptor, the time in the request is needed, which GSSAPI does not give.
    fn check_clock(&self, request: &ApRequest<'_>) -> Result<(), AcceptError> {
        let allowed = self.0.clock_skew;
        if krb5::present_clock_skew().is_some_and(|present| present <= allowed) {
            return Ok(());
        }
        let time = krb5::client_time(&self.0.keytab_name, request.message).map_err(|error| {
            AcceptError::Library {
                major: 0,
                minor: error.code,
                text: error.text,
            }
        })?;
        let offset = ClockOffset::of(time);
        if offset.by() <= allowed {
            return Ok(());
        }
        Err(AcceptError::ClockSkew {
            ticket: TicketFacts::from(request),
            offset: Some(offset),
            allowed: Some(allowed),
        })
    }

    /// The strict reading in `spnego.rs` makes the stated types the ones that libkrb5 will use: it
    /// tries keys of the ticket's stated type only.
    fn check_enctypes(&self, request: &ApRequest<'_>) -> Result<(), AcceptError> {
        let refused = |enctype: &Enctype| match &self.0.options.allowed_enctypes {
            Some(allowed) => !allowed.contains(enctype),
            None => !enctype.is_usable(),
        };
        let candidates = [
            (request.ticket_enctype, false),
            (request.session_enctype, true),
        ];
        match candidates.into_iter().find(|(enctype, _)| refused(enctype)) {
            None => Ok(()),
            Some((enctype, session_key)) => Err(AcceptError::EnctypeNotAllowed {
                ticket: TicketFacts::from(request),
                enctype,
                session_key,
                allowed: self.0.options.allowed_enctypes.clone().unwrap_or_default(),
            }),
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("keytab", &self.0.fingerprint)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

/// An accepted request. Built in one place, above, from a complete context.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The authenticated client. Its realm may be another than the service's where realms trust
    /// each other: compare it before the name means anything. In Active Directory one account has
    /// several such names: see [`Accepted::account`].
    pub client: Principal,
    /// The name whose key opened the ticket: the service itself, or the account in Active
    /// Directory. Only from [`Acceptor::accept_naming_target`].
    pub target: Option<Principal>,
    /// The acceptor's token for `WWW-Authenticate: Negotiate`, framed as the request was.
    pub reply: Option<Vec<u8>>,
    /// The replay key: [`ApRequest::authenticator_digest`].
    pub authenticator_digest: [u8; 32],
    /// The service that the ticket names. Whoever carries a ticket can change this label; for
    /// decisions there is `target`.
    pub ticket_service: Principal,
    /// The type of the key that opened the ticket.
    pub ticket_enctype: Enctype,
    /// The key version that the ticket names: a label as well.
    pub ticket_kvno: Option<u32>,
    /// The type of the session key.
    pub session_enctype: Enctype,
    /// Seconds until the context, and so the ticket, ends.
    pub expires: u32,
    /// What the ticket says about the user and their groups.
    pub pac: PacState,
    /// The client sent channel bindings and they match those that were given.
    pub channel_bound: bool,
    pub flags: ContextFlags,
}

impl Accepted {
    /// The account that logged in, by its one name. Active Directory's KDC writes the client's name
    /// into a ticket as the client asked for it: in any case, as the UPN before its `@`, or without
    /// the `$` that a computer's name ends in, so that who may join computers to the domain gets
    /// tickets for `admin` with an account `admin$`. A verified PAC has the account's own name. Of
    /// tickets without one this is `client`.
    ///
    /// An error if the domain controller's name for the account is none that a principal can have.
    pub fn account(&self) -> Result<Principal, PrincipalError> {
        match self.pac.verified() {
            Some(pac) => Principal::new([pac.user_name.as_str()], self.client.realm()),
            None => Ok(self.client.clone()),
        }
    }
}

/// The flags of the context (RFC 2743 section 1.2.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContextFlags(u32);

impl ContextFlags {
    /// The client asked for, and got, proof of the server's identity.
    pub fn mutual(self) -> bool {
        self.has(libgssapi_sys::GSS_C_MUTUAL_FLAG)
    }

    /// The client forwarded a ticket of its own; it was not kept.
    pub fn delegation(self) -> bool {
        self.has(libgssapi_sys::GSS_C_DELEG_FLAG)
    }

    pub fn integrity(self) -> bool {
        self.has(libgssapi_sys::GSS_C_INTEG_FLAG)
    }

    pub fn confidentiality(self) -> bool {
        self.has(libgssapi_sys::GSS_C_CONF_FLAG)
    }

    fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

impl fmt::Debug for ContextFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextFlags")
            .field("mutual", &self.mutual())
            .field("delegation", &self.delegation())
            .field("integrity", &self.integrity())
            .field("confidentiality", &self.confidentiality())
            .finish()
    }
}

/// What ties a login to its TLS connection (RFC 5056).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBindings(Arc<[u8]>);

impl ChannelBindings {
    /// `tls-server-end-point` of RFC 5929: `certificate` is the server's certificate in DER, and
    /// the hash is SHA-256 unless the certificate's own signature uses SHA-384 or SHA-512.
    pub fn tls_server_end_point(certificate: &[u8], hash: CertificateHash) -> Self {
        let algorithm = match hash {
            CertificateHash::Sha256 => &digest::SHA256,
            CertificateHash::Sha384 => &digest::SHA384,
            CertificateHash::Sha512 => &digest::SHA512,
        };
        Self::tls_server_end_point_hash(digest::digest(algorithm, certificate).as_ref())
    }

    /// From the hash of the certificate, made as RFC 5929 section 4.1 wants it.
    pub fn tls_server_end_point_hash(hash: &[u8]) -> Self {
        Self([END_POINT, hash].concat().into())
    }

    /// From application data that somebody else has put together: the binding's name, a colon, and
    /// its value.
    pub fn from_bytes(data: &[u8]) -> Self {
        Self(data.into())
    }

    /// The application data that goes into the bindings.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

const END_POINT: &[u8] = b"tls-server-end-point:";

/// The hash of a certificate's signature, as RFC 5929 section 4.1 maps it (MD5 and SHA-1 become
/// SHA-256).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateHash {
    Sha256,
    Sha384,
    Sha512,
}

/// Why a keytab gives no acceptor.
#[derive(Debug, Error)]
pub enum AcceptorError {
    #[error("the keytab cannot be put into memory: {0}")]
    Memfd(std::io::Error),
    #[error("libkrb5 makes no credential of the keytab: {0}")]
    Credential(String),
    #[error(
        "the clock skew of {} s is more than libkrb5 on this host allows ({} s): set clockskew in \
         [libdefaults] of its krb5.conf first",
        asked.as_secs(), library.as_secs()
    )]
    ClockSkew { asked: Duration, library: Duration },
    #[error("libkrb5 does not say how far clocks may differ: {0}")]
    Library(#[from] Krb5Error),
}

/// Decodes what libkrb5 vouches for, and nothing else.
fn pac(
    client: &gss::Name,
    ticket: &TicketFacts,
    acceptor: &Acceptor,
) -> Result<PacState, AcceptError> {
    let attribute = client
        .attribute(LOGON_INFO)
        .map_err(|status| acceptor.error(status, ticket))?;
    Ok(match attribute {
        None => PacState::Absent,
        Some(value) if !(value.authenticated && value.complete) => PacState::Unverified,
        Some(value) => match Pac::decode(value.value()) {
            Ok(pac) => PacState::Verified(Box::new(pac)),
            Err(error) => PacState::Malformed(error),
        },
    })
}

struct ReadName {
    principal: Principal,
    anonymous: bool,
}

fn name(
    name: &gss::Name,
    ticket: &TicketFacts,
    acceptor: &Acceptor,
) -> Result<ReadName, AcceptError> {
    let displayed = name
        .display()
        .map_err(|status| acceptor.error(status, ticket))?;
    let text = displayed.text.ok_or(AcceptError::ClientNameNotText)?;
    Ok(ReadName {
        principal: Principal::parse(&text).map_err(AcceptError::ClientName)?,
        anonymous: displayed.anonymous,
    })
}

thread_local! {
    /// One credential per acceptor and thread. A credential names the memfd and holds no key, so
    /// one that outlives its acceptor until the next use is harmless; the weak pointer keeps its
    /// address unique.
    static CREDENTIALS: RefCell<Vec<(Weak<Inner>, gss::Credential)>> = const { RefCell::new(Vec::new()) };
}

/// Runs `use_it` with this thread's credential for the acceptor, acquiring it at first use and
/// dropping those of acceptors that are gone.
fn with_credential<T>(
    inner: &Arc<Inner>,
    use_it: impl FnOnce(&gss::Credential) -> T,
) -> Result<T, gss::Status> {
    CREDENTIALS.with_borrow_mut(|credentials| {
        credentials.retain(|(owner, _)| owner.strong_count() > 0);
        let known = credentials
            .iter()
            .position(|(owner, _)| std::ptr::eq(owner.as_ptr(), Arc::as_ptr(inner)));
        let index = match known {
            Some(index) => index,
            None => {
                credentials.push((Arc::downgrade(inner), acquire(&inner.keytab_name)?));
                credentials.len() - 1
            }
        };
        Ok(use_it(&credentials[index].1))
    })
}

fn acquire(keytab_name: &CStr) -> Result<gss::Credential, gss::Status> {
    // Without a replay cache: the server refuses replays itself, across restarts and nodes.
    gss::Credential::acceptor(&[(c"keytab", keytab_name), (c"rcache", c"none:")])
}

/// MIT's name for the KERB_VALIDATION_INFO of a PAC.
const LOGON_INFO: &str = "urn:mspac:logon-info";
