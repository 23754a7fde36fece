//! Durable writes over HTTP against the storage engine's own synced puts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::limit::{Limit, VALUE};
use crate::load::request;
use crate::process::Server;
use crate::rounds::{Line, compare};
use crate::table::{THROUGHPUT, Table};
use crate::{Failure, Plan};

const CLIENTS: usize = 64;

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mut table = Table::new("Durable writes, 64 clients", &THROUGHPUT);
    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path()).await?;
    let (root, _) = server.set_up().await?;
    let body = json!({ "data": { "value": "x".repeat(VALUE - 150) } }).to_string();
    let (token, text) = (root.clone(), body.clone());
    let next = AtomicU64::new(0);
    let fresh = Line::new("kv v2 write, new secrets", "≥ 50 %", move |client, _| {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let path = format!("/v1/secret/data/c{client}/n{n}");
        request("POST", &path, &token, Some(&text))
    });
    let again = Line::new("kv v2 write, new versions", "≥ 50 %", move |client, _| {
        let path = format!("/v1/secret/data/c{client}/same");
        request("POST", &path, &root, Some(&body))
    });
    let limit = Limit::synced_puts()?;
    compare(&mut table, plan, &limit, &server, CLIENTS, &[fresh, again]).await?;
    table.print();
    Ok(())
}
