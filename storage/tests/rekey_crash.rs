//! A kill in the middle of a rekey leaves the old keys valid or the new ones, never neither: a child of this test
//! rekeys and rotates without end, is killed with SIGKILL, and the parent tries the keys that were given out.
#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used)]

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use obol_storage::seal::{self, RekeyTarget, Seal, Share, install_new_keys, prepare_new_keys};
use obol_storage::{Barrier, BarrierOptions, Batch, Error, RocksDb, RocksDbOptions};

const ROUNDS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn half_written_is_no_rekey_the_old_keys_or_the_new_ones_open_what_a_kill_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let mut shares = {
        let (_, barrier) = open(directory.path());
        let new = seal::initialize(&barrier, &Seal::Shamir, 3, 2).await;
        new.unwrap().shares
    };
    let (mut by_old, mut by_new) = (0, 0);
    for round in 0..ROUNDS {
        let wanted = 10 + 4 * round;
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_that_rekeys", "--ignored", "--nocapture"])
            .env("OBOL_TEST_DIRECTORY", directory.path())
            .env("OBOL_TEST_SHARES", text(&shares))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut prepared = None;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        while let Some(Ok(line)) = lines.next() {
            if let Some(given) = line.strip_prefix("prepared ") {
                prepared = Some(parse(given));
                count += 1;
                // Every other round dies with the commit on its way, the rest after it was acknowledged.
                if count == wanted && round % 2 == 0 {
                    std::thread::sleep(Duration::from_micros(150 * round as u64));
                    child.kill().unwrap();
                }
            } else if line == "installed" {
                shares = prepared.take().unwrap();
                if count == wanted && round % 2 == 1 {
                    child.kill().unwrap();
                }
            }
        }
        assert!(count >= wanted, "the child ended by itself");
        child.wait().unwrap();

        let (engine, barrier) = open(directory.path());
        let old = seal::unseal_with_shares(&barrier, &shares[..2]).await;
        match (old, prepared) {
            (Ok(()), prepared) => {
                by_old += 1;
                // And then the new ones open nothing.
                if let Some(new) = prepared {
                    let again = Barrier::new(engine.clone());
                    let result = seal::unseal_with_shares(&again, &new[..2]).await;
                    assert!(matches!(result, Err(Error::WrongKey)));
                }
            }
            (Err(Error::WrongKey), Some(new)) => {
                by_new += 1;
                seal::unseal_with_shares(&barrier, &new[..2]).await.unwrap();
                shares = new;
            }
            (other, _) => panic!("round {round}: {other:?}"),
        }
        // Everything that was ever acknowledged can be read.
        let last = barrier.get("last").await.unwrap().unwrap();
        let last: u64 = std::str::from_utf8(&last.value).unwrap().parse().unwrap();
        for number in 1..=last {
            assert!(barrier.get(&format!("v/{number}")).await.unwrap().is_some());
        }
    }
    println!("opened with acknowledged keys {by_old} times, with the next ones {by_new} times");
}

#[test]
#[ignore = "not a test: the process that another test kills"]
fn child_that_rekeys() {
    let (Some(path), Ok(shares)) = (
        env::var_os("OBOL_TEST_DIRECTORY"),
        env::var("OBOL_TEST_SHARES"),
    ) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let barrier = Arc::new(open(Path::new(&path)).1);
        let mut shares = parse(&shares);
        seal::unseal_with_shares(&barrier, &shares[..2])
            .await
            .unwrap();
        // Writers that reserve and rotate meanwhile.
        let writer = Arc::clone(&barrier);
        tokio::spawn(async move {
            let mut number: u64 = match writer.get("last").await.unwrap() {
                Some(entry) => std::str::from_utf8(&entry.value).unwrap().parse().unwrap(),
                None => 0,
            };
            loop {
                number += 1;
                let mut batch = Batch::new();
                batch.put(format!("v/{number}"), b"value".to_vec());
                batch.put("last", number.to_string().into_bytes());
                writer.commit(batch).await.unwrap();
                if number.is_multiple_of(20) {
                    writer.rotate().await.unwrap();
                }
            }
        });
        loop {
            let keys = prepare_new_keys(&barrier, RekeyTarget::Barrier, &shares[1..], 3, 2)
                .await
                .unwrap();
            say(&format!("prepared {}", text(keys.shares())));
            install_new_keys(&barrier, &Seal::Shamir, &keys)
                .await
                .unwrap();
            shares = keys.shares().to_vec();
            say("installed");
        }
    });
}

/// One write, so that a line is in the pipe as a whole or not at all.
fn say(line: &str) {
    let line = format!("{line}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

fn open(path: &Path) -> (Arc<RocksDb>, Barrier) {
    let engine = Arc::new(RocksDb::open(path, RocksDbOptions::default()).unwrap());
    let options = BarrierOptions {
        rotate_after: 2000,
        reserve: 50,
    };
    (engine.clone(), Barrier::with_options(engine, options))
}

fn text(shares: &[Share]) -> String {
    let hex: Vec<String> = shares.iter().map(|s| hex::encode(s.expose())).collect();
    hex.join(",")
}

fn parse(text: &str) -> Vec<Share> {
    text.split(',')
        .map(|share| Share::from_bytes(&hex::decode(share).unwrap()).unwrap())
        .collect()
}
