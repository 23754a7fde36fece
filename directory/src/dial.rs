//! From a URL to a bound session: TCP, StartTLS or TLS, the bind, each with its own error.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ldap3::{LdapConnAsync, LdapConnSettings, StdStream};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_openssl::SslStream;

use crate::bridge::Bridge;
use crate::config::ConfigError;
use crate::error::{DirectoryError, ResultCode, TlsFault};
use crate::message;
use crate::sasl::{Layer, SaslBind, SaslServer};
use crate::server_url::{Security, ServerUrl};
use crate::session::Session;
use crate::settings::{Account, SearchRules, Settings};
use crate::tls::{TlsClient, channel_binding};

/// Opens sessions with the servers of one configuration, which it knows by their number.
pub(crate) struct Dialer {
    servers: Vec<ServerUrl>,
    tls: TlsClient,
    account: Account,
    /// Bounds the threads that wait for tickets.
    threads: Arc<Semaphore>,
    rules: SearchRules,
    connection_timeout: Duration,
}

impl Dialer {
    pub(crate) fn new(settings: &mut Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            servers: std::mem::take(&mut settings.servers),
            tls: TlsClient::new(&settings.tls)?,
            account: std::mem::take(&mut settings.account),
            threads: Arc::new(Semaphore::new(settings.limits.max_connections)),
            rules: settings.rules,
            connection_timeout: settings.limits.connection_timeout,
        })
    }

    /// The same servers for sessions on which nobody is bound.
    pub(crate) fn anonymous(&self) -> Self {
        Self {
            servers: self.servers.clone(),
            tls: self.tls.clone(),
            account: Account::default(),
            threads: Arc::clone(&self.threads),
            rules: self.rules,
            connection_timeout: self.connection_timeout,
        }
    }

    pub(crate) fn servers(&self) -> &[ServerUrl] {
        &self.servers
    }

    /// Who the sessions of [`Self::open`] are bound as, for people.
    pub(crate) fn bound_as(&self, over_tls: bool) -> String {
        match &self.account {
            Account::Anonymous => "nobody is bound: searches are anonymous".to_owned(),
            Account::Simple { name, .. } => format!("as {name}"),
            Account::Sasl(source) => {
                let layer = match over_tls {
                    true => "inside TLS",
                    false => "and what follows is sealed",
                };
                format!("as {}, by GSSAPI, {layer}", source.name())
            }
        }
    }

    pub(crate) fn checks_certificates(&self) -> bool {
        self.tls.checks_certificates()
    }

    /// A session bound as the service account, ready for searches.
    pub(crate) async fn open(&self, server: usize) -> Result<Session, DirectoryError> {
        let deadline = self.deadline();
        let tcp = self.dial(server, deadline).await?;
        let transport = self.secure(server, tcp, deadline).await?;
        self.bind(server, transport, deadline).await
    }

    /// A session that nobody is bound on, for a user's own bind.
    pub(crate) async fn open_unbound(&self, server: usize) -> Result<Session, DirectoryError> {
        let deadline = self.deadline();
        let tcp = self.dial(server, deadline).await?;
        let transport = self.secure(server, tcp, deadline).await?;
        self.session(server, transport, None).await
    }

    /// Until when a connection that is begun now must be there.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.connection_timeout
    }

    /// The first step: TCP.
    pub(crate) async fn dial(
        &self,
        server: usize,
        deadline: Instant,
    ) -> Result<TcpStream, DirectoryError> {
        let server = &self.servers[server];
        let tcp = match timeout_at(deadline, self.tcp(server, deadline)).await {
            Ok(tcp) => tcp.map_err(|cause| failed(server, cause))?,
            Err(_) => return Err(self.late(server, "no answer")),
        };
        self.tune(&tcp).map_err(|cause| failed(server, cause))?;
        Ok(tcp)
    }

    /// The second: TLS, if the URL or StartTLS asks for it.
    pub(crate) async fn secure(
        &self,
        server: usize,
        mut tcp: TcpStream,
        deadline: Instant,
    ) -> Result<Transport, DirectoryError> {
        let server = &self.servers[server];
        match server.security {
            Security::Plain => return Ok(Transport::Plain(tcp)),
            Security::Ldaps => {}
            Security::StartTls => match timeout_at(deadline, start_tls(server, &mut tcp)).await {
                Ok(outcome) => outcome?,
                Err(_) => return Err(self.late(server, "no answer to StartTLS")),
            },
        }
        match timeout_at(deadline, self.tls.connect(server, tcp)).await {
            Ok(tls) => Ok(Transport::Tls(Box::new(tls?))),
            Err(_) => Err(self.late(server, "the TLS handshake was not finished")),
        }
    }

    /// The TLS version of a server that [`secure`](Self::secure) could not agree with, if that is one
    /// that the configuration leaves out.
    pub(crate) async fn version_left_out(
        &self,
        server: usize,
        deadline: Instant,
    ) -> Option<&'static str> {
        let mut tcp = self.dial(server, deadline).await.ok()?;
        let server = &self.servers[server];
        if let Security::StartTls = server.security {
            timeout_at(deadline, start_tls(server, &mut tcp))
                .await
                .ok()?
                .ok()?;
        }
        timeout_at(deadline, self.tls.version_left_out(server, tcp))
            .await
            .ok()
            .flatten()
    }

    /// The third: the bind as the service account.
    pub(crate) async fn bind(
        &self,
        server: usize,
        mut transport: Transport,
        deadline: Instant,
    ) -> Result<Session, DirectoryError> {
        let url = &self.servers[server].text;
        match &self.account {
            // No bind is needed: a new connection is anonymous (RFC 4513 §4).
            Account::Anonymous => self.session(server, transport, None).await,
            Account::Simple { name, password } => {
                let mut session = self.session(server, transport, None).await?;
                let (code, text) = session.bind(name, password, deadline).await?;
                match code {
                    ResultCode::SUCCESS => Ok(session),
                    _ => Err(DirectoryError::Bind {
                        url: url.clone(),
                        binddn: name.clone(),
                        code,
                        text,
                    }),
                }
            }
            Account::Sasl(source) => {
                let bind = SaslBind {
                    url,
                    source,
                    threads: &self.threads,
                    limit: self.connection_timeout,
                    deadline,
                };
                let host = self.servers[server].host.clone();
                let layer = match &mut transport {
                    Transport::Plain(tcp) => {
                        let peer = SaslServer {
                            host,
                            over_tls: false,
                            channel_binding: None,
                        };
                        bind.run(tcp, peer).await?
                    }
                    Transport::Tls(tls) => {
                        let peer = SaslServer {
                            host,
                            over_tls: true,
                            channel_binding: channel_binding(tls.ssl()),
                        };
                        bind.run(tls.as_mut(), peer).await?
                    }
                };
                self.session(server, transport, layer).await
            }
        }
    }

    /// Puts the LDAP library on a connection.
    async fn session(
        &self,
        index: usize,
        transport: Transport,
        layer: Option<Layer>,
    ) -> Result<Session, DirectoryError> {
        let server = &self.servers[index];
        let (bridge, stream) = match transport {
            Transport::Plain(tcp) => Bridge::start(tcp, layer),
            Transport::Tls(tls) => Bridge::start(*tls, layer),
        }
        .map_err(|cause| failed(server, cause))?;
        // The library only sees a local stream; what it dials is of no account.
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(stream));
        let (driver, handle) = LdapConnAsync::with_settings(settings, "ldapi:///")
            .await
            .map_err(|cause| DirectoryError::Protocol {
                url: server.text.clone(),
                cause: cause.to_string(),
            })?;
        Ok(Session::new(
            index,
            &server.text,
            driver,
            handle,
            bridge,
            self.rules,
        ))
    }

    fn late(&self, server: &ServerUrl, what: &str) -> DirectoryError {
        DirectoryError::Dial {
            url: server.text.clone(),
            cause: format!("{what} within {:?}", self.connection_timeout),
            timed_out: true,
        }
    }

    /// Tries each address of the host; none may use up the time of those after it.
    async fn tcp(&self, server: &ServerUrl, deadline: Instant) -> io::Result<TcpStream> {
        let addresses: Vec<_> = tokio::net::lookup_host((server.host.as_str(), server.port))
            .await?
            .collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for (index, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            last = match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(cause)) => cause,
                Err(_) => io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer from {address} within {share:?}"),
                ),
            };
        }
        Err(last)
    }

    /// Kept connections live behind firewalls that forget, and in front of hosts that vanish:
    /// probe idle ones, and give up on unacknowledged data in the time a connection may take.
    fn tune(&self, tcp: &TcpStream) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        let socket = SockRef::from(tcp);
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(Duration::from_secs(60))
                .with_interval(Duration::from_secs(15))
                .with_retries(3),
        )?;
        socket.set_tcp_user_timeout(Some(self.connection_timeout))
    }
}

