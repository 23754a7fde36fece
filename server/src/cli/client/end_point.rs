//! Ties a Kerberos login to the server's certificate (`tls-server-end-point`, RFC 5929): a server that asks for
//! channel bindings then refuses a ticket that somebody in between has passed on.
//!
//! The HTTP client does not show the certificate of its connection, so a handshake of its own looks at it first. That
//! one trusts nobody and verifies no name, and needs not to: nothing is sent over it. Whoever shows another certificate
//! there gets a ticket that is bound to that one, which the real server refuses; and the login itself goes over a
//! connection that is verified as always.

use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use obol_kerberos::ChannelBindings;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Client;
use crate::http::end_point;

impl Client {
    /// What to bind a login to. `None` without TLS, through a proxy, and when the server does not answer, which the
    /// login itself will report.
    pub(in crate::cli) fn channel_bindings(&self) -> Option<ChannelBindings> {
        let address = self.address();
        if !address.is_https() || self.proxy(address).ok()?.is_some() {
            return None;
        }
        let name = self.settings.tls.server_name.as_deref();
        let name = ServerName::try_from(name.unwrap_or(address.host()).to_owned()).ok()?;
        let certificate = certificate(name, (address.host(), address.port()))?;
        let hash = end_point(&certificate)?;
        Some(ChannelBindings::tls_server_end_point_hash(&hash))
    }
}

/// The certificate that is shown to somebody who asks for this name.
fn certificate(
    name: ServerName<'static>,
    place: impl ToSocketAddrs,
) -> Option<CertificateDer<'static>> {
    let mut stream = place
        .to_socket_addrs()
        .ok()?
        .find_map(|address| TcpStream::connect_timeout(&address, PATIENCE).ok())?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Onlooker(provider)))
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    // A server that wants a certificate in turn breaks off here; it has shown its own by then.
    let _ = connection.complete_io(&mut stream);
    let shown = connection
        .peer_certificates()?
        .first()?
        .clone()
        .into_owned();
    connection.send_close_notify();
    let _ = connection.write_tls(&mut stream);
    let _ = stream.flush();
    Some(shown)
}

/// Believes every certificate, but not that somebody has it who cannot sign with its key.
#[derive(Debug)]
struct Onlooker(Arc<CryptoProvider>);

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
