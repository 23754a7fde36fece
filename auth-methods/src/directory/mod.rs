//! What the methods that lean on a directory have in common: its settings, who a user is there, which names are
//! one name, which policies a group means. Fields, defaults and checks are here once; a method adds its own.
//!
//! `settings` the fields; `users` the directory and the rules as logins use them; `groups` the group map; `cache` what is remembered; `answer` what a client is told;
//! `renewal` is the user still who they were.

pub(crate) mod answer;
pub(crate) mod cache;
pub(crate) mod groups;
pub(crate) mod renewal;
pub(crate) mod settings;
pub(crate) mod users;

use std::future::Future;
use std::sync::Arc;

use obol_mount::Result;

use crate::store::Store;
use settings::StoredDirectory;
use users::Users;

/// A mount that has a directory.
pub(crate) trait DirectoryMount: Send + Sync + 'static {
    /// Where the record is that holds the directory's settings.
    const SETTINGS: &'static str;

    fn store(&self) -> &Store;

    /// What to do so that somebody who vouches for it says in which groups, by their SIDs, a user is; `None` where
    /// somebody does, or where that is not settled yet.
    fn sids_unheard(&self) -> impl Future<Output = Result<Option<&'static str>>> + Send;

    /// As logins use them now; `None` before the directory is configured.
    fn users(&self) -> impl Future<Output = Result<Option<Arc<Users>>>> + Send;
}

/// What the metrics are told of a directory.
pub(crate) fn counters(users: Option<&Arc<Users>>) -> Vec<(&'static str, u64)> {
    let Some(users) = users else {
        return Vec::new();
    };
    let stats = users.directory.cache_stats();
    vec![
        ("directory.users.cached", stats.users.hits),
        ("directory.users.asked", stats.users.misses),
        ("directory.users.waited", stats.users.waits),
        ("directory.users.refreshed", stats.users.refreshes),
        ("directory.sids.cached", stats.sids.hits),
        ("directory.sids.asked", stats.sids.misses),
    ]
}

/// Whether names of users and groups are told apart by case.
pub(crate) async fn case_sensitive_names<M: DirectoryMount>(mount: &M) -> Result<bool> {
    let stored: Option<StoredDirectory> = mount.store().read(M::SETTINGS).await?;
    Ok(stored.is_some_and(|directory| directory.case_sensitive_names))
}
