//! Group commit. One thread takes all commits that wait, checks each against the database and
//! against what the commits before it in the group will have written, writes them as one batch
//! with one sync, and answers them all. While it syncs, the next group gathers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use ::rocksdb::{DB, IngestExternalFileOptions, ReadOptions, WriteBatch, WriteOptions};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::cache::ValueCache;
use super::log_room::LogRoom;
use super::{ReadError, prefix_end};
use crate::engine::{Commit, EngineError, Expected, Op};

/// The handle of the committer thread.
pub(super) struct Committer {
    queue: Option<mpsc::Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Commit(Commit, Answer),
    /// Takes the place of everything: prepared files, which together cover all keys there can be.
    Replace(Vec<PathBuf>, Answer),
    /// Answered when everything before it is done; nothing after it is.
    Close(Answer),
}

type Answer = oneshot::Sender<Result<(), EngineError>>;

impl Committer {
    pub(super) fn start(db: Arc<DB>, cache: Arc<ValueCache>) -> Result<Self, EngineError> {
        let (queue, messages) = mpsc::channel(QUEUE);
        let runtime = Handle::try_current().ok();
        let thread = thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || run(&db, &cache, runtime.as_ref(), messages))
            .map_err(EngineError::unavailable)?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Waits for a place in the queue, then for the sync.
    pub(super) async fn commit(&self, commit: Commit) -> Result<(), EngineError> {
        self.send(|answer| Message::Commit(commit, answer)).await
    }

    /// Puts the contents of prepared files in the place of everything. Blocks.
    pub(super) fn replace(&self, files: Vec<PathBuf>) -> Result<(), EngineError> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(EngineError::Closed)?;
        queue
            .blocking_send(Message::Replace(files, answer))
            .map_err(|_| EngineError::Closed)?;
        answered.blocking_recv().map_err(|_| EngineError::Closed)?
    }

    pub(super) async fn close(&self) -> Result<(), EngineError> {
        match self.send(Message::Close).await {
            Err(EngineError::Closed) => Ok(()),
            other => other,
        }
    }

    async fn send(&self, message: impl FnOnce(Answer) -> Message) -> Result<(), EngineError> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(EngineError::Closed)?;
        queue
            .send(message(answer))
            .await
            .map_err(|_| EngineError::Closed)?;
        answered.await.map_err(|_| EngineError::Closed)?
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It ends with the queue, after at most one more group.
            let _ = thread.join();
        }
    }
}

fn run(
    db: &DB,
    cache: &ValueCache,
    runtime: Option<&Handle>,
    mut messages: mpsc::Receiver<Message>,
) {
    let mut waiting = Vec::with_capacity(QUEUE);
    let mut log = Log::of(db);
    while messages.blocking_recv_many(&mut waiting, QUEUE) > 0 {
        let mut group = Group::new(db, cache, runtime);
        for message in waiting.drain(..) {
            match message {
                Message::Commit(commit, answer) => {
                    group.add(commit, answer);
                    if group.batch.size_in_bytes() > LARGE {
                        group.write(&mut log);
                        group = Group::new(db, cache, runtime);
                    }
                }
                Message::Replace(files, answer) => {
                    group.write(&mut log);
                    group = Group::new(db, cache, runtime);
                    let _ = answer.send(replace(db, cache, files, log.failed.as_deref()));
                }
                Message::Close(answer) => {
                    group.write(&mut log);
                    let _ = answer.send(Ok(()));
                    return;
                }
            }
        }
        group.write(&mut log);
    }
}

/// One change of the store's list of files, so all of it or nothing, and synced when it returns.
fn replace(
    db: &DB,
    cache: &ValueCache,
    files: Vec<PathBuf>,
    failed: Option<&str>,
) -> Result<(), EngineError> {
    if let Some(cause) = failed {
        return Err(restart_needed(cause));
    }
    let mut options = IngestExternalFileOptions::default();
    options.set_move_files(true);
    let done = db
        .ingest_external_file_opts(&options, files)
        .map_err(EngineError::unavailable);
    // Also where it failed: what is stored is then as it was, and is read again.
    cache.clear();
    done
}

fn restart_needed(cause: &str) -> EngineError {
    EngineError::unavailable(format_args!(
        "a write failed, and the server must be restarted once that is mended: {cause}"
    ))
}

/// What the committer knows of the write-ahead log.
struct Log {
    room: LogRoom,
    /// Why nothing more is written to it.
    failed: Option<String>,
}

impl Log {
    fn of(db: &DB) -> Self {
        let room = LogRoom::new(db.path());
        Self { room, failed: None }
    }
}

