//! The accepting side: a keytab in memory becomes an `Acceptor`, a Negotiate token becomes an
//! authenticated name. libkrb5 opens the Kerberos request in the token, and what GSSAPI and SPNEGO put around it is read
//! here. Replays are not refused here: the digest that comes with every accepted request is what the
//! caller's own replay refusal keeps.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ring::digest;
use thiserror::Error;

use crate::enctype::Enctype;
use crate::error::{AcceptError, ClockOffset, TicketFacts};
use crate::gss_checksum::{self, GssChecksum};
use crate::keytab::{KeySummary, Keytab};
use crate::krb5::{self, Krb5Error, LogonInfo, MemoryKeytab, OpenRequest};
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
    /// allows ([`crate::library_clock_skew`]).
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
    /// Where libkrb5 finds the keys.
    opener: MemoryKeytab,
    /// The same keys, for the signatures of PACs.
    keytab: Keytab,
    keys: Vec<KeySummary>,
    options: AcceptorOptions,
    clock_skew: Duration,
    fingerprint: String,
}

impl Acceptor {
    /// Puts the keytab where libkrb5 finds it, in memory.
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
        Ok(Self(Arc::new(Inner {
            opener: MemoryKeytab::new(keytab).map_err(AcceptorError::Keytab)?,
            keytab: keytab.clone(),
            keys: keytab.summary(),
            options,
            clock_skew,
            fingerprint: keytab.fingerprint(),
        })))
    }

    /// Accepts one Negotiate token, already decoded from base64. Blocks for the cryptography, some dozen
    /// microseconds, and never touches the network; an async caller goes through
    /// [`crate::AcceptorPool`].
    ///
    /// `bindings` are those of the connection that the token came over, if it has any;
    /// [`AcceptorOptions::channel_bindings`] says what they mean.
    pub fn accept(
        &self,
        token: &[u8],
        bindings: Option<&ChannelBindings>,
    ) -> Result<Accepted, AcceptError> {
        let token = NegotiateToken::parse(token)?;
        let request = ApRequest::parse(token.kerberos()?)?;
        self.check_enctypes(&request)?;
        let bindings = match self.0.options.channel_bindings {
            BindingMode::Ignore => None,
            BindingMode::Accept => bindings,
            BindingMode::Require if bindings.is_some() => bindings,
            BindingMode::Require => {
                let ticket = TicketFacts::from(&request);
                return Err(AcceptError::NothingToBind { ticket });
            }
        };
        krb5::with_context(|context| {
            let open = OpenRequest::open(context, &self.0.opener, request.message)
                .map_err(|error| self.refused(error, &request))?;
            self.accepted(&token, &request, &open, bindings)
        })
        .map_err(AcceptError::from)?
    }

    /// What an open request says, once everything that is asked of it is true.
    fn accepted(
        &self,
        token: &NegotiateToken<'_>,
        request: &ApRequest<'_>,
        open: &OpenRequest<'_>,
        bindings: Option<&ChannelBindings>,
    ) -> Result<Accepted, AcceptError> {
        let ticket = || TicketFacts::from(request);
        let gss = GssChecksum::parse(open.checksum()).map_err(|fault| AcceptError::NotGssapi {
            ticket: ticket(),
            fault,
        })?;
        if gss.wants_third_message() {
            return Err(AcceptError::NotComplete);
        }
        let channel_bound = match bindings {
            Some(bindings) if gss.binds(bindings.as_bytes()) => true,
            // One that says it binds wherever there is a channel has seen none: somebody took it away.
            Some(_) if gss.has_bindings() || binds_always(open)? => {
                return Err(AcceptError::ChannelBindings { ticket: ticket() });
            }
            _ => false,
        };
        if self.0.options.channel_bindings == BindingMode::Require && !channel_bound {
            return Err(AcceptError::NotBound { ticket: ticket() });
        }
        self.check_clock(request, open)?;
        let client = name(open.client()?)?;
        if client.is_anonymous() {
            return Err(AcceptError::Anonymous);
        }
        let target = name(open.target()?)?;
        let pac = match self.0.options.decode_pac {
            true => self.pac(open, &target)?,
            false => PacState::NotRead,
        };
        let reply = match gss.wants_mutual() || request.mutual {
            true => Some(open.reply()?),
            false => None,
        };
        let ticket = ticket();
        Ok(Accepted {
            client,
            target,
            reply: spnego::frame_reply(token, reply.as_deref())?,
            authenticator_digest: request.authenticator_digest(),
            ticket_service: ticket.service,
            ticket_enctype: ticket.enctype,
            ticket_kvno: ticket.kvno,
            session_enctype: request.session_enctype,
            expires: open.ends(),
            pac,
            channel_bound,
            flags: ContextFlags(gss.flags),
        })
    }

    /// Decodes what libkrb5 vouches for, and nothing else.
    fn pac(&self, open: &OpenRequest<'_>, target: &Principal) -> Result<PacState, AcceptError> {
        let keys = self.0.keytab.entries().iter();
        let keys = keys.filter(|key| key.principal() == target);
        Ok(match open.logon_info(keys)? {
            LogonInfo::Absent => PacState::Absent,
            LogonInfo::Unverified => PacState::Unverified,
            LogonInfo::Verified(info) => match Pac::decode(&info) {
                Ok(pac) => PacState::Verified(Box::new(pac)),
                Err(error) => PacState::Malformed(error),
            },
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

    /// libkrb5's refusal in this crate's words. Where a clock may be the reason, the request is opened
    /// again to see how far the client's is off.
    fn refused(&self, error: Krb5Error, request: &ApRequest<'_>) -> AcceptError {
        let ticket = TicketFacts::from(request);
        let mut error = AcceptError::of(error, ticket, &self.0.keys, self.0.keytab.set_aside());
        if let Some(offset) = error.offset_mut() {
            let time = krb5::client_time(&self.0.opener, request.message);
            *offset = time.ok().map(ClockOffset::of);
        }
        error
    }

    /// libkrb5 takes its bound from krb5.conf, as it stands now: it may allow more than this acceptor.
    fn check_clock(
        &self,
        request: &ApRequest<'_>,
        open: &OpenRequest<'_>,
    ) -> Result<(), AcceptError> {
        let allowed = self.0.clock_skew;
        let offset = ClockOffset::of(open.time());
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
    /// Directory.
    pub target: Principal,
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
    /// When the ticket ends.
    pub expires: SystemTime,
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
        self.has(gss_checksum::MUTUAL)
    }

    /// The client forwarded a ticket of its own; it was not kept.
    pub fn delegation(self) -> bool {
        self.has(gss_checksum::DELEGATION)
    }

    pub fn integrity(self) -> bool {
        self.has(gss_checksum::INTEGRITY)
    }

    pub fn confidentiality(self) -> bool {
        self.has(gss_checksum::CONFIDENTIALITY)
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
    #[error("the keytab cannot be used: {0}")]
    Keytab(Krb5Error),
    #[error(
        "the clock skew of {} s is more than libkrb5 on this host allows ({} s): set clockskew in \
         [libdefaults] of its krb5.conf first",
        asked.as_secs(), library.as_secs()
    )]
    ClockSkew { asked: Duration, library: Duration },
    #[error("libkrb5 does not say how far clocks may differ: {0}")]
    Library(#[from] Krb5Error),
}

/// MS-KILE section 3.4.5: a client that asserts KERB_AP_OPTIONS_CBT binds wherever it knows a channel.
fn binds_always(open: &OpenRequest<'_>) -> Result<bool, AcceptError> {
    let options = open.ap_options()?;
    Ok(options.is_some_and(|options| options & KERB_AP_OPTIONS_CBT != 0))
}

fn name(text: Option<String>) -> Result<Principal, AcceptError> {
    let text = text.ok_or(AcceptError::ClientNameNotText)?;
    Principal::parse(&text).map_err(AcceptError::ClientName)
}

/// MS-KILE section 2.2.5.
const KERB_AP_OPTIONS_CBT: u32 = 0x4000;
