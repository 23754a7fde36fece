//! The data of `write`, `kv put` and `login`: `key=value`, `key=@file`, `key=-`, `@file.json`, `-`, as Vault's
//! command line documents them. `key=\@value` is a value that starts with an at sign; a repeated key makes a list.

use std::io::Read;

use serde_json::{Map, Value};

use super::failure::{Failure, file_failure};

/// Reads the arguments into an object. Messages name keys and files, never values.
pub(super) fn parse(
    arguments: &[String],
    stdin: &mut dyn Read,
) -> Result<Map<String, Value>, Failure> {
    let mut stdin = Some(stdin);
    let mut data = Map::new();
    for argument in arguments {
        if argument == "-" {
            let text = take_stdin(&mut stdin)?;
            merge(&mut data, object(&text, "standard input")?);
        } else if let Some(path) = argument.strip_prefix('@') {
            merge(&mut data, object(&read_file(path)?, path)?);
        } else {
            let (key, value) = argument
                .split_once('=')
                .ok_or_else(|| not_a_pair(argument))?;
            if key.is_empty() {
                return Err(Failure::local(
                    "data must look like key=value; here the key is missing",
                ));
            }
            let value = match value {
                "-" => take_stdin(&mut stdin)?,
                _ => match value.strip_prefix('@') {
                    Some(path) => read_file(path)?,
                    None => value
                        .strip_prefix('\\')
                        .filter(|v| v.starts_with('@'))
                        .unwrap_or(value)
                        .to_owned(),
                },
            };
            insert(&mut data, key, Value::String(value));
        }
    }
    Ok(data)
}

/// As [`parse`], for commands whose data are texts alone (`login`, `audit enable`). Numbers and booleans of a
/// JSON file are written out; anything else is refused.
pub(super) fn parse_texts(
    arguments: &[String],
    stdin: &mut dyn Read,
) -> Result<Map<String, Value>, Failure> {
    let mut data = parse(arguments, stdin)?;
    for (key, value) in &mut data {
        match value {
            Value::String(_) => {}
            Value::Number(_) | Value::Bool(_) => *value = Value::String(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(Failure::local(format!(
                    "{key} must be given once, as a text"
                )));
            }
        }
    }
    Ok(data)
}

/// All of standard input, as text.
pub(super) fn read_stdin(stdin: &mut dyn Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    stdin
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::local(format!("cannot read standard input: {error}")))?;
    text(bytes, "standard input")
}

/// A file's text; `what` is for messages.
pub(super) fn read_file(path: &str) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| file_failure("read", path, &error))?;
    text(bytes, path)
}

fn text(bytes: Vec<u8>, source: &str) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| {
        Failure::local(format!("{source} is not UTF-8 text"))
            .hint("Binary data can be sent as base64: base64 -w0 FILE")
    })
}

fn take_stdin(stdin: &mut Option<&mut dyn Read>) -> Result<String, Failure> {
    match stdin.take() {
        Some(stdin) => read_stdin(stdin),
        None => Err(Failure::local(
            "standard input can be used once only, and two arguments name it with -",
        )),
    }
}

fn object(text: &str, source: &str) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::local(format!("{source} must hold a JSON object"))),
        // serde_json's own message may quote the text, which may be a secret.
        Err(error) => Err(Failure::local(format!(
            "{source} is not JSON: line {}, column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// The argument may be a secret that was typed in the wrong place, so it is shown only when it looks like a path.
fn not_a_pair(argument: &str) -> Failure {
    let failure = Failure::local("data must look like key=value, key=@file, @file.json or -");
    if std::path::Path::new(argument).exists() {
        failure.hint(format!(
            "To send the contents of the file, write @{argument}"
        ))
    } else {
        failure
    }
}

fn merge(data: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        insert(data, &key, value);
    }
}

fn insert(data: &mut Map<String, Value>, key: &str, value: Value) {
    match data.get_mut(key) {
        None => {
            data.insert(key.to_owned(), value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(arguments: &[&str], stdin: &str) -> Result<Value, Failure> {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        parse(&arguments, &mut stdin.as_bytes()).map(Value::Object)
    }

    #[test]
    fn pairs_become_an_object_of_texts() {
        let data = read(&["a=1", "b=x=y", "c="], "").unwrap();
        assert_eq!(data, json!({"a": "1", "b": "x=y", "c": ""}));
    }

    #[test]
    fn a_repeated_key_makes_a_list() {
        let data = read(&["p=a", "p=b", "p=c", "q=d"], "").unwrap();
        assert_eq!(data, json!({"p": ["a", "b", "c"], "q": "d"}));
    }

    #[test]
    fn files_and_standard_input_are_taken_byte_for_byte() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "line\n").unwrap();
        let path = file.path().to_str().unwrap();
        let data = read(&[&format!("f=@{path}"), "s=-"], "in\n").unwrap();
        assert_eq!(data, json!({"f": "line\n", "s": "in\n"}));
    }

    #[test]
    fn a_whole_object_comes_from_a_file_or_standard_input() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"n": 1, "list": [true]}"#).unwrap();
        let path = format!("@{}", file.path().display());
        assert_eq!(
            read(&[&path, "k=v"], "").unwrap(),
            json!({"n": 1, "list": [true], "k": "v"})
        );
        assert_eq!(
            read(&["-"], r#"{"a": {"b": null}}"#).unwrap(),
            json!({"a": {"b": null}})
        );
    }

    #[test]
    fn an_escaped_at_sign_is_a_value() {
        assert_eq!(
            read(&["a=\\@b", "c=\\d"], "").unwrap(),
            json!({"a": "@b", "c": "\\d"})
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_showing_values() {
        for (arguments, stdin) in [
            (&["hunter2"][..], ""),
            (&["=hunter2"], ""),
            (&["-"], "hunter2"),
            (&["-"], "[\"hunter2\"]"),
            (&["-"], "{\"a\": hunter2}"),
            (&["a=-", "b=-"], "hunter2"),
            (&["a=@/no/such/file"], ""),
        ] {
            let error = read(arguments, stdin).unwrap_err();
            assert_eq!(error.exit(), 1);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_file_named_without_its_at_sign_is_pointed_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(
            read(&[path], "")
                .unwrap_err()
                .to_string()
                .contains(&format!("@{path}"))
        );
    }

    #[test]
    fn texts_take_numbers_but_no_lists() {
        let mut stdin = r#"{"n": 5, "b": true}"#.as_bytes();
        let data = parse_texts(&["-".to_owned()], &mut stdin).unwrap();
        assert_eq!(Value::Object(data), json!({"n": "5", "b": "true"}));
        let twice = ["a=1".to_owned(), "a=2".to_owned()];
        assert!(parse_texts(&twice, &mut std::io::empty()).is_err());
    }
}
