//! The reader of HCL and JSON for policies and the configuration file: a tree of values, each with its place.
//!
//! Why not a crate: those that exist read HCL 2, where a one-line block holds one attribute and `${` starts an
//! expression; Vault's files are HCL 1, where neither is so. And an unknown key must be refused with its line and
//! column in JSON too, which serde_json cannot tell once the text is parsed. What is needed is data alone (no
//! expressions, functions or heredocs), so the language is small: `key = value`, `key "label" { ... }`, strings,
//! numbers, booleans, lists and objects, with `#`, `//` and `/* */` comments.

mod format;
mod json;
mod lexer;
mod parser;
mod suggest;

use std::fmt;

use serde_json::Number;
use zeroize::Zeroizing;

pub use format::format;
pub use suggest::suggest;

/// Nesting beyond this is refused; no policy and no configuration comes near it.
pub const MAX_DEPTH: usize = 32;

/// Reads a text: JSON when its first character is `{` (as Vault decides it), else HCL.
///
/// The result keeps no reference to the text; every part knows its byte offset, which [`Error::at`] turns into a
/// line and a column.
pub fn parse(text: &str) -> Result<Object, Error> {
    if is_json(text) {
        json::parse(text)
    } else {
        parser::parse(text)
    }
}

/// Whether [`parse`] would read the text as JSON.
pub fn is_json(text: &str) -> bool {
    text.trim_start_matches('\u{feff}')
        .trim_start()
        .starts_with('{')
}

/// What is wrong, and where: line and column count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Error {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl Error {
    /// An error at a byte offset of `text`.
    pub fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.bytes().filter(|&b| b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
}

/// `{ ... }`: the members in the order they were written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Object {
    pub members: Vec<Member>,
}

/// `key = value`, or the block `key "label" { ... }`, whose value is always an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub key: Name,
    pub labels: Vec<Name>,
    pub value: Node,
}

/// A key or a label.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// Byte offset in the text.
    pub at: usize,
    pub text: String,
}

/// A value and its byte offset in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub at: usize,
    pub value: Value,
}

/// A configuration file may hold a key, so texts are wiped when they are dropped, and `Debug` shows none.
#[derive(Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(Zeroizing<String>),
    List(Vec<Node>),
    Object(Object),
}

impl Value {
    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Object(object) => object.fmt(f),
            other => f.write_str(other.kind()),
        }
    }
}

/// One `kind "label" { ... }`, however it was written: as an HCL block or in any of the JSON forms that Vault reads
/// (`{"kind": {"label": {...}}}`, with a list in place of either object).
#[derive(Debug)]
pub struct Stanza<'a> {
    pub label: &'a Name,
    pub body: &'a Object,
}

impl Member {
    /// The labelled blocks that this member stands for; `Err` tells the offset and what was expected instead.
    pub fn stanzas(&self) -> Result<Vec<Stanza<'_>>, (usize, String)> {
        let key = &self.key.text;
        let mut found = Vec::new();
        match self.labels.as_slice() {
            [] => labelled(&self.value, key, &mut found)?,
            [label] => bodies(label, &self.value, key, &mut found)?,
            [_, second, ..] => return Err((second.at, format!("`{key}` takes one label"))),
        }
        Ok(found)
    }
}

fn labelled<'a>(
    node: &'a Node,
    key: &str,
    found: &mut Vec<Stanza<'a>>,
) -> Result<(), (usize, String)> {
    match &node.value {
        Value::Object(object) => {
            for member in &object.members {
                match member.labels.first() {
                    None => bodies(&member.key, &member.value, key, found)?,
                    Some(extra) => return Err((extra.at, format!("`{key}` takes one label"))),
                }
            }
            Ok(())
        }
        Value::List(items) => items.iter().try_for_each(|item| match item.value {
            Value::Object(_) => labelled(item, key, found),
            _ => Err((
                item.at,
                format!("expected `{key}` objects, found {}", item.value.kind()),
            )),
        }),
        other => Err((
            node.at,
            format!(
                "expected a block: {key} \"...\" {{ ... }}, found {}",
                other.kind()
            ),
        )),
    }
}

fn bodies<'a>(
    label: &'a Name,
    node: &'a Node,
    key: &str,
    found: &mut Vec<Stanza<'a>>,
) -> Result<(), (usize, String)> {
    match &node.value {
        Value::Object(body) => {
            found.push(Stanza { label, body });
            Ok(())
        }
        Value::List(items) => items.iter().try_for_each(|item| match &item.value {
            Value::Object(body) => {
                found.push(Stanza { label, body });
                Ok(())
            }
            other => Err((
                item.at,
                format!("expected the body of `{key}`, found {}", other.kind()),
            )),
        }),
        other => Err((
            node.at,
            format!(
                "expected {{ ... }} as the body of `{key}`, found {}",
                other.kind()
            ),
        )),
    }
}

/// A key as it is shown in a message: quoted, short, without control characters.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 64;
    let shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    let more = if text.chars().nth(SHOWN).is_some() {
        "..."
    } else {
        ""
    };
    format!("`{shown}{more}`")
}

#[cfg(test)]
mod tests;
