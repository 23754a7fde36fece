//! Encryption for people: OpenPGP (RFC 9580), as `gpg -d` reads it. Unseal keys and root tokens go to their keepers like
//! this, so that whoever asks for them cannot read them.

use std::fmt;
use std::io::Cursor;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgp::bytes::Bytes;
use pgp::composed::{Deserializable, MessageBuilder, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::ser::Serialize as _;
use pgp::types::{EncryptionKey, KeyDetails, Tag};
use rand_core::OsRng;
use zeroize::Zeroizing;

/// Somebody's public key: what is encrypted for them is read by their private key alone.
pub struct Recipient {
    key: SignedPublicKey,
    /// Which of its subkeys encrypts; the primary key itself where there is none.
    subkey: Option<usize>,
}

/// Why something is not a key to encrypt with, or could not be encrypted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PgpError(String);

impl Recipient {
    /// A public key as people have them: in binary, in ASCII armor, or either of them in base64, which is how Vault's
    /// API takes it. Refused unless it can encrypt today: keys that have expired, were revoked or are for signatures
    /// alone.
    pub fn parse(content: &[u8]) -> Result<Self, PgpError> {
        let now = SystemTime::now();
        let key = read(content)?;
        let fingerprint = key.fingerprint();
        let refuse = |why: &str| PgpError(format!("the PGP key {fingerprint:x} {why}"));
        let primary = &key.primary_key;
        let revoked = key.details.revocation_signatures.iter();
        if revoked.into_iter().any(|s| s.verify_key(primary).is_ok()) {
            return Err(refuse("was revoked"));
        }
        let own = newest(self_signatures(&key))
            .ok_or_else(|| refuse("has no signature of its own that is valid"))?;
        if has_expired(primary, own, now) {
            return Err(refuse("has expired"));
        }
        let usable = key.public_subkeys.iter().enumerate();
        let usable = usable.filter(|(_, subkey)| encrypts(&key, subkey, now));
        let subkey = usable.max_by_key(|(_, subkey)| subkey.created_at());
        let subkey = subkey.map(|(index, _)| index);
        if subkey.is_none() && !(primary.algorithm().can_encrypt() && is_for_encryption(own)) {
            return Err(refuse(
                "cannot encrypt: it has no subkey for encryption that is valid, neither expired nor revoked",
            ));
        }
        let recipient = Self { key, subkey };
        // Some kinds of keys are known, but not how to encrypt with them: better found out now than with the secrets.
        recipient
            .encrypt(b"")
            .map_err(|error| refuse(&format!("is of a kind that cannot be used: {error}")))?;
        Ok(recipient)
    }

    /// The key in base64, as Vault's API takes it.
    pub fn to_base64(&self) -> Result<String, PgpError> {
        let bytes = self
            .key
            .to_bytes()
            .map_err(|error| PgpError(error.to_string()))?;
        Ok(STANDARD.encode(bytes))
    }

    /// Of the primary key, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        format!("{:x}", self.key.fingerprint())
    }

    /// A message that the holder of the private key reads, and nobody else; in binary.
    pub fn encrypt(&self, secret: &[u8]) -> Result<Vec<u8>, PgpError> {
        match self.subkey {
            Some(index) => encrypt(&self.key.public_subkeys[index], secret),
            None => encrypt(&self.key.primary_key, secret),
        }
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.fingerprint())
    }
}

fn read(content: &[u8]) -> Result<SignedPublicKey, PgpError> {
    let text = std::str::from_utf8(content).ok().map(str::trim_ascii);
    let decoded = text
        .filter(|text| !text.starts_with(ARMOR))
        .and_then(|text| {
            STANDARD
                .decode(text.split_ascii_whitespace().collect::<String>())
                .ok()
        });
    let bytes = decoded
        .as_deref()
        .or(text.map(str::as_bytes))
        .unwrap_or(content);
    SignedPublicKey::from_reader_single(Cursor::new(bytes))
        .map(|(key, _)| key)
        .map_err(|error| {
            PgpError(format!(
                "this is no public PGP key, such as `gpg --export NAME | base64` writes: {error}"
            ))
        })
}

/// The signatures in which the key speaks of itself: over its user ids, and over the key directly.
fn self_signatures(key: &SignedPublicKey) -> impl Iterator<Item = &Signature> {
    let primary = &key.primary_key;
    let users = key.details.users.iter().flat_map(move |user| {
        user.signatures.iter().filter(move |signature| {
            signature.typ() != Some(SignatureType::CertRevocation)
                && signature
                    .verify_certification(primary, Tag::UserId, &user.id)
                    .is_ok()
        })
    });
    let direct = key.details.direct_signatures.iter();
    users.chain(direct.filter(move |signature| signature.verify_key(primary).is_ok()))
}

fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Option<&'a Signature> {
    signatures.max_by_key(|signature| signature.created())
}

/// Whether this subkey encrypts today, as the primary key says.
fn encrypts(key: &SignedPublicKey, subkey: &SignedPublicSubKey, now: SystemTime) -> bool {
    let valid = |kind: SignatureType| {
        subkey.signatures.iter().filter(move |signature| {
            signature.typ() == Some(kind)
                && signature
                    .verify_subkey_binding(&key.primary_key, &subkey.key)
                    .is_ok()
        })
    };
    if !subkey.algorithm().can_encrypt() || valid(SignatureType::SubkeyRevocation).next().is_some()
    {
        return false;
    }
    newest(valid(SignatureType::SubkeyBinding))
        .is_some_and(|binding| is_for_encryption(binding) && !has_expired(subkey, binding, now))
}

