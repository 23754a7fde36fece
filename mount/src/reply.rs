//! What a handler may answer: data, nothing, a list of keys, or a login. Never an error and a login at once:
//! an error is the other side of the `Result`.

use std::any::Any;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use obol_storage::Batch;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::{Auth, Error, Lease, Result, TokenKind, WrapInfo};

/// An answer as the core takes it.
#[derive(Debug)]
pub struct Response {
    pub reply: Reply,
    /// `None`: 200, or 204 for [`Reply::Empty`].
    pub status: Option<u16>,
    pub warnings: Vec<String>,
    pub headers: Vec<(&'static str, String)>,
    /// What is answered is leased: registered by the core before the client sees it.
    pub lease: Option<Lease>,
}

impl Response {
    pub fn new(reply: Reply) -> Self {
        Self {
            reply,
            status: None,
            warnings: Vec::new(),
            headers: Vec::new(),
            lease: None,
        }
    }

    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub fn with_warning(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }
}

#[derive(Debug)]
pub enum Reply {
    /// 204.
    Empty,
    /// Goes into `data` of the envelope.
    Data(Map<String, Value>),
    /// The same, an object that is written already.
    Json(Box<RawValue>),
    /// Goes out as it is, without an envelope: seal status, health, the OpenAPI document.
    Bare(Value),
    /// The core issues a token for it.
    Login(Box<Login>),
    /// The core has issued a token already (`auth/token/create`, renewals): goes into `auth`.
    Auth(Box<Auth>),
    /// The core has wrapped an answer already (`sys/wrapping/rewrap`): goes into `wrap_info`.
    Wrapped(Box<WrapInfo>),
    /// Text of its own kind, as it is: metrics.
    Text(Text),
    /// Bytes that come piece by piece, as they are: logs. The audit log tells that they were asked for, not what they
    /// were; wrapping them is refused.
    Stream(Stream),
}

/// An answer that is no JSON.
#[derive(Debug)]
pub struct Text {
    pub content_type: &'static str,
    pub text: String,
}

/// An answer that is longer than what should be in memory, or that has no end. It ends when the sender is dropped; an
/// error breaks the connection off, so that the client knows it has not got everything. The sender finds its channel
/// closed when the client has gone.
#[derive(Debug)]
pub struct Stream {
    pub content_type: &'static str,
    pub pieces: mpsc::Receiver<Result<Bytes>>,
}

impl Reply {
    /// What goes into `data`, to be looked at; `None` where there is none.
    pub fn to_data(&self) -> Option<Map<String, Value>> {
        match self {
            Self::Data(data) => Some(data.clone()),
            // It was written by `Reply::json`, so it reads as what it is.
            Self::Json(data) => serde_json::from_str(data.get()).ok(),
            _ => None,
        }
    }

    /// A struct that becomes `data`, written once and never held as a tree.
    pub fn json(data: &impl Serialize) -> Result<Self> {
        object(data).map(Self::Json)
    }
}

/// What becomes `data`: an object, written out.
fn object(data: &impl Serialize) -> Result<Box<RawValue>> {
    let data = to_raw_value(data).map_err(Error::internal)?;
    match data.get().starts_with('{') {
        true => Ok(data),
        false => Err(Error::internal(
            "a handler answered with data that is no object",
        )),
    }
}

/// A proof that was accepted. The core turns it into a token, in one commit with `commit`.
#[derive(Debug, Default)]
pub struct Login {
    /// The name of who logged in, unique in the mount; identity aliases hang on it.
    pub alias: String,
    pub display_name: String,
    pub metadata: BTreeMap<String, String>,
    /// As configured: names are checked when they are stored, and again when the token is issued.
    pub policies: Vec<String>,
    /// What the client is shown beside the token: see [`ShowingLogin`].
    pub data: Option<Box<RawValue>>,
    /// Names of external groups, for identity's group aliases.
    pub group_aliases: Vec<String>,
    pub token: TokenParams,
    pub renewable: bool,
    /// What must become durable together with the token, or refuse it: a replay mark, for example.
    pub commit: Batch,
    /// The refusal when an expectation of `commit` is not met: for a replay mark, that the ticket was used before.
    /// `None`: the general answer for a conflict.
    pub on_conflict: Option<OnConflict>,
    /// What the mount needs to see again when the token is renewed. Stored with the token; no secrets.
    pub internal: Map<String, Value>,
    /// Response headers, for example the acceptor's own token in `WWW-Authenticate`.
    pub headers: Vec<(&'static str, String)>,
    /// Kept until the commit is done, and dropped then: a lock, where logins that spend the same thing must take turns.
    pub held: Option<Box<dyn Any + Send + Sync>>,
}

/// Makes a login's refusal, and logs its cause, once it is known to be one.
pub struct OnConflict(Box<dyn FnOnce() -> Error + Send + Sync>);

impl OnConflict {
    pub fn new(refuse: impl FnOnce() -> Error + Send + Sync + 'static) -> Self {
        Self(Box::new(refuse))
    }

    pub fn refuse(self) -> Error {
        (self.0)()
    }
}

impl fmt::Debug for OnConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnConflict")
    }
}

/// Vault's `token_*` fields, shared by every auth method that has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenParams {
    /// Zero: the mount's default.
    pub ttl: Duration,
    /// Zero: the mount's maximum.
    pub max_ttl: Duration,
    /// Zero: none.
    pub explicit_max_ttl: Duration,
    /// Zero: not periodic.
    pub period: Duration,
    /// Policies added to those of the login.
    pub policies: Vec<String>,
    pub bound_cidrs: Vec<String>,
    /// Zero: no limit.
    pub num_uses: u64,
    pub no_default_policy: bool,
    pub kind: TokenKind,
}

