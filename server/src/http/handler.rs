//! From an HTTP request to the core's, and back.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Frame;
use obol_mount::{Error, Operation, Result, Secret, Upload, duration};
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use super::{Forwarding, Limits, cors, json, ui};
use crate::core::Core;
use crate::core::audit::headers::{Rule, Sent};
use crate::core::in_flight::UnderWay;
use crate::core::request::{Incoming, Outgoing};
use crate::core::takes_upload;
use crate::core::wrapping::Asked;

/// Bytes of bodies that may be in memory at once, over all connections.
const BODY_BUDGET: usize = 256 << 20;
const KIB: usize = 1024;
/// How long a file may take to come in, and each piece of it.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pieces of a file that may wait for their reader.
const PIECES: usize = 8;

/// What every request of a listener shares.
pub(super) struct Shared {
    pub core: Arc<Core>,
    pub limits: Limits,
    pub forwarding: Forwarding,
    pub tls: bool,
    /// Whether there are pages for people beside the API.
    pub pages: bool,
    /// Whether `sys/metrics` is for everybody here.
    pub open_metrics: bool,
    in_flight: Semaphore,
    bodies: Semaphore,
}

impl Shared {
    pub(super) fn new(
        core: Arc<Core>,
        limits: Limits,
        forwarding: Forwarding,
        tls: bool,
        pages: bool,
        open_metrics: bool,
    ) -> Self {
        Self {
            core,
            limits,
            forwarding,
            tls,
            pages,
            open_metrics,
            in_flight: Semaphore::new(limits.max_in_flight),
            bodies: Semaphore::new(BODY_BUDGET.max(limits.max_request_size) / KIB),
        }
    }
}

/// What is known of the connection that a request came on.
#[derive(Clone)]
pub(super) struct Connection {
    pub peer: SocketAddr,
    /// The `tls-server-end-point` of the certificate that the client saw; none without TLS.
    pub end_point: Option<Arc<[u8]>>,
}

pub(super) async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let head = request.method() == Method::HEAD;
    let peer = request
        .extensions()
        .get::<Connection>()
        .map(|c| c.peer.ip());
    let peer = match peer.map(|peer| shared.forwarding.client(peer, request.headers())) {
        None => None,
        // A listener on [::] sees IPv4 peers as ::ffff:a.b.c.d.
        Some(Ok(client)) => Some(client.to_canonical()),
        Some(Err(error)) => return respond(Outgoing::error(&error), shared.tls, head),
    };
    if shared.pages && ui::serves(request.uri().path()) {
        let sealed = shared.core.is_sealed();
        let mut page = ui::answer(request.method(), request.uri(), sealed, shared.tls);
        if let Some(headers) = shared.core.ui_headers() {
            ui::add_headers(&mut page, &headers);
        }
        return page;
    }
    let origin = match cors::check(&shared.core, &request, shared.tls) {
        cors::Outcome::NotAsked => None,
        cors::Outcome::Allowed(origin) => Some(origin),
        cors::Outcome::Preflight(answer) => return answer,
        cors::Outcome::Refused(error) => {
            return respond(Outgoing::error(&error), shared.tls, head);
        }
    };
    let patience = match takes_file(&request) {
        // As long as it comes: each piece has a time of its own.
        true => UPLOAD_TIMEOUT,
        false => shared.limits.request_timeout,
    };
    let answered = match shared.in_flight.try_acquire() {
        Ok(_permit) => {
            let work = answer(&shared, peer, request);
            match tokio::time::timeout(patience, work).await {
                Ok(answered) => answered,
                Err(_) => Err(Error::unavailable("the request took too long")),
            }
        }
        Err(_) => Err(Error::unavailable("the server is busy; try again")),
    };
    let outgoing = answered.unwrap_or_else(|error| Outgoing::error(&error));
    let mut response = respond(outgoing, shared.tls, head);
    if let Some(origin) = origin {
        cors::mark(&mut response, origin);
    }
    response
}

