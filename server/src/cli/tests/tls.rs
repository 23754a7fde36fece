//! TLS against a real rustls server: whom the client believes, and what it says when it does not.

use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json as j;
use tempfile::TempDir;

use super::harness::{ReadWrite, Reply, Server, Shell, json};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key as PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

fn server(identity: &(String, String), clients: Option<&Authority>, script: Vec<Reply>) -> Server {
    let chain = vec![CertificateDer::from_pem_slice(identity.0.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.1.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
                .unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .unwrap(),
            )
        }
    };
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    Server::start_with(
        script,
        Box::new(move |stream: TcpStream| -> Box<dyn ReadWrite> {
            Box::new(StreamOwned::new(
                ServerConnection::new(config.clone()).unwrap(),
                stream,
            ))
        }),
    )
}

fn fine() -> Reply {
    json(j!({"data": {"a": 1}}))
}

fn file(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn shell(server: &Server) -> Shell {
    Shell::of(server).set(
        "VAULT_ADDR",
        &format!("https://localhost:{}", server.socket.port()),
    )
}

#[test]
fn an_authority_is_trusted_by_file_directory_or_text() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = server(
        &authority.issue("localhost"),
        None,
        vec![fine(), fine(), fine(), fine()],
    );
    let ca = file(&directory, "ca.pem", &authority.pem());
    file(&directory, "notes.txt", "not a certificate");
    let shell = shell(&server);
    shell.run(&format!("read -ca-cert={ca} sys/x")).ok();
    shell
        .run(&format!(
            "read -ca-path={} sys/x",
            directory.path().display()
        ))
        .ok();
    let shell = shell.set("VAULT_CACERT", &ca);
    shell.run("read sys/x").ok();
    let shell = shell
        .unset("VAULT_CACERT")
        .set("OBOL_CACERT_BYTES", &authority.pem());
    shell.run("read sys/x").ok();
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn a_stranger_is_not_believed_unless_told_so() {
    let (authority, other, directory) = (
        Authority::new(),
        Authority::new(),
        tempfile::tempdir().unwrap(),
    );
    let server = server(&authority.issue("localhost"), None, vec![fine()]);
    let ca = file(&directory, "other.pem", &other.pem());
    let shell = shell(&server).set("VAULT_CACERT", &ca);
    shell.run("read sys/x").failed(2, "-ca-cert");
    assert!(server.seen().is_empty(), "no token went to a stranger");
    shell.run("read -tls-skip-verify sys/x").ok();
}

#[test]
fn an_authoritys_own_certificate_on_a_server_is_told_as_that_and_one_that_is_no_authoritys_is_taken()
 {
    let directory = tempfile::tempdir().unwrap();
    let of_itself = |is_ca: IsCa| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let answers = |identity: &(String, String)| {
        let server = server(identity, None, vec![fine()]);
        let ca = file(&directory, "own.pem", &identity.0);
        shell(&server).set("VAULT_CACERT", &ca).run("read sys/x")
    };
    answers(&of_itself(IsCa::Ca(BasicConstraints::Unconstrained))).failed(2, "CA:FALSE");
    answers(&of_itself(IsCa::ExplicitNoCa)).ok();
}

#[test]
fn a_certificate_for_another_name_needs_that_name() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = server(&authority.issue("vault.internal"), None, vec![fine()]);
    let ca = file(&directory, "ca.pem", &authority.pem());
    let shell = shell(&server).set("VAULT_CACERT", &ca);
    shell.run("read sys/x").failed(2, "-tls-server-name");
    shell
        .run("read -tls-server-name=other.internal sys/x")
        .failed(2, "certificate");
    shell.run("read -tls-server-name=vault.internal sys/x").ok();
    assert_eq!(
        server.seen()[0].header("Host"),
        Some(format!("localhost:{}", server.socket.port()).as_str())
    );
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_asks() {
    let (authority, clients, directory) = (
        Authority::new(),
        Authority::new(),
        tempfile::tempdir().unwrap(),
    );
    let server = server(&authority.issue("localhost"), Some(&clients), vec![fine()]);
    let (certificate, key) = clients.issue("client");
    let ca = file(&directory, "ca.pem", &authority.pem());
    let certificate = file(&directory, "client.pem", &certificate);
    let key = file(&directory, "client.key", &key);
    let shell = shell(&server).set("VAULT_CACERT", &ca);
    shell.run("read sys/x").failed(2, "-client-cert");
    shell
        .run(&format!(
            "read -client-cert={certificate} -client-key={key} sys/x"
        ))
        .ok();
}

#[test]
fn a_client_certificate_that_cannot_be_used_is_refused_in_words() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.issue("a");
    let (_, foreign) = authority.issue("b");
    let certificate = file(&directory, "a.pem", &certificate);
    let key = file(&directory, "a.key", &key);
    let foreign = file(&directory, "b.key", &foreign);
    let shell = Shell::empty();
    shell
        .run(&format!("read -client-cert={certificate} sys/x"))
        .failed(1, "-client-key");
    shell
        .run(&format!("read -client-key={key} sys/x"))
        .failed(1, "-client-cert");
    shell
        .run(&format!(
            "read -client-cert={certificate} -client-key={foreign} sys/x"
        ))
        .failed(1, "not that of");
    shell
        .run(&format!(
            "read -client-cert={certificate} -client-key={certificate} sys/x"
        ))
        .failed(1, "private key");
    shell
        .run(&format!("read -ca-cert={key} sys/x"))
        .failed(1, "no PEM certificate");
    shell
        .run("read -ca-cert=/no/such/file sys/x")
        .failed(1, "/no/such/file");
    shell
        .run("read -tls-server-name='no name' sys/x")
        .failed(1, "host name");
}

#[test]
fn http_and_https_mixed_up_is_told_with_the_right_address() {
    let authority = Authority::new();
    let secure = server(&authority.issue("localhost"), None, vec![]);
    let port = secure.socket.port();
    let ran = Shell::of(&secure)
        .set("VAULT_ADDR", &format!("http://localhost:{port}"))
        .run("read sys/x");
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("https"), "{}", ran.err);

    let plain = Server::start([]);
    let port = plain.socket.port();
    Shell::of(&plain)
        .set("VAULT_ADDR", &format!("https://localhost:{port}"))
        .set("VAULT_SKIP_VERIFY", "true")
        .run("read sys/x")
        .failed(2, &format!("http://localhost:{port}"));
}
