//! `sys/plugins`: what can be mounted. Everything is built in; nothing can be registered, reloaded or pinned.

use obol_mount::{Cx, Data, Error, Family, Keys, Kind, NoContent, Result, Routes, get, list, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// Everything that can be mounted.
#[derive(Serialize, JsonSchema)]
pub(super) struct Catalog {
    /// The names of the auth methods.
    auth: Vec<&'static str>,
    /// Of databases; there are none.
    database: Vec<&'static str>,
    /// Of the secrets engines.
    secret: Vec<&'static str>,
    /// All of them with what else is known.
    detailed: Vec<Detailed>,
}

/// One thing that can be mounted.
#[derive(Serialize, JsonSchema)]
struct Detailed {
    /// Always true: everything is part of the server.
    builtin: bool,
    /// `supported`.
    deprecation_status: &'static str,
    /// As it is mounted with.
    name: &'static str,
    /// `auth` or `secret`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The server's version, marked as built in.
    version: String,
}

/// The same, asked for by its name.
#[derive(Serialize, JsonSchema)]
pub(super) struct One {
    /// Always true: everything is part of the server.
    builtin: bool,
    /// `supported`.
    deprecation_status: &'static str,
    /// As it is mounted with.
    name: &'static str,
    /// The server's version, marked as built in.
    version: String,
    /// Always empty: there is no program to start.
    args: Vec<&'static str>,
    /// Always empty, likewise.
    command: &'static str,
    /// Always empty, likewise.
    sha256: &'static str,
}

impl Detailed {
    fn of(kind: &Kind) -> Self {
        Self {
            builtin: true,
            deprecation_status: "supported",
            name: kind.name,
            kind: type_of(kind),
            version: format!("v{VERSION}+builtin"),
        }
    }
}

pub(super) async fn catalog(cx: Cx<System>) -> Result<Data<Catalog>> {
    let core = cx.core()?;
    let of_type = |wanted: &str| {
        let known = core.kinds.iter().filter(|kind| type_of(kind) == wanted);
        let mut names: Vec<&'static str> = known.map(|kind| kind.name).collect();
        names.sort_unstable();
        names
    };
    Ok(Data(Catalog {
        auth: of_type("auth"),
        database: Vec::new(),
        secret: of_type("secret"),
        detailed: core.kinds.iter().map(Detailed::of).collect(),
    }))
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

pub(super) async fn one(cx: Cx<System>, input: NameInput) -> Result<Data<One>> {
    check_type(&input.kind)?;
    let core = cx.core()?;
    let found = core
        .kinds
        .iter()
        .find(|kind| type_of(kind) == input.kind && kind.name == input.name)
        .ok_or_else(Error::not_found)?;
    let Detailed {
        builtin,
        deprecation_status,
        name,
        kind: _,
        version,
    } = Detailed::of(found);
    Ok(Data(One {
        builtin,
        deprecation_status,
        name,
        version,
        args: Vec::new(),
        command: "",
        sha256: "",
    }))
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
