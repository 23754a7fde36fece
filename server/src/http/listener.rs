//! A listener: accepts, speaks TLS where asked, serves HTTP/1.1 and HTTP/2 with bounds on size and time,
//! and drains when told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::handler::{Connection, Shared, handle};
use super::linger::{self, Lent};
use super::tls::ReloadableTls;
use super::{Forwarding, Limits, Options};
use crate::core::Core;

const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// How long requests under way may take after the stop was asked for.
const DRAIN: Duration = Duration::from_secs(30);

/// A listener that has its port but does not accept yet: what cannot be bound is known before anything starts.
pub struct Bound {
    listener: TcpListener,
    tls: Option<Arc<ReloadableTls>>,
    limits: Limits,
    forwarding: Forwarding,
    pages: bool,
    open_metrics: bool,
}

impl Bound {
    pub async fn new(options: Options) -> io::Result<Self> {
        let tls = options
            .tls
            .map(ReloadableTls::load)
            .transpose()?
            .map(Arc::new);
        let listener = TcpListener::bind(options.address).await.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot listen on {}: {error}", options.address),
            )
        })?;
        Ok(Self {
            listener,
            tls,
            limits: options.limits,
            forwarding: options.forwarding,
            pages: false,
            open_metrics: options.open_metrics,
        })
    }

    /// Serves the pages for people too, beside the API.
    pub fn with_pages(mut self, pages: bool) -> Self {
        self.pages = pages;
        self
    }

    /// The address in fact: the port, where 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub fn tls(&self) -> Option<Arc<ReloadableTls>> {
        self.tls.clone()
    }
}

/// Serves until `stop` turns true, then lets requests under way finish.
pub async fn serve(bound: Bound, core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let Bound {
        listener,
        tls,
        limits,
        forwarding,
        pages,
        open_metrics,
    } = bound;
    let shared = Arc::new(Shared::new(
        core,
        limits,
        forwarding,
        tls.is_some(),
        pages,
        open_metrics,
    ));
    let router = Router::new().fallback(handle).with_state(shared);
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: the ones in use will be given back.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let watcher = graceful.watcher();
        let tls = tls.as_ref().map(|tls| tls.current());
        let connection = Connection {
            peer,
            end_point: tls.as_ref().and_then(|tls| tls.end_point.clone()),
        };
        tokio::spawn(async move {
            let builder = connection_builder(&limits);
            let (stream, returned) = linger::lend(stream);
            match tls {
                None => {
                    ended(
                        peer,
                        watcher
                            .watch(builder.serve_connection(
                                TokioIo::new(stream),
                                service(router, connection, limits.max_header_size),
                            ))
                            .await,
                    );
                }
                Some(tls) => {
                    let acceptor = TlsAcceptor::from(tls.config.clone());
                    let Some(stream) = handshake(acceptor, stream, peer).await else {
                        return;
                    };
                    ended(
                        peer,
                        watcher
                            .watch(builder.serve_connection(
                                TokioIo::new(stream),
                                service(router, connection, limits.max_header_size),
                            ))
                            .await,
                    );
                }
            }
            returned.close().await;
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not finish in time and were cut off");
    }
}

/// A connection that broke off is the client's affair; a header that was too large is the operator's, because the
/// client is told 431 and nothing more.
fn ended(peer: SocketAddr, outcome: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    let error = match outcome {
        Ok(()) => return,
        Err(error) => error,
    };
    let hyper = error.downcast_ref::<hyper::Error>();
    if hyper.is_some_and(hyper::Error::is_parse_too_large) {
        headers_too_large(peer);
    }
}

fn headers_too_large(peer: SocketAddr) {
    tracing::warn!(
        %peer,
        cause = "the headers of a request are larger than max_header_size",
        mend = "raise max_header_size of the listener: a Kerberos ticket of a user in very many groups may be what is so large",
        "a request was refused with 431"
    );
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: Lent,
    peer: SocketAddr,
) -> Option<tokio_rustls::server::TlsStream<Lent>> {
    match tokio::time::timeout(TLS_HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "TLS handshake timed out");
            None
        }
    }
}

fn connection_builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.max_header_size.max(16 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(u32::try_from(limits.max_header_size).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30));
    builder
}

fn service(
    router: Router,
    connection: Connection,
    max_header_size: usize,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response,
    Error = std::convert::Infallible,
    Future: Send + 'static,
> + Clone {
    hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let answer = if header_size(&request) <= max_header_size {
            request.extensions_mut().insert(connection.clone());
            Ok(router.clone().call(request))
        } else {
            headers_too_large(connection.peer);
            Err(refused_for_its_headers(request.version()))
        };
        async move {
            match answer {
                Ok(answer) => answer.await,
                Err(refusal) => Ok(refusal),
            }
        }
    })
}

/// Bytes of the request line and the headers, as HTTP/1.1 writes them. `max_buf_size` alone is no limit: it is asked
/// between reads, and a read may bring more than is left of it together with the end of the headers.
fn header_size(request: &Request<Incoming>) -> usize {
    const LINE: usize = "  HTTP/1.1\r\n\r\n".len();
    const FIELD: usize = ": \r\n".len();
    let target = request.uri().path_and_query();
    let line = request.method().as_str().len() + target.map_or(0, |t| t.as_str().len()) + LINE;
    let fields = request.headers().iter();
    fields.fold(line, |size, (name, value)| {
        size + name.as_str().len() + value.len() + FIELD
    })
}

/// As hyper answers where it sees by itself that headers are too large.
fn refused_for_its_headers(version: Version) -> Response {
    let mut response = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response();
    // HTTP/2 has no such header; its connection serves the next request.
    if version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}
