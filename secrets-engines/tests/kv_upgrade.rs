//! A mount of version 1 that becomes one of version 2: nothing is lost, whenever the process ends on the way.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Mount, get, list, post};
use obol_storage::{Batch, View};
use serde_json::json;

const V2: &[(&str, &str)] = &[("version", "2")];

#[tokio::test]
async fn every_secret_becomes_a_first_version_and_late_writes_fail() {
    let old = Mount::kv_v1().await;
    for n in 0..300 {
        old.done(post(format!("f/{n}"), json!({"n": n}))).await;
    }
    old.done(post("config", json!({"a": "name like another"})))
        .await;
    let warnings = change(&old, "2").await;
    assert_eq!(warnings.len(), 1);
    // Whoever still holds the old mount writes nothing any more, and is not told that nothing is there.
    assert_eq!(old.status(post("f/1", json!({"n": "late"}))).await, 503);
    assert_eq!(old.status(common::delete("f/1")).await, 503);
    assert_eq!(old.status(get("never")).await, 503);
    assert_eq!(old.status(list("")).await, 503);

    let new = Mount::on(old.view.clone(), "kv", V2).await.unwrap();
    for ask in [
        get("data/f/1"),
        post("data/x", json!({"data": {}})),
        list("metadata"),
        list("detailed-metadata"),
        get("config"),
        post("config", json!({"max_versions": 1})),
    ] {
        assert_eq!(new.status(ask).await, 503);
    }
    done(&new).await;
    for n in 0..300 {
        let read = new.done(get(format!("data/f/{n}"))).await.data;
        assert_eq!(
            (&read["data"], &read["metadata"]["version"]),
            (&json!({"n": n}), &json!(1))
        );
    }
    assert_eq!(
        new.done(list("metadata")).await.data["keys"],
        json!(["config", "f/"])
    );
    assert!(new.view.list("v1/", None, 1).await.unwrap().is_empty());
    // Once is enough: the next opening has nothing to do.
    let again = Mount::on(old.view.clone(), "kv", V2).await.unwrap();
    assert_eq!(again.done(get("data/f/7")).await.data["data"]["n"], 7);
}

#[tokio::test]
async fn half_written_an_interrupted_upgrade_goes_on_at_the_next_opening() {
    let old = Mount::kv_v1().await;
    for n in 0..400 {
        old.done(post(format!("f/{n:03}"), json!({"n": n}))).await;
    }
    change(&old, "2").await;
    // Opened and dropped: some have moved, some have not, none is gone or there twice.
    for _ in 0..3 {
        let interrupted = Mount::on(old.view.clone(), "kv", V2).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(interrupted);
        tokio::task::yield_now().await;
        assert_eq!(moved(&old.view).await + left(&old.view).await, 400);
    }
    // Two servers at once.
    let one = Mount::on(old.view.clone(), "kv", V2).await.unwrap();
    let two = Mount::on(old.view.clone(), "kv", V2).await.unwrap();
    done(&one).await;
    done(&two).await;
    assert_eq!((moved(&old.view).await, left(&old.view).await), (400, 0));
    assert_eq!(two.done(get("data/f/399")).await.data["data"]["n"], 399);
}

#[tokio::test]
async fn a_damaged_secret_stays_where_it_is_and_holds_nobody_up() {
    let old = Mount::kv_v1().await;
    for n in 0..5 {
        old.done(post(format!("f/{n}"), json!({"n": n}))).await;
    }
    old.view
        .put("v1/f/2", b"not JSON: s3cret".to_vec())
        .await
        .unwrap();
    change(&old, "2").await;
    let new = Mount::on(old.view.clone(), "kv", V2).await.unwrap();
    done(&new).await;
    assert_eq!(new.status(get("data/f/2")).await, 404);
    assert_eq!(new.done(get("data/f/3")).await.data["data"]["n"], 3);
    assert_eq!(left(&old.view).await, 1);
}

#[tokio::test]
async fn only_the_next_version_is_an_upgrade() {
    let mut batch = Batch::new();
    let options = |version: &str| BTreeMap::from([("version".to_owned(), version.to_owned())]);
    let old = Mount::kv_v1().await;
    let refused = old.backend.change_options(&options("3"), &mut batch);
    assert_eq!(refused.unwrap_err().status(), 400);
    let new = Mount::kv().await;
    for version in ["1", "", "3"] {
        let refused = new.backend.change_options(&options(version), &mut batch);
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.status(), refused.messages()),
            (
                400,
                &["cannot downgrade mount from version 2".to_owned()][..]
            )
        );
    }
    assert!(batch.is_empty());
    // An option that is not the version is another matter.
    let mut leased = options("1");
    leased.insert("leased_passthrough".to_owned(), "true".to_owned());
    assert!(old.backend.change_options(&leased, &mut batch).is_ok());
    leased.insert("leased_passthrough".to_owned(), "perhaps".to_owned());
    assert!(old.backend.change_options(&leased, &mut batch).is_err());
    assert!(batch.is_empty());
}

/// Changes the version as the core does, and returns the warnings.
async fn change(mount: &Mount, version: &str) -> Vec<String> {
    let mut batch = Batch::new();
    let options = BTreeMap::from([("version".to_owned(), version.to_owned())]);
    let warnings = mount.backend.change_options(&options, &mut batch).unwrap();
    mount.view.commit(batch).await.unwrap();
    warnings
}

async fn done(mount: &Mount) {
    for _ in 0..2000 {
        if mount.status(get("config")).await == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the upgrade does not end");
}

async fn moved(view: &View) -> usize {
    let all = view.scan_folder("secrets/", None, usize::MAX).await;
    all.unwrap().len()
}

async fn left(view: &View) -> usize {
    let all = view.scan_folder("v1/", None, usize::MAX).await;
    all.unwrap().len()
}
