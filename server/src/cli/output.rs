//! What commands print: two-column tables with sorted keys, JSON, YAML, one field alone. Results go to standard
//! output, everything else (warnings, prompts, advice) to standard error, so that output can be piped.

use std::io::Write;
use std::time::Duration;

use clap::ValueEnum;
use obol_mount::duration;
use serde_json::{Map, Value};

use super::Session;
use super::env::Env;
use super::failure::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    #[value(alias = "yml")]
    Yaml,
    /// The answer as it came: for `read` alone.
    #[value(hide = true)]
    Raw,
}

// Flattened into commands; a doc comment here would replace the command's own.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Output options")]
pub(super) struct FormatFlag {
    /// How to print the result; OBOL_FORMAT or VAULT_FORMAT otherwise, table by default
    #[arg(long, value_name = "FORMAT", ignore_case = true)]
    format: Option<Format>,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Output options")]
pub(super) struct FieldFlag {
    /// Print this field alone. Without a newline at its end when the output is not a terminal
    #[arg(long, value_name = "NAME")]
    pub(super) field: Option<String>,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Output options")]
pub(super) struct DetailedFlag {
    /// More columns; OBOL_DETAILED or VAULT_DETAILED otherwise
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    detailed: Option<bool>,
}

impl FormatFlag {
    pub(super) fn resolve(&self, env: &Env) -> Result<Format, Failure> {
        match self.resolve_or_raw(env)? {
            Format::Raw => Err(Failure::local("the format raw is for `read` alone")),
            format => Ok(format),
        }
    }

    /// As [`FormatFlag::resolve`], for the command that may hand an answer on as it came.
    pub(super) fn resolve_or_raw(&self, env: &Env) -> Result<Format, Failure> {
        match (self.format, env.named("FORMAT")) {
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Format::Table),
            (None, Some((variable, value))) => Format::from_str(value, true)
                .map_err(|_| Failure::local(format!("{variable} must be table, json or yaml"))),
        }
    }
}

impl DetailedFlag {
    pub(super) fn resolve(&self, env: &Env) -> Result<bool, Failure> {
        Ok(self.detailed.or(env.bool("DETAILED")?).unwrap_or(false))
    }
}

impl Session<'_> {
    /// A line of the result. Control characters do not reach a terminal.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        let text = if self.stdout_is_terminal {
            printable(text)
        } else {
            text.into()
        };
        writeln!(self.stdout, "{text}")
            .and_then(|()| self.stdout.flush())
            .map_err(|error| cannot_print(&error))
    }

    /// The result itself, byte for byte; a newline is added for a terminal alone.
    pub(super) fn raw(&mut self, text: &str) -> Result<(), Failure> {
        if self.stdout_is_terminal {
            return self.line(text);
        }
        write!(self.stdout, "{text}")
            .and_then(|()| self.stdout.flush())
            .map_err(|error| cannot_print(&error))
    }

    /// A piece of an answer as it came. `false` when nobody reads on (`obol read ... | head`).
    pub(super) fn bytes(&mut self, piece: &[u8]) -> Result<bool, Failure> {
        let written = match self.stdout_is_terminal {
            true => {
                let text = printable(&String::from_utf8_lossy(piece)).into_owned();
                self.stdout.write_all(text.as_bytes())
            }
            false => self.stdout.write_all(piece),
        };
        match written.and_then(|()| self.stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(cannot_print(&error)),
        }
    }

    /// A warning or a piece of advice. Nothing can be done when standard error is closed.
    pub(super) fn note(&mut self, text: &str) {
        let _ = writeln!(self.stderr, "{}", printable(text));
    }

    /// A whole answer of the server: lease, login, wrapping and data in a table, or the body as it came.
    pub(super) fn print_secret(&mut self, format: Format, body: &Value) -> Result<(), Failure> {
        if format != Format::Table {
            return self.print_value(format, body);
        }
        self.warnings(body);
        let rows = secret_rows(body);
        if rows.is_empty() {
            Ok(())
        } else {
            self.line(&two_columns(rows))
        }
    }

    /// `keys` of a listing: sorted below a heading, or as an array.
    pub(super) fn print_keys(&mut self, format: Format, body: &Value) -> Result<(), Failure> {
        let keys = &body["data"]["keys"];
        if format != Format::Table {
            return self.print_value(format, keys);
        }
        self.warnings(body);
        let mut keys: Vec<String> = keys.as_array().into_iter().flatten().map(cell).collect();
        keys.sort_unstable();
        let rows = std::iter::once("Keys".to_owned())
            .chain(keys)
            .map(|key| vec![key])
            .collect();
        self.line(&table(rows))
    }

    /// An object as a table of its members, or any value as JSON or YAML.
    pub(super) fn print_value(&mut self, format: Format, value: &Value) -> Result<(), Failure> {
        match (format, value) {
            (Format::Table, Value::Object(members)) => {
                let rows = member_rows(members);
                if rows.is_empty() {
                    Ok(())
                } else {
                    self.line(&two_columns(rows))
                }
            }
            (Format::Table, value) => self.line(&cell(value)),
            _ => {
                let text = structured(format, value)?;
                self.line(&text)
            }
        }
    }

    /// One field alone; with `-format=json` or yaml, in that form.
    pub(super) fn print_field(
        &mut self,
        format: Format,
        name: &str,
        value: Option<&Value>,
    ) -> Result<(), Failure> {
        let value = match value {
            Some(value) if !value.is_null() => value,
            _ => {
                return Err(Failure::local(format!(
                    "the answer has no field named {name}"
                )));
            }
        };
        let text = match format {
            Format::Table => plain(value),
            _ => structured(format, value)?,
        };
        self.raw(&text)
    }

    /// Warnings of the server; in JSON and YAML they are part of the body.
    pub(super) fn warnings(&mut self, body: &Value) {
        let warnings: Vec<&str> = body["warnings"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if warnings.is_empty() {
            return;
        }
        self.note("WARNING! The server answered with these warnings:\n");
        for warning in warnings {
            self.note(&format!("  * {warning}\n"));
        }
    }
}

