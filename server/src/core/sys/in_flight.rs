//! `sys/in-flight-req`: the requests that are being worked on.

use std::collections::BTreeMap;

use obol_mount::{Cx, Data, Result, Routes, get};
use schemars::JsonSchema;
use serde::Serialize;
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

/// A request that is being worked on.
#[derive(Serialize, JsonSchema)]
struct ShownRequest {
    /// RFC 3339.
    start_time: Option<String>,
    /// Whom it comes from.
    client_remote_address: Option<String>,
    /// With `/v1/`.
    request_path: String,
    /// The HTTP method, such as `GET` or `LIST`; `other` for one that the server does not know.
    request_method: &'static str,
}

async fn show(cx: Cx<System>) -> Result<Data<BTreeMap<String, ShownRequest>>> {
    let shown = cx.core()?.in_flight.all().into_iter().map(|request| {
        let shown = ShownRequest {
            start_time: OffsetDateTime::from(request.since).format(&Rfc3339).ok(),
            client_remote_address: request.peer.map(|peer| peer.to_string()),
            request_path: format!("/v1/{}", request.path),
            request_method: request.method,
        };
        (request.id, shown)
    });
    Ok(Data(shown.collect()))
}
