//! Signatures of JWTs by ring, for the JWT crate: public keys only. There is no HMAC here at all, so a public key can
//! never be taken for a shared secret, and nothing signs.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self as by_ring, RsaParameters, UnparsedPublicKey, VerificationAlgorithm};
use signature::Verifier;

/// The algorithms that can be verified, as RFC 7518 and 8037 name them. ES512 is not one of them: ring has no P-521.
pub(super) const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Makes these the signatures that the JWT crate uses in this process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    // Somebody else's provider, if there were one, would verify as well: the algorithms are checked before.
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let by = By::of(*algorithm).ok_or(ErrorKind::UnsupportedAlgorithm)?;
    let family = match by {
        By::Rsa(_) => AlgorithmFamily::Rsa,
        By::Ec(_) => AlgorithmFamily::Ec,
        By::Ed => AlgorithmFamily::Ed,
    };
    if key.family() != family {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(WithRing {
        algorithm: *algorithm,
        by,
        key: key.clone(),
    }))
}

struct WithRing {
    algorithm: Algorithm,
    by: By,
    key: DecodingKey,
}

#[derive(Clone, Copy)]
enum By {
    Rsa(&'static RsaParameters),
    Ec(&'static dyn VerificationAlgorithm),
    Ed,
}

impl By {
    fn of(algorithm: Algorithm) -> Option<Self> {
        Some(match algorithm {
            Algorithm::RS256 => Self::Rsa(&by_ring::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Self::Rsa(&by_ring::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Self::Rsa(&by_ring::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Self::Rsa(&by_ring::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Self::Rsa(&by_ring::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Self::Rsa(&by_ring::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => Self::Ec(&by_ring::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Self::Ec(&by_ring::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Self::Ed,
            _ => return None,
        })
    }
}

impl Verifier<Vec<u8>> for WithRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (self.by, self.key.kind()) {
            (By::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                by_ring::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (By::Rsa(parameters), DecodingKeyKind::SecretOrDer(der)) => {
                UnparsedPublicKey::new(parameters, der).verify(message, signature)
            }
            (By::Ec(algorithm), DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(algorithm, point).verify(message, signature)
            }
            (By::Ed, DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(&by_ring::ED25519, key).verify(message, signature)
            }
            _ => return Err(signature::Error::new()),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for WithRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
