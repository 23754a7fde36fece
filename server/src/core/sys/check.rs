//! `sys/internal/check`: whether what is stored agrees with itself, for `obol operator check`. Reads in pages, changes
//! nothing, and looks again at what seems wrong, since others are at work meanwhile.

use obol_mount::fields::Count;
use obol_mount::{Cx, Data, Error, Result, Routes, get};
use obol_storage::View;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;
use crate::core::leases::Inconsistency;
use crate::core::tokens::{NO_MOUNT, TokenId};
use crate::core::{Core, Live};

pub(super) fn routes() -> Routes<System> {
    Routes::new().sudo(
        "internal/check",
        "Whether tokens, leases, mounts, cubbyholes, identities and their indexes agree in storage; changes nothing",
        get(check),
    )
}

#[derive(Deserialize, JsonSchema)]
struct Asked {
    /// What is looked at: `tokens`, `leases`, `mounts`, `cubbyholes` or `identity`; nothing is all of it.
    section: Option<String>,
    /// How many findings of each are shown at most; 0, or nothing, is 1000.
    #[serde(default)]
    limit: Count,
}

#[derive(Serialize, JsonSchema)]
struct Checked {
    /// What was looked at.
    sections: Vec<&'static str>,
    /// What does not agree.
    findings: Vec<Finding>,
    /// Whether there may be more findings than are shown.
    more: bool,
}

#[derive(Serialize, JsonSchema)]
struct Finding {
    /// Where it was found: `tokens`, `leases`, `mounts`, `cubbyholes` or `identity`.
    section: &'static str,
    /// Where in storage.
    path: String,
    /// What does not agree, in words.
    what: &'static str,
}

async fn check(cx: Cx<System>, input: Asked) -> Result<Data<Checked>> {
    let core = cx.core()?;
    let live = core.live()?;
    let limit = match usize::try_from(input.limit.0).unwrap_or(usize::MAX) {
        0 => DEFAULT_LIMIT,
        asked => asked.min(MOST),
    };
    let sections: Vec<&'static str> = match input.section.as_deref() {
        None | Some("") => SECTIONS.to_vec(),
        Some(asked) => match SECTIONS.iter().find(|section| **section == asked) {
            Some(section) => vec![*section],
            None => {
                return Err(Error::bad_request(format!(
                    "field \"section\": expected one of {}",
                    SECTIONS.join(", ")
                )));
            }
        },
    };
    let mut checked = Checked {
        sections: sections.clone(),
        findings: Vec::new(),
        more: false,
    };
    for section in sections {
        let found = match section {
            "tokens" => live.tokens.inconsistencies(limit).await?,
            "leases" => live.lease_inconsistencies(limit).await?,
            "mounts" => mounts(&core, &live, limit).await?,
            "cubbyholes" => cubbyholes(&core, &live, limit).await?,
            _ => live.identity.inconsistencies(limit).await?,
        };
        checked.more |= found.len() >= limit;
        let found = found
            .into_iter()
            .map(|Inconsistency { path, what }| Finding {
                section,
                path,
                what,
            });
        checked.findings.extend(found);
    }
    Ok(Data(checked))
}

/// Data and tokens of mounts that are not in the table.
async fn mounts(core: &Core, live: &Live, limit: usize) -> Result<Vec<Inconsistency>> {
    let mut found = Vec::new();
    for (folder, what) in [
        ("mount/", "data of a mount that is gone"),
        ("core/token/issued/", "tokens of a mount that is gone"),
    ] {
        let view = view(core, folder)?;
        let mut after: Option<String> = None;
        while found.len() < limit {
            let names = view.list("", after.as_deref(), PAGE).await?;
            let Some(last) = names.last() else { break };
            after = Some(last.clone());
            for name in &names {
                let uuid = name.trim_end_matches('/');
                if uuid == NO_MOUNT || live.mounts.knows(uuid).await? {
                    continue;
                }
                // A mount that was enabled or removed since the page was read.
                if !view.list(name, None, 1).await?.is_empty() && !live.mounts.knows(uuid).await? {
                    found.push(Inconsistency {
                        path: view.full(name),
                        what,
                    });
                }
            }
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// Values of tokens that are gone.
async fn cubbyholes(core: &Core, live: &Live, limit: usize) -> Result<Vec<Inconsistency>> {
    const LOST: &str = "a wrapped answer without its token";
    let mut folders = vec![
        ("core/wrapping/info/".to_owned(), LOST),
        ("core/wrapping/body/".to_owned(), LOST),
    ];
    if let Some(mounted) = live.mounts.get("cubbyhole/") {
        let folder = format!("mount/{}/", mounted.entry.uuid);
        folders.push((folder, "a cubbyhole without its token"));
    }
    let mut found = Vec::new();
    for (folder, what) in folders {
        let view = view(core, &folder)?;
        let mut after: Option<String> = None;
        while found.len() < limit {
            let names = view.list("", after.as_deref(), PAGE).await?;
            let Some(last) = names.last() else { break };
            after = Some(last.clone());
            for name in names {
                let id = TokenId::stored(name.trim_end_matches('/'));
                if live.tokens.exists_or_goes(&id).await? {
                    continue;
                }
                // One that went since the page was read has taken its values along.
                let kept = match name.ends_with('/') {
                    true => !view.list(&name, None, 1).await?.is_empty(),
                    false => view.get(&name).await?.is_some(),
                };
                if kept && !live.tokens.exists_or_goes(&id).await? {
                    found.push(Inconsistency {
                        path: view.full(&name),
                        what,
                    });
                }
            }
        }
    }
    found.truncate(limit);
    Ok(found)
}

fn view(core: &Core, folder: &str) -> Result<View> {
    Ok(View::new(core.barrier.clone(), folder)?)
}

const SECTIONS: [&str; 5] = ["tokens", "leases", "mounts", "cubbyholes", "identity"];
const PAGE: usize = 128;
const DEFAULT_LIMIT: usize = 1000;
const MOST: usize = 100_000;
