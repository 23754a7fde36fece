//! The pages as they go over the wire: their headers, their addresses, and that they can be turned off.

use obol_tests::{Server, ServerOptions};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

#[test]
fn every_page_comes_with_a_policy_that_lets_it_do_nothing_else() {
    let server = Server::start(ServerOptions::default());
    let client = server.client();
    for (path, status) in [
        ("/ui/login", 200),
        ("/ui/login.js", 200),
        ("/ui/login.css", 200),
        ("/ui/icon.svg", 200),
        ("/ui/login?mount=../sys", 400),
        ("/ui/nowhere", 404),
        ("/", 307),
    ] {
        let reply = client.get(path).expect(status);
        let header = |name: &str| {
            let found: Vec<&str> = reply
                .headers
                .iter()
                .filter(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
                .collect();
            found.join(" and ")
        };
        assert_eq!(header("content-security-policy"), POLICY, "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert_eq!(header("set-cookie"), "", "{path}");
    }
    let root = client.get("/ui/").expect(307);
    assert!(
        root.headers
            .contains(&("location".to_owned(), "/ui/login".to_owned()))
    );
    client.request("POST", "/ui/login").send().expect(405);
}

#[test]
fn a_configuration_without_pages_has_the_api_alone() {
    let server = Server::start(ServerOptions {
        config: "ui = false".to_owned(),
        ..ServerOptions::default()
    });
    for path in ["/", "/ui/", "/ui/login", "/ui/login.js"] {
        let reply = server.client().get(path).expect(404);
        assert!(
            reply.json()["errors"].is_array(),
            "{path}: {}",
            reply.text()
        );
    }
}

#[test]
fn a_development_server_has_the_pages() {
    let server = Server::dev(&[]);
    let page = server.client().get("/ui/login").expect(200);
    assert!(page.text().contains("Sign in"), "{}", page.text());
}
