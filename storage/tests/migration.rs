//! From Shamir's shares to a static key and back: what opens the storage before and after, and that nothing changes
//! for whoever has shown too little.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use obol_storage::seal::{
    self, Initialized, RekeyTarget, Seal, StaticKey, StaticSeal, install_new_keys, prepare_new_keys,
};
use obol_storage::{Barrier, Batch, Engine, Error, Memory};

fn static_keys(byte: u8) -> StaticSeal {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [byte; 32]).unwrap();
    let source = format!("file://{}", file.path().display());
    StaticSeal {
        current: StaticKey::read("k1", &source).unwrap(),
        previous: None,
    }
}

/// A sealed storage with one value.
async fn storage(seal: &Seal) -> (Arc<Memory>, Initialized) {
    let engine = Arc::new(Memory::new());
    let barrier = Barrier::new(engine.clone());
    let new = seal::initialize(&barrier, seal, 3, 2).await.unwrap();
    barrier.unseal(&new.root_key).await.unwrap();
    let mut batch = Batch::new();
    batch.put("value", b"kept".to_vec());
    barrier.commit(batch).await.unwrap();
    (engine, new)
}

async fn dump(engine: &Arc<Memory>) -> Vec<(String, bytes::Bytes)> {
    engine.scan("", None, 1000).await.unwrap()
}

async fn reads(barrier: &Barrier) -> bool {
    let entry = barrier.get("value").await.unwrap();
    entry.is_some_and(|entry| &**entry.value == b"kept")
}

#[tokio::test]
async fn shares_become_recovery_keys_of_a_static_key_and_unseal_keys_again() {
    let (engine, new) = storage(&Seal::Shamir).await;
    let to_static = Seal::Static(static_keys(1));
    let sealed = || Barrier::new(engine.clone());
    assert!(!seal::is_pending(&sealed(), &Seal::Shamir).await.unwrap());
    assert!(seal::is_pending(&sealed(), &to_static).await.unwrap());

    let barrier = sealed();
    seal::migrate(&barrier, &to_static, &new.shares[1..])
        .await
        .unwrap();
    assert!(reads(&barrier).await);
    assert!(!seal::is_pending(&barrier, &to_static).await.unwrap());
    let config = seal::config(&barrier).await.unwrap().unwrap();
    assert_eq!(
        (config.shares, config.threshold, config.key_id.as_deref()),
        (3, 2, Some("k1"))
    );
    seal::verify_shares(&barrier, &new.shares[..2])
        .await
        .unwrap();
    let refused = seal::unseal_with_shares(&sealed(), &new.shares[..2]).await;
    assert!(matches!(refused, Err(Error::SealKind { .. })));
    let alone = sealed();
    seal::unseal_with_static_key(&alone, &static_keys(1))
        .await
        .unwrap();
    assert!(reads(&alone).await);

    // Back: the static key is needed once more, and the recovery keys, which are replaced before.
    let keys = prepare_new_keys(&barrier, RekeyTarget::Recovery, &new.shares[..2], 1, 1)
        .await
        .unwrap();
    install_new_keys(&barrier, &to_static, &keys).await.unwrap();
    let leaving = Seal::Leaving(static_keys(1));
    let barrier = sealed();
    assert!(seal::is_pending(&barrier, &leaving).await.unwrap());
    seal::migrate(&barrier, &leaving, keys.shares())
        .await
        .unwrap();
    assert!(reads(&barrier).await);
    let refused = seal::unseal_with_static_key(&sealed(), &static_keys(1)).await;
    assert!(matches!(refused, Err(Error::SealKind { .. })));
    let alone = sealed();
    seal::unseal_with_shares(&alone, keys.shares())
        .await
        .unwrap();
    assert!(reads(&alone).await);
}

#[tokio::test]
async fn wrong_shares_a_wrong_key_and_no_need_change_nothing() {
    let (engine, new) = storage(&Seal::Shamir).await;
    let (other, foreign) = storage(&Seal::Static(static_keys(2))).await;
    let before = [dump(&engine).await, dump(&other).await];
    for (engine, seal, shares) in [
        (&engine, Seal::Static(static_keys(1)), &new.shares[..1]),
        (&engine, Seal::Static(static_keys(1)), &foreign.shares[..2]),
        (&engine, Seal::Shamir, &new.shares[..2]),
        (&engine, Seal::Leaving(static_keys(1)), &new.shares[..2]),
        (&other, Seal::Shamir, &foreign.shares[..2]),
        (&other, Seal::Leaving(static_keys(1)), &foreign.shares[..2]),
        (&other, Seal::Leaving(static_keys(2)), &new.shares[..2]),
        (&other, Seal::Leaving(static_keys(2)), &foreign.shares[..1]),
        (&other, Seal::Static(static_keys(2)), &foreign.shares[..2]),
    ] {
        let barrier = Barrier::new(engine.clone());
        assert!(seal::migrate(&barrier, &seal, shares).await.is_err());
        assert!(barrier.is_sealed());
    }
    assert_eq!([dump(&engine).await, dump(&other).await], before);
}

#[tokio::test]
async fn a_backup_of_the_keys_follows_them() {
    let (engine, new) = storage(&Seal::Shamir).await;
    let barrier = Barrier::new(engine.clone());
    barrier.unseal(&new.root_key).await.unwrap();
    let mut keys = prepare_new_keys(&barrier, RekeyTarget::Barrier, &new.shares[..2], 1, 1)
        .await
        .unwrap();
    keys.keep_backup("encrypted");
    install_new_keys(&barrier, &Seal::Shamir, &keys)
        .await
        .unwrap();
    seal::migrate(&barrier, &Seal::Static(static_keys(1)), keys.shares())
        .await
        .unwrap();
    let kept = |target| seal::key_backup(&barrier, target);
    assert!(kept(RekeyTarget::Barrier).await.unwrap().is_none());
    let backup = kept(RekeyTarget::Recovery).await.unwrap();
    assert_eq!(backup.as_deref(), Some(&b"encrypted"[..]));
}
