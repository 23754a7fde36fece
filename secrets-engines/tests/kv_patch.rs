//! kv version 2: patches of data and of metadata, names without values, listings with metadata, bounds of listings.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Mount, delete, get, list, patch, post};
use serde_json::{Value, json};

#[tokio::test]
async fn a_patch_writes_a_new_version_that_differs_where_it_says_so() {
    let kv = Mount::kv().await;
    let first = json!({"user": "web", "old": 1, "deep": {"a": 1, "b": {"c": 2}}, "list": [1, 2]});
    kv.done(post("data/a", json!({"data": first}))).await;
    let change = json!({"user": "app", "old": null, "deep": {"b": {"c": null, "d": 3}}, "list": [3], "none": {"x": null}});
    // From the only version, which rests in the record, and from one that lies apart.
    for n in 2..=3 {
        let patched = kv
            .done(patch("data/a", json!({"data": change})).at(n))
            .await;
        assert_eq!((patched.status, &patched.data["version"]), (200, &json!(n)));
        assert!(patched.data["created_time"].is_string() && patched.warnings.is_empty());
        let expected =
            json!({"user": "app", "deep": {"a": 1, "b": {"d": 3}}, "list": [3], "none": {}});
        assert_eq!(kv.done(get("data/a")).await.data["data"], expected);
    }
    let before = kv.done(get("data/a").with(json!({"version": 1}))).await;
    assert_eq!(before.data["data"], first);
    // Nothing changes, and yet it is a version.
    let patched = kv.done(patch("data/a", json!({"data": {}}))).await;
    assert_eq!(patched.data["version"], 4);
}

#[tokio::test]
async fn a_patch_needs_a_living_version_and_the_one_that_cas_names() {
    let kv = Mount::kv().await;
    let change = || patch("data/a", json!({"data": {"n": 2}}));
    assert_eq!(kv.refused(change()).await, (404, String::new()));
    kv.done(post("metadata/a", json!({"max_versions": 3})))
        .await;
    assert_eq!(kv.status(change()).await, 404);
    kv.done(post("data/a", json!({"data": {"n": 1}}))).await;
    let cas = |n: u64| patch("data/a", json!({"data": {"m": n}, "options": {"cas": n}}));
    for wrong in [0, 2] {
        let (status, text) = kv.refused(cas(wrong)).await;
        assert_eq!(
            (status, text.as_str()),
            (
                400,
                "check-and-set parameter did not match the current version"
            )
        );
    }
    assert_eq!(kv.done(cas(1)).await.data["version"], 2);
    kv.done(post("config", json!({"cas_required": true}))).await;
    let (status, text) = kv.refused(change()).await;
    assert_eq!(
        (status, text.as_str()),
        (400, "check-and-set parameter required for this call")
    );
    kv.done(post("config", json!({"cas_required": false})))
        .await;

    // A deleted version is a 404 that says so, and so is a destroyed one; neither is written over.
    kv.done(delete("data/a").at(60)).await;
    let gone = kv.done(change().at(61)).await;
    assert_eq!((gone.status, &gone.data["version"]), (404, &json!(2)));
    assert_ne!(gone.data["deletion_time"], "");
    kv.done(post("destroy/a", json!({"versions": [2]}))).await;
    let gone = kv.done(change().at(62)).await;
    assert_eq!((gone.status, &gone.data["destroyed"]), (404, &json!(true)));
    let metadata = kv.done(get("metadata/a")).await;
    assert_eq!(metadata.data["current_version"], 2);

    for (body, says) in [
        (json!({}), "no data provided"),
        (json!({"data": null}), "no data provided"),
        (json!({"data": "s3cret"}), "data"),
    ] {
        let (status, text) = kv.refused(patch("data/a", body)).await;
        assert!(
            status == 400 && text.contains(says) && !text.contains("s3cret"),
            "{text}"
        );
    }
    let warned = kv
        .done(post("data/b", json!({"data": {}, "options": {"max": 1}})))
        .await;
    assert_eq!(warned.warnings.len(), 1);
    let warned = kv
        .done(patch("data/b", json!({"data": {}, "options": {"max": 1}})))
        .await;
    assert_eq!(
        warned.warnings,
        ["These unrecognized options were ignored: [max]"]
    );
}

