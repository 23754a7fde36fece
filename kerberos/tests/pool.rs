//! The acceptor for async callers: it answers all, refuses what is too much, and forgets who left.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use obol_kerberos::*;

own_process! {
    fn many_callers_are_answered_by_few_workers() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let grace = Client::grace(&realm);
        let tokens: Vec<Vec<u8>> = (0..200).map(|_| grace.token()).collect();
        let pool = Arc::new(AcceptorPool::new(PoolOptions { workers: 2, queue: 256, ..PoolOptions::default() }).unwrap());
        block_on(async {
            let callers: Vec<_> = tokens
                .into_iter()
                .map(|token| {
                    let (pool, acceptor) = (Arc::clone(&pool), acceptor.clone());
                    tokio::spawn(async move { pool.accept(&acceptor, token, None).await })
                })
                .collect();
            for caller in callers {
                let accepted = caller.await.unwrap().unwrap();
                assert_eq!(accepted.client.to_string(), "grace@EXAMPLE.COM");
            }
            let error = pool.accept(&acceptor, b"garbage".to_vec(), None).await.unwrap_err();
            assert_eq!(error, AcceptError::Token(TokenError::NotGss));
        });
    }

    fn workers_end_with_the_pool() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let token = Client::grace(&realm).token();
        let pool = AcceptorPool::new(PoolOptions { workers: 3, ..PoolOptions::default() }).unwrap();
        block_on(async { pool.accept(&acceptor, token, None).await }).unwrap();
        // A thread has its name when it first runs, which may be after the first ticket was accepted.
        await_workers(3);
        drop(pool);
        await_workers(0);
    }
}

fn await_workers(count: usize) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while workers() != count {
        assert!(
            std::time::Instant::now() < deadline,
            "{} workers instead of {count}",
            workers()
        );
        std::thread::yield_now();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn workers() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|name| name.starts_with("kerberos-"))
        })
        .count()
}
