//! Distinguished names as strings (RFC 4514): escaping one value, and reading a name apart.
//!
//! [`escape_value`] makes any user name safe inside a DN that is put together here;
//! [`Dn::parse`] reads what a directory answers, such as the values of `memberOf`, including the
//! quoted and `;`-separated forms that RFC 2253 asked implementations to go on accepting.

use std::fmt;

/// Escapes one attribute value for use in a DN: whatever `value` holds, it stays one value.
pub fn escape_value(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len() + 8);
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '=' | '\\' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '#' if index == 0 => escaped.push_str("\\#"),
            // Not `\ `: some parsers trim before they unescape.
            ' ' if index == 0 || index == last => escaped.push_str("\\20"),
            // NUL must be a hex pair; the other control characters as well, so that a DN is one line.
            '\0'..='\x1f' | '\x7f' => escaped.push_str(&format!("\\{:02x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A name read apart: relative names from the entry upwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dn {
    rdns: Vec<Vec<Ava>>,
}

/// One `type=value` of a relative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ava {
    /// The attribute as written: `cn`, `CN`, `2.5.4.3`.
    pub attribute: String,
    /// The value without escapes.
    pub value: Vec<u8>,
}

/// Why a text is not a DN, and at which byte (counted from 1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a distinguished name: {reason} at byte {position}")]
pub struct DnError {
    pub reason: &'static str,
    pub position: usize,
}

impl Dn {
    /// Reads `text`; the empty text is the empty name (the root).
    pub fn parse(text: &str) -> Result<Self, DnError> {
        let mut reader = Reader { text, at: 0 };
        let mut rdns = Vec::new();
        reader.skip_spaces();
        if reader.peek().is_none() {
            return Ok(Self { rdns });
        }
        let mut rdn = Vec::new();
        loop {
            rdn.push(reader.ava()?);
            match reader.next() {
                Some('+') => {}
                Some(',' | ';') => rdns.push(std::mem::take(&mut rdn)),
                None => {
                    rdns.push(rdn);
                    return Ok(Self { rdns });
                }
                Some(_) => {
                    reader.at -= 1;
                    return Err(reader.error("a special character is not escaped"));
                }
            }
        }
    }

    /// The relative names, the entry's own first.
    pub fn rdns(&self) -> &[Vec<Ava>] {
        &self.rdns
    }

    /// The domain that the name ends in, its `dc` parts (RFC 2247); `None` if it ends in none.
    pub(crate) fn domain(&self) -> Option<Self> {
        let is_dc = |rdn: &Vec<Ava>| {
            let mut avas = rdn.iter();
            avas.all(|ava| {
                ["dc", "0.9.2342.19200300.100.1.25"]
                    .iter()
                    .any(|dc| ava.attribute.eq_ignore_ascii_case(dc))
            })
        };
        let count = self.rdns.iter().rev().take_while(|rdn| is_dc(rdn)).count();
        let rdns = self.rdns[self.rdns.len() - count..].to_vec();
        (count > 0).then_some(Self { rdns })
    }

    /// The value of the entry's own relative name, which is what people call the entry:
    /// `engineers` of `cn=engineers,ou=Groups,dc=example,dc=com`. Of a relative name with several
    /// parts, its `cn`, or else the first.
    pub fn name(&self) -> Option<&str> {
        let rdn = self.rdns.first()?;
        let ava = rdn
            .iter()
            .find(|ava| ava.attribute.eq_ignore_ascii_case("cn"))
            .or(rdn.first())?;
        std::str::from_utf8(&ava.value)
            .ok()
            .filter(|name| !name.is_empty())
    }
}

