//! The client side of SASL's GSSAPI mechanism (RFC 4752), for logins to a directory with a keytab
//! and no password. Bytes in, bytes out: how a protocol frames them is its own matter.

use std::fmt;

use crate::acceptor::ChannelBindings;
use crate::gss::{ClientContext, Status};
use crate::initiator::{InitiateError, Initiator};

/// How messages after the login are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityLayer {
    /// Not at all: for connections that TLS protects.
    None,
    /// Signed, and readable by everyone on the way.
    Integrity,
    /// Signed and encrypted.
    Confidentiality,
}

impl SecurityLayer {
    /// The bit of RFC 4752 section 3.3.
    fn bit(self) -> u8 {
        match self {
            Self::None => 1,
            Self::Integrity => 2,
            Self::Confidentiality => 4,
        }
    }
}

impl Initiator {
    /// Begins a login to `spn` (`ldap@host` or `ldap/host[@REALM]`, as in
    /// [`Initiator::negotiate`]).
    ///
    /// `layers` are those that the caller can live with, the best first: over TLS
    /// [`SecurityLayer::None`], over an open connection [`SecurityLayer::Confidentiality`]. Of
    /// those that the server offers the first is taken; if it offers none of them, the login fails.
    /// `bindings` tie it to the TLS connection, which Active Directory can be told to insist on.
    pub fn sasl(
        &self,
        spn: &str,
        layers: &[SecurityLayer],
        bindings: Option<&ChannelBindings>,
    ) -> Result<SaslClient, InitiateError> {
        // RFC 4752 section 3.1: integrity and sequence where a layer is wanted, confidentiality
        // where that is. (MIT's library sends the flags whatever is asked for.)
        let mut wanted = libgssapi_sys::GSS_C_MUTUAL_FLAG;
        if layers.iter().any(|layer| *layer != SecurityLayer::None) {
            wanted |= libgssapi_sys::GSS_C_INTEG_FLAG
                | libgssapi_sys::GSS_C_REPLAY_FLAG
                | libgssapi_sys::GSS_C_SEQUENCE_FLAG;
        }
        if layers.contains(&SecurityLayer::Confidentiality) {
            wanted |= libgssapi_sys::GSS_C_CONF_FLAG;
        }
        Ok(SaslClient {
            context: self.context(spn, wanted, bindings)?,
            layers: layers.to_vec(),
            state: State::Start,
            client: self.client().to_owned(),
            server: spn.to_owned(),
        })
    }
}

/// One login and, after it, the protection of its connection. It may move between threads.
pub struct SaslClient {
    context: ClientContext,
    layers: Vec<SecurityLayer>,
    state: State,
    client: String,
    server: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Context,
    Negotiation,
    Complete {
        layer: SecurityLayer,
        /// The longest message whose wrapping the server takes.
        max_message: usize,
    },
    Failed,
}

impl SaslClient {
    /// The mechanism's name in SASL.
    pub const MECHANISM: &str = "GSSAPI";

