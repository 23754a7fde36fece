//! Cubbyhole: what a token keeps is its own, and goes with it.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Ask, Mount, caller, delete, get, list, post};
use obol_mount::{Caller, Operation, TokenKind};
use serde_json::{Value, json};

#[tokio::test]
async fn a_value_is_written_read_listed_and_deleted() {
    let cubbyhole = Mount::open("cubbyhole", &[]).await;
    let ada = service("ada");
    let body = json!({"path": "a field of my own", "n": [1, {"deep": null}], "ttl": "1h"});
    let written = cubbyhole.done(post("a/b", body.clone()).by(&ada)).await;
    assert_eq!(
        (written.status, written.operation),
        (204, Operation::Create)
    );
    assert!(written.warnings.is_empty());
    assert_eq!(cubbyhole.done(get("a/b").by(&ada)).await.data, body);
    // A write replaces all fields.
    let written = cubbyhole.done(post("a/b", json!({"n": 2})).by(&ada)).await;
    assert_eq!(written.operation, Operation::Update);
    assert_eq!(
        cubbyhole.done(get("a/b").by(&ada)).await.data,
        json!({"n": 2})
    );

    cubbyhole.done(post("a", json!({"n": 3})).by(&ada)).await;
    cubbyhole.done(post("z", json!({"n": 4})).by(&ada)).await;
    let keys =
        |ask: Ask| async { cubbyhole.done(ask.by(&service("ada"))).await.data["keys"].clone() };
    assert_eq!(keys(list("")).await, json!(["a", "a/", "z"]));
    assert_eq!(keys(list("a/")).await, json!(["b"]));
    assert_eq!(
        keys(list("").with(json!({"after": "a", "limit": "1"}))).await,
        json!(["a/"])
    );
    assert_eq!(cubbyhole.status(list("z").by(&ada)).await, 404);

    assert_eq!(cubbyhole.status(delete("a").by(&ada)).await, 204);
    assert_eq!(cubbyhole.status(delete("a").by(&ada)).await, 204);
    assert_eq!(cubbyhole.status(get("a").by(&ada)).await, 404);
    assert_eq!(
        cubbyhole.done(get("a/b").by(&ada)).await.data,
        json!({"n": 2})
    );
}

#[tokio::test]
async fn one_token_sees_nothing_of_another() {
    let cubbyhole = Mount::open("cubbyhole", &[]).await;
    // One id begins as the other: the slash keeps them apart.
    let (ada, grace) = (service("ada"), service("ada2"));
    cubbyhole
        .done(post("key", json!({"of": "ada"})).by(&ada))
        .await;
    assert_eq!(cubbyhole.status(get("key").by(&grace)).await, 404);
    assert_eq!(cubbyhole.status(list("").by(&grace)).await, 404);
    let written = cubbyhole
        .done(post("key", json!({"of": "grace"})).by(&grace))
        .await;
    assert_eq!(written.operation, Operation::Create);
    cubbyhole.done(delete("key").by(&grace)).await;
    assert_eq!(
        cubbyhole.done(get("key").by(&ada)).await.data,
        json!({"of": "ada"})
    );
    for path in ["../ada/key", "x/../../ada/key", "/ada/key"] {
        assert_eq!(cubbyhole.status(get(path).by(&grace)).await, 400, "{path}");
    }
    assert_eq!(cubbyhole.status(get("ada/key").by(&grace)).await, 404);
    let odd = service("ada/key");
    assert_eq!(cubbyhole.status(list("").by(&odd)).await, 500);
}

#[tokio::test]
async fn child_outlives_parent_a_token_takes_its_values_with_it_and_no_others() {
    let cubbyhole = Mount::open("cubbyhole", &[]).await;
    for token in ["ada", "ada2", "bob"] {
        for path in ["a", "a/b", "c/d/e"] {
            cubbyhole
                .done(post(path, json!({"n": 1})).by(&service(token)))
                .await;
        }
    }
    cubbyhole.forget("ada").await;
    let kept = cubbyhole.kept().await;
    assert_eq!(kept.len(), 6);
    assert!(
        kept.iter()
            .all(|path| path.starts_with("ada2/") || path.starts_with("bob/"))
    );
    // Ids that name no folder, or none that exists, take nothing with them.
    for id in ["", "nobody", "bob/c"] {
        cubbyhole.forget(id).await;
    }
    assert_eq!(cubbyhole.kept().await, kept);
}

#[tokio::test]
async fn batch_token_escalation_only_service_tokens_have_a_cubbyhole() {
    let cubbyhole = Mount::open("cubbyhole", &[]).await;
    let text = "cubbyhole operations are only supported by service tokens".to_owned();
    for batch in [
        caller("", TokenKind::Batch),
        caller("", TokenKind::Service),
        caller("id", TokenKind::Batch),
    ] {
        for ask in [
            get("a"),
            post("a", json!({"n": 1})),
            delete("a"),
            list(""),
            list("a"),
        ] {
            assert_eq!(cubbyhole.refused(ask.by(&batch)).await, (400, text.clone()));
        }
    }
    assert_eq!(cubbyhole.status(get("a")).await, 403);
    assert!(cubbyhole.kept().await.is_empty());
}

#[tokio::test]
async fn an_empty_body_and_rounded_numbers_are_refused() {
    let cubbyhole = Mount::open("cubbyhole", &[]).await;
    let ada = service("ada");
    let empty = cubbyhole.refused(post("a", json!({})).by(&ada)).await;
    assert_eq!(empty, (400, "missing data fields".to_owned()));
    let big: Value = serde_json::from_str(r#"{"s3cret": 123456789012345678901234567890}"#).unwrap();
    let (status, text) = cubbyhole.refused(post("a", big).by(&ada)).await;
    assert_eq!(status, 400);
    assert!(!text.contains("s3cret") && !text.contains("1234"), "{text}");
    assert_eq!(cubbyhole.status(get("").by(&ada)).await, 405);
}

fn service(id: &str) -> Caller {
    caller(id, TokenKind::Service)
}
