//! HCL as Vault's files use it. Line ends mean nothing and commas between members are optional, as in HCL 1:
//! a member begins with a key and is complete when its value is.

use std::collections::HashSet;

use serde_json::Number;
use zeroize::Zeroizing;

use super::lexer::{Kind, Lexer, Token};
use super::{Error, MAX_DEPTH, Member, Name, Node, Object, Value};

pub(super) fn parse(text: &str) -> Result<Object, Error> {
    let mut parser = Parser::new(text)?;
    let object = parser.members(Kind::End, 0)?;
    Ok(object)
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    token: Token,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, Error> {
        let mut parser = Self {
            text,
            lexer: Lexer::new(text),
            token: Token {
                kind: Kind::End,
                start: 0,
                end: 0,
            },
        };
        parser.advance()?;
        Ok(parser)
    }

    /// Takes the current token and moves to the next that matters.
    fn advance(&mut self) -> Result<Token, Error> {
        let taken = self.token;
        loop {
            self.token = self.lexer.next_token()?;
            if !matches!(
                self.token.kind,
                Kind::Newline | Kind::LineComment | Kind::BlockComment
            ) {
                return Ok(taken);
            }
        }
    }

    /// Members up to `close`, which is taken.
    fn members(&mut self, close: Kind, depth: usize) -> Result<Object, Error> {
        self.check_depth(depth)?;
        let mut object = Object::default();
        let mut assigned = HashSet::new();
        loop {
            match self.token.kind {
                kind if kind == close => {
                    self.advance()?;
                    return Ok(object);
                }
                Kind::Word | Kind::Text => {
                    let member = self.member(depth)?;
                    // Blocks may repeat; whether they should is for the reader of the tree to say.
                    let scalar = !matches!(member.value.value, Value::Object(_));
                    if scalar && !assigned.insert(member.key.text.clone()) {
                        let key = super::quoted(&member.key.text);
                        return Err(self.error(
                            member.key.at,
                            format!("{key} is set twice; remove one of them"),
                        ));
                    }
                    object.members.push(member);
                    if self.token.kind == Kind::Comma {
                        self.advance()?;
                    }
                }
                Kind::End => return Err(self.error(self.token.start, "`}` is missing at the end")),
                _ => {
                    let what = if close == Kind::End {
                        "a key or a block"
                    } else {
                        "a key or `}`"
                    };
                    return Err(self.unexpected(what));
                }
            }
        }
    }

    fn member(&mut self, depth: usize) -> Result<Member, Error> {
        let key = self.name()?;
        let mut labels = Vec::new();
        loop {
            match self.token.kind {
                Kind::Equals if labels.is_empty() => {
                    self.advance()?;
                    let value = self.value(depth)?;
                    return Ok(Member { key, labels, value });
                }
                Kind::OpenBrace => {
                    let at = self.advance()?.start;
                    let body = self.members(Kind::CloseBrace, depth + 1)?;
                    return Ok(Member {
                        key,
                        labels,
                        value: Node {
                            at,
                            value: Value::Object(body),
                        },
                    });
                }
                Kind::Text | Kind::Word => labels.push(self.name()?),
                _ => {
                    let what = if labels.is_empty() {
                        "`=`, `{` or a label"
                    } else {
                        "`{` or a label"
                    };
                    return Err(
                        self.unexpected(&format!("{what} after {}", super::quoted(&key.text)))
                    );
                }
            }
        }
    }

    fn name(&mut self) -> Result<Name, Error> {
        let token = self.advance()?;
        let text = match token.kind {
            Kind::Text => std::mem::take(&mut *self.unescape(token)?),
            _ => self.text[token.start..token.end].to_owned(),
        };
        Ok(Name {
            at: token.start,
            text,
        })
    }

    fn value(&mut self, depth: usize) -> Result<Node, Error> {
        let at = self.token.start;
        let value = match self.token.kind {
            Kind::Text => {
                let token = self.advance()?;
                Value::Text(self.unescape(token)?)
            }
            Kind::Number => {
                let token = self.advance()?;
                let number = number(&self.text[token.start..token.end])
                    .ok_or_else(|| self.error(at, "this number is too large"))?;
                Value::Number(number)
            }
            Kind::Word => {
                let value = match &self.text[self.token.start..self.token.end] {
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    _ => return Err(self.unexpected("a value; put quotes around a text")),
                };
                self.advance()?;
                value
            }
            Kind::OpenBracket => {
                self.advance()?;
                Value::List(self.items(depth + 1)?)
            }
            Kind::OpenBrace => {
                self.advance()?;
                Value::Object(self.members(Kind::CloseBrace, depth + 1)?)
            }
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { at, value })
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, Error> {
        self.check_depth(depth)?;
        let mut items = Vec::new();
        loop {
            if self.token.kind == Kind::CloseBracket {
                self.advance()?;
                return Ok(items);
            }
            items.push(self.value(depth)?);
            match self.token.kind {
                Kind::Comma => {
                    self.advance()?;
                }
                Kind::CloseBracket => {}
                _ => return Err(self.unexpected("`,` or `]`")),
            }
        }
    }

    fn unescape(&self, token: Token) -> Result<Zeroizing<String>, Error> {
        unescape(&self.text[token.start + 1..token.end - 1], HCL_ESCAPES)
            .map_err(|(offset, message)| self.error(token.start + 1 + offset, message))
    }

    fn check_depth(&self, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(self.error(
                self.token.start,
                format!("nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        Ok(())
    }

    fn unexpected(&self, expected: &str) -> Error {
        let found = match self.token.kind {
            Kind::End => "the end".to_owned(),
            Kind::Text => "a string".to_owned(),
            _ => super::quoted(&self.text[self.token.start..self.token.end]),
        };
        self.error(
            self.token.start,
            format!("expected {expected}, found {found}"),
        )
    }

    fn error(&self, at: usize, message: impl Into<String>) -> Error {
        Error::at(self.text, at, message)
    }
}

/// Reads a number that [`super::lexer::is_json_number`] has passed; `None` when it is beyond 64 bits or infinite.
pub(super) fn number(text: &str) -> Option<Number> {
    if let Ok(small) = text.parse::<i64>() {
        return Some(small.into());
    }
    if let Ok(large) = text.parse::<u64>() {
        return Some(large.into());
    }
    // A whole number that does not fit would lose digits as a float.
    if !text.contains(['.', 'e', 'E']) {
        return None;
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

/// The escapes of one letter, beside `\"`, `\\` and `\u`.
pub(super) const HCL_ESCAPES: &[(char, char)] = &[('n', '\n'), ('r', '\r'), ('t', '\t')];

/// Resolves the escapes of a string's inside; errors tell the offset. `\uXXXX` may be half of a surrogate pair, as
/// in JSON; `\UXXXXXXXX` is HCL's own.
pub(super) fn unescape(
    inside: &str,
    letters: &[(char, char)],
) -> Result<Zeroizing<String>, (usize, &'static str)> {
    const UNKNOWN: &str = "unknown escape; write a backslash as `\\\\`";
    // Never longer than its source: the buffer is not moved, so that a secret leaves no copy behind.
    let mut out = Zeroizing::new(String::with_capacity(inside.len()));
    let mut rest = inside;
    while let Some(backslash) = rest.find('\\') {
        let at = inside.len() - rest.len() + backslash;
        out.push_str(&rest[..backslash]);
        rest = &rest[backslash + 1..];
        let escape = rest.chars().next().ok_or((at, UNKNOWN))?;
        rest = &rest[escape.len_utf8()..];
        match escape {
            '"' | '\\' => out.push(escape),
            'u' => {
                let mut code =
                    take_hex(&mut rest, 4).ok_or((at, "`\\u` takes four hexadecimal digits"))?;
                if (0xD800..0xDC00).contains(&code) {
                    let low = rest.strip_prefix("\\u").and_then(|mut tail| {
                        let low =
                            take_hex(&mut tail, 4).filter(|low| (0xDC00..0xE000).contains(low))?;
                        rest = tail;
                        Some(low)
                    });
                    let low = low.ok_or((at, "half of a surrogate pair"))?;
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                }
                out.push(char::from_u32(code).ok_or((at, "no such character"))?);
            }
            'U' if letters == HCL_ESCAPES => {
                let code =
                    take_hex(&mut rest, 8).ok_or((at, "`\\U` takes eight hexadecimal digits"))?;
                out.push(char::from_u32(code).ok_or((at, "no such character"))?);
            }
            _ => match letters.iter().find(|(letter, _)| *letter == escape) {
                Some((_, meaning)) => out.push(*meaning),
                None => return Err((at, UNKNOWN)),
            },
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn take_hex(rest: &mut &str, digits: usize) -> Option<u32> {
    let hex = rest
        .get(..digits)
        .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
    *rest = &rest[digits..];
    u32::from_str_radix(hex, 16).ok()
}
