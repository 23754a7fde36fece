//! `sys/loggers` and `sys/monitor`: how much the server logs, and what, as it happens. Levels that are set here last
//! until the server restarts or reads its configuration anew.

use std::collections::BTreeMap;

use bytes::Bytes;
use obol_mount::{
    Cx, Data, Error, NoContent, Output, Part, Reply, Response, Result, Routes, Stream, get,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::System;
use crate::core::logs::{LOGGERS, LogLevel};

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "loggers",
            "The levels of all loggers",
            get(levels).post(set_all).delete(reset_all),
        )
        .at(
            "loggers/{name}",
            "The level of one logger",
            get(level).post(set).delete(reset),
        )
        .at(
            "monitor",
            "What the server logs, as it happens, until the client goes away",
            get(monitor),
        )
}

pub(super) async fn levels(cx: Cx<System>) -> Result<Data<BTreeMap<&'static str, String>>> {
    Ok(Data(cx.core()?.logs()?.levels()))
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct AllInput {
    /// `trace`, `debug`, `info`, `warn`, `error` or `off`.
    level: String,
}

pub(super) async fn set_all(cx: Cx<System>, input: AllInput) -> Result<NoContent> {
    let level = parse("level", &input.level)?;
    cx.core()?.logs()?.set(None, Some(level))?;
    tracing::info!(level = level.as_str(), "all loggers were set");
    Ok(NoContent)
}

pub(super) async fn reset_all(cx: Cx<System>) -> Result<NoContent> {
    cx.core()?.logs()?.set(None, None)?;
    Ok(NoContent)
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct NameInput {
    /// `auth`, `core`, `directory`, `http`, `kerberos`, `mount`, `secrets`, `server` or `storage`.
    name: String,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct OneInput {
    /// `auth`, `core`, `directory`, `http`, `kerberos`, `mount`, `secrets`, `server` or `storage`.
    name: String,
    /// `trace`, `debug`, `info`, `warn`, `error` or `off`.
    level: String,
}

pub(super) async fn level(
    cx: Cx<System>,
    input: NameInput,
) -> Result<Data<BTreeMap<&'static str, String>>> {
    let name = known(&input.name)?;
    let mut levels = cx.core()?.logs()?.levels();
    levels.retain(|known, _| *known == name);
    Ok(Data(levels))
}

pub(super) async fn set(cx: Cx<System>, input: OneInput) -> Result<NoContent> {
    let (name, level) = (known(&input.name)?, parse("level", &input.level)?);
    cx.core()?.logs()?.set(Some(name), Some(level))?;
    tracing::info!(logger = name, level = level.as_str(), "a logger was set");
    Ok(NoContent)
}

pub(super) async fn reset(cx: Cx<System>, input: NameInput) -> Result<NoContent> {
    cx.core()?.logs()?.set(Some(known(&input.name)?), None)?;
    Ok(NoContent)
}

fn known(name: &str) -> Result<&'static str> {
    let names = LOGGERS.map(|(name, _)| name);
    names
        .into_iter()
        .find(|known| *known == name)
        .ok_or_else(|| {
            Error::bad_request(format!("no such logger: there are {}", names.join(", ")))
        })
}

fn parse(field: &str, level: &str) -> Result<LogLevel> {
    LogLevel::parse(level).ok_or_else(|| {
        Error::bad_request(format!(
            "field {field:?}: expected trace, debug, info, warn, error or off"
        ))
    })
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct MonitorInput {
    /// How important a line must be: `trace`, `debug`, `info` (the default), `warn` or `error`. It may be more than
    /// the server writes to its own log.
    #[serde(default)]
    log_level: String,
    /// `standard` (the default) or `json`, one object a line.
    #[serde(default)]
    log_format: String,
}

/// Lines of the log.
pub(super) struct Lines(Stream);

impl Output for Lines {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(Reply::Stream(self.0)))
    }

    const PART: Part = Part::Body;
    const MEDIA: &'static [&'static str] = &["text/plain"];
}

pub(super) async fn monitor(cx: Cx<System>, input: MonitorInput) -> Result<Lines> {
    let level = match input.log_level.as_str() {
        "" => LogLevel::Info,
        level => match parse("log_level", level)? {
            LogLevel::Off => {
                return Err(Error::bad_request(
                    "field \"log_level\": expected trace, debug, info, warn or error",
                ));
            }
            level => level,
        },
    };
    let json = match input.log_format.as_str() {
        "" | "standard" => false,
        "json" => true,
        _ => {
            return Err(Error::bad_request(
                "field \"log_format\": expected standard or json",
            ));
        }
    };
    let mut monitor = cx.core()?.logs()?.monitor(level)?;
    let (sender, pieces) = mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            let line = tokio::select! {
                line = monitor.next(json) => line,
                () = sender.closed() => return,
            };
            let Some(line) = line else { return };
            if sender.send(Ok(Bytes::from(line))).await.is_err() {
                return;
            }
        }
    });
    Ok(Lines(Stream {
        content_type: "text/plain; charset=utf-8",
        pieces,
    }))
}
