//! What a client sends after `Negotiate` (RFC 4559): SPNEGO (RFC 4178), the
//! GSS frame (RFC 2743 section 3.1) and the Kerberos AP-REQ (RFC 4120 section 5.5.1). The acceptor
//! takes the AP-REQ that is found here and hands on nothing else, so there is one reading
//! of the outer frames, and the bytes that libkrb5 sees are the bytes that the replay digest was
//! made of.
//!
//! Strict DER through the `der` crate: field by field, no unknown field, nothing after the end. A
//! reader of BER that knows the same fields can only read the same values, so nobody can re-encode
//! a captured token such that libkrb5 accepts it while this file sees another authenticator.
//! (Compared: `picky-krb` brings a stack of ciphers and serde, `rasn-kerberos` a compiler-sized
//! runtime; both are lenient about BER. `der` has no dependencies, and RustCrypto reads X.509 with
//! it.)

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use der::asn1::{AnyRef, BitStringRef, GeneralStringRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode, Enumerated, Header, Reader, Sequence, SliceReader, Tag, TagNumber};
use ring::digest;
use thiserror::Error;

use crate::enctype::Enctype;
use crate::principal::{Principal, PrincipalError};

/// Takes the token out of the value of an `Authorization` header. The scheme is compared without
/// case (RFC 9110 section 11.1); the token is standard base64, with or without padding.
pub fn parse_authorization_header(value: &str) -> Result<Vec<u8>, HeaderError> {
    let value = value.trim();
    let (scheme, token) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("Negotiate") {
        return Err(HeaderError::OtherScheme);
    }
    let token = token.trim();
    if token.is_empty() {
        return Err(HeaderError::NoToken);
    }
    if token.len() > MAX_TOKEN_BYTES.div_ceil(3) * 4 {
        return Err(HeaderError::TooLarge);
    }
    let bytes = BASE64.decode(token).map_err(|_| HeaderError::NotBase64)?;
    if bytes.len() > MAX_TOKEN_BYTES {
        return Err(HeaderError::TooLarge);
    }
    Ok(bytes)
}

/// What a Negotiate token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NegotiateToken<'a> {
    /// A first SPNEGO token: the mechanisms in the client's order, and the token for the first of
    /// them.
    Spnego {
        mechs: Vec<Mechanism>,
        mech_token: Option<&'a [u8]>,
    },
    /// A GSS token of the Kerberos mechanism without SPNEGO around it.
    Kerberos(&'a [u8]),
    /// NTLM, plain or as the first choice inside SPNEGO.
    Ntlm { in_spnego: bool },
    /// A later SPNEGO token of a negotiation that was never begun here.
    Continuation,
}

impl<'a> NegotiateToken<'a> {
    pub fn parse(token: &'a [u8]) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLarge);
        }
        if token.starts_with(NTLM_SIGNATURE) {
            return Ok(Self::Ntlm { in_spnego: false });
        }
        if token.first() == Some(&NEG_TOKEN_RESP_TAG) {
            return Ok(Self::Continuation);
        }
        let (mech, inner) = unframe(token)?;
        if mech == KRB5 {
            return Ok(Self::Kerberos(token));
        }
        if mech != SPNEGO {
            return Err(TokenError::OtherMechanism(Mechanism::from(mech)));
        }
        let init: NegTokenInit<'_> = explicit(inner, 0, "NegTokenInit")?;
        let mechs: Vec<Mechanism> = init.mech_types.into_iter().map(Mechanism::from).collect();
        let mech_token = init.mech_token.map(|token| token.as_bytes());
        let first = *mechs.first().ok_or(TokenError::NoMechanism)?;
        if first == Mechanism::Ntlm
            || mech_token.is_some_and(|token| token.starts_with(NTLM_SIGNATURE))
        {
            return Ok(Self::Ntlm { in_spnego: true });
        }
        // The checksum of the list is due after the context is complete; in a first token it means
        // a peer that speaks something else (RFC 4178 section 5).
        if init.mech_list_mic.is_some() {
            return Err(TokenError::malformed(
                "NegTokenInit",
                "an early mechListMIC",
            ));
        }
        Ok(Self::Spnego { mechs, mech_token })
    }

    /// The GSS-framed Kerberos token, if the client's first choice is Kerberos and it sent one
    /// along.
    pub fn kerberos(&self) -> Result<&'a [u8], TokenError> {
        match self {
            Self::Kerberos(token) => Ok(token),
            Self::Spnego { mechs, mech_token } => match mechs.first() {
                Some(Mechanism::Kerberos | Mechanism::MsKerberos) => {
                    mech_token.ok_or(TokenError::NoMechToken)
                }
                Some(other) => Err(TokenError::OtherMechanism(*other)),
                None => Err(TokenError::NoMechanism),
            },
            Self::Ntlm { .. } => Err(TokenError::Ntlm),
            Self::Continuation => Err(TokenError::Continuation),
        }
    }
}

