//! Search filters as templates: `{{.Username}}` in an RFC 4515 filter, never a way out of it.
//!
//! Vault's configuration writes filters as Go templates. Only the variables of that language are
//! taken over; they are rendered by handlebars in strict mode with an escape function that makes
//! every value one assertion value (RFC 4515 §3). A template is checked when it is written: an
//! unknown variable, a block or raw output, a variable where a value does not belong, or a
//! syntax error is refused with its place in the template.

use std::ops::Range;

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
    compared: Vec<Compared>,
}

/// A comparison `attribute=...{{.Username}}...` of a template.
struct Compared {
    /// `None`: the attribute is `{{.UserAttr}}`.
    attribute: Option<String>,
    /// What stands before and after the name.
    around: (String, String),
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

        let equalities = Syntax {
            text: &shape,
            at: 0,
            equalities: Vec::new(),
        }
        .filter_alone()
        .map_err(|(position, reason)| refuse(position, reason))?;
        let compared = equalities
            .into_iter()
            .filter_map(|item| Compared::read(text, item))
            .collect();

        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(escape_value);
        registry
            .register_template_string(TEMPLATE, &template)
            .map_err(|cause| ConfigError::new(field, format!("is not a template: {cause}")))?;
        let template = Self {
            registry,
            names,
            compared,
        };

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

