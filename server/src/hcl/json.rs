//! JSON (RFC 8259) into the same tree, with places. Repeated keys are refused: which one counts must not be a guess.

use std::collections::HashSet;

use super::lexer::is_json_number;
use super::parser::{number, unescape};
use super::{Error, MAX_DEPTH, Member, Name, Node, Object, Value};

const ESCAPES: &[(char, char)] = &[
    ('n', '\n'),
    ('r', '\r'),
    ('t', '\t'),
    ('b', '\u{8}'),
    ('f', '\u{c}'),
    ('/', '/'),
];

pub(super) fn parse(text: &str) -> Result<Object, Error> {
    let at = if text.starts_with('\u{feff}') {
        '\u{feff}'.len_utf8()
    } else {
        0
    };
    let mut reader = Reader { text, at };
    let node = reader.value(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.error(reader.at, "unexpected text after the closing `}`"));
    }
    match node.value {
        Value::Object(object) => Ok(object),
        other => Err(reader.error(
            node.at,
            format!("expected an object, found {}", other.kind()),
        )),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Node, Error> {
        self.skip_space();
        let at = self.at;
        if depth > MAX_DEPTH {
            return Err(self.error(at, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let value = match self.peek() {
            Some(b'{') => Value::Object(self.object(depth)?),
            Some(b'[') => Value::List(self.list(depth)?),
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => {
                let digits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-');
                let length = self.text.as_bytes()[at..]
                    .iter()
                    .take_while(|b| digits(b))
                    .count();
                self.at += length;
                let text = &self.text[at..self.at];
                if !is_json_number(text) {
                    return Err(self.error(at, "not a number"));
                }
                Value::Number(
                    number(text).ok_or_else(|| self.error(at, "this number is too large"))?,
                )
            }
            _ if self.take("true") => Value::Bool(true),
            _ if self.take("false") => Value::Bool(false),
            _ if self.take("null") => Value::Null,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { at, value })
    }

    fn object(&mut self, depth: usize) -> Result<Object, Error> {
        self.at += 1;
        let mut object = Object::default();
        let mut seen = HashSet::new();
        self.skip_space();
        if self.take("}") {
            return Ok(object);
        }
        loop {
            self.skip_space();
            let at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let text = std::mem::take(&mut *self.string()?);
            if !seen.insert(text.clone()) {
                return Err(self.error(
                    at,
                    format!("{} is set twice; remove one of them", super::quoted(&text)),
                ));
            }
            self.skip_space();
            if !self.take(":") {
                return Err(self.unexpected("`:`"));
            }
            let value = self.value(depth + 1)?;
            object.members.push(Member {
                key: Name { at, text },
                labels: Vec::new(),
                value,
            });
            self.skip_space();
            if self.take("}") {
                return Ok(object);
            }
            if !self.take(",") {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Error> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.take("]") {
            return Ok(items);
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take("]") {
                return Ok(items);
            }
            if !self.take(",") {
                return Err(self.unexpected("`,` or `]`"));
            }
        }
    }

    fn string(&mut self) -> Result<zeroize::Zeroizing<String>, Error> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') if self.at + 1 < self.text.len() => self.at += 2,
                Some(b) if b >= 0x20 && b != b'\\' => self.at += 1,
                Some(b'\\') | None => {
                    return Err(self.error(start, "this string is never closed: `\"` is missing"));
                }
                Some(_) => {
                    return Err(self.error(
                        self.at,
                        "control characters in a string are written as escapes",
                    ));
                }
            }
        }
        let inside = &self.text[start + 1..self.at];
        self.at += 1;
        unescape(inside, ESCAPES)
            .map_err(|(offset, message)| self.error(start + 1 + offset, message))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, expected: &str) -> bool {
        // By bytes: an escape that skipped half a character must not make the slice panic.
        let found = self.text.as_bytes()[self.at..].starts_with(expected.as_bytes());
        if found {
            self.at += expected.len();
        }
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, expected: &str) -> Error {
        let found = match self
            .text
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
        {
            Some(found) => format!("{found:?}"),
            None => "the end".to_owned(),
        };
        self.error(self.at, format!("expected {expected}, found {found}"))
    }

    fn error(&self, at: usize, message: impl Into<String>) -> Error {
        Error::at(self.text, at, message)
    }
}
