//! kv version 2 against a model that is too simple to be wrong: the same random requests go to
//! both, and everything that can be read is compared, as is what remains in storage.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Ask, Mount, delete, get, list, patch, post};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn kv_does_what_the_model_does(requests in vec(request(), 1..40)) {
        runtime().block_on(async {
            let kv = Mount::kv().await;
            let mut model = Model::default();
            for (second, request) in requests.into_iter().enumerate() {
                let second = second as u64;
                let asked = kv.status(request.ask().at(second)).await;
                assert_eq!(asked, model.apply(&request), "{request:?}");
                compare(&kv, &model, second).await;
            }
        });
    }

    #[test]
    fn any_json_object_is_read_back_as_it_was_written(data in object()) {
        runtime().block_on(async {
            let kv = Mount::kv().await;
            let sent = json!({"data": data});
            // As it comes off the wire.
            let sent: Value = serde_json::from_str(&sent.to_string()).unwrap();
            kv.done(post("data/a", sent.clone())).await;
            assert_eq!(kv.done(get("data/a")).await.data["data"].to_string(), sent["data"].to_string());
            kv.done(post("data/a", json!({"data": {}}))).await;
            let old = kv.done(get("data/a").with(json!({"version": 1}))).await;
            assert_eq!(old.data["data"].to_string(), sent["data"].to_string());
        });
    }
}

#[derive(Debug, Clone)]
enum Request {
    Write {
        path: &'static str,
        cas: Option<u64>,
    },
    Patch {
        path: &'static str,
        cas: Option<u64>,
    },
    DeleteLatest {
        path: &'static str,
    },
    Versions {
        verb: &'static str,
        path: &'static str,
        versions: Vec<u64>,
    },
    DeleteMetadata {
        path: &'static str,
    },
    Keep {
        path: &'static str,
        versions: u64,
    },
}

impl Request {
    fn ask(&self) -> Ask {
        match self {
            Self::Write { path, cas } => {
                let options = cas.map_or(json!({}), |cas| json!({"cas": cas}));
                post(
                    format!("data/{path}"),
                    json!({"data": {"of": path}, "options": options}),
                )
            }
            Self::Patch { path, cas } => {
                let options = cas.map_or(json!({}), |cas| json!({"cas": cas}));
                patch(
                    format!("data/{path}"),
                    json!({"data": {"patched": {"n": 1}}, "options": options}),
                )
            }
            Self::DeleteLatest { path } => delete(format!("data/{path}")),
            Self::Versions {
                verb,
                path,
                versions,
            } => post(format!("{verb}/{path}"), json!({"versions": versions})),
            Self::DeleteMetadata { path } => delete(format!("metadata/{path}")),
            Self::Keep { path, versions } => post(
                format!("metadata/{path}"),
                json!({"max_versions": versions}),
            ),
        }
    }
}