    /// Whether it says anything of the user: one that does not finds the same for everybody.
    pub(crate) fn names_somebody(&self) -> bool {
        self.names
            .iter()
            .any(|name| Placeholders::GROUP.values.contains(name))
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

impl Compared {
    /// Of the attribute and the value at these places of the text; `None` if the value is not the user's name with
    /// something fixed around it.
    fn read(text: &str, (attribute, value): Equality) -> Option<Self> {
        let attribute = &text[attribute];
        let (before, rest) = text[value].split_once("{{")?;
        let (variable, after) = rest.split_once("}}")?;
        if variable.trim_matches(' ') != ".Username" || after.contains("{{") {
            return None;
        }
        let is_variable = attribute.starts_with("{{") && attribute.ends_with("}}");
        if !is_variable && attribute.contains("{{") {
            return None;
        }
        Some(Self {
            attribute: (!is_variable).then(|| attribute.to_owned()),
            around: (unescape(before)?, unescape(after)?),
        })
    }
}

impl FilterTemplate {
    /// Which attributes are compared with the user's name, and what each must say to be equal.
    pub(crate) fn compared(&self, user_attr: &str, username: &str) -> Vec<(String, String)> {
        self.compared
            .iter()
            .map(|compared| {
                let attribute = compared.attribute.as_deref().unwrap_or(user_attr);
                let (before, after) = &compared.around;
                (attribute.to_owned(), format!("{before}{username}{after}"))
            })
            .collect()
    }
}

/// The value behind its escapes (RFC 4515 §3); `None`: a pattern with `*`, or no text.
fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'*' => return None,
            b'\\' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Where the attribute and the value of a comparison by `=` are in the text.
type Equality = (Range<usize>, Range<usize>);

/// RFC 4515 §3 by recursive descent, for the sake of the place of an error.
struct Syntax<'a> {
    text: &'a str,
    at: usize,
    /// Those that are not within a `!`.
    equalities: Vec<Equality>,
}

type SyntaxError = (usize, &'static str);

impl Syntax<'_> {
    fn filter_alone(mut self) -> Result<Vec<Equality>, SyntaxError> {
        if self.text.is_empty() {
            return Err((0, "the filter is empty"));
        }
        self.filter(0)?;
        if self.at != self.text.len() {
            self.fail("text after the filter's last parenthesis")?;
        }
        Ok(self.equalities)
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
                let before = self.equalities.len();
                self.filter(depth + 1)?;
                self.equalities.truncate(before);
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
        let comparison = &self.text[start..left];
        let extensible = comparison.ends_with(':');
        let attribute = comparison
            .strip_suffix(['>', '<', '~', ':'])
            .unwrap_or(comparison);
        if extensible {
            check_extensible(start, attribute)?;
        } else if !is_attribute(attribute) {
            return Err((start, "the name of an attribute is missing or wrong"));
        }
        self.at = left + 1;
        self.value(extensible)?;
        if attribute.len() == comparison.len() {
            self.equalities.push((start..left, left + 1..self.at));
        }
        Ok(())
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

/// `attribute[:dn][:rule]` or `[:dn]:rule`, which starts at byte `start` of the filter.
fn check_extensible(start: usize, text: &str) -> Result<(), SyntaxError> {
    let mut parts = text.split(':');
    let attribute = parts.next().unwrap_or_default();
    let mut at = start + attribute.len() + 1;
    let mut rule = parts.next();
    if rule == Some("dn") {
        at += "dn:".len();
        rule = parts.next();
    }
    if !attribute.is_empty() && !is_attribute(attribute) {
        return Err((start, "the name of an attribute is wrong"));
    }
    if attribute.is_empty() && rule.is_none() {
        return Err((start, "an attribute or a matching rule is missing"));
    }
    match rule {
        Some(rule) if !is_attribute_type(rule) || parts.next().is_some() => {
            Err((at, "the name of a matching rule is missing or wrong"))
        }
        _ => Ok(()),
    }
}

/// An attribute description (RFC 4512 §2.5): a name or numeric OID, perhaps with options.
pub(crate) fn is_attribute(text: &str) -> bool {
    let mut parts = text.split(';');
    is_attribute_type(parts.next().unwrap_or_default())
        && parts.all(|option| {
            !option.is_empty()
                && option
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_attribute_type(text: &str) -> bool {
    let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_arc = |arc: &str| {
        !arc.is_empty()
            && arc.bytes().all(|b| b.is_ascii_digit())
            && (arc == "0" || !arc.starts_with('0'))
    };
    is_name || (text.contains('.') && text.split('.').all(is_arc))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ldap3::asn1::{ASNTag, PL};
    use proptest::prelude::*;

    use super::*;
    use crate::config::{DEFAULT_GROUP_FILTER, DEFAULT_USER_FILTER};

    fn group(text: &str) -> Result<FilterTemplate, ConfigError> {
        FilterTemplate::parse("groupfilter", text, Placeholders::GROUP)
    }

    fn user(text: &str) -> Result<FilterTemplate, ConfigError> {
        FilterTemplate::parse("userfilter", text, Placeholders::USER)
    }

    fn values<'a>(username: &'a str, dn: &'a str) -> [(&'static str, &'a str); 2] {
        [("Username", username), ("UserDN", dn)]
    }

    #[test]
    fn the_templates_of_vaults_documentation_are_taken() {
        for text in [
            DEFAULT_GROUP_FILTER,
            "(&(objectClass=group)(member:1.2.840.113556.1.4.1941:={{.UserDN}}))",
            "(|(memberUid={{ .Username }})(member={{   .UserDN   }}))",
            "(objectClass=*)",
            "(cn=a{b}c)",
            "(!(cn=*x*y))",
            "(:caseExactMatch:={{.Username}})",
            "(cn:dn:2.4.6.8.10:={{.Username}})",
            "(cn;lang-de>=\\c3\\a9)",
            "(&)",
        ] {
            group(text)
                .map(drop)
                .unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        for text in [
            DEFAULT_USER_FILTER,
            "(&(objectClass=user)({{ .UserAttr }}={{.Username}}))",
            "(|(uid={{.Username}})(mail={{.Username}}@example.com))",
        ] {
            user(text)
                .map(drop)
                .unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn values_are_rendered_escaped_wherever_they_stand() {
        let rendered = group("(|(memberUid={{.Username}})(member={{.UserDN}}))")
            .unwrap()
            .render(&values("*)(uid=*", "cn=a\\,b (c),o=&<>\"'x"))
            .unwrap();
        assert_eq!(
            rendered,
            "(|(memberUid=\\2a\\29\\28uid=\\2a)(member=cn=a\\5c,b \\28c\\29,o=&<>\"'x))"
        );
        let rendered = user(DEFAULT_USER_FILTER)
            .unwrap()
            .render(&[("UserAttr", "sAMAccountName"), ("Username", "grüße\0\n")])
            .unwrap();
        assert_eq!(rendered, "(sAMAccountName=grüße\\00\\0a)");
    }

    #[test]
    fn templates_that_could_do_more_than_name_a_value_are_refused() {
        for (text, position) in [
            ("(cn={{{.Username}}})", 5),
            ("(cn={{.Username}}})", 18),
            ("(cn={{&.Username}})", 5),
            ("(cn={{Username}})", 5),
            ("(cn={{.UserAttr}})", 5),
            ("(cn={{.Password}})", 5),
            ("(cn={{.username}})", 5),
            ("(cn={{.UserDN.x}})", 5),
            ("(cn={{.Username | printf}})", 5),
            ("(cn={{#if Username}}x{{/if}})", 5),
            ("(cn={{> other}})", 5),
            ("(cn={{! note }})", 5),
            ("(cn={{lookup this \"Username\"}})", 5),
            ("(cn={{}})", 5),
            ("(cn={{.Username", 5),
            ("(cn=\\{{.Username}})", 5),
            ("({{.Username}}=x)", 2),
            ("(cn:{{.Username}}:=x)", 5),
            ("{{.UserDN}}", 1),
        ] {
            let error = group(text).map(drop).expect_err(text);
            assert_eq!(error.field, "groupfilter");
            let place = format!(", at byte {position}");
            assert!(error.reason.ends_with(&place), "{text}: {error}");
        }
    }

    #[test]
    fn a_syntax_error_is_refused_with_its_place() {
        for (text, position) in [
            ("", 1),
            ("cn=x", 1),
            ("(cn=x", 6),
            ("(cn=x))", 7),
            ("(cn=x)(cn=y)", 7),
            ("(&(cn=x)", 9),
            ("(& (cn=x))", 3),
            ("(!cn=x)", 3),
            ("(!(cn=x)(cn=y))", 9),
            ("()", 2),
            ("(cn)", 2),
            ("(=x)", 2),
            ("(c n=x)", 2),
            ("(&(1.02=x))", 4),
            ("(cn;=x)", 2),
            ("(cn:a b:=x)", 5),
            ("(cn:dn:a:b:=x)", 8),
            ("(:=x)", 2),
            ("(cn=a(b)", 6),
            ("(cn=a\\)", 6),
            ("(cn=a\\4)", 6),
            ("(cn=a\\zz)", 6),
            ("(cn=a**b)", 6),
            ("(cn:=a*)", 7),
            ("(&(cn={{.Username}})(x)", 22),
            ("(cn=x\n)", 6),
        ] {
            let error = group(text).map(drop).expect_err(text);
            let place = format!(", at byte {position}");
            assert!(error.reason.ends_with(&place), "{text}: {error}");
        }
        let deep = format!("{}(cn=x){}", "(!".repeat(40), ")".repeat(40));
        assert!(
            group(&deep)
                .err()
                .unwrap()
                .reason
                .contains("nested too deeply")
        );
        let long = format!("(cn={})", "x".repeat(9000));
        assert!(group(&long).is_err());
    }

    /// The assertion values of a parsed filter, in order.
    fn leaves(filter: &str) -> Vec<Vec<u8>> {
        fn walk(tag: ldap3::asn1::StructureTag, into: &mut Vec<Vec<u8>>) {
            match tag.payload {
                PL::P(bytes) => into.push(bytes),
                PL::C(children) => children.into_iter().for_each(|child| walk(child, into)),
            }
        }
        let mut all = Vec::new();
        walk(
            ldap3::parse_filter(filter).unwrap().into_structure(),
            &mut all,
        );
        all
    }

    proptest! {
        #[test]
        fn whatever_the_values_hold_the_filter_keeps_its_shape(
            username in any::<String>(),
            dn in any::<String>(),
        ) {
            let rendered = group("(|(memberUid={{.Username}})(member={{.UserDN}}))")
                .unwrap()
                .render(&values(&username, &dn))
                .unwrap();
            let expected = [b"memberUid", username.as_bytes(), b"member", dn.as_bytes()];
            prop_assert_eq!(leaves(&rendered), expected.map(<[u8]>::to_vec).to_vec());
        }

        #[test]
        fn special_characters_stay_inside_the_value(username in r"[*()\\\x00{}.&<>a ]{0,16}") {
            let rendered = user(DEFAULT_USER_FILTER)
                .unwrap()
                .render(&[("UserAttr", "uid"), ("Username", &username)])
                .unwrap();
            let expected = [b"uid".to_vec(), username.into_bytes()];
            prop_assert_eq!(leaves(&rendered), expected.to_vec());
        }

        #[test]
        fn any_text_is_taken_or_refused_without_a_panic(text in r"[(){}&|!=*:<>~.\\a5 é]{0,24}") {
            let _ = group(&text);
        }

        #[test]
        fn what_the_library_refuses_our_check_refuses_first(text in r"\([&|!]?[(){}=*:<>~.\\a05;]{0,16}\)") {
            if let Err(error) = group(&text) {
                prop_assert!(!error.reason.contains("library"), "{}: {}", text, error);
            }
        }
    }
}