/// A connection before LDAP is spoken on it.
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

fn failed(server: &ServerUrl, cause: io::Error) -> DirectoryError {
    DirectoryError::Dial {
        url: server.text.clone(),
        cause: cause.to_string(),
        timed_out: cause.kind() == io::ErrorKind::TimedOut,
    }
}

/// The StartTLS exchange (RFC 4511 §4.14), spoken here so that nothing else is read from the
/// socket before TLS owns it: a byte more, injected in the clear, would be taken for protected.
async fn start_tls(server: &ServerUrl, tcp: &mut TcpStream) -> Result<(), DirectoryError> {
    // LDAPMessage { messageID 1, extendedReq [APPLICATION 23] { requestName [0] OID } }
    const REQUEST: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
    let fault = |cause: String| DirectoryError::Tls {
        url: server.text.clone(),
        cause,
        kind: TlsFault::StartTls,
    };
    let answer = async {
        tcp.write_all(REQUEST).await?;
        read_message(tcp).await
    }
    .await
    .map_err(|cause: io::Error| match cause.kind() {
        io::ErrorKind::UnexpectedEof => {
            fault("the server closed the connection when asked for StartTLS".into())
        }
        _ => fault(format!("no answer to StartTLS: {cause}")),
    })?;
    match answer.and_then(|answer| message::extended_result(&answer, 1)) {
        Ok(0) => Ok(()),
        Ok(code) => Err(fault(format!(
            "the server refused StartTLS with {}",
            ResultCode(code)
        ))),
        Err(what) => Err(fault(format!("the server answers StartTLS with {what}"))),
    }
}

/// One message and not a byte more.
async fn read_message(tcp: &mut TcpStream) -> io::Result<Result<Vec<u8>, message::Fault>> {
    let mut answer = Vec::with_capacity(64);
    let length = loop {
        answer.push(tcp.read_u8().await?);
        match message::message_length(&answer) {
            Ok(Some(length)) => break length,
            Ok(None) => {}
            Err(fault) => return Ok(Err(fault)),
        }
    };
    if length > MAX_ANSWER {
        return Ok(Err("a message too large"));
    }
    let header = answer.len();
    answer.resize(length, 0);
    tcp.read_exact(&mut answer[header..]).await?;
    Ok(Ok(answer))
}

/// Bytes of the longest answer to StartTLS that is read: a code and perhaps a sentence.
const MAX_ANSWER: usize = 64 << 10;