/// The parts of an AP-REQ that are readable without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApRequest<'a> {
    /// The service the ticket is for, in the ticket's realm.
    pub service: Principal,
    pub ticket_enctype: Enctype,
    /// The version of the service's key, where the ticket says.
    pub ticket_kvno: Option<u32>,
    /// The type of the session key, under which the authenticator is encrypted.
    pub session_enctype: Enctype,
    /// The client asks for mutual authentication.
    pub mutual: bool,
    /// The encrypted authenticator.
    pub authenticator: &'a [u8],
    /// The whole AP-REQ, for libkrb5.
    pub(crate) message: &'a [u8],
}

impl<'a> ApRequest<'a> {
    /// Reads a GSS-framed Kerberos token (what [`NegotiateToken::kerberos`] gives).
    pub fn parse(token: &'a [u8]) -> Result<Self, TokenError> {
        let (mech, inner) = unframe(token)?;
        if mech != KRB5 {
            return Err(TokenError::OtherMechanism(Mechanism::from(mech)));
        }
        // RFC 4121 section 4.1: the two bytes 01 00 mark a KRB_AP_REQ.
        let Some(message) = inner.strip_prefix(&[1, 0]) else {
            return Err(TokenError::NotApReq);
        };
        let request: ApReq<'_> = application(message, 14, "AP-REQ")?;
        if request.pvno != 5 || request.msg_type != 14 {
            return Err(TokenError::malformed(
                "AP-REQ",
                "a version or message type that is not 5 and 14",
            ));
        }
        let ticket: Ticket<'_> = application_any(&request.ticket, 1, "Ticket")?;
        if ticket.tkt_vno != 5 {
            return Err(TokenError::malformed("Ticket", "a version that is not 5"));
        }
        let components = ticket
            .sname
            .name_string
            .iter()
            .map(text)
            .collect::<Result<Vec<_>, _>>()?;
        let service =
            Principal::new(components, text(&ticket.realm)?).map_err(TokenError::Service)?;
        let options = request
            .ap_options
            .as_bytes()
            .filter(|bytes| bytes.len() >= 4)
            .ok_or_else(|| TokenError::malformed("AP-REQ", "options of fewer than 32 bits"))?;
        if options[0] & AP_OPTION_USE_SESSION_KEY != 0 {
            return Err(TokenError::UserToUser);
        }
        Ok(Self {
            service,
            ticket_enctype: Enctype::from_number(ticket.enc_part.etype),
            ticket_kvno: ticket.enc_part.kvno()?,
            session_enctype: Enctype::from_number(request.authenticator.etype),
            mutual: options[0] & AP_OPTION_MUTUAL_REQUIRED != 0,
            authenticator: request.authenticator.cipher.as_bytes(),
            message,
        })
    }

    /// SHA-256 over the encrypted authenticator alone. It is fresh for every request (random
    /// confounder, time, sequence number) and its integrity is protected by the session key, so
    /// that nobody without the key can change a bit of it, while everything around it can be framed
    /// anew.
    pub fn authenticator_digest(&self) -> [u8; 32] {
        digest::digest(&digest::SHA256, self.authenticator)
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes")
    }
}

/// The replay key of a Negotiate token: see [`ApRequest::authenticator_digest`].
pub fn authenticator_digest(token: &[u8]) -> Result<[u8; 32], TokenError> {
    let token = NegotiateToken::parse(token)?;
    Ok(ApRequest::parse(token.kerberos()?)?.authenticator_digest())
}

