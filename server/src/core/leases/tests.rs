//! Leases against an engine whose outside world can be looked at and broken.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use obol_mount::Operation;
use serde_json::{Value, json};

use crate::core::testing::World;
use crate::core::unix_now;

#[tokio::test]
async fn a_lease_is_shown_renewed_within_its_limits_and_revoked() {
    let world = World::new().await;
    let answer = world
        .ask(
            "root",
            Operation::Read,
            "vend/creds/app",
            json!({"ttl": "10m", "max_ttl": "1h"}),
        )
        .await
        .expect(200);
    let id = answer.body["lease_id"].as_str().unwrap();
    assert!(id.starts_with("vend/creds/app/") && id.len() == "vend/creds/app/".len() + 24);
    assert_eq!(
        (&answer.body["lease_duration"], &answer.body["renewable"]),
        (&json!(600), &json!(true))
    );
    let shown = world
        .post("sys/leases/lookup", json!({"lease_id": id}))
        .await
        .expect(200);
    let data = &shown.body["data"];
    assert_eq!(
        (&data["id"], &data["last_renewal"]),
        (&json!(id), &Value::Null)
    );
    assert!(data["ttl"].as_u64().unwrap() > 590);

    let renewed = world
        .post(
            "sys/leases/renew",
            json!({"lease_id": id, "increment": "20m"}),
        )
        .await
        .expect(200);
    assert_eq!(renewed.body["lease_id"], id);
    assert_eq!(renewed.body["lease_duration"], 1200);
    assert_eq!(renewed.body["data"], Value::Null);
    // Nothing asked for: what it was issued with. By the older spelling, with the id in the path.
    let renewed = world
        .post(&format!("sys/renew/{id}"), json!({}))
        .await
        .expect(200);
    assert_eq!(renewed.body["lease_duration"], 600);
    let capped = world
        .post(
            "sys/leases/renew",
            json!({"lease_id": id, "increment": "5h"}),
        )
        .await
        .expect(200);
    assert!(capped.body["lease_duration"].as_u64().unwrap() <= 3600);
    assert!(
        capped.body["warnings"][0]
            .as_str()
            .unwrap()
            .contains("capped")
    );
    assert_eq!(world.outside.renewals.load(Ordering::Relaxed), 3);
    assert_eq!(
        world.list("sys/leases/lookup/vend/creds").await.body["data"]["keys"],
        json!(["app/"])
    );
    world.is_consistent().await;

    world
        .post("sys/leases/revoke", json!({"lease_id": id, "sync": true}))
        .await
        .expect(204);
    assert_eq!(world.made(), 0);
    world
        .post("sys/leases/lookup", json!({"lease_id": id}))
        .await
        .expect(400);
    world
        .post("sys/leases/renew", json!({"lease_id": id}))
        .await
        .expect(400);
    // What is not there is revoked already.
    world
        .post("sys/leases/revoke", json!({"lease_id": id}))
        .await
        .expect(204);
    assert_eq!(world.keys("core/lease/").await, Vec::<String>::new());

    let fixed = world.vend("root", json!({"fixed": true})).await;
    world
        .post("sys/leases/renew", json!({"lease_id": fixed}))
        .await
        .expect(400);
    world
        .post("sys/revoke", json!({"lease_id": fixed, "sync": false}))
        .await
        .expect(202);
    world
        .until("a queued revocation", async || world.made() == 0)
        .await;
}

#[tokio::test]
async fn a_lease_ends_by_itself() {
    let world = World::new().await;
    world.vend("root", json!({"ttl": 1})).await;
    assert_eq!(world.made(), 1);
    world
        .until("the lease's end", async || world.made() == 0)
        .await;
    world
        .until("nothing left", async || {
            world.keys("core/lease/").await.is_empty()
        })
        .await;
}

