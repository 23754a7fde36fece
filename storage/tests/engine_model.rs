//! Random histories on every engine, compared step by step with the plainest model there is: a
//! sorted map. RocksDB is closed, or just dropped, and opened again in between.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use obol_storage::{Commit, Engine, EngineError, Expected, Memory, Op};
use proptest::prelude::*;

type Model = BTreeMap<String, Bytes>;

#[derive(Clone, Debug)]
enum Step {
    Commit(Commit),
    /// A commit that expects what is there, so that it is accepted.
    Informed(Vec<String>, Vec<Op>),
    Get(String),
    List(String, Option<String>, usize),
    Scan(String, Option<String>, usize),
    Reopen {
        close: bool,
    },
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_behaves_like_a_sorted_map(steps in steps()) {
        run(steps, Arc::new(Memory::new()), |engine, _| engine);
    }

    #[cfg(feature = "rocksdb")]
    #[test]
    fn rocksdb_behaves_like_a_sorted_map_across_restarts(steps in steps()) {
        use obol_storage::{RocksDb, RocksDbOptions};
        let directory = tempfile::tempdir().unwrap();
        // A write buffer this small makes files of the history while the test runs.
        let options = RocksDbOptions { write_buffer: 64 << 10, ..RocksDbOptions::default() };
        let path = directory.path().to_owned();
        let open = || RocksDb::open(&path, options).unwrap();
        run(steps, Arc::new(open()), |engine, close| {
            if close {
                block_on(engine.close()).unwrap();
            }
            drop(Arc::into_inner(engine).expect("the engine is not shared"));
            Arc::new(open())
        });
    }
}

fn run<E: Engine>(steps: Vec<Step>, engine: Arc<E>, reopen: impl Fn(Arc<E>, bool) -> Arc<E>) {
    let mut model = Model::new();
    let mut engine = engine;
    for step in steps {
        match step {
            Step::Commit(commit) => check_commit(&*engine, &mut model, commit),
            Step::Informed(keys, ops) => {
                let expect = keys.into_iter().map(|key| {
                    let value = model.get(&key).cloned();
                    (key, value.into())
                });
                let expect = expect.collect();
                check_commit(&*engine, &mut model, Commit { expect, ops });
            }
            Step::Get(key) => {
                assert_eq!(
                    block_on(engine.get(&key)).unwrap(),
                    model.get(&key).cloned()
                );
            }
            Step::List(prefix, after, limit) => {
                let listed = block_on(engine.list(&prefix, after.as_deref(), limit)).unwrap();
                assert_eq!(listed, model_list(&model, &prefix, after.as_deref(), limit));
            }
            Step::Scan(start, end, limit) => {
                let scanned = block_on(engine.scan(&start, end.as_deref(), limit)).unwrap();
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(key, _)| **key >= start && end.as_ref().is_none_or(|end| *key < end))
                    .take(limit)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                assert_eq!(scanned, expected);
            }
            Step::Reopen { close } => engine = reopen(engine, close),
        }
    }
    let left: Model = block_on(engine.scan("", None, usize::MAX))
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(left, model);
}

fn check_commit(engine: &dyn Engine, model: &mut Model, commit: Commit) {
    let unmet = commit
        .expect
        .iter()
        .find(|(key, expected)| match expected {
            Expected::Absent => model.contains_key(key),
            Expected::Present => !model.contains_key(key),
            Expected::Exactly(seen) => model.get(key) != Some(seen),
        })
        .map(|(key, _)| key.clone());
    let ops = commit.ops.clone();
    match (block_on(engine.commit(commit)), unmet) {
        (Ok(()), None) => {
            for op in ops {
                match op {
                    Op::Put(key, value) => {
                        model.insert(key, value);
                    }
                    Op::Delete(key) => {
                        model.remove(&key);
                    }
                    Op::DeletePrefix(prefix) => model.retain(|key, _| !key.starts_with(&prefix)),
                }
            }
        }
        (Err(EngineError::Conflict { key }), Some(unmet)) => assert_eq!(key, unmet),
        (result, unmet) => panic!("{result:?}, but unmet: {unmet:?}"),
    }
}

/// The listing by its definition: every name, cut, sorted, made unique, then the page.
fn model_list(model: &Model, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let mut names: Vec<String> = model
        .keys()
        .filter_map(|key| key.strip_prefix(prefix))
        .map(|rest| rest.split_inclusive('/').next().unwrap_or("").to_owned())
        .filter(|name| !name.is_empty())
        .filter(|name| after.is_none_or(|after| name.as_str() > after))
        .collect();
    names.sort();
    names.dedup();
    names.truncate(limit);
    names
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..40)
}

fn step() -> impl Strategy<Value = Step> {
    let expected = prop_oneof![
        Just(Expected::Absent),
        Just(Expected::Present),
        value().prop_map(Expected::Exactly),
    ];
    let expectations = prop::collection::vec((key(), expected), 0..3);
    prop_oneof![
        2 => (expectations, ops()).prop_map(|(expect, ops)| Step::Commit(Commit { expect, ops })),
        4 => (prop::collection::vec(key(), 0..3), ops()).prop_map(|(k, o)| Step::Informed(k, o)),
        6 => key().prop_map(Step::Get),
        3 => (prefix(), prop::option::of(name()), 0..6_usize)
            .prop_map(|(prefix, after, limit)| Step::List(prefix, after, limit)),
        3 => (key(), prop::option::of(key()), 0..6_usize)
            .prop_map(|(start, end, limit)| Step::Scan(start, end, limit)),
        1 => any::<bool>().prop_map(|close| Step::Reopen { close }),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (key(), value()).prop_map(|(key, value)| Op::Put(key, value)),
        2 => key().prop_map(Op::Delete),
        1 => prefix().prop_map(Op::DeletePrefix),
    ];
    prop::collection::vec(op, 0..6)
}

/// Few letters, so that keys meet; neighbours of the slash, so that its place in the order counts.
fn key() -> impl Strategy<Value = String> {
    "[ab./0é]{1,5}"
}

fn prefix() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ab]/", "[ab./]{1,3}"]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[ab.0é]{1,3}", "[ab]/"]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..3).prop_map(Bytes::from),
        1 => any::<u8>().prop_map(|byte| Bytes::from(vec![byte; 20_000])),
    ]
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
