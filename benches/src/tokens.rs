//! What makes tokens, against the storage engine's own synced puts.

use std::time::Duration;

use serde_json::{Value, json};

use crate::limit::Limit;
use crate::load::{self, request};
use crate::process::Server;
use crate::rounds::{Line, compare};
use crate::table::{THROUGHPUT, Table};
use crate::{Failure, Plan};

const CLIENTS: usize = 64;

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mut table = Table::new("Tokens, 64 clients", &THROUGHPUT);
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

    let line = |name, aim, path: &'static str, body: &Value| {
        let token = match path {
            CREATE => root.clone(),
            _ => String::new(),
        };
        let body = body.to_string();
        Line::new(name, aim, move |_, _| {
            request("POST", path, &token, Some(&body))
        })
    };
    let batch = json!({ "ttl": "1h", "type": "batch", "policies": ["default"] });
    let hashed = "userpass login (argon2id)";
    let lines = [
        line("token create", "≥ 50 %", CREATE, &json!({ "ttl": "1h" })),
        line("approle login", "≥ 50 %", "/v1/auth/approle/login", &robot),
        Line {
            tells_writes: true,
            ..line("batch token create", "no disk write", CREATE, &batch)
        },
    ];
    let limit = Limit::synced_puts()?;
    let limit = compare(&mut table, plan, &limit, &server, CLIENTS, &lines).await?;
    // By itself: its hashes take the cores for a second after the last request.
    let ada = line(
        hashed,
        "its hash's cost",
        "/v1/auth/userpass/login/ada",
        &ada,
    );
    let make = ada.make.clone();
    let time = Duration::from_secs(plan.seconds);
    let run = load::run(server.address, CLIENTS, time, move |c, n| make(c, n)).await?;
    let resident = server.resident()?;
    let share = run.per_second() / limit;
    table.measured(ada.name, &run.measured(), Some(resident), share, ada.aim);
    table.print();
    Ok(())
}

const CREATE: &str = "/v1/auth/token/create";
