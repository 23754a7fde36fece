//! What survives when the process does not: a child of this test writes, is killed with SIGKILL or
//! runs out of disk, and the parent looks at what it left.
#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use obol_storage::{
    Barrier, BarrierOptions, Batch, Commit, Engine, EngineError, Op, RocksDb, RocksDbOptions,
    RootKey,
};

const WRITERS: usize = 16;
const ROUNDS: usize = 12;

/// A write buffer small enough that files are written and compacted while the child runs.
fn options() -> RocksDbOptions {
    RocksDbOptions {
        write_buffer: 256 << 10,
        ..RocksDbOptions::default()
    }
}

/// Small numbers, so that reservations and rotations are among what is interrupted.
fn thresholds() -> BarrierOptions {
    BarrierOptions {
        rotate_after: 2000,
        reserve: 50,
    }
}

fn root() -> RootKey {
    RootKey::from_bytes(&[7; 32]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_written_is_nothing_after_a_kill_and_every_acknowledged_batch_is_there() {
    let directory = tempfile::tempdir().unwrap();
    {
        let engine = Arc::new(RocksDb::open(directory.path(), options()).unwrap());
        Barrier::new(engine).initialize(&root()).await.unwrap();
    }
    let mut acknowledged: BTreeMap<usize, u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        let wanted = 200 * (round + 1);
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("OBOL_TEST_DIRECTORY", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        while let Some(Ok(line)) = lines.next() {
            let Some((writer, number)) = line.strip_prefix("ack ").and_then(|l| l.split_once(' '))
            else {
                continue; // the test harness speaks too
            };
            let number: u64 = number.parse().unwrap();
            acknowledged.insert(writer.parse().unwrap(), number);
            count += 1;
            if count == wanted {
                child.kill().unwrap(); // SIGKILL; what is in the pipe was acknowledged, read on
            }
        }
        assert!(count >= wanted, "the child ended by itself");
        child.wait().unwrap();
        check_what_is_left(directory.path(), &acknowledged).await;
    }
}

async fn check_what_is_left(path: &Path, acknowledged: &BTreeMap<usize, u64>) {
    let engine = Arc::new(RocksDb::open(path, options()).unwrap());
    let barrier = Barrier::with_options(engine.clone(), thresholds());
    barrier.unseal(&root()).await.unwrap();
    let read = async |path: String| {
        let entry = barrier.get(&path).await.unwrap()?;
        Some(String::from_utf8(entry.value.to_vec()).unwrap())
    };
    for (writer, &acknowledged) in acknowledged {
        let last = read(format!("{writer}/last")).await.unwrap();
        let last: u64 = last.parse().unwrap();
        assert!(
            last >= acknowledged,
            "writer {writer} lost batches {last}..{acknowledged}"
        );
        // All of every batch up to the last, nothing of any other, wherever the kill fell.
        for part in ["secret", "metadata"] {
            let folder = format!("{writer}/{part}/");
            let numbers: BTreeSet<u64> = barrier
                .list(&folder, None, usize::MAX)
                .await
                .unwrap()
                .iter()
                .map(|name| name.parse().unwrap())
                .collect();
            assert_eq!(numbers, (1..=last).collect(), "writer {writer}, {part}");
        }
        let newest = read(format!("{writer}/secret/{last}")).await;
        assert_eq!(newest, Some(format!("{writer}:{last}")));
        // Each batch removed what the one before had left.
        assert_eq!(read(format!("{writer}/tmp/{}", last - 1)).await, None);
        let left = barrier.list(&format!("{writer}/tmp/"), None, 9).await;
        assert_eq!(left.unwrap(), [last.to_string()]);
    }
    // The count of encryptions covers all that is stored, term by term.
    let mut per_term: BTreeMap<u32, u64> = BTreeMap::new();
    for (key, raw) in engine.scan("", None, usize::MAX).await.unwrap() {
        if key != "core/keyring" {
            let term = u32::from_be_bytes(raw[1..5].try_into().unwrap());
            *per_term.entry(term).or_default() += 1;
        }
    }
    let status = barrier.key_status().unwrap();
    assert!(
        per_term.values().all(|&count| count <= 2000),
        "{per_term:?}"
    );
    assert!(
        per_term
            .get(&status.term)
            .is_none_or(|&count| count <= status.encryptions)
    );
}

#[test]
#[ignore = "not a test: the process that another test kills"]
fn child_that_is_killed() {
    let Some(path) = env::var_os("OBOL_TEST_DIRECTORY") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Arc::new(RocksDb::open(path, options()).unwrap());
        let barrier = Arc::new(Barrier::with_options(engine, thresholds()));
        barrier.unseal(&root()).await.unwrap();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write_for_ever(Arc::clone(&barrier), writer)))
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write_for_ever(barrier: Arc<Barrier>, writer: usize) {
    let last = format!("{writer}/last");
    loop {
        let mut batch = Batch::new();
        let number = match barrier.get(&last).await.unwrap() {
            Some(entry) => {
                batch.expect(&last, &entry.seen);
                let number = std::str::from_utf8(&entry.value).unwrap();
                number.parse::<u64>().unwrap() + 1
            }
            None => {
                batch.expect_absent(&last);
                1
            }
        };
        let secret = format!("{writer}:{number}").into_bytes();
        batch.put(&last, number.to_string().into_bytes());
        batch.put(format!("{writer}/secret/{number}"), secret);
        batch.delete_prefix(format!("{writer}/tmp/"));
        batch.put(format!("{writer}/tmp/{number}"), b"".to_vec());
        batch.put(format!("{writer}/metadata/{number}"), vec![b'm'; 300]);
        barrier.commit(batch).await.unwrap();
        // One write, so that a line is in the pipe as a whole or not at all.
        let line = format!("ack {writer} {number}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

/// A limit on the size of files is the full disk that a test can have without being root.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_disk_refuses_is_an_error_and_ends_all_writing() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 512; exec \"$0\" \"$@\"",
            env::current_exe().unwrap().to_str().unwrap(),
            "--exact",
            "child_that_runs_out_of_disk",
            "--ignored",
            "--nocapture",
        ])
        .env("OBOL_TEST_DIRECTORY", directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let acknowledged: u64 = said
        .lines()
        .find_map(|line| line.strip_prefix("acknowledged "))
        .unwrap()
        .parse()
        .unwrap();
    assert!(acknowledged > 10, "{acknowledged}");

    let engine = RocksDb::open(directory.path(), RocksDbOptions::default()).unwrap();
    for number in 0..acknowledged {
        let value = engine.get(&format!("v/{number:06}")).await.unwrap();
        assert_eq!(value.unwrap().len(), 4096, "value {number} is gone");
    }
    write(&engine, "after").await.unwrap();
}

#[test]
#[ignore = "not a test: the process that another test lets run out of disk"]
fn child_that_runs_out_of_disk() {
    let Some(path) = env::var_os("OBOL_TEST_DIRECTORY") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = RocksDb::open(path, RocksDbOptions::default()).unwrap();
        let mut acknowledged = 0;
        let cause = loop {
            match write(&engine, &format!("v/{acknowledged:06}")).await {
                Ok(()) => acknowledged += 1,
                Err(EngineError::Unavailable { cause }) => break cause,
                Err(other) => panic!("{other}"),
            }
            assert!(acknowledged < 10_000, "the disk never filled");
        };
        assert!(cause.contains("restart"), "{cause}");
        // A later write might fit, and a later sync succeed; it would be a lie.
        let later = write(&engine, "later").await;
        assert!(matches!(later, Err(EngineError::Unavailable { .. })));
        // What was acknowledged can still be read.
        assert!(engine.get("v/000000").await.unwrap().is_some());
        println!("\nacknowledged {acknowledged}");
    });
}

