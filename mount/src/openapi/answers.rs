//! What answers are: the envelope, the body without one, a file; and the refusals that any operation may answer instead.

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use crate::routes::OperationDoc;
use crate::{Access, Auth, Part, RouteDoc, WrapInfo};

pub(super) fn responses(
    verb: &str,
    route: &RouteDoc,
    doc: &OperationDoc,
    generator: &mut SchemaGenerator,
) -> Value {
    let done = || json!({ "$ref": "#/components/schemas/Done" });
    let (about, schema) = match ((doc.output)(generator), doc.part) {
        (data, Part::Auth) => {
            let auth = generator.subschema_for::<Auth>().to_value();
            (
                "A token was issued or renewed; it is in `auth`",
                enveloped("auth", auth, data.map(Into::into)),
            )
        }
        (data, Part::WrapInfo) => {
            let info = generator.subschema_for::<WrapInfo>().to_value();
            (
                "The answer was wrapped; what fetches it is in `wrap_info`",
                enveloped("wrap_info", info, data.map(Into::into)),
            )
        }
        (Some(schema), Part::Body) => ("Success", schema.to_value()),
        (None, Part::Body) => ("Success", json!({})),
        // Without a body there is 204; and where something is to be warned of, an envelope around nothing.
        (Some(schema), Part::Data) if doc.also.contains(&204) => {
            let nullable = json!({ "anyOf": [schema, { "type": "null" }] });
            ("Success", enveloped("data", nullable, None))
        }
        (Some(schema), Part::Data) => ("Success", enveloped("data", schema.to_value(), None)),
        (None, Part::Data) if doc.status == 204 => ("Done, with warnings", done()),
        (None, Part::Data) => ("Success", done()),
    };
    let mut responses = Map::new();
    let unwarned = (doc.status == 204).then_some(200);
    let refusal = |status| REFUSALS.iter().find(|(refused, _)| *refused == status);
    // A handler that always refuses has nothing else to say: what that is stands below.
    let success = Some(doc.status).filter(|status| refusal(*status).is_none());
    for status in doc.also.iter().copied().chain(success).chain(unwarned) {
        let refusal = refusal(status);
        let described = match (status, refusal) {
            (204, _) => json!({ "description": "Done; no body" }),
            (202, _) if doc.status == 204 => {
                json!({ "description": "Done after the answer; no body, unless there are warnings" })
            }
            // Part of what was asked for may have failed, or the status says more than that there is an answer.
            (_, Some((_, refusal))) => content(
                refusal.about,
                doc.media,
                json!({ "anyOf": [schema, { "$ref": "#/components/schemas/Error" }] }),
            ),
            _ => content(about, doc.media, schema.clone()),
        };
        responses.insert(status.to_string(), described);
    }
    for (status, refusal) in REFUSALS {
        // Without a token nothing is forbidden; only a login asks for another proof, and only a patch can be of the
        // wrong kind.
        let fits = match (*status, route.access) {
            (401, access) => access == Access::Login,
            (403, access) => !matches!(access, Access::Public | Access::WhileSealed),
            (415, _) => verb == "patch",
            _ => true,
        };
        if fits {
            let reference = json!({ "$ref": format!("#/components/responses/{}", refusal.name) });
            responses.entry(status.to_string()).or_insert(reference);
        }
    }
    Value::Object(responses)
}

/// The answers that say no, once for all operations.
pub(super) fn refusals() -> Value {
    let described = REFUSALS.iter().map(|(_, refusal)| {
        let error = json!({ "$ref": "#/components/schemas/Error" });
        (
            refusal.name.to_owned(),
            content(refusal.about, &[JSON], error),
        )
    });
    Value::Object(described.collect())
}

fn content(description: &str, media: &[&str], schema: Value) -> Value {
    let described = media.iter().map(|media| {
        let schema = match *media {
            JSON => schema.clone(),
            other => text_of(other),
        };
        ((*media).to_owned(), json!({ "schema": schema }))
    });
    let described: Map<String, Value> = described.collect();
    json!({ "description": description, "content": described })
}