fn is_for_encryption(signature: &Signature) -> bool {
    let flags = signature.key_flags();
    flags.encrypt_comms() || flags.encrypt_storage()
}

/// Whether the time is over that `signature` gives the key, counted from the key's making.
fn has_expired(key: &impl KeyDetails, signature: &Signature, now: SystemTime) -> bool {
    let lives = signature.key_expiration_time().map(Duration::from);
    // RFC 9580, section 5.2.3.13: none, or zero, is for ever.
    lives.is_some_and(|lives| !lives.is_zero() && SystemTime::from(key.created_at()) + lives <= now)
}

/// AES-256 with a modification detection code: what every OpenPGP program since GnuPG 1.0.4 reads.
fn encrypt(key: &impl EncryptionKey, secret: &[u8]) -> Result<Vec<u8>, PgpError> {
    let secret = Bytes::from_owner(Zeroizing::new(secret.to_vec()));
    let message = || {
        let mut message =
            MessageBuilder::from_bytes("", secret).seipd_v1(OsRng, SymmetricKeyAlgorithm::AES256);
        message.encrypt_to_key(OsRng, key)?;
        message.to_vec(OsRng)
    };
    message().map_err(|error: pgp::errors::Error| PgpError(error.to_string()))
}

const ARMOR: &str = "-----BEGIN PGP";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use pgp::packet::{Packet, PacketParser};
    use proptest::prelude::*;

    use super::*;

    /// Ed25519, with a subkey for encryption on Curve25519, as GnuPG made it.
    const ANN: &str = "
        mDMEawPmGxYJKwYBBAHaRw8BAQdAF2nbBe+AIbceCX3MOwviM4vvRSrIN9b9mMnylYihvUW0FUFubiA8YW5uQGV4YW1wbGUub3Jn
        PoiQBBMWCAA4FiEEpBjKMLj5GBLGJO3kppx2Uawi45AFAmsD5hsCGwMFCwkIBwIGFQoJCAsCBBYCAwECHgECF4AACgkQppx2Uawi
        45BNfQD/e+wPhx+vk/Su6vMGbjsryb8gNusGVt3OIVUnoLCfMz8BAIICz05zYY+hFRQawa+CTuGciD82hcevWroD4R9TqcMAuDgE
        awPmGxIKKwYBBAGXVQEFAQEHQOMC0YmcMvQA4+XBMKzmVQAKImkK8L8AE3nmyrJKJaZTAwEIB4h4BBgWCAAgFiEEpBjKMLj5GBLG
        JO3kppx2Uawi45AFAmsD5hsCGwwACgkQppx2Uawi45B9zwD/R87bpb84I5vumMKKKZP1vGIiH9bOwV5Rdymi6KEwBgcBAIxiYcJi
        zubGD7Um+Hea+Bb1XupD8tJVtTsJtA26SUMK";

    fn binary() -> Vec<u8> {
        let packed: String = ANN.split_ascii_whitespace().collect();
        STANDARD.decode(packed).unwrap()
    }

    #[test]
    fn a_key_is_read_in_each_form_and_written_in_the_apis() {
        let key = Recipient::parse(&binary()).unwrap();
        assert_eq!(
            key.fingerprint(),
            "a418ca30b8f91812c624ede4a69c7651ac22e390"
        );
        let again = Recipient::parse(key.to_base64().unwrap().as_bytes()).unwrap();
        assert_eq!(again.fingerprint(), key.fingerprint());
        assert!(Recipient::parse(ANN.as_bytes()).is_ok());
    }

    #[test]
    fn a_message_hides_what_it_says_and_is_another_each_time() {
        let key = Recipient::parse(ANN.as_bytes()).unwrap();
        let [one, two] = [0; 2].map(|_| key.encrypt(b"open sesame").unwrap());
        assert_ne!(one, two);
        assert!(!one.windows(4).any(|window| window == b"open"));
        let packets: Vec<_> = PacketParser::new(&one[..]).map(Result::unwrap).collect();
        assert!(matches!(
            packets[..],
            [
                Packet::PublicKeyEncryptedSessionKey(_),
                Packet::SymEncryptedProtectedData(_)
            ]
        ));
    }

    #[test]
    fn a_subkey_that_nobody_vouches_for_is_not_used() {
        // The last signature binds the subkey; without it, and with another in its place.
        let mut key = binary();
        let last = key.len() - 1;
        key[last] ^= 1;
        assert!(Recipient::parse(&key).is_err());
        let bare = &key[..key.len() - 0x7a];
        let error = Recipient::parse(bare).unwrap_err().to_string();
        assert!(error.contains("cannot encrypt"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_damaged_key_is_an_error_or_works_and_never_a_panic(
            cut in 0_usize..400,
            flips in proptest::collection::vec((0_usize..400, any::<u8>()), 0..4),
        ) {
            let mut key = binary();
            for (place, with) in flips {
                let place = place % key.len();
                key[place] = with;
            }
            if cut < key.len() {
                key.truncate(key.len() - cut);
            }
            if let Ok(key) = Recipient::parse(&key) {
                prop_assert!(key.encrypt(b"x").is_ok());
            }
        }

        #[test]
        fn noise_is_no_key(noise in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Recipient::parse(&noise).is_err());
        }
    }
}
