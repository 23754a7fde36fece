//! The HTTP client of the command line: one request, one answer, with Vault's headers, retries and redirects.
//! It speaks through ureq, which blocks and is small: a command sends a handful of requests, one after another.

mod address;
mod curl;
mod end_point;
mod explain;
mod flags;
mod policy;
mod stream;
mod tls;

use std::net::IpAddr;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use obol_mount::{Secret, duration};
use serde_json::{Map, Value};
use ureq::http::{self, HeaderMap, Uri, header};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Proxy};
use zeroize::Zeroizing;

use super::env::Env;
use super::failure::{Failure, Refusal};
use super::token_store::TokenStore;

pub(super) use address::Address;
pub(super) use curl::quoted;
pub(super) use flags::HttpFlags;
use flags::Settings;

/// A request below `/v1/`.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    body: Option<Value>,
    content_type: &'static str,
    headers: Vec<(&'static str, Secret)>,
    /// Sent by the command itself on the way to what the user asked for: never wrapped, never shown as curl.
    internal: bool,
    wrappable: bool,
    follow: bool,
}

/// What came back with a status below 400, or a 404 that carries data (a deleted version of a secret).
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    /// `Null` for 204.
    pub(super) body: Value,
}

/// Where the token came from, for `-output-curl-string`.
#[derive(Clone, Debug)]
pub(super) enum TokenSource {
    Variable(String),
    /// Kept by an earlier login; with the command that shows it.
    Kept(String),
    Command,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) secret: Secret,
    pub(super) source: TokenSource,
}

pub(super) struct Client {
    settings: Settings,
    tls: ureq::tls::TlsConfig,
    pub(super) token: Option<Token>,
    /// Of the configured address: a command's requests share a connection.
    agent: OnceLock<Agent>,
}

impl Request {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub(super) fn list(path: impl Into<String>) -> Self {
        Self::new("LIST", path)
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    /// Writes go out as PUT, as from Vault's own client.
    pub(super) fn put(path: impl Into<String>, body: Value) -> Self {
        Self {
            body: Some(body),
            ..Self::new("PUT", path)
        }
    }

    pub(super) fn post(path: impl Into<String>, body: Value) -> Self {
        Self {
            body: Some(body),
            ..Self::new("POST", path)
        }
    }

    /// Changes the fields that are given: JSON merge patch, RFC 7396.
    pub(super) fn patch(path: impl Into<String>, body: Value) -> Self {
        Self {
            body: Some(body),
            content_type: "application/merge-patch+json",
            ..Self::new("PATCH", path)
        }
    }

    /// Carries bytes as they are: [`Client::upload`] sends them.
    pub(super) fn post_bytes(path: impl Into<String>) -> Self {
        Self {
            content_type: "application/octet-stream",
            ..Self::new("POST", path).without_wrapping()
        }
    }

    /// A write that carries nothing.
    pub(super) fn put_empty(path: impl Into<String>) -> Self {
        Self::new("PUT", path)
    }

    fn new(method: &'static str, path: impl Into<String>) -> Self {
        let path = path.into();
        Self {
            method,
            path,
            query: Vec::new(),
            body: None,
            content_type: "application/json",
            headers: Vec::new(),
            internal: false,
            wrappable: true,
            follow: true,
        }
    }

    pub(super) fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Values of headers are kept as secrets: one of them is a Kerberos ticket.
    pub(super) fn header(mut self, name: &'static str, value: Secret) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A file or a stream cannot be wrapped; VAULT_WRAP_TTL is for other commands.
    pub(super) fn without_wrapping(mut self) -> Self {
        self.wrappable = false;
        self
    }

    pub(super) fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// A redirect becomes an error: what the request carries is for this server alone.
    pub(super) fn without_redirects(mut self) -> Self {
        self.follow = false;
        self
    }

    /// Whether sending it twice does no more than sending it once.
    fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "LIST")
    }
}

