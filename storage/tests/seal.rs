//! Sealing and unsealing as an operator meets them: shares, static keys, and what is said when
//! one of them is wrong.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use obol_storage::seal::{
    self, Initialized, Seal, SealConfig, SealKind, Share, ShareError, StaticKey, StaticKeyError,
    StaticSeal,
};
use obol_storage::{Barrier, Batch, Commit, Corruption, Engine, Error, Memory, Op};

#[tokio::test]
async fn any_threshold_of_shares_unseals_and_fewer_do_not() {
    let (engine, initialized) = initialized(&Seal::Shamir, 5, 3).await;
    assert_eq!(initialized.shares.len(), 5);
    assert!(initialized.shares.iter().all(|s| s.expose().len() == 33));
    for picked in 0_u8..32 {
        let shares: Vec<Share> = (0..5)
            .filter(|index| picked & (1 << index) != 0)
            .map(|index| initialized.shares[index].clone())
            .collect();
        let barrier = Barrier::new(Arc::clone(&engine));
        let result = seal::unseal_with_shares(&barrier, &shares).await;
        if shares.len() >= 3 {
            result.unwrap();
            assert!(!barrier.is_sealed());
        } else {
            let too_few = ShareError::TooFew {
                got: shares.len(),
                need: 3,
            };
            assert!(matches!(result, Err(Error::Share(error)) if error == too_few));
            assert!(barrier.is_sealed());
        }
    }
}

#[tokio::test]
async fn one_share_alone_is_the_key_itself_as_with_vault() {
    let (engine, initialized) = initialized(&Seal::Shamir, 1, 1).await;
    let [share] = &initialized.shares[..] else {
        panic!("{:?}", initialized.shares);
    };
    assert_eq!(share.expose().len(), 32);
    assert_eq!(share.index(), None);
    let barrier = Barrier::new(engine);
    let typed = Share::from_bytes(share.expose()).unwrap();
    seal::unseal_with_shares(&barrier, &[typed]).await.unwrap();
}

#[tokio::test]
async fn shamir_bias_duplicate_zero_and_misshapen_shares_are_refused_by_name() {
    let (engine, initialized) = initialized(&Seal::Shamir, 3, 2).await;
    let barrier = Barrier::new(engine);
    let [a, b, c] = &initialized.shares[..] else {
        panic!("{:?}", initialized.shares);
    };
    let unseal = async |shares: &[&Share]| {
        let shares: Vec<Share> = shares.iter().copied().cloned().collect();
        let result = seal::unseal_with_shares(&barrier, &shares).await;
        assert!(barrier.is_sealed());
        result.unwrap_err()
    };
    let duplicate = ShareError::Duplicate {
        index: a.index().unwrap(),
    };
    assert!(matches!(unseal(&[a, a]).await, Error::Share(e) if e == duplicate));
    assert!(matches!(unseal(&[a, b, a]).await, Error::Share(e) if e == duplicate));
    let mut same_index = b.expose().to_vec();
    same_index[32] = a.index().unwrap();
    let same_index = Share::from_bytes(&same_index).unwrap();
    assert!(matches!(unseal(&[a, &same_index]).await, Error::Share(e) if e == duplicate));
    assert!(matches!(
        unseal(&[]).await,
        Error::Share(ShareError::TooFew { got: 0, need: 2 })
    ));
    let single = Share::from_bytes(&[1; 32]).unwrap();
    assert!(matches!(
        unseal(&[a, &single]).await,
        Error::Share(ShareError::WrongLength { got: 32, want: 33 })
    ));
    let mut fourth = b.expose().to_vec();
    fourth[32] = 200;
    let fourth = Share::from_bytes(&fourth).unwrap();
    assert!(matches!(
        unseal(&[a, b, c, &fourth]).await,
        Error::Share(ShareError::TooMany)
    ));

    let mut zero = a.expose().to_vec();
    zero[32] = 0;
    assert_eq!(Share::from_bytes(&zero), Err(ShareError::ZeroIndex));
    for length in (0..100).filter(|length| ![32, 33].contains(length)) {
        let share = Share::from_bytes(&vec![1; length]);
        assert_eq!(share, Err(ShareError::Length { got: length }));
    }
}

#[tokio::test]
async fn shares_that_make_another_key_are_a_wrong_key() {
    let (engine, ours) = initialized(&Seal::Shamir, 3, 2).await;
    let (_, theirs) = initialized(&Seal::Shamir, 3, 2).await;
    let barrier = Barrier::new(engine);
    let mixed = [ours.shares[0].clone(), theirs.shares[1].clone()];
    let mut falsified = ours.shares[1].expose().to_vec();
    falsified[7] ^= 1;
    let falsified = Share::from_bytes(&falsified).unwrap();
    for wrong in [
        &mixed[..],
        &theirs.shares[..2],
        &[ours.shares[0].clone(), falsified],
    ] {
        let result = seal::unseal_with_shares(&barrier, wrong).await;
        assert!(matches!(result, Err(Error::WrongKey)), "{result:?}");
        assert!(barrier.is_sealed());
    }
    // One share too many of which one is false is found out as well.
    let mut three = ours.shares.clone();
    three[2] = theirs.shares[2].clone();
    let result = seal::unseal_with_shares(&barrier, &three).await;
    assert!(matches!(result, Err(Error::WrongKey)), "{result:?}");
    seal::unseal_with_shares(&barrier, &ours.shares)
        .await
        .unwrap();
}

