//! The only HTTP client: posts to receivers that tenants name and nobody trusts. It answers an
//! [`Outcome`], never `Err`, within the attempt's time limit once it is the tenant's turn to connect (`pace.rs`).
//!
//! Invariants: it connects only to vetted addresses (`resolver.rs`), follows no redirect, uses no proxy,
//! decompresses nothing, sends a request at most once, shares no connection between tenants. What a receiver can make it
//! keep in memory is bounded in each of its parts: headers, body, `Retry-After`.

mod body;
mod client;
mod collector;
mod failure;
mod local;
mod pace;
mod resolver;
mod under_way;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use quick_cache::sync::Cache;
use tokio::time::{Instant, timeout_at};

use crate::domain::address::{AddressPolicy, EndpointUrl};
use crate::domain::outcome::{Answer, Outcome, SendError};
use body::Guarded;
use client::{Client, PoolKey, PoolKeyRef};
pub use collector::CollectorClient;
pub use local::{LocalApi, LocalApiError};
use pace::Pace;
use resolver::GuardedResolver;
pub use resolver::ResolveError;
use under_way::{REQUEST, UnderWay};

/// Bytes of a response body that are kept; at the bound reading stops, the answer is marked truncated and
/// the connection is closed.
pub const RESPONSE_BODY_LIMIT: usize = 16 * 1024;

/// Connection pools kept, one per tenant and origin, recently used ones longest. Beyond it a pool is
/// dropped, which closes its idle connections; requests on their way are not disturbed.
pub const POOL_LIMIT: usize = 4096;

/// Bytes of `Retry-After` that are kept; a longer value is ignored. Both of its forms (RFC 9110 §10.2.3) are shorter.
const RETRY_AFTER_LIMIT: usize = 64;

/// What [`Outbound`] needs to know.
#[derive(Debug, Clone)]
pub struct OutboundConfig {
    /// Where it may connect to.
    pub policy: AddressPolicy,
    /// From the start of the connect to the status line; the body is read to the same deadline. A tenant that makes many connections at
    /// once has them made one after the other, and the wait for that does not count.
    pub attempt_timeout: Duration,
    /// PEM file of certificate authorities trusted beside the system's.
    pub extra_ca: Option<PathBuf>,
    /// DNS servers to ask; none means those of `/etc/resolv.conf`. `/etc/hosts` counts in both cases.
    pub dns_servers: Vec<SocketAddr>,
}

