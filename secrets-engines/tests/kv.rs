//! kv version 2 as a client sees it: shapes, versions, deletion, check-and-set, settings, listings.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Ask, Mount, delete, get, list, patch, post, view};
use obol_mount::{Document, MountDoc, Operation};
use obol_secrets_engines::kinds;
use serde_json::{Value, json};

const START: &str = "2018-03-22T02:24:06.945319214Z";

#[tokio::test]
async fn answers_have_vaults_shapes_to_the_letter() {
    let kv = Mount::kv().await;
    let written = kv
        .done(post(
            "data/app/db",
            json!({"data": {"user": "web", "port": 5432}}),
        ))
        .await;
    assert_eq!(
        (written.status, written.operation),
        (200, Operation::Create)
    );
    let version = json!({
        "created_time": START, "custom_metadata": null, "deletion_time": "", "destroyed": false, "version": 1,
    });
    assert_eq!(written.data, version);
    assert!(written.warnings.is_empty());

    let read = kv.done(get("data/app/db")).await;
    assert_eq!(read.status, 200);
    assert_eq!(
        read.data,
        json!({"data": {"user": "web", "port": 5432}, "metadata": version})
    );

    let again = kv
        .done(post("data/app/db", json!({"data": {}})).at(60))
        .await;
    assert_eq!(
        (again.data["version"].clone(), again.operation),
        (json!(2), Operation::Update)
    );
    let later = "2018-03-22T02:25:06.945319214Z";
    let metadata = kv.done(get("metadata/app/db")).await;
    let expected = json!({
        "cas_required": false,
        "created_time": START,
        "current_version": 2,
        "custom_metadata": null,
        "delete_version_after": "0s",
        "max_versions": 0,
        "oldest_version": 0,
        "updated_time": later,
        "versions": {
            "1": {"created_time": START, "deletion_time": "", "destroyed": false},
            "2": {"created_time": later, "deletion_time": "", "destroyed": false},
        },
    });
    assert_eq!(metadata.data, expected);
}

#[tokio::test]
async fn every_version_can_be_read_and_nothing_else() {
    let kv = Mount::kv().await;
    for n in 1..=4 {
        kv.done(write("a", n)).await;
    }
    for n in 1..=4 {
        let read = kv.done(version("a", n)).await;
        assert_eq!(
            (&read.data["data"]["n"], &read.data["metadata"]["version"]),
            (&json!(n), &json!(n))
        );
    }
    assert_eq!(kv.done(get("data/a")).await.data["data"]["n"], 4);
    assert_eq!(
        kv.done(get("data/a").with(json!({"version": "0"})))
            .await
            .data["data"]["n"],
        4
    );
    assert_eq!(
        kv.done(get("data/a").with(json!({"version": "2"})))
            .await
            .data["data"]["n"],
        2
    );
    assert_eq!(kv.refused(version("a", 5)).await, (404, String::new()));
    assert_eq!(kv.refused(get("data/b")).await, (404, String::new()));
    assert_eq!(
        kv.status(get("data/a").with(json!({"version": "two"})))
            .await,
        400
    );
    assert_eq!(kv.status(get("data")).await, 404);
}

#[tokio::test]
async fn a_deleted_version_is_a_404_that_says_when_and_can_come_back() {
    let kv = Mount::kv().await;
    kv.done(write("a", 1)).await;
    kv.done(write("a", 2)).await;
    assert_eq!(kv.done(delete("data/a").at(60)).await.status, 204);
    let gone = kv.done(get("data/a").at(61)).await;
    assert_eq!(gone.status, 404);
    let deleted = "2018-03-22T02:25:06.945319214Z";
    let expected = json!({
        "data": null,
        "metadata": {
            "created_time": START, "custom_metadata": null, "deletion_time": deleted, "destroyed": false, "version": 2,
        },
    });
    assert_eq!(gone.data, expected);
    // A second deletion leaves the time of the first.
    kv.done(delete("data/a").at(90)).await;
    assert_eq!(kv.done(get("data/a").at(91)).await.data, expected);
    assert_eq!(kv.done(version("a", 1)).await.status, 200);

    kv.done(by_number("delete", "a", json!([1, 2, 7]))).await;
    assert_eq!(kv.done(version("a", 1)).await.status, 404);
    assert_eq!(
        kv.done(by_number("undelete", "a", json!("1,2")))
            .await
            .status,
        204
    );
    for n in 1..=2 {
        let read = kv.done(version("a", n).at(99)).await;
        assert_eq!((read.status, &read.data["data"]["n"]), (200, &json!(n)));
        assert_eq!(read.data["metadata"]["deletion_time"], "");
    }
}

