//! The formatter behind `obol policy fmt`: two spaces of indent, one member a line, `=` aligned in a run of
//! neighbouring lines, at most one blank line, every comment kept. It changes layout and never a value.

use super::lexer::{Kind, Lexer, Token};
use super::{Error, Member, Node, Value};

/// Lays out a text afresh. JSON stays JSON. A text that does not parse is refused with its place.
///
/// What is formatted twice is the same as what is formatted once, and parses to the same tree as before.
pub fn format(text: &str) -> Result<String, Error> {
    let text = text.replace("\r\n", "\n");
    let tree = super::parse(&text)?;
    if super::is_json(&text) {
        let mut out = String::new();
        json_members(&tree.members, &text, 0, &mut out);
        out.push('\n');
        return Ok(out);
    }
    let mut tokens = Vec::new();
    let mut lexer = Lexer::new(&text);
    loop {
        let token = lexer.next_token()?;
        tokens.push(token);
        if token.kind == Kind::End {
            break;
        }
    }
    let mut printer = Printer {
        text: &text,
        tokens: &tokens,
        at: 0,
        lines: Vec::new(),
    };
    printer.members(0);
    Ok(lay_out(&printer.lines))
}

/// A line to be written. `value` is set on the lines whose `=` is aligned with their neighbours'.
#[derive(Default)]
struct Line {
    depth: usize,
    head: String,
    value: Option<String>,
    comment: Option<String>,
}

/// Walks the tokens of a text that is known to parse, so each step can rely on the grammar.
struct Printer<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
    lines: Vec<Line>,
}

