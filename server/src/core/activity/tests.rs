//! Clients over months, by a clock that the test holds: the store and its servers are real.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use obol_storage::View;
use serde_json::json;

use super::count::Counted;
use super::*;
use crate::core::testing::World;
use crate::core::unix_now;

/// 2026-11-01T00:00:00Z.
const NOVEMBER: u64 = 1_793_491_200;
const DAY: u64 = 86_400;
/// 2026-12-01T00:00:00Z.
const DECEMBER: u64 = NOVEMBER + 30 * DAY;

/// A server whose counters of its own stay out of the way.
struct Counting {
    world: World,
}

impl Counting {
    async fn new() -> Self {
        Self {
            world: World::new().await,
        }
    }

    /// One more server on the same counters.
    async fn server(&self, now: u64) -> Activity {
        let view = View::new(self.world.core.barrier.clone(), "core/counting/").unwrap();
        Activity::open(view, now).await.unwrap()
    }

    /// A token as a server decodes it, without an entity.
    async fn token(&self, policies: &[&str]) -> Arc<Cached> {
        let token = self.world.token(json!({ "policies": policies })).await;
        self.decode(&token).await
    }

    async fn decode(&self, token: &str) -> Arc<Cached> {
        let tokens = &self.world.live().tokens;
        let found = tokens.find(token, unix_now()).await.unwrap().unwrap();
        // As on another server: nothing of it is marked.
        Arc::new(Cached::new(found.id.clone(), found.entry.clone()))
    }

    /// What a request with the token does. Whether there was anything to do.
    fn uses(&self, activity: &Activity, token: &Cached, now: u64) -> bool {
        let is_new = !activity.knows(token, now);
        if is_new {
            activity.see(&self.world.live().mounts, token, None, now);
        }
        is_new
    }
}

fn months(first: u64, last: u64) -> Range {
    Range {
        first: Month::of(first),
        last: Month::of(last),
    }
}

fn sum(by_mount: &ByMount) -> (u64, u64) {
    let count = |of: fn(&Count) -> u64| by_mount.values().map(of).sum();
    (count(|c| c.entities), count(|c| c.tokens))
}

async fn count(activity: &Activity, first: u64, last: u64) -> Counted {
    activity.flush().await.unwrap();
    activity.count(months(first, last)).await.unwrap()
}

/// An entity that came at a time.
fn sighting(name: &str, accessor: &str, now: u64) -> Sighting {
    Sighting {
        generation: 0,
        month: Month::of(now),
        id: ClientId::Entity(name.to_owned()),
        client: Client {
            kind: ClientKind::Entity,
            accessor: accessor.to_owned(),
            mount: format!("auth/{accessor}/"),
            mount_kind: "userpass".into(),
            seen: now,
            policies: Vec::new(),
        },
    }
}

#[tokio::test]
async fn a_client_counts_once_a_month_and_once_over_months() {
    let world = Counting::new().await;
    let activity = world.server(NOVEMBER).await;
    let token = world.token(&["dev"]).await;
    assert!(world.uses(&activity, &token, NOVEMBER));
    assert!(!world.uses(&activity, &token, NOVEMBER + 1));
    // The last second of the month is of it, the next is not, and the first request in it is counted.
    assert!(!world.uses(&activity, &token, DECEMBER - 1));
    assert!(world.uses(&activity, &token, DECEMBER));
    assert!(!world.uses(&activity, &token, DECEMBER + 1));

    let counted = count(&activity, NOVEMBER, DECEMBER).await;
    assert_eq!(sum(&counted.total), (0, 1));
    let shown: Vec<_> = counted
        .months
        .iter()
        .map(|month| (month.month.to_string(), sum(&month.all), sum(&month.new)))
        .collect();
    assert_eq!(
        shown,
        [
            ("2026-11".into(), (0, 1), (0, 1)),
            ("2026-12".into(), (0, 1), (0, 0))
        ]
    );
    // Asked by itself, its clients are new in it.
    let counted = count(&activity, DECEMBER, DECEMBER).await;
    assert_eq!(sum(&counted.months[0].new), (0, 1));
    assert_eq!(
        activity.count_names(Month::of(DECEMBER)).await.unwrap(),
        Count {
            entities: 0,
            tokens: 1
        }
    );
}

