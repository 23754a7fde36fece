//! What every storage engine must do: the same tests, run on each of them.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use obol_storage::{Aborted, Commit, Engine, EngineError, Expected, Memory, Op};

macro_rules! on_every_engine {
    ($($test:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Arc::new(super::Memory::new())).await;
            })*
        }

        #[cfg(feature = "rocksdb")]
        mod rocksdb {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let directory = tempfile::tempdir().unwrap();
                let options = obol_storage::RocksDbOptions::default();
                let engine = obol_storage::RocksDb::open(directory.path(), options).unwrap();
                super::$test(super::Arc::new(engine)).await;
            })*
        }
    };
}

on_every_engine! {
    a_value_is_read_back_until_it_is_deleted
    the_operations_of_a_commit_apply_in_order
    an_unmet_expectation_leaves_nothing_half_written
    an_expectation_is_met_by_what_it_says_only
    a_listing_shows_one_level_in_order_and_each_name_once
    a_listing_can_be_taken_in_pages_of_any_size
    a_listing_goes_past_a_folder_of_many_values
    a_scan_returns_a_range_in_order
    a_deleted_prefix_takes_what_is_below_it_and_nothing_else
    a_prefix_of_many_values_is_deleted_as_well
    of_many_who_expect_absence_one_wins
    concurrent_increments_with_expectations_lose_nothing
    a_read_after_an_acknowledged_write_sees_it
    a_closed_engine_refuses_commits_and_keeps_what_was_written
    everything_is_visited_as_it_was_at_one_moment
    everything_is_replaced_as_a_whole_or_not_at_all
}

async fn everything_is_visited_as_it_was_at_one_moment(engine: Arc<dyn Engine>) {
    put(&*engine, &[("a", "1"), ("b/c", "2"), ("ü", "")]).await;
    let runtime = tokio::runtime::Handle::current();
    let seen = tokio::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        let each = &mut |key: &str, value: &[u8]| {
            // Written while the visit is on its way.
            runtime.block_on(put(
                &*engine,
                &[("b/d", "new"), ("z", "new"), ("b/c", "new")],
            ));
            seen.push((key.to_owned(), String::from_utf8_lossy(value).into_owned()));
            true
        };
        engine.visit_all(each).unwrap();
        let mut first = 0;
        engine
            .visit_all(&mut |_, _| {
                first += 1;
                false
            })
            .unwrap();
        assert_eq!(first, 1);
        seen
    })
    .await
    .unwrap();
    let seen: Vec<(&str, &str)> = seen.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(seen, [("a", "1"), ("b/c", "2"), ("ü", "")]);
}

async fn everything_is_replaced_as_a_whole_or_not_at_all(engine: Arc<dyn Engine>) {
    put(
        &*engine,
        &[
            ("a", "old"),
            ("b", "old"),
            ("b/c", "old"),
            ("z", "old"),
            ("\u{10ffff}", "old"),
        ],
    )
    .await;
    assert_eq!(get(&*engine, "b").await.as_deref(), Some("old"));
    let replace = |entries: Vec<(&'static str, &'static str)>, aborted: bool| {
        let engine = Arc::clone(&engine);
        async move {
            tokio::task::spawn_blocking(move || {
                let mut entries = entries.into_iter();
                engine.replace_all(&mut || match entries.next() {
                    Some((key, value)) => Ok(Some((key.to_owned(), Bytes::from(value)))),
                    None if aborted => Err(Aborted),
                    None => Ok(None),
                })
            })
            .await
            .unwrap()
        }
    };
    let aborted = replace(vec![("a", "new"), ("c", "new")], true).await;
    assert!(matches!(aborted, Err(EngineError::Aborted)));
    assert_eq!(get(&*engine, "a").await.as_deref(), Some("old"));
    for round in ["new", "newer"] {
        replace(vec![("a", round), ("b/d", round), ("y", "")], false)
            .await
            .unwrap();
        let all = engine.scan("", None, usize::MAX).await.unwrap();
        let all: Vec<(&str, &[u8])> = all.iter().map(|(k, v)| (k.as_str(), &v[..])).collect();
        assert_eq!(
            all,
            [
                ("a", round.as_bytes()),
                ("b/d", round.as_bytes()),
                ("y", b"")
            ]
        );
        assert_eq!(get(&*engine, "b").await, None);
        assert_eq!(get(&*engine, "a").await.as_deref(), Some(round));
        put(&*engine, &[("b", "later")]).await;
        assert_eq!(get(&*engine, "b").await.as_deref(), Some("later"));
    }
    replace(Vec::new(), false).await.unwrap();
    assert!(engine.scan("", None, 1).await.unwrap().is_empty());
}