/// Looks a field up where Vault's command line looks: names of the login or the wrapping first, then the data.
pub(super) fn field_of<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    let present = |value: &'a Value| (!value.is_null()).then_some(value);
    let (auth, wrapping) = (&body["auth"], &body["wrap_info"]);
    let special = if auth.is_object() {
        match name {
            "token" => present(&auth["client_token"]),
            "token_accessor" => present(&auth["accessor"]),
            "token_duration" => present(&auth["lease_duration"]),
            "token_renewable" => present(&auth["renewable"]),
            "token_policies" | "identity_policies" | "policies" => present(&auth[name]),
            _ => None,
        }
    } else if wrapping.is_object() {
        match name {
            "wrapping_token" => present(&wrapping["token"]),
            "wrapping_accessor" => present(&wrapping["accessor"]),
            "wrapping_token_ttl" => present(&wrapping["ttl"]),
            "wrapping_token_creation_time" => present(&wrapping["creation_time"]),
            "wrapping_token_creation_path" => present(&wrapping["creation_path"]),
            "wrapped_accessor" => present(&wrapping["wrapped_accessor"]),
            _ => None,
        }
    } else {
        match name {
            "lease_id" | "lease_duration" | "request_id" | "renewable" => present(&body[name]),
            "refresh_interval" => present(&body["lease_duration"]),
            "data" => present(&body["data"]["data"]).or_else(|| present(&body["data"])),
            _ => None,
        }
    };
    special.or_else(|| present(&body["data"][name]))
}

/// Columns as wide as their widest cell, four blanks apart, the first row underlined.
pub(super) fn table(rows: Vec<Vec<String>>) -> String {
    let Some(header) = rows.first() else {
        return String::new();
    };
    let rule = header
        .iter()
        .map(|name| "-".repeat(name.chars().count()))
        .collect();
    let mut rows: Vec<Vec<String>> = rows;
    rows.insert(1, rule);
    let columns = rows[0].len();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|c| c.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if column + 1 < row.len() {
                    line.extend(std::iter::repeat_n(
                        ' ',
                        widths[column] - cell.chars().count() + 4,
                    ));
                }
            }
            line.trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// A heading between equal signs, as wide as the table of `members` below it.
pub(super) fn heading(title: &str, width: usize) -> String {
    let signs = width
        .saturating_sub(title.chars().count() + 2)
        .max(4)
        .div_ceil(2);
    let signs = "=".repeat(signs);
    format!("{signs} {title} {signs}")
}

/// The width that [`heading`] takes for a table of these members.
pub(super) fn members_width(members: &Map<String, Value>) -> usize {
    members
        .keys()
        .map(|key| key.chars().count())
        .max()
        .unwrap_or(0)
        + 4
        + "Value".len()
}

