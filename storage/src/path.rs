//! What a storage path may look like. Paths are refused, never cleaned, so that the path that
//! was authorised is the path that is read (`path-traversal` in the list of threats).

use crate::error::Error;

/// Bytes in a full path. Long names exist (LDAP groups, SPNs), endless ones do not.
pub(crate) const MAX: usize = 4096;

/// Checks the full path of a value.
pub(crate) fn check_value(path: &str) -> Result<(), Error> {
    check(path, false)
}

/// Checks a folder: a path that ends with a slash.
pub(crate) fn check_folder(path: &str) -> Result<(), Error> {
    check(path, true)
}

/// Checks the bounds of a scan or a listing's position, which need not be whole paths.
pub(crate) fn check_bound(path: &str) -> Result<(), Error> {
    if path.len() > MAX {
        return refuse(path, TOO_LONG);
    }
    Ok(())
}

/// The first string behind everything that begins with `folder` (which ends with a slash).
pub(crate) fn folder_end(folder: &str) -> String {
    debug_assert!(folder.ends_with('/'));
    // '0' follows '/' in ASCII.
    format!("{}0", &folder[..folder.len() - 1])
}

fn check(path: &str, folder: bool) -> Result<(), Error> {
    if path.len() > MAX {
        return refuse(path, TOO_LONG);
    }
    let segments = match (folder, path.strip_suffix('/')) {
        (true, None) => return refuse(path, "a folder ends with a slash"),
        (true, Some(rest)) => rest,
        (false, _) => path,
    };
    // This runs for every read, so all bytes are looked at at once, without a way out of the loop. U+0080 to U+009F, the
    // control characters beyond ASCII, begin with C2 in UTF-8; so do a few others.
    let odd = |byte: &u8| matches!(byte, 0..0x20 | 0x7f | 0xc2);
    if path.bytes().fold(false, |any, byte| any | odd(&byte)) && path.contains(char::is_control) {
        return refuse(path, CONTROL);
    }
    let segments = segments.as_bytes();
    let mut start = 0;
    for slash in memchr::memchr_iter(b'/', segments).chain([segments.len()]) {
        check_segment(path, &segments[start..slash])?;
        start = slash + 1;
    }
    Ok(())
}

fn check_segment(path: &str, segment: &[u8]) -> Result<(), Error> {
    match segment {
        b"" => refuse(path, "a segment is empty"),
        b"." | b".." => refuse(path, "a segment is `.` or `..`"),
        _ => Ok(()),
    }
}

fn refuse(path: &str, why: &'static str) -> Result<(), Error> {
    Err(Error::BadPath {
        path: path.chars().take(200).collect(),
        why,
    })
}

const TOO_LONG: &str = "it is too long";
const CONTROL: &str = "it holds a control character";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_traversal_and_other_odd_paths_are_refused() {
        for bad in [
            "", "/", "/a", "a/", "a//b", "a/../b", "..", ".", "./a", "a/.", "a\0b", "a\nb",
            "a\u{7f}", "a\u{85}b", "a/\u{9f}",
        ] {
            assert!(check_value(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "/", "a", "/a/", "a//", "a/../", "../"] {
            assert!(check_folder(bad).is_err(), "{bad:?}");
        }
        assert!(check_value(&"a".repeat(MAX + 1)).is_err());
        for good in [
            "a", "a/b", "...", "a/..b", "a b", "é/ü", "\u{a0}", "a%2fb", "a/.b/c.",
        ] {
            assert!(check_value(good).is_ok(), "{good:?}");
            assert!(check_folder(&format!("{good}/")).is_ok(), "{good:?}");
        }
    }
}