/// Frames the acceptor's answer, an AP-REP, as the client framed its request: a finished NegTokenResp around it
/// for SPNEGO, naming the mechanism that the client listed first.
///
/// No mechListMIC: RFC 4178 section 5 lets both sides leave it out when the first choice was taken.
pub(crate) fn frame_reply(
    request: &NegotiateToken<'_>,
    ap_rep: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, TokenError> {
    // RFC 4121 section 4.1: the two bytes 02 00 mark a KRB_AP_REP.
    let framed = |ap_rep| frame(KRB5, &[&[2, 0], ap_rep]).map_err(der_error("the GSS frame"));
    let ap_rep = ap_rep.map(framed).transpose()?;
    let NegotiateToken::Spnego { mechs, .. } = request else {
        return Ok(ap_rep);
    };
    let response = NegTokenResp {
        neg_state: Some(NegState::AcceptCompleted),
        supported_mech: mechs.first().map(|mech| mech.oid()),
        response_token: ap_rep
            .as_deref()
            .map(OctetStringRef::new)
            .transpose()
            .map_err(der_error("NegTokenResp"))?,
        mech_list_mic: None,
    };
    tagged_explicit(1, &response)
        .map(Some)
        .map_err(der_error("NegTokenResp"))
}

/// Frames an initiator's Kerberos token as a first SPNEGO token that offers Kerberos alone.
pub(crate) fn frame_init(ap_req: &[u8]) -> Result<Vec<u8>, TokenError> {
    let init = NegTokenInit {
        mech_types: vec![KRB5],
        req_flags: None,
        mech_token: Some(OctetStringRef::new(ap_req).map_err(der_error("NegTokenInit"))?),
        mech_list_mic: None,
    };
    tagged_explicit(0, &init)
        .and_then(|init| frame(SPNEGO, &[&init]))
        .map_err(der_error("NegTokenInit"))
}

/// Reads the acceptor's answer to [`frame_init`]: the Kerberos token inside, if the negotiation is
/// complete.
pub(crate) fn read_reply(token: &[u8]) -> Result<Option<&[u8]>, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLarge);
    }
    // A peer without SPNEGO answers with the Kerberos token itself.
    if token.first() != Some(&NEG_TOKEN_RESP_TAG) {
        let (mech, _) = unframe(token)?;
        return if mech == KRB5 {
            Ok(Some(token))
        } else {
            Err(TokenError::OtherMechanism(Mechanism::from(mech)))
        };
    }
    let response: NegTokenResp<'_> = explicit(token, 1, "NegTokenResp")?;
    match response.neg_state {
        Some(NegState::AcceptCompleted) => {}
        Some(NegState::Reject) => return Err(TokenError::Rejected),
        _ => return Err(TokenError::NotCompleted),
    }
    if let Some(mech) = response.supported_mech
        && mech != KRB5
    {
        return Err(TokenError::OtherMechanism(Mechanism::from(mech)));
    }
    Ok(response.response_token.map(|token| token.as_bytes()))
}

/// A GSS mechanism, by its object identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// 1.2.840.113554.1.2.2
    Kerberos,
    /// 1.2.840.48018.1.2.2: Kerberos under the number that Windows 2000 got wrong and Windows still
    /// lists.
    MsKerberos,
    /// 1.3.6.1.4.1.311.2.2.10
    Ntlm,
    /// 1.3.6.1.4.1.311.2.2.30
    NegoEx,
    Other(ObjectIdentifier),
}

impl Mechanism {
    fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Kerberos => KRB5,
            Self::MsKerberos => MS_KRB5,
            Self::Ntlm => NTLMSSP,
            Self::NegoEx => NEGOEX,
            Self::Other(oid) => oid,
        }
    }
}

impl From<ObjectIdentifier> for Mechanism {
    fn from(oid: ObjectIdentifier) -> Self {
        match oid {
            KRB5 => Self::Kerberos,
            MS_KRB5 => Self::MsKerberos,
            NTLMSSP => Self::Ntlm,
            NEGOEX => Self::NegoEx,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kerberos => f.write_str("Kerberos"),
            Self::MsKerberos => f.write_str("Kerberos (Microsoft's number)"),
            Self::Ntlm => f.write_str("NTLM"),
            Self::NegoEx => f.write_str("NegoEx"),
            Self::Other(oid) => write!(f, "mechanism {oid}"),
        }
    }
}

