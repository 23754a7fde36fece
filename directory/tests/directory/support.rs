//! A directory that the reading tests share, its usual configuration, and what tests put between
//! client and server: a proxy that counts connections, a server limited to one TLS version.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use obol_directory::{Directory, DirectoryConfig, TlsVersion};
use obol_testbed::people::{GROUP_DN, USER_DN};
use obol_testbed::tls::loopback_names;
use obol_testbed::{Ca, LdapOptions, OpenLdap};
use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslAcceptor, SslMethod, SslOptions, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) const BIND_DN: &str = obol_testbed::ldap::BIND_DN;
pub(crate) const BIND_PASSWORD: &str = obol_testbed::ldap::BIND_PASSWORD;

/// One directory for all tests that only read. It lives as long as the process.
pub(crate) fn shared() -> &'static OpenLdap {
    static SHARED: OnceLock<OpenLdap> = OnceLock::new();
    SHARED.get_or_init(|| OpenLdap::start(LdapOptions::default()).unwrap())
}

/// One that lets anybody search.
pub(crate) fn open_to_all() -> &'static OpenLdap {
    static SHARED: OnceLock<OpenLdap> = OnceLock::new();
    SHARED.get_or_init(|| {
        OpenLdap::start(LdapOptions {
            anonymous_search: true,
            ..LdapOptions::default()
        })
        .unwrap()
    })
}

/// The configuration that fits the test bed, with a service account, over plain LDAP.
pub(crate) fn config(url: impl Into<String>) -> DirectoryConfig {
    DirectoryConfig {
        url: url.into(),
        binddn: BIND_DN.into(),
        bindpass: BIND_PASSWORD.to_owned().into(),
        userdn: USER_DN.into(),
        userattr: "uid".into(),
        groupdn: GROUP_DN.into(),
        request_timeout: Duration::from_secs(20),
        connection_timeout: Duration::from_secs(10),
        ..DirectoryConfig::default()
    }
}

/// The same without an account.
pub(crate) fn anonymous(url: impl Into<String>) -> DirectoryConfig {
    DirectoryConfig {
        binddn: String::new(),
        bindpass: String::new().into(),
        ..config(url)
    }
}

pub(crate) fn open(config: &DirectoryConfig) -> Directory {
    Directory::new(config).unwrap()
}

pub(crate) fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

/// Waits until `condition` holds; a test that waits longer than a minute has failed.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(
            Instant::now() < deadline,
            "it never came to pass that {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Stops slapd as SIGSTOP does, and waits until each of its threads has noticed.
pub(crate) async fn pause(slapd: &OpenLdap) {
    slapd.pause().unwrap();
    let tasks = format!("/proc/{}/task", slapd.pid().unwrap());
    eventually("slapd has stopped", async || {
        std::fs::read_dir(&tasks).unwrap().all(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            // The state comes after the name, which is in parentheses.
            stat.rsplit(") ").next().unwrap().starts_with('T')
        })
    })
    .await;
}

/// A loopback port where nothing listens: it was free a moment ago and stays reserved.
pub(crate) struct DeadPort {
    _lease: obol_testbed::PortLease,
    pub(crate) port: u16,
}

impl DeadPort {
    pub(crate) fn new() -> Self {
        let lease = obol_testbed::PortLease::new().unwrap();
        Self {
            port: lease.port(),
            _lease: lease,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }
}

/// A TCP proxy that counts.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// In front of the port of a URL such as `ldap://localhost:3890`.
    pub(crate) async fn before(url: &str) -> Self {
        let target = port_of(url);
        Self::start(move |client| {
            Box::pin(async move {
                let mut client = client;
                let Ok(mut server) = dial(target).await else {
                    return;
                };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            })
        })
        .await
    }

    /// Takes connections and handles each with `serve`.
    pub(crate) async fn start<F>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let [accepted, open, most] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let counters = (Arc::clone(&accepted), Arc::clone(&open), Arc::clone(&most));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                client.set_nodelay(true).unwrap();
                let (accepted, open, most) = &counters;
                accepted.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let served = serve(client);
                let open = Arc::clone(open);
                connections.spawn(async move {
                    served.await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            port,
            accepted,
            open,
            most,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// Connections since the start.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Connections now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Most connections at once.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The set of connections goes with it.
        self.task.abort();
    }
}

/// `ldaps://`, with one TLS version only, in front of a plain port.
pub(crate) async fn tls_front(ca: &Ca, version: TlsVersion, plain_url: &str) -> Proxy {
    let (certificate, key) = ca.issue(&loopback_names()).unwrap();
    tls_front_with(&certificate, &key, Some(version), None, plain_url).await
}

/// `ldaps://` with this certificate in front of a plain port; clients need a certificate that
/// `clients` vouches for, if that is given.
pub(crate) async fn tls_front_with(
    certificate: &str,
    key: &str,
    only: Option<TlsVersion>,
    clients: Option<&str>,
    plain_url: &str,
) -> Proxy {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    if let Some(version) = only {
        let version = match version {
            TlsVersion::Tls10 => SslVersion::TLS1,
            TlsVersion::Tls11 => SslVersion::TLS1_1,
            TlsVersion::Tls12 => SslVersion::TLS1_2,
            TlsVersion::Tls13 => SslVersion::TLS1_3,
        };
        // OpenSSL 3 speaks nothing below 1.2 above security level 0.
        acceptor.set_cipher_list("ALL:!aNULL:@SECLEVEL=0").unwrap();
        acceptor.clear_options(SslOptions::NO_SSL_MASK);
        acceptor.set_min_proto_version(Some(version)).unwrap();
        acceptor.set_max_proto_version(Some(version)).unwrap();
    }
    acceptor
        .set_certificate(&X509::from_pem(certificate.as_bytes()).unwrap())
        .unwrap();
    acceptor
        .set_private_key(&PKey::private_key_from_pem(key.as_bytes()).unwrap())
        .unwrap();
    if let Some(pem) = clients {
        let mut store = X509StoreBuilder::new().unwrap();
        store
            .add_cert(X509::from_pem(pem.as_bytes()).unwrap())
            .unwrap();
        acceptor.set_cert_store(store.build());
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    let context = acceptor.build().into_context();
    let target = port_of(plain_url);
    Proxy::start(move |client| {
        let ssl = Ssl::new(&context).unwrap();
        Box::pin(async move {
            let mut client = tokio_openssl::SslStream::new(ssl, client).unwrap();
            if Pin::new(&mut client).accept().await.is_err() {
                return;
            }
            let Ok(mut server) = dial(target).await else {
                return;
            };
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        })
    })
    .await
}

async fn dial(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}
