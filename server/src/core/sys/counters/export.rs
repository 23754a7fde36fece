//! `sys/internal/counters/activity/export`: who the clients of a time were, each once, as lines of JSON or as CSV. It is
//! sent as it is read, so it may be long.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use obol_mount::{Cx, Error, Output, Reply, Response, Result, Routes, Stream, get};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::times::{Moment, range};
use crate::core::activity::{Client, ClientKind, Range};
use crate::core::sys::System;
use crate::core::{Live, rfc3339, unix_now};

pub(super) fn routes() -> Routes<System> {
    Routes::new().sudo(
        "internal/counters/activity/export",
        "Who the clients of a time were, each once: lines of JSON, or CSV",
        get(export),
    )
}

#[derive(Deserialize, JsonSchema)]
struct Asked {
    /// The first month is the one of this time: RFC 3339, or seconds since 1970. Without it the export begins eleven
    /// months before the one that it ends with.
    #[serde(default)]
    start_time: Moment,
    /// The last month is the one of this time: RFC 3339, or seconds since 1970. Without it, the present one.
    #[serde(default)]
    end_time: Moment,
    /// `json` (the default), one object a line; or `csv`.
    #[serde(default)]
    format: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

impl Format {
    fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ => Err(Error::bad_request("field \"format\": expected json or csv")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }

    fn media(self) -> &'static str {
        match self {
            Self::Json => NDJSON,
            Self::Csv => CSV,
        }
    }
}

/// Lines, or nothing where there was no client.
enum Exported {
    Lines(Stream, String),
    Nothing,
}

impl Output for Exported {
    fn into_response(self) -> Result<Response> {
        let (stream, name) = match self {
            Self::Lines(stream, name) => (stream, name),
            Self::Nothing => return Ok(Response::new(Reply::Empty)),
        };
        let mut response = Response::new(Reply::Stream(stream));
        let disposition = format!("attachment; filename=\"{name}\"");
        response.headers.push(("Content-Disposition", disposition));
        Ok(response)
    }

    const ALSO: &'static [u16] = &[204];
    // Nothing at all, with something to warn of, is an envelope.
    const MEDIA: &'static [&'static str] = &[NDJSON, "text/csv", "application/json"];
}

async fn export(cx: Cx<System>, input: Asked) -> Result<Exported> {
    let (live, now) = (cx.live()?, unix_now());
    let format = Format::parse(&input.format)?;
    let config = live.activity.config();
    let Some(range) = range(input.start_time, input.end_time, &config, now)? else {
        return Ok(Exported::Nothing);
    };
    let turn = Arc::clone(&live.activity.exporting)
        .try_acquire_owned()
        .map_err(|_| Error::too_many("another export is under way; try again"))?;
    live.activity.flush().await?;
    if !live.activity.has_any(range).await? {
        return Ok(Exported::Nothing);
    }
    let columns = match format {
        Format::Json => Columns::default(),
        Format::Csv => Columns::of(&live, range).await?,
    };
    let name = format!(
        "activity_export_{}_to_{}.{}",
        range.first,
        range.last,
        format.name()
    );
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let _turn = turn;
        let sending = Sending {
            sender: &sender,
            piece: Vec::new(),
        };
        if let Err(error) = send(&live, range, format, &columns, sending).await {
            tracing::warn!(%error, "an export of clients was not finished");
            // The client must not take this for the end.
            let _ = sender.try_send(Err(error));
        }
    });
    let stream = Stream {
        content_type: format.media(),
        pieces,
    };
    Ok(Exported::Lines(stream, name))
}

async fn send(
    live: &Live,
    range: Range,
    format: Format,
    columns: &Columns,
    mut sending: Sending<'_>,
) -> Result<()> {
    if format == Format::Csv {
        sending.piece.extend_from_slice(columns.header().as_bytes());
    }
    let mut clients = live.activity.firsts(range);
    while let Some((id, client)) = clients.next().await? {
        let row = Row::new(live, id, client).await?;
        match format {
            Format::Json => {
                serde_json::to_writer(&mut sending.piece, &row).map_err(Error::internal)?;
                sending.piece.push(b'\n');
            }
            Format::Csv => sending
                .piece
                .extend_from_slice(columns.line(&row).as_bytes()),
        }
        if sending.piece.len() >= PIECE {
            sending.flush().await?;
        }
    }
    sending.flush().await
}

