//! Reads over HTTP against an empty handler.

use serde_json::json;

use crate::load::{self, request};
use crate::process::{Server, empty_handler};
use crate::table::{THROUGHPUT, Table};
use crate::{Failure, Plan};

const CLIENTS: usize = 32;

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mut table = Table::new("Reads over HTTP, 32 connections", &THROUGHPUT);
    let limit = empty_handler(CLIENTS, plan.seconds).await?;
    table.measured(
        "axum with an empty JSON handler",
        &limit,
        None,
        limit.per_second,
        "the limit",
    );

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

    for (name, path) in [
        ("token lookup-self", "/v1/auth/token/lookup-self"),
        ("kv v2 read", "/v1/secret/data/app/db"),
    ] {
        let token = token.clone();
        let measured = load::run(server.address, CLIENTS, plan.seconds, move |_, _| {
            request("GET", path, &token, None)
        })
        .await?;
        table.measured(
            name,
            &measured,
            Some(server.resident()?),
            limit.per_second,
            "≥ 60 %",
        );
    }
    table.print();
    Ok(())
}
