//! kv version 1 as a client sees it: whole objects by path, listings, and how long they may be relied on.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Mount, delete, get, list, post, view};
use obol_mount::Operation;
use serde_json::{Value, json};

#[tokio::test]
async fn a_secret_is_written_read_replaced_and_deleted() {
    for options in [
        &[][..],
        &[("version", "")],
        &[("version", "1")],
        &[("version", "1"), ("other", "x")],
    ] {
        let kv = Mount::open("kv", options).await;
        // A field may be called as the route's own parameter is, and null is a value.
        let body =
            json!({"path": "x", "user": "web", "port": 5432, "none": null, "deep": [{"a": null}]});
        let written = kv.done(post("app/db", body.clone())).await;
        assert_eq!(
            (written.status, written.operation),
            (204, Operation::Create)
        );
        assert!(written.warnings.is_empty());
        let read = kv.done(get("app/db")).await;
        assert_eq!((read.status, read.data), (200, body));
        // A write replaces all fields.
        let written = kv.done(post("app/db", json!({"n": 2}))).await;
        assert_eq!(written.operation, Operation::Update);
        assert_eq!(kv.done(get("app/db")).await.data, json!({"n": 2}));
        assert_eq!(kv.status(delete("app/db")).await, 204);
        // The wish is fulfilled already.
        assert_eq!(kv.status(delete("app/db")).await, 204);
        assert_eq!(kv.status(get("app/db")).await, 404);
        assert!(kv.kept().await.is_empty());
    }
}

#[tokio::test]
async fn the_words_of_version_two_are_names_like_others() {
    let kv = Mount::kv_v1().await;
    for path in ["data/a", "metadata/a", "config", "metadata", "delete/a"] {
        kv.done(post(path, json!({"at": path}))).await;
        assert_eq!(kv.done(get(path)).await.data, json!({"at": path}));
    }
    assert_eq!(
        kv.done(list("")).await.data["keys"],
        json!(["config", "data/", "delete/", "metadata", "metadata/"])
    );
}

#[tokio::test]
async fn listings_show_secrets_and_folders_in_pages() {
    let kv = Mount::kv_v1().await;
    assert_eq!(kv.status(list("")).await, 404);
    for path in ["a", "a/b", "a/c/d", "z"] {
        kv.done(post(path, json!({"n": 1}))).await;
    }
    let keys = |ask| async { kv.done(ask).await.data["keys"].clone() };
    assert_eq!(keys(list("")).await, json!(["a", "a/", "z"]));
    assert_eq!(keys(list("a/")).await, json!(["b", "c/"]));
    assert_eq!(keys(list("a")).await, json!(["b", "c/"]));
    let page = json!({"after": "a", "limit": "1"});
    assert_eq!(keys(list("").with(page)).await, json!(["a/"]));
    assert_eq!(kv.status(list("z")).await, 404);
}

#[tokio::test]
async fn a_secrets_own_ttl_is_what_the_reader_is_told() {
    let kv = Mount::kv_v1().await;
    let leased = Mount::open("kv", &[("leased_passthrough", "true")]).await;
    for (body, told) in [
        (json!({"a": 1}), None),
        (json!({"ttl": "1h30m"}), Some(5400)),
        (json!({"ttl": 90}), Some(90)),
        (json!({"ttl": "90"}), Some(90)),
        (json!({"lease": "2d"}), Some(172_800)),
        (json!({"lease": "2d", "ttl": "1s"}), Some(1)),
        // What is no duration says nothing, and is kept all the same.
        (json!({"ttl": "soon"}), None),
        (json!({"ttl": -5}), None),
        (json!({"ttl": {"a": 1}}), None),
        (json!({"deep": {"ttl": "5s"}}), None),
        (json!({"a": "\"ttl\":\"5s\""}), None),
    ] {
        for (kv, hint) in [(&kv, true), (&leased, false)] {
            kv.done(post("a", body.clone())).await;
            let read = kv.done(get("a")).await;
            assert_eq!(read.data, body);
            let lease = read.lease.unwrap();
            // Zero is the mount's default.
            let ttl = Duration::from_secs(told.unwrap_or(0));
            assert_eq!((lease.ttl, lease.hint), (ttl, hint), "{body}");
            assert_eq!(lease.renewable, !hint && told.is_some());
        }
    }
    let wrong = Mount::on(view().await, "kv", &[("leased_passthrough", "perhaps")]).await;
    assert_eq!(wrong.err().unwrap().status(), 400);
}

#[tokio::test]
async fn an_empty_body_and_rounded_numbers_are_refused_and_change_nothing() {
    let kv = Mount::kv_v1().await;
    kv.done(post("a", json!({"n": 1}))).await;
    let empty = kv.refused(post("a", json!({}))).await;
    assert_eq!(empty, (400, "missing data fields".to_owned()));
    let big: Value = serde_json::from_str(r#"{"s3cret": 123456789012345678901234567890}"#).unwrap();
    let (status, text) = kv.refused(post("a", big)).await;
    assert_eq!(status, 400);
    assert!(!text.contains("s3cret") && !text.contains("1234"), "{text}");
    assert_eq!(kv.status(get("")).await, 405);
    assert_eq!(kv.status(post("", json!({"n": 1}))).await, 405);
    assert_eq!(kv.done(get("a")).await.data, json!({"n": 1}));
}

#[tokio::test]
async fn path_traversal_is_refused_by_the_view_too() {
    let kv = Mount::kv_v1().await;
    for path in ["../a", "a/../b", "/a", "a//b", "./a"] {
        assert_eq!(kv.status(get(path)).await, 400, "{path}");
        assert_eq!(kv.status(post(path, json!({"n": 1}))).await, 400, "{path}");
        assert_eq!(kv.status(delete(path)).await, 400, "{path}");
    }
    assert!(kv.kept().await.is_empty());
}

#[tokio::test]
async fn error_leaks_input_a_damaged_secret_is_500_and_is_not_quoted() {
    let kv = Mount::kv_v1().await;
    kv.view
        .put("v1/a", b"not JSON: s3cret".to_vec())
        .await
        .unwrap();
    let error = kv.ask(get("a")).await.unwrap_err();
    assert_eq!(error.status(), 500);
    assert!(!format!("{error} {error:?}").contains("s3cret"));
    // It can be replaced and removed.
    kv.done(post("a", json!({"n": 1}))).await;
    kv.done(delete("a")).await;
}