impl Answer {
    /// `data` of the envelope, or the body itself when the endpoint has none.
    pub(super) fn data(&self) -> &Map<String, Value> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        self.body["data"]
            .as_object()
            .or_else(|| self.body.as_object())
            .unwrap_or(&EMPTY)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.body.is_null()
    }
}

impl Client {
    /// Flags first, then the environment; the token from the environment, or else the one that is kept.
    pub(super) fn new(flags: &HttpFlags, env: &Env) -> Result<Self, Failure> {
        let mut client = Self::without_token(flags, env)?;
        client.token = match env.token() {
            Some((variable, secret)) => Some(Token {
                secret,
                source: TokenSource::Variable(variable),
            }),
            None => {
                let store = TokenStore::of(env, client.address())?;
                store.read()?.map(|secret| Token {
                    secret,
                    source: TokenSource::Kept(store.shown_by()),
                })
            }
        };
        Ok(client)
    }

    pub(super) fn without_token(flags: &HttpFlags, env: &Env) -> Result<Self, Failure> {
        let settings = Settings::resolve(flags, env)?;
        let tls = tls::config(&settings.tls)?;
        Ok(Self {
            settings,
            tls,
            token: None,
            agent: OnceLock::new(),
        })
    }

    pub(super) fn address(&self) -> &Address {
        &self.settings.address
    }

    /// Whether requests are printed as a line for curl, and not sent.
    pub(super) fn shows_curl(&self) -> bool {
        self.settings.output_curl_string
    }

    /// Later requests of this command are not wrapped.
    pub(super) fn stop_wrapping(&mut self) {
        self.settings.wrap_ttl = None;
    }

    /// What is printed in the place of the request, where that was asked for.
    fn shown_instead(&self, request: &Request) -> Option<String> {
        if request.internal {
            None
        } else if self.settings.output_policy {
            Some(policy::needed(self, request))
        } else if self.settings.output_curl_string {
            let token = self.token.as_ref();
            Some(curl::command(&self.settings, token, request))
        } else {
            None
        }
    }

    /// Sends a request and expects success. With `-output-curl-string` or `-output-policy` nothing is sent: the
    /// "failure" is the text.
    pub(super) fn send(&self, request: Request) -> Result<Answer, Failure> {
        if let Some(text) = self.shown_instead(&request) {
            return Err(Failure::instead(text));
        }
        let mut target = self.settings.address.clone();
        let mut answer = self.send_to(&target, &request)?;
        if let Some(location) = redirect_of(&answer) {
            if !request.follow || self.settings.disable_redirects {
                return Err(Failure::remote(format!(
                    "{target} redirects to {location}, which is not followed"
                ))
                .hint("Set VAULT_ADDR to the address of the server that answers."));
            }
            let url;
            (target, url) = target.redirected(&location)?;
            answer = self.exchange(&target, &url, &request)?;
            if redirect_of(&answer).is_some() {
                return Err(Failure::remote(format!(
                    "{target} redirects again; one redirect is followed, not two"
                )));
            }
        }
        self.judge(&target, &request, answer)
    }

