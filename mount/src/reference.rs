//! From routes to the reference of the handbook: for each path who may call it, with which verbs, and every field with
//! its type and what it is for. The same facts as OpenAPI has, and two more: LIST by its name, and who may call.

use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value;

use crate::openapi::input_fields;
use crate::routes::OperationDoc;
use crate::{Access, Operation, Part, RouteDoc};

/// One path.
#[derive(Debug, Serialize)]
pub struct PathReference {
    /// With its mount: `auth/userpass/users/{username}`.
    pub path: String,
    pub about: &'static str,
    /// Who may call it, in a few words.
    pub callers: &'static str,
    /// Whether a write asks for `create` or `update`, by whether the thing is there already.
    pub tells_create: bool,
    pub operations: Vec<OperationReference>,
}

/// What one verb takes and gives.
#[derive(Debug, Serialize)]
pub struct OperationReference {
    /// The HTTP method: GET, LIST, POST, PATCH, DELETE.
    pub verb: &'static str,
    /// The capability that a policy must grant.
    pub capability: &'static str,
    pub fields: Vec<FieldReference>,
    /// Whether fields of any other name are taken, too.
    pub takes_any: bool,
    pub status: u16,
    /// Whether the answer is a token, in `auth`.
    pub gives_token: bool,
    /// The fields of the answer, where they are known.
    pub answer: Vec<FieldReference>,
}

/// One field, of a request or an answer.
#[derive(Debug, Serialize)]
pub struct FieldReference {
    pub name: String,
    /// Older names that are taken, too.
    pub aliases: Vec<String>,
    /// `string`, `integer or string`, ...
    pub kind: String,
    pub required: bool,
    /// On one line.
    pub about: String,
}

impl RouteDoc {
    /// What a reader must know of this path of the mount at `mount` (with trailing slash).
    pub fn reference(&self, mount: &str) -> PathReference {
        let mut operations = Vec::new();
        for (operation, doc) in &self.operations {
            let Some((verb, capability)) = verb_of(*operation) else {
                continue;
            };
            let (properties, required, takes_any) = input_fields(doc, self);
            let fields = properties
                .iter()
                .map(|(name, schema)| field(name, schema, required.contains(name)))
                .collect();
            operations.push(OperationReference {
                verb,
                capability,
                fields,
                takes_any,
                status: doc.status,
                gives_token: doc.part == Part::Auth,
                answer: answer_fields(doc),
            });
        }
        operations.sort_by_key(|operation| VERBS.iter().position(|verb| *verb == operation.verb));
        PathReference {
            path: format!("{mount}{}", self.pattern.text())
                .trim_end_matches('/')
                .to_owned(),
            about: self.about,
            callers: match self.access {
                Access::Token => "token",
                Access::Sudo => "token with `sudo`",
                Access::AnyToken => "any token",
                Access::Login => "login: no token",
                Access::Public => "everybody: no token",
                Access::WhileSealed => "everybody, also while sealed",
            },
            tells_create: self.can_tell_create,
            operations,
        }
    }
}

/// POST makes two operations of one handler; it is shown once.
fn verb_of(operation: Operation) -> Option<(&'static str, &'static str)> {
    Some(match operation {
        Operation::Read => ("GET", "read"),
        Operation::List => ("LIST", "list"),
        Operation::Update => ("POST", "update"),
        Operation::Patch => ("PATCH", "patch"),
        Operation::Delete => ("DELETE", "delete"),
        _ => return None,
    })
}

fn answer_fields(doc: &OperationDoc) -> Vec<FieldReference> {
    let mut generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let Some(schema) = (doc.output)(&mut generator) else {
        return Vec::new();
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| field(name, schema, false))
        .collect()
}

fn field(name: &str, schema: &Value, required: bool) -> FieldReference {
    let aliases = schema.get("x-aliases").and_then(Value::as_array);
    let about = schema.get("description").and_then(Value::as_str);
    FieldReference {
        name: name.to_owned(),
        aliases: aliases
            .into_iter()
            .flatten()
            .filter_map(|alias| alias.as_str().map(str::to_owned))
            .collect(),
        kind: kind_of(schema).join(" or "),
        required,
        about: about
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// The JSON types that a field may have.
fn kind_of(schema: &Value) -> Vec<&str> {
    let given = match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => ["anyOf", "oneOf"]
            .iter()
            .filter_map(|of| schema.get(of).and_then(Value::as_array))
            .flatten()
            .flat_map(kind_of)
            .collect(),
    };
    let mut kinds: Vec<&str> = Vec::new();
    for kind in given {
        if kind != "null" && !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    match kinds.is_empty() {
        true => vec!["any"],
        false => kinds,
    }
}

/// In the order in which they are shown.
const VERBS: [&str; 5] = ["GET", "LIST", "POST", "PATCH", "DELETE"];
