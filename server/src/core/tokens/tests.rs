//! The end of tokens with large families, on a server in memory.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use obol_storage::{Batch, View};
use serde_json::json;

use super::revoke::Progress;
use super::{IssueError, Issued, Limits, NewToken, TokenId, Tokens};
use crate::core::testing::World;
use crate::core::unix_now;

const LIMITS: Limits = Limits {
    default_ttl: Duration::from_secs(3600),
    max_ttl: Duration::from_secs(3600),
};

async fn child(tokens: &Tokens, parent: Option<&TokenId>) -> Issued {
    let new = NewToken {
        parent: parent.cloned(),
        policies: vec!["default".into()],
        path: "auth/token/create".into(),
        ..NewToken::default()
    };
    tokens
        .issue(new, LIMITS, Batch::new(), unix_now())
        .await
        .unwrap()
}

/// A parent, `count` children, and a grandchild below every tenth.
async fn family(tokens: &Tokens, count: usize) -> (TokenId, Vec<TokenId>) {
    let parent = child(tokens, None).await.id;
    let mut all = Vec::new();
    for n in 0..count {
        let one = child(tokens, Some(&parent)).await.id;
        if n % 10 == 0 {
            all.push(child(tokens, Some(&one)).await.id);
        }
        all.push(one);
    }
    (parent, all)
}

async fn living(tokens: &Tokens, ids: &[TokenId]) -> usize {
    let mut living = 0;
    for id in ids {
        living += usize::from(tokens.get(id, unix_now()).await.unwrap().is_some());
    }
    living
}

/// The tokens of another server on the same storage, where nothing runs in the background.
async fn other_server(world: &World) -> Tokens {
    let view = View::new(world.core.barrier.clone(), "core/token/").unwrap();
    Tokens::open(view).await.unwrap()
}

#[tokio::test]
async fn child_outlives_parent_no_descendant_is_let_in_while_a_large_family_is_removed() {
    let world = World::new().await;
    let live = world.live();
    let (parent, family) = family(&live.tokens, 2000).await;
    assert_eq!(living(&live.tokens, &family).await, family.len());
    live.tokens.revoke(&parent, &live.forget()).await.unwrap();
    assert!(
        !world.keys("core/token/revoking/").await.is_empty(),
        "not all at once"
    );
    assert_eq!(living(&live.tokens, &family).await, 0);
    world
        .until("the family is gone", async || {
            world.keys("core/token/revoking/").await.is_empty()
        })
        .await;
    assert_eq!(world.keys("core/token/id/").await.len(), 1);
    world.is_consistent().await;
    world
        .until("parents are not looked at any more", async || {
            !live.tokens.reaping.is_under_way()
        })
        .await;
}

#[tokio::test]
async fn half_written_a_removal_that_a_crash_cut_off_lets_nobody_in_and_goes_on() {
    let world = World::new().await;
    let live = world.live();
    let first = other_server(&world).await;
    let (parent, family) = family(&first, 60).await;
    // The head is dead, and nothing else has happened.
    first
        .kill(std::slice::from_ref(&parent), &live.forget())
        .await
        .unwrap();
    assert_eq!(living(&first, &family).await, 0);
    let after_the_crash = other_server(&world).await;
    assert_eq!(living(&after_the_crash, &family).await, 0);
    let mut progress = Progress::default();
    while !after_the_crash
        .reap_round(&mut progress, &live.forget())
        .await
        .unwrap()
    {}
    assert_eq!(world.keys("core/token/id/").await.len(), 1);
    assert_eq!(world.keys("core/token/revoking/").await.len(), 0);
    world.is_consistent().await;
}

#[tokio::test]
async fn a_token_without_a_family_leaves_no_mark() {
    let world = World::new().await;
    let live = world.live();
    let one = child(&live.tokens, None).await.id;
    let epoch = live.tokens.reaping.epoch();
    live.tokens.revoke(&one, &live.forget()).await.unwrap();
    assert_eq!(live.tokens.reaping.epoch(), epoch);
    assert!(!live.tokens.reaping.is_under_way());
}

#[tokio::test]
async fn child_outlives_parent_nothing_is_born_below_a_token_that_dies() {
    let world = World::new().await;
    let live = world.live();
    for _ in 0..20 {
        let parent = child(&live.tokens, None).await.id;
        let births = (0..16).map(|_| {
            let (live, parent) = (live.clone(), parent.clone());
            tokio::spawn(async move {
                let new = NewToken {
                    parent: Some(parent),
                    path: "auth/token/create".into(),
                    ..NewToken::default()
                };
                match live
                    .tokens
                    .issue(new, LIMITS, Batch::new(), unix_now())
                    .await
                {
                    Ok(issued) => Some(issued.id),
                    Err(IssueError::Refused(error)) if error.status() == 403 => None,
                    Err(error) => panic!("{error:?}"),
                }
            })
        });
        let births: Vec<_> = births.collect();
        tokio::task::yield_now().await;
        live.tokens.revoke(&parent, &live.forget()).await.unwrap();
        for birth in births {
            if let Some(id) = birth.await.unwrap() {
                assert!(live.tokens.get(&id, unix_now()).await.unwrap().is_none());
            }
        }
    }
    world
        .until("all are gone", async || {
            world.keys("core/token/id/").await.len() == 1
        })
        .await;
    world.is_consistent().await;
}

#[tokio::test]
async fn child_outlives_parent_nothing_is_born_below_a_token_that_died_on_another_server() {
    let world = World::new().await;
    let live = world.live();
    let parent = child(&live.tokens, None).await.id;
    // After the second birth, the cache knows that the parent has children.
    for _ in 0..3 {
        child(&live.tokens, Some(&parent)).await;
    }
    let other = other_server(&world).await;
    other.revoke(&parent, &live.forget()).await.unwrap();
    let new = NewToken {
        parent: Some(parent.clone()),
        path: "auth/token/create".into(),
        ..NewToken::default()
    };
    let born = live.tokens.issue(new, LIMITS, Batch::new(), unix_now());
    match born.await {
        Err(IssueError::Refused(error)) => assert_eq!(error.status(), 403),
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("a child of a dead token"),
    }
    world.is_consistent().await;
}

#[tokio::test]
async fn tokens_that_end_together_go_in_pages_with_their_families() {
    let world = World::new().await;
    let live = world.live();
    let (_, family) = family(&live.tokens, 300).await;
    let expired = live
        .tokens
        .expire(unix_now() + 3601, &live.forget())
        .await
        .unwrap();
    assert!(expired > 0);
    assert_eq!(living(&live.tokens, &family).await, 0);
    world
        .until("all are gone", async || {
            world.keys("core/token/id/").await.len() == 1
                && world.keys("core/token/revoking/").await.is_empty()
        })
        .await;
    world.is_consistent().await;
    // What never was a token has no lease id.
    world
        .post(
            "sys/leases/lookup",
            json!({"lease_id": "auth/token/create/h00"}),
        )
        .await
        .expect(400);
}