#[cfg(feature = "rocksdb")]
#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_of_many_files_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let options = obol_storage::RocksDbOptions::default();
        Arc::new(obol_storage::RocksDb::open(directory.path(), options).unwrap())
    };
    let engine = open();
    for n in 0..200 {
        put(
            &*engine,
            &[
                (&format!("key/{n:04}"), "old"),
                (&format!("old/{n}"), "old"),
            ],
        )
        .await;
    }
    let replacing = Arc::clone(&engine);
    tokio::task::spawn_blocking(move || {
        // More than one file's worth.
        let value = Bytes::from(vec![7; 1 << 20]);
        let mut n = 0;
        replacing.replace_all(&mut || {
            n += 1;
            Ok((n <= 150).then(|| (format!("key/{n:04}"), value.clone())))
        })
    })
    .await
    .unwrap()
    .unwrap();
    drop(engine);
    let engine = open();
    let mut keys = 0;
    engine
        .visit_all(&mut |key, value| {
            keys += 1;
            assert!(key.starts_with("key/") && value.len() == 1 << 20, "{key}");
            true
        })
        .unwrap();
    assert_eq!(keys, 150);
    assert!(!directory.path().join("replacement").exists());
}

async fn a_value_is_read_back_until_it_is_deleted(engine: Arc<dyn Engine>) {
    assert_eq!(engine.get("a").await.unwrap(), None);
    put(&*engine, &[("a", "1"), ("ü/é", ""), ("b", "2")]).await;
    assert_eq!(get(&*engine, "a").await.as_deref(), Some("1"));
    assert_eq!(get(&*engine, "ü/é").await.as_deref(), Some(""));
    put(&*engine, &[("a", "3")]).await;
    assert_eq!(get(&*engine, "a").await.as_deref(), Some("3"));
    apply(&*engine, vec![Op::Delete("a".into())]).await;
    assert_eq!(get(&*engine, "a").await, None);
    apply(&*engine, vec![Op::Delete("never there".into())]).await;
    assert_eq!(get(&*engine, "b").await.as_deref(), Some("2"));
}

async fn the_operations_of_a_commit_apply_in_order(engine: Arc<dyn Engine>) {
    put(&*engine, &[("d/old", "1")]).await;
    let ops = vec![
        op("a", "1"),
        Op::Delete("a".into()),
        op("b", "1"),
        op("b", "2"),
        Op::Delete("c".into()),
        op("c", "3"),
        op("d/before", "4"),
        Op::DeletePrefix("d/".into()),
        op("d/after", "5"),
    ];
    apply(&*engine, ops).await;
    assert_eq!(
        all(&*engine).await,
        pairs(&[("b", "2"), ("c", "3"), ("d/after", "5")])
    );
}

async fn an_unmet_expectation_leaves_nothing_half_written(engine: Arc<dyn Engine>) {
    put(&*engine, &[("a", "1"), ("p/x", "1")]).await;
    let commit = Commit {
        expect: vec![
            ("a".into(), Expected::Exactly("1".into())),
            ("b".into(), Expected::Present),
        ],
        ops: vec![op("c", "1"), op("a", "2"), Op::DeletePrefix("p/".into())],
    };
    match engine.commit(commit).await {
        Err(EngineError::Conflict { key }) => assert_eq!(key, "b"),
        other => panic!("{other:?}"),
    }
    assert_eq!(all(&*engine).await, pairs(&[("a", "1"), ("p/x", "1")]));
}