#[tokio::test]
async fn a_destroyed_version_leaves_no_data_and_does_not_come_back() {
    let kv = Mount::kv().await;
    for word in ["alpha-secret", "beta-secret", "gamma-secret"] {
        kv.done(post("data/a", json!({"data": {"word": word}})))
            .await;
    }
    // Written over, deleted or the latest: destroyed all the same.
    kv.done(by_number("delete", "a", json!([1]))).await;
    for (n, word) in [(1, "alpha-secret"), (3, "gamma-secret")] {
        assert!(kv.holds(word).await);
        let keys = kv.kept().await.len();
        assert_eq!(
            kv.done(by_number("destroy", "a", json!([n]))).await.status,
            204
        );
        assert!(!kv.holds(word).await);
        assert_eq!(kv.kept().await.len(), keys - 1);
    }
    kv.done(by_number("undelete", "a", json!([1, 3]))).await;
    kv.done(by_number("delete", "a", json!([3]))).await;
    kv.done(by_number("destroy", "a", json!([1, 3]))).await;
    for n in [1, 3] {
        let gone = kv.done(version("a", n).at(1)).await;
        assert_eq!((gone.status, &gone.data["data"]), (404, &Value::Null));
        assert_eq!(gone.data["metadata"]["destroyed"], true);
        assert_eq!(gone.data["metadata"]["deletion_time"] == "", n == 3);
    }
    assert_eq!(
        kv.done(version("a", 2)).await.data["data"]["word"],
        "beta-secret"
    );
    // The next version follows, and the destroyed one leaves nothing behind when it is written over.
    assert_eq!(kv.done(write("a", 4)).await.data["version"], 4);
    assert_eq!(kv.done(version("a", 3)).await.status, 404);
    assert_eq!(kv.kept().await.len(), 3);
    // The only version rests in the secret's own record.
    kv.done(post("data/only", json!({"data": {"word": "delta-secret"}})))
        .await;
    kv.done(by_number("destroy", "only", json!([1]))).await;
    assert!(!kv.holds("delta-secret").await);
    assert_eq!(kv.done(get("data/only")).await.status, 404);
    kv.done(write("only", 2)).await;
    assert_eq!(kv.done(get("data/only")).await.data["data"]["n"], 2);
}

#[tokio::test]
async fn versions_need_numbers_and_a_missing_secret_is_passed_over() {
    let kv = Mount::kv().await;
    for verb in ["delete", "undelete", "destroy"] {
        for body in [json!({}), json!({"versions": []})] {
            let refused = kv.refused(post(format!("{verb}/a"), body)).await;
            assert_eq!(refused, (400, "No version number provided".to_owned()));
        }
        assert_eq!(kv.status(by_number(verb, "a", json!([1]))).await, 204);
        assert_eq!(kv.status(by_number(verb, "a", json!("one"))).await, 400);
    }
    assert_eq!(kv.status(delete("data/a")).await, 204);
    assert_eq!(kv.status(delete("metadata/a")).await, 204);
    assert!(kv.kept().await.is_empty());
}

