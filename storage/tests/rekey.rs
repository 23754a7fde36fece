//! Rekeying and rotation as the core meets them: what opens the storage before, while and after, with one server and
//! with two, and after a kill at any moment.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use obol_storage::seal::{
    self, Initialized, NewKeys, RekeyTarget, Seal, Share, StaticKey, StaticSeal, install_new_keys,
    prepare_new_keys,
};
use obol_storage::{Barrier, BarrierOptions, Batch, Engine, Error, Memory, ShareError};

async fn server(seal: &Seal, shares: u8, threshold: u8) -> (Arc<Memory>, Barrier, Initialized) {
    let engine = Arc::new(Memory::new());
    let barrier = Barrier::new(engine.clone());
    let new = seal::initialize(&barrier, seal, shares, threshold)
        .await
        .unwrap();
    barrier.unseal(&new.root_key).await.unwrap();
    put(&barrier, "before").await;
    (engine, barrier, new)
}

async fn put(barrier: &Barrier, path: &str) {
    let mut batch = Batch::new();
    batch.put(path, path.as_bytes().to_vec());
    barrier.commit(batch).await.unwrap();
}

async fn reads(barrier: &Barrier, path: &str) -> bool {
    let entry = barrier.get(path).await.unwrap();
    entry.is_some_and(|entry| &**entry.value == path.as_bytes())
}

