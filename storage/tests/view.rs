//! A view reaches its own prefix and nothing else, and keeps records as JSON.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use obol_storage::{Barrier, Batch, Error, Memory, RootKey, View};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    count: u64,
    name: String,
}

#[tokio::test]
async fn views_share_a_barrier_and_see_their_own_prefix() {
    let barrier = barrier().await;
    let a = View::new(Arc::clone(&barrier), "mount/a/").unwrap();
    let b = View::new(Arc::clone(&barrier), "mount/b/").unwrap();
    a.put("x/y", b"of a".to_vec()).await.unwrap();
    b.put("x/y", b"of b".to_vec()).await.unwrap();
    a.put("z", b"1".to_vec()).await.unwrap();

    assert_eq!(&**a.get("x/y").await.unwrap().unwrap().value, b"of a");
    assert_eq!(a.list("", None, 9).await.unwrap(), ["x/", "z"]);
    assert_eq!(a.list("x/", None, 9).await.unwrap(), ["y"]);
    let sub = a.sub("x/").unwrap();
    assert_eq!(sub.prefix(), "mount/a/x/");
    assert_eq!(&**sub.get("y").await.unwrap().unwrap().value, b"of a");
    assert!(sub.get("z").await.unwrap().is_none());

    let mut batch = Batch::new();
    a.delete_prefix_in(&mut batch, "");
    a.commit(batch).await.unwrap();
    assert!(a.list("", None, 9).await.unwrap().is_empty());
    assert_eq!(&**b.get("x/y").await.unwrap().unwrap().value, b"of b");
    b.delete("x/y").await.unwrap();
    assert!(b.get("x/y").await.unwrap().is_none());
}

#[tokio::test]
async fn path_traversal_out_of_a_view_is_refused() {
    let barrier = barrier().await;
    let outside = View::new(Arc::clone(&barrier), "mount/other/").unwrap();
    outside.put("secret", b"1".to_vec()).await.unwrap();
    let view = View::new(Arc::clone(&barrier), "mount/a/").unwrap();
    let bad = [
        "../other/secret",
        "/mount/other/secret",
        "",
        "/",
        "x/../y",
        "x//y",
        "./x",
        "x/",
        "x\0y",
        "x\n",
        "x\u{1b}[2J",
        "..",
    ];
    for path in bad {
        let refused = |result| matches!(result, Err(Error::BadPath { .. }));
        assert!(refused(view.get(path).await.map(drop)), "{path:?}");
        assert!(refused(view.put(path, b"2".to_vec()).await), "{path:?}");
        assert!(refused(view.delete(path).await), "{path:?}");
        let update = view.update_json(path, |_: Option<u8>| Ok::<_, Error>(1));
        assert!(refused(update.await.map(drop)), "{path:?}");
    }
    for folder in ["../", "/", "..", "x", "../other/", "x//", "\0/"] {
        assert!(view.list(folder, None, 9).await.is_err(), "{folder:?}");
        assert!(view.sub(folder).is_err(), "{folder:?}");
        assert!(view.scan_folder(folder, None, 9).await.is_err());
        let mut batch = Batch::new();
        view.delete_prefix_in(&mut batch, folder);
        assert!(view.commit(batch).await.is_err(), "{folder:?}");
    }
    for prefix in ["", "/", "a", "/a/", "a/../b/"] {
        assert!(View::new(Arc::clone(&barrier), prefix).is_err());
    }
    assert!(outside.get("secret").await.unwrap().is_some());
}

#[tokio::test]
async fn a_scan_stays_within_its_view() {
    let barrier = barrier().await;
    let names = ["mount/a-/", "mount/a/", "mount/a0/", "mount/b/"];
    for name in names {
        let view = View::new(Arc::clone(&barrier), name).unwrap();
        for path in ["1/x", "1/y", "10", "2"] {
            view.put(path, name.as_bytes().to_vec()).await.unwrap();
        }
    }
    let view = View::new(Arc::clone(&barrier), "mount/a/").unwrap();
    let paths = |entries: Vec<(String, obol_storage::Entry)>| -> Vec<String> {
        assert!(
            entries
                .iter()
                .all(|(_, entry)| &**entry.value == b"mount/a/")
        );
        entries.into_iter().map(|(path, _)| path).collect()
    };
    assert_eq!(
        paths(view.scan("", None, 99).await.unwrap()),
        ["1/x", "1/y", "10", "2"]
    );
    assert_eq!(
        paths(view.scan("1/y", Some("2"), 99).await.unwrap()),
        ["1/y", "10"]
    );
    assert_eq!(paths(view.scan("", None, 2).await.unwrap()), ["1/x", "1/y"]);
    assert!(view.scan("../", None, 99).await.unwrap().len() <= 4);
    assert_eq!(
        paths(view.scan_folder("1/", None, 1).await.unwrap()),
        ["1/x"]
    );
    assert_eq!(
        paths(view.scan_folder("1/", Some("1/x"), 9).await.unwrap()),
        ["1/y"]
    );
}

