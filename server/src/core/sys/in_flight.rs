//! `sys/in-flight-req`: the requests that are being worked on.

use obol_mount::{Cx, Reply, Response, Result, Routes, get};
use serde_json::{Map, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::System;

pub(super) fn routes() -> Routes<System> {
    Routes::new().sudo(
        "in-flight-req",
        "The requests that are being worked on, by their ids",
        get(show),
    )
}

async fn show(cx: Cx<System>) -> Result<Response> {
    let mut data = Map::new();
    for request in cx.core()?.in_flight.all() {
        let shown = json!({
            "start_time": OffsetDateTime::from(request.since).format(&Rfc3339).ok(),
            "client_remote_address": request.peer.map(|peer| peer.to_string()),
            "request_path": format!("/v1/{}", request.path),
            "request_method": request.method,
        });
        data.insert(request.id, shown);
    }
    Ok(Response::new(Reply::Data(data)))
}
