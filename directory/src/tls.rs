//! TLS to a directory, on OpenSSL directly.
//!
//! The LDAP library can do TLS itself, through native-tls or rustls, but neither reaches all four
//! versions that the configuration promises: rustls knows 1.2 and 1.3 alone, and native-tls
//! cannot lower OpenSSL 3's security level, without which OpenSSL offers nothing below 1.2 (its
//! signatures need SHA-1). Doing the handshake here also tells which fault a certificate has.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::ssl::{SslConnector, SslMethod, SslRef, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509CheckFlags, X509VerifyFlags};
use openssl::x509::{X509NameRef, X509Ref, X509VerifyResult};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::config::{ConfigError, TlsVersion};
use crate::error::{DirectoryError, TlsFault};
use crate::server_url::ServerUrl;
use crate::settings::TlsSettings;

/// Makes TLS connections as the configuration asks.
#[derive(Clone)]
pub(crate) struct TlsClient {
    connector: SslConnector,
    insecure: bool,
    versions: RangeInclusive<TlsVersion>,
}

impl TlsClient {
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, ConfigError> {
        let connector = connector(settings).map_err(|cause| {
            ConfigError::new(
                "certificate",
                format!("OpenSSL refuses the settings: {cause}"),
            )
        })?;
        Ok(Self {
            connector,
            insecure: settings.insecure,
            versions: settings.min..=settings.max,
        })
    }

    pub(crate) fn checks_certificates(&self) -> bool {
        !self.insecure
    }

    /// The version that a server takes when it may choose among all, if that is one that the
    /// configuration leaves out: many a server hangs up over it without an alert. Nothing is
    /// checked, so nothing may be sent over it.
    pub(crate) async fn version_left_out(
        &self,
        server: &ServerUrl,
        tcp: TcpStream,
    ) -> Option<&'static str> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).ok()?;
        builder.set_min_proto_version(None).ok()?;
        builder.set_max_proto_version(None).ok()?;
        builder.set_security_level(0);
        builder.set_verify(SslVerifyMode::NONE);
        let mut configuration = builder.build().configure().ok()?;
        configuration.set_verify_hostname(false);
        let ssl = configuration.into_ssl(&server.host).ok()?;
        let mut stream = SslStream::new(ssl, tcp).ok()?;
        Pin::new(&mut stream).connect().await.ok()?;
        let version = match stream.ssl().version2()? {
            SslVersion::TLS1 => TlsVersion::Tls10,
            SslVersion::TLS1_1 => TlsVersion::Tls11,
            SslVersion::TLS1_2 => TlsVersion::Tls12,
            SslVersion::TLS1_3 => TlsVersion::Tls13,
            _ => return None,
        };
        (!self.versions.contains(&version)).then(|| stream.ssl().version_str())
    }

    /// The handshake, with the server's certificate checked against the host in its URL.
    pub(crate) async fn connect(
        &self,
        server: &ServerUrl,
        tcp: TcpStream,
    ) -> Result<SslStream<TcpStream>, DirectoryError> {
        let fault = |kind, cause: String| DirectoryError::Tls {
            url: server.text.clone(),
            cause,
            kind,
        };
        let setup = |cause: ErrorStack| fault(TlsFault::Other, cause.to_string());

        let mut configuration = self.connector.configure().map_err(setup)?;
        configuration.set_verify_hostname(!self.insecure);
        let mut ssl = configuration.into_ssl(&server.host).map_err(setup)?;
        // The subject's CN is no place for a host name (RFC 9525 §2), as Go has it too.
        ssl.param_mut().set_hostflags(
            X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT,
        );
        // A failed handshake keeps no certificate, so it is noted while it is being judged.
        let rejected = Arc::new(OnceLock::new());
        let judged = Arc::new(AtomicBool::new(false));
        if !self.insecure {
            let rejected = Arc::clone(&rejected);
            let judged = Arc::clone(&judged);
            ssl.set_verify_callback(SslVerifyMode::PEER, move |fine, context| {
                judged.store(true, Ordering::Relaxed);
                if !fine {
                    let whose = context.current_cert().map(describe).unwrap_or_default();
                    let _ = rejected.set((context.error(), whose));
                }
                fine
            });
        }
        let mut stream = SslStream::new(ssl, tcp).map_err(setup)?;
        let outcome = Pin::new(&mut stream).connect().await;
        let Err(error) = outcome else {
            return Ok(stream);
        };
        if let Some((verdict, whose)) = rejected.get() {
            return Err(fault(
                certificate_fault(*verdict),
                format!("{}: {whose}", verdict.error_string()),
            ));
        }
        let reasons: Vec<_> = error
            .ssl_error()
            .map(|stack| stack.errors().iter().filter_map(|e| e.reason()).collect())
            .unwrap_or_default();
        if reasons.is_empty() {
            let cause = match error.io_error() {
                Some(cause) => format!("the handshake broke off: {cause}"),
                None => "the server closed the connection during the handshake".into(),
            };
            return Err(fault(TlsFault::BrokenOff, cause));
        }
        let kind = handshake_fault(&reasons, judged.load(Ordering::Relaxed));
        Err(fault(kind, reasons.join(", ")))
    }
}