/// Why an `Authorization` header gives no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    #[error("the Authorization header has another scheme than Negotiate")]
    OtherScheme,
    #[error("the Authorization header says Negotiate and carries no token")]
    NoToken,
    #[error("the Negotiate token is not base64")]
    NotBase64,
    #[error("the Negotiate token is larger than {MAX_TOKEN_BYTES} bytes")]
    TooLarge,
}

/// Why a token is not taken for a Kerberos request. No variant carries the token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("the token is larger than {MAX_TOKEN_BYTES} bytes")]
    TooLarge,
    #[error("the token is no GSS token")]
    NotGss,
    #[error("{what}: {why}")]
    Malformed { what: &'static str, why: String },
    #[error("the client offers no mechanism")]
    NoMechanism,
    #[error("the client names Kerberos and sends no Kerberos token with it")]
    NoMechToken,
    #[error("the client's first choice is {0}")]
    OtherMechanism(Mechanism),
    #[error("the client sent NTLM")]
    Ntlm,
    #[error("the client continues a negotiation that is not open")]
    Continuation,
    #[error("the Kerberos token holds no AP-REQ")]
    NotApReq,
    #[error("the client asks for user-to-user authentication")]
    UserToUser,
    #[error("the ticket's service name: {0}")]
    Service(PrincipalError),
    #[error("the peer rejected the negotiation")]
    Rejected,
    #[error("the peer did not complete the negotiation in one step")]
    NotCompleted,
}

impl TokenError {
    fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed {
            what,
            why: why.into(),
        }
    }
}

/// The largest token read, in bytes after base64: tickets of users in many groups reach 64 KiB
/// (MS-KILE's largest MaxTokenSize is 65,535).
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// RFC 4178 section 4.2.1.
#[derive(Sequence)]
struct NegTokenInit<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    mech_types: Vec<ObjectIdentifier>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    req_flags: Option<BitStringRef<'a>>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    mech_token: Option<&'a OctetStringRef>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    mech_list_mic: Option<&'a OctetStringRef>,
}

/// RFC 4178 section 4.2.2.
#[derive(Sequence)]
struct NegTokenResp<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    neg_state: Option<NegState>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    supported_mech: Option<ObjectIdentifier>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    response_token: Option<&'a OctetStringRef>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    mech_list_mic: Option<&'a OctetStringRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated)]
#[repr(u8)]
enum NegState {
    AcceptCompleted = 0,
    AcceptIncomplete = 1,
    Reject = 2,
    RequestMic = 3,
}

/// RFC 4120 section 5.5.1, inside [APPLICATION 14].
#[derive(Sequence)]
struct ApReq<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pvno: i32,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    msg_type: i32,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    ap_options: BitStringRef<'a>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    ticket: AnyRef<'a>,
    #[asn1(context_specific = "4", tag_mode = "EXPLICIT")]
    authenticator: EncryptedData<'a>,
}

/// RFC 4120 section 5.3, inside [APPLICATION 1].
#[derive(Sequence)]
struct Ticket<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    tkt_vno: i32,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    realm: GeneralStringRef<'a>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    sname: PrincipalName<'a>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    enc_part: EncryptedData<'a>,
}

/// RFC 4120 section 5.2.2.
#[derive(Sequence)]
struct PrincipalName<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    name_type: i32,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    name_string: Vec<GeneralStringRef<'a>>,
}

/// RFC 4120 section 5.2.9.
#[derive(Sequence)]
struct EncryptedData<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    etype: i32,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    kvno: Option<i64>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    cipher: &'a OctetStringRef,
}

impl EncryptedData<'_> {
    /// Unsigned in RFC 4120, but read-only domain controllers set the high bit and some encoders
    /// then write a negative number.
    fn kvno(&self) -> Result<Option<u32>, TokenError> {
        self.kvno
            .map(|kvno| {
                u32::try_from(kvno)
                    .or_else(|_| i32::try_from(kvno).map(|negative| negative as u32))
                    .map_err(|_| {
                        TokenError::malformed("EncryptedData", "a key version of more than 32 bits")
                    })
            })
            .transpose()
    }
}