async fn opens(engine: &Arc<Memory>, shares: &[Share]) -> bool {
    let barrier = Barrier::new(engine.clone());
    match seal::unseal_with_shares(&barrier, shares).await {
        Ok(()) => {
            assert!(reads(&barrier, "before").await);
            true
        }
        Err(Error::WrongKey | Error::Share(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

async fn rekey(barrier: &Barrier, old: &[Share], shares: u8, threshold: u8) -> NewKeys {
    let keys = prepare_new_keys(barrier, RekeyTarget::Barrier, old, shares, threshold)
        .await
        .unwrap();
    install_new_keys(barrier, &Seal::Shamir, &keys)
        .await
        .unwrap();
    keys
}

fn static_seal(byte: u8) -> Seal {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [byte; 32]).unwrap();
    let source = format!("file://{}", file.path().display());
    Seal::Static(StaticSeal {
        current: StaticKey::read("k1", &source).unwrap(),
        previous: None,
    })
}

#[tokio::test]
async fn new_keys_open_what_the_old_ones_did_and_the_old_ones_open_nothing() {
    let (engine, barrier, old) = server(&Seal::Shamir, 3, 2).await;
    let keys = prepare_new_keys(&barrier, RekeyTarget::Barrier, &old.shares[1..], 5, 3)
        .await
        .unwrap();
    assert_eq!(keys.shares().len(), 5);
    // Prepared is nothing yet.
    assert!(opens(&engine, &old.shares[..2]).await);
    assert!(!opens(&engine, &keys.shares()[..3]).await);
    install_new_keys(&barrier, &Seal::Shamir, &keys)
        .await
        .unwrap();
    assert!(!opens(&engine, &old.shares[..2]).await);
    assert!(!opens(&engine, &old.shares).await);
    assert!(!opens(&engine, &keys.shares()[..2]).await);
    assert!(opens(&engine, &keys.shares()[2..]).await);
    // The server that did it goes on, and can do it again.
    put(&barrier, "after").await;
    assert!(reads(&barrier, "before").await && reads(&barrier, "after").await);
    assert!(
        seal::verify_shares(&barrier, &keys.shares()[..3])
            .await
            .is_ok()
    );
    let one = rekey(&barrier, &keys.shares()[..3], 1, 1).await;
    assert!(opens(&engine, one.shares()).await);
    // What knew the old root key is of no use either.
    assert!(matches!(
        Barrier::new(engine.clone()).unseal(&old.root_key).await,
        Err(Error::WrongKey)
    ));
    let config = seal::config(&barrier).await.unwrap().unwrap();
    assert_eq!((config.shares, config.threshold), (1, 1));
}

#[tokio::test]
async fn new_keys_are_made_for_those_alone_who_have_enough_of_the_old() {
    let (engine, barrier, old) = server(&Seal::Shamir, 3, 2).await;
    let (_, _, foreign) = server(&Seal::Shamir, 3, 2).await;
    let prepare = async |given: &[Share], shares, threshold| {
        prepare_new_keys(&barrier, RekeyTarget::Barrier, given, shares, threshold)
            .await
            .unwrap_err()
    };
    assert!(matches!(
        prepare(&old.shares[..1], 3, 2).await,
        Error::Share(ShareError::TooFew { got: 1, need: 2 })
    ));
    assert!(matches!(
        prepare(&foreign.shares[..2], 3, 2).await,
        Error::WrongKey
    ));
    // threats: `shamir-bias`, a share that is given twice counts once.
    let twice = [old.shares[0].clone(), old.shares[0].clone()];
    assert!(matches!(
        prepare(&twice, 3, 2).await,
        Error::Share(ShareError::Duplicate { index: 1 })
    ));
    for (shares, threshold) in [(0, 0), (3, 1), (2, 3), (3, 0)] {
        assert!(matches!(
            prepare(&old.shares[..2], shares, threshold).await,
            Error::SealParameters(_)
        ));
    }
    let none = prepare_new_keys(&barrier, RekeyTarget::Recovery, &old.shares, 3, 2).await;
    assert!(matches!(none, Err(Error::SealKind { .. })));
    assert!(opens(&engine, &old.shares[..2]).await);
    barrier.seal();
    assert!(matches!(
        prepare(&old.shares[..2], 3, 2).await,
        Error::Sealed
    ));
}

#[tokio::test]
async fn new_keys_are_verified_before_they_are_put_into_force() {
    let (_, barrier, old) = server(&Seal::Shamir, 3, 2).await;
    let keys = prepare_new_keys(&barrier, RekeyTarget::Barrier, &old.shares, 3, 2)
        .await
        .unwrap();
    keys.verify(&keys.shares()[1..]).unwrap();
    keys.verify(&[keys.shares()[2].clone(), keys.shares()[0].clone()])
        .unwrap();
    assert!(matches!(
        keys.verify(&keys.shares()[..1]),
        Err(Error::Share(ShareError::TooFew { .. }))
    ));
    assert!(matches!(
        keys.verify(&old.shares[..2]),
        Err(Error::WrongKey)
    ));
    let twice = [keys.shares()[0].clone(), keys.shares()[0].clone()];
    assert!(matches!(
        keys.verify(&twice),
        Err(Error::Share(ShareError::Duplicate { .. }))
    ));
    assert_eq!(format!("{keys:?}"), "NewKeys(Barrier, redacted)");
}

#[tokio::test]
async fn of_two_rekeys_that_began_with_the_same_keys_one_comes_into_force() {
    let (engine, barrier, old) = server(&Seal::Shamir, 3, 2).await;
    let mut both = Vec::new();
    for _ in 0..2 {
        let keys = prepare_new_keys(&barrier, RekeyTarget::Barrier, &old.shares[..2], 2, 2).await;
        both.push(keys.unwrap());
    }
    install_new_keys(&barrier, &Seal::Shamir, &both[1])
        .await
        .unwrap();
    let late = install_new_keys(&barrier, &Seal::Shamir, &both[0]).await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    assert!(opens(&engine, both[1].shares()).await);
    assert!(!opens(&engine, both[0].shares()).await);
}

#[tokio::test]
async fn a_server_whose_root_key_another_replaced_seals_itself_before_it_writes_keys() {
    let (engine, barrier, old) = server(&Seal::Shamir, 1, 1).await;
    let other = Barrier::with_options(
        engine.clone(),
        BarrierOptions {
            rotate_after: 1000,
            reserve: 4,
        },
    );
    seal::unseal_with_shares(&other, &old.shares).await.unwrap();
    put(&other, "other").await;
    let keys = rekey(&barrier, &old.shares, 1, 1).await;
    // What it may do with the keys in memory goes on; what needs the keyring ends it.
    assert!(reads(&other, "before").await);
    assert!(matches!(other.rotate().await, Err(Error::Sealed)));
    assert!(other.is_sealed());
    seal::unseal_with_shares(&other, keys.shares())
        .await
        .unwrap();
    put(&other, "again").await;
    assert!(reads(&barrier, "again").await);
}

#[tokio::test]
async fn a_rotation_by_another_server_does_not_stop_a_rekey() {
    let (engine, barrier, old) = server(&Seal::Shamir, 1, 1).await;
    let other = Barrier::new(engine.clone());
    seal::unseal_with_shares(&other, &old.shares).await.unwrap();
    let keys = prepare_new_keys(&barrier, RekeyTarget::Barrier, &old.shares, 2, 2)
        .await
        .unwrap();
    other.rotate().await.unwrap();
    put(&other, "rotated").await;
    install_new_keys(&barrier, &Seal::Shamir, &keys)
        .await
        .unwrap();
    assert!(reads(&barrier, "rotated").await);
    assert!(opens(&engine, keys.shares()).await);
}

#[tokio::test]
async fn the_root_key_of_a_static_seal_is_replaced_and_the_recovery_keys_stay() {
    let seal = static_seal(7);
    let (engine, barrier, old) = server(&seal, 3, 2).await;
    let Seal::Static(keys) = &seal else { panic!() };
    let asked = prepare_new_keys(&barrier, RekeyTarget::Barrier, &old.shares[..2], 3, 2).await;
    assert!(matches!(asked, Err(Error::SealParameters(_))));
    let new = prepare_new_keys(&barrier, RekeyTarget::Barrier, &old.shares[..2], 1, 1)
        .await
        .unwrap();
    assert!(new.shares().is_empty());
    install_new_keys(&barrier, &seal, &new).await.unwrap();
    let again = Barrier::new(engine.clone());
    assert!(matches!(
        again.unseal(&old.root_key).await,
        Err(Error::WrongKey)
    ));
    seal::unseal_with_static_key(&again, keys).await.unwrap();
    assert!(reads(&again, "before").await);
    seal::verify_shares(&again, &old.shares[1..]).await.unwrap();
    let config = seal::config(&again).await.unwrap().unwrap();
    assert_eq!((config.shares, config.threshold), (3, 2));
}

#[tokio::test]
async fn recovery_keys_are_replaced_by_themselves() {
    let seal = static_seal(8);
    let (engine, barrier, old) = server(&seal, 3, 2).await;
    let new = prepare_new_keys(&barrier, RekeyTarget::Recovery, &old.shares[..2], 5, 4)
        .await
        .unwrap();
    seal::verify_shares(&barrier, &old.shares[..2])
        .await
        .unwrap();
    install_new_keys(&barrier, &seal, &new).await.unwrap();
    assert!(
        seal::verify_shares(&barrier, &old.shares[..2])
            .await
            .is_err()
    );
    seal::verify_shares(&barrier, &new.shares()[1..])
        .await
        .unwrap();
    let Seal::Static(keys) = &seal else { panic!() };
    let again = Barrier::new(engine);
    seal::unseal_with_static_key(&again, keys).await.unwrap();
    again.unseal(&old.root_key).await.unwrap();
}

#[tokio::test]
async fn a_key_is_rotated_by_its_age_once_however_many_ask() {
    let (engine, barrier, old) = server(&Seal::Shamir, 1, 1).await;
    let other = Barrier::new(engine);
    seal::unseal_with_shares(&other, &old.shares).await.unwrap();
    let installed = barrier.key_status().unwrap().installed;
    assert_eq!(
        barrier.rotate_if_installed_by(installed - 1).await.unwrap(),
        None
    );
    assert_eq!(
        barrier.rotate_if_installed_by(installed).await.unwrap(),
        Some(2)
    );
    // The clock of the test may stand still: what is asked is whether the other server sees the new key first.
    let seen = other
        .rotate_if_installed_by(installed.saturating_sub(1))
        .await;
    assert_eq!(seen.unwrap(), None);
    put(&barrier, "new").await;
    assert!(reads(&other, "new").await);
    assert_eq!(other.key_status().unwrap().term, 2);
}

#[tokio::test]
async fn a_key_is_rotated_by_its_count_as_soon_as_that_is_set() {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let options = BarrierOptions {
        rotate_after: u64::MAX,
        reserve: 10,
    };
    let barrier = Barrier::with_options(engine, options);
    let root = obol_storage::RootKey::generate().unwrap();
    barrier.initialize(&root).await.unwrap();
    barrier.unseal(&root).await.unwrap();
    for number in 0..30 {
        put(&barrier, &format!("a/{number}")).await;
    }
    assert_eq!(barrier.key_status().unwrap().term, 1);
    barrier.set_rotate_after(40);
    for number in 0..41 {
        put(&barrier, &format!("b/{number}")).await;
    }
    assert_eq!(barrier.key_status().unwrap().term, 2);
    assert_eq!(barrier.key_status().unwrap().rotate_after, 40);
    // No setting reaches beyond what the cipher permits.
    barrier.set_rotate_after(u64::MAX);
    assert_eq!(
        barrier.key_status().unwrap().rotate_after,
        u64::from(u32::MAX)
    );
}

#[tokio::test]
async fn a_backup_comes_and_goes_with_the_keys_it_is_of() {
    let (engine, barrier, old) = server(&Seal::Shamir, 1, 1).await;
    let backup = async || {
        let sealed = Barrier::new(engine.clone());
        seal::key_backup(&sealed, RekeyTarget::Barrier)
            .await
            .unwrap()
    };
    let mut keys = prepare_new_keys(&barrier, RekeyTarget::Barrier, &old.shares, 1, 1)
        .await
        .unwrap();
    keys.keep_backup("encrypted");
    assert!(backup().await.is_none(), "not before the keys are in force");
    install_new_keys(&barrier, &Seal::Shamir, &keys)
        .await
        .unwrap();
    assert_eq!(backup().await.as_deref(), Some(&b"encrypted"[..]));
    let other = seal::key_backup(&barrier, RekeyTarget::Recovery).await;
    assert!(other.unwrap().is_none());
    rekey(&barrier, keys.shares(), 1, 1).await;
    assert!(
        backup().await.is_none(),
        "it was of keys that are worth nothing"
    );
}