#[tokio::test]
async fn a_version_that_has_ended_by_itself_is_not_patched() {
    let kv = Mount::kv().await;
    kv.done(post("metadata/a", json!({"delete_version_after": "1h"})))
        .await;
    for _ in 0..2 {
        kv.done(post("data/a", json!({"data": {"n": 1}}))).await;
    }
    let shown = kv.done(get("data/a")).await;
    assert_eq!(
        shown.data["metadata"]["deletion_time"],
        "2018-03-22T03:24:06.945319214Z"
    );
    let change = || patch("data/a", json!({"data": {"n": 2}}));
    assert_eq!(kv.done(change().at(3599)).await.data["version"], 3);
    assert_eq!(kv.done(change().at(3 * 3600)).await.status, 404);
}

#[tokio::test]
async fn subkeys_show_names_and_no_values() {
    let kv = Mount::kv().await;
    let secret =
        json!({"user": "s3cret", "deep": {"a": {"b": "s3cret"}, "empty": {}}, "list": ["s3cret"]});
    kv.done(post("data/app/db", json!({"data": secret}))).await;
    let shown = kv.done(get("subkeys/app/db")).await;
    assert_eq!(
        shown.data["subkeys"],
        json!({"user": null, "deep": {"a": {"b": null}, "empty": null}, "list": null})
    );
    assert_eq!(shown.data["metadata"]["version"], 1);
    assert!(!shown.data.to_string().contains("s3cret"));
    let shallow = kv
        .done(get("subkeys/app/db").with(json!({"depth": "1"})))
        .await;
    assert_eq!(
        shallow.data["subkeys"],
        json!({"user": null, "deep": null, "list": null})
    );
    kv.done(post("data/app/db", json!({"data": {"other": 1}})))
        .await;
    let old = kv
        .done(get("subkeys/app/db").with(json!({"version": 1, "depth": 2})))
        .await;
    assert_eq!(
        old.data["subkeys"]["deep"],
        json!({"a": null, "empty": null})
    );
    kv.done(delete("data/app/db")).await;
    let gone = kv.done(get("subkeys/app/db").at(1)).await;
    assert_eq!((gone.status, &gone.data["subkeys"]), (404, &Value::Null));
    assert_ne!(gone.data["metadata"]["deletion_time"], "");
    assert_eq!(kv.status(get("subkeys/none")).await, 404);
    assert_eq!(
        kv.status(get("subkeys/app/db").with(json!({"version": 9})))
            .await,
        404
    );
    assert_eq!(
        kv.status(get("subkeys/app/db").with(json!({"depth": -1})))
            .await,
        400
    );
}

#[tokio::test]
async fn metadata_is_patched_field_by_field_and_null_is_the_default() {
    let kv = Mount::kv().await;
    assert_eq!(
        kv.status(patch("metadata/a", json!({"max_versions": 3})))
            .await,
        404
    );
    kv.done(post(
        "metadata/a",
        json!({"max_versions": 5, "cas_required": true, "delete_version_after": "1h",
            "custom_metadata": {"owner": "web", "team": "one"}}),
    ))
    .await;
    let read = || async { kv.done(get("metadata/a")).await.data };
    let patched = kv
        .done(patch(
            "metadata/a",
            json!({"custom_metadata": {"owner": null, "team": "two", "n": 3}}),
        ))
        .await;
    assert_eq!(patched.status, 204);
    let now = read().await;
    assert_eq!(now["custom_metadata"], json!({"team": "two", "n": "3"}));
    assert_eq!(
        (
            &now["max_versions"],
            &now["cas_required"],
            &now["delete_version_after"]
        ),
        (&json!(5), &json!(true), &json!("1h0m0s"))
    );
    kv.done(patch(
        "metadata/a",
        json!({"max_versions": null, "cas_required": false}),
    ))
    .await;
    let now = read().await;
    assert_eq!(
        (
            &now["max_versions"],
            &now["cas_required"],
            &now["delete_version_after"]
        ),
        (&json!(0), &json!(false), &json!("1h0m0s"))
    );
    // The limits hold for the whole that comes of it.
    let many: serde_json::Map<String, Value> =
        (0..63).map(|n| (format!("n{n}"), json!("x"))).collect();
    assert_eq!(
        kv.status(patch("metadata/a", json!({"custom_metadata": many})))
            .await,
        400
    );
    for wrong in [
        json!({"custom_metadata": {"a": ""}}),
        json!({"custom_metadata": {"a": {"b": null}}}),
        json!({"custom_metadata": "x"}),
        json!({"max_versions": "many"}),
        json!({"delete_version_after": "soon"}),
    ] {
        assert_eq!(
            kv.status(patch("metadata/a", wrong.clone())).await,
            400,
            "{wrong}"
        );
    }
    assert_eq!(read().await, now);
    kv.done(patch(
        "metadata/a",
        json!({"custom_metadata": null, "delete_version_after": null}),
    ))
    .await;
    let now = read().await;
    assert_eq!(
        (&now["custom_metadata"], &now["delete_version_after"]),
        (&Value::Null, &json!("0s"))
    );
}