    /// As [`Client::send`], with `None` for what does not exist.
    pub(super) fn find(&self, request: Request) -> Result<Option<Answer>, Failure> {
        match self.send(request) {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn send_to(&self, target: &Address, request: &Request) -> Result<RawAnswer, Failure> {
        let url = target.url(&request.path, &request.query);
        let mut attempt = 0;
        loop {
            let answer = self.exchange(target, &url, request)?;
            if attempt >= self.settings.max_retries || !worth_retrying(request, &answer) {
                return Ok(answer);
            }
            attempt += 1;
            sleep(pause(attempt, &answer));
        }
    }

    fn exchange(
        &self,
        target: &Address,
        url: &str,
        request: &Request,
    ) -> Result<RawAnswer, Failure> {
        let unreached = |error: &ureq::Error| explain::failure(error, target, &self.settings);
        let agent = self.agent(target)?;
        let builder = self.builder(target, url, request)?;
        let bad =
            |error: http::Error| Failure::local(format!("the request cannot be made: {error}"));
        let response = match (
            &request.body,
            request.is_safe() || request.method == "DELETE",
        ) {
            (None, true) => agent.run(builder.body(()).map_err(bad)?),
            (None, false) => agent.run(builder.body(&b""[..]).map_err(bad)?),
            (Some(body), _) => {
                let bytes = Zeroizing::new(body.to_string().into_bytes());
                let request = builder
                    .header(header::CONTENT_TYPE, request.content_type)
                    .body(bytes.as_slice());
                agent.run(request.map_err(bad)?)
            }
        };
        let mut response = response.map_err(|error| unreached(&error))?;
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(|e| unreached(&e))?;
        let (parts, _) = response.into_parts();
        Ok(RawAnswer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            bytes: Zeroizing::new(bytes),
        })
    }

    /// The request as far as its body.
    fn builder(
        &self,
        target: &Address,
        url: &str,
        request: &Request,
    ) -> Result<http::request::Builder, Failure> {
        let (uri, host) = target.uri_for_tls_name(url, self.settings.tls.server_name.as_deref());
        let mut builder = http::Request::builder().method(request.method).uri(uri);
        if let Some(host) = host {
            builder = builder.header(header::HOST, host);
        }
        for (name, value) in self.headers(request) {
            let mut value = http::HeaderValue::from_str(value.expose()).map_err(|_| {
                Failure::local(format!("the value of the header {name} cannot be sent"))
            })?;
            value.set_sensitive(true);
            builder = builder.header(name, value);
        }
        Ok(builder)
    }

    /// Every header but those of the transport, in the order in which they are sent.
    fn headers(&self, request: &Request) -> Vec<(String, Secret)> {
        let mut headers = vec![("X-Vault-Request".to_owned(), Secret::new("true".to_owned()))];
        if let Some(token) = &self.token {
            headers.push(("X-Vault-Token".to_owned(), token.secret.clone()));
        }
        if let Some(namespace) = &self.settings.namespace {
            headers.push((
                "X-Vault-Namespace".to_owned(),
                Secret::new(namespace.clone()),
            ));
        }
        if let Some(ttl) = self
            .settings
            .wrap_ttl
            .filter(|_| !request.internal && request.wrappable)
        {
            headers.push((
                "X-Vault-Wrap-TTL".to_owned(),
                Secret::new(ttl.as_secs().to_string()),
            ));
        }
        for (name, value) in &self.settings.headers {
            headers.push((name.clone(), Secret::new(value.clone())));
        }
        for (name, value) in &request.headers {
            headers.push(((*name).to_owned(), value.clone()));
        }
        headers
    }

    fn agent(&self, target: &Address) -> Result<Agent, Failure> {
        let limit = Some(self.settings.timeout);
        if *target != self.settings.address {
            return self.new_agent(target, limit);
        }
        match self.agent.get() {
            Some(agent) => Ok(agent.clone()),
            None => {
                let agent = self.new_agent(target, limit)?;
                Ok(self.agent.get_or_init(|| agent).clone())
            }
        }
    }

    /// `limit` is for a whole exchange; connecting has one in any case.
    fn new_agent(&self, target: &Address, limit: Option<Duration>) -> Result<Agent, Failure> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(limit)
            .timeout_connect(Some(self.settings.timeout))
            .tls_config(self.tls.clone())
            .proxy(self.proxy(target)?)
            .max_response_header_size(MAX_HEADERS)
            .user_agent(concat!("obol/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .build();
        let resolver = RealName {
            real: self
                .settings
                .tls
                .server_name
                .is_some()
                .then(|| target.uri()),
        };
        Ok(Agent::with_parts(config, DefaultConnector::new(), resolver))
    }

    /// The proxy of this command, or that of the environment (HTTPS_PROXY and its kin) for a server elsewhere.
    fn proxy(&self, target: &Address) -> Result<Option<Proxy>, Failure> {
        let proxy =
            match &self.settings.proxy {
                Some(address) => Some(Proxy::new(address).map_err(|_| {
                    Failure::local("PROXY_ADDR is not the address of an HTTP proxy")
                })?),
                None if is_loopback(target.host()) => None,
                None => Proxy::try_from_env(),
            };
        if proxy.is_some() && self.settings.tls.server_name.is_some() {
            return Err(Failure::local(
                "-tls-server-name does not work through a proxy",
            ));
        }
        Ok(proxy)
    }

    fn judge(
        &self,
        target: &Address,
        request: &Request,
        answer: RawAnswer,
    ) -> Result<Answer, Failure> {
        let RawAnswer {
            status,
            headers,
            bytes,
        } = answer;
        let blank = bytes.iter().all(u8::is_ascii_whitespace);
        let parsed = if blank {
            Ok(Value::Null)
        } else {
            serde_json::from_slice(&bytes)
        };
        if status < 300 {
            return match parsed {
                Ok(body) => Ok(Answer { headers, body }),
                Err(_) => Err(explain::not_json(target, status, &headers)),
            };
        }
        let body = parsed.unwrap_or(Value::Null);
        // Vault answers 404 with data for a version that is deleted; its client takes that as an answer.
        if status == 404 && (has_members(&body["data"]) || has_members(&body["warnings"])) {
            return Ok(Answer { headers, body });
        }
        let mut errors: Vec<String> = body["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|error| match error {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect();
        if body.is_null() && !blank {
            errors.push(explain::first_line(&bytes));
        }
        let url = target.url(&request.path, &request.query);
        let refusal = Refusal {
            method: request.method.to_owned(),
            url,
            status,
            errors,
        };
        Err(explain::advise(
            refusal,
            self.token.is_some() || !request.headers.is_empty(),
            target,
        ))
    }
}

struct RawAnswer {
    status: u16,
    headers: HeaderMap,
    bytes: Zeroizing<Vec<u8>>,
}

/// Resolves the host that was asked for where the URL holds the name to expect in its certificate. Otherwise whatever is
/// asked, which may be a proxy.
#[derive(Debug)]
struct RealName {
    real: Option<Uri>,
}

impl Resolver for RealName {
    fn resolve(
        &self,
        asked: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = self.real.as_ref().unwrap_or(asked);
        DefaultResolver::default().resolve(host, config, timeout)
    }
}

fn redirect_of(answer: &RawAnswer) -> Option<String> {
    if !matches!(answer.status, 301 | 302 | 307 | 308) {
        return None;
    }
    answer
        .headers
        .get(header::LOCATION)?
        .to_str()
        .ok()
        .map(str::to_owned)
}

/// Vault's client tries again after 412 (a standby that lags), 429 and every 5xx but 501. A write is tried again only
/// where the server says that it did nothing, because a 500 may come after the change; and a sealed server will not
/// unseal itself within two seconds.
fn worth_retrying(request: &Request, answer: &RawAnswer) -> bool {
    match answer.status {
        412 | 429 => true,
        503 => !String::from_utf8_lossy(&answer.bytes)
            .to_lowercase()
            .contains("sealed"),
        501 => false,
        500.. => request.is_safe(),
        _ => false,
    }
}

/// What the server asks for, within reason; else half a second more each time.
fn pause(attempt: u32, answer: &RawAnswer) -> Duration {
    let asked = answer
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match asked {
        Some(seconds) => Duration::from_secs(seconds).min(MAX_PAUSE),
        None => PAUSE * attempt,
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn has_members(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty())
        || value.as_array().is_some_and(|list| !list.is_empty())
}

/// A duration as the API takes it, in whole seconds. Every `-ttl` goes through here.
pub(super) fn seconds(flag: &str, text: &str) -> Result<Value, Failure> {
    match duration::parse(text) {
        Ok(value) => Ok(Value::from(value.as_secs())),
        Err(error) => Err(Failure::local(format!("-{flag}: {error}"))),
    }
}

const PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// No answer of the API is larger; a snapshot is streamed.
const MAX_ANSWER: u64 = 256 << 20;
/// A Kerberos answer and its groups fit.
const MAX_HEADERS: usize = 256 << 10;
