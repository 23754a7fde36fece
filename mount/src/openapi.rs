//! From routes to documents: OpenAPI 3.1 and the text of `?help=1`.

mod answers;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::routes::OperationDoc;
use crate::{Access, Operation, RouteDoc};
use answers::{
    JSON, OCTETS, done_schema, envelope_schema, error_schema, refusals, responses, text_of,
};

/// A mount as documents see it.
pub struct MountDoc {
    /// With trailing slash: `auth/kerberos/`.
    pub path: String,
    /// The kind of the mount: tags its operations.
    pub kind: String,
    /// One line about the kind: describes the tag.
    pub about: &'static str,
    pub routes: Vec<RouteDoc>,
}

/// The OpenAPI document of a set of mounts.
pub struct Document {
    title: &'static str,
    version: String,
    mounts: Vec<MountDoc>,
}

impl Document {
    pub fn new(title: &'static str, version: impl Into<String>, mounts: Vec<MountDoc>) -> Self {
        Self {
            title,
            version: version.into(),
            mounts,
        }
    }

    /// The document, with every path below `/v1`.
    pub fn build(mut self) -> Value {
        self.mounts.sort_by(|a, b| a.path.cmp(&b.path));
        // Of answers: inputs are looked into where they stand.
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|s| {
            s.definitions_path = "/components/schemas".into();
            s.meta_schema = None;
        });
        let mut generator = settings.into_generator();
        let mut paths = Map::new();
        let mut tags = BTreeMap::new();
        for mount in &self.mounts {
            tags.insert(mount.kind.clone(), mount.about);
            let mut routes: Vec<&RouteDoc> = mount.routes.iter().collect();
            routes.sort_by_key(|route| route.pattern.text());
            for route in routes {
                let path = format!("/{}{}", mount.path, route.pattern.openapi_path());
                paths.insert(
                    path.trim_end_matches('/').to_owned(),
                    path_item(mount, route, &mut generator),
                );
                words::lend(route, &mut generator);
            }
        }
        let envelope = envelope_schema(&mut generator);
        let mut schemas = generator.take_definitions(true);
        schemas.insert("Error".into(), error_schema());
        schemas.insert("Envelope".into(), envelope);
        schemas.insert("Done".into(), done_schema());
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": self.title,
                "version": self.version,
                "description": "The HTTP API of Obol: Vault's paths, verbs and envelope. Generated from the routes.",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/v1" }],
            "security": [{ "token": [] }, { "bearer": [] }],
            "tags": tags.iter().map(|(name, about)| json!({ "name": name, "description": about })).collect::<Vec<_>>(),
            "paths": paths,
            "components": {
                "schemas": schemas,
                "responses": refusals(),
                "securitySchemes": {
                    "token": {
                        "type": "apiKey", "in": "header", "name": "X-Vault-Token",
                        "description": "A token, as a login or `auth/token/create` gives it",
                    },
                    "bearer": { "type": "http", "scheme": "bearer", "description": "The same token" },
                },
            },
        })
    }
}

fn path_item(mount: &MountDoc, route: &RouteDoc, generator: &mut SchemaGenerator) -> Value {
    let params: Vec<&str> = route.pattern.params().collect();
    let mut item = Map::new();
    item.insert("summary".into(), route.about.into());
    if !params.is_empty() {
        let described: Vec<Value> = params
            .iter()
            .map(|name| path_parameter(route, name))
            .collect();
        item.insert("parameters".into(), described.into());
    }
    let one = |operation: Operation| route.operations.get(&operation);
    // LIST is a verb that OpenAPI cannot name; `GET ?list=true` is the same operation.
    match (one(Operation::Read), one(Operation::List)) {
        (Some(read), None) => drop(item.insert(
            "get".into(),
            operation(mount, route, "read", read, false, generator),
        )),
        (None, Some(list)) => {
            let mut described = operation(mount, route, "list", list, false, generator);
            add_list_parameter(&mut described, true);
            item.insert("get".into(), described);
        }
        (Some(read), Some(list)) => {
            let mut described = operation(mount, route, "read", read, false, generator);
            add_list_parameter(&mut described, false);
            let listed = operation(mount, route, "list", list, false, generator);
            merge_listing(&mut described, listed);
            item.insert("get".into(), described);
        }
        (None, None) => {}
    }
    if let Some(write) = one(Operation::Update).or(one(Operation::Create)) {
        let mut described = operation(mount, route, "write", write, true, generator);
        if route.can_tell_create {
            described["x-vault-create-supported"] = true.into();
        }
        item.insert("post".into(), described);
    }
    if let Some(patch) = one(Operation::Patch) {
        item.insert(
            "patch".into(),
            operation(mount, route, "patch", patch, true, generator),
        );
    }
    if let Some(delete) = one(Operation::Delete) {
        item.insert(
            "delete".into(),
            operation(mount, route, "delete", delete, false, generator),
        );
    }
    Value::Object(item)
}

