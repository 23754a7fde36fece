//! StartTLS and LDAPS: certificates, names, and all four versions as minimum and maximum.

use std::process::Command;

use obol_directory::{Directory, DirectoryConfig, DirectoryError, TlsFault, TlsVersion};
use obol_testbed::{Ca, LdapOptions, OpenLdap};
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509Builder, X509NameBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Proxy, config, open, shared, sorted, tls_front, tls_front_with};

/// Over StartTLS and over LDAPS, believing the directory's CA.
fn secure() -> [DirectoryConfig; 2] {
    let starttls = DirectoryConfig {
        starttls: true,
        certificate: shared().ca_pem(),
        ..config(shared().url())
    };
    let ldaps = DirectoryConfig {
        certificate: shared().ca_pem(),
        ..config(shared().ldaps_url())
    };
    [starttls, ldaps]
}

fn tls_fault(error: &DirectoryError) -> TlsFault {
    let DirectoryError::Tls { kind, .. } = error else {
        panic!("{error:?}");
    };
    *kind
}

async fn works(directory: &Directory) {
    let found = directory.lookup("grace").await.unwrap();
    assert_eq!(sorted(&found.groups), ["coders", "engineers"]);
}

#[tokio::test]
async fn starttls_and_ldaps_work_with_the_right_ca() {
    for config in secure() {
        works(&open(&config)).await;
        let directory = open(&config);
        directory
            .authenticate("joan", "joan-password")
            .await
            .unwrap();
        assert!(
            directory.warnings().is_empty(),
            "{:?}",
            directory.warnings()
        );
    }
}

#[tokio::test]
async fn one_of_several_cas_is_enough() {
    for mut config in secure() {
        config.certificate = format!("{}\n{}", shared().other_ca_pem(), shared().ca_pem());
        works(&open(&config)).await;
    }
}

#[tokio::test]
async fn the_wrong_ca_is_refused_and_named() {
    for mut config in secure() {
        config.certificate = shared().other_ca_pem();
        let error = open(&config).lookup("grace").await.unwrap_err();
        assert_eq!(tls_fault(&error), TlsFault::UnknownCa, "{error}");
        assert!(error.cause().contains("Test directory CA"), "{error}");
        assert!(error.mend().contains("into certificate"));
    }
}

#[tokio::test]
async fn the_machines_own_cas_do_not_know_ours() {
    for mut config in secure() {
        config.certificate = String::new();
        let error = open(&config).lookup("grace").await.unwrap_err();
        assert_eq!(tls_fault(&error), TlsFault::UnknownCa, "{error}");
    }
}