impl Printer<'_> {
    fn peek(&self) -> Token {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> &str {
        let token = self.peek();
        self.at += 1;
        self.text[token.start..token.end].trim_end()
    }

    /// Members or list items up to the closing bracket, brace or the end, which is not taken.
    fn members(&mut self, depth: usize) {
        let first = self.lines.len();
        let mut newlines = 0;
        loop {
            match self.peek().kind {
                Kind::End | Kind::CloseBrace | Kind::CloseBracket => return,
                Kind::Newline => {
                    newlines += 1;
                    self.at += 1;
                    continue;
                }
                Kind::Comma => {
                    self.at += 1;
                    continue;
                }
                kind => {
                    if newlines > 1 && self.lines.len() > first {
                        self.lines.push(Line::default());
                    }
                    newlines = 0;
                    match kind {
                        Kind::LineComment | Kind::BlockComment => {
                            let head = self.take().to_owned();
                            self.lines.push(Line {
                                depth,
                                head,
                                ..Line::default()
                            });
                        }
                        _ => self.member(depth),
                    }
                }
            }
        }
    }

    /// `key = value` or a block, with the comment that ends its line.
    fn member(&mut self, depth: usize) {
        let mut line = Line {
            depth,
            ..Line::default()
        };
        loop {
            match self.peek().kind {
                Kind::Equals => {
                    self.at += 1;
                    let comments = self.skip_to_value();
                    self.hoist(depth, comments);
                    match self.single_line_value() {
                        Some(value) => line.value = Some(value),
                        None => {
                            line.head.push_str(" =");
                            return self.nested(line);
                        }
                    }
                    line.comment = self.trailing_comment();
                    return self.lines.push(line);
                }
                Kind::OpenBrace => return self.nested(line),
                Kind::LineComment | Kind::BlockComment => {
                    let comment = self.take().to_owned();
                    self.hoist(depth, vec![comment]);
                }
                Kind::Newline => self.at += 1,
                _ => {
                    if !line.head.is_empty() {
                        line.head.push(' ');
                    }
                    let word = self.take().to_owned();
                    line.head.push_str(&word);
                }
            }
        }
    }

    /// An opening brace or bracket after `line`, what is inside one level deeper, and the closing one.
    /// An empty block stays on its line.
    fn nested(&mut self, mut line: Line) {
        let depth = line.depth;
        let list = self.peek().kind == Kind::OpenBracket;
        if !line.head.is_empty() {
            line.head.push(' ');
        }
        line.head.push(if list { '[' } else { '{' });
        self.at += 1;
        let opened = self.lines.len();
        line.comment = self.comment_on_this_line();
        self.lines.push(line);
        if list {
            self.items(depth + 1)
        } else {
            self.members(depth + 1)
        }
        self.at += 1;
        let close = if list { "]" } else { "}" };
        if self.lines.len() == opened + 1 && self.lines[opened].comment.is_none() {
            self.lines[opened].head.push_str(close);
        } else {
            self.lines.push(Line {
                depth,
                head: close.into(),
                ..Line::default()
            });
        }
        let comment = self.trailing_comment();
        if let Some(last) = self.lines.last_mut()
            && last.comment.is_none()
        {
            last.comment = comment;
        }
    }

    /// The items of a list that spans lines: one a line, each with a comma.
    fn items(&mut self, depth: usize) {
        loop {
            match self.peek().kind {
                Kind::CloseBracket | Kind::End => return,
                Kind::Newline | Kind::Comma => self.at += 1,
                Kind::LineComment | Kind::BlockComment => {
                    let head = self.take().to_owned();
                    self.lines.push(Line {
                        depth,
                        head,
                        ..Line::default()
                    });
                }
                _ => {
                    let mut line = Line {
                        depth,
                        ..Line::default()
                    };
                    match self.single_line_value() {
                        Some(value) => {
                            line.head = value + ",";
                            line.comment = self.trailing_comment();
                            self.lines.push(line);
                        }
                        None => {
                            let first = self.lines.len();
                            self.nested(line);
                            // The comma belongs to the closing bracket, before any comment behind it.
                            if self.lines.len() > first
                                && let Some(last) = self.lines.last_mut()
                            {
                                last.head.push(',');
                            }
                        }
                    }
                }
            }
        }
    }

    /// A value that was written on one line and has no comment inside; takes nothing when it was not.
    fn single_line_value(&mut self) -> Option<String> {
        let start = self.at;
        let value = self.flat_value();
        if value.is_none() {
            self.at = start;
        }
        value
    }

    fn flat_value(&mut self) -> Option<String> {
        match self.peek().kind {
            Kind::OpenBracket => {
                self.open_flat();
                let mut items = Vec::new();
                loop {
                    match self.peek().kind {
                        Kind::CloseBracket => break self.at += 1,
                        Kind::Comma => self.at += 1,
                        _ => items.push(self.flat_value()?),
                    }
                }
                Some(format!("[{}]", items.join(", ")))
            }
            Kind::OpenBrace => {
                self.open_flat();
                let mut members = Vec::new();
                loop {
                    match self.peek().kind {
                        Kind::CloseBrace => break self.at += 1,
                        Kind::Comma => self.at += 1,
                        _ => members.push(self.flat_member()?),
                    }
                }
                Some(if members.is_empty() {
                    "{}".into()
                } else {
                    format!("{{ {} }}", members.join(", "))
                })
            }
            Kind::Text | Kind::Number | Kind::Word => Some(self.take().to_owned()),
            _ => None,
        }
    }

    /// Takes an opening bracket or brace and, when nothing else is inside, the line ends behind it: an empty
    /// value stands on one line.
    fn open_flat(&mut self) {
        self.at += 1;
        let inside = &self.tokens[self.at..];
        let newlines = inside
            .iter()
            .take_while(|t| t.kind == Kind::Newline)
            .count();
        let closes = |t: &Token| matches!(t.kind, Kind::CloseBracket | Kind::CloseBrace);
        if inside.get(newlines).is_some_and(closes) {
            self.at += newlines;
        }
    }

    fn flat_member(&mut self) -> Option<String> {
        let mut out = String::new();
        loop {
            match self.peek().kind {
                Kind::Text | Kind::Word => {
                    let word = self.take().to_owned();
                    out.push_str(&word);
                    out.push(' ');
                }
                Kind::Equals => {
                    self.at += 1;
                    let value = self.flat_value()?;
                    return Some(out + "= " + &value);
                }
                // A block inside an inline object.
                Kind::OpenBrace => {
                    let value = self.flat_value()?;
                    return Some(out + &value);
                }
                _ => return None,
            }
        }
    }

    /// Comments between `=` and its value have no line of their own to stand on: they go before the member.
    fn skip_to_value(&mut self) -> Vec<String> {
        let mut comments = Vec::new();
        loop {
            match self.peek().kind {
                Kind::Newline => self.at += 1,
                Kind::LineComment | Kind::BlockComment => comments.push(self.take().to_owned()),
                _ => return comments,
            }
        }
    }

    fn hoist(&mut self, depth: usize, comments: Vec<String>) {
        self.lines.extend(comments.into_iter().map(|head| Line {
            depth,
            head,
            ..Line::default()
        }));
    }

    /// The comments after a member on its last line, commas skipped.
    fn trailing_comment(&mut self) -> Option<String> {
        let start = self.at;
        while self.peek().kind == Kind::Comma {
            self.at += 1;
        }
        let comment = self.comment_on_this_line();
        if comment.is_none() {
            self.at = start;
        }
        comment
    }

    fn comment_on_this_line(&mut self) -> Option<String> {
        let mut comment: Option<String> = None;
        while matches!(self.peek().kind, Kind::LineComment | Kind::BlockComment) {
            let next = self.take().to_owned();
            comment = Some(match comment {
                Some(before) => before + " " + &next,
                None => next,
            });
        }
        comment
    }
}

