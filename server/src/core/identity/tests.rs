//! The store by itself: what two changes at once, a crash or an old cache must not break.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use obol_mount::{Family, Result};
use obol_storage::{Barrier, Batch, Memory, RootKey, View};

use super::aliases::AliasFields;
use super::entities::EntityFields;
use super::groups::GroupFields;
use super::login::Who;
use super::{GroupKind, Identity};
use crate::core::mounts::MountEntry;

async fn barrier() -> Arc<Barrier> {
    let barrier = Arc::new(Barrier::new(Arc::new(Memory::new())));
    let root = RootKey::generate().unwrap();
    barrier.initialize(&root).await.unwrap();
    barrier.unseal(&root).await.unwrap();
    barrier
}

fn open(barrier: &Arc<Barrier>) -> Identity {
    Identity::new(View::new(barrier.clone(), "core/identity/").unwrap())
}

async fn identity() -> Identity {
    open(&barrier().await)
}

fn mount(accessor: &str) -> MountEntry {
    let mut entry = MountEntry::new(Family::Auth, accessor, "userpass");
    entry.accessor = accessor.to_owned();
    entry
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

impl Identity {
    async fn log_in(&self, who: &Who) -> String {
        loop {
            let binding = self.bind(who).await.unwrap();
            if self.commit(binding.change).await.unwrap() {
                return binding.entity_id;
            }
        }
    }

    async fn new_entity(&self, name: &str) -> String {
        let fields = EntityFields {
            name: Some(name.to_owned()),
            ..EntityFields::default()
        };
        self.write_entity(&fields).await.unwrap().0.id
    }

    async fn new_group(&self, name: &str, policies: &[&str], entities: &[&str]) -> String {
        let fields = GroupFields {
            name: Some(name.to_owned()),
            policies: Some(texts(policies)),
            member_entities: Some(texts(entities)),
            ..GroupFields::default()
        };
        self.write_group(&fields).await.unwrap().0.id
    }

    async fn set_groups(&self, group: &str, members: &[&str]) -> Result<()> {
        let fields = GroupFields {
            id: Some(group.to_owned()),
            member_groups: Some(texts(members)),
            ..GroupFields::default()
        };
        self.write_group(&fields).await.map(drop)
    }

    async fn external(&self, name: &str, mount: &str) -> String {
        let fields = GroupFields {
            name: Some(format!("external {name}")),
            kind: Some(GroupKind::External),
            policies: Some(texts(&[name])),
            ..GroupFields::default()
        };
        let id = self.write_group(&fields).await.unwrap().0.id;
        let alias = AliasFields {
            name: Some(name.to_owned()),
            mount: Some(mount.to_owned()),
            owner: Some(id.clone()),
            ..AliasFields::default()
        };
        self.write_group_alias(&alias).await.unwrap();
        id
    }

    async fn policies_of(&self, entity: &str) -> Vec<String> {
        let found = self.resolve(entity).await.unwrap();
        found.map_or_else(Vec::new, |found| found.policies.to_vec())
    }

    /// The indexes and the records agree.
    async fn is_whole(&self) -> bool {
        self.inconsistencies(10).await.unwrap().is_empty()
    }

    /// Every path that there is.
    async fn paths(&self) -> Vec<String> {
        let all = self.storage().scan("", None, 10_000).await.unwrap();
        all.into_iter().map(|(path, _)| path).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_logins_at_once_make_one_entity_with_one_alias() {
    let identity = Arc::new(identity().await);
    let logins: Vec<_> = (0..32)
        .map(|n| {
            let identity = identity.clone();
            // Whatever the spelling (threats: `alias-case`).
            let name = if n % 2 == 0 { "Grace" } else { "grace" };
            tokio::spawn(async move { identity.log_in(&Who::new(&mount("m1"), name)).await })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for login in logins {
        ids.insert(login.await.unwrap());
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(identity.count_entities().await.unwrap(), 1);
    assert_eq!(identity.aliases(None, 10).await.unwrap().len(), 1);
    assert_eq!(identity.paths().await.len(), 4);
}

#[tokio::test]
async fn what_a_login_says_becomes_the_aliases_metadata_and_leaves_the_operators() {
    let identity = identity().await;
    let says = |team: &str| {
        Who::new(&mount("m1"), "grace")
            .with_metadata(&BTreeMap::from([("team".into(), team.into())]))
    };
    let id = identity.log_in(&says("works")).await;
    let alias = identity.alias_of("m1", "GRACE").await.unwrap().unwrap().1;
    let fields = AliasFields {
        id: Some(alias.id.clone()),
        custom_metadata: Some(BTreeMap::from([("floor".into(), "2".into())])),
        ..AliasFields::default()
    };
    identity.write_alias(&fields).await.unwrap();
    assert_eq!(identity.log_in(&says("lab")).await, id);
    let alias = identity.alias(&alias.id).await.unwrap().unwrap().1;
    assert_eq!(alias.metadata["team"], "lab");
    assert_eq!(alias.custom_metadata["floor"], "2");
    // Nothing new: nothing is written.
    assert!(
        identity
            .bind(&says("lab"))
            .await
            .unwrap()
            .change
            .batch
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_that_close_a_circle_together_are_not_both_made() {
    for _ in 0..20 {
        let identity = Arc::new(identity().await);
        let mut ids = Vec::new();
        for name in ["a", "b", "c"] {
            ids.push(identity.new_group(name, &[], &[]).await);
        }
        let tasks: Vec<_> = (0..3)
            .map(|n| {
                let (identity, ids) = (identity.clone(), ids.clone());
                tokio::spawn(
                    async move { identity.set_groups(&ids[n], &[&ids[(n + 1) % 3]]).await },
                )
            })
            .collect();
        let mut made = 0;
        for task in tasks {
            made += usize::from(task.await.unwrap().is_ok());
        }
        assert!(made < 3);
        assert!(identity.is_whole().await);
        assert!(identity.groups_of("nobody").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn group_gone_memberships_end_with_the_group_the_entity_the_alias_and_the_mount() {
    let identity = identity().await;
    let who = |groups: &[&str]| Who::new(&mount("m1"), "grace").with_groups(texts(groups));
    let works = identity.external("works", "m1").await;
    let id = identity.log_in(&who(&["WORKS", "unknown"])).await;
    assert_eq!(identity.policies_of(&id).await, ["works"]);
    // At another mount she is somebody else.
    let elsewhere = Who::new(&mount("m2"), "grace").with_groups(texts(&["works"]));
    let other = identity.log_in(&elsewhere).await;
    assert!(identity.policies_of(&other).await.is_empty());
    identity.log_in(&who(&[])).await;
    assert!(identity.policies_of(&id).await.is_empty());
    identity.log_in(&who(&["works"])).await;
    // A method that does not speak of groups changes none.
    identity.log_in(&Who::new(&mount("m1"), "grace")).await;
    assert_eq!(identity.policies_of(&id).await, ["works"]);
    identity.refresh(&id, "m1", &[]).await.unwrap();
    assert!(identity.policies_of(&id).await.is_empty());
    identity
        .refresh(&id, "m1", &texts(&["works"]))
        .await
        .unwrap();
    assert_eq!(identity.policies_of(&id).await, ["works"]);

    // The entity loses its name at the mount.
    let alias = identity.alias_of("m1", "grace").await.unwrap().unwrap().1;
    identity.delete_alias(&alias.id).await.unwrap();
    assert!(identity.policies_of(&id).await.is_empty());
    let again = identity.log_in(&who(&["works"])).await;
    assert_ne!(again, id);
    assert_eq!(identity.policies_of(&again).await, ["works"]);
    // The alias becomes another group of the directory.
    let group_alias = identity
        .group_alias_of("m1", "works")
        .await
        .unwrap()
        .unwrap();
    let renamed = AliasFields {
        id: Some(group_alias.1.id.clone()),
        name: Some("lab".into()),
        ..AliasFields::default()
    };
    identity.write_group_alias(&renamed).await.unwrap();
    assert!(identity.policies_of(&again).await.is_empty());
    identity.log_in(&who(&["lab"])).await;
    assert_eq!(identity.policies_of(&again).await, ["works"]);
    assert!(identity.is_whole().await);
    // The mount goes.
    identity.forget_mount("m1").await.unwrap();
    assert!(identity.policies_of(&again).await.is_empty());
    assert!(identity.alias_of("m1", "grace").await.unwrap().is_none());
    assert!(
        identity
            .group(&works)
            .await
            .unwrap()
            .unwrap()
            .alias
            .is_none()
    );

    identity.delete_group(&works).await.unwrap();
    let ids = [id, other, again];
    identity.delete_entities(&ids).await.unwrap();
    assert_eq!(identity.paths().await, Vec::<String>::new());
}

#[tokio::test]
async fn half_written_memberships_of_what_is_gone_are_cleared_after_a_crash() {
    let identity = identity().await;
    let entity = identity.new_entity("grace").await;
    let group = identity.new_group("works", &["works"], &[&entity]).await;
    // A crash between the commit that removes the group and the clearing.
    let view = identity.storage();
    let mut batch = Batch::new();
    for path in [format!("group/{group}"), "group-name/works".to_owned()] {
        view.delete_in(&mut batch, &path);
    }
    view.put_in(&mut batch, &format!("leaving/{group}"), Vec::new());
    view.commit(batch).await.unwrap();
    assert!(identity.policies_of(&entity).await.is_empty());
    assert!(
        identity.is_whole().await,
        "what is marked is taken up by itself"
    );
    identity.resume().await.unwrap();
    assert!(identity.is_whole().await);
    let left = identity.paths().await;
    assert_eq!(
        left,
        ["entity-name/grace".to_owned(), format!("entity/{entity}")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_entities_that_are_deleted_while_people_join_leave_nothing() {
    let identity = Arc::new(identity().await);
    for _ in 0..10 {
        let works = identity.external("works", "m1").await;
        let logins: Vec<_> = (0..8)
            .map(|n| {
                let identity = identity.clone();
                tokio::spawn(async move {
                    let who = Who::new(&mount("m1"), &format!("user-{n}"));
                    identity.log_in(&who.with_groups(texts(&["works"]))).await
                })
            })
            .collect();
        identity.delete_group(&works).await.unwrap();
        let mut ids = Vec::new();
        for login in logins {
            ids.push(login.await.unwrap());
        }
        for id in &ids {
            assert!(identity.policies_of(id).await.is_empty());
        }
        identity.delete_entities(&ids).await.unwrap();
        assert_eq!(identity.paths().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_is_resolved_is_never_older_than_what_is_stored() {
    let identity = identity().await;
    let entity = identity.new_entity("grace").await;
    let inner = identity.new_group("inner", &["inner"], &[&entity]).await;
    let outer = identity.new_group("outer", &["outer"], &[]).await;
    assert_eq!(identity.policies_of(&entity).await, ["inner"]);
    let first = identity.resolve(&entity).await.unwrap().unwrap();
    let second = identity.resolve(&entity).await.unwrap().unwrap();
    assert_eq!(first.serial, second.serial, "resolved once");
    identity.set_groups(&outer, &[&inner]).await.unwrap();
    assert_eq!(identity.policies_of(&entity).await, ["inner", "outer"]);
    identity.delete_group(&inner).await.unwrap();
    assert!(identity.policies_of(&entity).await.is_empty());
    identity
        .delete_entities(std::slice::from_ref(&entity))
        .await
        .unwrap();
    assert!(identity.resolve(&entity).await.unwrap().is_none());
}

#[tokio::test]
async fn a_merged_entity_is_the_other_one_through_any_number_of_merges() {
    let identity = identity().await;
    let at = |m: &str, groups: &[&str]| Who::new(&mount(m), "grace").with_groups(texts(groups));
    let external = identity.external("works", "m1").await;
    let a = identity.log_in(&at("m1", &["works"])).await;
    let b = identity.log_in(&at("m2", &[])).await;
    let c = identity.log_in(&at("m3", &[])).await;
    identity.new_group("of a", &["of-a"], &[&a]).await;
    identity.new_group("of c", &["of-c"], &[&c]).await;
    identity.policies_of(&a).await;
    identity
        .merge(std::slice::from_ref(&a), &b, &[])
        .await
        .unwrap();
    assert_eq!(identity.policies_of(&a).await, ["of-a", "works"]);
    assert_eq!(identity.policies_of(&b).await, ["of-a", "works"]);
    identity
        .merge(std::slice::from_ref(&b), &c, &[])
        .await
        .unwrap();
    for id in [&a, &b, &c] {
        assert_eq!(identity.policies_of(id).await, ["of-a", "of-c", "works"]);
    }
    assert!(identity.is_whole().await);
    let merged = identity.entity(&c).await.unwrap().unwrap();
    assert_eq!(merged.aliases.len(), 3);
    assert_eq!(
        BTreeSet::from_iter(&merged.merged),
        BTreeSet::from([&a, &b])
    );
    assert!(identity.entity(&a).await.unwrap().is_none());
    // A change of the one is a change of all.
    assert_eq!(identity.log_in(&at("m1", &[])).await, c);
    assert_eq!(identity.policies_of(&a).await, ["of-a", "of-c"]);
    let fields = EntityFields {
        id: Some(c.clone()),
        disabled: Some(true),
        ..EntityFields::default()
    };
    identity.write_entity(&fields).await.unwrap();
    assert!(identity.resolve(&a).await.unwrap().unwrap().entity.disabled);
    assert_eq!(
        identity.bind(&at("m2", &[])).await.err().unwrap().status(),
        403
    );
    identity
        .delete_entities(std::slice::from_ref(&c))
        .await
        .unwrap();
    for id in [&a, &b, &c] {
        assert!(identity.resolve(id).await.unwrap().is_none());
    }
    identity.delete_group(&external).await.unwrap();
    let left = identity.paths().await;
    assert!(
        left.iter()
            .all(|p| p.starts_with("group/") || p.starts_with("group-name/")),
        "{left:?}"
    );
}

#[tokio::test]
async fn aliases_in_conflict_are_merged_only_by_name() {
    let identity = identity().await;
    let external = identity.external("works", "m1").await;
    let who = |name: &str, groups: &[&str]| Who::new(&mount("m1"), name).with_groups(texts(groups));
    let a = identity.log_in(&who("a", &["works"])).await;
    let b = identity.log_in(&who("b", &[])).await;
    let c = identity.log_in(&who("c", &[])).await;
    let alias = |entity: super::Entity| entity.aliases[0].id.clone();
    let of_a = alias(identity.entity(&a).await.unwrap().unwrap());
    let of_b = alias(identity.entity(&b).await.unwrap().unwrap());
    let of_c = alias(identity.entity(&c).await.unwrap().unwrap());
    for (from, keep) in [
        (vec![a.clone()], vec![]),
        (vec![a.clone()], vec![of_a.clone(), of_b.clone()]),
        (vec![a.clone()], vec![of_a.clone(), of_c.clone()]),
        (vec![a.clone(), c.clone()], vec![of_a.clone()]),
        (vec![b.clone()], vec![]),
        (vec![], vec![]),
        (vec!["none".to_owned()], vec![]),
    ] {
        let refused = identity.merge(&from, &b, &keep).await.unwrap_err();
        assert_eq!(refused.status(), 400, "{from:?}");
    }
    // B's name stays: what A was by its own name is not B's.
    identity
        .merge(std::slice::from_ref(&a), &b, std::slice::from_ref(&of_b))
        .await
        .unwrap();
    assert!(identity.policies_of(&b).await.is_empty());
    assert!(
        identity
            .member_entities(&external)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(identity.alias(&of_a).await.unwrap().is_none());
    let new = identity.log_in(&who("a", &["works"])).await;
    assert!(new != a && new != b);
    // C's name stays, and goes over.
    identity
        .merge(std::slice::from_ref(&c), &b, std::slice::from_ref(&of_c))
        .await
        .unwrap();
    assert_eq!(identity.log_in(&who("c", &[])).await, b);
    assert_ne!(identity.log_in(&who("b", &[])).await, b);
}

#[tokio::test]
async fn aliases_move_between_entities_names_and_mounts_and_never_onto_another() {
    let identity = identity().await;
    let grace = identity.log_in(&Who::new(&mount("m1"), "grace")).await;
    let joan = identity.log_in(&Who::new(&mount("m1"), "joan")).await;
    let of = |entity: &str| {
        let (identity, entity) = (&identity, entity.to_owned());
        async move { identity.entity(&entity).await.unwrap().unwrap().aliases }
    };
    let alias = of(&grace).await[0].id.clone();
    let change = |name: Option<&str>, mount: Option<&str>, owner: Option<&str>| AliasFields {
        id: Some(alias.clone()),
        name: name.map(str::to_owned),
        mount: mount.map(str::to_owned),
        owner: owner.map(str::to_owned),
        ..AliasFields::default()
    };
    for refused in [
        change(Some("JOAN"), None, None),
        change(None, None, Some(&joan)),
        change(None, None, Some("none")),
        change(Some(""), None, None),
    ] {
        assert_eq!(
            identity.write_alias(&refused).await.unwrap_err().status(),
            400
        );
    }
    identity
        .write_alias(&change(Some("GRACE"), None, None))
        .await
        .unwrap();
    assert_eq!(of(&grace).await[0].name, "GRACE");
    identity
        .write_alias(&change(None, Some("m2"), Some(&joan)))
        .await
        .unwrap();
    assert!(of(&grace).await.is_empty());
    assert_eq!(of(&joan).await.len(), 2);
    assert!(identity.alias_of("m1", "grace").await.unwrap().is_none());
    assert_eq!(
        identity.log_in(&Who::new(&mount("m2"), "grace")).await,
        joan
    );
    assert!(identity.is_whole().await);
    // By mount and name it is found again, and a new one of a new name makes an entity.
    let by_place = |name: &str| AliasFields {
        name: Some(name.to_owned()),
        mount: Some("m2".into()),
        ..AliasFields::default()
    };
    assert_eq!(
        identity.write_alias(&by_place("Grace")).await.unwrap(),
        (alias, joan)
    );
    let (_, entity) = identity.write_alias(&by_place("edith")).await.unwrap();
    assert_eq!(
        identity.log_in(&Who::new(&mount("m2"), "Edith")).await,
        entity
    );
}

/// A login of which nothing is new asks no storage; each of these is new.
#[tokio::test]
async fn group_gone_a_name_that_logged_in_before_finds_every_change_at_once() {
    let identity = identity().await;
    let who = |groups: &[&str]| Who::new(&mount("m1"), "grace").with_groups(texts(groups));
    let first = identity.log_in(&who(&["works"])).await;
    for _ in 0..2 {
        assert_eq!(identity.log_in(&who(&["works"])).await, first);
    }
    // A group that the directory has named all the time gets its alias, and goes.
    let group = identity.external("works", "m1").await;
    assert_eq!(identity.log_in(&who(&["works"])).await, first);
    assert_eq!(identity.policies_of(&first).await, ["works"]);
    identity.log_in(&who(&[])).await;
    assert!(identity.policies_of(&first).await.is_empty());
    identity.log_in(&who(&["works"])).await;
    identity.delete_group(&group).await.unwrap();
    assert!(identity.policies_of(&first).await.is_empty());
    assert_eq!(identity.log_in(&who(&["works"])).await, first);
    // The entity is switched off and on.
    let disabled = |disabled| EntityFields {
        id: Some(first.clone()),
        disabled: Some(disabled),
        ..EntityFields::default()
    };
    identity.write_entity(&disabled(true)).await.unwrap();
    let refused = identity.bind(&who(&[])).await.err().unwrap();
    assert_eq!(refused.status(), 403);
    identity.write_entity(&disabled(false)).await.unwrap();
    assert_eq!(identity.log_in(&who(&[])).await, first);
    // The alias goes, and comes back on another entity.
    let alias = identity
        .alias_of("m1", "grace")
        .await
        .unwrap()
        .unwrap()
        .1
        .id;
    identity.delete_alias(&alias).await.unwrap();
    let second = identity.log_in(&who(&[])).await;
    assert_ne!(second, first);
    let moved = AliasFields {
        name: Some("GRACE".into()),
        mount: Some("m1".into()),
        owner: Some(first.clone()),
        ..AliasFields::default()
    };
    identity.write_alias(&moved).await.unwrap();
    assert_eq!(identity.log_in(&who(&[])).await, first);
    // The entity is gone.
    identity
        .delete_entities(std::slice::from_ref(&first))
        .await
        .unwrap();
    let third = identity.log_in(&who(&[])).await;
    assert!(![&first, &second].contains(&&third));
    assert!(identity.is_whole().await);
}

#[tokio::test]
async fn another_process_on_the_same_storage_changes_nothing_twice() {
    let barrier = barrier().await;
    let (one, other) = (open(&barrier), open(&barrier));
    let who = Who::new(&mount("m1"), "grace");
    let (from_one, from_other) = (
        one.bind(&who).await.unwrap(),
        other.bind(&who).await.unwrap(),
    );
    assert!(one.commit(from_one.change).await.unwrap());
    assert!(!other.commit(from_other.change).await.unwrap());
    assert_eq!(one.log_in(&who).await, other.log_in(&who).await);
    assert_eq!(one.count_entities().await.unwrap(), 1);
}

#[tokio::test]
async fn what_does_not_agree_is_found() {
    let identity = identity().await;
    let entity = identity.log_in(&Who::new(&mount("m1"), "grace")).await;
    let inner = identity.new_group("inner", &[], &[&entity]).await;
    let outer = identity.new_group("outer", &[], &[]).await;
    identity.set_groups(&outer, &[&inner]).await.unwrap();
    identity.external("works", "m1").await;
    assert!(identity.is_whole().await);
    for path in identity.paths().await {
        let view = identity.storage();
        let was = view.get(&path).await.unwrap().unwrap();
        view.delete(&path).await.unwrap();
        assert!(!identity.is_whole().await, "{path} is missing");
        view.put(&path, was.value).await.unwrap();
        assert!(identity.is_whole().await, "{path} is back");
    }
}