/// `768h` rather than 2764800, as in Vault's tables.
pub(super) fn seconds(value: &Value) -> String {
    match value.as_u64() {
        Some(seconds) => duration::format(Duration::from_secs(seconds)),
        None => cell(value),
    }
}

/// A value inside a table. Objects and lists are JSON.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) if text.is_empty() => "n/a".to_owned(),
        _ => plain(value),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn two_columns(rows: Vec<(String, String)>) -> String {
    let header = vec!["Key".to_owned(), "Value".to_owned()];
    table(
        std::iter::once(header)
            .chain(rows.into_iter().map(|(key, value)| vec![key, value]))
            .collect(),
    )
}

fn member_rows(members: &Map<String, Value>) -> Vec<(String, String)> {
    let mut keys: Vec<&String> = members.keys().collect();
    keys.sort_unstable();
    keys.into_iter()
        .map(|key| {
            let value = &members[key];
            (
                key.clone(),
                if is_duration(key) {
                    seconds(value)
                } else {
                    cell(value)
                },
            )
        })
        .collect()
}

fn secret_rows(body: &Value) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |key: &str, value: String| rows.push((key.to_owned(), value));
    if body["lease_duration"].as_u64().unwrap_or(0) > 0 {
        if body["lease_id"].as_str().unwrap_or_default().is_empty() {
            row("refresh_interval", seconds(&body["lease_duration"]));
        } else {
            row("lease_id", cell(&body["lease_id"]));
            row("lease_duration", seconds(&body["lease_duration"]));
            row("lease_renewable", cell(&body["renewable"]));
        }
    }
    let auth = &body["auth"];
    if auth.is_object() {
        row("token", cell(&auth["client_token"]));
        row("token_accessor", cell(&auth["accessor"]));
        // A token without an end, such as the root token, has a duration of zero.
        let forever = auth["lease_duration"].as_u64() == Some(0);
        row(
            "token_duration",
            if forever {
                "∞".to_owned()
            } else {
                seconds(&auth["lease_duration"])
            },
        );
        row("token_renewable", cell(&auth["renewable"]));
        for key in ["token_policies", "identity_policies", "policies"] {
            row(
                key,
                if auth[key].is_null() {
                    "[]".to_owned()
                } else {
                    cell(&auth[key])
                },
            );
        }
        for (key, value) in auth["metadata"]
            .as_object()
            .map(member_rows)
            .unwrap_or_default()
        {
            row(&format!("token_meta_{key}"), value);
        }
    }
    let wrapping = &body["wrap_info"];
    if wrapping.is_object() {
        row("wrapping_token:", cell(&wrapping["token"]));
        row("wrapping_accessor:", cell(&wrapping["accessor"]));
        row("wrapping_token_ttl:", seconds(&wrapping["ttl"]));
        row(
            "wrapping_token_creation_time:",
            cell(&wrapping["creation_time"]),
        );
        row(
            "wrapping_token_creation_path:",
            cell(&wrapping["creation_path"]),
        );
        if wrapping["wrapped_accessor"]
            .as_str()
            .is_some_and(|accessor| !accessor.is_empty())
        {
            row("wrapped_accessor:", cell(&wrapping["wrapped_accessor"]));
        }
    }
    rows.extend(
        body["data"]
            .as_object()
            .map(member_rows)
            .unwrap_or_default(),
    );
    rows
}

/// Names whose numbers are seconds, as Vault's tables guess it.
fn is_duration(key: &str) -> bool {
    ["period", "ttl", "duration"].iter().any(|name| {
        key.strip_suffix(name)
            .is_some_and(|before| before.is_empty() || before.ends_with('_'))
    }) || matches!(key, "lease_max" | "ttl_max")
}

fn structured(format: Format, value: &Value) -> Result<String, Failure> {
    let text = match format {
        Format::Yaml => serde_saphyr::to_string(value).map_err(|error| error.to_string()),
        Format::Json | Format::Table | Format::Raw => {
            serde_json::to_string_pretty(value).map_err(|error| error.to_string())
        }
    };
    let text =
        text.map_err(|error| Failure::local(format!("the answer cannot be printed: {error}")))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Stored values may hold escape sequences that would drive the reader's terminal; they are shown, not obeyed.
pub(super) fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(harmless) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if harmless(c) {
            out.push(c)
        } else {
            out.extend(c.escape_unicode())
        }
    }
    out.into()
}

