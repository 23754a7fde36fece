//! `cache`: what is remembered of the directory (`cache_ttl` in `config/ldap`), and how to forget it at once.

use obol_directory::CacheCounters;
use obol_mount::{Cx, Data, NoContent, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Kerberos;

/// `GET cache`.
pub(super) async fn read(cx: Cx<Kerberos>) -> Result<Option<Data<CacheView>>> {
    let snapshot = cx.live.snapshot(&cx.store).await?;
    Ok(snapshot.users().map(|users| {
        let stats = users.directory.cache_stats();
        Data(CacheView {
            users: Counters::of(&stats.users),
            sids: Counters::of(&stats.sids),
        })
    }))
}

/// `DELETE cache`: on this server. The next login of each user asks the directory.
pub(super) async fn flush(cx: Cx<Kerberos>) -> Result<NoContent> {
    forget(&cx, None).await
}

/// `DELETE cache/{user}`.
pub(super) async fn flush_user(cx: Cx<Kerberos>, input: UserPath) -> Result<NoContent> {
    forget(&cx, Some(&input.user)).await
}

async fn forget(cx: &Cx<Kerberos>, user: Option<&str>) -> Result<NoContent> {
    let snapshot = cx.live.snapshot(&cx.store).await?;
    if let Some(users) = snapshot.users() {
        users.directory.flush(user);
    }
    Ok(NoContent)
}

/// One user's groups.
#[derive(Deserialize, JsonSchema)]
pub(super) struct UserPath {
    /// The user, spelled as the directory was asked: `grace`.
    user: String,
}

/// The caches of this server, counted since the configuration was last written.
#[derive(Serialize, JsonSchema)]
pub(super) struct CacheView {
    /// Groups of users.
    users: Counters,
    /// Names of the groups in PACs.
    sids: Counters,
}

/// One cache.
#[derive(Serialize, JsonSchema)]
pub(super) struct Counters {
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
