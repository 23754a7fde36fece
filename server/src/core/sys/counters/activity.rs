//! `sys/internal/counters/activity`: the clients of a time, by mount and by month.

use std::collections::HashMap;

use obol_mount::{Cx, DataOrNothing, Error, Result, Routes, get};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::times::{Moment, range};
use crate::core::activity::{ByMount, Count, MonthCount, Range};
use crate::core::sys::System;
use crate::core::{Live, rfc3339, unix_now};

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "internal/counters/activity",
            "How many clients there were in a time, by mount and by month",
            get(activity),
        )
        .at(
            "internal/counters/activity/monthly",
            "How many clients there have been in the present month, by mount",
            get(monthly),
        )
}

#[derive(Deserialize, JsonSchema)]
struct Asked {
    /// The first month is the one of this time: RFC 3339, or seconds since 1970. Without it the report begins eleven
    /// months before the one that it ends with.
    #[serde(default)]
    start_time: Moment,
    /// The last month is the one of this time: RFC 3339, or seconds since 1970. Without it, the present one.
    #[serde(default)]
    end_time: Moment,
}

/// Clients. Each of the two kinds has an older name, too.
#[derive(Serialize, JsonSchema)]
struct Counts {
    /// All of them.
    clients: u64,
    /// Entities.
    entity_clients: u64,
    /// Those with tokens without an entity: all tokens with the same policies are one.
    non_entity_clients: u64,
    /// As `entity_clients`.
    distinct_entities: u64,
    /// As `non_entity_clients`.
    non_entity_tokens: u64,
    /// Secrets that are kept in step elsewhere, which no secret of this server is.
    secret_syncs: u64,
    /// Clients of ACME, which this server does not speak.
    acme_clients: u64,
}

#[derive(Serialize, JsonSchema)]
struct MountCounts {
    /// The mount that clients first came from; one that is gone is told by its accessor.
    mount_path: String,
    /// Its kind and a slash: `userpass/`.
    mount_type: String,
    counts: Counts,
}

#[derive(Serialize, JsonSchema)]
struct NamespaceCounts {
    /// Always `root`.
    namespace_id: &'static str,
    /// Always empty.
    namespace_path: &'static str,
    counts: Counts,
    /// Those with the most clients first.
    mounts: Vec<MountCounts>,
}

#[derive(Serialize, JsonSchema)]
struct NewClients {
    counts: Counts,
    /// The same by mount, in the one namespace that there is; empty when nobody is new.
    namespaces: Vec<NamespaceCounts>,
}

#[derive(Serialize, JsonSchema)]
struct MonthCounts {
    /// The first second of the month.
    timestamp: String,
    /// Nothing for a month without clients; so are the two below.
    counts: Option<Counts>,
    /// The same by mount, in the one namespace that there is.
    namespaces: Option<Vec<NamespaceCounts>>,
    /// Those who are in no earlier month of the report.
    new_clients: Option<NewClients>,
}

/// The clients of some months.
#[derive(Serialize, JsonSchema)]
struct ActivityOut {
    /// The beginning of the first month that has clients.
    start_time: String,
    /// The last second of the last month.
    end_time: String,
    /// Each client once.
    total: Counts,
    /// The same by mount: each client with the one that it first came from.
    by_namespace: Vec<NamespaceCounts>,
    /// Every month, the earliest first.
    months: Vec<MonthCounts>,
}

/// The clients of the present month.
#[derive(Serialize, JsonSchema)]
struct MonthlyOut {
    #[serde(flatten)]
    total: Counts,
    /// The same by mount: each client with the one that it first came from.
    by_namespace: Vec<NamespaceCounts>,
    /// The present month.
    months: Vec<MonthCounts>,
}

async fn activity(cx: Cx<System>, input: Asked) -> Result<DataOrNothing<ActivityOut>> {
    let (live, now) = (cx.live()?, unix_now());
    let config = live.activity.config();
    match range(input.start_time, input.end_time, &config, now)? {
        Some(range) => Ok(DataOrNothing(report(&live, range).await?)),
        None => Ok(DataOrNothing(None)),
    }
}