#[tokio::test]
async fn a_setting_that_the_mount_does_not_let_count_is_warned_of() {
    let kv = Mount::kv().await;
    kv.done(post(
        "config",
        json!({"cas_required": true, "delete_version_after": "1h"}),
    ))
    .await;
    let settings = json!({"cas_required": false, "delete_version_after": "2h"});
    let written = kv.done(post("metadata/a", settings.clone())).await;
    assert_eq!(written.warnings.len(), 2, "{:?}", written.warnings);
    let patched = kv.done(patch("metadata/a", settings.clone())).await;
    assert_eq!(patched.warnings, written.warnings);
    kv.done(post("config", json!({"delete_version_after": "-1s"})))
        .await;
    let warned = kv.done(post("metadata/a", settings)).await;
    assert!(warned.warnings[1].contains("turns it off"));
    let fine = json!({"cas_required": true, "delete_version_after": 0});
    assert!(kv.done(post("metadata/a", fine)).await.warnings.is_empty());
}

#[tokio::test]
async fn a_listing_with_metadata_has_it_for_each_secret_and_comes_in_pages() {
    let kv = Mount::kv().await;
    assert_eq!(kv.status(list("detailed-metadata")).await, 404);
    for path in ["app/a", "app/a/b", "app/c", "top"] {
        kv.done(post(format!("data/{path}"), json!({"data": {"n": 1}})))
            .await;
    }
    kv.done(post(
        "metadata/app/c",
        json!({"custom_metadata": {"owner": "web"}}),
    ))
    .await;
    let all = kv.done(list("detailed-metadata/app")).await.data;
    assert_eq!(all["keys"], json!(["a", "a/", "c"]));
    let info = all["key_info"].as_object().unwrap();
    assert_eq!(info.keys().collect::<Vec<_>>(), ["a", "c"]);
    for name in ["a", "c"] {
        let metadata = kv.done(get(format!("metadata/app/{name}"))).await.data;
        assert_eq!(info[name], metadata);
    }
    let page = json!({"after": "a", "limit": 1});
    let page = kv.done(list("detailed-metadata/app").with(page)).await.data;
    assert_eq!(page, json!({"keys": ["a/"], "key_info": {}}));
    let top = kv.done(list("detailed-metadata")).await.data;
    assert_eq!(top["keys"], json!(["app/", "top"]));
    assert_eq!(kv.status(list("detailed-metadata/top")).await, 404);
}

#[tokio::test]
async fn a_listing_without_bounds_is_refused_and_comes_whole_in_pages() {
    let kv = Mount::kv().await;
    let mut batch = obol_storage::Batch::new();
    for n in 0..10_001 {
        kv.view
            .put_in(&mut batch, &format!("secrets/{n:06}"), Vec::new());
    }
    kv.view.commit(batch).await.unwrap();
    assert_eq!(
        kv.done(list("metadata")).await.data["keys"]
            .as_array()
            .unwrap()
            .len(),
        10_001
    );
    // With metadata each name takes a read, so the bound is lower.
    let (status, text) = kv.refused(list("detailed-metadata")).await;
    assert!(status == 400 && text.contains("limit"), "{text}");
    let mut after = String::new();
    let mut seen = 0;
    while let Ok(page) = kv
        .ask(list("metadata").with(json!({"after": after, "limit": 3000})))
        .await
    {
        let keys = page.data["keys"].as_array().unwrap().clone();
        assert!(keys.len() <= 3000);
        seen += keys.len();
        after = keys.last().unwrap().as_str().unwrap().to_owned();
    }
    assert_eq!(seen, 10_001);
}
