//! Fields that carry bytes as base64. Their errors name the field and never repeat what was sent
//! (threats: `error-leaks-input`).

use base64::decoded_len_estimate;
use base64_simd::{Out, STANDARD};
use obol_mount::{Error, Result};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// Decodes standard base64. Line breaks are passed over, as Vault does: `base64` prints them.
pub(crate) fn decode(field: &str, text: &str) -> Result<Zeroizing<Vec<u8>>> {
    decode_framed(field, text, 0, 0)
}

/// The same with room before and after the bytes: for a nonce and a tag, so that a message is sealed where it lies. The
/// room before is there, zeroed; the room after is capacity.
pub(crate) fn decode_framed(
    field: &str,
    text: &str,
    before: usize,
    after: usize,
) -> Result<Zeroizing<Vec<u8>>> {
    let unbroken;
    let text = match memchr::memchr2(b'\r', b'\n', text.as_bytes()) {
        Some(_) => {
            unbroken = Zeroizing::new(text.replace(['\r', '\n'], ""));
            unbroken.as_str()
        }
        None => text,
    };
    let estimate = before + decoded_len_estimate(text.len());
    let mut bytes = Zeroizing::new(Vec::with_capacity(estimate + after));
    bytes.resize(estimate, 0);
    let room = Out::from_slice(&mut bytes[before..]);
    let length = match STANDARD.decode(text.as_bytes(), room) {
        Ok(decoded) => decoded.len(),
        Err(_) => {
            return Err(Error::bad_request(format!(
                "failed to base64-decode {field}"
            )));
        }
    };
    bytes.truncate(before + length);
    Ok(bytes)
}

/// Bytes as standard base64, in memory that is wiped.
pub(crate) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(encoded_len(bytes.len())));
    encode_onto(&mut text, bytes);
    text
}

/// The same onto a text that is there.
pub(crate) fn encode_onto(text: &mut String, bytes: &[u8]) {
    STANDARD.encode_append(bytes, text);
}

/// Writes a text of which it is known that JSON escapes nothing in it, base64 for example: looking for what to escape
/// takes longer than encrypting.
pub(crate) fn serialize<S: Serializer>(
    text: &str,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    let mut json = Zeroizing::new(String::with_capacity(text.len() + 2));
    json.push('"');
    json.push_str(text);
    json.push('"');
    // Fails where something was to be escaped after all.
    serde_json::from_str::<&RawValue>(&json)
        .map_err(S::Error::custom)?
        .serialize(serializer)
}

/// The length of so many bytes in base64.
pub(crate) fn encoded_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_are_passed_over_and_nothing_else_is() {
        assert_eq!(*decode("input", "aGVs\nbG8=\r\n").unwrap(), b"hello");
        assert_eq!(*decode("input", "").unwrap(), b"");
        for wrong in ["aGVsbG8", "aGVs bG8=", "_-__", "secret!", "aGVsbG9="] {
            let error = decode("input", wrong).unwrap_err().to_string();
            assert!(
                error.contains("input") && !error.contains(wrong),
                "{wrong}: {error}"
            );
        }
    }

    #[test]
    fn a_frame_leaves_room_on_both_sides() {
        let framed = decode_framed("plaintext", "aGVsbG8=", 12, 16).unwrap();
        assert_eq!(framed[12..], *b"hello");
        assert!(framed.capacity() >= 12 + 5 + 16);
        assert_eq!(framed[..12], [0; 12]);
        assert_eq!(*encode(b"hello"), "aGVsbG8=");
        assert_eq!(encoded_len(5), 8);
    }

    /// Every length around those that vectors take at a time, against the other crate.
    #[test]
    fn long_texts_are_read_and_written_as_short_ones_are() {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD as REFERENCE;
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 37 + length) as u8).collect();
            let text = REFERENCE.encode(&bytes);
            assert_eq!(*encode(&bytes), text);
            assert_eq!(*decode("input", &text).unwrap(), bytes);
            for at in 0..text.len() {
                let mut wrong = text.clone();
                wrong.replace_range(at..=at, "!");
                assert!(decode("input", &wrong).is_err(), "{length} {at}");
            }
            if length % 3 > 0 {
                let cut = text.trim_end_matches('=');
                assert!(decode("input", cut).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn what_would_have_to_be_escaped_is_not_written_as_it_is() {
        #[derive(serde::Serialize)]
        struct Shown<'a>(#[serde(serialize_with = "serialize")] &'a str);
        let json = |text| serde_json::to_string(&Shown(text));
        assert_eq!(json("vault:v1:aGVs+/8=").unwrap(), r#""vault:v1:aGVs+/8=""#);
        assert_eq!(serde_json::to_value(Shown("aGVs")).unwrap(), "aGVs");
        for wrong in ["\"", "a\",\"b", "\n", "a\\"] {
            assert!(json(wrong).is_err(), "{wrong}");
        }
    }
}
