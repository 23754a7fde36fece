//! `-output-policy`: the rule that a token needs for the request.

use serde_json::Value;

use super::{Client, Request};

/// In HCL, as `obol policy write` takes it. Whether the path needs `sudo`, its help tells, where the token may read that.
pub(super) fn needed(client: &Client, request: &Request) -> String {
    let mut capabilities = match request.method {
        "GET" => vec!["read"],
        "LIST" => vec!["list"],
        "DELETE" => vec!["delete"],
        "PATCH" => vec!["patch"],
        _ => vec!["create", "update"],
    };
    let help = Request::get(&*request.path).query("help", "1").internal();
    let help = client.send(help).map(|answer| answer.body);
    if help.is_ok_and(|help| {
        help["help"]
            .as_str()
            .is_some_and(|text| text.contains(SUDO))
    }) {
        capabilities.push("sudo");
    }
    let words: Vec<String> = capabilities
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect();
    format!(
        "path {} {{\n  capabilities = [{}]\n}}",
        Value::from(&*request.path),
        words.join(", ")
    )
}

/// What the help of such a path says.
const SUDO: &str = "Needs the sudo capability.";
