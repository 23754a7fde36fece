//! What the barrier promises: a value opens where it was written, under the right key, unaltered,
//! or not at all; keys are rotated in time and old values stay readable.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use obol_storage::{
    Barrier, BarrierOptions, Batch, Commit, Corruption, Engine, Error, Memory, Op, RootKey,
};

#[tokio::test]
async fn a_value_is_read_back_and_is_not_in_the_engine_in_the_clear() {
    let (engine, barrier, _) = unsealed().await;
    let secret = b"a secret long enough not to occur by chance";
    put(&barrier, "a/b", secret).await;
    assert_eq!(get(&barrier, "a/b").await, secret);
    assert!(barrier.get("a/c").await.unwrap().is_none());
    for (_, raw) in engine.scan("", None, usize::MAX).await.unwrap() {
        assert!(!raw.windows(8).any(|window| window == &secret[..8]));
    }
    for length in [0, 1, 15, 16, 17, 100_000] {
        put(&barrier, "sized", &vec![7; length]).await;
        assert_eq!(get(&barrier, "sized").await, vec![7; length]);
    }
    let long = "long/".repeat(200) + "path";
    put(&barrier, &long, secret).await;
    assert_eq!(get(&barrier, &long).await, secret);
}

#[tokio::test]
async fn ciphertext_moved_to_another_path_is_refused() {
    let (engine, barrier, _) = unsealed().await;
    put(&barrier, "users/alice", b"policies: []").await;
    put(&barrier, "users/mallory", b"policies: []").await;
    let raw = engine.get("users/mallory").await.unwrap().unwrap();
    write_raw(&*engine, "users/alice", raw.clone()).await;
    write_raw(&*engine, "users/mallory2", raw).await;
    for path in ["users/alice", "users/mallory2"] {
        assert_corrupt(&barrier, path, Corruption::Authentication).await;
    }
    assert_eq!(get(&barrier, "users/mallory").await, b"policies: []");
}

#[tokio::test]
async fn a_value_flipped_or_truncated_at_any_byte_is_refused() {
    let (engine, barrier, _) = unsealed().await;
    put(&barrier, "a", b"thirty bytes of some plaintext").await;
    let raw = engine.get("a").await.unwrap().unwrap();
    for position in 0..raw.len() {
        for bit in 0..8 {
            let mut altered = raw.to_vec();
            altered[position] ^= 1 << bit;
            let expected = match position {
                0 => Corruption::UnknownFormat(altered[0]),
                1..5 => {
                    Corruption::UnknownTerm(u32::from_be_bytes(altered[1..5].try_into().unwrap()))
                }
                _ => Corruption::Authentication,
            };
            write_raw(&*engine, "a", altered.into()).await;
            assert_corrupt(&barrier, "a", expected).await;
        }
    }
    for length in 0..raw.len() {
        write_raw(&*engine, "a", raw.slice(..length)).await;
        let expected = if length < 33 {
            Corruption::Truncated
        } else {
            Corruption::Authentication
        };
        assert_corrupt(&barrier, "a", expected).await;
        // A scan meets the same value and must not pass over it.
        assert!(barrier.scan("", None, 10).await.is_err());
    }
    let mut longer = raw.to_vec();
    longer.push(0);
    write_raw(&*engine, "a", longer.into()).await;
    assert_corrupt(&barrier, "a", Corruption::Authentication).await;
    write_raw(&*engine, "a", raw).await;
    assert_eq!(get(&barrier, "a").await, b"thirty bytes of some plaintext");
}

#[tokio::test]
async fn nonce_reuse_does_not_happen_across_restarts_and_restores() {
    let (engine, barrier, root) = unsealed().await;
    put(&barrier, "a", b"the same").await;
    let backup = engine.scan("", None, usize::MAX).await.unwrap();
    let mut nonces = HashSet::new();
    for _ in 0..5 {
        // Each round is a server that starts from the same backup.
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        for (key, raw) in &backup {
            write_raw(&*engine, key, raw.clone()).await;
        }
        let barrier = Barrier::new(Arc::clone(&engine));
        barrier.unseal(&root).await.unwrap();
        for _ in 0..500 {
            let mut batch = Batch::new();
            batch.put("a", b"the same".to_vec());
            batch.put("b", b"the same".to_vec());
            barrier.commit(batch).await.unwrap();
            for path in ["a", "b"] {
                let raw = engine.get(path).await.unwrap().unwrap();
                assert!(nonces.insert(raw[5..17].to_vec()), "a nonce came again");
            }
        }
    }
    assert_eq!(nonces.len(), 5 * 500 * 2);
}