#[tokio::test]
async fn insecure_tls_believes_anything() {
    for mut config in secure() {
        config.insecure_tls = true;
        config.certificate = shared().other_ca_pem();
        let directory = open(&config);
        works(&directory).await;
        assert!(
            directory
                .warnings()
                .iter()
                .any(|w| w.starts_with("insecure_tls"))
        );
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let ca = Ca::new("Names").unwrap();
    let (certificate, key) = ca.issue(&["ldap.example.com".to_owned()]).unwrap();
    let front = front_with(&certificate, &key).await;
    for host in ["localhost", "127.0.0.1"] {
        let directory = open(&DirectoryConfig {
            certificate: ca.pem(),
            ..config(format!("ldaps://{host}:{}", front.port))
        });
        let error = directory.lookup("grace").await.unwrap_err();
        assert_eq!(tls_fault(&error), TlsFault::NameMismatch, "{error}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    // Until a day after the epoch.
    let (certificate, key) = self_signed("localhost", Asn1Time::from_unix(86_400).unwrap());
    let front = front_with(&certificate, &key).await;
    let directory = open(&DirectoryConfig {
        certificate,
        ..config(format!("ldaps://localhost:{}", front.port))
    });
    let error = directory.lookup("grace").await.unwrap_err();
    assert_eq!(tls_fault(&error), TlsFault::CertificateTime, "{error}");
    assert!(error.mend().starts_with("renew"));
}

#[tokio::test]
async fn the_servers_own_certificate_may_be_the_one_that_is_believed() {
    let ca = Ca::new("Pinned").unwrap();
    let (certificate, key) = ca.issue(&["localhost".to_owned()]).unwrap();
    let front = front_with(&certificate, &key).await;
    let directory = open(&DirectoryConfig {
        certificate,
        ..config(format!("ldaps://localhost:{}", front.port))
    });
    works(&directory).await;
}

#[tokio::test]
async fn a_server_that_wants_to_know_its_client_is_shown_a_certificate() {
    let ca = Ca::new("Both sides").unwrap();
    let (certificate, key) = ca.issue(&["localhost".to_owned()]).unwrap();
    let (client_certificate, client_key) = self_signed("obol", Asn1Time::days_from_now(1).unwrap());
    for (version, max) in [
        (TlsVersion::Tls12, TlsVersion::Tls12),
        (TlsVersion::Tls13, TlsVersion::Tls13),
    ] {
        let url = &shared().url();
        let front = tls_front_with(
            &certificate,
            &key,
            Some(version),
            Some(&client_certificate),
            url,
        )
        .await;
        let without = DirectoryConfig {
            certificate: ca.pem(),
            tls_max_version: max,
            ..config(format!("ldaps://localhost:{}", front.port))
        };
        works(&open(&DirectoryConfig {
            client_tls_cert: client_certificate.clone(),
            client_tls_key: client_key.clone().into(),
            ..without.clone()
        }))
        .await;
        let error = open(&without).lookup("grace").await.unwrap_err();
        assert!(error.mend().contains("client_tls_cert"), "{error:?}");
    }
}

#[tokio::test]
async fn a_port_without_tls_is_told_apart() {
    let port = shared().url().rsplit(':').next().unwrap().to_owned();
    let error = open(&config(format!("ldaps://localhost:{port}")))
        .lookup("grace")
        .await
        .unwrap_err();
    assert_eq!(tls_fault(&error), TlsFault::BrokenOff, "{error}");
    assert!(error.mend().contains("speaks TLS"));
    let talks = Proxy::start(|mut stream| {
        Box::pin(async move {
            let _ = stream.write_all(b"220 mail.example.com ready\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        })
    })
    .await;
    let error = open(&config(format!("ldaps://localhost:{}", talks.port)))
        .lookup("grace")
        .await
        .unwrap_err();
    assert_eq!(tls_fault(&error), TlsFault::Other, "{error}");
    assert!(error.mend().contains("speaks TLS"));
}

#[tokio::test]
async fn a_server_without_starttls_is_told_apart() {
    let hangs_up = Proxy::start(|stream| Box::pin(async move { drop(stream) })).await;
    let mut config = config(hangs_up.url());
    config.starttls = true;
    let error = open(&config).lookup("grace").await.unwrap_err();
    assert_eq!(tls_fault(&error), TlsFault::StartTls, "{error}");
    assert!(error.mend().contains("ldaps://"));
}

/// Windows writes every length of a sequence in four bytes, OpenLDAP in as few as there need be.
#[tokio::test]
async fn starttls_goes_on_with_tls_however_the_lengths_of_the_answer_are_written() {
    const OPENLDAP: &[u8] = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00";
    const WINDOWS: &[u8] = b"\x30\x84\x00\x00\x00\x28\x02\x01\x01\x78\x84\x00\x00\x00\x1f\x0a\x01\x00\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20037";
    const UNAVAILABLE: &[u8] =
        b"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x34\x04\x00\x04\x00";
    for (answer, goes_on) in [(OPENLDAP, true), (WINDOWS, true), (UNAVAILABLE, false)] {
        let (seen, mut said) = tokio::sync::mpsc::unbounded_channel();
        let server = Proxy::start(move |mut stream| {
            let seen = seen.clone();
            Box::pin(async move {
                let mut request = [0; 31];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(answer).await.unwrap();
                let mut next = [0; 2];
                let came = stream.read_exact(&mut next).await.is_ok();
                let _ = seen.send(came.then_some(next));
            })
        })
        .await;
        let mut config = config(server.url());
        config.starttls = true;
        let error = open(&config).lookup("grace").await.unwrap_err();
        // The beginning of a ClientHello, or nothing more.
        let hello = goes_on.then_some([0x16, 0x03]);
        assert_eq!(said.recv().await.unwrap(), hello, "{error}");
        let is_refused = tls_fault(&error) == TlsFault::StartTls;
        assert_eq!(is_refused, !goes_on, "{error}");
        assert!(
            goes_on || error.to_string().contains("unavailable"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_password_is_never_sent_before_tls() {
    // A server that hangs up on StartTLS learns nothing else.
    let (seen, mut said) = tokio::sync::mpsc::unbounded_channel();
    let listener = Proxy::start(move |mut stream| {
        let seen = seen.clone();
        Box::pin(async move {
            let mut bytes = vec![0; 4096];
            let length = stream.read(&mut bytes).await.unwrap_or(0);
            bytes.truncate(length);
            let _ = seen.send(bytes);
        })
    })
    .await;
    let mut config = config(listener.url());
    config.starttls = true;
    open(&config).lookup("grace").await.unwrap_err();
    let bytes = said.recv().await.unwrap();
    assert!(bytes.ends_with(b"1.3.6.1.4.1.1466.20037"));
    assert_eq!(bytes.len(), 31);
}

#[tokio::test]
async fn every_range_of_versions_meets_exactly_the_servers_inside_it() {
    let ca = Ca::new("Versions").unwrap();
    let mut fronts = Vec::new();
    for version in TlsVersion::ALL {
        fronts.push((version, tls_front(&ca, version, &shared().url()).await));
    }
    for min in TlsVersion::ALL {
        for max in TlsVersion::ALL.into_iter().filter(|max| *max >= min) {
            for (version, front) in &fronts {
                let directory = open(&DirectoryConfig {
                    tls_min_version: min,
                    tls_max_version: max,
                    certificate: ca.pem(),
                    ..config(format!("ldaps://localhost:{}", front.port))
                });
                let outcome = directory.lookup("grace").await;
                let label = format!("{min}..{max} with a server of {version}");
                if (min..=max).contains(version) {
                    outcome.unwrap_or_else(|error| panic!("{label}: {error}"));
                } else {
                    let error = outcome.expect_err(&label);
                    assert_eq!(tls_fault(&error), TlsFault::Version, "{label}: {error}");
                    assert!(error.mend().contains("tls_min_version"));
                }
            }
        }
    }
}

#[tokio::test]
async fn every_range_of_versions_is_what_the_client_hello_offers() {
    for min in TlsVersion::ALL {
        for max in TlsVersion::ALL.into_iter().filter(|max| *max >= min) {
            let hello = client_hello(min, max).await;
            let number = |version: TlsVersion| 0x0301 + version as u16;
            // RFC 8446 §4.2.1: the extension is sent by clients that offer 1.3, and then counts.
            let expected: Vec<_> = match max {
                TlsVersion::Tls13 => TlsVersion::ALL
                    .into_iter()
                    .filter(|version| (min..=max).contains(version))
                    .map(number)
                    .collect(),
                _ => Vec::new(),
            };
            let mut offered = hello.supported_versions;
            offered.sort_unstable();
            assert_eq!(offered, expected, "{min}..{max}");
            let legacy = number(max.min(TlsVersion::Tls12));
            assert_eq!(hello.legacy_version, legacy, "{min}..{max}");
        }
    }
}

#[tokio::test]
async fn a_real_slapd_of_one_version_is_met_by_the_ranges_around_it() {
    let servers = [
        (TlsVersion::Tls10, obol_testbed::TlsVersion::Tls10),
        (TlsVersion::Tls11, obol_testbed::TlsVersion::Tls11),
        (TlsVersion::Tls12, obol_testbed::TlsVersion::Tls12),
        (TlsVersion::Tls13, obol_testbed::TlsVersion::Tls13),
    ];
    for (version, limit) in servers {
        let slapd = OpenLdap::start(LdapOptions {
            tls_min: Some(limit),
            tls_max: Some(limit),
            ..LdapOptions::default()
        })
        .unwrap();
        for url in [slapd.url(), slapd.ldaps_url()] {
            for only in TlsVersion::ALL {
                let directory = open(&DirectoryConfig {
                    starttls: true,
                    tls_min_version: only,
                    tls_max_version: only,
                    certificate: slapd.ca_pem(),
                    ..config(url.clone())
                });
                match directory.lookup("grace").await {
                    Ok(_) => assert_eq!(only, version, "{url}"),
                    Err(error) => {
                        assert_ne!(only, version, "{url}: {error}");
                        // GnuTLS alerts in some cases and hangs up in others.
                        let fault = tls_fault(&error);
                        assert!(
                            matches!(fault, TlsFault::Version | TlsFault::BrokenOff),
                            "{url}: {error}"
                        );
                        assert!(error.mend().contains("tls_max_version"));
                    }
                }
            }
        }
    }
}

/// OpenSSL reads SSL_CERT_FILE when a process starts to use it, so another process has to.
#[test]
fn without_a_certificate_the_machines_cas_are_believed() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "tls::with_the_machines_cas"])
        .env("SSL_CERT_FILE", shared().ca_file())
        .env("OBOL_TEST_LDAPS", shared().ldaps_url())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by the test above"]
async fn with_the_machines_cas() {
    let Ok(url) = std::env::var("OBOL_TEST_LDAPS") else {
        return;
    };
    works(&open(&config(url))).await;
}

/// A certificate for `name` by itself, and its key.
fn self_signed(name: &str, until: Asn1Time) -> (String, String) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(0).unwrap())
        .unwrap();
    builder.set_not_after(&until).unwrap();
    let alternative = SubjectAlternativeName::new()
        .dns(name)
        .build(&builder.x509v3_context(None, None))
        .unwrap();
    builder.append_extension(alternative).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let pem = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        pem(builder.build().to_pem().unwrap()),
        pem(key.private_key_to_pem_pkcs8().unwrap()),
    )
}

struct ClientHello {
    legacy_version: u16,
    supported_versions: Vec<u16>,
}

/// What a directory of this configuration says first on the wire (RFC 8446 §4.1.2).
async fn client_hello(min: TlsVersion, max: TlsVersion) -> ClientHello {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let directory = open(&DirectoryConfig {
        tls_min_version: min,
        tls_max_version: max,
        ..config(format!("ldaps://{}", listener.local_addr().unwrap()))
    });
    let dial = tokio::spawn(async move { directory.lookup("grace").await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut record = [0; 5];
    stream.read_exact(&mut record).await.unwrap();
    assert_eq!(record[0], 22, "not a handshake record");
    let mut body = vec![0; usize::from(u16::from_be_bytes([record[3], record[4]]))];
    stream.read_exact(&mut body).await.unwrap();
    drop(stream);
    dial.await.unwrap().unwrap_err();

    let mut at = 0;
    let mut take = |count: usize| {
        at += count;
        &body[at - count..at]
    };
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    assert_eq!(take(1), [1], "not a ClientHello");
    take(3);
    let legacy_version = number(take(2)) as u16;
    take(32);
    let session = number(take(1));
    take(session);
    let ciphers = number(take(2));
    take(ciphers);
    let compression = number(take(1));
    take(compression);
    let mut left = number(take(2));
    let mut supported_versions = Vec::new();
    while left > 0 {
        let kind = number(take(2));
        let length = number(take(2));
        let contents = take(length);
        left -= 4 + length;
        if kind == 43 {
            supported_versions = contents[1..]
                .chunks(2)
                .map(|pair| number(pair) as u16)
                .collect();
        }
    }
    ClientHello {
        legacy_version,
        supported_versions,
    }
}

/// LDAPS with this certificate in front of the shared directory.
async fn front_with(certificate: &str, key: &str) -> Proxy {
    tls_front_with(certificate, key, None, None, &shared().url()).await
}
