//! `sys/raw`: what is stored, decrypted, by its path in storage: for looking into a fault and mending it. Only where the
//! configuration's `raw_storage_endpoint` turns it on. The keys themselves are not shown and not written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::fields::Count;
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, Routes, Secret, get, list};
use obol_storage::{Barrier, Batch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;
use crate::core::Core;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .sudo(
            "raw",
            "What lies at the top of storage; only where the configuration turns it on",
            list(list_top),
        )
        .sudo(
            "raw/{path*}",
            "A stored value by its path in storage, decrypted; only where the configuration turns it on",
            get(read).post(write).delete(remove).list(list_folder),
        )
}

#[derive(Deserialize, JsonSchema)]
struct Page {
    /// Begin behind this name.
    #[serde(default)]
    after: String,
    /// At most so many names; 0, or nothing, is all of them.
    #[serde(default)]
    limit: Count,
}

#[derive(Deserialize, JsonSchema)]
struct Folder {
    /// A folder of storage.
    path: String,
    #[serde(flatten)]
    page: Page,
}

#[derive(Deserialize, JsonSchema)]
struct At {
    /// Where in storage.
    path: String,
    /// `base64` for a value that is no text.
    #[serde(default)]
    encoding: String,
}

#[derive(Deserialize, JsonSchema)]
struct Write {
    /// Where in storage.
    path: String,
    /// The value, written as it is.
    value: Option<Secret>,
    /// `base64` when `value` is written so.
    #[serde(default)]
    encoding: String,
}

#[derive(Serialize, JsonSchema)]
struct Stored {
    /// The value: text, or base64 where that was asked for.
    value: String,
}

async fn read(cx: Cx<System>, input: At) -> Result<Data<Stored>> {
    let core = open(&cx, &input.path)?;
    let in_base64 = in_base64(&input.encoding)?;
    let entry = core.barrier.get(&input.path).await?;
    let entry = entry.ok_or_else(Error::not_found)?;
    let value = match in_base64 {
        true => STANDARD.encode(&*entry.value),
        false => std::str::from_utf8(&entry.value)
            .map_err(|_| Error::bad_request("the value is no text: ask with encoding=base64"))?
            .to_owned(),
    };
    Ok(Data(Stored { value }))
}

async fn write(cx: Cx<System>, input: Write) -> Result<NoContent> {
    let core = open(&cx, &input.path)?;
    let in_base64 = in_base64(&input.encoding)?;
    let value = input
        .value
        .ok_or_else(|| Error::bad_request("missing required field \"value\""))?;
    let bytes = match in_base64 {
        true => STANDARD
            .decode(value.expose())
            .map_err(|_| Error::bad_request("field \"value\": expected base64"))?,
        false => value.expose().as_bytes().to_vec(),
    };
    let mut batch = Batch::new();
    batch.put(input.path.as_str(), bytes);
    core.barrier.commit(batch).await?;
    tracing::warn!(path = %input.path, "a stored value was written through sys/raw");
    Ok(NoContent)
}

async fn remove(cx: Cx<System>, input: At) -> Result<NoContent> {
    let core = open(&cx, &input.path)?;
    let mut batch = Batch::new();
    batch.delete(input.path.as_str());
    core.barrier.commit(batch).await?;
    tracing::warn!(path = %input.path, "a stored value was deleted through sys/raw");
    Ok(NoContent)
}

async fn list_top(cx: Cx<System>, page: Page) -> Result<Keys> {
    names(&cx, "", &page).await
}

async fn list_folder(cx: Cx<System>, input: Folder) -> Result<Keys> {
    names(&cx, &format!("{}/", input.path), &input.page).await
}

async fn names(cx: &Cx<System>, folder: &str, page: &Page) -> Result<Keys> {
    let core = open(cx, folder)?;
    let after = (!page.after.is_empty()).then_some(page.after.as_str());
    let most = match usize::try_from(page.limit.0).unwrap_or(usize::MAX) {
        0 => MAX_NAMES + 1,
        asked => asked.min(MAX_NAMES + 1),
    };
    let keys = core.barrier.list(folder, after, most).await?;
    if keys.len() > MAX_NAMES {
        return Err(Error::bad_request(format!(
            "there are more than {MAX_NAMES} names: ask for them in pages, with limit and after"
        )));
    }
    Ok(Keys { keys })
}

/// The core, where this path may be looked at.
fn open(cx: &Cx<System>, path: &str) -> Result<std::sync::Arc<Core>> {
    let core = cx.core()?;
    if !core.settings.raw_storage {
        return Err(Error::not_found_because(
            "sys/raw is off: raw_storage_endpoint of the configuration turns it on",
        ));
    }
    if Barrier::is_its_own(path) {
        return Err(Error::bad_request(
            "this path holds keys of the server, which are not shown or written",
        ));
    }
    Ok(core)
}

fn in_base64(encoding: &str) -> Result<bool> {
    match encoding {
        "" => Ok(false),
        "base64" => Ok(true),
        _ => Err(Error::bad_request(
            "field \"encoding\": expected base64 or nothing",
        )),
    }
}

const MAX_NAMES: usize = 250_000;
