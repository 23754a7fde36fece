//! When a directory takes two names for one: the string preparation of RFC 4518, as far as it matters for names of users.

use unicode_normalization::UnicodeNormalization as _;

/// A name such that two which a directory may take for one are the same: mapped, normalised (NFKC), without case and
/// needless spaces.
pub fn prepared(name: &str) -> String {
    // Lower case may compose differently, so once more.
    let name: String = normalised(name).to_lowercase().nfkc().collect();
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a directory reads a name as it is written, case aside.
pub(crate) fn is_plain(name: &str) -> bool {
    normalised(name) == name && !has_ignored_spaces(name)
}

fn normalised(name: &str) -> String {
    name.chars().filter(|c| !is_ignored(*c)).nfkc().collect()
}

/// RFC 4518 section 2.6.1.
fn has_ignored_spaces(name: &str) -> bool {
    name.starts_with(char::is_whitespace)
        || name.ends_with(char::is_whitespace)
        || name
            .chars()
            .zip(name.chars().skip(1))
            .any(|(one, next)| one.is_whitespace() && next.is_whitespace())
}

/// RFC 4518 section 2.2: what is mapped to nothing.
fn is_ignored(c: char) -> bool {
    matches!(
        c,
        '\u{0}'..='\u{8}'
            | '\u{e}'..='\u{1f}'
            | '\u{7f}'..='\u{84}'
            | '\u{86}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{1806}'
            | '\u{180b}'..='\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2063}'
            | '\u{206a}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_case_spellings_that_a_directory_takes_for_one_are_one_and_not_plain() {
        for spelling in [
            "\u{ff47}\u{ff52}\u{ff41}\u{ff43}\u{ff45}",
            "grac\u{ff45}",
            "gra\u{ad}ce",
            "g\u{200b}race",
            " grace",
        ] {
            assert_eq!(prepared(spelling), "grace", "{spelling:?}");
            assert!(!is_plain(spelling), "{spelling:?}");
        }
        assert_eq!(prepared("GRACE  Hopper "), "grace hopper");
        assert_eq!(prepared("re\u{301}ne"), prepared("R\u{c9}NE"));
        for plain in ["grace", "Grace Hopper", "ren\u{e9}", "\u{5b57}", "o'neil+x"] {
            assert!(is_plain(plain), "{plain:?}");
        }
    }
}