#[tokio::test]
async fn tokens_without_an_entity_are_one_client_for_each_set_of_policies() {
    let world = Counting::new().await;
    let activity = world.server(NOVEMBER).await;
    for policies in [&["dev", "ops"][..], &["ops", "dev"], &["dev"], &["devops"]] {
        let token = world.token(policies).await;
        assert!(world.uses(&activity, &token, NOVEMBER), "{policies:?}");
    }
    // Root is no client.
    let root = world.decode("root").await;
    world.uses(&activity, &root, NOVEMBER);
    assert!(activity.knows(&root, NOVEMBER));
    let counted = count(&activity, NOVEMBER, NOVEMBER).await;
    assert_eq!(sum(&counted.total), (0, 3));
    let mounts: Vec<&String> = counted.total.keys().collect();
    assert_eq!(mounts, ["auth_token_builtin"]);
}

#[tokio::test]
async fn counts_over_months_are_exact_and_read_in_pages() {
    let world = Counting::new().await;
    let activity = world.server(NOVEMBER).await;
    let february = DECEMBER + 80 * DAY;
    // Three months with gaps, each longer than a page, that share some clients.
    for (now, from, to, mount) in [
        (NOVEMBER, 0, 450, "a"),
        (DECEMBER, 300, 700, "b"),
        (february, 100, 850, "c"),
    ] {
        let new = (from..to).map(|n| sighting(&format!("client-{n:04}"), mount, now));
        activity.waiting().extend(new);
    }
    let counted = count(&activity, NOVEMBER, february).await;
    assert_eq!(sum(&counted.total), (850, 0));
    let by_mount: Vec<_> = counted
        .total
        .iter()
        .map(|(m, c)| (m.as_str(), c.entities))
        .collect();
    assert_eq!(by_mount, [("a", 450), ("b", 250), ("c", 150)]);
    let shown: Vec<_> = counted
        .months
        .iter()
        .map(|month| (sum(&month.all).0, sum(&month.new).0))
        .collect();
    assert_eq!(shown, [(450, 450), (400, 250), (0, 0), (750, 150)]);

    // An export has each of them once, in the month in which it came first.
    let mut firsts = activity.firsts(months(NOVEMBER, february));
    let (mut names, mut last) = (BTreeSet::new(), 0);
    while let Some((name, client)) = firsts.next().await.unwrap() {
        assert!(client.seen >= last, "{name}");
        last = client.seen;
        let n: u64 = name.trim_start_matches("client-").parse().unwrap();
        let mount = match n {
            0..450 => "a",
            450..700 => "b",
            _ => "c",
        };
        assert_eq!(client.accessor, mount, "{name}");
        assert!(names.insert(name));
    }
    assert_eq!(names.len(), 850);
}