async fn monthly(cx: Cx<System>) -> Result<DataOrNothing<MonthlyOut>> {
    let (live, now) = (cx.live()?, unix_now());
    let present = range(
        Moment(Some(now)),
        Moment(Some(now)),
        &live.activity.config(),
        now,
    )?;
    let report = match present {
        Some(range) => report(&live, range).await?,
        None => None,
    };
    Ok(DataOrNothing(report.map(|report| MonthlyOut {
        total: report.total,
        by_namespace: report.by_namespace,
        months: report.months,
    })))
}

/// `None`: there was no client.
async fn report(live: &Live, range: Range) -> Result<Option<ActivityOut>> {
    live.activity.flush().await?;
    let counted = live.activity.count(range).await?;
    let Some(first) = counted.months.iter().find(|month| !month.all.is_empty()) else {
        return Ok(None);
    };
    let names = Names::of(live);
    let start_time = shown(first.month.start())?;
    let mut months = Vec::with_capacity(counted.months.len());
    for month in &counted.months {
        months.push(names.month(month)?);
    }
    Ok(Some(ActivityOut {
        start_time,
        end_time: shown(range.last.end() - 1)?,
        total: sum(&counted.total),
        by_namespace: names.namespaces(&counted.total),
        months,
    }))
}

/// Where the mounts are now, by accessor.
struct Names(HashMap<String, (String, String)>);

impl Names {
    fn of(live: &Live) -> Self {
        let mounts = live.mounts.all();
        let named = mounts.iter().map(|mounted| {
            let entry = &mounted.entry;
            let name = (entry.path.clone(), format!("{}/", entry.kind));
            (entry.accessor.clone(), name)
        });
        Self(named.collect())
    }

    fn month(&self, month: &MonthCount) -> Result<MonthCounts> {
        let any = !month.all.is_empty();
        Ok(MonthCounts {
            timestamp: shown(month.month.start())?,
            counts: any.then(|| sum(&month.all)),
            namespaces: any.then(|| self.namespaces(&month.all)),
            new_clients: any.then(|| NewClients {
                counts: sum(&month.new),
                namespaces: self.namespaces(&month.new),
            }),
        })
    }

    /// The one namespace that there is; none where nobody was.
    fn namespaces(&self, by_mount: &ByMount) -> Vec<NamespaceCounts> {
        if by_mount.is_empty() {
            return Vec::new();
        }
        let mut mounts: Vec<MountCounts> = by_mount
            .iter()
            .map(|(accessor, count)| {
                let (mount_path, mount_type) = match self.0.get(accessor) {
                    Some(name) => name.clone(),
                    // As Vault says it.
                    None => (
                        format!("deleted mount; accessor {accessor:?}"),
                        "deleted mount".to_owned(),
                    ),
                };
                MountCounts {
                    mount_path,
                    mount_type,
                    counts: (*count).into(),
                }
            })
            .collect();
        mounts.sort_by(|a, b| {
            let more = b.counts.clients.cmp(&a.counts.clients);
            more.then_with(|| a.mount_path.cmp(&b.mount_path))
        });
        vec![NamespaceCounts {
            namespace_id: "root",
            namespace_path: "",
            counts: sum(by_mount),
            mounts,
        }]
    }
}

fn sum(by_mount: &ByMount) -> Counts {
    let mut total = Count::default();
    for count in by_mount.values() {
        total += *count;
    }
    total.into()
}

impl From<Count> for Counts {
    fn from(count: Count) -> Self {
        Self {
            clients: count.clients(),
            entity_clients: count.entities,
            non_entity_clients: count.tokens,
            distinct_entities: count.entities,
            non_entity_tokens: count.tokens,
            secret_syncs: 0,
            acme_clients: 0,
        }
    }
}

fn shown(unix: u64) -> Result<String> {
    rfc3339(unix).ok_or_else(|| Error::internal("the time of a report is no time"))
}