/// Writes the lines, aligning `=` within each run of neighbouring one-line assignments.
fn lay_out(lines: &[Line]) -> String {
    let mut out = String::new();
    let mut width = 0;
    for (i, line) in lines.iter().enumerate() {
        let in_run = |other: Option<&Line>| {
            other.is_some_and(|o| o.value.is_some() && o.depth == line.depth)
        };
        if !in_run(i.checked_sub(1).map(|before| &lines[before])) {
            let run = lines[i..]
                .iter()
                .take_while(|l| l.value.is_some() && l.depth == line.depth);
            width = run.map(|l| l.head.chars().count()).max().unwrap_or(0);
        }
        if !line.head.is_empty() {
            out.push_str(&"  ".repeat(line.depth));
            out.push_str(&line.head);
        }
        if let Some(value) = &line.value {
            out.push_str(&" ".repeat(width.saturating_sub(line.head.chars().count())));
            out.push_str(" = ");
            out.push_str(value);
        }
        if let Some(comment) = &line.comment {
            out.push(' ');
            out.push_str(comment);
        }
        out.push('\n');
    }
    out
}

fn json_members(members: &[Member], text: &str, depth: usize, out: &mut String) {
    out.push('{');
    for (i, member) in members.iter().enumerate() {
        json_line(i, depth + 1, out);
        out.push_str(json_scalar(text, member.key.at));
        out.push_str(": ");
        json_value(&member.value, text, depth + 1, out);
    }
    if !members.is_empty() {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
    out.push('}');
}

fn json_value(node: &Node, text: &str, depth: usize, out: &mut String) {
    match &node.value {
        Value::Object(object) => json_members(&object.members, text, depth, out),
        Value::List(items) => {
            let nested = items
                .iter()
                .any(|item| matches!(item.value, Value::List(_) | Value::Object(_)));
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if nested {
                    json_line(i, depth + 1, out);
                } else if i > 0 {
                    out.push_str(", ");
                }
                json_value(item, text, depth + 1, out);
            }
            if nested {
                out.push('\n');
                out.push_str(&"  ".repeat(depth));
            }
            out.push(']');
        }
        _ => out.push_str(json_scalar(text, node.at)),
    }
}

fn json_line(index: usize, depth: usize, out: &mut String) {
    out.push_str(if index > 0 { ",\n" } else { "\n" });
    out.push_str(&"  ".repeat(depth));
}

/// The scalar that begins at an offset, as it was written. The text has been parsed, so it ends where JSON says.
fn json_scalar(text: &str, at: usize) -> &str {
    let rest = &text[at..];
    let end = if rest.starts_with('"') {
        let mut escaped = true;
        rest.bytes().position(|b| {
            let closes = b == b'"' && !escaped;
            escaped = b == b'\\' && !escaped;
            closes
        })
    } else {
        rest.bytes()
            .position(|b| matches!(b, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'))
            .map(|end| end - 1)
    };
    end.map_or(rest, |end| &rest[..=end])
}
