//! What makes tokens, against the storage engine's own synced puts.

use serde_json::{Value, json};

use crate::load::{self, request};
use crate::process::Server;
use crate::table::{THROUGHPUT, Table};
use crate::writes::synced_puts;
use crate::{Failure, Plan};

const CLIENTS: usize = 64;

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mut table = Table::new("Tokens, 64 clients", &THROUGHPUT);
    let limit = tokio::task::spawn_blocking(move || synced_puts(plan.seconds)).await??;
    table.measured(
        "RocksDB synced puts, 600 bytes, 64 threads",
        &limit,
        None,
        limit.per_second,
        "the limit",
    );

    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path()).await?;
    let (root, _) = server.set_up().await?;
    let post = async |path: &str, body: Value| server.call("POST", path, &root, Some(body)).await;
    post("/v1/sys/auth/approle", json!({ "type": "approle" })).await?;
    post("/v1/auth/approle/role/robot", json!({ "token_ttl": "1h" })).await?;
    let role = server
        .call("GET", "/v1/auth/approle/role/robot/role-id", &root, None)
        .await?;
    let secret = post("/v1/auth/approle/role/robot/secret-id", json!({})).await?;
    let robot = json!({
        "role_id": role["data"]["role_id"],
        "secret_id": secret["data"]["secret_id"],
    });
    post("/v1/sys/auth/userpass", json!({ "type": "userpass" })).await?;
    let ada = json!({ "password": "correct horse battery staple" });
    post("/v1/auth/userpass/users/ada", ada.clone()).await?;

    for (name, path, body, aim) in [
        (
            "token create",
            "/v1/auth/token/create",
            json!({ "ttl": "1h" }),
            "≥ 50 %",
        ),
        ("approle login", "/v1/auth/approle/login", robot, "≥ 50 %"),
        (
            "batch token create",
            "/v1/auth/token/create",
            json!({ "ttl": "1h", "type": "batch", "policies": ["default"] }),
            "no disk write",
        ),
        (
            "userpass login (argon2id)",
            "/v1/auth/userpass/login/ada",
            ada,
            "its hash's cost",
        ),
    ] {
        let token = match path {
            "/v1/auth/token/create" => root.clone(),
            _ => String::new(),
        };
        let body = body.to_string();
        let written = server.written()?;
        let measured = load::run(server.address, CLIENTS, plan.seconds, move |_, _| {
            request("POST", path, &token, Some(&body))
        })
        .await?;
        let name = match server.written()? - written {
            0 => format!("{name}: 0 bytes written"),
            _ => name.to_owned(),
        };
        table.measured(
            &name,
            &measured,
            Some(server.resident()?),
            limit.per_second,
            aim,
        );
    }
    table.print();
    Ok(())
}
