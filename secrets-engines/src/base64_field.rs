//! Fields that carry bytes as base64. Their errors name the field and never repeat what was sent
//! (threats: `error-leaks-input`).

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeSliceError, Engine, decoded_len_estimate};
use obol_mount::{Error, Result};
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
    match STANDARD.decode_slice(text, &mut bytes[before..]) {
        Ok(length) => {
            bytes.truncate(before + length);
            Ok(bytes)
        }
        Err(DecodeSliceError::DecodeError(_) | DecodeSliceError::OutputSliceTooSmall) => Err(
            Error::bad_request(format!("failed to base64-decode {field}")),
        ),
    }
}

/// Bytes as standard base64, in memory that is wiped.
pub(crate) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(encoded_len(bytes.len())));
    STANDARD.encode_string(bytes, &mut text);
    text
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
        assert_eq!(*encode(b"hello"), "aGVsbG8=");
        assert_eq!(encoded_len(5), 8);
    }
}
