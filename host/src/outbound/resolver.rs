//! Name resolution that gives out vetted addresses only. The HTTP client connects to exactly what it is
//! given here, so there is no second lookup that a name could answer differently (DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hyper_util::client::legacy::connect::dns;
use tokio::time::timeout;
use tower_service::Service;

use super::OutboundError;
use crate::domain::address::{AddressPolicy, permitted};

/// Addresses of a name that a connect may try, the first ones; all of the name's addresses are vetted.
pub(super) const ADDRESS_LIMIT: usize = 16;

/// Longest time a lookup may take; half the attempt's limit where that is shorter.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a name gave no address to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// At least one of the name's addresses is not [`permitted`]. All are refused: which of them is tried is chance.
    #[error("name resolves to a refused address")]
    Refused,
    /// No such name, or it has neither A nor AAAA records.
    #[error("name not found")]
    NotFound,
    /// No answer within this time.
    #[error("name lookup timed out")]
    TimedOut(Duration),
    /// The DNS server failed, or could not be reached.
    #[error("name lookup failed")]
    Failed,
}

/// What every connect to a host name goes through. Clones share the connection to the DNS servers.
#[derive(Clone)]
pub(super) struct GuardedResolver {
    dns: Arc<TokioResolver>,
    policy: AddressPolicy,
    budget: Duration,
}

impl GuardedResolver {
    pub(super) fn new(
        servers: &[SocketAddr],
        policy: AddressPolicy,
        attempt_timeout: Duration,
    ) -> Result<Self, OutboundError> {
        let budget = LOOKUP_TIMEOUT.min(attempt_timeout / 2);
        let (config, options) = if servers.is_empty() { system_config() } else { config_of(servers) };
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = bounded(options, budget);
        Ok(Self { dns: Arc::new(builder.build()?), policy, budget })
    }

    /// The vetted addresses of `host`, at least one and at most [`ADDRESS_LIMIT`].
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let mut name = Name::from_ascii(host).map_err(|_| ResolveError::NotFound)?;
        // Absolute, or the search list of resolv.conf would turn a public name into one of the operator's network.
        name.set_fqdn(true);
        let answer = match timeout(self.budget, self.dns.lookup_ip(name)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.failure(&error)),
            Err(_) => return Err(ResolveError::TimedOut(self.budget)),
        };
        if !answer.iter().all(|ip| permitted(ip, self.policy)) {
            return Err(ResolveError::Refused);
        }
        let addresses: Vec<IpAddr> = answer.iter().take(ADDRESS_LIMIT).collect();
        if addresses.is_empty() { Err(ResolveError::NotFound) } else { Ok(addresses) }
    }

    fn failure(&self, error: &NetError) -> ResolveError {
        match error {
            NetError::Timeout => ResolveError::TimedOut(self.budget),
            error if error.is_no_records_found() => ResolveError::NotFound,
            _ => ResolveError::Failed,
        }
    }
}

type Resolved = vec::IntoIter<SocketAddr>;

// The HTTP client asks for host names; for hosts that are addresses it does not ask.
impl Service<dns::Name> for GuardedResolver {
    type Response = Resolved;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Resolved, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            // Port 0 stands for the URL's.
            let sockets: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(sockets.into_iter())
        })
    }
}

fn config_of(servers: &[SocketAddr]) -> (ResolverConfig, ResolverOpts) {
    let server = |address: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
            .map(|mut connection| {
                connection.port = address.port();
                connection
            })
            .to_vec();
        NameServerConfig::new(address.ip(), true, connections)
    };
    let servers = servers.iter().map(server).collect();
    (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
}

/// `/etc/resolv.conf`; without a name server in it, the one on this machine, as resolv.conf(5) says.
fn system_config() -> (ResolverConfig, ResolverOpts) {
    hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot use /etc/resolv.conf, asking the DNS server at 127.0.0.1");
        config_of(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 53))])
    })
}

fn bounded(mut options: ResolverOpts, budget: Duration) -> ResolverOpts {
    // Both families always, so that a refused address in one of them refuses the name.
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Always;
    // Asked once more after 2/5 of the budget: where one family is never answered, the other is still used in time.
    options.timeout = budget * 2 / 5;
    options.attempts = 1;
    // No cache: pooled connections need no lookup, the system's DNS server has one, and what one tenant
    // looked up shows neither in another's timing nor after its time to live.
    options.cache_size = 0;
    options
}
