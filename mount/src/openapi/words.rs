//! A field that is written and read under one name is described once, where it is written: here its words get to the
//! answer.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use serde_json::{Map, Value};

use super::inline;
use crate::{Operation, RouteDoc};

/// Describes the fields of what a GET of this path answers by those of its POST, where they say nothing themselves.
pub(super) fn lend(route: &RouteDoc, generator: &mut SchemaGenerator) {
    let Some(read) = route.operations.get(&Operation::Read) else {
        return;
    };
    let words = words(route);
    let Some(schema) = (read.output)(generator).filter(|_| !words.is_empty()) else {
        return;
    };
    // A struct has its schema among the definitions, under its name.
    let name = schema.get("$ref").and_then(Value::as_str);
    let Some(name) = name.and_then(|reference| reference.rsplit('/').next()) else {
        return;
    };
    let answer = generator.definitions_mut().get_mut(name);
    let fields = answer.and_then(|answer| answer.get_mut("properties")?.as_object_mut());
    for (name, field) in fields.into_iter().flatten() {
        if let (Some(about), Some(field)) = (words.get(name), field.as_object_mut())
            && !field.contains_key("description")
        {
            field.insert("description".into(), about.clone().into());
        }
    }
}

/// What the fields of a POST are for, by name.
fn words(route: &RouteDoc) -> BTreeMap<String, String> {
    let Some(write) = route.operations.get(&Operation::Update) else {
        return BTreeMap::new();
    };
    let schema = (write.input)(&mut inline());
    let fields = schema.get("properties").and_then(Value::as_object);
    let described = fields.into_iter().flatten().filter_map(|(name, field)| {
        let about = field.get("description")?.as_str()?;
        let about = match is_duration(field.as_object()?) {
            // It was taken in many forms, and is answered in one.
            true => format!("{about}\n\nSeconds."),
            false => about.to_owned(),
        };
        Some((name.clone(), about))
    });
    described.collect()
}

/// Whether a field takes a text such as `1h30m`.
fn is_duration(field: &Map<String, Value>) -> bool {
    let examples = field.get("examples").and_then(Value::as_array);
    examples.is_some_and(|examples| examples.iter().any(|example| example == "1h30m"))
}
