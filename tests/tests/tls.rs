//! HTTPS: versions, certificates that change while connections are served, and clients that must show one.
//! The clients are curl and openssl.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use obol_testbed::{Ca, Scratch, tls::loopback_names};
use obol_tests::clients::{Cli, Ended, curl, run};
use obol_tests::http::Reply;
use obol_tests::server::Tls;
use obol_tests::{Server, ServerOptions, eventually};
use rustix::process::Signal;
use serde_json::Value;

/// A CA's files and a server certificate of it.
struct Certificates {
    ca: Ca,
    files: Scratch,
}

impl Certificates {
    fn new() -> Self {
        let this = Self {
            ca: Ca::new("Test server CA").unwrap(),
            files: Scratch::new("tls").unwrap(),
        };
        fs::write(this.files.join("ca.pem"), this.ca.pem()).unwrap();
        this.issue("server", &loopback_names());
        this
    }

    /// Writes `<name>.pem` and `<name>.key`.
    fn issue(&self, name: &str, hosts: &[String]) {
        let (certificate, key) = self.ca.issue(hosts).unwrap();
        fs::write(self.files.join(format!("{name}.pem")), certificate).unwrap();
        fs::write(self.files.join(format!("{name}.key")), key).unwrap();
    }

    /// A client certificate of this CA, made by openssl.
    fn client(&self, name: &str) {
        let at = |file: &str| {
            self.files
                .join(format!("{name}{file}"))
                .display()
                .to_string()
        };
        fs::write(at(".ext"), "extendedKeyUsage=clientAuth\n").unwrap();
        let (ca, ca_key) = (at(".ca.pem"), at(".ca.key"));
        let subject = format!("/CN={name}");
        for arguments in [
            vec![
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                &ca_key,
                "-out",
                &ca,
                "-subj",
                "/CN=Clients",
                "-days",
                "2",
            ],
            vec![
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                &at(".key"),
                "-out",
                &at(".csr"),
                "-subj",
                &subject,
            ],
            vec![
                "x509",
                "-req",
                "-in",
                &at(".csr"),
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-out",
                &at(".pem"),
                "-days",
                "2",
                "-extfile",
                &at(".ext"),
            ],
        ] {
            run(Command::new("openssl").args(arguments), "").ok();
        }
    }

    fn path(&self, file: &str) -> String {
        self.files.join(file).display().to_string()
    }

    fn server(&self, listener: &str) -> Server {
        Server::start(ServerOptions {
            tls: Some(Tls {
                certificate: self.files.join("server.pem"),
                key: self.files.join("server.key"),
                ca: self.files.join("ca.pem"),
            }),
            listener: listener.to_owned(),
            ..ServerOptions::default()
        })
    }
}

#[track_caller]
fn get(certificates: &Certificates, server: &Server, more: &[&str]) -> Reply {
    let url = format!("{}/v1/sys/seal-status", server.url());
    let ca = certificates.path("ca.pem");
    curl(&[&["--cacert", ca.as_str()], more, &[&url]].concat())
}

/// How `openssl s_client` fares; what it says ends with the session's facts.
fn handshake(server: &Server, more: &[&str]) -> Ended {
    let address = format!("127.0.0.1:{}", server.port());
    let arguments = [
        &["s_client", "-connect", &address, "-servername", "localhost"],
        more,
    ]
    .concat();
    run(Command::new("openssl").args(arguments), "")
}

fn serial(server: &Server) -> String {
    let shown = handshake(server, &["-showcerts"]);
    let begin = shown
        .stdout
        .find("-----BEGIN CERTIFICATE-----")
        .expect("a certificate");
    let end = shown.stdout.find("-----END CERTIFICATE-----").unwrap() + 25;
    let pem = &shown.stdout[begin..end];
    run(
        Command::new("openssl").args(["x509", "-noout", "-serial"]),
        pem,
    )
    .ok()
    .stdout
}