async fn answer(shared: &Shared, peer: Option<IpAddr>, request: Request) -> Result<Outgoing> {
    let is_file = takes_file(&request);
    let (parts, body) = request.into_parts();
    let raw_path = match parts.uri.path().strip_prefix("/v1/") {
        Some(path) => path.to_owned(),
        None => return Err(Error::not_found_because("not found: the API is below /v1/")),
    };
    let id = Uuid::new_v4().to_string();
    let _place = shared.core.in_flight.enter(UnderWay {
        id: id.clone(),
        since: SystemTime::now(),
        peer,
        method: method_name(&parts.method),
        path: raw_path.clone(),
    });
    let headers = &parts.headers;
    if header(headers, "x-vault-namespace")?
        .is_some_and(|namespace| !matches!(namespace, "" | "/" | "root"))
    {
        return Err(Error::bad_request(
            "namespaces are not part of this version: send the request without X-Vault-Namespace",
        ));
    }
    let (token, authorization) = credentials(headers)?;
    let mut query = parse_query(parts.uri.query().unwrap_or_default())?;
    let help = query
        .remove("help")
        .is_some_and(|v| v.as_str().is_some_and(|v| matches!(v, "1" | "true")));
    let listed = query.remove("list").is_some_and(|v| {
        v.as_str()
            .is_some_and(|v| matches!(v, "1" | "true" | "True" | "TRUE" | "t" | "T"))
    });
    let operation = match parts.method.as_str() {
        "GET" if listed => Operation::List,
        "GET" | "HEAD" => Operation::Read,
        "LIST" => Operation::List,
        "POST" | "PUT" => Operation::Update,
        "PATCH" => Operation::Patch,
        "DELETE" => Operation::Delete,
        _ => return Err(Error::unsupported_operation()),
    };
    let (upload, pieces) = match is_file {
        true => {
            let (pieces, upload) = mpsc::channel(PIECES);
            (Some(Upload::new(upload)), Some(pieces))
        }
        false => (None, None),
    };
    let mut file = None;
    let data = match operation {
        _ if is_file => {
            file = Some(body);
            query
        }
        Operation::Update | Operation::Patch => {
            if operation == Operation::Patch {
                check_patch_type(headers)?;
            }
            let bytes = read_body(shared, headers, body).await?;
            json::parse_object(&bytes, &shared.limits)?
        }
        _ => query,
    };
    let connection = parts.extensions.get::<Connection>();
    let incoming = Incoming {
        id,
        operation,
        raw_path,
        data,
        token,
        authorization,
        peer,
        port: connection.map(|connection| connection.peer.port()),
        headers: audited_headers(&shared.core, headers),
        end_point: connection.and_then(|connection| connection.end_point.clone()),
        wrap: wrapping_asked(headers)?,
        help,
        open_metrics: shared.open_metrics,
        upload,
    };
    let handled = shared.core.handle(incoming);
    match file.zip(pieces) {
        None => Ok(handled.await),
        Some((body, pieces)) => tokio::select! {
            // Who refuses the request does not wait for the rest of its body.
            outgoing = handled => Ok(outgoing),
            never = pass_on(body, pieces) => match never {},
        },
    }
}

/// Whether the body is a file, which goes through in pieces and may be of any size. Who may send one is decided before
/// it is read.
fn takes_file(request: &Request) -> bool {
    matches!(*request.method(), Method::POST | Method::PUT)
        && request
            .uri()
            .path()
            .strip_prefix("/v1/")
            .is_some_and(takes_upload)
}

/// Passes a body on as it comes. Does not end: whoever reads has the last word.
async fn pass_on(mut body: Body, pieces: mpsc::Sender<Result<Bytes>>) -> Infallible {
    let broken = || Error::bad_request("the request body could not be read to its end");
    loop {
        let piece = match tokio::time::timeout(PIECE_TIMEOUT, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_) => continue,
            },
            Ok(Some(Err(_))) | Err(_) => Err(broken()),
        };
        let last = piece.is_err();
        if pieces.send(piece).await.is_err() || last {
            break;
        }
    }
    drop(pieces);
    std::future::pending().await
}

/// What `sys/in-flight-req` calls it.
fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 8] = [
        "GET", "POST", "PUT", "LIST", "DELETE", "PATCH", "HEAD", "OPTIONS",
    ];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("other")
}

/// The headers that the audit log wants, of those that came.
fn audited_headers(core: &Core, headers: &HeaderMap) -> Vec<Sent> {
    let Some(wanted) = core.audited_headers() else {
        return Vec::new();
    };
    let sent = |(name, rule): (&String, &Rule)| {
        let values: Vec<String> = headers
            .get_all(name.as_str())
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        (!values.is_empty()).then(|| Sent {
            name: name.clone(),
            values,
            hmac: rule.hmac,
        })
    };
    wanted.0.iter().filter_map(sent).collect()
}

