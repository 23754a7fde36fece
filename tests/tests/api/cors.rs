//! What browsers see: pages of other origins, headers of the server's own pages, and what a caller may do.

use obol_tests::{Server, ServerOptions};
use serde_json::json;

const PAGE: &str = "https://app.example.com";

fn server() -> Server {
    Server::ready(ServerOptions::default())
}

#[test]
fn a_page_of_another_origin_is_let_through_once_it_is_named() {
    let server = server();
    let root = server.root();
    let ask = |origin: &str| {
        let request = root.request("GET", "auth/token/lookup-self");
        request.header("Origin", origin).send()
    };
    // Off: nothing is said, so a browser keeps the answer from the page.
    let reply = ask(PAGE).expect(200);
    assert_eq!(reply.header("access-control-allow-origin"), None);
    assert_eq!(
        root.get("sys/config/cors").data(),
        json!({"enabled": false}).as_object().unwrap().clone()
    );

    let body = json!({"allowed_origins": [PAGE], "allowed_headers": ["X-Custom"]});
    root.post("sys/config/cors", body).expect(204);
    let shown = root.get("sys/config/cors").data();
    assert_eq!(
        (&shown["enabled"], &shown["allowed_origins"]),
        (&json!(true), &json!([PAGE]))
    );
    assert!(
        shown["allowed_headers"]
            .as_array()
            .unwrap()
            .contains(&json!("X-Vault-Token"))
    );

    let reply = ask(PAGE).expect(200);
    assert_eq!(reply.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(reply.header("vary"), Some("Origin"));
    for other in [
        "https://evil.example.com",
        "https://app.example.com.evil.com",
        "null",
        "",
    ] {
        let refused = ask(other).expect(403);
        assert_eq!(refused.errors(), ["origin not allowed"]);
        assert_eq!(refused.header("access-control-allow-origin"), None);
    }
    // This server's own pages are of no other origin: browsers name it with each POST.
    let own = server.url();
    let reply = ask(&own).expect(200);
    assert_eq!(reply.header("access-control-allow-origin"), None);
    ask(&own.replace("http:", "ftp:")).expect(403);
    ask(&format!("{own}.evil.com")).expect(403);
    // Whoever is no browser sends no origin.
    root.get("auth/token/lookup-self").expect(200);
    // An error can be read by the page, too.
    let denied = server
        .client()
        .request("GET", "sys/mounts")
        .header("Origin", PAGE)
        .send()
        .expect(403);
    assert_eq!(denied.header("access-control-allow-origin"), Some(PAGE));

    root.delete("sys/config/cors").expect(204);
    assert_eq!(
        ask("https://evil.example.com").expect(200).header("vary"),
        None
    );
}

#[test]
fn a_browsers_question_is_answered_without_a_token() {
    let server = server();
    let body = json!({"allowed_origins": "*", "allowed_headers": "X-Custom"});
    server.root().post("sys/config/cors", body).expect(204);
    let ask = |method: &str| {
        let request = server.client().request("OPTIONS", "secret/data/x");
        request
            .header("Origin", PAGE)
            .header("Access-Control-Request-Method", method)
            .send()
    };
    let answer = ask("PUT").expect(204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert!(
        answer
            .header("access-control-allow-methods")
            .unwrap()
            .contains("LIST")
    );
    let headers = answer.header("access-control-allow-headers").unwrap();
    assert!(
        headers.contains("X-Vault-Token") && headers.contains("X-Custom"),
        "{headers}"
    );
    assert_eq!(answer.header("access-control-max-age"), Some("300"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    ask("TRACE").expect(405);
    for body in [
        json!({}),
        json!({"allowed_origins": ["*", PAGE]}),
        json!({"allowed_origins": "app.example.com"}),
        json!({"allowed_origins": PAGE, "allowed_headers": "X Custom"}),
    ] {
        server.root().post("sys/config/cors", body).expect(400);
    }
}

#[test]
fn pages_have_the_headers_that_the_operator_wants() {
    let server = server();
    let root = server.root();
    let path = "sys/config/ui/headers";
    root.list(path).expect(404);
    root.put(
        &format!("{path}/X-Banner"),
        json!({"values": ["one", "two"]}),
    )
    .expect(204);
    assert_eq!(root.list(path).keys(), ["x-banner"]);
    assert_eq!(root.get(&format!("{path}/X-Banner")).data()["value"], "one");
    let all = root.get(&format!("{path}/X-Banner?multivalue=true")).data();
    assert_eq!(all["values"], json!(["one", "two"]));
    let page = server.client().get("/ui/login").expect(200);
    let values: Vec<&str> = page
        .headers
        .iter()
        .filter(|(name, _)| name == "x-banner")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(values, ["one", "two"]);
    assert_eq!(
        server.client().get("sys/seal-status").header("x-banner"),
        None
    );
    for (name, values) in [
        ("X-Vault-Token", json!(["x"])),
        ("Content-Type", json!(["text/plain"])),
        ("Set-Cookie", json!(["a=b"])),
        ("X-Banner", json!(["a\r\nSet-Cookie: b"])),
        ("X-Banner", json!([])),
    ] {
        root.put(&format!("{path}/{name}"), json!({ "values": values }))
            .expect(400);
    }
    root.delete(&format!("{path}/X-Banner")).expect(204);
    root.get(&format!("{path}/X-Banner")).expect(404);
}

#[test]
fn a_caller_sees_all_that_it_may_do() {
    let server = server();
    let root = server.root();
    assert_eq!(
        root.get("sys/internal/ui/resultant-acl").data()["root"],
        true
    );
    let policy = "path \"secret/data/*\" { capabilities = [\"read\"] }\npath \"secret/data/no\" { capabilities = [\"deny\"] }";
    root.put("sys/policies/acl/some", json!({ "policy": policy }))
        .expect(204);
    let token = root
        .post("auth/token/create", json!({"policies": ["some"]}))
        .client_token();
    let seen_by = |token: String| {
        let client = server.client().with_token(token);
        let acl = client.get("sys/internal/ui/resultant-acl").data();
        assert_eq!(acl["root"], false);
        let capabilities = |kind: &str, path: &str| acl[kind][path]["capabilities"].clone();
        assert_eq!(capabilities("glob_paths", "secret/data/"), json!(["read"]));
        assert_eq!(
            capabilities("exact_paths", "secret/data/no"),
            json!(["deny"])
        );
        acl
    };
    seen_by(token);

    // Who has an entity has templated rules, too, and the others besides.
    root.post("sys/auth/userpass", json!({"type": "userpass"}))
        .expect(204);
    root.post(
        "auth/userpass/users/grace",
        json!({"password": "pw-of-grace", "token_policies": "some"}),
    )
    .expect(204);
    let login = root.post(
        "auth/userpass/login/grace",
        json!({"password": "pw-of-grace"}),
    );
    let acl = seen_by(login.client_token());
    assert!(acl["exact_paths"]["auth/token/lookup-self"].is_object());
    let exact = acl["exact_paths"].as_object().unwrap();
    assert!(
        exact
            .keys()
            .any(|path| path.starts_with("identity/entity/id/"))
    );
    assert!(acl["exact_paths"]["auth/token/lookup-self"].is_object());
}
