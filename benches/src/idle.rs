//! A server that does nothing: how soon it answers, and what it takes.

use std::time::Duration;

use crate::Failure;
use crate::process::Server;
use crate::table::Table;

pub(crate) async fn run() -> Result<(), Failure> {
    let mut table = Table::new("An idle server on RocksDB", &["what", "measured", "aim"]);
    let dir = tempfile::tempdir()?;
    {
        let server = Server::start(dir.path()).await?;
        server.set_up().await?;
    }
    // Started again on data that is there: the usual case.
    let server = Server::start(dir.path()).await?;
    table.row(&[
        "first answer after the start".into(),
        format!("{:.0} ms", server.first_answer.as_secs_f64() * 1e3),
        "≤ 300 ms".into(),
    ]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    table.row(&[
        "resident, sealed".into(),
        format!("{:.1} MiB", server.resident()?),
        "≤ 40 MB".into(),
    ]);
    table.print();
    Ok(())
}