/// Reads a body within its own limit and within what all bodies together may take. Memory is reserved as the
/// bytes arrive: a client that announces much and sends little holds nothing up.
async fn read_body(shared: &Shared, headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>> {
    let limit = shared.limits.max_request_size;
    let too_large = || Error::too_large(format!("the request body is larger than {limit} bytes"));
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut reserved = None;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|_| Error::bad_request("the request body could not be read to its end"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > limit {
            return Err(too_large());
        }
        let more = u32::try_from(data.len().div_ceil(KIB)).map_err(|_| too_large())?;
        let permit = shared
            .bodies
            .try_acquire_many(more)
            .map_err(|_| Error::unavailable("the server is busy; try again"))?;
        match &mut reserved {
            None => reserved = Some(permit),
            Some(all) => all.merge(permit),
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// One header, which may be there once: of two, the weaker would win somewhere (threats: `duplicate-credential`).
fn header<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Error::bad_request(format!(
            "the header {name} may be there only once"
        )));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| Error::bad_request(format!("the header {name} is not plain text")))
}

/// The token, from `X-Vault-Token` or `Authorization: Bearer`, and any other `Authorization` for login routes.
fn credentials(headers: &HeaderMap) -> Result<(Option<Secret>, Option<Secret>)> {
    let token = header(headers, "x-vault-token")?.filter(|t| !t.is_empty());
    let authorization = header(headers, "authorization")?.filter(|a| !a.is_empty());
    let bearer = authorization.and_then(|a| {
        let (scheme, rest) = a.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
    });
    if let (Some(token), Some(bearer)) = (token, bearer)
        && token != bearer
    {
        return Err(Error::bad_request(
            "X-Vault-Token and Authorization carry two different tokens: send one",
        ));
    }
    let other = if bearer.is_some() {
        None
    } else {
        authorization
    };
    let secret = |text: &str| Secret::new(text.to_owned());
    Ok((token.or(bearer).map(secret), other.map(secret)))
}

fn wrapping_asked(headers: &HeaderMap) -> Result<Option<Asked>> {
    let jwt = match header(headers, "x-vault-wrap-format")?.unwrap_or_default() {
        "" => false,
        "jwt" => true,
        _ => {
            return Err(Error::bad_request(
                "X-Vault-Wrap-Format: the only format beside the default is jwt",
            ));
        }
    };
    let Some(text) = header(headers, "x-vault-wrap-ttl")?.filter(|t| !t.is_empty()) else {
        return Ok(None);
    };
    let ttl = duration::parse(text)
        .map_err(|error| Error::bad_request(format!("X-Vault-Wrap-TTL: {error}")))?;
    Ok((!ttl.is_zero()).then_some(Asked { ttl, jwt }))
}

fn check_patch_type(headers: &HeaderMap) -> Result<()> {
    let kind = header(headers, "content-type")?.unwrap_or_default();
    match kind.split(';').next().map(str::trim) {
        Some("application/merge-patch+json") => Ok(()),
        _ => Err(Error::unsupported_media_type(
            "PATCH needs Content-Type: application/merge-patch+json",
        )),
    }
}

/// `a=1&b=2`, decoded. A name that comes twice is refused: two readers could take two values.
fn parse_query(query: &str) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if map
            .insert(name.into_owned(), Value::String(value.into_owned()))
            .is_some()
        {
            return Err(Error::bad_request(
                "a query parameter may be there only once",
            ));
        }
    }
    Ok(map)
}

fn respond(outgoing: Outgoing, tls: bool, head: bool) -> Response<Body> {
    let empty = head || (outgoing.body.is_empty() && outgoing.stream.is_none());
    let body = match outgoing.stream {
        _ if empty => Body::empty(),
        Some(pieces) => Body::new(Pieces(pieces)),
        None => Body::from(outgoing.body),
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(outgoing.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if !empty {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(outgoing.content_type),
        );
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if tls {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000; includeSubDomains"),
        );
    }
    for (name, value) in outgoing.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
    response
}

/// A body that comes piece by piece. An error in it breaks the connection off.
struct Pieces(mpsc::Receiver<Result<Bytes>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        let piece = self.0.poll_recv(cx);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
