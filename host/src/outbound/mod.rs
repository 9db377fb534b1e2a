//! The only HTTP client: posts to receivers that tenants name and nobody trusts. It answers an
//! [`Outcome`], never `Err`, within the attempt's time limit.
//!
//! Invariants: it connects only to vetted addresses (`resolver.rs`), follows no redirect, uses no proxy,
//! decompresses nothing, sends a request at most once, shares no connection between tenants.

mod client;
mod collector;
mod failure;
mod local;
mod resolver;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method};
use quick_cache::sync::Cache;
use reqwest::{Client, Request, Response};
use tokio::time::{Instant, timeout_at};

use crate::domain::address::{AddressPolicy, EndpointUrl};
use crate::domain::outcome::{Answer, Outcome, SendError};
use client::{PoolKey, PoolKeyRef};
pub use collector::CollectorClient;
pub use local::{LocalApi, LocalApiError};
use resolver::GuardedResolver;
pub use resolver::ResolveError;

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
    /// From the start of the connect to the status line; the body is read to the same deadline.
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
    /// reqwest does not accept the configuration.
    #[error("cannot set up the HTTP client")]
    Client(#[from] reqwest::Error),
}

/// The client of all tenants. Make one and share it.
pub struct Outbound {
    policy: AddressPolicy,
    attempt_timeout: Duration,
    tls: rustls::ClientConfig,
    resolver: Arc<GuardedResolver>,
    pools: Cache<PoolKey, Client>,
}

impl Outbound {
    /// Reads the system's certificate authorities and DNS servers once: changes need a restart.
    ///
    /// # Errors
    /// When one of them, or the configuration, cannot be used.
    pub fn new(config: OutboundConfig) -> Result<Self, OutboundError> {
        let tls = client::tls_config(config.extra_ca, config.policy)?;
        let resolver = Arc::new(GuardedResolver::new(&config.dns_servers, config.policy, config.attempt_timeout)?);
        // Built once for nothing: a TLS configuration that reqwest does not know fails here, not in an attempt.
        client::build(&tls, &resolver, config.policy, config.attempt_timeout)?;
        Ok(Self {
            policy: config.policy,
            attempt_timeout: config.attempt_timeout,
            tls,
            resolver,
            pools: Cache::new(POOL_LIMIT),
        })
    }

    /// One request, sent at most once, on a connection that only `tenant` uses.
    ///
    /// `headers` are sent as given (`Host`, `Content-Length` and `Accept: */*` are added). A status that came in
    /// time counts even if the body after it did not.
    pub async fn post(&self, tenant: &str, url: &EndpointUrl, headers: HeaderMap, body: Bytes) -> Outcome {
        let started = Instant::now();
        let result = self.answer(tenant, url, headers, body, started + self.attempt_timeout).await;
        Outcome { duration: started.elapsed(), result }
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
        body: Bytes,
        deadline: Instant,
    ) -> Result<Answer, SendError> {
        // Again, although it was checked when it was saved: the row may be older than the rule, and a host that
        // is an address never reaches the resolver.
        url.check(self.policy).map_err(|_| SendError::AddressRefused)?;
        let client = self.client(tenant, url)?;
        let mut request = Request::new(Method::POST, url.as_url().clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        match timeout_at(deadline, client.execute(request)).await {
            Ok(Ok(response)) => Ok(read_answer(response, deadline).await),
            Ok(Err(error)) => Err(failure::send_error(&error, self.attempt_timeout)),
            Err(_) => Err(SendError::TimedOut(self.attempt_timeout)),
        }
    }

    fn client(&self, tenant: &str, url: &EndpointUrl) -> Result<Client, SendError> {
        let key = PoolKeyRef { tenant, origin: url.origin() };
        if let Some(client) = self.pools.get(&key) {
            return Ok(client);
        }
        // One builder per key: two would mean two pools, and the connections of one of them lost.
        self.pools
            .get_or_insert_with(&PoolKey::from(key), || {
                client::build(&self.tls, &self.resolver, self.policy, self.attempt_timeout)
            })
            .map_err(|_| SendError::Network("request could not be set up"))
    }
}

async fn read_answer(mut response: Response, deadline: Instant) -> Answer {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .filter(|value| value.len() <= RETRY_AFTER_LIMIT)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let mut body = BytesMut::new();
    let complete = timeout_at(deadline, read_body(&mut response, &mut body)).await.unwrap_or(false);
    Answer { status, body: body.freeze(), truncated: !complete, retry_after }
}

/// Whether `body` got all of it. The last `chunk`, the empty one, is what sends the connection back to its pool.
///
/// Chunks are copied: they are views into the connection's read buffer, which a kept view would keep alive.
async fn read_body(response: &mut Response, body: &mut BytesMut) -> bool {
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = RESPONSE_BODY_LIMIT - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    return false;
                }
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