#[tokio::test]
async fn a_wrong_root_key_is_told_from_a_damaged_keyring() {
    let (engine, barrier, root) = unsealed().await;
    put(&barrier, "a", b"1").await;
    let restarted = Barrier::new(Arc::clone(&engine));
    let wrong = RootKey::generate().unwrap();
    assert!(matches!(
        restarted.unseal(&wrong).await,
        Err(Error::WrongKey)
    ));
    assert!(restarted.is_sealed());
    // Also on an unsealed barrier, where unsealing proves the key.
    assert!(matches!(barrier.unseal(&wrong).await, Err(Error::WrongKey)));
    assert_eq!(get(&barrier, "a").await, b"1");

    let raw = engine.get("core/keyring").await.unwrap().unwrap();
    for position in 0..raw.len() {
        let mut altered = raw.to_vec();
        altered[position] ^= 0x10;
        for damaged in [Bytes::from(altered), raw.slice(..position)] {
            write_raw(&*engine, "core/keyring", damaged).await;
            let error = restarted.unseal(&root).await.unwrap_err();
            assert!(
                matches!(&error, Error::Corrupt { path, .. } if path == "core/keyring"),
                "byte {position}: {error}"
            );
        }
    }
    write_raw(&*engine, "core/keyring", raw).await;
    restarted.unseal(&root).await.unwrap();
    assert_eq!(get(&restarted, "a").await, b"1");
}

#[tokio::test]
async fn sealed_serves_nothing() {
    let (_, barrier, root) = unsealed().await;
    put(&barrier, "a/b", b"1").await;
    barrier.seal();
    assert!(barrier.is_sealed());
    let mut batch = Batch::new();
    batch.put("a/b", b"2".to_vec());
    assert!(matches!(barrier.get("a/b").await, Err(Error::Sealed)));
    assert!(matches!(
        barrier.list("a/", None, 9).await,
        Err(Error::Sealed)
    ));
    assert!(matches!(
        barrier.scan("", None, 9).await,
        Err(Error::Sealed)
    ));
    assert!(matches!(barrier.commit(batch).await, Err(Error::Sealed)));
    let mut delete = Batch::new();
    delete.delete("a/b");
    assert!(matches!(barrier.commit(delete).await, Err(Error::Sealed)));
    assert!(matches!(barrier.rotate().await, Err(Error::Sealed)));
    assert!(matches!(barrier.key_status(), Err(Error::Sealed)));
    assert!(barrier.is_initialized().await.unwrap());

    barrier.unseal(&root).await.unwrap();
    assert_eq!(get(&barrier, "a/b").await, b"1");
}

#[tokio::test]
async fn initializing_happens_once_and_comes_before_unsealing() {
    let barrier = Barrier::new(Arc::new(Memory::new()));
    let (root, other) = (RootKey::generate().unwrap(), RootKey::generate().unwrap());
    assert!(!barrier.is_initialized().await.unwrap());
    assert!(matches!(
        barrier.unseal(&root).await,
        Err(Error::NotInitialized)
    ));
    barrier.initialize(&root).await.unwrap();
    assert!(barrier.is_initialized().await.unwrap());
    assert!(barrier.is_sealed());
    assert!(matches!(
        barrier.initialize(&other).await,
        Err(Error::AlreadyInitialized)
    ));
    barrier.unseal(&root).await.unwrap();
}

#[tokio::test]
async fn a_batch_is_written_as_a_whole_or_not_at_all() {
    let (_, barrier, _) = unsealed().await;
    put(&barrier, "a", b"1").await;
    let seen = barrier.get("a").await.unwrap().unwrap().seen;

    let mut batch = Batch::new();
    batch.expect("a", &seen).expect_absent("b");
    batch.put("a", b"2".to_vec()).put("b", b"2".to_vec());
    let mut other = Batch::new();
    other
        .delete_prefix("folder/")
        .put("folder/x", b"3".to_vec());
    batch.merge(other);
    barrier.commit(batch).await.unwrap();
    assert_eq!(get(&barrier, "a").await, b"2");
    assert_eq!(get(&barrier, "folder/x").await, b"3");

    let mut late = Batch::new();
    late.put("c", b"4".to_vec()).delete("b").expect("a", &seen);
    match barrier.commit(late).await {
        Err(Error::Conflict { path }) => assert_eq!(path, "a"),
        other => panic!("{other:?}"),
    }
    assert!(barrier.get("c").await.unwrap().is_none());
    assert_eq!(get(&barrier, "b").await, b"2");
    assert!(Batch::new().is_empty());
    barrier.commit(Batch::new()).await.unwrap();
}

