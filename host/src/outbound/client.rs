//! How each HTTP client is set up: TLS, pools, limits.

use std::error::Error;
use std::hash::Hash;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quick_cache::Equivalent;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::body::Guarded;
use super::pace::Turns;
use super::resolver::GuardedResolver;
use super::under_way::REQUEST;
use super::{OutboundError, POOL_LIMIT};
use crate::domain::address::AddressPolicy;

/// Whose connections a pool holds, and to where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    tenant: Box<str>,
    origin: Box<str>,
}

/// [`PoolKey`] for looking up; its fields hash the same, in the same order.
#[derive(Debug, Hash)]
pub(super) struct PoolKeyRef<'a> {
    pub(super) tenant: &'a str,
    pub(super) origin: &'a str,
}

impl Equivalent<PoolKey> for PoolKeyRef<'_> {
    fn equivalent(&self, key: &PoolKey) -> bool {
        *self.tenant == *key.tenant && *self.origin == *key.origin
    }
}

impl From<PoolKeyRef<'_>> for PoolKey {
    fn from(key: PoolKeyRef<'_>) -> Self {
        Self { tenant: key.tenant.into(), origin: key.origin.into() }
    }
}

/// The system's certificate authorities and those in `extra_ca`; HTTP/2 where the receiver offers it.
pub(super) fn tls_config(extra_ca: Option<PathBuf>, policy: AddressPolicy) -> Result<Arc<ClientConfig>, OutboundError> {
    let mut roots = RootCertStore::empty();
    // What the system holds and cannot be read is its packager's matter; too few show as TLS errors.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = extra_ca {
        add_extra_ca(&mut roots, &path).map_err(|source| OutboundError::ExtraCa { path, source })?;
    }
    if roots.is_empty() && policy == AddressPolicy::PublicOnly {
        return Err(OutboundError::NoCertificateAuthorities);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions are found by server name and hold nothing of a tenant: all clients share them.
    tls.resumption = Resumption::in_memory_sessions(POOL_LIMIT);
    Ok(Arc::new(tls))
}

fn add_extra_ca(roots: &mut RootCertStore, path: &PathBuf) -> Result<(), BoxError> {
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    if roots.len() == before {
        return Err("no certificate in it".into());
    }
    Ok(())
}

/// One pool of connections. It follows no redirect, uses no proxy and unpacks nothing, for it cannot; a request that a connection
/// may have begun to send is never sent again.
pub(super) type Client = legacy::Client<Connector, Guarded>;

/// An empty pool of a tenant.
pub(super) fn build(
    turns: Arc<Turns>,
    tls: &Arc<ClientConfig>,
    resolver: &GuardedResolver,
    policy: AddressPolicy,
    attempt_timeout: Duration,
) -> Client {
    let mut http = HttpConnector::new_with_resolver(resolver.clone());
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(TCP_PROBE_AFTER));
    http.set_keepalive_interval(Some(TCP_PROBE_AFTER));
    let mut https = HttpsConnector::from((http, tls.clone()));
    if policy == AddressPolicy::PublicOnly {
        https.enforce_https();
    }
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_PER_POOL)
        .pool_idle_timeout(IDLE_FOR)
        .http1_max_buf_size(HTTP1_HEADER_LIMIT)
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .http2_max_header_list_size(HTTP2_HEADER_LIMIT)
        .http2_keep_alive_interval(HTTP2_PING_AFTER)
        .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .build(Connector { https, limit: attempt_timeout, turns })
}

/// Waits for the tenant's turn; looks up, connects and shakes hands, all that within a limit. An attempt has its own; this one
/// ends a connect that goes on in the background after an idle connection was found meanwhile.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<HttpConnector<GuardedResolver>>,
    limit: Duration,
    turns: Arc<Turns>,
}

type BoxError = Box<dyn Error + Send + Sync>;
type Connection = MaybeHttpsStream<TokioIo<TcpStream>>;
type Connecting = Pin<Box<dyn Future<Output = Result<Connection, BoxError>> + Send>>;

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Connecting {
        let (connecting, limit, turns) = (self.https.call(to), self.limit, self.turns.clone());
        // hyper calls this while it polls the request.
        let request = REQUEST.try_with(Arc::clone).ok();
        if let Some(request) = &request {
            request.waits();
        }
        Box::pin(async move {
            // Another connection may be free before.
            let is_needed = || request.as_ref().is_none_or(|request| request.is_waiting());
            if !turns.take(is_needed).await {
                return Err("another connection was free before".into());
            }
            if let Some(request) = &request {
                request.waited();
            }
            match timeout(limit, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}

/// Idle connections kept in a pool; one more is closed after its request.
const IDLE_PER_POOL: usize = 64;

/// A connection idle for longer is closed. Most receivers close after 60 s or more, some after 5 s: then we
/// see the end of the stream and drop the connection, unless a request crosses it, which is a failed attempt.
const IDLE_FOR: Duration = Duration::from_secs(30);

/// Whoever is on the other side of an idle connection is asked by TCP whether it is still there, before the connection is used again.
const TCP_PROBE_AFTER: Duration = Duration::from_secs(15);

/// What a receiver may send unasked on one HTTP/2 stream (RFC 9113 §6.9); hyper's default is 2 MiB.
const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;

/// The same for one connection; hyper's default is 5 MiB.
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Response header bytes over HTTP/1.1, about; beyond it the request fails. It is hyper's buffer of a connection, which a receiver can
/// fill and then fall silent; by default it would be 408 KiB for each of as many attempts as there may be at once.
const HTTP1_HEADER_LIMIT: usize = 32 * 1024;

/// Response header bytes over HTTP/2; beyond it the request fails.
const HTTP2_HEADER_LIMIT: u32 = 16 * 1024;

/// A silent HTTP/2 connection with requests waiting is asked for a sign of life, so that a dead one, shared by all
/// requests to its origin, does not fail them one after the other.
const HTTP2_PING_AFTER: Duration = Duration::from_secs(4);

/// Without the sign of life the connection is closed.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(4);