    /// Takes the server's challenge, none at first, and gives the response to it, which may be
    /// empty and is to be sent even so. The first step asks the KDC for a ticket where there is
    /// none yet, and blocks for that.
    ///
    /// Complete when [`SaslClient::is_complete`] says so after a step; what the server sends then
    /// is its verdict, in the protocol's own form. After an error the login is over.
    pub fn step(&mut self, challenge: Option<&[u8]>) -> Result<Vec<u8>, InitiateError> {
        let state = std::mem::replace(&mut self.state, State::Failed);
        let challenge = challenge.filter(|challenge| !challenge.is_empty());
        let (response, next) = match (state, challenge) {
            (State::Start, None) => {
                let response = self.context.step(None).map_err(|status| {
                    InitiateError::from_status(status, &self.client, Some(&self.server))
                })?;
                (response, State::Context)
            }
            (State::Context, Some(token)) => {
                let response = self
                    .context
                    .step(Some(token))
                    .map_err(|status| InitiateError::NotMutual { text: status.text })?;
                match self.context.is_complete() {
                    true => (response, State::Negotiation),
                    false => (response, State::Context),
                }
            }
            (State::Negotiation, Some(offer)) => self.choose(offer)?,
            (State::Start, Some(_)) => return Err(self.broken("it speaks first")),
            (State::Context | State::Negotiation, None) => {
                return Err(self.broken("its challenge is empty"));
            }
            (State::Complete { .. }, _) => return Err(self.broken("it goes on after the end")),
            (State::Failed, _) => return Err(self.broken("the login has failed before")),
        };
        self.state = next;
        Ok(response)
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete { .. })
    }

    /// What was agreed on; `None` before the login is complete.
    pub fn layer(&self) -> Option<SecurityLayer> {
        match self.state {
            State::Complete { layer, .. } => Some(layer),
            _ => None,
        }
    }

    /// The longest message that [`SaslClient::wrap`] takes; longer ones go in several parts.
    pub fn max_message(&self) -> usize {
        match self.state {
            State::Complete { max_message, .. } => max_message,
            _ => 0,
        }
    }

    /// Protects a message for the server. The length of four bytes that goes ahead on the wire (RFC
    /// 4422 section 3.7) is the caller's to write. Only where a layer was agreed on; without one
    /// messages travel as they are.
    pub fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>, InitiateError> {
        let (encrypt, most) = self.protection()?;
        if message.len() > most {
            return Err(InitiateError::MessageTooLarge {
                bytes: message.len(),
                most,
            });
        }
        self.context
            .wrap(encrypt, message)
            .map_err(|status| self.failed(status))
    }

    /// Opens a message of the server: refused if it was altered, repeated, left out or reordered,
    /// or came without the encryption that was agreed on.
    pub fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>, InitiateError> {
        let (encrypt, _) = self.protection()?;
        if message.len() > MAX_WRAPPED_BYTES {
            return Err(InitiateError::MessageTooLarge {
                bytes: message.len(),
                most: MAX_WRAPPED_BYTES,
            });
        }
        let (message, encrypted) = self
            .context
            .unwrap(message)
            .map_err(|status| self.failed(status))?;
        if encrypt && !encrypted {
            return Err(self.broken("it sent a message that is not encrypted"));
        }
        Ok(message)
    }

    /// The longest wrapped message that the server may send. A caller that reads a greater length
    /// should close the connection before it makes room.
    pub const MAX_WRAPPED: usize = MAX_WRAPPED_BYTES;

    /// RFC 4752 section 3.1, last part: the server's offer is a set of layers and the size of its
    /// buffer, wrapped; the answer is one layer and the size of ours, wrapped. No authorization
    /// identity: the login is for the principal itself.
    fn choose(&mut self, offer: &[u8]) -> Result<(Vec<u8>, State), InitiateError> {
        let (offer, _) = self
            .context
            .unwrap(offer)
            .map_err(|status| self.failed(status))?;
        let [offered, size @ ..] = <[u8; 4]>::try_from(offer.as_slice())
            .map_err(|_| self.broken("its offer has not four bytes"))?;
        let size = u32::from_be_bytes([0, size[0], size[1], size[2]]);
        let is_offered = |layer: &SecurityLayer| {
            // A layer with a buffer of nothing is none.
            offered & layer.bit() != 0 && (*layer == SecurityLayer::None || size > 0)
        };
        let Some(layer) = self.layers.iter().copied().find(is_offered) else {
            let mut all = vec![
                SecurityLayer::None,
                SecurityLayer::Integrity,
                SecurityLayer::Confidentiality,
            ];
            all.retain(is_offered);
            return Err(InitiateError::NoSecurityLayer {
                server: self.server.clone(),
                offered: all,
            });
        };
        let (own_size, max_message) = match layer {
            SecurityLayer::None => (0, 0),
            layer => {
                let encrypt = layer == SecurityLayer::Confidentiality;
                let limit = self
                    .context
                    .wrap_size_limit(encrypt, size)
                    .map_err(|status| self.failed(status))?;
                if limit == 0 {
                    return Err(self.broken("its buffer has no room for a message"));
                }
                (MAX_WRAPPED_BYTES as u32, limit as usize) // less than 2^24
            }
        };
        let [_, own_size @ ..] = own_size.to_be_bytes();
        let answer = [layer.bit(), own_size[0], own_size[1], own_size[2]];
        let answer = self
            .context
            .wrap(false, &answer)
            .map_err(|status| self.failed(status))?;
        Ok((answer, State::Complete { layer, max_message }))
    }

    fn protection(&self) -> Result<(bool, usize), InitiateError> {
        match self.state {
            State::Complete {
                layer: layer @ (SecurityLayer::Integrity | SecurityLayer::Confidentiality),
                max_message,
            } => Ok((layer == SecurityLayer::Confidentiality, max_message)),
            _ => Err(self.broken("no security layer was agreed on")),
        }
    }

    fn failed(&self, status: Status) -> InitiateError {
        self.broken(&status.text)
    }

    fn broken(&self, text: &str) -> InitiateError {
        InitiateError::Sasl {
            server: self.server.clone(),
            text: text.to_owned(),
        }
    }
}

impl fmt::Debug for SaslClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslClient")
            .field("server", &self.server)
            .field("layer", &self.layer())
            .finish_non_exhaustive()
    }
}

/// What is told to the server, and the bound on what is believed: a directory's answers come in
/// several messages where they are larger.
const MAX_WRAPPED_BYTES: usize = 1 << 20;