#[tokio::test]
async fn records_are_kept_as_json() {
    let view = View::new(barrier().await, "m/").unwrap();
    assert_eq!(view.get_json::<Record>("r").await.unwrap(), None);
    let record = Record {
        count: 3,
        name: "n".repeat(5000),
    };
    view.put_json("r", &record).await.unwrap();
    assert_eq!(view.get_json("r").await.unwrap(), Some(record));

    view.put("bad", b"{\"count\": \"hunter2\"}".to_vec())
        .await
        .unwrap();
    let error = view.get_json::<Record>("bad").await.unwrap_err();
    assert!(matches!(&error, Error::BadForm { path, .. } if path == "m/bad"));
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "error-leaks-input: {error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_updates_of_a_record_lose_nothing() {
    let view = View::new(barrier().await, "m/").unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let view = view.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while done < 50 {
                    let updated = view
                        .update_json("r", |record: Option<Record>| {
                            let mut record = record.unwrap_or_default();
                            record.count += 1;
                            Ok::<_, Error>(record)
                        })
                        .await;
                    match updated {
                        Ok(_) => done += 1,
                        Err(Error::Conflict { .. }) => {} // gave up after its attempts
                        Err(other) => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let record: Record = view.get_json("r").await.unwrap().unwrap();
    assert_eq!(record.count, 200);
}

#[tokio::test]
async fn an_update_that_fails_writes_nothing() {
    let view = View::new(barrier().await, "m/").unwrap();
    #[derive(Debug)]
    enum Failure {
        Mine,
        #[allow(dead_code)] // shown when the test fails
        Storage(Error),
    }
    impl From<Error> for Failure {
        fn from(error: Error) -> Self {
            Self::Storage(error)
        }
    }
    let failed = view.update_json("r", |_: Option<u8>| Err::<u8, _>(Failure::Mine));
    assert!(matches!(failed.await, Err(Failure::Mine)));
    assert!(view.get("r").await.unwrap().is_none());
}

#[tokio::test]
async fn a_batch_spans_views() {
    let barrier = barrier().await;
    let a = View::new(Arc::clone(&barrier), "a/").unwrap();
    let b = View::new(Arc::clone(&barrier), "b/").unwrap();
    let mut batch = Batch::new();
    a.expect_absent_in(&mut batch, "x");
    a.put_in(&mut batch, "x", b"1".to_vec());
    b.put_json_in(&mut batch, "y", &7).unwrap();
    a.commit(batch).await.unwrap();
    let (seven, seen) = b.get_json_seen::<u8>("y").await.unwrap().unwrap();
    assert_eq!(seven, 7);

    let mut batch = Batch::new();
    b.expect_in(&mut batch, "y", &seen);
    b.delete_in(&mut batch, "y");
    a.delete_in(&mut batch, "x");
    barrier.commit(batch).await.unwrap();
    assert!(a.get("x").await.unwrap().is_none());
}

async fn barrier() -> Arc<Barrier> {
    let barrier = Barrier::new(Arc::new(Memory::new()));
    let root = RootKey::generate().unwrap();
    barrier.initialize(&root).await.unwrap();
    barrier.unseal(&root).await.unwrap();
    Arc::new(barrier)
}

#[tokio::test]
async fn values_are_counted_at_any_depth_by_their_names() {
    let view = View::new(barrier().await, "mount/counted/").unwrap();
    assert_eq!(view.count("").await.unwrap(), 0);
    let mut batch = obol_storage::Batch::new();
    for number in 0..2500 {
        view.put_in(&mut batch, &format!("secrets/{number}"), b"".to_vec());
        view.put_in(
            &mut batch,
            &format!("secrets/deep/{}/{number}", number % 7),
            b"".to_vec(),
        );
    }
    view.put_in(&mut batch, "secretsary", b"".to_vec());
    view.commit(batch).await.unwrap();
    assert_eq!(view.count("secrets/").await.unwrap(), 5000);
    assert_eq!(view.count("secrets/deep/3/").await.unwrap(), 357);
    assert_eq!(view.count("").await.unwrap(), 5001);
}
