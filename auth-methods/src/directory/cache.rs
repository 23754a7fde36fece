//! `cache`: what is remembered of the directory (`cache_ttl`), and how to forget it at once.

use obol_directory::CacheCounters;
use obol_mount::{Cx, Data, NoContent, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DirectoryMount;

/// `GET cache`.
pub(crate) async fn read<M: DirectoryMount>(cx: Cx<M>) -> Result<Option<Data<CacheView>>> {
    Ok(cx.users().await?.map(|users| {
        let stats = users.directory.cache_stats();
        Data(CacheView {
            users: Counters::of(&stats.users),
            sids: Counters::of(&stats.sids),
        })
    }))
}

/// `DELETE cache`: on this server. The next login of each user asks the directory.
pub(crate) async fn flush<M: DirectoryMount>(cx: Cx<M>) -> Result<NoContent> {
    forget(&cx, None).await
}

/// `DELETE cache/{user}`.
pub(crate) async fn flush_user<M: DirectoryMount>(cx: Cx<M>, input: UserPath) -> Result<NoContent> {
    forget(&cx, Some(&input.user)).await
}

async fn forget<M: DirectoryMount>(cx: &Cx<M>, user: Option<&str>) -> Result<NoContent> {
    if let Some(users) = cx.users().await? {
        users.directory.flush(user);
    }
    Ok(NoContent)
}

/// One user's groups.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct UserPath {
    /// The user, with the realm or without, in any case: `grace`.
    user: String,
}

/// The caches of this server, counted since the configuration was last written.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CacheView {
    /// Groups of users.
    users: Counters,
    /// Names of the groups in PACs.
    sids: Counters,
}

/// One cache.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Counters {
    /// Answered from memory.
    hits: u64,
    /// Asked of the directory.
    misses: u64,
    /// Waited for an answer that another login had asked for.
    waits: u64,
    /// Asked in the background, before the entry came to its end.
    refreshes: u64,
    /// Remembered now.
    entries: u64,
}

impl Counters {
    fn of(counters: &CacheCounters) -> Self {
        Self {
            hits: counters.hits,
            misses: counters.misses,
            waits: counters.waits,
            refreshes: counters.refreshes,
            entries: counters.entries,
        }
    }
}