/// Commits that will be written together.
struct Group<'a> {
    db: &'a DB,
    cache: &'a ValueCache,
    runtime: Option<&'a Handle>,
    stale: Stale,
    batch: WriteBatch,
    overlay: Overlay,
    answers: Vec<(Answer, Result<(), EngineError>)>,
}

impl<'a> Group<'a> {
    fn new(db: &'a DB, cache: &'a ValueCache, runtime: Option<&'a Handle>) -> Self {
        Self {
            db,
            cache,
            runtime,
            stale: Stale::Keys(Vec::new()),
            batch: WriteBatch::default(),
            overlay: Overlay::default(),
            answers: Vec::new(),
        }
    }

    /// Takes a commit in, or notes its conflict. Conflicts are answered with the rest of the
    /// group: they may be with writes that nobody can read before that.
    fn add(&mut self, commit: Commit, answer: Answer) {
        let result = self.check(&commit.expect).and_then(|()| {
            // A prefix is the one change that reads, so the one that may fail; it reads first.
            self.apply(commit.ops)
        });
        self.answers.push((answer, result));
    }

    fn check(&self, expect: &[(String, Expected)]) -> Result<(), EngineError> {
        for (key, expected) in expect {
            let met = match self.overlay.get(key) {
                Some(pending) => expected.is_met_by(pending.map(Bytes::as_ref)),
                // Whoever expects something has mostly just read it.
                None => match self.cache.known(key) {
                    Some(known) => expected.is_met_by(known.as_deref()),
                    None => {
                        let stored = self.db.get_pinned(key).map_err(EngineError::unavailable)?;
                        expected.is_met_by(stored.as_deref())
                    }
                },
            };
            if !met {
                return Err(EngineError::Conflict { key: key.clone() });
            }
        }
        Ok(())
    }

