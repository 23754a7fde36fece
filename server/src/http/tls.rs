//! TLS of the listeners: rustls on ring, certificates reloaded without dropping a connection.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsOptions;

/// A configuration that can be replaced while connections are served.
pub struct ReloadableTls {
    options: TlsOptions,
    current: ArcSwap<Loaded>,
}

/// What new connections use.
pub(super) struct Loaded {
    pub config: Arc<ServerConfig>,
    /// What clients bind a login to: the hash of the certificate as RFC 5929, section 4.1, wants it. `None` where
    /// the certificate's signature names no hash (Ed25519), for which the RFC defines none.
    pub end_point: Option<Arc<[u8]>>,
}

impl ReloadableTls {
    /// Reads certificate and key. Errors name the file.
    pub fn load(options: TlsOptions) -> io::Result<Self> {
        let current = ArcSwap::from_pointee(build(&options)?);
        Ok(Self { options, current })
    }

    /// Reads the files again; on an error the present certificate stays.
    pub fn reload(&self) -> io::Result<()> {
        self.current.store(Arc::new(build(&self.options)?));
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<Loaded> {
        self.current.load_full()
    }
}

fn build(options: &TlsOptions) -> io::Result<Loaded> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = match (options.only_tls12, options.only_tls13) {
        (true, _) => &[&rustls::version::TLS12],
        (_, true) => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS12, &rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?;
    let builder = match &options.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| named(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if options.require_client_cert {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| named(path, error))?)
        }
    };
    let chain = certificates(&options.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&options.key_file)
        .map_err(|error| named(&options.key_file, error))?;
    let end_point = chain.first().and_then(|leaf| end_point(leaf));
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| named(&options.cert_file, error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded {
        config: Arc::new(config),
        end_point,
    })
}

/// The `tls-server-end-point` of a certificate: its hash, by the hash of its own signature, where MD5 and SHA-1
/// become SHA-256.
pub(crate) fn end_point(certificate: &[u8]) -> Option<Arc<[u8]>> {
    use x509_parser::signature_algorithm::SignatureAlgorithm;

    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let oid = parsed.signature_algorithm.algorithm.to_id_string();
    let hash = match SignatureAlgorithm::try_from(&parsed.signature_algorithm) {
        Ok(SignatureAlgorithm::ED25519) => return None,
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => {
            hash_by_oid(&parameters.hash_algorithm_oid().to_id_string())
        }
        _ => hash_by_oid(&oid),
    };
    Some(ring::digest::digest(hash, certificate).as_ref().into())
}

/// By the object identifier of a hash, or of a signature that uses it.
fn hash_by_oid(oid: &str) -> &'static ring::digest::Algorithm {
    match oid {
        // SHA-384, with RSA, with ECDSA.
        "2.16.840.1.101.3.4.2.2" | "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => {
            &ring::digest::SHA384
        }
        // SHA-512, with RSA, with ECDSA.
        "2.16.840.1.101.3.4.2.3" | "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => {
            &ring::digest::SHA512
        }
        _ => &ring::digest::SHA256,
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = found.map_err(|error| named(path, error))?;
    if found.is_empty() {
        return Err(named(path, "it holds no certificate"));
    }
    Ok(found)
}

fn named(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