async fn an_expectation_is_met_by_what_it_says_only(engine: Arc<dyn Engine>) {
    let attempt = |expected: Expected, value: &'static str| {
        let engine = Arc::clone(&engine);
        async move {
            let commit = Commit {
                expect: vec![("a".into(), expected)],
                ops: vec![op("a", value)],
            };
            engine.commit(commit).await.is_ok()
        }
    };
    let seen = |value: &'static str| Expected::Exactly(value.into());
    assert!(!attempt(seen("1"), "x").await);
    assert!(!attempt(seen(""), "x").await);
    assert!(!attempt(Expected::Present, "x").await);
    assert!(attempt(Expected::Absent, "1").await);
    assert!(!attempt(Expected::Absent, "x").await);
    assert!(!attempt(seen("10"), "x").await);
    assert!(attempt(seen("1"), "").await);
    assert!(
        !attempt(Expected::Absent, "x").await,
        "an empty value is a value"
    );
    assert!(attempt(Expected::Present, "").await);
    assert!(attempt(seen(""), "2").await);
    assert_eq!(get(&*engine, "a").await.as_deref(), Some("2"));
    // Expectations alone are a commit too.
    let check = |value: &'static str| Commit {
        expect: vec![("a".into(), seen(value))],
        ops: Vec::new(),
    };
    assert!(engine.commit(check("2")).await.is_ok());
    assert!(engine.commit(check("3")).await.is_err());
}

async fn a_listing_shows_one_level_in_order_and_each_name_once(engine: Arc<dyn Engine>) {
    let keys = [
        "top",
        "f/a",
        "f/a/1",
        "f/a/2",
        "f/a-b",
        "f/a0",
        "f/b/deep/er",
        "f/b/deep",
        "f/ü",
        "f/~",
        "g/x",
        "e/x",
    ];
    put(&*engine, &keys.map(|key| (key, "v"))).await;
    let list = async |prefix, after, limit| engine.list(prefix, after, limit).await.unwrap();

    assert_eq!(
        list("f/", None, 100).await,
        ["a", "a-b", "a/", "a0", "b/", "~", "ü"]
    );
    assert_eq!(list("", None, 100).await, ["e/", "f/", "g/", "top"]);
    assert_eq!(list("f/a/", None, 100).await, ["1", "2"]);
    assert_eq!(list("f/b/", None, 100).await, ["deep", "deep/"]);
    assert!(list("nothing/", None, 100).await.is_empty());
    // A prefix need not be a folder: names then begin in the middle.
    assert_eq!(list("f/a", None, 100).await, ["-b", "/", "0"]);

    assert_eq!(list("f/", Some("a"), 2).await, ["a-b", "a/"]);
    assert_eq!(list("f/", Some("a/"), 2).await, ["a0", "b/"]);
    assert_eq!(list("f/", Some("a/1"), 2).await, ["a0", "b/"]);
    assert_eq!(list("f/", Some("aa"), 1).await, ["b/"]);
    assert!(list("f/", Some("ü"), 2).await.is_empty());
    assert!(list("f/", None, 0).await.is_empty());
}

async fn a_listing_can_be_taken_in_pages_of_any_size(engine: Arc<dyn Engine>) {
    let keys: Vec<String> = (0..300)
        .map(|n| match n % 3 {
            0 => format!("f/{n:03}"),
            1 => format!("f/{n:03}/x"),
            _ => format!("f/{:03}/y/{n}", n - 1),
        })
        .collect();
    let ops = keys.iter().map(|key| op(key, "v")).collect();
    apply(&*engine, ops).await;
    let whole = engine.list("f/", None, 1000).await.unwrap();
    assert_eq!(whole.len(), 200);
    for size in [1, 2, 7, 199, 200, 201] {
        let mut paged: Vec<String> = Vec::new();
        loop {
            let after = paged.last().map(String::as_str);
            let page = engine.list("f/", after, size).await.unwrap();
            let last = page.len() < size;
            paged.extend(page);
            if last {
                break;
            }
        }
        assert_eq!(paged, whole, "pages of {size}");
    }
}

