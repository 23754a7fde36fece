//! `sys/metrics`: what the server counts about itself, for Prometheus or as JSON.

use obol_mount::{Bare, Cx, Error, Output, Part, Reply, Response, Result, Routes, Text, get};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use super::System;
use crate::core::metrics::{JsonMetrics, json, prometheus};

pub(super) fn routes() -> Routes<System> {
    Routes::new().at(
        "metrics",
        "What the server counts about itself. Without a token where the listener allows that",
        get(metrics),
    )
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct MetricsInput {
    /// `prometheus` for its text format; JSON otherwise.
    #[serde(default)]
    format: String,
}

/// An object, or text.
pub(super) enum Shown {
    Json(Bare<JsonMetrics>),
    Prometheus(Text),
}

impl Output for Shown {
    fn into_response(self) -> Result<Response> {
        match self {
            Self::Json(metrics) => metrics.into_response(),
            Self::Prometheus(text) => Ok(Response::new(Reply::Text(text))),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Bare::<JsonMetrics>::schema(generator)
    }

    const PART: Part = Part::Body;
    const MEDIA: &'static [&'static str] = &["application/json", "text/plain"];
}

pub(super) async fn metrics(cx: Cx<System>, input: MetricsInput) -> Result<Shown> {
    let core = cx.core()?;
    match input.format.as_str() {
        "" => Ok(Shown::Json(Bare(json(&core.metric_families())?))),
        "prometheus" if !core.settings.telemetry.prometheus => Err(Error::bad_request(
            "prometheus is not enabled: telemetry { prometheus_retention_time } is 0",
        )),
        "prometheus" => Ok(Shown::Prometheus(Text {
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            text: prometheus(&core.metric_families())?,
        })),
        _ => Err(Error::bad_request(
            "field \"format\": expected \"prometheus\", or nothing for JSON",
        )),
    }
}