#[tokio::test]
async fn the_oldest_versions_go_when_there_are_more_than_are_kept() {
    let kv = Mount::kv().await;
    for n in 1..=12 {
        kv.done(write("a", n)).await;
    }
    assert_eq!(numbers(&kv, "a").await, (3..=12).collect::<Vec<_>>());
    assert_eq!(kv.status(version("a", 2)).await, 404);
    assert_eq!(kv.done(version("a", 3)).await.data["data"]["n"], 3);
    assert_eq!(kv.done(get("metadata/a")).await.data["oldest_version"], 3);
    assert_eq!(kv.kept().await.len(), 11);

    // The secret's own number goes before the mount's, down to one, at its next write.
    kv.done(post("config", json!({"max_versions": 5}))).await;
    kv.done(post("metadata/a", json!({"max_versions": "3"})))
        .await;
    assert_eq!(numbers(&kv, "a").await.len(), 10);
    kv.done(write("a", 13)).await;
    assert_eq!(numbers(&kv, "a").await, [11, 12, 13]);
    kv.done(post("metadata/a", json!({"max_versions": 1})))
        .await;
    kv.done(write("a", 14)).await;
    assert_eq!(numbers(&kv, "a").await, [14]);
    kv.done(write("a", 15)).await;
    assert_eq!(
        kv.kept().await.into_iter().collect::<Vec<_>>(),
        ["config", "secrets/a"]
    );
    kv.done(post("metadata/a", json!({"max_versions": 0})))
        .await;
    for n in 16..=22 {
        kv.done(write("a", n)).await;
    }
    assert_eq!(numbers(&kv, "a").await, [18, 19, 20, 21, 22]);
    for n in 18..=22 {
        assert_eq!(kv.done(version("a", n)).await.data["data"]["n"], n);
    }
}

