//! kv version 2 under many clients at once, on one server and on two that share a store.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Mount, get, post, view};
use serde_json::json;
use tokio::task::JoinSet;

const CLIENTS: u64 = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_get_versions_without_a_gap_and_all_are_acknowledged() {
    let kv = Arc::new(Mount::kv().await);
    kv.done(post("config", json!({"max_versions": CLIENTS})))
        .await;
    let mut writers = JoinSet::new();
    for client in 0..CLIENTS {
        let kv = Arc::clone(&kv);
        writers.spawn(async move {
            let answer = kv
                .done(post("data/a", json!({"data": {"client": client}})))
                .await;
            (answer.data["version"].as_u64().unwrap(), client)
        });
    }
    let written: BTreeSet<(u64, u64)> = writers.join_all().await.into_iter().collect();
    let versions: Vec<u64> = written.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (1..=CLIENTS).collect::<Vec<_>>());
    for (version, client) in written {
        let read = kv
            .done(get("data/a").with(json!({"version": version})))
            .await;
        assert_eq!(read.data["data"]["client"], client);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_create_the_same_secret_one_succeeds() {
    let kv = Arc::new(Mount::kv().await);
    let mut writers = JoinSet::new();
    for client in 0..CLIENTS {
        let kv = Arc::clone(&kv);
        let body = json!({"data": {"client": client}, "options": {"cas": 0}});
        writers.spawn(async move { (kv.status(post("data/a", body)).await, client) });
    }
    let results = writers.join_all().await;
    let winners: Vec<u64> = results
        .iter()
        .filter(|(status, _)| *status == 200)
        .map(|(_, client)| *client)
        .collect();
    assert_eq!(winners.len(), 1);
    assert!(
        results
            .iter()
            .all(|(status, _)| [200, 400].contains(status))
    );
    assert_eq!(
        kv.done(get("data/a")).await.data["data"]["client"],
        winners[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_counter_kept_with_check_and_set_loses_no_step() {
    let kv = Arc::new(Mount::kv().await);
    kv.done(post("data/counter", json!({"data": {"n": 0}})))
        .await;
    const STEPS: u64 = 8;
    let mut counters = JoinSet::new();
    for _ in 0..8 {
        let kv = Arc::clone(&kv);
        counters.spawn(async move {
            let mut steps = 0;
            while steps < STEPS {
                let read = kv.done(get("data/counter")).await.data;
                let n = read["data"]["n"].as_u64().unwrap() + 1;
                let cas = &read["metadata"]["version"];
                let body = json!({"data": {"n": n}, "options": {"cas": cas}});
                if kv.status(post("data/counter", body)).await == 200 {
                    steps += 1;
                }
            }
        });
    }
    counters.join_all().await;
    assert_eq!(
        kv.done(get("data/counter")).await.data["data"]["n"],
        8 * STEPS
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_on_one_store_lose_no_write_of_each_other() {
    let view = view().await;
    let one = Mount::on(view.clone(), "kv", &[("version", "2")])
        .await
        .unwrap();
    let two = Mount::on(view, "kv", &[("version", "2")]).await.unwrap();
    one.done(post("config", json!({"max_versions": 100}))).await;
    let servers = [Arc::new(one), Arc::new(two)];
    let mut writers = JoinSet::new();
    for client in 0..32 {
        let kv = Arc::clone(&servers[client % 2]);
        writers.spawn(async move {
            let answer = kv
                .done(post("data/a", json!({"data": {"client": client}})))
                .await;
            answer.data["version"].as_u64().unwrap()
        });
    }
    let versions: BTreeSet<u64> = writers.join_all().await.into_iter().collect();
    assert_eq!(versions, (1..=32).collect::<BTreeSet<u64>>());
    assert_eq!(servers[0].kept().await.len(), 1 + 1 + 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_sees_a_version_whole_or_destroyed_and_nothing_between() {
    let kv = Arc::new(Mount::kv().await);
    while_reading(&kv, |kv, round| async move {
        for n in 1..=3 {
            kv.done(post("data/a", json!({"data": {"round": round, "n": n}})))
                .await;
        }
        kv.done(post("destroy/a", json!({"versions": [2, 3]})))
            .await;
        kv.done(post("data/a", json!({"data": {"round": round, "n": 4}})))
            .await;
        kv.done(post("destroy/a", json!({"versions": [1, 4]})))
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_sees_no_error_while_versions_fall_out_of_the_history() {
    let kv = Arc::new(Mount::kv().await);
    kv.done(post("config", json!({"max_versions": 2}))).await;
    while_reading(&kv, |kv, round| async move {
        for n in 1..=4 {
            kv.done(post("data/a", json!({"data": {"round": round, "n": n}})))
                .await;
        }
    })
    .await;
}

/// Runs rounds of `work`, each on a secret that does not exist yet, while others read its first
/// four versions and the latest. Version n holds `{"n": n}`.
async fn while_reading<F: Future<Output = ()>>(
    kv: &Arc<Mount>,
    work: impl Fn(Arc<Mount>, u64) -> F,
) {
    let (done, found) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut readers = JoinSet::new();
    for number in 0..=4_u64 {
        let (kv, done, found) = (Arc::clone(kv), Arc::clone(&done), Arc::clone(&found));
        readers.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let answer = kv.ask(get("data/a").with(json!({"version": number}))).await;
                match answer {
                    Ok(answer) if answer.status == 200 => {
                        found.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(answer.data["data"]["n"], answer.data["metadata"]["version"]);
                        assert_eq!(answer.data["metadata"]["destroyed"], false);
                    }
                    Ok(answer) => {
                        assert_eq!((answer.status, answer.data["data"].is_null()), (404, true));
                        assert_eq!(answer.data["metadata"]["destroyed"], true);
                    }
                    Err(error) => assert_eq!(error.status(), 404, "{error}"),
                }
            }
        });
    }
    let mut round = 0;
    while round < 100 || found.load(Ordering::Relaxed) < 100 {
        work(Arc::clone(kv), round).await;
        kv.done(common::delete("metadata/a")).await;
        round += 1;
        assert!(readers.try_join_next().is_none(), "a reader has failed");
    }
    done.store(true, Ordering::Relaxed);
    readers.join_all().await;
    let left: Vec<String> = kv
        .kept()
        .await
        .into_iter()
        .filter(|path| path != "config")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