async fn a_listing_goes_past_a_folder_of_many_values(engine: Arc<dyn Engine>) {
    let mut ops: Vec<Op> = (0..20_000)
        .map(|n| op(&format!("f/big/{n}"), "v"))
        .collect();
    ops.push(op("f/a", "v"));
    ops.push(op("f/z", "v"));
    apply(&*engine, ops).await;
    assert_eq!(
        engine.list("f/", None, 10).await.unwrap(),
        ["a", "big/", "z"]
    );
}

async fn a_scan_returns_a_range_in_order(engine: Arc<dyn Engine>) {
    put(
        &*engine,
        &[
            ("b", "2"),
            ("a", "1"),
            ("c/x", "3"),
            ("c/y", "4"),
            ("d", "5"),
        ],
    )
    .await;
    let scan = async |start, end, limit| {
        let entries = engine.scan(start, end, limit).await.unwrap();
        let keys = entries.into_iter().map(|(key, _)| key);
        keys.collect::<Vec<_>>()
    };
    assert_eq!(scan("", None, 100).await, ["a", "b", "c/x", "c/y", "d"]);
    assert_eq!(scan("b", Some("d"), 100).await, ["b", "c/x", "c/y"]);
    assert_eq!(scan("b\0", Some("d"), 100).await, ["c/x", "c/y"]);
    assert_eq!(scan("b", None, 2).await, ["b", "c/x"]);
    assert!(scan("b", Some("b"), 100).await.is_empty());
    assert!(scan("d", Some("a"), 100).await.is_empty());
    assert!(scan("e", None, 100).await.is_empty());
    assert!(scan("a", None, 0).await.is_empty());
    assert_eq!(all(&*engine).await[2], ("c/x".to_owned(), Bytes::from("3")));
}

async fn a_deleted_prefix_takes_what_is_below_it_and_nothing_else(engine: Arc<dyn Engine>) {
    let keys = ["a", "a-", "a/", "a/1", "a/b/2", "a/ü", "a0", "b"];
    put(&*engine, &keys.map(|key| (key, "v"))).await;
    apply(&*engine, vec![Op::DeletePrefix("a/".into())]).await;
    let left: Vec<String> = all(&*engine)
        .await
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(left, ["a", "a-", "a0", "b"]);
    apply(&*engine, vec![Op::DeletePrefix(String::new())]).await;
    assert!(all(&*engine).await.is_empty());
}

async fn a_prefix_of_many_values_is_deleted_as_well(engine: Arc<dyn Engine>) {
    let mut ops: Vec<Op> = (0..5_000).map(|n| op(&format!("a/{n}"), "v")).collect();
    ops.extend([op("a", "v"), op("a0", "v")]);
    apply(&*engine, ops).await;
    apply(
        &*engine,
        vec![Op::DeletePrefix("a/".into()), op("a/new", "v")],
    )
    .await;
    let left: Vec<String> = all(&*engine)
        .await
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(left, ["a", "a/new", "a0"]);
}