/// Lines on their way to the client.
struct Sending<'a> {
    sender: &'a mpsc::Sender<Result<Bytes>>,
    piece: Vec<u8>,
}

impl Sending<'_> {
    async fn flush(&mut self) -> Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        // One export runs at a time: a client that stops reading must not hold up the next.
        match tokio::time::timeout(PATIENCE, self.sender.send(Ok(piece))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::internal("the client went away")),
            Err(_) => Err(Error::internal("the client read too slowly")),
        }
    }
}

/// A client, as Vault shows it. Of an entity that is gone, its id is left.
#[derive(Serialize)]
struct Row {
    entity_name: String,
    entity_alias_name: String,
    local_entity_alias: bool,
    client_id: String,
    client_type: ClientKind,
    namespace_id: &'static str,
    namespace_path: &'static str,
    mount_accessor: String,
    mount_type: String,
    mount_path: String,
    timestamp: String,
    policies: Vec<String>,
    entity_metadata: BTreeMap<String, String>,
    entity_alias_metadata: BTreeMap<String, String>,
    entity_alias_custom_metadata: BTreeMap<String, String>,
    entity_group_ids: Vec<String>,
}

impl Row {
    async fn new(live: &Live, id: String, client: Client) -> Result<Self> {
        let mounts = live.mounts.all();
        let mount = mounts
            .iter()
            .find(|mounted| mounted.entry.accessor == client.accessor);
        // Of a mount that is gone: where it was.
        let mount_path = mount.map_or(client.mount, |mounted| mounted.entry.path.clone());
        let timestamp =
            rfc3339(client.seen).ok_or_else(|| Error::internal("a client of no time"))?;
        let mut row = Self {
            entity_name: String::new(),
            entity_alias_name: String::new(),
            local_entity_alias: false,
            client_id: id,
            client_type: client.kind,
            namespace_id: "root",
            namespace_path: "",
            mount_accessor: client.accessor,
            mount_type: client.mount_kind,
            mount_path,
            timestamp,
            policies: client.policies,
            entity_metadata: BTreeMap::new(),
            entity_alias_metadata: BTreeMap::new(),
            entity_alias_custom_metadata: BTreeMap::new(),
            entity_group_ids: Vec::new(),
        };
        if client.kind == ClientKind::Entity
            && let Some(found) = live.identity.resolve(&row.client_id).await?
        {
            let entity = &found.entity;
            row.entity_name.clone_from(&entity.name);
            row.policies.clone_from(&entity.policies);
            row.entity_metadata.clone_from(&entity.metadata);
            row.entity_group_ids = found.groups.iter().map(|group| group.id.clone()).collect();
            if let Some(alias) = entity.alias_at(&row.mount_accessor) {
                row.entity_alias_name.clone_from(&alias.name);
                row.local_entity_alias = alias.local;
                row.entity_alias_metadata.clone_from(&alias.metadata);
                row.entity_alias_custom_metadata
                    .clone_from(&alias.custom_metadata);
            }
        }
        Ok(row)
    }
}

/// The columns of a CSV beside those that it always has: one for each key and each place of a list that any client
/// has. So the clients are read twice.
#[derive(Default)]
struct Columns {
    custom_metadata: BTreeSet<String>,
    alias_metadata: BTreeSet<String>,
    metadata: BTreeSet<String>,
    groups: usize,
    policies: usize,
}

impl Columns {
    async fn of(live: &Live, range: Range) -> Result<Self> {
        let mut columns = Self::default();
        let mut clients = live.activity.firsts(range);
        while let Some((id, client)) = clients.next().await? {
            columns.make_room_for(&Row::new(live, id, client).await?)?;
        }
        Ok(columns)
    }