    fn apply(&mut self, ops: Vec<Op>) -> Result<(), EngineError> {
        // All that can fail happens before the first change, so that a commit that fails leaves
        // no part of itself in the group.
        let mut doomed = Vec::new();
        for op in &ops {
            if let Op::DeletePrefix(prefix) = op {
                let stored = Doomed::find(self.db, prefix).map_err(EngineError::unavailable)?;
                doomed.push(stored);
            }
        }
        let mut doomed = doomed.into_iter();
        for op in ops {
            match op {
                Op::Put(key, value) => {
                    self.batch.put(&key, &value);
                    self.overlay.writes.insert(key, Some(value));
                }
                Op::Delete(key) => {
                    self.batch.delete(&key);
                    self.overlay.writes.insert(key, None);
                }
                Op::DeletePrefix(prefix) => {
                    match doomed.next() {
                        Some(Doomed::Few(keys)) => {
                            for key in &keys {
                                self.batch.delete(key);
                            }
                            self.stale.add(keys);
                        }
                        Some(Doomed::Many) | None => {
                            let end = prefix_end(&prefix);
                            self.batch.delete_range(prefix.as_bytes(), &end);
                            self.stale = Stale::All;
                        }
                    }
                    for key in self.overlay.delete_prefix(prefix) {
                        self.batch.delete(key);
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes, syncs and answers.
    ///
    /// After a failed write nothing more is written before a restart. What the log holds is then
    /// unknown: the kernel drops the pages that it could not write and reports that once, so that a
    /// later sync would succeed over a hole. Reading the log back, at the next start, tells the truth.
    fn write(self, log: &mut Log) {
        let empty = self.batch.is_empty();
        if log.failed.is_none() && !empty {
            log.room.make(self.batch.size_in_bytes());
            let mut options = WriteOptions::default();
            options.set_sync(true);
            if let Err(error) = self.db.write_opt(self.batch, &options) {
                tracing::error!(%error, "a write failed: no more writes until a restart");
                log.failed = Some(error.into_string());
            }
        }
        // Before anybody hears of the commits, so that nobody reads what was before them.
        match self.stale {
            Stale::All => self.cache.clear(),
            Stale::Keys(keys) => {
                let written = self.overlay.writes.keys();
                written.chain(&keys).for_each(|key| self.cache.remove(key));
            }
        }
        let mut answers = self.answers;
        if let Some(cause) = &log.failed {
            for (_, result) in &mut answers {
                *result = Err(restart_needed(cause));
            }
        }
        match self.runtime {
            // One of the runtime's own threads wakes the others' tasks with less effort, while this one goes on.
            Some(runtime) if answers.len() > 1 => {
                let written = self.overlay;
                runtime.spawn(async move {
                    answer_all(answers);
                    drop(written);
                });
            }
            _ => answer_all(answers),
        }
    }
}

fn answer_all(answers: Vec<(Answer, Result<(), EngineError>)>) {
    for (answer, result) in answers {
        // Nobody may be waiting any more; the commit stands all the same.
        let _ = answer.send(result);
    }
}

/// What the group so far will have changed, for the expectations of the commits after.
#[derive(Default)]
struct Overlay {
    writes: BTreeMap<String, Option<Bytes>>,
    /// Prefixes under which nothing in the database counts any more.
    deleted: Vec<String>,
}

impl Overlay {
    /// The value that the group gives `key` (or its absence), or `None` when it leaves it alone.
    fn get(&self, key: &str) -> Option<Option<&Bytes>> {
        if let Some(pending) = self.writes.get(key) {
            return Some(pending.as_ref());
        }
        let deleted = self.deleted.iter().any(|prefix| key.starts_with(prefix));
        deleted.then_some(None)
    }

    /// Notes that a prefix is deleted, and returns the keys below it that the group had written.
    fn delete_prefix(&mut self, prefix: String) -> Vec<String> {
        let covered: Vec<String> = self
            .writes
            .range(prefix.clone()..)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(&prefix))
            .cloned()
            .collect();
        for key in &covered {
            self.writes.remove(key);
        }
        self.deleted.push(prefix);
        covered
    }
}

/// What the cache must forget besides the keys in the overlay.
enum Stale {
    Keys(Vec<String>),
    All,
}

impl Stale {
    fn add(&mut self, more: Vec<String>) {
        if let Self::Keys(keys) = self {
            keys.extend(more);
        }
    }
}

/// The stored keys under a prefix that is to be deleted.
enum Doomed {
    /// Deleted one by one: a range deletion burdens every later read until it is compacted away,
    /// and most prefixes hold a handful of keys or none.
    Few(Vec<String>),
    Many,
}

impl Doomed {
    fn find(db: &DB, prefix: &str) -> Result<Self, ReadError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(prefix_end(prefix));
        let mut keys = Vec::new();
        let mut at = db.raw_iterator_opt(options);
        at.seek(prefix);
        while let Some(key) = at.key() {
            if keys.len() == FEW {
                return Ok(Self::Many);
            }
            keys.push(str::from_utf8(key)?.to_owned());
            at.next();
        }
        at.status()?;
        Ok(Self::Few(keys))
    }
}

/// Commits that may wait; more make their callers wait for a place.
const QUEUE: usize = 512;
/// Bytes after which a group is written although more commits wait.
const LARGE: usize = 8 << 20;
/// Keys that a prefix deletes one by one.
const FEW: usize = 512;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::cache::LookUp;
    use super::*;
    use ::rocksdb::statistics::Ticker;
    use proptest::prelude::*;

    type Model = BTreeMap<String, Bytes>;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        /// Commits in one group behave as if each had been written before the next came.
        #[test]
        fn a_group_is_the_same_as_its_commits_one_by_one(
            groups in prop::collection::vec(prop::collection::vec(commit(), 1..12), 1..5)
        ) {
            let directory = tempfile::tempdir().unwrap();
            let mut options = ::rocksdb::Options::default();
            options.create_if_missing(true);
            let db = DB::open(&options, directory.path()).unwrap();
            let cache = ValueCache::new(1 << 20);
            let mut log = Log::of(&db);
            let mut model = Model::new();
            for commits in groups {
                let mut group = Group::new(&db, &cache, None);
                let mut outcomes = Vec::new();
                // Readers know of some keys.
                for key in ["a", "b", "ab", "a/a", "a/b", "b/b"] {
                    if let LookUp::Miss(claim) = cache.look_up(key) {
                        claim.fill(&db.get(key).unwrap().map(Bytes::from));
                    }
                }
                for draft in commits {
                    let commit = draft.resolve(&model);
                    let expected = apply_to_model(&mut model, &commit);
                    let (answer, answered) = oneshot::channel();
                    group.add(commit, answer);
                    outcomes.push((expected, answered));
                }
                group.write(&mut log);
                for (expected, answered) in outcomes {
                    let conflict = match answered.blocking_recv().unwrap() {
                        Ok(()) => None,
                        Err(EngineError::Conflict { key }) => Some(key),
                        Err(other) => panic!("{other}"),
                    };
                    prop_assert_eq!(conflict, expected);
                }
                let stored: Model = super::super::scan(&db, ReadOptions::default(), "", None, usize::MAX)
                    .unwrap()
                    .into_iter()
                    .collect();
                prop_assert_eq!(&stored, &model);
            }
        }
    }

    #[test]
    fn a_large_prefix_in_a_group_is_gone_for_the_expectations_behind_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = ::rocksdb::Options::default();
        options.create_if_missing(true);
        let db = DB::open(&options, directory.path()).unwrap();
        let cache = ValueCache::new(1 << 20);
        let mut log = Log::of(&db);
        let mut group = Group::new(&db, &cache, None);
        let add = |group: &mut Group<'_>, expect, ops| {
            let (answer, answered) = oneshot::channel();
            group.add(Commit { expect, ops }, answer);
            answered
        };
        let put = |key: &str| Op::Put(key.to_owned(), Bytes::from("v"));
        let many = (0..2 * FEW).map(|n| put(&format!("p/{n}"))).collect();
        let first = add(&mut group, vec![], many);
        group.write(&mut log);
        assert!(first.blocking_recv().unwrap().is_ok());

