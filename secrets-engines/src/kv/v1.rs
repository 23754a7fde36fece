//! The key-value engine, version 1: one JSON object for each path, without a history, after Vault's API page
//! "KV secrets engine - version 1".
//!
//! A secret lies at `v1/<path>` in the mount's view, as the text that it was written as, so that nothing of it is
//! ever taken for a record of version 2.
//!
//! Reading makes no lease: `lease_duration` is a hint how long a reader may keep what it read. With the mount's option
//! `leased_passthrough` every read makes a lease, as in Vault.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use obol_mount::fields::{Flag, Ttl};
use obol_mount::{
    Backend, Cx, Error, Keys, Lease, Leased, MountContext, NoContent, Output, Reply, RequestInfo,
    Response, Result, RouteTable, Routes, get, list,
};
use obol_storage::{Batch, View};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::upgrade;
use crate::listing::Page;
use crate::numbers::refuse_rounded;

pub(super) struct KvV1 {
    storage: View,
    /// Whether every read makes a lease.
    leased: bool,
}

impl KvV1 {
    pub(super) fn open(context: &MountContext) -> Result<Self> {
        Ok(Self {
            storage: context.storage.clone(),
            leased: leased(&context.options)?,
        })
    }

    /// Commits, unless the mount is one of version 2 by now.
    async fn commit(&self, mut batch: Batch) -> Result<()> {
        self.storage.expect_absent_in(&mut batch, upgrade::MARK);
        Ok(self.storage.commit(batch).await?)
    }

    /// What is not there has perhaps moved.
    async fn not_moved<T>(&self, nothing: T) -> Result<T> {
        match upgrade::has_begun(&self.storage).await? {
            true => Err(upgrade::under_way()),
            false => Ok(nothing),
        }
    }
}

/// Whether every read makes a lease.
fn leased(options: &BTreeMap<String, String>) -> Result<bool> {
    let Some(text) = options.get(LEASED) else {
        return Ok(false);
    };
    Flag::deserialize(Value::from(text.as_str()))
        .map(|Flag(leased)| leased)
        .map_err(|_| Error::bad_request(format!("option {LEASED}: expected true or false")))
}

#[async_trait]
impl Backend for KvV1 {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }

    async fn count_secrets(&self) -> Result<Option<u64>> {
        Ok(Some(self.storage.count(SECRETS).await?))
    }

    fn change_options(
        &self,
        options: &BTreeMap<String, String>,
        batch: &mut Batch,
    ) -> Result<Vec<String>> {
        leased(options)?;
        match options.get("version").map(String::as_str) {
            None | Some("" | "1") => Ok(Vec::new()),
            Some("2") => {
                upgrade::mark(&self.storage, batch)?;
                Ok(vec![
                    "Upgrading mount from version 1 to version 2. It takes no requests until all of its secrets have moved."
                        .to_owned(),
                ])
            }
            Some(_) => Err(Error::bad_request("option version: expected 1 or 2")),
        }
    }
}

pub(super) fn routes() -> Routes<KvV1> {
    Routes::new()
        .at("", "All secrets at the top of this mount", list(list_root))
        .at(
            "{path*}",
            "A secret; or the secrets in a folder",
            get(read)
                .post(write)
                .delete(remove)
                .list(list_folder)
                .exists(exists)
                .verbatim(),
        )
}

/// The secret as it was written: any JSON object.
#[derive(JsonSchema)]
pub(super) struct Secret(#[schemars(with = "Map<String, Value>")] Box<RawValue>);

/// The secret: any JSON object that is not empty. A field `ttl` (or `lease`) says how long a reader may rely on it; it
/// is answered as `lease_duration`.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct Write(Map<String, Value>);

/// The request's own fields do not matter, and may be called anything.
#[derive(Deserialize, JsonSchema)]
struct Anything {}

/// What of a secret's own fields means something to the server.
#[derive(Deserialize)]
struct Hints {
    ttl: Option<Value>,
    lease: Option<Value>,
}

async fn read(cx: Cx<KvV1>) -> Result<Option<Leased<Secret>>> {
    let Some(entry) = cx.storage.get(&place(&cx.request)).await? else {
        return cx.not_moved(None).await;
    };
    // serde's text may quote the secret: it goes nowhere.
    let text: &RawValue = serde_json::from_slice(&entry.value)
        .map_err(|_| Error::internal("a stored secret is no JSON"))?;
    let ttl = own_ttl(text.get());
    let lease = Lease {
        ttl: ttl.unwrap_or_default(),
        renewable: cx.leased && ttl.is_some(),
        hint: !cx.leased,
        ..Lease::default()
    };
    let answer = Secret(text.to_owned());
    Ok(Some(Leased { answer, lease }))
}

async fn write(cx: Cx<KvV1>, Write(fields): Write) -> Result<NoContent> {
    if fields.is_empty() {
        return Err(Error::bad_request("missing data fields"));
    }
    refuse_rounded(&fields)?;
    let mut batch = Batch::new();
    cx.storage
        .put_json_in(&mut batch, &place(&cx.request), &fields)?;
    cx.commit(batch).await?;
    Ok(NoContent)
}

async fn remove(cx: Cx<KvV1>) -> Result<NoContent> {
    let mut batch = Batch::new();
    cx.storage.delete_in(&mut batch, &place(&cx.request));
    cx.commit(batch).await?;
    Ok(NoContent)
}

async fn list_root(cx: Cx<KvV1>, page: Page) -> Result<Keys> {
    let keys = page.of(&cx.storage, SECRETS).await?;
    cx.not_moved(keys).await
}

async fn list_folder(cx: Cx<KvV1>, page: Page) -> Result<Keys> {
    let folder = format!("{}/", place(&cx.request));
    let keys = page.of(&cx.storage, &folder).await?;
    cx.not_moved(keys).await
}

/// Whether a write creates or updates.
async fn exists(cx: Cx<KvV1>, _: Anything) -> Result<bool> {
    Ok(cx.storage.get(&place(&cx.request)).await?.is_some())
}

/// Where the secret is that the request names.
fn place(request: &RequestInfo) -> String {
    format!("{SECRETS}{}", request.path.trim_end_matches('/'))
}

/// What a secret's own `ttl` (or `lease`) says. What is no duration says nothing, as in Vault.
fn own_ttl(secret: &str) -> Option<Duration> {
    // Most secrets have neither field, and looking for the words is cheaper than parsing.
    if !secret.contains("\"ttl\"") && !secret.contains("\"lease\"") {
        return None;
    }
    let hints: Hints = serde_json::from_str(secret).ok()?;
    let Ttl(ttl) = Ttl::deserialize(hints.ttl.or(hints.lease)?).ok()?;
    Some(ttl)
}

impl Output for Secret {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(Reply::Json(self.0)))
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Self>())
    }
}

/// The folder of the secrets.
pub(super) const SECRETS: &str = "v1/";
/// The option that turns leases on, by Vault's name for it.
const LEASED: &str = "leased_passthrough";
