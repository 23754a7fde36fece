//! Splits HCL into tokens. Comments and line ends are tokens too: the formatter keeps them, the parser skips them.

use super::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Text,
    Number,
    Equals,
    Comma,
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    /// `# ...` or `// ...`, without the line end.
    LineComment,
    /// `/* ... */`, over one line or several.
    BlockComment,
    Newline,
    End,
}

/// A token: its kind and its bytes `start..end` of the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // Some editors on Windows begin a file with a byte order mark.
        let at = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        Self { text, at }
    }

    /// The next token; after the last one, `End` for ever.
    pub(super) fn next_token(&mut self) -> Result<Token, Error> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
        let start = self.at;
        let Some(&first) = bytes.get(start) else {
            return Ok(Token {
                kind: Kind::End,
                start,
                end: start,
            });
        };
        let kind = match first {
            b'\n' => self.single(Kind::Newline),
            b'=' => self.single(Kind::Equals),
            b',' => self.single(Kind::Comma),
            b'{' => self.single(Kind::OpenBrace),
            b'}' => self.single(Kind::CloseBrace),
            b'[' => self.single(Kind::OpenBracket),
            b']' => self.single(Kind::CloseBracket),
            b'#' => self.line_comment(),
            b'/' if bytes.get(start + 1) == Some(&b'/') => self.line_comment(),
            b'/' if bytes.get(start + 1) == Some(&b'*') => {
                let Some(length) = self.text[start + 2..].find("*/") else {
                    return Err(self.error(start, "this comment is never closed: `*/` is missing"));
                };
                self.at = start + 2 + length + 2;
                Kind::BlockComment
            }
            b'"' => self.string(start)?,
            b'-' | b'0'..=b'9' => self.number(start)?,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                self.skip_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
                Kind::Word
            }
            b'<' => {
                return Err(self.error(start, "heredocs are not read here; write a quoted string"));
            }
            b'\'' => return Err(self.error(start, "strings are written in double quotes")),
            _ => {
                let shown = self.text[start..].chars().next().unwrap_or_default();
                return Err(self.error(start, format!("unexpected character {shown:?}")));
            }
        };
        Ok(Token {
            kind,
            start,
            end: self.at,
        })
    }

    fn single(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        kind
    }

    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.text.as_bytes().get(self.at).is_some_and(|&b| keep(b)) {
            self.at += 1;
        }
    }

    fn line_comment(&mut self) -> Kind {
        self.skip_while(|b| b != b'\n');
        Kind::LineComment
    }

    fn string(&mut self, start: usize) -> Result<Kind, Error> {
        self.at += 1;
        loop {
            self.skip_while(|b| b != b'"' && b != b'\\' && b != b'\n');
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => return Ok(self.single(Kind::Text)),
                // The escaped character may be longer than a byte, but only a quote matters here.
                Some(b'\\')
                    if self
                        .text
                        .as_bytes()
                        .get(self.at + 1)
                        .is_some_and(|&b| b != b'\n') =>
                {
                    self.at += 2
                }
                _ => {
                    return Err(self.error(
                        start,
                        "this string is never closed: `\"` is missing on its line",
                    ));
                }
            }
        }
    }

    fn number(&mut self, start: usize) -> Result<Kind, Error> {
        self.at += 1;
        self.skip_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'));
        // The sign of an exponent; what precedes it was taken with the letters.
        if self.text[start..self.at].ends_with(['e', 'E'])
            && matches!(self.text.as_bytes().get(self.at), Some(b'+' | b'-'))
        {
            self.at += 1;
            self.skip_while(|b| b.is_ascii_alphanumeric());
        }
        if is_json_number(&self.text[start..self.at]) {
            return Ok(Kind::Number);
        }
        Err(self.error(
            start,
            "not a number; quote it if it is a text or a duration, as in \"768h\"",
        ))
    }

    fn error(&self, at: usize, message: impl Into<String>) -> Error {
        Error::at(self.text, at, message)
    }
}

/// The number syntax of RFC 8259, which both languages share here: no leading zeros (HCL 1 would read octal).
pub(super) fn is_json_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(e) => (&unsigned[..e], Some(&unsigned[e + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}