/// Why no [`Outbound`] could be made; all of them are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The file is missing or is not PEM, or holds something that is not a certificate.
    #[error("setting `extra_ca`: cannot read certificate authorities from {}", path.display())]
    ExtraCa {
        /// The configured file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Every `https` request would fail.
    #[error("the system has no certificate authorities; install ca-certificates or name a file with extra_ca")]
    NoCertificateAuthorities,
    /// rustls does not accept the configuration.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// hickory does not accept the configuration.
    #[error("cannot set up name resolution")]
    Resolver(#[from] hickory_resolver::net::NetError),
}

/// The client of all tenants. Make one and share it.
pub struct Outbound {
    policy: AddressPolicy,
    attempt_timeout: Duration,
    tls: Arc<rustls::ClientConfig>,
    resolver: GuardedResolver,
    pace: Pace,
    pools: Cache<PoolKey, Arc<Client>>,
}

impl Outbound {
    /// Reads the system's certificate authorities and DNS servers once: changes need a restart.
    ///
    /// # Errors
    /// When one of them, or the configuration, cannot be used.
    pub fn new(config: OutboundConfig) -> Result<Self, OutboundError> {
        let tls = client::tls_config(config.extra_ca, config.policy)?;
        let resolver = GuardedResolver::new(&config.dns_servers, config.policy, config.attempt_timeout)?;
        Ok(Self {
            policy: config.policy,
            attempt_timeout: config.attempt_timeout,
            tls,
            resolver,
            pace: Pace::new(),
            pools: Cache::new(POOL_LIMIT),
        })
    }

    /// One request, sent at most once, on a connection that only `tenant` uses.
    ///
    /// `headers` are sent as given (`Host`, `Content-Length` and `Accept: */*` are added). A status that came in
    /// time counts even if the body after it did not.
    ///
    /// `may_begin` is asked when the connection is there. `None`: it said no, and the receiver has got no whole request.
    pub async fn post(
        &self,
        tenant: &str,
        url: &EndpointUrl,
        headers: HeaderMap,
        body: Bytes,
        may_begin: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Option<Outcome> {
        let under_way: Arc<UnderWay> = UnderWay::new(may_begin);
        let body = Guarded::new(body, under_way.clone());
        let result = self.answer(tenant, url, headers, body, &under_way).await;
        (!under_way.refused()).then(|| Outcome { duration: under_way.took(), result })
    }

    /// The addresses a new connection to `host` would use, none of them refused; nothing is sent to them.
    ///
    /// # Errors
    /// When the name does not resolve in time, or one of its addresses is refused.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.resolver.addresses(host).await
    }

    async fn answer(
        &self,
        tenant: &str,
        url: &EndpointUrl,
        headers: HeaderMap,
        body: Guarded,
        under_way: &Arc<UnderWay>,
    ) -> Result<Answer, SendError> {
        // Again, although it was checked when it was saved: the row may be older than the rule, and a host that
        // is an address never reaches the resolver.
        url.check(self.policy).map_err(|_| SendError::AddressRefused)?;
        let uri: Uri = url.as_str().parse().map_err(|_| SendError::Network("request could not be set up"))?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let mut answering = pin!(REQUEST.scope(under_way.clone(), self.client(tenant, url).request(request)));
        let deadline = || under_way.deadline(self.attempt_timeout);
        loop {
            let until = deadline();
            match timeout_at(until, answering.as_mut()).await {
                Ok(Ok(response)) => return Ok(read_answer(response, deadline()).await),
                Ok(Err(error)) => return Err(failure::send_error(&error, self.attempt_timeout)),
                // It waited meanwhile for its turn to connect.
                Err(_) if until < deadline() => {}
                Err(_) => return Err(SendError::TimedOut(self.attempt_timeout)),
            }
        }
    }

    fn client(&self, tenant: &str, url: &EndpointUrl) -> Arc<Client> {
        let key = PoolKeyRef { tenant, origin: url.origin() };
        if let Some(client) = self.pools.get(&key) {
            return client;
        }
        let build =
            || client::build(self.pace.of(tenant), &self.tls, &self.resolver, self.policy, self.attempt_timeout);
        // One builder per key: two would mean two pools, and the connections of one of them lost.
        let Ok(client) = self.pools.get_or_insert_with(&PoolKey::from(key), || Ok::<_, Infallible>(Arc::new(build())));
        client
    }
}

async fn read_answer(response: Response<Incoming>, deadline: Instant) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let retry_after = head
        .headers
        .get(RETRY_AFTER)
        .filter(|value| value.len() <= RETRY_AFTER_LIMIT)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let mut body = BytesMut::new();
    let complete = timeout_at(deadline, read_body(&mut incoming, &mut body)).await.unwrap_or(false);
    Answer { status: head.status.as_u16(), body: body.freeze(), truncated: !complete, retry_after }
}

/// Whether `body` got all of it. The last frame, the missing one, is what sends the connection back to its pool.
///
/// Chunks are copied: they are views into the connection's read buffer, which a kept view would keep alive.
async fn read_body(incoming: &mut Incoming, body: &mut BytesMut) -> bool {
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else { return false };
        // Trailers tell nothing that is kept.
        let Ok(chunk) = frame.into_data() else { continue };
        let room = RESPONSE_BODY_LIMIT - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return false;
        }
    }
    true
}