/// What the inputs say of a field that the path gives.
fn path_parameter(route: &RouteDoc, name: &str) -> Value {
    let mut parameter = json!({
        "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 },
    });
    let about = route.operations.values().find_map(|doc| {
        let schema = (doc.input)(&mut inline());
        let about = schema.get("properties")?.get(name)?.get("description")?;
        Some(about.as_str()?.to_owned())
    });
    // Its name says enough where the input does not explain it.
    let mut about = about.unwrap_or_else(|| format!("The {}.", name.replace('_', " ")));
    if route.pattern.takes_slashes(name) {
        about.push_str("\n\nMay contain slashes.");
    }
    parameter["description"] = about.into();
    parameter
}

/// Schemas in place, where they are looked into.
fn inline() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|s| s.inline_subschemas = true)
        .into_generator()
}

fn operation(
    mount: &MountDoc,
    route: &RouteDoc,
    verb: &str,
    doc: &OperationDoc,
    has_body: bool,
    generator: &mut SchemaGenerator,
) -> Value {
    let mut described = Map::new();
    described.insert(
        "operationId".into(),
        operation_id(&mount.path, route.pattern.text(), verb).into(),
    );
    described.insert("summary".into(), route.about.into());
    described.insert("tags".into(), json!([mount.kind]));
    match route.access {
        Access::Token | Access::AnyToken => {}
        Access::Sudo => drop(described.insert("x-vault-sudo".into(), true.into())),
        Access::Login | Access::Public | Access::WhileSealed => {
            described.insert("security".into(), json!([]));
            described.insert("x-vault-unauthenticated".into(), true.into());
        }
    }
    let (properties, required, open) = input_fields(doc, route);
    if has_body {
        let mut body = Map::new();
        body.insert("type".into(), "object".into());
        body.insert("properties".into(), Value::Object(properties));
        if !required.is_empty() {
            body.insert("required".into(), required.into());
        }
        if open {
            body.insert("additionalProperties".into(), true.into());
        }
        let (media, body) = match verb {
            "patch" => ("application/merge-patch+json", body.into()),
            "write" if route.takes_upload => (OCTETS, text_of(OCTETS)),
            _ => (JSON, Value::Object(body)),
        };
        let mut body = json!({ "content": { media: { "schema": body } } });
        if media == OCTETS {
            body["required"] = true.into();
        }
        described.insert("requestBody".into(), body);
    } else if !properties.is_empty() {
        let query: Vec<Value> = properties
            .into_iter()
            .map(|(name, mut schema)| {
                let description = schema.as_object_mut().and_then(|s| s.remove("description"));
                let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
                if let Some(description) = description {
                    parameter["description"] = description;
                }
                if required.contains(&name) {
                    parameter["required"] = true.into();
                }
                parameter
            })
            .collect();
        described.insert("parameters".into(), query.into());
    }
    described.insert("responses".into(), responses(verb, route, doc, generator));
    Value::Object(described)
}

