//! The pages for people: `/ui/login` signs a browser in with its Kerberos ticket (RFC 4559) and says what to do when
//! that does not work. The page is made here, its style and script are part of the program; everything it does goes
//! through the API below `/v1/` like any other client, with no rights of its own.
//!
//! Nothing from outside becomes markup: the template escapes, the script sets text alone, and the policy in [`CSP`]
//! lets the browser run nothing but the one script. The token that the script gets lives in that script's memory:
//! it is in no URL, no cookie and no storage of the browser.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use handlebars::Handlebars;
use serde::Serialize;

use crate::core::ui_headers::UiHeaders;

/// Whether a path belongs to the pages: the root, which leads to them, and all below `/ui`.
pub(super) fn serves(path: &str) -> bool {
    path == "/" || path == "/ui" || path.starts_with("/ui/")
}

/// Answers a request for a page. `sealed` is what the server is now; `tls` whether the connection is.
pub(super) fn answer(method: &Method, uri: &Uri, sealed: bool, tls: bool) -> Response<Body> {
    let mut answer = match *method {
        Method::GET | Method::HEAD => route(uri, sealed),
        _ => Page::message(
            StatusCode::METHOD_NOT_ALLOWED,
            "This is a page",
            "It can be read, and nothing else. The API is below /v1/.",
        )
        .with(header::ALLOW, "GET, HEAD"),
    };
    if tls {
        answer
            .headers
            .push((header::STRICT_TRANSPORT_SECURITY, ONE_YEAR));
    }
    answer.into_response(*method == Method::HEAD)
}

/// Adds an operator's headers to a page, in place of its own of the same name.
pub(super) fn add_headers(page: &mut Response<Body>, added: &UiHeaders) {
    for (name, values) in &added.0 {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            continue;
        };
        page.headers_mut().remove(&name);
        for value in values {
            // Both were checked when they were configured.
            if let Ok(value) = HeaderValue::from_str(value) {
                page.headers_mut().append(name.clone(), value);
            }
        }
    }
}

fn route(uri: &Uri, sealed: bool) -> Page {
    match uri.path() {
        "/" | "/ui" | "/ui/" => Page::new(StatusCode::TEMPORARY_REDIRECT, TEXT, String::new())
            .with(header::LOCATION, LOGIN),
        LOGIN => match mount(uri.query().unwrap_or_default()) {
            Some(mount) => Page::login(&mount, sealed),
            None => Page::message(
                StatusCode::BAD_REQUEST,
                "No such way in",
                "The address names no auth method: ?mount= takes the path of one, such as kerberos.",
            ),
        },
        "/ui/login.css" => Page::new(StatusCode::OK, "text/css; charset=utf-8", STYLE),
        "/ui/login.js" => Page::new(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT),
        "/ui/icon.svg" => Page::new(StatusCode::OK, "image/svg+xml", ICON),
        _ => Page::message(
            StatusCode::NOT_FOUND,
            "There is no such page",
            "The one page here is the login.",
        ),
    }
}

/// The auth method to sign in at, `kerberos` when none is named. `None` for what cannot be a path of one: a segment
/// that is empty or dots would lead the script to another place of the API.
fn mount(query: &str) -> Option<String> {
    let mut named = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "mount");
    let Some((_, value)) = named.next() else {
        return Some(DEFAULT_MOUNT.to_owned());
    };
    if named.next().is_some() {
        return None;
    }
    let path = value.strip_prefix("auth/").unwrap_or(&value);
    let path = path.strip_suffix('/').unwrap_or(path);
    let sound = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && !segment
                .chars()
                .any(|c| c.is_control() || matches!(c, '\\' | '%'))
    };
    (path.len() <= MAX_MOUNT && path.split('/').all(sound)).then(|| path.to_owned())
}

