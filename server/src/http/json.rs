//! A look at a JSON body before it is parsed: depth, number of values and length of strings are bounded
//! without allocating for them (threats: `json-bomb`).

use memchr::memchr2;
use obol_mount::{Error, Result};
use serde_json::{Map, Value};

use super::Limits;

/// Parses a body that must be an object. An empty one is an empty object, and so is `null`: Go's client sends that for
/// a write without data.
pub(super) fn parse_object(body: &[u8], limits: &Limits) -> Result<Map<String, Value>> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    check(body, limits)?;
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(Error::bad_request("the request body must be a JSON object")),
        // serde_json's text may quote the body; its place does not.
        Err(error) => Err(Error::bad_request(format!(
            "failed to parse JSON input: invalid at line {}, column {}",
            error.line(),
            error.column()
        ))),
    }
}

fn check(body: &[u8], limits: &Limits) -> Result<()> {
    let (mut depth, mut items) = (0usize, 0usize);
    let mut rest = body;
    while let [byte, behind @ ..] = rest {
        rest = behind;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                items += 1;
                if depth > limits.max_json_depth {
                    return Err(Error::bad_request(format!(
                        "the JSON body is nested deeper than {} levels",
                        limits.max_json_depth
                    )));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' | b':' => items += 1,
            b'"' => {
                // An escaped character counts once; a `\u` escape as what is written.
                let mut length = 0usize;
                while let Some(at) = memchr2(b'\\', b'"', rest) {
                    length += at;
                    let is_end = rest[at] == b'"';
                    rest = rest.get(at + 1 + usize::from(!is_end)..).unwrap_or(&[]);
                    if is_end {
                        break;
                    }
                    length += 1;
                }
                if length > limits.max_json_string {
                    return Err(Error::too_large(format!(
                        "a string in the JSON body is longer than {} bytes",
                        limits.max_json_string
                    )));
                }
            }
            _ => {}
        }
        if items > limits.max_json_items {
            return Err(Error::too_large(format!(
                "the JSON body holds more than {} values",
                limits.max_json_items
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            max_json_depth: 8,
            max_json_items: 100,
            max_json_string: 64,
            ..Limits::default()
        }
    }

    fn status(body: &str) -> Option<u16> {
        parse_object(body.as_bytes(), &limits())
            .err()
            .map(|e| e.status())
    }

    #[test]
    fn objects_and_nothing_are_bodies() {
        assert_eq!(parse_object(b"", &limits()).unwrap().len(), 0);
        assert_eq!(
            parse_object(br#"{"a": {"b": [1, "x\"y"]}}"#, &limits())
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn json_bomb_depth_numbers_and_lengths_are_bounded() {
        assert_eq!(
            status(&format!(
                "{{\"a\":{}{}}}",
                "[".repeat(100_000),
                "]".repeat(100_000)
            )),
            Some(400)
        );
        assert_eq!(
            status(&format!("{{\"a\":[{}1]}}", "1,".repeat(200))),
            Some(413)
        );
        assert_eq!(
            status(&format!("{{\"a\":\"{}\"}}", "x".repeat(100))),
            Some(413)
        );
        assert_eq!(status(&format!("{{\"a\":\"{}\"}}", "[".repeat(50))), None);
    }

    #[test]
    fn json_bomb_no_string_hides_what_follows_it() {
        let deep = "[".repeat(20);
        for string in [
            "", "x", r"\\", r#"\""#, r#"\\\""#, r"\u0022", "\u{e9}", r#"x\\\\"#,
        ] {
            let body = format!("{{\"a\":\"{string}\",\"b\":{deep}");
            let refused = parse_object(body.as_bytes(), &limits()).unwrap_err();
            assert!(refused.to_string().contains("nested"), "{body}: {refused}");
        }
        // What is inside of one is no structure, also behind an escaped quote.
        assert_eq!(status(&format!(r#"{{"a":"\"{deep}"}}"#)), None);
        assert_eq!(status(r#"{"a":"\"#), Some(400));
    }

    #[test]
    fn error_leaks_input_a_body_that_does_not_parse_is_not_repeated() {
        for body in [
            r#"{"password": hunter2}"#,
            "hunter2",
            r#"{"a": "hunter2"#,
            "[1]",
            "\"hunter2\"",
        ] {
            let error = parse_object(body.as_bytes(), &limits()).unwrap_err();
            assert_eq!(error.status(), 400);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
