//! What browsers see of the server: `sys/config/cors` and `sys/config/ui/headers`, and `resultant-acl`, from which
//! a user interface knows what to show.

use std::collections::BTreeMap;

use obol_mount::fields::{CommaList, Flag};
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, Routes, get, list};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;
use crate::core::audit::headers::folded;
use crate::core::cors::Cors;
use crate::core::ui_headers::UiHeaders;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .sudo(
            "config/cors",
            "Which pages of other origins may use the API",
            get(read_cors).post(write_cors).delete(delete_cors),
        )
        .sudo(
            "config/ui/headers",
            "The headers that are added to the pages for people",
            list(list_headers),
        )
        .sudo(
            "config/ui/headers/{header}",
            "A header that is added to the pages for people",
            get(read_header).post(write_header).delete(delete_header),
        )
        .at(
            "internal/ui/resultant-acl",
            "What the calling token may do, on every path of its policies",
            get(resultant_acl),
        )
}

/// Whose pages may ask, and what they may send.
#[derive(Deserialize, JsonSchema)]
struct CorsInput {
    /// Origins such as `https://app.example.com`, or `*` for all.
    #[serde(default)]
    allowed_origins: CommaList,
    /// Headers that pages may send beside the usual ones.
    #[serde(default)]
    allowed_headers: CommaList,
}

#[derive(Serialize, JsonSchema)]
struct CorsOut {
    /// Whether any page of another origin may ask.
    enabled: bool,
    /// Whose pages may ask; `*` for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allowed_origins: Vec<String>,
    /// What they may send, with the headers that clients of Vault send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allowed_headers: Vec<String>,
}

async fn read_cors(cx: Cx<System>) -> Result<Data<CorsOut>> {
    let cors = cx.live()?.cors.get();
    let enabled = cors.is_enabled();
    let headers = cors.headers().into_iter().map(str::to_owned).collect();
    Ok(Data(CorsOut {
        enabled,
        allowed_origins: cors.allowed_origins.clone(),
        allowed_headers: if enabled { headers } else { Vec::new() },
    }))
}

async fn write_cors(cx: Cx<System>, input: CorsInput) -> Result<NoContent> {
    let (origins, headers) = (input.allowed_origins.0, input.allowed_headers.0);
    if origins.is_empty() {
        return Err(Error::bad_request(
            "at least one origin or the wildcard must be provided",
        ));
    }
    if origins.len() > 1 && origins.iter().any(|origin| origin == "*") {
        return Err(Error::bad_request(
            "to allow all origins the '*' must be the only value for allowed_origins",
        ));
    }
    let sound = |origin: &String| {
        let printable = !origin.is_empty() && origin.bytes().all(|b| b.is_ascii_graphic());
        origin == "*" || (printable && origin.contains("://") && !origin.ends_with('/'))
    };
    if !origins.iter().all(sound) {
        return Err(Error::bad_request(
            "allowed_origins: an origin is a scheme, a host and a port, such as https://app.example.com",
        ));
    }
    for header in &headers {
        folded(header).map_err(|_| {
            Error::bad_request("allowed_headers: one of them is no name of a header")
        })?;
    }
    let cors = Cors {
        allowed_origins: origins,
        allowed_headers: headers,
    };
    let change = |known: &mut Cors| {
        known.clone_from(&cors);
        Ok(())
    };
    cx.live()?.cors.change(change).await?;
    Ok(NoContent)
}

async fn delete_cors(cx: Cx<System>) -> Result<NoContent> {
    let change = |known: &mut Cors| {
        *known = Cors::default();
        Ok(())
    };
    cx.live()?.cors.change(change).await?;
    Ok(NoContent)
}

/// A header by its name.
#[derive(Deserialize, JsonSchema)]
struct HeaderInput {
    header: String,
    /// Shows all values as a list, and not the first alone.
    #[serde(default)]
    multivalue: Flag,
}

/// A header and its values.
#[derive(Deserialize, JsonSchema)]
struct HeaderWrite {
    header: String,
    /// The values, each in a header of its own.
    values: Option<Vec<String>>,
}

async fn list_headers(cx: Cx<System>) -> Result<Keys> {
    let headers = cx.live()?.ui_headers.get();
    Ok(Keys {
        keys: headers.0.keys().cloned().collect(),
    })
}

/// The values of a header: all of them where `multivalue` asked for that, or the first.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum ShownHeader {
    All {
        /// All values, each a header of its own.
        values: Vec<String>,
    },
    First {
        /// The first value.
        value: Option<String>,
    },
}

async fn read_header(cx: Cx<System>, input: HeaderInput) -> Result<Data<ShownHeader>> {
    let headers = cx.live()?.ui_headers.get();
    let name = folded(&input.header)?;
    let values = headers.0.get(&name).ok_or_else(Error::not_found)?;
    Ok(Data(match input.multivalue.0 {
        true => ShownHeader::All {
            values: values.clone(),
        },
        false => ShownHeader::First {
            value: values.first().cloned(),
        },
    }))
}

async fn write_header(cx: Cx<System>, input: HeaderWrite) -> Result<NoContent> {
    let values = input.values.unwrap_or_default();
    let change = |headers: &mut UiHeaders| headers.set(&input.header, &values);
    cx.live()?.ui_headers.change(change).await?;
    Ok(NoContent)
}

async fn delete_header(cx: Cx<System>, input: HeaderInput) -> Result<NoContent> {
    let name = folded(&input.header)?;
    let change = |headers: &mut UiHeaders| {
        headers.0.remove(&name);
        Ok(())
    };
    cx.live()?.ui_headers.change(change).await?;
    Ok(NoContent)
}

/// What the calling token may do.
#[derive(Serialize, JsonSchema)]
struct ResultantAcl {
    /// It may do everything.
    root: bool,
    /// The paths of its policies that are one path each.
    exact_paths: BTreeMap<String, Granted>,
    /// Those that are the beginning of paths, without the `*` at their end.
    glob_paths: BTreeMap<String, Granted>,
}

/// What may be done on a path.
#[derive(Serialize, JsonSchema)]
struct Granted {
    /// `create`, `read`, `update`, `patch`, `delete`, `list`, `sudo`, or `deny` alone.
    capabilities: Vec<&'static str>,
}

async fn resultant_acl(cx: Cx<System>) -> Result<Data<ResultantAcl>> {
    let live = cx.live()?;
    let caller = cx.request.caller()?;
    let acl = live.acl_of_caller(caller).await?;
    let mut shown = ResultantAcl {
        root: acl.is_root(),
        exact_paths: BTreeMap::new(),
        glob_paths: BTreeMap::new(),
    };
    for (pattern, capabilities) in acl.rules() {
        let granted = Granted { capabilities };
        match pattern.strip_suffix('*') {
            Some(beginning) => shown.glob_paths.insert(beginning.to_owned(), granted),
            None => shown.exact_paths.insert(pattern.to_owned(), granted),
        };
    }
    Ok(Data(shown))
}