        let mut group = Group::new(&db, &cache, None);
        let deleted = add(&mut group, vec![], vec![Op::DeletePrefix("p/".into())]);
        let stale = add(
            &mut group,
            vec![("p/1".into(), Expected::Exactly("v".into()))],
            vec![put("stale")],
        );
        let fresh = add(
            &mut group,
            vec![("p/1".into(), Expected::Absent)],
            vec![put("p/1")],
        );
        group.write(&mut log);
        assert!(deleted.blocking_recv().unwrap().is_ok());
        assert!(stale.blocking_recv().unwrap().is_err());
        assert!(fresh.blocking_recv().unwrap().is_ok());
        let left = super::super::scan(&db, ReadOptions::default(), "", None, usize::MAX).unwrap();
        assert_eq!(left, [("p/1".to_owned(), Bytes::from("v"))]);
    }

    #[test]
    fn every_group_is_synced_once_before_it_is_answered() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = ::rocksdb::Options::default();
        options.create_if_missing(true);
        options.enable_statistics();
        let db = DB::open(&options, directory.path()).unwrap();
        let cache = ValueCache::new(1 << 20);
        let mut log = Log::of(&db);
        let syncs = || options.get_ticker_count(Ticker::WalFileSynced);
        let before = syncs();
        for number in 1..=3 {
            let mut group = Group::new(&db, &cache, None);
            let answers: Vec<_> = (0..10)
                .map(|key| {
                    let (answer, answered) = oneshot::channel();
                    let ops = vec![Op::Put(format!("{number}/{key}"), Bytes::from("v"))];
                    let expect = Vec::new();
                    group.add(Commit { expect, ops }, answer);
                    answered
                })
                .collect();
            group.write(&mut log);
            assert_eq!(syncs() - before, number);
            for answered in answers {
                assert!(answered.blocking_recv().unwrap().is_ok());
            }
        }
    }

    /// A commit whose expectations are, mostly, what is there.
    #[derive(Clone, Debug)]
    struct Draft {
        right: Vec<String>,
        guesses: Vec<(String, Expected)>,
        ops: Vec<Op>,
    }

    impl Draft {
        fn resolve(self, model: &Model) -> Commit {
            let right = self.right.into_iter().map(|key| {
                let value = model.get(&key).cloned();
                (key, value.into())
            });
            Commit {
                expect: right.chain(self.guesses).collect(),
                ops: self.ops,
            }
        }
    }

    /// The key of the first expectation that was not met, or else the changes are made.
    fn apply_to_model(model: &mut Model, commit: &Commit) -> Option<String> {
        for (key, value) in &commit.expect {
            if !value.is_met_by(model.get(key).map(Bytes::as_ref)) {
                return Some(key.clone());
            }
        }
        for op in &commit.ops {
            match op {
                Op::Put(key, value) => {
                    model.insert(key.clone(), value.clone());
                }
                Op::Delete(key) => {
                    model.remove(key);
                }
                Op::DeletePrefix(prefix) => model.retain(|key, _| !key.starts_with(prefix)),
            }
        }
        None
    }

    fn commit() -> impl Strategy<Value = Draft> {
        let key = || "[ab]/[ab]|[ab]{1,2}";
        let value = || prop_oneof![Just(Bytes::from("1")), Just(Bytes::from("2"))];
        let op = prop_oneof![
            4 => (key(), value()).prop_map(|(key, value)| Op::Put(key, value)),
            2 => key().prop_map(Op::Delete),
            2 => "([ab]/)?".prop_map(Op::DeletePrefix),
        ];
        let expected = prop_oneof![
            Just(Expected::Absent),
            Just(Expected::Present),
            value().prop_map(Expected::Exactly),
        ];
        let guess = (key(), expected);
        (
            prop::collection::vec(key(), 0..3),
            prop::collection::vec(guess, 0..2),
            prop::collection::vec(op, 0..5),
        )
            .prop_map(|(right, guesses, ops)| Draft {
                right,
                guesses,
                ops,
            })
    }
}
