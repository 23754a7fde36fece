//! The HTTP client: headers, errors, retries, redirects, the token's sources.

use serde_json::json as j;

use super::harness::{Server, Shell, empty, json, status, text};

#[test]
fn every_header_of_the_flags_is_sent() {
    let server = Server::start([json(j!({"data": {"a": 1}}))]);
    Shell::of(&server)
        .run("read -namespace=team -wrap-ttl=2m -header=X-Trace=abc -header 'X-Note=a b' sys/x")
        .ok();
    let request = &server.seen()[0];
    for (name, value) in [
        ("X-Vault-Namespace", "team"),
        ("X-Vault-Wrap-TTL", "120"),
        ("X-Trace", "abc"),
        ("X-Note", "a b"),
        ("X-Vault-Token", "t0ken"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert!(request.header("User-Agent").unwrap().starts_with("obol/"));
    Shell::of(&server)
        .run("read -header=X-Vault-Token=x sys/x")
        .failed(1, "X-Vault-");
}

#[test]
fn a_wrapped_answer_is_shown_by_its_wrapping_token() {
    let wrapped = j!({"data": null, "wrap_info": {"token": "obs.w", "accessor": "a", "ttl": 120, "creation_time": "t", "creation_path": "p"}});
    let server = Server::start([json(wrapped.clone()), json(wrapped)]);
    let shell = Shell::of(&server).set("VAULT_WRAP_TTL", "2m");
    let out = shell.run("read sys/x").ok().out;
    assert!(
        out.contains("wrapping_token:") && out.contains("obs.w") && out.contains("2m"),
        "{out}"
    );
    assert_eq!(
        shell.run("read -field=wrapping_token sys/x").ok().out,
        "obs.w"
    );
}

#[test]
fn the_token_of_the_environment_wins_over_the_kept_one() {
    let server = Server::start((0..3).map(|_| json(j!({"data": {"a": 1}}))));
    let shell = Shell::of(&server).unset("VAULT_TOKEN");
    std::fs::write(shell.home.path().join(".vault-token"), "obs.kept\n").unwrap();
    shell.run("read sys/x").ok();
    let shell = shell.set("VAULT_TOKEN", "obs.vault");
    shell.run("read sys/x").ok();
    let shell = shell.set("OBOL_TOKEN", "obs.obol");
    shell.run("read sys/x").ok();
    let tokens: Vec<_> = server
        .seen()
        .iter()
        .map(|r| r.header("X-Vault-Token").unwrap().to_owned())
        .collect();
    assert_eq!(tokens, ["obs.kept", "obs.vault", "obs.obol"]);
}

#[test]
fn a_refusal_shows_url_code_and_errors_as_scripts_expect_them() {
    let server = Server::start([status(
        403,
        j!({"errors": ["permission denied", "1 error occurred"]}),
    )]);
    let ran = Shell::of(&server)
        .run("read sys/x")
        .failed(2, "Error reading sys/x");
    for line in [
        format!("URL: GET {}/v1/sys/x", server.address()),
        "Code: 403. Errors:".into(),
        "* permission denied".into(),
        "* 1 error occurred".into(),
    ] {
        assert!(ran.err.lines().any(|l| l == line), "{line}:\n{}", ran.err);
    }
    assert!(!ran.err.contains("t0ken"), "{}", ran.err);
}

#[test]
fn refusals_come_with_what_mends_them() {
    let cases = [
        (503, "the server is sealed", "obol operator unseal"),
        (400, "namespaces are not supported", "VAULT_NAMESPACE"),
        (
            400,
            "Client sent an HTTP request to an HTTPS server.",
            "https://",
        ),
    ];
    for (code, error, mend) in cases {
        let server = Server::start([status(code, j!({"errors": [error]}))]);
        Shell::of(&server).run("read sys/x").failed(2, mend);
    }
    let server = Server::start([status(403, j!({"errors": ["permission denied"]}))]);
    Shell::of(&server)
        .unset("VAULT_TOKEN")
        .run("read sys/x")
        .failed(2, "obol login");
}

#[test]
fn a_404_with_a_reason_is_told() {
    let server = Server::start([status(
        404,
        j!({"errors": ["no handler for route \"nope/x\""]}),
    )]);
    Shell::of(&server)
        .run("read nope/x")
        .failed(2, "no handler for route");
}

#[test]
fn an_answer_that_is_no_json_is_explained() {
    let page = || text(200, "<html>Welcome</html>").header("Content-Type", "text/html");
    let server = Server::start([page(), text(502, "\n<h1>Bad gateway</h1>\nmore")]);
    let shell = Shell::of(&server).set("VAULT_MAX_RETRIES", "0");
    shell.run("read sys/x").failed(2, "text/html");
    shell.run("read sys/x").failed(2, "* <h1>Bad gateway</h1>");
}

#[test]
fn reads_are_tried_again_and_writes_only_where_nothing_was_done() {
    let busy = |code| status(code, j!({"errors": ["busy"]})).header("Retry-After", "0");
    let fine = || json(j!({"data": {"a": 1}}));
    for code in [412, 429, 500, 502, 503] {
        let server = Server::start([busy(code), busy(code), fine()]);
        Shell::of(&server).run("read sys/x").ok();
        assert_eq!(server.seen().len(), 3, "{code}");
    }
    for (code, requests) in [(412, 2), (429, 2), (503, 2), (500, 1), (502, 1), (400, 1)] {
        let server = Server::start([busy(code), empty()]);
        Shell::of(&server).run("write sys/x a=b");
        assert_eq!(server.seen().len(), requests, "{code}");
    }
}

#[test]
fn retries_end_and_can_be_turned_off() {
    let busy = || status(500, j!({"errors": ["busy"]})).header("Retry-After", "0");
    let server = Server::start((0..9).map(|_| busy()));
    Shell::of(&server).run("read sys/x").failed(2, "Code: 500");
    assert_eq!(server.seen().len(), 3);
    Shell::of(&server)
        .set("VAULT_MAX_RETRIES", "0")
        .run("read sys/x")
        .failed(2, "Code: 500");
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn a_sealed_server_is_not_asked_again() {
    let server = Server::start([status(503, j!({"errors": ["Vault is sealed"]}))]);
    Shell::of(&server).run("read sys/x").failed(2, "sealed");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn one_redirect_is_followed_with_the_same_request() {
    let active = Server::start([empty()]);
    let location = format!("{}/v1/sys/x", active.address());
    let standby = Server::start([text(307, "").header("Location", &location)]);
    Shell::of(&standby).run("write sys/x a=b").ok();
    let request = &active.seen()[0];
    assert_eq!(
        (request.method.as_str(), request.json()),
        ("PUT", j!({"a": "b"}))
    );
    assert_eq!(request.header("X-Vault-Token"), Some("t0ken"));
}

#[test]
fn redirects_end_after_one_and_can_be_turned_off() {
    let again = || text(307, "").header("Location", "/v1/sys/y");
    let server = Server::start([again(), again()]);
    Shell::of(&server)
        .run("read sys/x")
        .failed(2, "redirects again");
    assert_eq!(server.seen().len(), 2);
    let server = Server::start([again()]);
    Shell::of(&server)
        .set("VAULT_DISABLE_REDIRECTS", "1")
        .run("read sys/x")
        .failed(2, "not followed");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_server_that_is_not_there_is_named_with_the_variable_that_led_to_it() {
    let shell = Shell::empty().set("OBOL_ADDR", "http://127.0.0.1:1");
    let ran = shell
        .run("read sys/x")
        .failed(2, "http://127.0.0.1:1 (OBOL_ADDR)");
    assert!(
        ran.err.contains("refused") && ran.err.contains("obol server -dev"),
        "{}",
        ran.err
    );
    shell
        .run("read -address=http://127.0.0.1:2 sys/x")
        .failed(2, "(-address)");
    shell
        .run("read -address=localhost:8200 sys/x")
        .failed(1, "https://");
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for_for_ever() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let shell = Shell::empty()
        .set("VAULT_ADDR", &address)
        .set("VAULT_CLIENT_TIMEOUT", "200ms");
    shell.run("read sys/x").failed(2, "VAULT_CLIENT_TIMEOUT");
}

#[test]
fn curl_shows_everything_but_the_token() {
    let shell = Shell::empty().set("VAULT_ADDR", "https://vault.example.com:8200");
    std::fs::write(shell.home.path().join(".vault-token"), "obs.kept").unwrap();
    let out = shell
        .run("list -output-curl-string -tls-skip-verify -namespace='a b' auth/x")
        .ok()
        .out;
    assert_eq!(
        out,
        "curl -X LIST -H 'X-Vault-Request: true' -H 'X-Vault-Namespace: a b' -H \"X-Vault-Token: $(cat ~/.vault-token)\" \
         --insecure https://vault.example.com:8200/v1/auth/x\n"
    );
    let out = shell
        .set("OBOL_TOKEN", "obs.secret")
        .run("read -output-curl-string sys/x")
        .ok()
        .out;
    assert!(
        out.contains("$OBOL_TOKEN") && !out.contains("obs.secret"),
        "{out}"
    );
}

#[test]
fn the_path_is_not_cleaned_on_the_way() {
    let server = Server::start([json(j!({"data": {"a": 1}}))]);
    Shell::of(&server).run("read 'secret/../sys//x y'").ok();
    assert_eq!(server.seen()[0].target, "/v1/secret/../sys//x%20y");
}