async fn write(engine: &RocksDb, key: &str) -> Result<(), EngineError> {
    let commit = Commit {
        expect: Vec::new(),
        ops: vec![Op::Put(key.to_owned(), vec![7; 4096].into())],
    };
    engine.commit(commit).await
}

#[test]
fn a_directory_that_is_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/by/open");
    let first = RocksDb::open(&path, RocksDbOptions::default()).unwrap();
    let error = RocksDb::open(&path, RocksDbOptions::default())
        .err()
        .unwrap();
    assert!(matches!(error, EngineError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("made/by/open"), "{error}");
    drop(first);
    RocksDb::open(&path, RocksDbOptions::default()).unwrap();
}

#[test]
fn a_new_directory_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/by/open");
    let _engine = RocksDb::open(&path, RocksDbOptions::default()).unwrap();
    for made in ["made", "made/by", "made/by/open"] {
        let mode = directory
            .path()
            .join(made)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{made}");
    }
}

#[test]
fn a_directory_that_cannot_be_opened_is_named_with_the_cause() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let error = RocksDb::open(&file, RocksDbOptions::default())
        .err()
        .unwrap();
    assert!(matches!(error, EngineError::Open { .. }), "{error}");
    assert!(error.to_string().contains("file"), "{error}");

    let damaged = directory.path().join("damaged");
    drop(RocksDb::open(&damaged, RocksDbOptions::default()).unwrap());
    std::fs::write(damaged.join("CURRENT"), "MANIFEST-999999\n").unwrap();
    let error = RocksDb::open(&damaged, RocksDbOptions::default())
        .err()
        .unwrap();
    assert!(matches!(error, EngineError::Open { .. }), "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
}