/// A body that is no JSON.
pub(super) fn text_of(media: &str) -> Value {
    match media {
        // "binary" is how most programs that read such documents know a file.
        OCTETS => json!({ "type": "string", "format": "binary" }),
        _ => json!({ "type": "string" }),
    }
}

/// The envelope with one of its fields as it is here, and with `data`.
fn enveloped(field: &str, schema: Value, data: Option<Value>) -> Value {
    let mut fields = Map::new();
    fields.insert(field.to_owned(), schema);
    if let Some(data) = data {
        fields.insert("data".into(), data);
    }
    json!({ "allOf": [
        { "$ref": "#/components/schemas/Envelope" },
        { "type": "object", "properties": fields },
    ] })
}

pub(super) fn envelope_schema(generator: &mut SchemaGenerator) -> Value {
    json!({
        "type": "object",
        "description": "What is around every answer. With `X-Vault-Wrap-TTL` in the request the rest of it is null, and `wrap_info` says how to fetch it.",
        "required": [
            "request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth",
        ],
        "properties": {
            "request_id": { "type": "string", "description": "The request's id, which the audit log has, too" },
            "lease_id": { "type": "string", "description": "The lease of what was answered; empty where there is none" },
            "renewable": { "type": "boolean", "description": "Whether the lease can be renewed" },
            "lease_duration": {
                "type": "integer",
                "description": "Seconds until the lease ends; without a lease a hint how long the answer may be kept",
            },
            "data": { "type": ["object", "null"], "description": "What was asked for; each operation says its shape" },
            "wrap_info": {
                "anyOf": [generator.subschema_for::<WrapInfo>(), { "type": "null" }],
                "description": "The token that fetches the answer, where it was wrapped",
            },
            "warnings": {
                "type": ["array", "null"], "items": { "type": "string" },
                "description": "What the client should know besides, in words",
            },
            "auth": {
                "anyOf": [generator.subschema_for::<Auth>(), { "type": "null" }],
                "description": "The token, where one was issued or renewed",
            },
        },
    })
}

pub(super) fn done_schema() -> Value {
    json!({
        "description": "An envelope that says nothing but its warnings, or the lease that was renewed.",
        "allOf": [
            { "$ref": "#/components/schemas/Envelope" },
            { "type": "object", "properties": { "data": { "type": "null" } } },
        ],
    })
}

pub(super) fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["errors"],
        "properties": { "errors": {
            "type": "array", "items": { "type": "string" },
            "description": "Why there is no answer, in words; empty where the status says it all, as a plain 404 does",
        } },
    })
}

pub(super) const JSON: &str = "application/json";
/// A file.
pub(super) const OCTETS: &str = "application/octet-stream";

struct Refusal {
    /// Below `components/responses`.
    name: &'static str,
    about: &'static str,
}

const fn refusal(name: &'static str, about: &'static str) -> Refusal {
    Refusal { name, about }
}

/// What any operation may answer instead. The body is the same for all of them.
const REFUSALS: &[(u16, Refusal)] = &[
    (
        400,
        refusal("BadRequest", "The request is wrong; the message says how"),
    ),
    (
        401,
        refusal("Unauthorized", "The proof of a login is missing or refused"),
    ),
    (
        403,
        refusal(
            "Forbidden",
            "No token, one that is no longer valid, or one whose policies do not allow this",
        ),
    ),
    (404, refusal("NotFound", "There is nothing at this path")),
    (
        405,
        refusal(
            "UnsupportedOperation",
            "The path does not have this operation",
        ),
    ),
    (
        413,
        refusal("TooLarge", "The request is larger than the listener takes"),
    ),
    (
        415,
        refusal(
            "UnsupportedMediaType",
            "The body of a patch must be `application/merge-patch+json`",
        ),
    ),
    (
        429,
        refusal(
            "TooManyRequests",
            "Over a quota or a limit; `Retry-After` says when to try again",
        ),
    ),
    (
        500,
        refusal("InternalError", "The server failed; its log says why"),
    ),
    (
        502,
        refusal(
            "BadGateway",
            "A directory or another server that this one asked has failed",
        ),
    ),
    (
        503,
        refusal(
            "Unavailable",
            "Sealed, overloaded, or without its storage; try again",
        ),
    ),
];