impl fmt::Display for Dn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rdn) in self.rdns.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            for (index, ava) in rdn.iter().enumerate() {
                if index > 0 {
                    f.write_str("+")?;
                }
                write!(f, "{}=", ava.attribute)?;
                match std::str::from_utf8(&ava.value) {
                    Ok(value) => f.write_str(&escape_value(value))?,
                    Err(_) => ava.value.iter().try_for_each(|b| write!(f, "\\{b:02x}"))?,
                }
            }
        }
        Ok(())
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(' ') {
            self.at += 1;
        }
    }

    fn error(&self, reason: &'static str) -> DnError {
        DnError {
            reason,
            position: self.at + 1,
        }
    }

    fn ava(&mut self) -> Result<Ava, DnError> {
        self.skip_spaces();
        let attribute = self.attribute()?;
        self.skip_spaces();
        if self.peek() != Some('=') {
            return Err(self.error("an '=' is missing"));
        }
        self.at += 1;
        self.skip_spaces();
        let value = match self.peek() {
            Some('#') => self.hex_value()?,
            Some('"') => self.quoted_value()?,
            _ => self.plain_value()?,
        };
        Ok(Ava { attribute, value })
    }

    fn attribute(&mut self) -> Result<String, DnError> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')))
            .unwrap_or(rest.len());
        let name = &rest[..end];
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(self.error("the name of an attribute is missing"));
        }
        self.at += end;
        Ok(name.to_owned())
    }

    /// Up to an unescaped separator; spaces around the value do not count unless escaped.
    fn plain_value(&mut self) -> Result<Vec<u8>, DnError> {
        let mut value = Vec::new();
        let mut keep = 0;
        while let Some(c) = self.peek() {
            match c {
                ',' | ';' | '+' => break,
                '\\' => {
                    self.escaped(&mut value)?;
                    keep = value.len();
                    continue;
                }
                '"' | '<' | '>' | '\0' => {
                    return Err(self.error("a special character is not escaped"));
                }
                ' ' => value.push(b' '),
                c => {
                    value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    keep = value.len();
                }
            }
            self.at += c.len_utf8();
        }
        value.truncate(keep);
        Ok(value)
    }

    fn quoted_value(&mut self) -> Result<Vec<u8>, DnError> {
        self.at += 1;
        let mut value = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("a quoted value does not end")),
                Some('"') => break,
                Some('\\') => self.escaped(&mut value)?,
                Some(c) => {
                    value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    self.at += c.len_utf8();
                }
            }
        }
        self.at += 1;
        self.skip_spaces();
        Ok(value)
    }

    /// `#` and the BER of the value in hex. The contents of a primitive element are the value.
    fn hex_value(&mut self) -> Result<Vec<u8>, DnError> {
        self.at += 1;
        let mut ber = Vec::new();
        while self.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
            ber.push(self.hex_pair()?);
        }
        self.skip_spaces();
        match ber.as_slice() {
            [tag, length, value @ ..]
                if tag & 0x20 == 0 && *length < 0x80 && usize::from(*length) == value.len() =>
            {
                Ok(value.to_vec())
            }
            _ => Err(self.error("a value in hex is not a short BER string")),
        }
    }

    fn escaped(&mut self, value: &mut Vec<u8>) -> Result<(), DnError> {
        self.at += 1;
        match self.peek() {
            Some(c @ ('"' | '+' | ',' | ';' | '<' | '>' | '=' | '\\' | '#' | ' ')) => {
                value.push(c as u8);
                self.at += 1;
                Ok(())
            }
            Some(c) if c.is_ascii_hexdigit() => {
                value.push(self.hex_pair()?);
                Ok(())
            }
            _ => Err(self.error("a backslash escapes nothing")),
        }
    }

    fn hex_pair(&mut self) -> Result<u8, DnError> {
        let pair = self
            .rest()
            .get(..2)
            .filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or_else(|| self.error("a hex digit is missing"))?;
        self.at += 2;
        Ok(pair)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(dn: &str) -> Option<String> {
        Dn::parse(dn).unwrap().name().map(str::to_owned)
    }

    #[test]
    fn the_first_relative_name_names_the_group() {
        let group = "cn=engineers,ou=Groups,dc=example,dc=com";
        assert_eq!(name(group).as_deref(), Some("engineers"));
        assert_eq!(
            name("CN = Domain Admins , DC=ad").as_deref(),
            Some("Domain Admins")
        );
        assert_eq!(name("ou=ops;o=example").as_deref(), Some("ops"));
        assert_eq!(name("gidNumber=7+cn=ops,o=x").as_deref(), Some("ops"));
        assert_eq!(name("2.5.4.3=#04036f7073,o=x").as_deref(), Some("ops"));
        assert_eq!(name("cn=\"a, b\" ,o=x").as_deref(), Some("a, b"));
        assert_eq!(
            name(r"cn=a\, b\2c\c3\a9\20,o=x").as_deref(),
            Some("a, b,é ")
        );
        assert_eq!(name("").as_deref(), None);
        assert_eq!(name("cn=,o=x").as_deref(), None);
        assert_eq!(name(r"cn=\ff,o=x").as_deref(), None);
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_place() {
        for (text, position) in [
            ("engineers", 10),
            ("cn=a,", 6),
            ("cn=a,,o=x", 6),
            ("=a", 1),
            ("cn=a\\", 6),
            ("cn=a\\zb", 6),
            ("cn=a\\4", 6),
            ("cn=\"a", 6),
            ("cn=\"a\"b", 7),
            ("cn=a<b", 5),
            ("cn=#0", 5),
            ("cn=#0405aa,o=x", 11),
        ] {
            assert_eq!(Dn::parse(text).unwrap_err().position, position, "{text}");
        }
    }

    #[test]
    fn each_special_character_is_escaped() {
        assert_eq!(escape_value("#a#"), r"\#a#");
        assert_eq!(escape_value(" "), r"\20");
        assert_eq!(escape_value("  a b  "), r"\20 a b \20");
        assert_eq!(escape_value("a\0b\n"), r"a\00b\0a");
        assert_eq!(
            escape_value(r#"a,b+c"d\e<f>g;h=i"#),
            r#"a\,b\+c\"d\\e\<f\>g\;h\=i"#
        );
        assert_eq!(escape_value("é漢"), "é漢");
    }

    proptest! {
        #[test]
        fn an_escaped_value_reads_back_as_itself(value in any::<String>()) {
            let text = format!("cn={},ou=People,dc=example", escape_value(&value));
            let dn = Dn::parse(&text).unwrap();
            prop_assert_eq!(dn.rdns().len(), 3);
            prop_assert_eq!(dn.rdns()[0].len(), 1);
            prop_assert_eq!(&dn.rdns()[0][0].value, value.as_bytes());
        }

        #[test]
        fn a_value_of_special_characters_reads_back(value in r#"[ #,+"\\<>;=a\x00\n]{0,12}"#) {
            let dn = Dn::parse(&format!("cn={}", escape_value(&value))).unwrap();
            prop_assert_eq!(&dn.rdns()[0][0].value, value.as_bytes());
        }

        #[test]
        fn any_text_is_read_or_refused(text in r#"[ #,+"\\<>;=a0é]{0,24}"#) {
            if let Ok(dn) = Dn::parse(&text) {
                prop_assert_eq!(Dn::parse(&dn.to_string()).unwrap(), dn);
            }
        }
    }
}