#[tokio::test]
async fn a_version_in_the_place_of_one_that_went_is_deleted_destroyed_and_patched_like_any_other() {
    let kv = Mount::kv().await;
    for n in 1..=13 {
        kv.done(write("a", n)).await;
    }
    let before = kv.kept().await;
    assert_eq!(before.len(), 11);
    kv.done(by_number("destroy", "a", json!([12]))).await;
    let after = kv.kept().await;
    assert_eq!(before.difference(&after).count(), 1);
    for n in (4..=13).filter(|n| *n != 12) {
        assert_eq!(kv.done(version("a", n)).await.data["data"]["n"], n);
    }
    assert_eq!(kv.status(version("a", 12)).await, 404);
    kv.done(by_number("delete", "a", json!([11]))).await;
    assert_eq!(kv.status(version("a", 11)).await, 404);
    kv.done(by_number("undelete", "a", json!([11]))).await;
    assert_eq!(kv.done(version("a", 11)).await.data["data"]["n"], 11);
    let patched = patch("data/a", json!({"data": {"m": 1}}));
    assert_eq!(kv.done(patched).await.data["version"], 14);
    assert_eq!(
        kv.done(get("data/a")).await.data["data"],
        json!({"n": 13, "m": 1})
    );
    // The place of the version that was destroyed serves again.
    for n in 15..=22 {
        kv.done(write("a", n)).await;
    }
    assert_eq!(kv.kept().await, before);
    for n in 15..=22 {
        assert_eq!(kv.done(version("a", n)).await.data["data"]["n"], n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_that_a_write_overtakes_never_gives_the_data_of_another_version() {
    let kv = Arc::new(Mount::kv().await);
    kv.done(post("config", json!({"max_versions": 2}))).await;
    kv.done(write("a", 1)).await;
    let latest = Arc::new(AtomicU64::new(1));
    let (writing, written) = (Arc::clone(&kv), Arc::clone(&latest));
    let writes = tokio::spawn(async move {
        for n in 2..=500 {
            writing.done(write("a", n)).await;
            written.store(n, Ordering::Release);
        }
    });
    let reads = tokio::spawn(async move {
        let mut found = 0;
        loop {
            let n = latest.load(Ordering::Acquire);
            let oldest = n.max(2) - 1;
            for (ask, expected) in [(version("a", oldest), Some(oldest)), (get("data/a"), None)] {
                match kv.ask(ask).await {
                    Ok(reply) => {
                        let version = reply.data["metadata"]["version"].as_u64().unwrap();
                        assert_eq!(reply.data["data"]["n"], version);
                        assert!(expected.is_none_or(|expected| expected == version));
                        found += 1;
                    }
                    // It fell out of the history meanwhile.
                    Err(error) => assert_eq!((error.status(), expected), (404, Some(oldest))),
                }
            }
            if n == 500 {
                return found;
            }
        }
    });
    writes.await.unwrap();
    assert!(reads.await.unwrap() > 0);
}

#[tokio::test]
async fn check_and_set_writes_only_over_the_version_that_it_names() {
    let kv = Mount::kv().await;
    let cas = |cas: Value| post("data/a", json!({"data": {"n": 1}, "options": {"cas": cas}}));
    let mismatch = (
        400,
        "check-and-set parameter did not match the current version".to_owned(),
    );
    assert_eq!(kv.refused(cas(json!(1))).await, mismatch);
    assert!(kv.kept().await.is_empty());
    assert_eq!(kv.done(cas(json!(0))).await.data["version"], 1);
    assert_eq!(kv.refused(cas(json!(0))).await, mismatch);
    assert_eq!(kv.done(cas(json!("1"))).await.data["version"], 2);
    // Deleted or not, a version counts.
    kv.done(delete("data/a")).await;
    assert_eq!(kv.refused(cas(json!(0))).await, mismatch);
    assert_eq!(kv.done(cas(json!(2))).await.data["version"], 3);
    for wrong in [json!(-1), json!("three"), json!(null), json!([3])] {
        assert_eq!(kv.status(cas(wrong)).await, 400);
    }

    let required = (
        400,
        "check-and-set parameter required for this call".to_owned(),
    );
    kv.done(post("metadata/a", json!({"cas_required": true})))
        .await;
    assert_eq!(kv.refused(write("a", 1)).await, required);
    kv.done(write("b", 1)).await;
    kv.done(post("config", json!({"cas_required": "true"})))
        .await;
    assert_eq!(kv.refused(write("b", 1)).await, required);
    assert_eq!(kv.done(cas(json!(3))).await.data["version"], 4);
    let answer = kv
        .done(post("metadata/b", json!({"cas_required": false})))
        .await;
    assert_eq!((answer.status, answer.warnings.len()), (204, 1));
}

#[tokio::test]
async fn unknown_options_are_warned_of() {
    let kv = Mount::kv().await;
    let body = json!({"data": {}, "options": {"cas": 0, "force": true}, "dta": 1});
    let answer = kv.done(post("data/a", body)).await;
    assert_eq!(answer.warnings.len(), 2, "{:?}", answer.warnings);
    assert!(answer.warnings[0].contains("[dta]") && answer.warnings[1].contains("[force]"));
    assert!(
        kv.done(post("data/a", json!({"data": {}, "options": null})))
            .await
            .warnings
            .is_empty()
    );
}

#[tokio::test]
async fn a_body_without_data_is_refused() {
    let kv = Mount::kv().await;
    for body in [
        json!({}),
        json!({"data": null}),
        json!({"options": {"cas": 0}}),
    ] {
        assert_eq!(
            kv.refused(post("data/a", body)).await,
            (400, "no data provided".to_owned())
        );
    }
    assert!(kv.kept().await.is_empty());
}

#[tokio::test]
async fn error_leaks_input_no_refusal_repeats_what_was_sent() {
    let kv = Mount::kv().await;
    kv.done(write("a", 1)).await;
    let secret = "s3cret-value";
    let long = format!("{secret}{}", "x".repeat(600));
    for ask in [
        post("data/a", json!({"data": secret})),
        post("data/a", json!({"data": [secret]})),
        post("data/a", json!({"data": {"a": secret}, "options": secret})),
        post(
            "data/a",
            json!({"data": {"a": secret}, "options": {"cas": secret}}),
        ),
        post(
            "data/a",
            json!({"data": {"a": secret}, "options": {"cas": 7}}),
        ),
        post("data/a", json!({"data": {"a": secret, "n": 1e40}})),
        post("metadata/a", json!({"custom_metadata": {"a": [secret]}})),
        post("metadata/a", json!({"custom_metadata": {"a": long}})),
        post("metadata/a", json!({"custom_metadata": secret})),
        post("metadata/a", json!({"delete_version_after": secret})),
        post("config", json!({"max_versions": secret})),
        post("config", json!({"max_versions": 1_u64 << 40})),
        post("config", json!({"delete_version_after": secret})),
        by_number("destroy", "a", json!(secret)),
    ] {
        let error = kv.ask(ask).await.unwrap_err();
        assert_eq!(error.status(), 400, "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    assert_eq!(kv.kept().await.len(), 1);
}

#[tokio::test]
async fn numbers_that_cannot_be_kept_exactly_are_refused() {
    let kv = Mount::kv().await;
    let big: Value =
        serde_json::from_str(r#"{"data": {"n": [123456789012345678901234567890]}}"#).unwrap();
    let (status, text) = kv.refused(post("data/a", big)).await;
    assert_eq!(status, 400);
    assert!(text.contains("send it as text"), "{text}");
    for text in [
        "18446744073709551615",
        "-9223372036854775808",
        "0.1",
        "1.7976931348623157",
        "5e-324",
    ] {
        let body: Value = serde_json::from_str(&format!(r#"{{"data": {{"n": {text}}}}}"#)).unwrap();
        kv.done(post("data/a", body)).await;
        assert_eq!(
            kv.done(get("data/a")).await.data["data"]["n"].to_string(),
            text
        );
    }
}

#[tokio::test]
async fn versions_delete_themselves_after_the_shorter_of_the_two_times() {
    let kv = Mount::kv().await;
    kv.done(post("config", json!({"delete_version_after": "1m"})))
        .await;
    let written = kv.done(write("a", 1)).await;
    assert_eq!(
        written.data["deletion_time"],
        "2018-03-22T02:25:06.945319214Z"
    );
    assert_eq!(kv.done(get("data/a").at(59)).await.status, 200);
    assert_eq!(kv.done(get("data/a").at(60)).await.status, 404);
    // Undeleted, it has as long again.
    kv.done(by_number("undelete", "a", json!([1])).at(100))
        .await;
    assert_eq!(kv.done(get("data/a").at(159)).await.status, 200);
    assert_eq!(kv.done(get("data/a").at(160)).await.status, 404);

    kv.done(post("metadata/a", json!({"delete_version_after": 10})))
        .await;
    assert_eq!(
        kv.done(get("metadata/a")).await.data["delete_version_after"],
        "10s"
    );
    kv.done(write("a", 2)).await;
    assert_eq!(kv.done(get("data/a").at(10)).await.status, 404);
    // Deleted before its time, it is gone at once.
    kv.done(write("a", 3)).await;
    kv.done(delete("data/a").at(5)).await;
    assert_eq!(kv.done(get("data/a").at(6)).await.status, 404);

    kv.done(post("config", json!({"delete_version_after": "-1s"})))
        .await;
    assert_eq!(
        kv.done(get("config")).await.data["delete_version_after"],
        "-1s"
    );
    assert_eq!(kv.done(write("a", 4)).await.data["deletion_time"], "");
    assert_eq!(
        kv.status(post("metadata/a", json!({"delete_version_after": "-1s"})))
            .await,
        400
    );
}

#[tokio::test]
async fn the_mounts_settings_are_read_back_and_change_one_by_one() {
    let kv = Mount::kv().await;
    let defaults = json!({"max_versions": 0, "cas_required": false, "delete_version_after": "0s"});
    assert_eq!(kv.done(get("config")).await.data, defaults);
    assert_eq!(kv.done(post("config", json!({}))).await.status, 204);
    assert!(kv.kept().await.is_empty());
    let sent = json!({"max_versions": 5, "cas_required": true, "delete_version_after": "3h25m19s"});
    assert_eq!(kv.done(post("config", sent.clone())).await.status, 204);
    assert_eq!(kv.done(get("config")).await.data, sent);
    kv.done(post("config", json!({"cas_required": false})))
        .await;
    let changed =
        json!({"max_versions": 5, "cas_required": false, "delete_version_after": "3h25m19s"});
    assert_eq!(kv.done(get("config")).await.data, changed);
}

#[tokio::test]
async fn custom_metadata_is_replaced_as_a_whole_and_bounded() {
    let kv = Mount::kv().await;
    // Metadata may come before the first version.
    kv.done(post(
        "metadata/a",
        json!({"custom_metadata": {"owner": "web", "rank": 7, "hot": true}}),
    ))
    .await;
    let custom = json!({"owner": "web", "rank": "7", "hot": "1"});
    let metadata = kv.done(get("metadata/a")).await.data;
    assert_eq!(
        (&metadata["custom_metadata"], &metadata["current_version"]),
        (&custom, &json!(0))
    );
    assert_eq!(metadata["versions"], json!({}));
    assert_eq!(kv.refused(get("data/a")).await, (404, String::new()));
    assert_eq!(kv.status(delete("data/a")).await, 204);
    assert_eq!(kv.done(write("a", 1)).await.data["custom_metadata"], custom);
    assert_eq!(
        kv.done(get("data/a")).await.data["metadata"]["custom_metadata"],
        custom
    );
    kv.done(post(
        "metadata/a",
        json!({"custom_metadata": {"owner": "ops"}}),
    ))
    .await;
    assert_eq!(
        kv.done(get("metadata/a")).await.data["custom_metadata"],
        json!({"owner": "ops"})
    );
    assert_eq!(kv.done(get("data/a")).await.data["data"]["n"], 1);

    let many: serde_json::Map<String, Value> =
        (0..65).map(|n| (n.to_string(), json!("x"))).collect();
    for wrong in [
        json!(many),
        json!({"": "x"}),
        json!({"a": ""}),
        json!({"a": null}),
        json!({"a": {"b": "c"}}),
        json!({"a\nb": "x"}),
        json!({"x".repeat(129): "x"}),
        json!({"a": "x".repeat(513)}),
    ] {
        assert_eq!(
            kv.status(post("metadata/a", json!({"custom_metadata": wrong})))
                .await,
            400
        );
    }
}

#[tokio::test]
async fn deleting_the_metadata_removes_every_trace_and_the_next_life_starts_at_one() {
    let kv = Mount::kv().await;
    for n in 1..=5 {
        kv.done(write("a", n)).await;
        kv.done(write("a/b", n)).await;
    }
    let others: Vec<String> = kv.kept().await.into_iter().collect();
    assert_eq!(kv.done(delete("metadata/a")).await.status, 204);
    assert_eq!(kv.kept().await.len(), others.len() / 2);
    assert_eq!(kv.status(get("data/a")).await, 404);
    assert_eq!(kv.status(get("metadata/a")).await, 404);
    assert_eq!(kv.done(version("a/b", 2)).await.data["data"]["n"], 2);
    let written = kv.done(write("a", 9)).await;
    assert_eq!(
        (&written.data["version"], written.operation),
        (&json!(1), Operation::Create)
    );
    assert_eq!(kv.status(version("a", 2)).await, 404);
}

#[tokio::test]
async fn listings_show_secrets_and_folders_in_pages() {
    let kv = Mount::kv().await;
    assert_eq!(kv.refused(list("metadata")).await, (404, String::new()));
    for path in ["b", "a", "a/b", "a/c/d", "z/y"] {
        kv.done(write(path, 1)).await;
    }
    let keys = |ask: Ask| async { kv.done(ask).await.data["keys"].clone() };
    assert_eq!(keys(list("metadata")).await, json!(["a", "a/", "b", "z/"]));
    assert_eq!(keys(list("metadata/")).await, json!(["a", "a/", "b", "z/"]));
    assert_eq!(keys(list("metadata/a")).await, json!(["b", "c/"]));
    assert_eq!(keys(list("metadata/a/")).await, json!(["b", "c/"]));
    assert_eq!(keys(list("metadata/a/c")).await, json!(["d"]));
    assert_eq!(kv.status(list("metadata/b")).await, 404);
    // A query's values are texts.
    let page =
        |after: &str, limit: &str| list("metadata").with(json!({"after": after, "limit": limit}));
    assert_eq!(keys(page("", "2")).await, json!(["a", "a/"]));
    assert_eq!(keys(page("a/", "2")).await, json!(["b", "z/"]));
    assert_eq!(keys(page("aa", "1")).await, json!(["b"]));
    assert_eq!(keys(page("a", "0")).await, json!(["a/", "b", "z/"]));
    assert_eq!(kv.status(page("z/", "2")).await, 404);
    assert_eq!(kv.status(page("", "some")).await, 400);
    assert_eq!(
        keys(list("metadata/a").with(json!({"after": "b"}))).await,
        json!(["c/"])
    );
    // Nothing outside the folder, wherever the page is said to begin.
    for after in ["../", "../../core", "/", "\u{0}", "~"] {
        let page = list("metadata/a").with(json!({"after": after}));
        let names = kv
            .ask(page)
            .await
            .map_or(json!([]), |answer| answer.data["keys"].clone());
        assert!(
            [json!([]), json!(["b", "c/"])].contains(&names),
            "{after:?}: {names}"
        );
    }
    // A deleted secret is still listed, one without metadata is not.
    kv.done(delete("data/b")).await;
    kv.done(delete("metadata/a")).await;
    assert_eq!(keys(list("metadata")).await, json!(["a/", "b", "z/"]));
}

#[tokio::test]
async fn path_traversal_is_refused_by_the_view_too() {
    let kv = Mount::kv().await;
    for path in ["a/../b", "../b", "a//b", "./a", "a\u{0}b"] {
        for ask in [
            get(format!("data/{path}")),
            write(path, 1),
            delete(format!("metadata/{path}")),
            list(format!("metadata/{path}")),
        ] {
            assert_eq!(kv.status(ask).await, 400, "{path:?}");
        }
    }
    assert!(kv.kept().await.is_empty());
}

#[tokio::test]
async fn the_version_of_the_mount_is_one_or_two() {
    for wrong in ["3", "0", "two"] {
        let opened = Mount::on(view().await, "kv", &[("version", wrong)]).await;
        assert_eq!(opened.err().unwrap().status(), 400);
    }
    Mount::open("kv", &[("version", "2")])
        .await
        .done(write("a", 1))
        .await;
}

#[tokio::test]
async fn a_sealed_server_answers_503_and_a_damaged_record_500() {
    let kv = Mount::kv().await;
    kv.done(write("a", 1)).await;
    let head = |current: u64| json!({"current": current, "id": "s3cret", "latest": [1, 3]});
    let history = |oldest: u64| json!({"created": 1, "oldest": oldest, "older": [[1, 1], [1, 2]]});
    for damage in [
        "not JSON: s3cret".to_owned(),
        json!({"current": "s3cret"}).to_string(),
        format!("{}s3cret", head(1)),
        // More versions than there can be, or an oldest one that is still to come.
        format!("{}[]{}", head(1), history(0)),
        format!("{}null{}", head(3), history(4)),
        format!("{}null{}s3cret", head(3), history(0)),
        // A place that a later version may take.
        json!({"current": 2, "id": "s3cret", "latest": [1, 3]}).to_string()
            + r#"null{"created":1,"oldest":0,"older":[[1,1]]}"#,
    ] {
        kv.view.put("secrets/a", damage.into_bytes()).await.unwrap();
        for ask in [get("data/a"), write("a", 2), get("metadata/a")] {
            let error = kv.ask(ask).await.unwrap_err();
            assert_eq!(
                (error.status(), error.messages()),
                (500, &["internal error".to_owned()][..])
            );
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
    // Data of another version where the record says that this one's is: an error, not that data.
    for n in 1..=2 {
        kv.done(write("b", n)).await;
    }
    let kept = kv.kept().await;
    let [first, second] = [1, 2].map(|place| {
        let end = format!("/{place}");
        kept.iter().find(|path| path.ends_with(&end)).unwrap()
    });
    let other = kv.view.get(first).await.unwrap().unwrap();
    kv.view.put(second, other.value.to_vec()).await.unwrap();
    assert_eq!(kv.status(get("data/b")).await, 500);
    assert_eq!(kv.done(version("b", 1)).await.data["data"]["n"], 1);

    kv.view.barrier().seal();
    assert_eq!(kv.status(get("data/a")).await, 503);
}

#[test]
fn every_route_is_documented() {
    for kind in kinds() {
        let routes = (kind.docs)().unwrap();
        for route in &routes {
            assert!(route.help("secret/").contains(route.about));
        }
        let mount = MountDoc {
            path: "secret/".into(),
            kind: kind.name.into(),
            about: kind.about,
            routes,
        };
        let document = Document::new("Obol", "0", vec![mount]).build();
        if kind.name == "kv" {
            let body =
                "/paths/~1secret~1data~1{path}/post/requestBody/content/application~1json/schema";
            let properties = &document.pointer(body).unwrap()["properties"];
            assert!(properties["data"]["description"].is_string());
            assert!(properties["options"].to_string().contains("cas"));
        }
    }
}

fn write(path: &str, n: u64) -> Ask {
    post(format!("data/{path}"), json!({"data": {"n": n}}))
}

fn version(path: &str, n: u64) -> Ask {
    get(format!("data/{path}")).with(json!({"version": n.to_string()}))
}

fn by_number(verb: &str, path: &str, versions: Value) -> Ask {
    post(format!("{verb}/{path}"), json!({"versions": versions}))
}

async fn numbers(kv: &Mount, path: &str) -> Vec<u64> {
    let metadata = kv.done(get(format!("metadata/{path}"))).await.data;
    let versions = metadata["versions"].as_object().unwrap().keys();
    let mut numbers: Vec<u64> = versions.map(|number| number.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}
