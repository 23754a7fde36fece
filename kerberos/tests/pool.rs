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

    fn a_full_queue_and_a_passed_deadline_answer_at_once() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let token = Client::grace(&realm).token();
        // No worker can have taken what is not awaited: the queue holds nothing.
        let pool = AcceptorPool::new(PoolOptions { workers: 1, queue: 1, deadline: Duration::ZERO }).unwrap();
        block_on(async {
            let flood = (0..2000).map(|_| pool.accept(&acceptor, token.clone(), None));
            let mut overloaded = 0;
            for result in futures_all(flood).await {
                match result {
                    Ok(_) => {}
                    Err(error) => {
                        assert!(error.is_overload(), "{error:?}");
                        overloaded += 1;
                    }
                }
            }
            assert!(overloaded > 0);
        });
        // It recovers.
        let pool = AcceptorPool::new(PoolOptions { workers: 1, queue: 1, ..PoolOptions::default() }).unwrap();
        block_on(async { pool.accept(&acceptor, token.clone(), None).await }).unwrap();
    }

    fn workers_end_with_the_pool() {
        let realm = realm();
        let acceptor = acceptor(&realm);
        let token = Client::grace(&realm).token();
        let pool = AcceptorPool::new(PoolOptions { workers: 3, ..PoolOptions::default() }).unwrap();
        block_on(async { pool.accept(&acceptor, token, None).await }).unwrap();
        assert_eq!(workers(), 3);
        drop(pool);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while workers() > 0 {
            assert!(std::time::Instant::now() < deadline, "workers are still there");
            std::thread::yield_now();
        }
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

/// Polls all of them once before any is awaited to its end.
async fn futures_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
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
