//! How an answer goes out: Vault's envelope, or a body of its own.

use obol_mount::{Auth, Error, Reply, Response, Result, WrapInfo};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::request::Outgoing;

impl Outgoing {
    /// The body of an error, as Vault's clients expect it.
    pub fn error(error: &Error) -> Self {
        let body = serde_json::json!({ "errors": error.messages() })
            .to_string()
            .into_bytes();
        Self::json(error.status(), error.headers().to_vec(), body)
    }

    pub(super) fn json(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Self {
        Self {
            status,
            headers,
            content_type: "application/json",
            body,
            stream: None,
        }
    }

    /// The answer to a request. `top_level_too` repeats `data` beside the envelope's own fields.
    pub(super) fn encode(
        id: &str,
        response: &Response,
        auth: Option<&Auth>,
        wrap_info: Option<&WrapInfo>,
        top_level_too: bool,
    ) -> Result<Self> {
        let Response {
            reply,
            status,
            warnings,
            headers,
            lease,
        } = response;
        let (wrap_info, headers) = (
            match reply {
                Reply::Wrapped(info) => Some(&**info),
                _ => wrap_info,
            },
            headers.clone(),
        );
        let (data, top_level) = match reply {
            Reply::Empty
                if warnings.is_empty()
                    && auth.is_none()
                    && wrap_info.is_none()
                    && lease.is_none() =>
            {
                return Ok(Self::json(status.unwrap_or(204), headers, Vec::new()));
            }
            Reply::Bare(value) => {
                let body = serde_json::to_vec(value).map_err(Error::internal)?;
                return Ok(Self::json(status.unwrap_or(200), headers, body));
            }
            Reply::Text(text) => {
                let body = text.text.clone().into_bytes();
                return Ok(Self {
                    content_type: text.content_type,
                    ..Self::json(status.unwrap_or(200), headers, body)
                });
            }
            // What streams is put in by whoever owns the reply.
            Reply::Stream(stream) => {
                return Ok(Self {
                    content_type: stream.content_type,
                    ..Self::json(status.unwrap_or(200), headers, Vec::new())
                });
            }
            // A flattened field cannot be written ahead.
            reply => (
                match reply {
                    Reply::Data(data) => Some(Shown::Tree(data)),
                    Reply::Json(data) => Some(Shown::Written(data)),
                    _ => None,
                },
                top_level_too.then(|| reply.to_data()).flatten(),
            ),
        };
        let envelope = Envelope {
            request_id: id,
            lease_id: lease.as_ref().map_or("", |lease| &lease.id),
            renewable: lease.as_ref().is_some_and(|lease| lease.renewable),
            lease_duration: lease.as_ref().map_or(0, |lease| lease.ttl.as_secs()),
            data,
            wrap_info,
            warnings: (!warnings.is_empty()).then_some(warnings),
            auth,
        };
        let mut body = Vec::with_capacity(512);
        match top_level {
            Some(mut top_level) => {
                let whole = Shown::Tree(&top_level.clone());
                top_level.retain(|key, _| !OWN.contains(&key.as_str()));
                let both = WithTopLevel {
                    envelope: Envelope {
                        data: Some(whole),
                        ..envelope
                    },
                    top_level,
                };
                serde_json::to_writer(&mut body, &both)
            }
            None => serde_json::to_writer(&mut body, &envelope),
        }
        .map_err(Error::internal)?;
        Ok(Self::json(status.unwrap_or(200), headers, body))
    }
}

/// Vault's envelope, in Vault's order.
#[derive(Serialize)]
struct Envelope<'a> {
    request_id: &'a str,
    lease_id: &'a str,
    renewable: bool,
    lease_duration: u64,
    data: Option<Shown<'a>>,
    wrap_info: Option<&'a WrapInfo>,
    warnings: Option<&'a [String]>,
    auth: Option<&'a Auth>,
}

/// `data`, as it is or as it is written already.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Tree(&'a Map<String, Value>),
    Written(&'a RawValue),
}

/// An envelope, and beside its fields those of `data`: older clients read what `sys/` answers there.
#[derive(Serialize)]
struct WithTopLevel<'a> {
    #[serde(flatten)]
    envelope: Envelope<'a>,
    #[serde(flatten)]
    top_level: Map<String, Value>,
}

/// The envelope's own fields.
const OWN: [&str; 8] = [
    "request_id",
    "lease_id",
    "renewable",
    "lease_duration",
    "data",
    "wrap_info",
    "warnings",
    "auth",
];
