//! Snapshots: one moment, whole or noticed, restored on the same server and on another one.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use obol_storage::seal::{self, Seal};
use obol_storage::snapshot::{self, Header, Keys, RestoreError, SealRecords};
use obol_storage::{Barrier, Engine, Memory, RootKey, View};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_brings_back_what_was_there_and_nothing_else() {
    let (barrier, _) = server().await;
    let view = view(&barrier);
    view.put("kept", b"one".to_vec()).await.unwrap();
    let file = take(&barrier).await;
    view.put("kept", b"two".to_vec()).await.unwrap();
    view.put("later", b"new".to_vec()).await.unwrap();
    let root = restore(&barrier, &file, Keys::Same).await.unwrap();
    // Whatever was in memory is of the past.
    assert!(barrier.is_sealed());
    barrier.unseal(&root).await.unwrap();
    assert_eq!(&**view.get("kept").await.unwrap().unwrap().value, b"one");
    assert!(view.get("later").await.unwrap().is_none());
    view.put("later", b"again".to_vec()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nonce_reuse_a_restored_copy_goes_on_under_a_key_of_its_own() {
    let (barrier, engine) = server().await;
    let view = view(&barrier);
    view.put("a", b"1".to_vec()).await.unwrap();
    let file = take(&barrier).await;
    let before = barrier.key_status().unwrap();
    for n in 0..100 {
        view.put("b", vec![n]).await.unwrap();
    }
    let root = restore(&barrier, &file, Keys::Same).await.unwrap();
    // As after a crash between the restore and the unsealing: the mark is in the store, not in memory.
    let again = Arc::new(Barrier::new(engine.clone()));
    again.unseal(&root).await.unwrap();
    let after = again.key_status().unwrap();
    assert_eq!(after.term, before.term + 1);
    // Once, not at every unsealing; and a snapshot does not carry the mark to the next.
    let third = Barrier::new(engine.clone());
    third.unseal(&root).await.unwrap();
    assert_eq!(third.key_status().unwrap().term, after.term);
    // A second copy has a key of its own under the same term: neither opens what the other seals.
    let (other, others_engine) = server().await;
    restore(&other, &file, Keys::Any).await.unwrap();
    other.unseal(&root).await.unwrap();
    assert_eq!(other.key_status().unwrap().term, after.term);
    self::view(&other).put("same", b"1".to_vec()).await.unwrap();
    let raw = others_engine.get("mount/x/same").await.unwrap().unwrap();
    let moved = obol_storage::Commit {
        expect: Vec::new(),
        ops: vec![obol_storage::Op::Put("mount/x/same".to_owned(), raw)],
    };
    engine.commit(moved).await.unwrap();
    assert!(self::view(&again).get("same").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_or_damaged_snapshot_is_noticed_and_changes_nothing() {
    let (barrier, engine) = server().await;
    let view = view(&barrier);
    view.put("a", b"1".to_vec()).await.unwrap();
    let file = take(&barrier).await;
    view.put("a", b"2".to_vec()).await.unwrap();
    let before = engine.scan("", None, usize::MAX).await.unwrap();
    for length in (0..file.len())
        .step_by(7)
        .chain(file.len() - 40..file.len())
    {
        for keys in [Keys::Same, Keys::Any] {
            let error = restore(&barrier, &file[..length], keys).await.unwrap_err();
            assert!(
                matches!(error, RestoreError::Truncated | RestoreError::NotASnapshot),
                "{length}: {error}"
            );
        }
    }
    for position in 0..file.len() {
        let mut damaged = file.clone();
        damaged[position] ^= 1;
        assert!(
            restore(&barrier, &damaged, Keys::Any).await.is_err(),
            "{position}"
        );
    }
    let mut longer = file.clone();
    longer.push(0);
    assert!(restore(&barrier, &longer, Keys::Any).await.is_err());
    assert!(matches!(
        restore(
            &barrier,
            b"{\"data\": {}}, and more text than a header has",
            Keys::Any
        )
        .await,
        Err(RestoreError::NotASnapshot)
    ));
    // Nothing of it was stored, and the server still serves.
    assert!(!barrier.is_sealed());
    assert_eq!(engine.scan("", None, usize::MAX).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_snapshot_is_refused_though_its_checksum_is_right() {
    let (barrier, _) = server().await;
    view(&barrier).put("a", b"1".to_vec()).await.unwrap();
    let file = take(&barrier).await;
    // Another time in the header, and the checksum made anew: what a thief without the keys can do.
    let text = b"\"created\":1";
    let at = file
        .windows(text.len())
        .position(|part| part == text)
        .unwrap();
    let mut altered = file[..file.len() - 32].to_vec();
    altered[at + text.len() - 1] = b'2';
    let hash = ring_sha256(&altered);
    altered.extend_from_slice(&hash);
    assert!(matches!(
        restore(&barrier, &altered, Keys::Same).await,
        Err(RestoreError::Altered)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_another_server_needs_force_and_is_opened_by_its_own_keys() {
    let (barrier, _) = server().await;
    view(&barrier).put("a", b"first".to_vec()).await.unwrap();
    let file = take(&barrier).await;
    let root_of_first = restore(&barrier, &file, Keys::Same).await.unwrap();

    let (other, _) = server().await;
    view(&other).put("a", b"second".to_vec()).await.unwrap();
    assert!(matches!(
        restore(&other, &file, Keys::Same).await,
        Err(RestoreError::OtherKeys)
    ));
    assert!(!other.is_sealed());
    let root_of_other = restore(&other, &file, Keys::Any).await.unwrap();
    assert!(other.is_sealed());
    assert!(other.unseal(&root_of_other).await.is_err());
    other.unseal(&root_of_first).await.unwrap();
    let value = view(&other).get("a").await.unwrap().unwrap().value;
    assert_eq!(&**value, b"first");
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_that_were_replaced_do_not_come_back_with_a_snapshot() {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let barrier = Arc::new(Barrier::new(engine.clone()));
    let made = seal::initialize(&barrier, &Seal::Shamir, 1, 1)
        .await
        .unwrap();
    barrier.unseal(&made.root_key).await.unwrap();
    let file = take(&barrier).await;
    // Stands for a rekey: the records of the seal are others now.
    let put = |path: &str| obol_storage::Commit {
        expect: Vec::new(),
        ops: vec![obol_storage::Op::Put(path.to_owned(), Bytes::from("new"))],
    };
    engine.commit(put("core/root-key")).await.unwrap();
    restore(&barrier, &file, Keys::Same).await.unwrap();
    let kept = engine.get("core/root-key").await.unwrap().unwrap();
    assert_eq!(kept, "new");
    barrier.unseal(&made.root_key).await.unwrap();
    restore(&barrier, &file, Keys::Any).await.unwrap();
    let kept = engine.get("core/root-key").await.unwrap().unwrap();
    assert_ne!(kept, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn keytab_readback_a_snapshot_holds_no_value_in_the_clear() {
    let (barrier, _) = server().await;
    view(&barrier)
        .put("config", b"keytab-and-bind-password".to_vec())
        .await
        .unwrap();
    let file = take(&barrier).await;
    let text = String::from_utf8_lossy(&file);
    assert!(text.contains("mount/x/config") && !text.contains("bind-password"));
    barrier.seal();
    let refused = snapshot::write(&barrier, &header(), &mut |_| true);
    assert!(refused.is_err());
}

async fn server() -> (Arc<Barrier>, Arc<dyn Engine>) {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let barrier = Arc::new(Barrier::new(engine.clone()));
    let root = RootKey::generate().unwrap();
    barrier.initialize(&root).await.unwrap();
    barrier.unseal(&root).await.unwrap();
    (barrier, engine)
}

fn view(barrier: &Arc<Barrier>) -> View {
    View::new(Arc::clone(barrier), "mount/x/").unwrap()
}

fn header() -> Header {
    Header {
        created: 1,
        server: "0".to_owned(),
    }
}

async fn take(barrier: &Arc<Barrier>) -> Vec<u8> {
    let barrier = Arc::clone(barrier);
    tokio::task::spawn_blocking(move || {
        let mut file = Vec::new();
        snapshot::write(&barrier, &header(), &mut |chunk| {
            file.extend_from_slice(&chunk);
            true
        })
        .unwrap();
        file
    })
    .await
    .unwrap()
}

async fn restore(barrier: &Arc<Barrier>, file: &[u8], keys: Keys) -> Result<RootKey, RestoreError> {
    let own = SealRecords::of(barrier).await.unwrap();
    let (barrier, file) = (Arc::clone(barrier), file.to_vec());
    tokio::task::spawn_blocking(move || snapshot::restore(&barrier, own, &mut &file[..], keys))
        .await
        .unwrap()
}

fn ring_sha256(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes)
        .as_ref()
        .to_vec()
}