async fn of_many_who_expect_absence_one_wins(engine: Arc<dyn Engine>) {
    for round in 0..20 {
        let attempts: Vec<_> = (0..32)
            .map(|contender| {
                let engine = Arc::clone(&engine);
                tokio::spawn(async move {
                    let commit = Commit {
                        expect: vec![(format!("prize/{round}"), Expected::Absent)],
                        ops: vec![
                            op(&format!("prize/{round}"), &contender.to_string()),
                            op(&format!("won/{round}/{contender}"), ""),
                        ],
                    };
                    (contender, engine.commit(commit).await)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for attempt in attempts {
            match attempt.await.unwrap() {
                (contender, Ok(())) => winners.push(contender),
                (_, Err(EngineError::Conflict { .. })) => {}
                (_, Err(other)) => panic!("{other}"),
            }
        }
        let [winner] = winners[..] else {
            panic!("winners: {winners:?}");
        };
        let prize = get(&*engine, &format!("prize/{round}")).await;
        assert_eq!(prize, Some(winner.to_string()));
        let won = engine
            .list(&format!("won/{round}/"), None, 9)
            .await
            .unwrap();
        assert_eq!(won, [winner.to_string()]);
    }
}

async fn concurrent_increments_with_expectations_lose_nothing(engine: Arc<dyn Engine>) {
    const TASKS: u64 = 16;
    const EACH: u64 = 25;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                for step in 0..EACH {
                    loop {
                        let seen = engine.get("count").await.unwrap();
                        let count = seen.as_ref().map_or(0, number);
                        let commit = Commit {
                            expect: vec![("count".into(), seen.into())],
                            ops: vec![
                                op("count", &(count + 1).to_string()),
                                op(&format!("done/{task}/{step}"), ""),
                            ],
                        };
                        match engine.commit(commit).await {
                            Ok(()) => break,
                            Err(EngineError::Conflict { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let count = engine.get("count").await.unwrap().unwrap();
    assert_eq!(number(&count), TASKS * EACH);
    assert_eq!(all(&*engine).await.len() as u64, 1 + TASKS * EACH);
}

async fn a_read_after_an_acknowledged_write_sees_it(engine: Arc<dyn Engine>) {
    // `written` is raised only after the commit; readers look at it before they read.
    let written = Arc::new(AtomicU64::new(0));
    put(&*engine, &[("f/n", "0")]).await;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (engine, written) = (Arc::clone(&engine), Arc::clone(&written));
            tokio::spawn(async move {
                loop {
                    let at_least = written.load(Ordering::SeqCst);
                    if at_least == DONE {
                        return;
                    }
                    match engine.get("f/n").await.unwrap() {
                        Some(value) => assert!(number(&value) >= at_least),
                        // Only every tenth write deletes: one of those must have begun.
                        None => {
                            let begun = written.load(Ordering::SeqCst).saturating_add(1);
                            assert!(at_least.next_multiple_of(10) <= begun);
                        }
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for next in 1..=300_u64 {
        let ops = match next % 20 {
            10 => vec![Op::Delete("f/n".into())],
            0 => vec![Op::DeletePrefix("f/".into())],
            _ => vec![op("f/n", &next.to_string())],
        };
        apply(&*engine, ops).await;
        let value = get(&*engine, "f/n").await;
        let expected = (next % 10 != 0).then(|| next.to_string());
        assert_eq!(value, expected);
        written.store(next, Ordering::SeqCst);
    }
    written.store(DONE, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    const DONE: u64 = u64::MAX;
}

async fn a_closed_engine_refuses_commits_and_keeps_what_was_written(engine: Arc<dyn Engine>) {
    put(&*engine, &[("a", "1")]).await;
    engine.close().await.unwrap();
    let commit = Commit {
        expect: Vec::new(),
        ops: vec![op("a", "2")],
    };
    assert!(matches!(
        engine.commit(commit).await,
        Err(EngineError::Closed)
    ));
    assert_eq!(get(&*engine, "a").await.as_deref(), Some("1"));
    engine.close().await.unwrap();
}

fn op(key: &str, value: &str) -> Op {
    Op::Put(key.to_owned(), Bytes::from(value.to_owned()))
}

async fn apply(engine: &dyn Engine, ops: Vec<Op>) {
    let commit = Commit {
        expect: Vec::new(),
        ops,
    };
    engine.commit(commit).await.unwrap();
}

async fn put(engine: &dyn Engine, entries: &[(&str, &str)]) {
    apply(engine, entries.iter().map(|(k, v)| op(k, v)).collect()).await;
}

async fn get(engine: &dyn Engine, key: &str) -> Option<String> {
    let value = engine.get(key).await.unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

async fn all(engine: &dyn Engine) -> Vec<(String, Bytes)> {
    engine.scan("", None, usize::MAX).await.unwrap()
}

fn pairs(entries: &[(&str, &str)]) -> Vec<(String, Bytes)> {
    entries
        .iter()
        .map(|(key, value)| (key.to_string(), Bytes::from(value.to_string())))
        .collect()
}

fn number(value: &Bytes) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}