#[tokio::test]
async fn the_same_value_written_again_is_a_change() {
    let (_, barrier, _) = unsealed().await;
    put(&barrier, "a", b"1").await;
    let seen = barrier.get("a").await.unwrap().unwrap().seen;
    put(&barrier, "a", b"1").await;
    let mut batch = Batch::new();
    batch.expect("a", &seen).put("a", b"2".to_vec());
    assert!(matches!(
        barrier.commit(batch).await,
        Err(Error::Conflict { .. })
    ));
}

#[tokio::test]
async fn path_traversal_is_refused_before_anything_is_written() {
    let (_, barrier, _) = unsealed().await;
    for bad in [
        "../x", "a/../b", "/a", "a//b", "a/", "", "a/./b", "a\0", "a\r",
    ] {
        let mut batch = Batch::new();
        batch.put("fine", b"1".to_vec()).put(bad, b"1".to_vec());
        let refused = |result| matches!(result, Err(Error::BadPath { .. }));
        assert!(refused(barrier.commit(batch).await), "{bad:?}");
        assert!(refused(barrier.get(bad).await.map(drop)), "{bad:?}");
        let mut batch = Batch::new();
        batch.delete(bad);
        assert!(refused(barrier.commit(batch).await), "{bad:?}");
        let mut batch = Batch::new();
        batch.expect_absent(bad);
        assert!(refused(barrier.commit(batch).await), "{bad:?}");
    }
    for bad in ["", "a", "/", "a/../", "//"] {
        let mut batch = Batch::new();
        batch.delete_prefix(bad);
        let result = barrier.commit(batch).await;
        assert!(matches!(result, Err(Error::BadPath { .. })), "{bad:?}");
    }
    assert!(barrier.get("fine").await.unwrap().is_none());
}

#[tokio::test]
async fn a_batch_cannot_touch_the_barriers_own_keys() {
    let (engine, barrier, _) = unsealed().await;
    put(&barrier, "core/mounts", b"1").await;
    let before = engine.get("core/keyring").await.unwrap();
    for own in [
        "core/keyring",
        "core/root-key",
        "core/seal-config",
        "core/recovery-key",
        "core/unseal-keys-backup",
        "core/recovery-keys-backup",
    ] {
        for change in ["put", "delete", "expect"] {
            let mut batch = Batch::new();
            match change {
                "put" => batch.put(own, b"".to_vec()),
                "delete" => batch.delete(own),
                _ => batch.expect_absent(own),
            };
            let result = barrier.commit(batch).await;
            assert!(matches!(result, Err(Error::BadPath { .. })), "{own}");
        }
    }
    let mut batch = Batch::new();
    batch.delete_prefix("core/");
    assert!(barrier.commit(batch).await.is_err());
    assert_eq!(engine.get("core/keyring").await.unwrap(), before);
}

#[tokio::test]
async fn scans_come_in_full_pages_and_pass_over_the_barriers_own_records() {
    let (_, barrier, _) = unsealed().await;
    for path in ["a", "core/a", "core/mounts", "core/z", "d"] {
        put(&barrier, path, path.as_bytes()).await;
    }
    for size in 1..7 {
        let (mut paths, mut start) = (Vec::new(), String::new());
        loop {
            let page = barrier.scan(&start, None, size).await.unwrap();
            let last = page.len() < size;
            for (path, entry) in page {
                assert_eq!(*entry.value, path.as_bytes());
                start = format!("{path}\0");
                paths.push(path);
            }
            if last {
                break;
            }
        }
        assert_eq!(paths, ["a", "core/a", "core/mounts", "core/z", "d"]);
    }
    assert!(barrier.scan("", None, 0).await.unwrap().is_empty());
    let bounded = barrier.scan("core/", Some("core/n"), 9).await.unwrap();
    assert_eq!(bounded.len(), 2);
    assert_eq!(
        barrier.list("", None, 9).await.unwrap(),
        ["a", "core/", "d"]
    );
}