/// An answer before it is sent.
struct Page {
    status: StatusCode,
    kind: &'static str,
    body: Body,
    headers: Vec<(HeaderName, &'static str)>,
}

impl Page {
    fn new(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Self {
        Self {
            status,
            kind,
            body: body.into(),
            headers: Vec::new(),
        }
    }

    fn login(mount: &str, sealed: bool) -> Self {
        let facts = LoginPage { mount, sealed };
        Self::rendered(StatusCode::OK, "login", &facts)
    }

    fn message(status: StatusCode, title: &str, text: &str) -> Self {
        Self::rendered(status, "message", &Message { title, text })
    }

    fn rendered(status: StatusCode, template: &str, facts: &impl Serialize) -> Self {
        match TEMPLATES.render(template, facts) {
            Ok(html) => Self::new(status, HTML, html),
            Err(error) => {
                tracing::error!(%error, template, "a page could not be made");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    TEXT,
                    "The page could not be made.\n",
                )
            }
        }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn into_response(self, head: bool) -> Response<Body> {
        let mut response = Response::new(if head { Body::empty() } else { self.body });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        for (name, value) in COMMON.into_iter().chain(self.headers) {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

#[derive(Serialize)]
struct LoginPage<'a> {
    mount: &'a str,
    sealed: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    title: &'a str,
    text: &'a str,
}

/// In strict mode a template that names what it is not given is an error, not a blank; every value is escaped.
static TEMPLATES: LazyLock<Handlebars<'static>> = LazyLock::new(|| {
    let mut templates = Handlebars::new();
    templates.set_strict_mode(true);
    for (name, text) in [
        ("login", include_str!("login.hbs")),
        ("message", include_str!("message.hbs")),
    ] {
        templates
            .register_template_string(name, text)
            .expect("the templates are part of the program, and a test renders each");
    }
    templates
});

const LOGIN: &str = "/ui/login";
const DEFAULT_MOUNT: &str = "kerberos";
/// Bytes; no mount has a path so long.
const MAX_MOUNT: usize = 512;

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const STYLE: &str = include_str!("login.css");
const SCRIPT: &str = include_str!("login.js");
const ICON: &str = include_str!("icon.svg");

/// Nothing but what this server sends itself, no frame around it, no form and no base that could lead elsewhere.
/// Images: the icon; without it browsers look for one and report the policy's refusal.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                   img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const ONE_YEAR: &str = "max-age=31536000; includeSubDomains";

const COMMON: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CSP),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    // The page shares its process with no other site's, and no other site may load its parts.
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn get(uri: &str, sealed: bool) -> (u16, String) {
        let response = answer(&Method::GET, &uri.parse().unwrap(), sealed, false);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_login_page_names_its_mount_and_says_when_the_server_is_sealed() {
        let (status, html) = get("/ui/login", false).await;
        assert_eq!(status, 200);
        assert!(html.contains("data-mount=\"kerberos\""), "{html}");
        assert!(html.contains("src=\"/ui/login.js\""), "{html}");
        let (status, html) = get("/ui/login?mount=auth/lab/kerberos/", true).await;
        assert_eq!(status, 200);
        assert!(html.contains("data-mount=\"lab/kerberos\""), "{html}");
        assert!(
            html.contains("sealed") && !html.contains("login.js"),
            "{html}"
        );
    }

    #[tokio::test]
    async fn a_mount_name_never_becomes_markup() {
        let (status, html) = get(
            "/ui/login?mount=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
            false,
        )
        .await;
        assert_eq!(status, 200);
        assert!(
            html.contains("&quot;&gt;&lt;script&gt;alert(1)") && !html.contains("<script>"),
            "{html}"
        );
    }

    #[tokio::test]
    async fn path_traversal_of_the_mount_is_refused() {
        for mount in [
            "",
            "..",
            "../sys/seal",
            "a//b",
            "a/./b",
            "/",
            "a%0ab",
            "a%255c..",
            "a&mount=b",
        ] {
            let (status, _) = get(&format!("/ui/login?mount={mount}"), false).await;
            assert_eq!(status, 400, "{mount}");
        }
    }

    #[tokio::test]
    async fn the_root_leads_to_the_login_and_other_pages_do_not_exist() {
        for path in ["/", "/ui", "/ui/"] {
            let response = answer(&Method::GET, &path.parse().unwrap(), false, false);
            assert_eq!(response.status(), 307);
            assert_eq!(response.headers()[header::LOCATION], "/ui/login");
        }
        let (status, html) = get("/ui/secrets", false).await;
        assert_eq!(status, 404);
        assert!(html.contains("There is no such page"), "{html}");
        assert!(!serves("/uix") && !serves("/v1/ui/login") && serves("/ui/anything"));
    }

    #[test]
    fn every_answer_carries_the_policy_and_only_reading_is_allowed() {
        for path in [
            "/ui/login",
            "/ui/login.js",
            "/ui/login.css",
            "/ui/icon.svg",
            "/ui/none",
            "/",
        ] {
            let response = answer(&Method::GET, &path.parse().unwrap(), false, true);
            for (name, value) in COMMON {
                assert_eq!(response.headers()[&name], value, "{path}");
            }
            assert_eq!(
                response.headers()[header::STRICT_TRANSPORT_SECURITY],
                ONE_YEAR
            );
        }
        let response = answer(&Method::POST, &"/ui/login".parse().unwrap(), false, false);
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
    }

    #[test]
    fn no_page_asks_for_anything_from_elsewhere() {
        for text in [
            include_str!("login.hbs"),
            include_str!("message.hbs"),
            STYLE,
            SCRIPT,
        ] {
            assert!(!text.contains("//cdn") && !text.contains("http:") && !text.contains("https:"));
            assert!(!text.contains("innerHTML") && !text.contains("localStorage"));
            assert!(!text.contains("sessionStorage") && !text.contains("document.cookie"));
        }
    }
}
