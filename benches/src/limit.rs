//! The limit of reads: the same axum and serde_json with a handler that does nothing.

use axum::Router;
use axum::routing::any;
use serde_json::json;

use crate::Failure;

/// Serves on a free port, whose number it prints, until it is killed.
pub(crate) fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?.port());
        let router = Router::new().fallback(any(|| async {
            axum::Json(json!({ "data": { "value": "empty" } }))
        }));
        axum::serve(listener, router).await?;
        Ok(())
    })
}