#[derive(Default)]
struct Model(BTreeMap<&'static str, Secret>);

#[derive(Default)]
struct Secret {
    current: u64,
    keep: u64,
    versions: BTreeMap<u64, State>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Live,
    Deleted,
    Destroyed,
}

impl Model {
    fn apply(&mut self, request: &Request) -> u16 {
        match request {
            Request::Write { path, cas } => {
                let current = self.0.get(path).map_or(0, |secret| secret.current);
                if cas.is_some_and(|cas| cas != current) {
                    return 400;
                }
                let secret = self.0.entry(path).or_default();
                secret.current += 1;
                secret.versions.insert(secret.current, State::Live);
                let keep = if secret.keep == 0 { 10 } else { secret.keep };
                while secret.versions.len() as u64 > keep {
                    secret.versions.pop_first();
                }
                return 200;
            }
            Request::Patch { path, cas } => {
                let Some(secret) = self.0.get(path) else {
                    return 404;
                };
                if cas.is_some_and(|cas| cas != secret.current) {
                    return 400;
                }
                if secret.versions.get(&secret.current) != Some(&State::Live) {
                    return 404;
                }
                return self.apply(&Request::Write { path, cas: *cas });
            }
            Request::DeleteLatest { path } => {
                if let Some(secret) = self.0.get_mut(path) {
                    let current = secret.current;
                    secret.turn(&[current], State::Live, State::Deleted);
                }
            }
            Request::Versions {
                verb,
                path,
                versions,
            } => {
                if let Some(secret) = self.0.get_mut(path) {
                    match *verb {
                        "delete" => secret.turn(versions, State::Live, State::Deleted),
                        "undelete" => secret.turn(versions, State::Deleted, State::Live),
                        _ => {
                            secret.turn(versions, State::Live, State::Destroyed);
                            secret.turn(versions, State::Deleted, State::Destroyed);
                        }
                    }
                }
            }
            Request::DeleteMetadata { path } => drop(self.0.remove(path)),
            Request::Keep { path, versions } => self.0.entry(path).or_default().keep = *versions,
        }
        204
    }

    /// How many records there should be: one for each secret, and, where more versions than one are kept, one
    /// for each of them that has data.
    fn records(&self) -> usize {
        let apart = |secret: &Secret| {
            let kept = secret.versions.iter();
            kept.filter(|(_, state)| secret.versions.len() > 1 && **state != State::Destroyed)
                .count()
        };
        self.0.values().map(|secret| 1 + apart(secret)).sum()
    }
}

impl Secret {
    fn turn(&mut self, versions: &[u64], from: State, to: State) {
        for number in versions {
            if let Some(state) = self
                .versions
                .get_mut(number)
                .filter(|state| **state == from)
            {
                *state = to;
            }
        }
    }
}

async fn compare(kv: &Mount, model: &Model, second: u64) {
    for path in PATHS {
        let metadata = kv.ask(get(format!("metadata/{path}"))).await;
        let Some(secret) = model.0.get(path) else {
            assert_eq!(metadata.unwrap_err().status(), 404);
            assert_eq!(kv.status(get(format!("data/{path}"))).await, 404);
            continue;
        };
        let metadata = metadata.unwrap().data;
        assert_eq!(metadata["current_version"], secret.current);
        assert_eq!(metadata["max_versions"], secret.keep);
        let shown: BTreeSet<u64> = metadata["versions"]
            .as_object()
            .unwrap()
            .keys()
            .map(|n| n.parse().unwrap())
            .collect();
        assert_eq!(shown, secret.versions.keys().copied().collect());
        for number in 0..=secret.current + 1 {
            let asked = if number == 0 { secret.current } else { number };
            let ask = get(format!("data/{path}"))
                .with(json!({"version": number}))
                .at(second);
            match (secret.versions.get(&asked), kv.ask(ask).await) {
                (None, answer) => assert_eq!(answer.unwrap_err().status(), 404),
                (Some(State::Live), answer) => {
                    let answer = answer.unwrap();
                    assert_eq!(
                        (answer.status, &answer.data["data"]["of"]),
                        (200, &json!(path))
                    );
                    assert_eq!(answer.data["metadata"]["version"], asked);
                }
                (Some(state), answer) => {
                    let answer = answer.unwrap();
                    assert_eq!((answer.status, &answer.data["data"]), (404, &Value::Null));
                    assert_eq!(
                        answer.data["metadata"]["destroyed"],
                        *state == State::Destroyed
                    );
                }
            }
        }
    }
    let listed = kv
        .ask(list("metadata"))
        .await
        .map_or(json!([]), |answer| answer.data["keys"].clone());
    let names: BTreeSet<&str> = model
        .0
        .keys()
        .map(|path| if *path == "a/b" { "a/" } else { path })
        .collect();
    assert_eq!(listed, json!(names));
    assert_eq!(kv.kept().await.len(), model.records());
}

fn request() -> impl Strategy<Value = Request> {
    let path = || prop::sample::select(&PATHS[..]);
    prop_oneof![
        6 => (path(), prop::option::weighted(0.3, 0..4_u64)).prop_map(|(path, cas)| Request::Write { path, cas }),
        2 => (path(), prop::option::weighted(0.2, 0..4_u64)).prop_map(|(path, cas)| Request::Patch { path, cas }),
        2 => path().prop_map(|path| Request::DeleteLatest { path }),
        4 => (prop::sample::select(&["delete", "undelete", "destroy"][..]), path(), vec(0..14_u64, 1..4))
            .prop_map(|(verb, path, versions)| Request::Versions { verb, path, versions }),
        1 => path().prop_map(|path| Request::DeleteMetadata { path }),
        1 => (path(), 0..4_u64).prop_map(|(path, versions)| Request::Keep { path, versions }),
    ]
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::num::f64::NORMAL
            .prop_filter("beyond 64 bits", |n| n.abs() < 9e18)
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    btree_map(any::<String>(), value, 0..6).prop_map(|fields| fields.into_iter().collect())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

const PATHS: [&str; 3] = ["a", "a/b", "c"];
