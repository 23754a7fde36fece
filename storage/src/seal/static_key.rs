//! The static seal: a key that the operator gives to the process, from the environment or a file
//! (Vault's `seal "static"` stanza, with `current_key`, `current_key_id` and the `previous_` pair
//! for rotating it).

use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::{SealConfig, key_from};
use crate::barrier::envelope::{KEY_LEN, Key};

/// The keys that may open the root key.
#[derive(Debug)]
pub struct StaticSeal {
    /// Seals from now on.
    pub current: StaticKey,
    /// Opens what an earlier configuration sealed.
    pub previous: Option<StaticKey>,
}

/// A named key. Wiped when dropped, never printed.
pub struct StaticKey {
    id: String,
    key: Key,
}

/// Why a static key cannot be had or does not fit. Tells the source, never its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StaticKeyError {
    #[error("the static key {id:?} must be given as env://NAME or file://PATH")]
    Source { id: String },
    #[error("the static key {id:?} needs the environment variable {name}, which is not set")]
    NoVariable { id: String, name: String },
    #[error("the static key {id:?} cannot be read from {path}: {cause}")]
    NoFile {
        id: String,
        path: String,
        cause: String,
    },
    #[error("the static key {id:?} must be 32 bytes, raw, in hexadecimal or in base64")]
    Form { id: String },
    #[error("the root key rests under the static key {stored:?}; configured: {configured}")]
    Wrong { stored: String, configured: String },
}

impl StaticKey {
    /// Reads the key from `env://NAME` or `file://PATH`: 32 raw bytes, 64 hexadecimal digits or
    /// base64, where a newline at the end of a text does not matter.
    pub fn read(id: impl Into<String>, source: &str) -> Result<Self, StaticKeyError> {
        let id = id.into();
        let content = if let Some(name) = source.strip_prefix("env://") {
            match std::env::var_os(name) {
                Some(value) => Zeroizing::new(value.as_bytes().to_vec()),
                None => {
                    let name = name.to_owned();
                    return Err(StaticKeyError::NoVariable { id, name });
                }
            }
        } else if let Some(path) = source.strip_prefix("file://") {
            match fs::read(path) {
                Ok(content) => Zeroizing::new(content),
                Err(error) => {
                    let (path, cause) = (path.to_owned(), error.to_string());
                    return Err(StaticKeyError::NoFile { id, path, cause });
                }
            }
        } else {
            return Err(StaticKeyError::Source { id });
        };
        match decode(&content) {
            Some(key) => Ok(Self { id, key }),
            None => Err(StaticKeyError::Form { id }),
        }
    }

    /// The name in the configuration.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticKey({:?}, redacted)", self.id)
    }
}

impl StaticSeal {
    /// Says which key is missing, by names.
    pub(super) fn wrong_key(&self, config: &SealConfig) -> StaticKeyError {
        let mut configured = format!("{:?}", self.current.id);
        if let Some(previous) = &self.previous {
            configured = format!("{configured} and {:?}", previous.id);
        }
        StaticKeyError::Wrong {
            stored: config.key_id.clone().unwrap_or_default(),
            configured,
        }
    }
}

fn decode(content: &[u8]) -> Option<Key> {
    if content.len() == KEY_LEN {
        return key_from(content);
    }
    let text = content.trim_ascii();
    let mut key = Zeroizing::new([0; KEY_LEN]);
    if text.len() == 2 * KEY_LEN {
        hex::decode_to_slice(text, &mut *key).ok()?;
        return Some(key);
    }
    // The decoder wants room for what unpadded input of this length might hold.
    let mut room = Zeroizing::new([0; KEY_LEN + 3]);
    let engine = if text.ends_with(b"=") {
        STANDARD
    } else {
        STANDARD_NO_PAD
    };
    let length = engine.decode_slice(text, &mut *room).ok()?;
    key_from(&room[..length])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_static_key_is_read_raw_in_hex_and_in_base64() {
        let key: Vec<u8> = (100..132).collect();
        let base64 = STANDARD.encode(&key);
        let texts = [
            key.clone(),
            hex::encode(&key).into_bytes(),
            hex::encode_upper(&key).into_bytes(),
            format!("{}\n", hex::encode(&key)).into_bytes(),
            format!("{base64}\r\n").into_bytes(),
            base64.trim_end_matches('=').as_bytes().to_vec(),
            base64.clone().into_bytes(),
        ];
        for text in texts {
            assert_eq!(decode(&text).unwrap().as_slice(), key);
        }
        for bad in [
            &b""[..],
            b"short",
            &[b'g'; 64],
            &[b'A'; 100],
            &[7; 33],
            &[7; 31],
        ] {
            assert!(decode(bad).is_none());
        }
    }

    #[test]
    fn a_missing_static_key_is_named_and_its_content_is_not_told() {
        let error = StaticKey::read("k1", "env://OBOL_TEST_NO_SUCH_VARIABLE").unwrap_err();
        assert!(error.to_string().contains("OBOL_TEST_NO_SUCH_VARIABLE"));
        let error = StaticKey::read("k1", "file:///no/such/file").unwrap_err();
        assert!(error.to_string().contains("/no/such/file"));
        let error = StaticKey::read("k1", "c2VjcmV0").unwrap_err();
        assert!(!error.to_string().contains("c2VjcmV0"));

        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "hunter2").unwrap();
        let source = format!("file://{}", file.path().display());
        let error = StaticKey::read("k1", &source).unwrap_err();
        assert_eq!(error, StaticKeyError::Form { id: "k1".into() });
        assert!(!error.to_string().contains("hunter2"));
    }
}
