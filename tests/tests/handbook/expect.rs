//! Whether an answer is the one in the page. `...` stands for what differs from run to run: within a line or a JSON
//! text for any characters, alone on a line for any lines, as a JSON key for any other keys, as the last item of a JSON
//! list for any more items. Runs of spaces count as one, because tables are as wide as what is in them; empty lines do not
//! count.

use serde_json::Value;

pub(crate) fn text_matches(expected: &str, found: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    lines_match(&lines(expected), &lines(found))
}

pub(crate) fn json_matches(expected: &str, found: &str) -> Result<bool, String> {
    let parse = |what: &str, text: &str| {
        serde_json::from_str::<Value>(text).map_err(|error| format!("{what} is no JSON: {error}"))
    };
    Ok(value_matches(
        &parse("the block", expected)?,
        &parse("the answer", found)?,
    ))
}

fn lines_match(expected: &[String], found: &[String]) -> bool {
    match expected.split_first() {
        None => found.is_empty(),
        Some((line, rest)) if line == ANY => {
            (0..=found.len()).any(|skipped| lines_match(rest, &found[skipped..]))
        }
        Some((line, rest)) => found
            .split_first()
            .is_some_and(|(first, others)| glob(line, first) && lines_match(rest, others)),
    }
}

fn value_matches(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::String(expected), _) if expected == ANY => true,
        (Value::String(expected), Value::String(found)) => glob(expected, found),
        (Value::Object(expected), Value::Object(found)) => {
            let open = expected.contains_key(ANY);
            expected
                .iter()
                .filter(|(name, _)| *name != ANY)
                .all(|(name, value)| found.get(name).is_some_and(|f| value_matches(value, f)))
                && (open || found.keys().all(|name| expected.contains_key(name)))
        }
        (Value::Array(expected), Value::Array(found)) => {
            let (expected, open) = match expected.split_last() {
                Some((Value::String(last), others)) if last == ANY => (others, true),
                _ => (expected.as_slice(), false),
            };
            (expected.len() == found.len() || open && expected.len() <= found.len())
                && expected.iter().zip(found).all(|(e, f)| value_matches(e, f))
        }
        _ => expected == found,
    }
}

/// Of more dots than three the last three count: in `obs....` the first is one.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(ANY) {
        let more = rest[at + ANY.len()..]
            .chars()
            .take_while(|c| *c == '.')
            .count();
        parts.push(&rest[..at + more]);
        rest = &rest[at + more + ANY.len()..];
    }
    parts.push(rest);
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

const ANY: &str = "...";

#[test]
fn dots_stand_for_what_differs_and_for_nothing_else() {
    assert!(text_matches("Key    Value\nid ...", "Key Value\nid   17\n"));
    assert!(text_matches("a\n...\nz", "a\nb\nc\nz"));
    assert!(text_matches("a...c", "abc") && !text_matches("a...c", "abd"));
    assert!(!text_matches("a", "a\nb") && !text_matches("a\nb", "a"));
    for (expected, found, same) in [
        (r#"{"a": "...", "b": 1}"#, r#"{"a": 17, "b": 1}"#, true),
        (r#"{"b": 1}"#, r#"{"a": 17, "b": 1}"#, false),
        (r#"{"b": 1, "...": "..."}"#, r#"{"a": 17, "b": 1}"#, true),
        (r#"[1, "..."]"#, "[1, 2, 3]", true),
        ("[1]", "[1, 2]", false),
        (r#"{"t": "hvs....x"}"#, r#"{"t": "hvs.abcx"}"#, true),
    ] {
        assert_eq!(
            json_matches(expected, found),
            Ok(same),
            "{expected} {found}"
        );
    }
}
