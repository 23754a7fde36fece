//! Whom to trust and as whom to appear: certificates and keys of the command line, read and checked before the
//! first connection, so that each mistake has its own message.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use zeroize::Zeroizing;

use super::flags::{Authorities, TlsSettings};
use crate::cli::failure::{Failure, file_failure};

pub(super) fn config(settings: &TlsSettings) -> Result<TlsConfig, Failure> {
    let roots = match &settings.ca {
        None => RootCerts::PlatformVerifier,
        Some(authorities) => RootCerts::Specific(Arc::new(roots(authorities)?)),
    };
    if let Some(name) = &settings.server_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        return Err(Failure::local(format!(
            "-tls-server-name: {name:?} is not a host name"
        )));
    }
    Ok(TlsConfig::builder()
        .root_certs(roots)
        .client_cert(client_cert(settings)?)
        .disable_verification(settings.skip_verify)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}

fn roots(authorities: &Authorities) -> Result<Vec<Certificate<'static>>, Failure> {
    match authorities {
        Authorities::Text(text) => certificates(text.as_bytes(), "CACERT_BYTES"),
        Authorities::File(path) => certificates(&read(path)?, path),
        Authorities::Directory(path) => {
            let unreadable = |error| file_failure("read", path, &error);
            let mut entries = std::fs::read_dir(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(unreadable)?;
            entries.sort_by_key(std::fs::DirEntry::path);
            let mut all = Vec::new();
            for file in entries
                .iter()
                .map(std::fs::DirEntry::path)
                .filter(|file| file.is_file())
            {
                // A directory of authorities holds other files too (links by hash, keys, notes): those are passed over.
                let bytes = std::fs::read(&file)
                    .map_err(|error| file_failure("read", file.display(), &error))?;
                all.extend(certificates(&bytes, "").unwrap_or_default());
            }
            if all.is_empty() {
                return Err(Failure::local(format!(
                    "the directory {path} holds no PEM certificate"
                )));
            }
            Ok(all)
        }
    }
}

fn client_cert(settings: &TlsSettings) -> Result<Option<ClientCert>, Failure> {
    let (cert_path, key_path) = match (&settings.client_cert, &settings.client_key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => return Err(Failure::local("-client-cert needs -client-key")),
        (None, Some(_)) => return Err(Failure::local("-client-key needs -client-cert")),
    };
    let chain = certificates(&read(cert_path)?, cert_path)?;
    let pem = read(key_path)?;
    let no_key = || {
        Failure::local(format!(
            "{key_path} holds no PEM private key that can be used"
        ))
    };
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| no_key())?;
    // ureq takes the pair on trust and would panic on one that does not match.
    let der = chain
        .iter()
        .map(|c| CertificateDer::from(c.der().to_vec()))
        .collect();
    CertifiedKey::from_der(der, key, &ring::default_provider()).map_err(|_| {
        Failure::local(format!(
            "the key in {key_path} is not that of the certificate in {cert_path}"
        ))
    })?;
    let key = PrivateKey::from_pem(&pem).map_err(|_| no_key())?;
    Ok(Some(ClientCert::new_with_certs(&chain, key)))
}

fn certificates(pem: &[u8], source: &str) -> Result<Vec<Certificate<'static>>, Failure> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found
            .iter()
            .map(|der| Certificate::from_der(der).to_owned())
            .collect()),
        Ok(_) => Err(Failure::local(format!("{source} holds no PEM certificate"))),
        Err(_) => Err(Failure::local(format!(
            "{source} is not a file of PEM certificates"
        ))),
    }
}

fn read(path: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    std::fs::read(Path::new(path))
        .map(Zeroizing::new)
        .map_err(|error| file_failure("read", path, &error))
}
