//! `sys/plugins`: what can be mounted. Everything is built in; nothing can be registered, reloaded or pinned.

use obol_mount::{
    Cx, Error, Family, Keys, Kind, NoContent, Reply, Response, Result, Routes, get, list, post,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::System;
use crate::core::VERSION;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .sudo(
            "plugins/catalog",
            "Everything that can be mounted",
            get(catalog),
        )
        .sudo(
            "plugins/catalog/{type}",
            "What can be mounted of one type: auth, secret or database",
            list(of_type),
        )
        .sudo(
            "plugins/catalog/{type}/{name}",
            "One thing that can be mounted",
            get(one).post(refuse).delete(refuse),
        )
        .sudo(
            "plugins/reload/backend",
            "Not offered: everything is part of the server",
            post(refuse),
        )
}

/// `auth` or `secret`, as Vault calls the families there.
fn type_of(kind: &Kind) -> &'static str {
    match kind.family {
        Family::Auth => "auth",
        Family::Secrets => "secret",
    }
}

fn show(kind: &Kind) -> Value {
    json!({
        "builtin": true,
        "deprecation_status": "supported",
        "name": kind.name,
        "type": type_of(kind),
        "version": format!("v{VERSION}+builtin"),
    })
}

pub(super) async fn catalog(cx: Cx<System>) -> Result<Response> {
    let core = cx.core()?;
    let mut data = Map::new();
    for kind in ["auth", "database", "secret"] {
        let mut names: Vec<&str> = core
            .kinds
            .iter()
            .filter(|known| type_of(known) == kind)
            .map(|known| known.name)
            .collect();
        names.sort_unstable();
        data.insert(kind.into(), names.into());
    }
    let detailed: Vec<Value> = core.kinds.iter().map(show).collect();
    data.insert("detailed".into(), detailed.into());
    Ok(Response::new(Reply::Data(data)))
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct TypeInput {
    /// `auth`, `secret` or `database`.
    #[serde(rename = "type")]
    kind: String,
}

pub(super) async fn of_type(cx: Cx<System>, input: TypeInput) -> Result<Keys> {
    check_type(&input.kind)?;
    let core = cx.core()?;
    let of_type = core.kinds.iter().filter(|kind| type_of(kind) == input.kind);
    let mut keys: Vec<String> = of_type.map(|kind| kind.name.to_owned()).collect();
    keys.sort_unstable();
    Ok(Keys { keys })
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct NameInput {
    /// `auth`, `secret` or `database`.
    #[serde(rename = "type")]
    kind: String,
    /// As it is mounted with.
    name: String,
}

pub(super) async fn one(cx: Cx<System>, input: NameInput) -> Result<Response> {
    check_type(&input.kind)?;
    let core = cx.core()?;
    let found = core
        .kinds
        .iter()
        .find(|kind| type_of(kind) == input.kind && kind.name == input.name)
        .ok_or_else(Error::not_found)?;
    let Value::Object(mut data) = show(found) else {
        return Err(Error::internal("what is shown of a kind is an object"));
    };
    data.remove("type");
    data.insert("args".into(), json!([]));
    data.insert("command".into(), "".into());
    data.insert("sha256".into(), "".into());
    Ok(Response::new(Reply::Data(data)))
}

fn check_type(kind: &str) -> Result<()> {
    match kind {
        "auth" | "secret" | "database" => Ok(()),
        _ => Err(Error::bad_request(
            "field \"type\": expected auth, secret or database",
        )),
    }
}

pub(super) async fn refuse(_: Cx<System>) -> Result<NoContent> {
    Err(Error::bad_request(
        "plugins are not supported: everything that can be mounted is part of the server",
    ))
}