#[tokio::test]
async fn keys_rotate_by_themselves_at_the_threshold_and_old_values_stay_readable() {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let root = RootKey::generate().unwrap();
    let barrier = Barrier::with_options(Arc::clone(&engine), few(100, 10));
    barrier.initialize(&root).await.unwrap();
    barrier.unseal(&root).await.unwrap();
    for number in 0..1000 {
        let mut batch = Batch::new();
        for part in 0..1 + number % 3 {
            batch.put(
                format!("v/{number}/{part}"),
                format!("{number}").into_bytes(),
            );
        }
        barrier.commit(batch).await.unwrap();
    }
    let per_term = values_per_term(&*engine).await;
    assert!(per_term.len() >= 20, "{per_term:?}");
    assert!(per_term.values().all(|&count| count <= 100), "{per_term:?}");
    let status = barrier.key_status().unwrap();
    assert_eq!(status.term, *per_term.keys().last().unwrap());
    assert_eq!(status.encryptions, per_term[&status.term]);
    assert_eq!(status.rotate_after, 100);

    let restarted = Barrier::with_options(engine, few(100, 10));
    restarted.unseal(&root).await.unwrap();
    for number in 0..1000 {
        let value = format!("{number}").into_bytes();
        assert_eq!(get(&restarted, &format!("v/{number}/0")).await, value);
        assert_eq!(get(&barrier, &format!("v/{number}/0")).await, value);
    }
}

#[tokio::test]
async fn a_batch_larger_than_the_threshold_is_still_written() {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let root = RootKey::generate().unwrap();
    let barrier = Barrier::with_options(Arc::clone(&engine), few(10, 4));
    barrier.initialize(&root).await.unwrap();
    barrier.unseal(&root).await.unwrap();
    for round in 0..3 {
        let mut batch = Batch::new();
        for number in 0..35 {
            batch.put(format!("{round}/{number}"), b"v".to_vec());
        }
        barrier.commit(batch).await.unwrap();
        put(&barrier, "small", b"v").await;
    }
    assert_eq!(get(&barrier, "2/34").await, b"v");
    assert!(barrier.key_status().unwrap().term >= 3);
}

/// Every restart here is a crash: nothing is written on the way down.
#[tokio::test]
async fn the_count_of_encryptions_is_never_too_low_after_a_crash() {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let root = RootKey::generate().unwrap();
    Barrier::new(Arc::clone(&engine))
        .initialize(&root)
        .await
        .unwrap();
    let mut written = 0;
    for crash in 0..20 {
        let barrier = Barrier::with_options(Arc::clone(&engine), few(1 << 20, 16));
        barrier.unseal(&root).await.unwrap();
        assert!(barrier.key_status().unwrap().encryptions >= written);
        for number in 0..crash * 3 {
            put(&barrier, &format!("{crash}/{number}"), b"v").await;
            written += 1;
            let counted = barrier.key_status().unwrap().encryptions;
            assert!(counted >= written, "{counted} < {written}");
            assert!(counted <= written + 16 * (crash + 1), "far too high");
        }
    }
    assert_eq!(values_per_term(&*engine).await, [(1, written)].into());
}

