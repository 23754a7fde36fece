//! The engine for tests and for `server -dev`: a sorted map behind a lock, gone with the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use bytes::Bytes;

use crate::engine::{Commit, Engine, EngineError, NextEntry, Op, behind, level_name};

/// A store in memory. The lock is held for single operations and never across an `await`.
#[derive(Default)]
pub struct Memory {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    map: BTreeMap<String, Bytes>,
    closed: bool,
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // No operation panics half-way through a change, so a poisoned map is a whole one.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, EngineError> {
        Ok(self.read().map.get(key).cloned())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, EngineError> {
        let state = self.read();
        let mut names = Vec::new();
        let mut from = match after {
            Some(name) => behind(prefix, name),
            None => prefix.to_owned(),
        };
        while names.len() < limit {
            let Some((key, _)) = state.map.range(from..).next() else {
                break;
            };
            let Some(rest) = key.strip_prefix(prefix) else {
                break;
            };
            let name = level_name(rest);
            from = behind(prefix, name);
            // A value at the prefix itself ("a/" under "a/") has no name in this level.
            if !name.is_empty() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    async fn scan(
        &self,
        start: &str,
        end: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, EngineError> {
        if end.is_some_and(|end| end <= start) {
            return Ok(Vec::new());
        }
        let range = (
            Bound::Included(start),
            end.map_or(Bound::Unbounded, Bound::Excluded),
        );
        Ok(self
            .read()
            .map
            .range::<str, _>(range)
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    async fn commit(&self, commit: Commit) -> Result<(), EngineError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(EngineError::Closed);
        }
        for (key, expected) in &commit.expect {
            if !expected.is_met_by(state.map.get(key).map(Bytes::as_ref)) {
                return Err(EngineError::Conflict { key: key.clone() });
            }
        }
        for op in commit.ops {
            match op {
                Op::Put(key, value) => {
                    state.map.insert(key, value);
                }
                Op::Delete(key) => {
                    state.map.remove(&key);
                }
                Op::DeletePrefix(prefix) => {
                    let doomed: Vec<String> = state
                        .map
                        .range(prefix.clone()..)
                        .map(|(key, _)| key)
                        .take_while(|key| key.starts_with(&prefix))
                        .cloned()
                        .collect();
                    for key in doomed {
                        state.map.remove(&key);
                    }
                }
            }
        }
        Ok(())
    }

    async fn close(&self) -> Result<(), EngineError> {
        self.state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        Ok(())
    }

    fn visit_all(&self, each: &mut dyn FnMut(&str, &[u8]) -> bool) -> Result<(), EngineError> {
        // The values are shared, not copied.
        let map = self.read().map.clone();
        map.iter().all(|(key, value)| each(key, value));
        Ok(())
    }

    fn replace_all(&self, next: &mut NextEntry<'_>) -> Result<(), EngineError> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = next()? {
            map.insert(key, value);
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(EngineError::Closed);
        }
        state.map = map;
        Ok(())
    }
}