#[tokio::test]
async fn numbers_of_shares_that_cannot_work_are_refused() {
    for (shares, threshold) in [
        (0, 0),
        (0, 1),
        (1, 0),
        (5, 0),
        (5, 1),
        (2, 1),
        (2, 3),
        (1, 2),
    ] {
        let barrier = Barrier::new(Arc::new(Memory::new()));
        let result = seal::initialize(&barrier, &Seal::Shamir, shares, threshold).await;
        assert!(matches!(result, Err(Error::SealParameters(_))));
        assert!(!barrier.is_initialized().await.unwrap());
    }
    let (engine, most) = initialized(&Seal::Shamir, 255, 255).await;
    let barrier = Barrier::new(engine);
    seal::unseal_with_shares(&barrier, &most.shares)
        .await
        .unwrap();
}

#[tokio::test]
async fn initializing_again_is_refused_and_leaves_the_shares_valid() {
    let (engine, first) = initialized(&Seal::Shamir, 3, 2).await;
    let barrier = Barrier::new(Arc::clone(&engine));
    let again = seal::initialize(&barrier, &Seal::Shamir, 5, 3).await;
    assert!(matches!(again, Err(Error::AlreadyInitialized)));
    seal::unseal_with_shares(&barrier, &first.shares[1..])
        .await
        .unwrap();
    let again = seal::initialize(&barrier, &Seal::Shamir, 5, 3).await;
    assert!(matches!(again, Err(Error::AlreadyInitialized)));
}

#[tokio::test]
async fn the_seals_configuration_is_told_while_sealed() {
    let barrier = Barrier::new(Arc::new(Memory::new()));
    assert_eq!(seal::config(&barrier).await.unwrap(), None);
    let unsealed = seal::unseal_with_shares(&barrier, &[]).await;
    assert!(matches!(unsealed, Err(Error::NotInitialized)));
    seal::initialize(&barrier, &Seal::Shamir, 5, 3)
        .await
        .unwrap();
    let config = seal::config(&barrier).await.unwrap().unwrap();
    let expected = SealConfig {
        kind: SealKind::Shamir,
        shares: 5,
        threshold: 3,
        key_id: None,
    };
    assert_eq!(config, expected);
}

#[tokio::test]
async fn damaged_records_of_the_seal_are_named() {
    let (engine, initialized) = initialized(&Seal::Shamir, 3, 2).await;
    let barrier = Barrier::new(Arc::clone(&engine));
    let raw = engine.get("core/root-key").await.unwrap().unwrap();
    for position in 0..raw.len() {
        let mut altered = raw.to_vec();
        altered[position] ^= 1;
        for damaged in [altered, raw[..position].to_vec()] {
            write_raw(&*engine, "core/root-key", &damaged).await;
            let result = seal::unseal_with_shares(&barrier, &initialized.shares).await;
            assert!(
                matches!(&result, Err(Error::Corrupt { path, .. }) if path == "core/root-key"),
                "byte {position}: {result:?}"
            );
        }
    }
    write_raw(&*engine, "core/root-key", &raw).await;
    write_raw(&*engine, "core/seal-config", b"{\"kind\":").await;
    let result = seal::unseal_with_shares(&barrier, &initialized.shares).await;
    assert!(matches!(
        result,
        Err(Error::Corrupt { path, why: Corruption::Malformed }) if path == "core/seal-config"
    ));
}

#[tokio::test]
async fn a_static_key_unseals_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let keys = static_seal(directory.path(), "k1", None);
    let (engine, initialized) = initialized(&Seal::Static(keys), 3, 2).await;
    assert_eq!(initialized.shares.len(), 3);
    let barrier = Barrier::new(engine);
    let again = static_seal(directory.path(), "k1", None);
    seal::unseal_with_static_key(&barrier, &again)
        .await
        .unwrap();
    assert!(!barrier.is_sealed());
    let config = seal::config(&barrier).await.unwrap().unwrap();
    assert_eq!(config.kind, SealKind::Static);
    assert_eq!(config.key_id.as_deref(), Some("k1"));
}

#[tokio::test]
async fn a_wrong_static_key_is_answered_with_the_names_of_the_keys() {
    let directory = tempfile::tempdir().unwrap();
    let keys = static_seal(directory.path(), "k1", None);
    let (engine, _) = initialized(&Seal::Static(keys), 3, 2).await;
    let barrier = Barrier::new(engine);
    for other in [
        static_seal(directory.path(), "k2", None),
        static_seal(directory.path(), "k2", Some("k3")),
    ] {
        let error = seal::unseal_with_static_key(&barrier, &other)
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            Error::StaticKey(StaticKeyError::Wrong { .. })
        ));
        assert!(error.to_string().contains("\"k1\""), "{error}");
        assert!(error.to_string().contains("\"k2\""), "{error}");
        assert!(barrier.is_sealed());
    }
}