#[tokio::test]
async fn two_servers_on_one_engine_rotate_and_read_each_others_values() {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let root = RootKey::generate().unwrap();
    let servers = [(); 2].map(|()| Barrier::with_options(Arc::clone(&engine), few(200, 20)));
    servers[0].initialize(&root).await.unwrap();
    for server in &servers {
        server.unseal(&root).await.unwrap();
    }
    for round in 0..200 {
        let (writer, reader) = (&servers[round % 2], &servers[1 - round % 2]);
        if round % 50 == 49 {
            writer.rotate().await.unwrap();
        }
        for number in 0..5 {
            let path = format!("{round}/{number}");
            put(writer, &path, path.as_bytes()).await;
            assert_eq!(get(reader, &path).await, path.as_bytes());
        }
    }
    let per_term = values_per_term(&*engine).await;
    assert_eq!(per_term.values().sum::<u64>(), 1000);
    assert!(per_term.values().all(|&count| count <= 200), "{per_term:?}");
    assert!(per_term.len() >= 8, "{per_term:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rotation_is_safe_with_reads_and_writes_in_flight() {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let root = RootKey::generate().unwrap();
    let servers: Vec<_> = (0..2)
        .map(|_| Arc::new(Barrier::with_options(Arc::clone(&engine), few(500, 7))))
        .collect();
    servers[0].initialize(&root).await.unwrap();
    for server in &servers {
        server.unseal(&root).await.unwrap();
    }
    let mut tasks = Vec::new();
    for task in 0..8 {
        let (writer, reader) = (servers[task % 2].clone(), servers[1 - task % 2].clone());
        tasks.push(tokio::spawn(async move {
            for number in 0..200 {
                let path = format!("{task}/{number}");
                put(&writer, &path, path.as_bytes()).await;
                assert_eq!(get(&reader, &path).await, path.as_bytes());
            }
        }));
    }
    for server in servers.clone() {
        tasks.push(tokio::spawn(async move {
            for _ in 0..30 {
                server.rotate().await.unwrap();
                tokio::task::yield_now().await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let per_term = values_per_term(&*engine).await;
    assert_eq!(per_term.values().sum::<u64>(), 8 * 200);
    assert!(per_term.values().all(|&count| count <= 500), "{per_term:?}");
    let restarted = Barrier::new(engine);
    restarted.unseal(&root).await.unwrap();
    assert!(restarted.key_status().unwrap().term > 60);
    assert_eq!(
        restarted.scan("", None, usize::MAX).await.unwrap().len(),
        8 * 200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sealing_in_the_middle_of_work_ends_in_sealed_and_nothing_else() {
    let (_, barrier, root) = unsealed().await;
    let barrier = Arc::new(barrier);
    for _ in 0..50 {
        barrier.unseal(&root).await.unwrap();
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let barrier = Arc::clone(&barrier);
                tokio::spawn(async move {
                    for number in 0.. {
                        let mut batch = Batch::new();
                        batch.put(format!("{task}/{number}"), b"v".to_vec());
                        let outcome = match number % 4 {
                            0 => barrier.rotate().await.map(drop),
                            _ => barrier.commit(batch).await,
                        };
                        match outcome {
                            Ok(()) => {}
                            Err(Error::Sealed) => return,
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        barrier.seal();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(barrier.is_sealed());
    }
}

#[tokio::test]
async fn errors_and_debug_texts_hold_no_secret() {
    let (engine, barrier, root) = unsealed().await;
    put(&barrier, "a", b"hunter2-hunter2").await;
    let entry = barrier.get("a").await.unwrap().unwrap();
    let mut batch = Batch::new();
    batch.put("a", b"hunter2-hunter2".to_vec());
    let mut raw = engine.get("a").await.unwrap().unwrap().to_vec();
    raw[20] ^= 1;
    write_raw(&*engine, "a", raw.into()).await;
    let error = barrier.get("a").await.unwrap_err();
    let texts = format!("{entry:?} {batch:?} {root:?} {barrier:?} {error:?} {error}");
    assert!(!texts.contains("hunter2"), "{texts}");
    assert!(!texts.contains(&format!("{:?}", b"hunter2")), "{texts}");
    let bytes = format!("{:?}", &root.expose()[..4]);
    assert!(!texts.contains(bytes.trim_matches(['[', ']'])), "{texts}");
    assert!(error.to_string().contains("\"a\""), "{error}");
}

fn few(rotate_after: u64, reserve: u64) -> BarrierOptions {
    BarrierOptions {
        rotate_after,
        reserve,
    }
}

async fn unsealed() -> (Arc<dyn Engine>, Barrier, RootKey) {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let barrier = Barrier::new(Arc::clone(&engine));
    let root = RootKey::generate().unwrap();
    barrier.initialize(&root).await.unwrap();
    barrier.unseal(&root).await.unwrap();
    (engine, barrier, root)
}

async fn put(barrier: &Barrier, path: &str, value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(path, value.to_vec());
    barrier.commit(batch).await.unwrap();
}

async fn get(barrier: &Barrier, path: &str) -> Vec<u8> {
    barrier.get(path).await.unwrap().unwrap().value.to_vec()
}

async fn write_raw(engine: &dyn Engine, key: &str, raw: Bytes) {
    let commit = Commit {
        expect: Vec::new(),
        ops: vec![Op::Put(key.to_owned(), raw)],
    };
    engine.commit(commit).await.unwrap();
}

async fn assert_corrupt(barrier: &Barrier, path: &str, expected: Corruption) {
    match barrier.get(path).await {
        Err(Error::Corrupt { path: at, why }) => {
            assert_eq!((at.as_str(), why), (path, expected));
        }
        other => panic!("{other:?} instead of {expected:?}"),
    }
}

/// How many of the stored values rest under each term, from their headers.
async fn values_per_term(engine: &dyn Engine) -> BTreeMap<u32, u64> {
    let mut counts = BTreeMap::new();
    for (key, raw) in engine.scan("", None, usize::MAX).await.unwrap() {
        if key != "core/keyring" {
            let term = u32::from_be_bytes(raw[1..5].try_into().unwrap());
            *counts.entry(term).or_default() += 1;
        }
    }
    counts
}
