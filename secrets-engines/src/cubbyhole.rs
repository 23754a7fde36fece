//! Cubbyhole: a place of its own for every service token, which goes with the token. Nobody else
//! reaches it, whatever their policies say.
//!
//! A value lies at `<token id>/<path>`; the id is the one under which the core stores the token,
//! not the token itself.

use std::sync::Arc;

use obol_mount::{
    Backend, Caller, Cx, Error, Family, Keys, Kind, MountContext, NoContent, OpenFuture, Output,
    Reply, RequestInfo, Response, Result, RouteTable, Routes, TokenKind, get, list,
};
use obol_storage::{Batch, View};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::listing::Page;
use crate::numbers::refuse_rounded;

pub(crate) fn kind() -> Kind {
    Kind {
        name: "cubbyhole",
        aliases: &[],
        family: Family::Secrets,
        about: "Secrets of one token, which nobody else can read and which go with it",
        open: Arc::new(open),
        docs: || routes().docs(),
    }
}

fn open(context: MountContext) -> OpenFuture {
    Box::pin(async move {
        Ok(Arc::new(Cubbyhole {
            storage: context.storage,
        }) as Arc<dyn Backend>)
    })
}

struct Cubbyhole {
    storage: View,
}

impl Backend for Cubbyhole {
    fn routes(self: Arc<Self>) -> Result<RouteTable> {
        routes().bind(self)
    }

    fn forget_token(&self, token_id: &str, batch: &mut Batch) {
        // Nothing was ever stored for an id that is no folder's name.
        if let Some(folder) = folder(token_id) {
            self.storage.delete_prefix_in(batch, &folder);
        }
    }
}

fn routes() -> Routes<Cubbyhole> {
    Routes::new()
        .at(
            "",
            "All values at the top of the token's cubbyhole",
            list(list_root),
        )
        .at(
            "{path*}",
            "A value in the token's cubbyhole; or the values in a folder of it",
            get(read)
                .post(write)
                .delete(remove)
                .list(list_folder)
                .exists(exists)
                .verbatim(),
        )
}

/// What was written: any JSON object.
#[derive(JsonSchema)]
struct Stored(Map<String, Value>);

/// Any JSON object that is not empty.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct Write(Map<String, Value>);

/// The request's own fields do not matter, and may be called anything.
#[derive(Deserialize, JsonSchema)]
struct Anything {}

async fn read(cx: Cx<Cubbyhole>) -> Result<Option<Stored>> {
    Ok(cx.storage.get_json(&place(&cx.request)?).await?.map(Stored))
}

async fn write(cx: Cx<Cubbyhole>, Write(fields): Write) -> Result<NoContent> {
    let place = place(&cx.request)?;
    if fields.is_empty() {
        return Err(Error::bad_request("missing data fields"));
    }
    refuse_rounded(&fields)?;
    cx.storage.put_json(&place, &fields).await?;
    Ok(NoContent)
}

async fn remove(cx: Cx<Cubbyhole>) -> Result<NoContent> {
    cx.storage.delete(&place(&cx.request)?).await?;
    Ok(NoContent)
}

async fn list_root(cx: Cx<Cubbyhole>, page: Page) -> Result<Keys> {
    page.of(&cx.storage, &home(&cx.request)?).await
}

async fn list_folder(cx: Cx<Cubbyhole>, page: Page) -> Result<Keys> {
    page.of(&cx.storage, &format!("{}/", place(&cx.request)?))
        .await
}

async fn exists(cx: Cx<Cubbyhole>, _: Anything) -> Result<bool> {
    Ok(cx.storage.get(&place(&cx.request)?).await?.is_some())
}

/// Where the value is that the request names.
fn place(request: &RequestInfo) -> Result<String> {
    Ok(home(request)? + request.path.trim_end_matches('/'))
}

/// The folder of the caller's values.
fn home(request: &RequestInfo) -> Result<String> {
    let Caller { token_id, kind, .. } = request.caller()?;
    if token_id.is_empty() || *kind == TokenKind::Batch {
        return Err(Error::bad_request(
            "cubbyhole operations are only supported by service tokens",
        ));
    }
    folder(token_id).ok_or_else(|| Error::internal("a token's storage id holds a slash"))
}

/// The folder of a token. An id with a slash would reach into another token's.
fn folder(token_id: &str) -> Option<String> {
    (!token_id.is_empty() && !token_id.contains('/')).then(|| format!("{token_id}/"))
}

impl Output for Stored {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(Reply::Data(self.0)))
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Self>())
    }
}