/// The channel binding `tls-server-end-point` (RFC 5929 §4.1): the digest of the server's
/// certificate by the hash of its signature, or SHA-256 where that is MD5 or SHA-1. Without one
/// hash, as with EdDSA, it is not defined.
pub(crate) fn channel_binding(ssl: &SslRef) -> Option<Vec<u8>> {
    let certificate = ssl.peer_certificate()?;
    let signature = certificate.signature_algorithm().object().nid();
    let digest = match signature.signature_algorithms()?.digest {
        Nid::MD5 | Nid::SHA1 => MessageDigest::sha256(),
        digest => MessageDigest::from_nid(digest)?,
    };
    let digest = certificate.digest(digest).ok()?;
    Some([b"tls-server-end-point:", &*digest].concat())
}

fn connector(settings: &TlsSettings) -> Result<SslConnector, ErrorStack> {
    // The builder believes the machine's CAs until another store is set.
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(openssl_version(settings.min)))?;
    builder.set_max_proto_version(Some(openssl_version(settings.max)))?;
    if settings.min < TlsVersion::Tls12 {
        builder.set_security_level(0);
    }
    if !settings.roots.is_empty() {
        let mut store = X509StoreBuilder::new()?;
        for root in &settings.roots {
            store.add_cert(root.clone())?;
        }
        // Whatever the operator lists is believed, an intermediate CA or one server's own
        // certificate as well.
        store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        builder.set_cert_store(store.build());
    }
    if let Some(client) = &settings.client {
        builder.set_certificate(&client.certificate)?;
        for between in &client.chain {
            builder.add_extra_chain_cert(between.clone())?;
        }
        builder.set_private_key(&client.key)?;
    }
    if settings.insecure {
        builder.set_verify(SslVerifyMode::NONE);
    }
    Ok(builder.build())
}

fn openssl_version(version: TlsVersion) -> SslVersion {
    match version {
        TlsVersion::Tls10 => SslVersion::TLS1,
        TlsVersion::Tls11 => SslVersion::TLS1_1,
        TlsVersion::Tls12 => SslVersion::TLS1_2,
        TlsVersion::Tls13 => SslVersion::TLS1_3,
    }
}

/// Sorts the codes of OpenSSL's X509_STORE_CTX_get_error(3).
fn certificate_fault(verdict: X509VerifyResult) -> TlsFault {
    match verdict.as_raw() {
        // No issuer found, a self-signed certificate that is not believed, or an issuer of the
        // same name with another key.
        2 | 7 | 18 | 19 | 20 | 21 | 30 => TlsFault::UnknownCa,
        9 | 10 => TlsFault::CertificateTime,
        62 | 64 => TlsFault::NameMismatch,
        _ => TlsFault::Certificate,
    }
}

/// `judged`: the server's certificate had come, so the two agreed on a version.
fn handshake_fault(reasons: &[&str], judged: bool) -> TlsFault {
    // Alerts about our certificate (RFC 8446 §6.2). The last is what a server of TLS 1.2 sends
    // when it misses one.
    let ours = [
        "alert certificate required",
        "alert bad certificate",
        "alert unsupported certificate",
        "alert certificate revoked",
        "alert certificate expired",
        "alert certificate unknown",
        "alert unknown ca",
        "alert handshake failure",
    ];
    let says = |words: &[&str]| {
        reasons
            .iter()
            .any(|reason| words.iter().any(|word| reason.contains(word)))
    };
    if says(&ours[..ours.len() - 1]) || (judged && says(&ours)) {
        return TlsFault::ClientCertificate;
    }
    let version = [
        "unsupported protocol",
        "no protocols available",
        "alert protocol version",
        "alert handshake failure",
        "version too low",
        "wrong ssl version",
        "no ciphers available",
        "no shared cipher",
    ];
    match says(&version) {
        true => TlsFault::Version,
        false => TlsFault::Other,
    }
}

/// What was agreed on, and with whom, for people.
pub(crate) fn finding(ssl: &SslRef, checked: bool) -> String {
    let version = ssl.version_str();
    let Some(certificate) = ssl.peer_certificate() else {
        return format!("{version}, and no certificate");
    };
    let names: Vec<_> = certificate
        .subject_alt_names()
        .iter()
        .flatten()
        .filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some([a, b, c, d])) => Some(Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            (None, Some(address)) => {
                let address = <[u8; 16]>::try_from(address).ok()?;
                Some(Ipv6Addr::from(address).to_string())
            }
            (None, None) => None,
        })
        .collect();
    let names = match names.is_empty() {
        true => "no name".to_owned(),
        false => names.join(", "),
    };
    let until = certificate.not_after();
    let left = Asn1Time::days_from_now(0)
        .and_then(|now| now.diff(until))
        .map_or_else(|_| String::new(), |left| format!(" ({} days)", left.days));
    let judged = match checked {
        true => "believed, and the name fits",
        false => "not checked, because insecure_tls is on",
    };
    format!(
        "{version}; certificate {}, for {names}, until {until}{left}: {judged}",
        describe(&certificate)
    )
}

/// `CN=dc1 issued by CN=corp CA`, as far as the certificate says so.
fn describe(certificate: &X509Ref) -> String {
    let name = |name: &X509NameRef| {
        let parts: Vec<_> = name
            .entries()
            .filter_map(|entry| {
                let key = entry.object().nid().short_name().ok()?;
                Some(format!("{key}={}", entry.data().to_string().ok()?))
            })
            .collect();
        match parts.is_empty() {
            true => "an unnamed subject".to_owned(),
            false => parts.join(", "),
        }
    };
    format!(
        "{} issued by {}",
        name(certificate.subject_name()),
        name(certificate.issuer_name())
    )
}
