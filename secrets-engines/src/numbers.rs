//! Numbers that JSON may hold and this server cannot keep as they were sent.

use obol_mount::{Error, Result};
use serde_json::{Map, Value};

/// Refuses numbers beyond 64 bits. They reach a backend as floating point numbers, rounded: the
/// client would read back another number than it wrote, and nobody would know.
pub(crate) fn refuse_rounded(fields: &Map<String, Value>) -> Result<()> {
    if fields.values().all(is_exact) {
        return Ok(());
    }
    Err(Error::bad_request(
        "the data holds a number beyond 64 bits, which cannot be kept exactly; send it as text",
    ))
}

fn is_exact(value: &Value) -> bool {
    match value {
        // Below 2^63 in size, a floating point number was sent as one.
        Value::Number(number) if number.is_f64() => {
            number.as_f64().is_some_and(|float| float.abs() < TWO_TO_63)
        }
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
        _ => true,
    }
}

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(json: &str) -> bool {
        refuse_rounded(&serde_json::from_str(json).unwrap()).is_ok()
    }

    #[test]
    fn numbers_that_would_be_rounded_are_refused_wherever_they_are() {
        assert!(check(
            r#"{"a": 18446744073709551615, "b": -9223372036854775808, "c": 1.5}"#
        ));
        assert!(check(r#"{"a": -0.0, "b": 1e15, "c": {"d": [1e-300]}}"#));
        assert!(!check(r#"{"a": 18446744073709551616}"#));
        assert!(!check(r#"{"a": -9223372036854775809}"#));
        assert!(!check(
            r#"{"a": {"b": [0, {"c": 123456789012345678901234567890}]}}"#
        ));
    }
}