/// Takes the GSS frame off: [APPLICATION 0] around an object identifier and bytes of that
/// mechanism's own.
fn unframe(token: &[u8]) -> Result<(ObjectIdentifier, &[u8]), TokenError> {
    if token.first() != Some(&0x60) {
        return Err(TokenError::NotGss);
    }
    let body = application_value(token, 0).map_err(der_error("the GSS frame"))?;
    let mut reader = SliceReader::new(body).map_err(der_error("the GSS frame"))?;
    let mech = ObjectIdentifier::decode(&mut reader).map_err(der_error("the GSS frame"))?;
    let read = usize::try_from(reader.position()).map_err(der_error("the GSS frame"))?;
    Ok((mech, &body[read..]))
}

/// Puts the GSS frame around a mechanism's own bytes.
fn frame(mech: ObjectIdentifier, parts: &[&[u8]]) -> der::Result<Vec<u8>> {
    let mut body = mech.to_der()?;
    for part in parts {
        body.extend_from_slice(part);
    }
    let tag = Tag::Application {
        constructed: true,
        number: TagNumber(0),
    };
    let mut out = Header::new(tag, body.len().try_into()?).to_der()?;
    out.extend(body);
    Ok(out)
}

fn application<'a, T: Decode<'a, Error = der::Error>>(
    bytes: &'a [u8],
    number: u32,
    what: &'static str,
) -> Result<T, TokenError> {
    application_value(bytes, number)
        .and_then(T::from_der)
        .map_err(der_error(what))
}

fn application_any<'a, T: Decode<'a, Error = der::Error>>(
    any: &AnyRef<'a>,
    number: u32,
    what: &'static str,
) -> Result<T, TokenError> {
    let expected = Tag::Application {
        constructed: true,
        number: TagNumber(number),
    };
    der::Tagged::tag(any)
        .assert_eq(expected)
        .and_then(|_| T::from_der(any.value()))
        .map_err(der_error(what))
}

/// The value of one constructed [APPLICATION number], which must be all there is.
fn application_value(bytes: &[u8], number: u32) -> der::Result<&[u8]> {
    let expected = Tag::Application {
        constructed: true,
        number: TagNumber(number),
    };
    let any = AnyRef::from_der(bytes)?;
    der::Tagged::tag(&any).assert_eq(expected)?;
    Ok(any.value())
}

/// One value under an explicit context tag, which must be all there is.
fn explicit<'a, T: Decode<'a, Error = der::Error>>(
    bytes: &'a [u8],
    number: u32,
    what: &'static str,
) -> Result<T, TokenError> {
    let expected = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    };
    let read = || -> der::Result<T> {
        let any = AnyRef::from_der(bytes)?;
        der::Tagged::tag(&any).assert_eq(expected)?;
        T::from_der(any.value())
    };
    read().map_err(der_error(what))
}

fn tagged_explicit<T: Encode>(number: u32, value: &T) -> der::Result<Vec<u8>> {
    let tag = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    };
    let mut out = Header::new(tag, value.encoded_len()?).to_der()?;
    value.encode_to_vec(&mut out)?;
    Ok(out)
}

fn text<'a>(name: &GeneralStringRef<'a>) -> Result<&'a str, TokenError> {
    std::str::from_utf8(name.as_bytes())
        .map_err(|_| TokenError::malformed("Ticket", "a name that is not UTF-8"))
}

/// The reader's own words name the place and the tag, never the contents.
fn der_error(what: &'static str) -> impl Fn(der::Error) -> TokenError {
    move |error| TokenError::malformed(what, error.to_string())
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const SPNEGO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.2");
const KRB5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113554.1.2.2");
const MS_KRB5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.48018.1.2.2");
const NTLMSSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.2.10");
const NEGOEX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.2.30");

const NTLM_SIGNATURE: &[u8] = b"NTLMSSP\0";
/// The context tag [1] of a NegTokenResp, which travels without a GSS frame.
const NEG_TOKEN_RESP_TAG: u8 = 0xa1;
/// The first byte of KerberosFlags: bit 0 is reserved, bit 1 use-session-key, bit 2
/// mutual-required.
const AP_OPTION_USE_SESSION_KEY: u8 = 0x40;
const AP_OPTION_MUTUAL_REQUIRED: u8 = 0x20;
