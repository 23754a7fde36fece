//! Requests from pages of other origins: let through, answered with what a browser wants to see, or refused, as
//! `sys/config/cors` has it (the Fetch standard, "CORS protocol").

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use obol_mount::Error;

use crate::core::Core;
use crate::core::cors::Cors;

/// What a page of another origin may use.
const METHODS: [&str; 8] = [
    "DELETE", "GET", "HEAD", "LIST", "OPTIONS", "PATCH", "POST", "PUT",
];
/// Seconds for which a browser may remember the answer to its question.
const MAX_AGE: HeaderValue = HeaderValue::from_static("300");

/// What becomes of a request as far as its origin goes.
pub(super) enum Outcome {
    /// Nobody asked: no `Origin`, or this server's own, or CORS is off.
    NotAsked,
    /// The answer is marked with this origin.
    Allowed(HeaderValue),
    /// A browser's question before the request; answered here.
    Preflight(Response<Body>),
    Refused(Error),
}

/// `tls` says whether the listener speaks TLS itself.
pub(super) fn check(core: &Core, request: &Request<Body>, tls: bool) -> Outcome {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return Outcome::NotAsked;
    };
    let Some(cors) = core.cors() else {
        return Outcome::NotAsked;
    };
    let one = request.headers().get_all(header::ORIGIN).iter().count() == 1;
    if one && is_own(origin, request, tls) && !is_allowed(&cors, origin) {
        return Outcome::NotAsked;
    }
    if !one || !is_allowed(&cors, origin) {
        return Outcome::Refused(Error::forbidden_because("origin not allowed"));
    }
    if request.method() == Method::OPTIONS {
        Outcome::Preflight(preflight(&cors, request.headers(), origin))
    } else {
        Outcome::Allowed(origin.clone())
    }
}

fn is_allowed(cors: &Cors, origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| cors.allows(origin))
}

/// Whether the page is this server's own, the sign-on page for example: browsers name the origin with every request that
/// is no GET. Without TLS of its own the server cannot tell whether a proxy speaks it.
fn is_own(origin: &HeaderValue, request: &Request<Body>, tls: bool) -> bool {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let Some(host) = request.uri().authority().map(Authority::as_str).or(host) else {
        return false;
    };
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    origin.is_some_and(|(scheme, authority)| {
        authority.eq_ignore_ascii_case(host) && (scheme == "https" || (scheme == "http" && !tls))
    })
}

/// Lets the page of that origin read the answer.
pub(super) fn mark(response: &mut Response<Body>, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

fn preflight(cors: &Cors, asked: &HeaderMap, origin: &HeaderValue) -> Response<Body> {
    let method = asked
        .get(header::ACCESS_CONTROL_REQUEST_METHOD)
        .and_then(|method| method.to_str().ok());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = if method.is_some_and(|method| METHODS.contains(&method)) {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::METHOD_NOT_ALLOWED
    };
    mark(&mut response, origin.clone());
    let headers = response.headers_mut();
    let mut list = |name, texts: String| {
        // Names of headers were checked when they were configured.
        if let Ok(value) = HeaderValue::from_str(&texts) {
            headers.insert(name, value);
        }
    };
    list(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS.join(","));
    list(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        cors.headers().join(","),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}