/// The input's own fields, without those that the path gives: properties, required names, and whether others are taken too.
pub(crate) fn input_fields(
    doc: &OperationDoc,
    route: &RouteDoc,
) -> (Map<String, Value>, Vec<String>, bool) {
    let schema = (doc.input)(&mut inline());
    let in_path: BTreeSet<&str> = route.pattern.params().collect();
    let mut properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    properties.retain(|name, _| !in_path.contains(name.as_str()));
    let required = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let required = required
        .filter_map(Value::as_str)
        .filter(|n| !in_path.contains(n))
        .map(str::to_owned)
        .collect();
    let open = schema
        .get("additionalProperties")
        .is_some_and(|v| v != &Value::Bool(false));
    (properties, required, open)
}

fn add_list_parameter(described: &mut Value, required: bool) {
    let parameter = json!({
        "name": "list", "in": "query", "required": required,
        "description": "`true` lists what is below the path, as the LIST verb does",
        "schema": { "type": "string", "enum": ["true"] },
    });
    match described
        .get_mut("parameters")
        .and_then(Value::as_array_mut)
    {
        Some(parameters) => parameters.insert(0, parameter),
        None => described["parameters"] = json!([parameter]),
    }
}

fn merge_listing(read: &mut Value, listed: Value) {
    const SCHEMA: &str = "/responses/200/content/application~1json/schema";
    if let (Some(one), Some(other)) = (read.pointer(SCHEMA).cloned(), listed.pointer(SCHEMA))
        && one != *other
    {
        let either = json!({ "anyOf": [one, other] });
        if let Some(schema) = read.pointer_mut(SCHEMA) {
            *schema = either;
        }
    }
    if let Some(more) = listed.get("parameters").and_then(Value::as_array)
        && let Some(parameters) = read.get_mut("parameters").and_then(Value::as_array_mut)
    {
        let names: BTreeSet<String> = parameters
            .iter()
            .filter_map(|p| p["name"].as_str().map(str::to_owned))
            .collect();
        parameters.extend(
            more.iter()
                .filter(|p| p["name"].as_str().is_some_and(|n| !names.contains(n)))
                .cloned(),
        );
    }
}

fn operation_id(mount: &str, pattern: &str, verb: &str) -> String {
    let mut id = String::from(verb);
    for word in mount.split('/').chain(pattern.split('/')) {
        let word: String = word
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
            .collect();
        if !word.is_empty() {
            id.push('-');
            id.push_str(&word);
        }
    }
    id
}

impl RouteDoc {
    /// The text of `?help=1` and `path-help`: what the path is for, and its fields.
    pub fn help(&self, mount: &str) -> String {
        let mut out = format!(
            "Path:   {mount}{}\n\n    {}\n",
            self.pattern.text(),
            self.about
        );
        let verbs: Vec<&str> = self.operations.keys().map(|op| op.as_str()).collect();
        out.push_str(&format!("\nOperations:   {}\n", verbs.join(", ")));
        match self.access {
            Access::Token | Access::AnyToken => {}
            Access::Sudo => out.push_str("Needs the sudo capability.\n"),
            Access::Login | Access::Public | Access::WhileSealed => {
                out.push_str("Needs no token.\n")
            }
        }
        let mut seen = BTreeSet::new();
        let mut fields = String::new();
        for doc in self.operations.values() {
            let schema = (doc.input)(&mut inline());
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
                continue;
            };
            for (name, field) in properties {
                if seen.insert(name.clone()) {
                    let about = field
                        .get("description")
                        .and_then(Value::as_str)
                        .unwrap_or("");
                    fields.push_str(&format!("    {name} ({})\n", type_of(field)));
                    for line in about.lines() {
                        fields.push_str(&format!("        {line}\n"));
                    }
                }
            }
        }
        if !fields.is_empty() {
            out.push_str("\nParameters:\n\n");
            out.push_str(&fields);
        }
        out
    }
}

fn type_of(schema: &Value) -> String {
    match schema.get("type") {
        Some(Value::String(one)) => one.clone(),
        Some(Value::Array(several)) => several
            .iter()
            .filter_map(Value::as_str)
            .filter(|t| *t != "null")
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "any".into(),
    }
}