/// What a handler returns. Also says the shape of the answer, for OpenAPI. There is no way around it: a handler that
/// needs more than the types of this file have says in a type of its own what it answers.
pub trait Output: Send + 'static {
    fn into_response(self) -> Result<Response>;

    /// The schema of `data`, or of the whole body where [`Output::PART`] says so; `None` when there is none.
    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }

    /// What of the body the answer fills.
    const PART: Part = Part::Data;
    /// The status of success.
    const STATUS: u16 = 200;
    /// Other statuses of the same answer; 204 among them means that there may be no body.
    const ALSO: &'static [u16] = &[];
    /// What the body is written in.
    const MEDIA: &'static [&'static str] = &["application/json"];
}

/// What of the body an answer fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The envelope's `data`.
    Data,
    /// `auth`, which every new or renewed token has alike; `data` where there is a schema of it.
    Auth,
    /// `wrap_info`, likewise.
    WrapInfo,
    /// All of it: there is no envelope.
    Body,
}

/// 204.
#[derive(Debug, Clone, Copy)]
pub struct NoContent;

impl Output for NoContent {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(Reply::Empty))
    }

    const STATUS: u16 = 204;
}

/// Of a handler that always refuses, with 401: a login that asks for another proof.
impl Output for Infallible {
    fn into_response(self) -> Result<Response> {
        match self {}
    }

    const STATUS: u16 = 401;
}

/// 204; with something to warn of, the core answers 200 and an envelope instead, as Vault does.
#[derive(Debug, Clone, Default)]
pub struct Written {
    pub warnings: Vec<String>,
}

impl Output for Written {
    fn into_response(self) -> Result<Response> {
        Ok(Response {
            warnings: self.warnings,
            ..Response::new(Reply::Empty)
        })
    }

    const STATUS: u16 = 204;
}

/// 202: the work has begun and goes on after the answer; or 200, where it was under way already.
#[derive(Debug, Clone)]
pub struct Begun {
    pub now: bool,
    /// What the client is told of it.
    pub warning: &'static str,
}

impl Output for Begun {
    fn into_response(self) -> Result<Response> {
        let response = Response::new(Reply::Empty).with_warning(self.warning);
        Ok(match self.now {
            true => response.with_status(202),
            false => response,
        })
    }

    const STATUS: u16 = 202;
    const ALSO: &'static [u16] = &[200];
}

/// A struct that is the body, without the envelope.
#[derive(Debug, Clone)]
pub struct Bare<T>(pub T);

impl<T: Serialize + JsonSchema + Send + 'static> Output for Bare<T> {
    fn into_response(self) -> Result<Response> {
        let body = serde_json::to_value(self.0).map_err(Error::internal)?;
        Ok(Response::new(Reply::Bare(body)))
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    const PART: Part = Part::Body;
}

/// `None` is 204: some paths say so where others say 404.
#[derive(Debug, Clone)]
pub struct DataOrNothing<T>(pub Option<T>);

impl<T: Serialize + JsonSchema + Send + 'static> Output for DataOrNothing<T> {
    fn into_response(self) -> Result<Response> {
        match self.0 {
            Some(data) => Data(data).into_response(),
            None => Ok(Response::new(Reply::Empty)),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    const ALSO: &'static [u16] = &[204];
}

/// A struct that becomes `data`.
#[derive(Debug, Clone)]
pub struct Data<T>(pub T);

impl<T: Serialize + JsonSchema + Send + 'static> Output for Data<T> {
    fn into_response(self) -> Result<Response> {
        Reply::json(&self.0).map(Response::new)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }
}

/// A listing: `{"keys": [...]}`, or 404 when there is nothing, as Vault answers.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Keys {
    /// The names, or the accessors where those are listed; a folder ends with a slash.
    pub keys: Vec<String>,
}

impl Output for Keys {
    fn into_response(self) -> Result<Response> {
        if self.keys.is_empty() {
            return Err(Error::not_found());
        }
        Data(self).into_response()
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Self>())
    }
}

/// `None` is 404.
impl<T: Output> Output for Option<T> {
    fn into_response(self) -> Result<Response> {
        self.map_or_else(|| Err(Error::not_found()), T::into_response)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        T::schema(generator)
    }

    const PART: Part = T::PART;
    const STATUS: u16 = T::STATUS;
    const ALSO: &'static [u16] = T::ALSO;
    const MEDIA: &'static [&'static str] = T::MEDIA;
}

/// An answer, and what its client should know besides.
#[derive(Debug, Clone)]
pub struct Warned<T> {
    pub answer: T,
    pub warnings: Vec<String>,
}

impl<T: Output> Output for Warned<T> {
    fn into_response(self) -> Result<Response> {
        let mut response = self.answer.into_response()?;
        response.warnings.extend(self.warnings);
        Ok(response)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        T::schema(generator)
    }

    const PART: Part = T::PART;
    const STATUS: u16 = T::STATUS;
    const ALSO: &'static [u16] = T::ALSO;
    const MEDIA: &'static [&'static str] = T::MEDIA;
}

impl Output for Login {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(Reply::Login(Box::new(self))))
    }

    const PART: Part = Part::Auth;
}

/// A login that shows something in `data` beside the token in `auth`, to those who ask for it.
#[derive(Debug)]
pub struct ShowingLogin<T> {
    pub login: Login,
    pub shown: Option<T>,
}

impl<T: Serialize + JsonSchema + Send + 'static> Output for ShowingLogin<T> {
    fn into_response(mut self) -> Result<Response> {
        self.login.data = self.shown.as_ref().map(object).transpose()?;
        self.login.into_response()
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Option<T>>())
    }

    const PART: Part = Part::Auth;
}