#[tokio::test]
async fn a_static_key_is_rotated_by_naming_the_old_one_as_previous() {
    let directory = tempfile::tempdir().unwrap();
    let old = static_seal(directory.path(), "k1", None);
    let (engine, initialized) = initialized(&Seal::Static(old), 3, 2).await;
    let start = async |keys: &StaticSeal| {
        let barrier = Barrier::new(Arc::clone(&engine));
        let result = seal::unseal_with_static_key(&barrier, keys).await;
        result.map(|()| barrier)
    };
    let both = static_seal(directory.path(), "k2", Some("k1"));
    let barrier = start(&both).await.unwrap();
    let mut batch = Batch::new();
    batch.put("a", b"1".to_vec());
    barrier.commit(batch).await.unwrap();

    // From here on the old key is not needed, and does not open anything.
    let new = static_seal(directory.path(), "k2", None);
    let barrier = start(&new).await.unwrap();
    assert_eq!(&**barrier.get("a").await.unwrap().unwrap().value, b"1");
    let config = seal::config(&barrier).await.unwrap().unwrap();
    assert_eq!(config.key_id.as_deref(), Some("k2"));
    let old = static_seal(directory.path(), "k1", None);
    assert!(matches!(start(&old).await, Err(Error::StaticKey(_))));
    start(&both).await.unwrap();
    seal::verify_shares(&barrier, &initialized.shares)
        .await
        .unwrap();
}

#[tokio::test]
async fn recovery_shares_prove_their_holders_and_open_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let keys = static_seal(directory.path(), "k1", None);
    let (engine, initialized) = initialized(&Seal::Static(keys), 3, 2).await;
    let barrier = Barrier::new(engine);
    let shares = &initialized.shares;
    let error = seal::unseal_with_shares(&barrier, shares)
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        Error::SealKind {
            found: "static",
            asked: "shamir"
        }
    ));
    let sealed = seal::verify_shares(&barrier, shares).await;
    assert!(matches!(sealed, Err(Error::Sealed)));

    let keys = static_seal(directory.path(), "k1", None);
    seal::unseal_with_static_key(&barrier, &keys).await.unwrap();
    seal::verify_shares(&barrier, &shares[1..]).await.unwrap();
    let few = seal::verify_shares(&barrier, &shares[..1]).await;
    assert!(matches!(few, Err(Error::Share(ShareError::TooFew { .. }))));
    let mut false_share = shares[0].expose().to_vec();
    false_share[0] ^= 1;
    let false_share = Share::from_bytes(&false_share).unwrap();
    let wrong = seal::verify_shares(&barrier, &[false_share, shares[1].clone()]).await;
    assert!(matches!(wrong, Err(Error::WrongKey)));
}

#[tokio::test]
async fn unseal_shares_prove_their_holders_too() {
    let (engine, ours) = initialized(&Seal::Shamir, 3, 2).await;
    let (_, theirs) = initialized(&Seal::Shamir, 3, 2).await;
    let barrier = Barrier::new(engine);
    seal::unseal_with_shares(&barrier, &ours.shares)
        .await
        .unwrap();
    seal::verify_shares(&barrier, &ours.shares[..2])
        .await
        .unwrap();
    let wrong = seal::verify_shares(&barrier, &theirs.shares).await;
    assert!(matches!(wrong, Err(Error::WrongKey)));
}

#[tokio::test]
async fn keys_and_shares_are_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let keys = static_seal(directory.path(), "k1", Some("k2"));
    let (_, initialized) = initialized(&Seal::Shamir, 2, 2).await;
    let texts = format!(
        "{keys:?} {:?} {:?}",
        initialized.shares, initialized.root_key
    );
    assert_eq!(texts.matches("redacted").count(), 5, "{texts}");
    assert!(
        texts.chars().filter(char::is_ascii_digit).count() < 4,
        "{texts}"
    );
}

async fn initialized(seal: &Seal, shares: u8, threshold: u8) -> (Arc<dyn Engine>, Initialized) {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let barrier = Barrier::new(Arc::clone(&engine));
    let initialized = seal::initialize(&barrier, seal, shares, threshold)
        .await
        .unwrap();
    assert!(barrier.is_sealed());
    (engine, initialized)
}

/// Keys in files, one for each name, the same each time.
fn static_seal(directory: &Path, current: &str, previous: Option<&str>) -> StaticSeal {
    let key = |id: &str| {
        let path = directory.join(id);
        let byte = id.as_bytes()[1];
        fs::write(&path, format!("{byte:02x}").repeat(32) + "\n").unwrap();
        StaticKey::read(id, &format!("file://{}", path.display())).unwrap()
    };
    StaticSeal {
        current: key(current),
        previous: previous.map(key),
    }
}

async fn write_raw(engine: &dyn Engine, key: &str, raw: &[u8]) {
    let commit = Commit {
        expect: Vec::new(),
        ops: vec![Op::Put(key.to_owned(), raw.to_vec().into())],
    };
    engine.commit(commit).await.unwrap();
}