#[tokio::test]
async fn servers_on_one_storage_agree_and_the_first_mount_stays() {
    let world = Counting::new().await;
    let (one, other) = (world.server(NOVEMBER).await, world.server(NOVEMBER).await);
    one.waiting().push(sighting("grace", "first", NOVEMBER + 5));
    other
        .waiting()
        .push(sighting("grace", "second", NOVEMBER + 6));
    other
        .waiting()
        .push(sighting("ada", "second", NOVEMBER + 6));
    one.flush().await.unwrap();
    other.flush().await.unwrap();
    // At once, too.
    for (activity, accessor) in [(&one, "first"), (&other, "second")] {
        let new = (0..100).map(|n| sighting(&format!("client-{n}"), accessor, NOVEMBER));
        activity.waiting().extend(new);
    }
    let (a, b) = tokio::join!(one.flush(), other.flush());
    a.unwrap();
    b.unwrap();
    let counted = count(&one, NOVEMBER, NOVEMBER).await;
    assert_eq!(sum(&counted.total), (102, 0));
    let mut firsts = other.firsts(months(NOVEMBER, NOVEMBER));
    while let Some((name, client)) = firsts.next().await.unwrap() {
        match name.as_str() {
            "grace" => assert_eq!(
                (client.accessor.as_str(), client.seen),
                ("first", NOVEMBER + 5)
            ),
            "ada" => assert_eq!(client.accessor, "second"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn switching_off_drops_the_present_month_and_counts_nothing_more() {
    let world = Counting::new().await;
    let (one, other) = (world.server(NOVEMBER).await, world.server(NOVEMBER).await);
    let token = world.token(&["dev"]).await;
    world.uses(&one, &token, NOVEMBER);
    world.uses(&one, &token, DECEMBER);
    one.flush().await.unwrap();
    // Waiting at a server that has not heard of it.
    let late = world.token(&["late"]).await;
    world.uses(&other, &late, DECEMBER);

    let off = ConfigChange {
        enabled: Some(Switch::Disable),
        ..ConfigChange::default()
    };
    let warnings = one.configure(off, DECEMBER).await.unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(one.configure(off, DECEMBER).await.unwrap().is_empty());
    let more = world.token(&["more"]).await;
    assert!(!world.uses(&one, &more, DECEMBER));
    one.flush().await.unwrap();
    other.flush().await.unwrap();
    assert_eq!(one.months().await.unwrap(), [Month::of(NOVEMBER)]);

    // On again, everybody is seen anew, also with tokens that were counted before it was switched off.
    let on = ConfigChange {
        enabled: Some(Switch::Enable),
        ..ConfigChange::default()
    };
    assert!(one.configure(on, DECEMBER).await.unwrap().is_empty());
    other.refresh(DECEMBER).await.unwrap();
    assert!(world.uses(&one, &token, DECEMBER));
    assert!(world.uses(&other, &late, DECEMBER));
    other.flush().await.unwrap();
    let counted = count(&one, NOVEMBER, DECEMBER).await;
    assert_eq!(sum(&counted.months[0].all), (0, 1));
    assert_eq!(sum(&counted.months[1].all), (0, 2));
}

#[tokio::test]
async fn months_go_when_their_time_is_over() {
    let world = Counting::new().await;
    let activity = world.server(NOVEMBER).await;
    for month in Month::of(NOVEMBER).back(3).to(Month::of(NOVEMBER)) {
        activity
            .waiting()
            .push(sighting("grace", "a", month.start()));
    }
    activity.flush().await.unwrap();
    let keep = |months| ConfigChange {
        retention_months: Some(months),
        ..ConfigChange::default()
    };
    activity.configure(keep(2), NOVEMBER).await.unwrap();
    activity.tidy(NOVEMBER).await.unwrap();
    let left = activity.months().await.unwrap();
    assert_eq!(left.first(), Some(&Month::of(NOVEMBER).back(2)));
    assert_eq!(left.len(), 3);

    let warnings = activity.configure(keep(61), NOVEMBER).await.unwrap();
    assert_eq!(
        (warnings.len(), activity.config().retention_months),
        (1, 60)
    );
    // Counting and keeping nothing make no sense together.
    let refused = activity.configure(keep(0), NOVEMBER).await.unwrap_err();
    assert_eq!(refused.status(), 400);
    assert_eq!(activity.config().retention_months, 60);
    let off = ConfigChange {
        enabled: Some(Switch::Disable),
        retention_months: Some(0),
    };
    activity.configure(off, NOVEMBER).await.unwrap();
    activity.tidy(NOVEMBER).await.unwrap();
    assert_eq!(activity.months().await.unwrap(), []);
}

#[tokio::test]
async fn a_full_queue_takes_nobody_and_forgets_nobody() {
    let world = Counting::new().await;
    let activity = world.server(NOVEMBER).await;
    let waits = || sighting("grace", "a", NOVEMBER);
    activity
        .waiting()
        .extend(std::iter::repeat_with(waits).take(MOST_WAITING));
    let token = world.token(&["dev"]).await;
    assert!(world.uses(&activity, &token, NOVEMBER));
    assert_eq!(activity.waiting().len(), MOST_WAITING);
    assert_eq!(token.counted.load(Ordering::Relaxed), 0);
    activity.flush().await.unwrap();
    assert!(world.uses(&activity, &token, NOVEMBER));
    assert!(!world.uses(&activity, &token, NOVEMBER));
    assert_eq!(
        sum(&count(&activity, NOVEMBER, NOVEMBER).await.total),
        (1, 1)
    );
}

#[tokio::test]
async fn who_could_not_be_written_is_written_at_the_next_turn() {
    let world = Counting::new().await;
    let activity = world.server(NOVEMBER).await;
    let new = (0..2 * CHUNK).map(|n| sighting(&format!("client-{n}"), "a", NOVEMBER));
    activity.waiting().extend(new);
    // Storage is there and does not answer.
    let barrier = &world.world.core.barrier;
    let root = barrier.root().unwrap();
    barrier.seal();
    activity.flush().await.unwrap_err();
    assert!(activity.waiting().is_empty());
    barrier.unseal(&root).await.unwrap();
    activity.finish().await;
    let counted = count(&activity, NOVEMBER, NOVEMBER).await;
    assert_eq!(sum(&counted.total).0, 2 * CHUNK as u64);
}