#[test]
fn clients_that_trust_the_ca_are_served_and_others_turn_away() {
    let certificates = Certificates::new();
    let server = certificates.server("");
    let reply = get(&certificates, &server, &[]).expect(200);
    assert_eq!(reply.json()["sealed"], true);
    assert!(reply.header("strict-transport-security").is_some());
    let stranger = run(
        Command::new("curl").args(["-sS", &format!("{}/v1/sys/seal-status", server.url())]),
        "",
    );
    assert_eq!(stranger.status, 60, "{}", stranger.stderr);
    // Plain HTTP to a TLS port is no request, and no harm.
    assert!(
        server
            .client()
            .raw(b"GET /v1/sys/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .is_err()
    );
    get(&certificates, &server, &["--http2"]).expect(200);
    assert!(
        handshake(&server, &["-alpn", "h2"])
            .stdout
            .contains("ALPN protocol: h2")
    );
}

#[test]
fn versions_are_those_of_the_configuration_and_never_older_than_1_2() {
    let certificates = Certificates::new();
    let speaks = |server: &Server, version: &str| {
        let seen = handshake(server, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        seen.status == 0 && !seen.stdout.contains("Cipher is (NONE)")
    };
    let both = certificates.server("");
    assert!(speaks(&both, "-tls1_2") && speaks(&both, "-tls1_3"));
    assert!(!speaks(&both, "-tls1_1") && !speaks(&both, "-tls1"));
    let newest = certificates.server("  tls_min_version = \"tls13\"");
    assert!(!speaks(&newest, "-tls1_2") && speaks(&newest, "-tls1_3"));
    let older = certificates.server("  tls_max_version = \"tls12\"");
    assert!(speaks(&older, "-tls1_2") && !speaks(&older, "-tls1_3"));
    for (listener, says) in [
        ("tls_min_version = \"tls10\"", "use tls12 or tls13"),
        (
            "tls_min_version = \"tls13\"\n  tls_max_version = \"tls12\"",
            "tls_m",
        ),
    ] {
        let server = Server::prepare(ServerOptions {
            tls: Some(Tls {
                certificate: certificates.files.join("server.pem"),
                key: certificates.files.join("server.key"),
                ca: certificates.files.join("ca.pem"),
            }),
            listener: listener.to_owned(),
            ..ServerOptions::default()
        });
        assert!(!server.start_in_vain().success());
        assert!(server.log().contains(says), "{}", server.log());
    }
}

#[test]
fn a_new_certificate_is_served_after_sighup_and_a_broken_one_is_not() {
    let certificates = Certificates::new();
    let server = certificates.server("");
    let first = serial(&server);
    certificates.issue("server", &loopback_names());
    assert_eq!(serial(&server), first, "nobody has told the server yet");
    server.signal(Signal::HUP);
    let second = eventually("the new certificate", || {
        Some(serial(&server)).filter(|now| *now != first)
    });
    get(&certificates, &server, &[]).expect(200);

    // A key that belongs to another certificate, and no certificate at all: the present one stays.
    certificates.issue("other", &loopback_names());
    for (from, to) in [("other.key", "server.key"), ("ca.pem", "server.key")] {
        fs::copy(certificates.path(from), certificates.path(to)).unwrap();
        let at = server.log().len();
        server.signal(Signal::HUP);
        let log = server.await_log(at, "could not be reloaded");
        assert!(log.contains("server."), "the file is not named: {log}");
        assert_eq!(serial(&server), second);
    }
    assert!(server.terminate().success());
    assert!(!server.start_in_vain().success());
}

#[test]
fn a_client_certificate_can_be_required() {
    let certificates = Certificates::new();
    certificates.client("clients");
    certificates.client("strangers");
    let listener = format!(
        "  tls_client_ca_file = {:?}\n  tls_require_and_verify_client_cert = true",
        certificates.path("clients.ca.pem")
    );
    let server = certificates.server(&listener);
    let url = format!("{}/v1/sys/seal-status", server.url());
    let with = |name: Option<&str>| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert", &certificates.path("ca.pem"), &url]);
        if let Some(name) = name {
            curl.args([
                "--cert",
                &certificates.path(&format!("{name}.pem")),
                "--key",
                &certificates.path(&format!("{name}.key")),
            ]);
        }
        run(&mut curl, "")
    };
    let served = with(Some("clients")).ok();
    assert_eq!(served.json()["sealed"], true);
    assert_ne!(with(None).status, 0);
    assert_ne!(with(Some("strangers")).status, 0);

    // The command line shows one too.
    let cli = || Cli::new(&server).env("VAULT_CACERT", &certificates.path("ca.pem"));
    assert_eq!(cli().run(&["status"]).status, 1);
    let cli = cli()
        .env("VAULT_CLIENT_CERT", &certificates.path("clients.pem"))
        .env("VAULT_CLIENT_KEY", &certificates.path("clients.key"));
    assert_eq!(
        cli.run(&["status", "-format=json"]).expect(2).json()["sealed"],
        true
    );
}

#[test]
fn a_client_certificate_may_be_optional() {
    let certificates = Certificates::new();
    certificates.client("clients");
    let listener = format!(
        "  tls_client_ca_file = {:?}",
        certificates.path("clients.ca.pem")
    );
    let server = certificates.server(&listener);
    get(&certificates, &server, &[]).expect(200);
    let (cert, key) = (
        certificates.path("clients.pem"),
        certificates.path("clients.key"),
    );
    get(&certificates, &server, &["--cert", &cert, "--key", &key]).expect(200);
}

#[test]
fn the_command_line_believes_what_it_is_told_to() {
    let certificates = Certificates::new();
    let server = certificates.server("");
    let ca = certificates.path("ca.pem");
    let status =
        |cli: Cli, arguments: &[&str]| cli.run(&[&["status", "-format=json"], arguments].concat());
    for ended in [
        status(Cli::new(&server), &[&format!("-ca-cert={ca}")]),
        status(Cli::new(&server), &[&format!("--ca-cert={ca}")]),
        status(Cli::new(&server), &["-tls-skip-verify"]),
        status(Cli::new(&server).env("VAULT_CACERT", &ca), &[]),
        status(Cli::new(&server).env("OBOL_CACERT", &ca), &[]),
        status(
            Cli::new(&server).env("VAULT_CACERT_BYTES", &certificates.ca.pem()),
            &[],
        ),
        status(Cli::new(&server).env("VAULT_SKIP_VERIFY", "true"), &[]),
    ] {
        assert_eq!(ended.expect(2).json()["initialized"], Value::Bool(false));
    }
    let untrusted = status(Cli::new(&server), &[]).expect(1);
    assert!(
        untrusted.stderr.contains("certificate"),
        "{}",
        untrusted.stderr
    );
    assert!(
        untrusted.stderr.contains("-ca-cert") || untrusted.stderr.contains("VAULT_CACERT"),
        "{}",
        untrusted.stderr
    );
    let wrong = Ca::new("Another").unwrap();
    let file = certificates.files.join("wrong.pem");
    fs::write(&file, wrong.pem()).unwrap();
    status(
        Cli::new(&server),
        &[&format!("-ca-cert={}", file.display())],
    )
    .expect(1);
}

#[test]
fn a_server_without_its_certificate_does_not_start_and_names_the_file() {
    let certificates = Certificates::new();
    for (certificate, key) in [
        ("none.pem", "server.key"),
        ("server.pem", "none.key"),
        ("server.key", "server.key"),
        ("server.pem", "ca.pem"),
    ] {
        let server = Server::prepare(ServerOptions {
            tls: Some(Tls {
                certificate: certificates.files.join(certificate),
                key: certificates.files.join(key),
                ca: certificates.files.join("ca.pem"),
            }),
            ..ServerOptions::default()
        });
        assert!(!server.start_in_vain().success());
        let log = server.log();
        assert!(log.contains(certificate) || log.contains(key), "{log}");
        assert!(
            !log.contains("panicked") && !log.contains("PRIVATE KEY"),
            "{log}"
        );
    }
    assert!(Path::new(&certificates.path("ca.pem")).exists());
}