/// A reader that went away (`obol list ... | head`) is no error worth a message; 141 is what a shell shows for SIGPIPE.
fn cannot_print(error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::quiet(141),
        _ => Failure::local(format!("cannot write to standard output: {error}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_sorted_keys_and_json_for_what_is_nested() {
        let body = json!({"lease_duration": 0, "data": {
            "zeta": {"b": 1, "a": [true]}, "alpha": "text", "empty": "", "none": null, "ttl": 3600, "max_ttl": 0,
        }});
        let expected = "\
Key        Value
---        -----
alpha      text
empty      n/a
max_ttl    0s
none       <nil>
ttl        1h
zeta       {\"b\":1,\"a\":[true]}";
        assert_eq!(two_columns(secret_rows(&body)), expected);
    }

    #[test]
    fn a_login_is_shown_with_its_token_and_metadata() {
        let body = json!({"auth": {
            "client_token": "obs.x", "accessor": "acc", "lease_duration": 2764800, "renewable": true,
            "token_policies": ["default"], "policies": ["default"], "identity_policies": null,
            "metadata": {"user": "grace"},
        }});
        let rows = two_columns(secret_rows(&body));
        for line in [
            "token                obs.x",
            "token_duration       768h",
            "token_policies       [\"default\"]",
            "identity_policies    []",
            "token_meta_user      grace",
        ] {
            assert!(rows.lines().any(|l| l == line), "{line}\n{rows}");
        }
    }

    #[test]
    fn a_root_token_lasts_for_ever() {
        let rows = two_columns(secret_rows(
            &json!({"auth": {"client_token": "t", "lease_duration": 0}}),
        ));
        assert!(rows.contains("token_duration       ∞"), "{rows}");
    }

    #[test]
    fn fields_are_found_where_vault_looks_for_them() {
        let login = json!({"auth": {"client_token": "t", "policies": ["a"]}, "data": null});
        assert_eq!(field_of(&login, "token"), Some(&json!("t")));
        assert_eq!(field_of(&login, "policies"), Some(&json!(["a"])));
        let secret =
            json!({"lease_id": "l", "data": {"token": "mine", "data": {"k": "v"}}, "auth": null});
        assert_eq!(field_of(&secret, "token"), Some(&json!("mine")));
        assert_eq!(field_of(&secret, "data"), Some(&json!({"k": "v"})));
        assert_eq!(field_of(&secret, "lease_id"), Some(&json!("l")));
        assert_eq!(field_of(&secret, "absent"), None);
        let wrapped = json!({"wrap_info": {"token": "w", "ttl": 60}, "data": null});
        assert_eq!(field_of(&wrapped, "wrapping_token"), Some(&json!("w")));
    }

    #[test]
    fn escape_sequences_do_not_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tc"), "a\\u{1b}[2Jb\\u{d}\n\tc");
        assert_eq!(printable("plain ∞"), "plain ∞");
    }

    #[test]
    fn columns_are_measured_in_characters_and_lines_have_no_blanks_at_their_end() {
        let rows = vec![
            vec!["Path".into(), "Type".into()],
            vec!["é/".into(), "kv".into()],
            vec!["long/".into(), String::new()],
        ];
        assert_eq!(
            table(rows),
            "Path     Type\n----     ----\né/       kv\nlong/"
        );
    }

    #[test]
    fn yaml_keeps_texts_that_look_like_something_else() {
        let value = json!({"a": "yes", "b": "null", "c": "1", "d": "x: y", "e": "line\nline\n", "f": "", "g": [1, {"h": null}], "i": " s ", "j": "0x1f", "k": "~", "l": "#c", "m": "- a"});
        let text = structured(Format::Yaml, &value).unwrap();
        for line in ["a: \"yes\"", "b: \"null\"", "c: \"1\""] {
            assert!(
                text.lines().any(|l| l.replace('\'', "\"") == line),
                "{text}"
            );
        }
    }

    #[test]
    fn headings_are_as_wide_as_their_table() {
        let Value::Object(members) = json!({"created_time": 1, "version": 2}) else {
            unreachable!()
        };
        assert_eq!(
            heading("Metadata", members_width(&members)),
            "====== Metadata ======"
        );
    }
}
