//! Search filters as templates: `{{.Username}}` in an RFC 4515 filter, never a way out of it.
//!
//! Vault's configuration writes filters as Go templates. Only the variables of that language are
//! taken over; they are rendered by handlebars in strict mode with an escape function that makes
//! every value one assertion value (RFC 4515 §3). A template is checked when it is written: an
//! unknown variable, a block or raw output, a variable where a value does not belong, or a
//! syntax error is refused with its place in the template.

use handlebars::Handlebars;
use serde_json::{Map, Value};

use crate::config::ConfigError;

/// Escapes one assertion value (RFC 4515 §3). UTF-8 beyond ASCII stays as it is, as the grammar
/// allows; control characters are escaped as well, so that a filter is one line in a log.
pub(crate) fn escape_value(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len() + 8);
    for c in value.chars() {
        match c {
            '*' | '(' | ')' | '\\' | '\0'..='\x1f' | '\x7f' => {
                escaped.push_str(&format!("\\{:02x}", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Which variables a template may use, and where.
pub(crate) struct Placeholders {
    /// Operator's values, checked elsewhere, that may stand for an attribute.
    attributes: &'static [&'static str],
    /// Values from outside, for assertion values only.
    values: &'static [&'static str],
}

impl Placeholders {
    pub(crate) const USER: Self = Self {
        attributes: &["UserAttr"],
        values: &["Username"],
    };
    pub(crate) const GROUP: Self = Self {
        attributes: &[],
        values: &["UserDN", "Username"],
    };

    fn listed(&self) -> String {
        let all: Vec<_> = self
            .attributes
            .iter()
            .chain(self.values)
            .map(|name| format!("{{{{.{name}}}}}"))
            .collect();
        all.join(" and ")
    }
}

/// A filter template that has been checked.
pub(crate) struct FilterTemplate {
    registry: Handlebars<'static>,
    names: Vec<&'static str>,
}

const TEMPLATE: &str = "filter";
/// Deeper nesting is refused: the LDAP library parses filters recursively.
const MAX_DEPTH: usize = 32;
const MAX_LENGTH: usize = 8192;
/// Stands for a value while the syntax is checked; control characters are refused before that.
const VALUE_MARK: char = '\x01';

impl FilterTemplate {
    /// Checks and compiles `text`; `field` is named in the error.
    pub(crate) fn parse(
        field: &'static str,
        text: &str,
        placeholders: Placeholders,
    ) -> Result<Self, ConfigError> {
        let refuse = |position: usize, reason: &str| {
            ConfigError::new(field, format!("{reason}, at byte {}", position + 1))
        };
        if text.len() > MAX_LENGTH {
            return Err(ConfigError::new(
                field,
                format!("is longer than {MAX_LENGTH} bytes"),
            ));
        }
        if let Some(position) = text.find(char::is_control) {
            return Err(refuse(position, "a line break or other control character"));
        }

        // `template` is what handlebars gets; `shape` is the same text with each variable
        // replaced by as many marks as it has bytes, so that places in it are places in `text`.
        let mut template = String::with_capacity(text.len());
        let mut shape = String::with_capacity(text.len());
        let mut names = Vec::new();
        let mut at = 0;
        while let Some(open) = text[at..].find("{{").map(|offset| at + offset) {
            if text[open..].starts_with("{{{") {
                return Err(refuse(open, "raw output ({{{) would not be escaped"));
            }
            if text[..open].ends_with('\\') {
                return Err(refuse(open - 1, "a backslash before a variable"));
            }
            let close = text[open..]
                .find("}}")
                .map(|offset| open + offset)
                .ok_or_else(|| refuse(open, "a variable that does not end with }}"))?;
            let end = close + 2;
            if text[end..].starts_with('}') {
                return Err(refuse(end, "one } too many after a variable"));
            }
            let name = text[open + 2..close].trim_matches(' ');
            let known = |list: &[&'static str]| {
                list.iter()
                    .copied()
                    .find(|known| name.strip_prefix('.') == Some(known))
            };
            let (name, mark) = match (known(placeholders.attributes), known(placeholders.values)) {
                (Some(name), _) => (name, 'a'),
                (None, Some(name)) => (name, VALUE_MARK),
                (None, None) => {
                    let reason = format!(
                        "a template knows {} and nothing else",
                        placeholders.listed()
                    );
                    return Err(refuse(open, &reason));
                }
            };
            template.push_str(&text[at..open]);
            template.push_str(&format!("{{{{{name}}}}}"));
            shape.push_str(&text[at..open]);
            shape.extend(std::iter::repeat_n(mark, end - open));
            if !names.contains(&name) {
                names.push(name);
            }
            at = end;
        }
        template.push_str(&text[at..]);
        shape.push_str(&text[at..]);

        Syntax {
            text: &shape,
            at: 0,
        }
        .filter_alone()
        .map_err(|(position, reason)| refuse(position, reason))?;

        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(escape_value);
        registry
            .register_template_string(TEMPLATE, &template)
            .map_err(|cause| ConfigError::new(field, format!("is not a template: {cause}")))?;
        let template = Self { registry, names };

        // The last word has the parser that the searches will use.
        let trial = template
            .render(&[
                ("UserAttr", "cn"),
                ("Username", "user"),
                ("UserDN", "cn=user"),
            ])
            .map_err(|cause| ConfigError::new(field, cause))?;
        ldap3::parse_filter(&trial)
            .map_err(|()| ConfigError::new(field, "is not a filter that the LDAP library reads"))?;
        Ok(template)
    }

    /// The filter with every value escaped. `values` may name more than the template uses.
    pub(crate) fn render(&self, values: &[(&'static str, &str)]) -> Result<String, String> {
        let context: Map<String, Value> = values
            .iter()
            .filter(|(name, _)| self.names.contains(name))
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        self.registry
            .render(TEMPLATE, &context)
            .map_err(|cause| format!("the filter template does not render: {cause}"))
    }
}

/// RFC 4515 §3 by recursive descent, for the sake of the place of an error.
struct Syntax<'a> {
    text: &'a str,
    at: usize,
}

type SyntaxError = (usize, &'static str);

impl Syntax<'_> {
    fn filter_alone(mut self) -> Result<(), SyntaxError> {
        if self.text.is_empty() {
            return Err((0, "the filter is empty"));
        }
        self.filter(0)?;
        match self.at == self.text.len() {
            true => Ok(()),
            false => self.fail("text after the filter's last parenthesis"),
        }
    }

    fn filter(&mut self, depth: usize) -> Result<(), SyntaxError> {
        if depth == MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        self.expect('(', "a ( is missing")?;
        match self.peek() {
            Some('&' | '|') => {
                self.at += 1;
                while self.peek() == Some('(') {
                    self.filter(depth + 1)?;
                }
            }
            Some('!') => {
                self.at += 1;
                self.filter(depth + 1)?;
            }
            _ => self.item()?,
        }
        self.expect(')', "a ) is missing")
    }

    fn item(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        let left = self.text[start..]
            .find('=')
            .map(|offset| start + offset)
            .filter(|end| !self.text[start..*end].contains(['(', ')', '*']))
            .ok_or((start, "an attribute, a comparison and a value are missing"))?;
        if let Some(mark) = self.text[start..left].find(VALUE_MARK) {
            return Err((start + mark, "a user's name cannot stand for an attribute"));
        }
        let mut attribute = &self.text[start..left];
        let extensible = attribute.ends_with(':');
        if let Some(shorter) = attribute.strip_suffix(['>', '<', '~', ':']) {
            attribute = shorter;
        }
        let fits = |c: char| {
            c.is_ascii_alphanumeric()
                || matches!(c, '-' | '.' | ';' | '_')
                || (extensible && c == ':')
        };
        if let Some(bad) = attribute.find(|c| !fits(c)) {
            return Err((start + bad, "a character that no attribute has"));
        }
        if attribute.is_empty() {
            return Err((start, "the attribute is missing"));
        }
        self.at = left + 1;
        self.value(extensible)
    }

    fn value(&mut self, extensible: bool) -> Result<(), SyntaxError> {
        while let Some(c) = self.peek() {
            match c {
                ')' => return Ok(()),
                '(' => return self.fail("a ( inside a value must be written \\28"),
                '*' if extensible => return self.fail("a * inside a value must be written \\2a"),
                '*' if self.text[self.at..].starts_with("**") => {
                    return self.fail("two * in a row");
                }
                '\\' => {
                    let digits = self.text.as_bytes().get(self.at + 1..self.at + 3);
                    if !digits.is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit)) {
                        return self.fail("a backslash without two hex digits");
                    }
                    self.at += 3;
                }
                c => self.at += c.len_utf8(),
            }
        }
        self.fail("a ) is missing")
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn expect(&mut self, wanted: char, otherwise: &'static str) -> Result<(), SyntaxError> {
        match self.peek() {
            Some(c) if c == wanted => {
                self.at += wanted.len_utf8();
                Ok(())
            }
            _ => self.fail(otherwise),
        }
    }

    fn fail(&self, reason: &'static str) -> Result<(), SyntaxError> {
        Err((self.at, reason))
    }
}
