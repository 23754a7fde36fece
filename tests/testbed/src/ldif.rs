//! LDIF (RFC 2849): written with every value in base64, read as ldb's tools print it.

use std::fmt::Write;

/// LDIF with every value in base64, so that no value needs thought.
#[derive(Debug, Default)]
pub(crate) struct Ldif(pub(crate) String);

impl Ldif {
    pub(crate) fn entry(&mut self, dn: &str, classes: &[&str], attributes: &[(&str, &str)]) {
        self.line("dn", dn);
        for class in classes {
            self.line("objectClass", class);
        }
        for (name, value) in attributes {
            self.line(name, value);
        }
        self.0.push('\n');
    }

    pub(crate) fn line(&mut self, name: &str, value: &str) {
        writeln!(self.0, "{name}:: {}", base64(value.as_bytes()))
            .expect("a String takes every write");
    }
}

/// The entries of an answer of ldbsearch or ldapsearch, each as its attributes, `dn` first. What
/// has no `dn`, such as a referral, is left out.
pub(crate) fn parse(text: &str) -> Vec<Vec<(String, String)>> {
    unfold(text)
        .split("\n\n")
        .map(|block| block.lines().filter_map(line).collect::<Vec<_>>())
        .filter(|entry| entry.iter().any(|(name, _)| name == "dn"))
        .collect()
}

/// A line that starts with a blank goes on from the one before.
pub(crate) fn unfold(text: &str) -> String {
    text.replace("\n ", "")
}

fn line(line: &str) -> Option<(String, String)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, value) = line.split_once(':')?;
    let value = match value.strip_prefix(':') {
        Some(encoded) => String::from_utf8_lossy(&from_base64(encoded.trim())?).into_owned(),
        None => value.trim_start().to_owned(),
    };
    Some((name.to_owned(), value))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let six = ALPHABET.iter().position(|&letter| letter == byte)?;
        bits = bits << 6 | u32::try_from(six).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count).to_be_bytes()[3]);
        }
    }
    Some(out)
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let n =
            chunk.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let six = (n >> (18 - 6 * i) & 63) as usize;
            out.push(if i <= chunk.len() {
                char::from(ALPHABET[six])
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded_as_rfc_4648_shows() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
            assert_eq!(from_base64(encoded), Some(plain.into()));
        }
    }

    #[test]
    fn an_answer_is_read_with_folded_and_encoded_values_and_without_referrals() {
        let text = "# record 1\ndn: CN=a,\n DC=b\ncn:: R3LDvMOfZQ==\nempty:\n\n\
                    # Referral\nref: ldap://c/\n\n# returned 2 records\n";
        let expected = [("dn", "CN=a,DC=b"), ("cn", "Grüße"), ("empty", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parse(text), [expected.to_vec()]);
    }
}