#[tokio::test]
async fn child_outlives_parent_leases_go_with_their_token_and_its_parents() {
    let world = World::new().await;
    let parent = world
        .token(json!({"policies": ["root"], "ttl": "1h"}))
        .await;
    let child = world
        .ask(
            &parent,
            Operation::Update,
            "auth/token/create",
            json!({"ttl": "1h"}),
        )
        .await
        .expect(200);
    let child = child.body["auth"]["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let batch = world
        .ask(
            &parent,
            Operation::Update,
            "auth/token/create",
            json!({"type": "batch", "ttl": "1h", "policies": ["vend"]}),
        )
        .await
        .expect(200);
    let batch = batch.body["auth"]["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let rule = "path \"vend/*\" { capabilities = [\"read\"] }";
    world
        .post("sys/policies/acl/vend", json!({"policy": rule}))
        .await
        .expect(204);
    for token in [&parent, &child, &batch] {
        for _ in 0..3 {
            world.vend(token, json!({})).await;
        }
    }
    let kept = world.vend("root", json!({})).await;
    world.is_consistent().await;
    world
        .post("auth/token/revoke", json!({"token": parent}))
        .await
        .expect(204);
    assert!(!world.lives(&child).await && !world.lives(&batch).await);
    world
        .until("the leases' end", async || world.made() == 1)
        .await;
    world
        .post("sys/leases/lookup", json!({"lease_id": kept}))
        .await
        .expect(200);
    world
        .until("leases are gone", async || {
            world.keys("core/lease/entry/").await.len() == 1
                && world.keys("core/token/revoking/").await.is_empty()
        })
        .await;
    world.is_consistent().await;
}

#[tokio::test]
async fn batch_token_escalation_a_lease_ends_with_the_batch_token_that_asked_for_it() {
    let world = World::new().await;
    let rule = "path \"vend/*\" { capabilities = [\"read\"] }";
    world
        .post("sys/policies/acl/vend", json!({"policy": rule}))
        .await
        .expect(204);
    let body = json!({"type": "batch", "ttl": "90s", "policies": ["vend"], "no_parent": true});
    let batch = world.token(body).await;
    let lease = world.vend(&batch, json!({"ttl": "1h"})).await;
    let shown = world
        .post("sys/leases/lookup", json!({"lease_id": lease}))
        .await
        .expect(200);
    assert!(shown.body["data"]["ttl"].as_u64().unwrap() <= 90);
    let renewed = world
        .post(
            "sys/leases/renew",
            json!({"lease_id": lease, "increment": "1h"}),
        )
        .await
        .expect(200);
    assert!(renewed.body["lease_duration"].as_u64().unwrap() <= 90);
}

#[tokio::test]
async fn what_cannot_be_revoked_is_tried_again_and_then_shown_as_irrevocable() {
    let world = World::new().await;
    world.outside.stuck.store(true, Ordering::Relaxed);
    let id = world.vend("root", json!({})).await;
    world
        .post("sys/leases/revoke", json!({"lease_id": id, "sync": true}))
        .await
        .expect(500);
    // Two more tries, one and two seconds later.
    world
        .until("the lease is given up", async || {
            world.get("sys/leases/count?").await;
            let count = world
                .ask(
                    "root",
                    Operation::Read,
                    "sys/leases/count",
                    json!({"type": "irrevocable"}),
                )
                .await
                .expect(200);
            count.body["data"]["lease_count"] == 1
        })
        .await;
    assert_eq!(world.outside.tries.load(Ordering::Relaxed), 3);
    let listed = world
        .ask(
            "root",
            Operation::Read,
            "sys/leases",
            json!({"type": "irrevocable"}),
        )
        .await
        .expect(200);
    let data = &listed.body["data"];
    assert_eq!(data["leases"][0]["lease_id"], id);
    assert!(
        data["leases"][0]["error"]
            .as_str()
            .unwrap()
            .contains("does not answer")
    );
    world
        .ask(
            "root",
            Operation::Read,
            "sys/leases",
            json!({"type": "all"}),
        )
        .await
        .expect(400);
    world.is_consistent().await;
    assert_eq!(
        world.made(),
        1,
        "nothing was taken back, and nothing is forgotten"
    );
    // Asked again, it is tried again.
    world.outside.stuck.store(false, Ordering::Relaxed);
    world
        .post("sys/leases/revoke", json!({"lease_id": id, "sync": true}))
        .await
        .expect(204);
    assert_eq!(
        (world.made(), world.keys("core/lease/").await.len()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_prefix_is_revoked_queued_at_once_or_by_force() {
    let world = World::new().await;
    for _ in 0..300 {
        world.vend("root", json!({})).await;
    }
    world
        .post("sys/leases/revoke-prefix/vend/cre", json!({"sync": true}))
        .await
        .expect(204);
    assert_eq!(world.made(), 300, "a prefix ends at a slash");
    world
        .post("sys/leases/revoke-prefix/vend/creds", json!({"sync": true}))
        .await
        .expect(204);
    assert_eq!(
        (world.made(), world.keys("core/lease/").await.len()),
        (0, 0)
    );
    for _ in 0..5 {
        world.vend("root", json!({})).await;
    }
    world
        .post("sys/revoke-prefix/vend", json!({"sync": false}))
        .await
        .expect(202);
    world
        .until("the queue's end", async || world.made() == 0)
        .await;

    world.outside.stuck.store(true, Ordering::Relaxed);
    let id = world.vend("root", json!({})).await;
    world.vend("root", json!({})).await;
    world
        .post(
            &format!("sys/leases/revoke-prefix/{id}"),
            json!({"sync": true}),
        )
        .await
        .expect(500);
    world
        .post("sys/leases/revoke-force/vend", json!({}))
        .await
        .expect(204);
    assert_eq!(
        (world.made(), world.keys("core/lease/").await.len()),
        (2, 0)
    );
}

#[tokio::test]
async fn half_written_what_was_made_outside_and_not_answered_is_taken_back() {
    let world = World::new().await;
    world.outside.dies.store(true, Ordering::Relaxed);
    let answer = world.get("vend/creds/app").await;
    assert_eq!((answer.status, world.made()), (500, 1));
    let live = world.live();
    let mounted = live.mounts.get("vend/").unwrap();
    let age = Duration::from_secs(300);
    // The request that wrote it may still be at work.
    live.leases
        .roll_back_intents(&mounted, age, unix_now())
        .await
        .unwrap();
    assert_eq!(world.made(), 1);
    world.outside.stuck.store(true, Ordering::Relaxed);
    let failed = live
        .leases
        .roll_back_intents(&mounted, age, unix_now() + 300)
        .await
        .unwrap();
    assert_eq!((failed, world.made()), (1, 1));
    world.outside.stuck.store(false, Ordering::Relaxed);
    live.leases
        .roll_back_intents(&mounted, age, unix_now() + 300)
        .await
        .unwrap();
    assert_eq!(world.made(), 0);
    // One that became a lease has no intent any more.
    world.outside.dies.store(false, Ordering::Relaxed);
    world.vend("root", json!({})).await;
    live.leases
        .roll_back_intents(&mounted, age, unix_now() + 900)
        .await
        .unwrap();
    assert_eq!(world.made(), 1);
}

#[tokio::test]
async fn a_token_that_dies_meanwhile_or_has_spent_its_last_use_gets_no_lease() {
    let world = World::new().await;
    let once = world
        .token(json!({"policies": ["root"], "num_uses": 1, "ttl": "1h"}))
        .await;
    world
        .ask(&once, Operation::Read, "vend/creds/app", Value::Null)
        .await
        .expect(400);
    assert_eq!(
        (world.made(), world.keys("core/lease/").await.len()),
        (0, 0)
    );
    let twice = world
        .token(json!({"policies": ["root"], "num_uses": 2, "ttl": "1h"}))
        .await;
    world.vend(&twice, json!({})).await;
    assert_eq!(world.made(), 1);
    // Its last use takes token and lease with it.
    assert!(world.lives(&twice).await);
    world
        .until("the lease's end", async || world.made() == 0)
        .await;
    world.is_consistent().await;
}

#[tokio::test]
async fn disabling_a_mount_takes_its_leases_or_waits_for_them() {
    let world = World::new().await;
    for _ in 0..3 {
        world.vend("root", json!({})).await;
    }
    world.outside.stuck.store(true, Ordering::Relaxed);
    let answer = world
        .ask("root", Operation::Delete, "sys/mounts/vend", Value::Null)
        .await
        .expect(500);
    assert!(
        answer.body["errors"][0]
            .as_str()
            .unwrap()
            .contains("revoke-force")
    );
    world.get("vend/creds/app").await.expect(404);
    world
        .post("sys/mounts/vend", json!({"type": "vending"}))
        .await
        .expect(400);
    assert_eq!(world.made(), 3);
    world.is_consistent().await;
    world.outside.stuck.store(false, Ordering::Relaxed);
    world
        .until("the leases' end", async || world.made() == 0)
        .await;
    let live = world.live();
    for uuid in live.mounts.tainted().await.unwrap() {
        live.finish_disable(&uuid).await.unwrap();
    }
    world
        .post("sys/mounts/vend", json!({"type": "vending"}))
        .await
        .expect(204);
    assert_eq!(world.keys("core/lease/").await, Vec::<String>::new());
}

#[tokio::test]
async fn tidy_mends_what_does_not_agree_and_says_that_it_runs() {
    let world = World::new().await;
    let id = world.vend("root", json!({})).await;
    let live = world.live();
    let view = obol_storage::View::new(world.core.barrier.clone(), "core/").unwrap();
    for lost in [
        "lease/mount/x/a/b",
        "lease/irrevocable/a/b",
        "token/expiry/00000000ffffffff/abc",
        "token/child/a/b",
        "token/issued/x/auth/x/habc",
    ] {
        view.put(lost, Vec::new()).await.unwrap();
    }
    for path in world.keys("core/lease/").await {
        if path.starts_with("expiry/") {
            view.delete(&format!("lease/{path}")).await.unwrap();
        }
    }
    assert_eq!(live.lease_inconsistencies(100).await.unwrap().len(), 3);
    assert_eq!(live.tokens.inconsistencies(100).await.unwrap().len(), 3);
    let answer = world.post("sys/leases/tidy", json!({})).await.expect(202);
    assert!(
        answer.body["warnings"][0]
            .as_str()
            .unwrap()
            .contains("started")
    );
    live.tokens.tidy(&live.forget()).await.unwrap();
    world
        .until("tidied", async || {
            live.lease_inconsistencies(100).await.unwrap().is_empty()
        })
        .await;
    world.is_consistent().await;
    world
        .post("sys/leases/lookup", json!({"lease_id": id}))
        .await
        .expect(200);
}

#[tokio::test]
async fn a_login_or_a_made_token_has_a_lease_id_that_shows_and_revokes_it() {
    let world = World::new().await;
    let token = world
        .token(json!({"ttl": "1h", "policies": ["default"]}))
        .await;
    let keys = world
        .list("sys/leases/lookup/auth/token/create")
        .await
        .expect(200);
    let name = keys.body["data"]["keys"][0].as_str().unwrap();
    let id = format!("auth/token/create/{name}");
    let shown = world
        .post("sys/leases/lookup", json!({"lease_id": id}))
        .await
        .expect(200);
    assert_eq!(
        (&shown.body["data"]["id"], &shown.body["data"]["renewable"]),
        (&json!(id), &json!(true))
    );
    world
        .post("sys/leases/renew", json!({"lease_id": id}))
        .await
        .expect(400);
    // Under another path it is none.
    world
        .post(
            "sys/leases/lookup",
            json!({"lease_id": format!("auth/token/{name}")}),
        )
        .await
        .expect(400);
    assert_eq!(
        world.list("sys/leases/lookup").await.body["data"]["keys"],
        json!(["auth/"])
    );
    world
        .post("sys/leases/revoke", json!({"lease_id": id}))
        .await
        .expect(204);
    assert!(!world.lives(&token).await);
    let one = world.token(json!({"ttl": "1h"})).await;
    world
        .post("sys/leases/revoke-prefix/auth/token", json!({}))
        .await
        .expect(204);
    assert!(!world.lives(&one).await && world.lives("root").await);
    world.is_consistent().await;
}
