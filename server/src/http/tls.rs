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
    current: ArcSwap<ServerConfig>,
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

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

fn build(options: &TlsOptions) -> io::Result<ServerConfig> {
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
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| named(&options.cert_file, error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
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
