//! Reads over HTTP against an empty handler.

use serde_json::json;

use crate::limit::Limit;
use crate::load::request;
use crate::process::Server;
use crate::rounds::{Line, compare};
use crate::table::{THROUGHPUT, Table};
use crate::{Failure, Plan};

const CLIENTS: usize = 32;

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mut table = Table::new("Reads over HTTP, 32 connections", &THROUGHPUT);
    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path()).await?;
    let (root, _) = server.set_up().await?;
    server
        .call(
            "POST",
            "/v1/secret/data/app/db",
            &root,
            Some(json!({ "data": { "user": "app", "password": "correct horse battery staple" } })),
        )
        .await?;
    let policy = "path \"secret/data/app/*\" {\n  capabilities = [\"read\"]\n}\n";
    server
        .call(
            "POST",
            "/v1/sys/policies/acl/app",
            &root,
            Some(json!({ "policy": policy })),
        )
        .await?;
    let created = server
        .call(
            "POST",
            "/v1/auth/token/create",
            &root,
            Some(json!({ "policies": ["app"] })),
        )
        .await?;
    let token = created["auth"]["client_token"]
        .as_str()
        .ok_or("no token")?
        .to_owned();

    let get = |name, path: &'static str| {
        let token = token.clone();
        Line::new(name, "≥ 60 %", move |_, _| {
            request("GET", path, &token, None)
        })
    };
    let lines = [
        get("token lookup-self", "/v1/auth/token/lookup-self"),
        get("kv v2 read", "/v1/secret/data/app/db"),
    ];
    let limit = Limit::empty_handler()?;
    compare(&mut table, plan, &limit, &server, CLIENTS, &lines).await?;
    table.print();
    Ok(())
}