    fn make_room_for(&mut self, row: &Row) -> Result<()> {
        for (columns, map) in [
            (&mut self.custom_metadata, &row.entity_alias_custom_metadata),
            (&mut self.alias_metadata, &row.entity_alias_metadata),
            (&mut self.metadata, &row.entity_metadata),
        ] {
            for key in map.keys() {
                if !columns.contains(key) {
                    columns.insert(key.clone());
                }
            }
        }
        self.groups = self.groups.max(row.entity_group_ids.len());
        self.policies = self.policies.max(row.policies.len());
        let all = self.custom_metadata.len() + self.alias_metadata.len() + self.metadata.len();
        if all + self.groups + self.policies > MOST_COLUMNS {
            return Err(Error::bad_request(format!(
                "the clients have more than {MOST_COLUMNS} different keys and list items, which are columns of a CSV; ask for json"
            )));
        }
        Ok(())
    }

    fn header(&self) -> String {
        let mut line = String::new();
        for name in FIXED {
            cell(&mut line, name);
        }
        for (prefix, keys) in [
            ("entity_alias_custom_metadata", &self.custom_metadata),
            ("entity_alias_metadata", &self.alias_metadata),
            ("entity_metadata", &self.metadata),
        ] {
            for key in keys {
                cell(&mut line, &format!("{prefix}.{key}"));
            }
        }
        for (prefix, length) in [
            ("entity_group_ids", self.groups),
            ("policies", self.policies),
        ] {
            for at in 0..length {
                cell(&mut line, &format!("{prefix}.{at}"));
            }
        }
        end(line)
    }

    /// What has come up since the columns were made has none, and is left out.
    fn line(&self, row: &Row) -> String {
        let kind = match row.client_type {
            ClientKind::Entity => "entity",
            ClientKind::Token => "non-entity-token",
        };
        let local = row.local_entity_alias.to_string();
        let mut line = String::new();
        let names = [&row.entity_name, &row.entity_alias_name, &row.mount_path]
            .map(|name| no_formula(name));
        let [entity_name, entity_alias_name, mount_path] = &names;
        let fixed: [&str; FIXED.len()] = [
            entity_name,
            entity_alias_name,
            &row.client_id,
            kind,
            &local,
            row.namespace_id,
            row.namespace_path,
            &row.mount_accessor,
            mount_path,
            &row.mount_type,
            &row.timestamp,
        ];
        for value in fixed {
            cell(&mut line, value);
        }
        for (keys, map) in [
            (&self.custom_metadata, &row.entity_alias_custom_metadata),
            (&self.alias_metadata, &row.entity_alias_metadata),
            (&self.metadata, &row.entity_metadata),
        ] {
            for key in keys {
                let value = map.get(key).map_or("", String::as_str);
                cell(&mut line, &no_formula(value));
            }
        }
        for (length, list) in [
            (self.groups, &row.entity_group_ids),
            (self.policies, &row.policies),
        ] {
            for at in 0..length {
                let value = list.get(at).map_or("", String::as_str);
                cell(&mut line, &no_formula(value));
            }
        }
        end(line)
    }
}

/// What somebody has chosen, and somebody else opens with a spreadsheet, which takes text that begins like this for a
/// formula and runs it (OWASP: CSV injection). An apostrophe in front makes it text.
fn no_formula(value: &str) -> Cow<'_, str> {
    match value.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{value}").into(),
        false => value.into(),
    }
}

/// Adds a cell and a comma. Quoted where it must be (RFC 4180).
fn cell(line: &mut String, value: &str) {
    if value.contains([',', '"', '\n', '\r']) {
        line.push('"');
        line.push_str(&value.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(value);
    }
    line.push(',');
}

/// The comma behind the last cell becomes the end of the line.
fn end(mut line: String) -> String {
    line.pop();
    line.push('\n');
    line
}

/// The columns that a CSV always has, in Vault's order.
const FIXED: [&str; 11] = [
    "entity_name",
    "entity_alias_name",
    "client_id",
    "client_type",
    "local_entity_alias",
    "namespace_id",
    "namespace_path",
    "mount_accessor",
    "mount_path",
    "mount_type",
    "timestamp",
];
const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv; charset=utf-8";
/// Bytes that are sent at once.
const PIECE: usize = 32 * 1024;
/// Pieces that may wait for the client.
const PIECES: usize = 4;
/// How long a client may take for a piece.
const PATIENCE: Duration = Duration::from_secs(60);
const MOST_COLUMNS: usize = 10_000;
