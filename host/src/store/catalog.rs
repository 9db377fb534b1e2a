//! What accepting an event and running an attempt need of the slow-changing tables, cached.
//!
//! A tenant's endpoints are cached with the tenant's `endpoints_version`. The writer compares it inside its
//! transaction, so an event never misses an endpoint that was acknowledged before it, on any host. Where other hosts make
//! changes too, attempts use what was compared within [`AGE`], and a change that must hold everywhere waits that long before
//! it is acknowledged.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use tokio::sync::Semaphore;

use super::database::Kind;
use crate::domain::endpoint::Endpoint;
use crate::domain::event::EventType;
use crate::domain::id::{EndpointId, TenantId};

/// Endpoints cached at most, about 2 KiB each; beyond it the tenants longest unused are read again. Settings of plugins
/// count as endpoints of this size.
const ENDPOINTS_CACHED: u64 = 50_000;
const ENDPOINT_BYTES: usize = 2 * 1024;
/// How long a tenant's endpoints are used without a look whether another host changed them.
const AGE: Duration = Duration::from_millis(250);
/// Whole tenants read at once: more than one, for some have few endpoints and some thousands.
const READERS_AT_ONCE: usize = 2;
/// A type retired on another host is refused here after this.
const EVENT_TYPES_AGE: Duration = Duration::from_secs(1);

/// A tenant's endpoints as of one version.
#[derive(Debug)]
pub(super) struct TenantEndpoints {
    pub(super) version: i64,
    /// By id.
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    weight: u64,
    /// A moment when they were the newest.
    confirmed_at: Mutex<Instant>,
}

impl TenantEndpoints {
    /// Those that want events of this type, whatever state they are in.
    pub(super) fn wanting(&self, event_type: &EventType) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().map(|endpoint| &**endpoint).filter(move |endpoint| endpoint.wants(event_type))
    }

    /// `endpoints` by id, read no earlier than `at`.
    pub(super) fn new(version: i64, endpoints: Vec<Arc<Endpoint>>, at: Instant) -> Self {
        let attachments = endpoints.iter().flat_map(|endpoint| &endpoint.plugins);
        let settings_bytes: usize = attachments.map(|attachment| attachment.settings.len()).sum();
        let weight = endpoints.len() + settings_bytes.div_ceil(ENDPOINT_BYTES) + 1;
        Self { version, endpoints, weight: weight as u64, confirmed_at: Mutex::new(at) }
    }

    /// Their version was the newest when it was asked for, no earlier than `at`.
    pub(super) fn confirm(&self, at: Instant) {
        let mut confirmed_at = self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner);
        *confirmed_at = at.max(*confirmed_at);
    }

    fn is_fresh(&self) -> bool {
        self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < AGE
    }

    pub(super) fn find(&self, id: EndpointId) -> Option<&Arc<Endpoint>> {
        self.endpoints.binary_search_by_key(&id, |endpoint| endpoint.id).ok().map(|at| &self.endpoints[at])
    }
}

#[derive(Clone)]
enum Entry {
    Loaded(Arc<TenantEndpoints>),
    /// Changed here since it was read: only this version or a later one will do.
    Required(i64),
}

#[derive(Clone)]
struct ByEndpoints;

impl Weighter<TenantId, Entry> for ByEndpoints {
    fn weight(&self, _: &TenantId, entry: &Entry) -> u64 {
        match entry {
            Entry::Loaded(tenant) => tenant.weight,
            Entry::Required(_) => 1,
        }
    }
}

#[derive(Default)]
struct EventTypes {
    /// Grows when the types change here, so that a list read before is not kept after.
    mark: u64,
    read: Option<(Instant, Arc<HashSet<String>>)>,
}

pub(super) struct Catalog {
    /// Whether other hosts change what is cached here.
    shared: bool,
    tenants: Cache<TenantId, Entry, ByEndpoints>,
    /// The turn to read a whole tenant outside the writer; attempts without it read the one endpoint they need.
    pub(super) reading: Semaphore,
    /// Held while an entry is compared and replaced.
    replacing: Mutex<()>,
    event_types: RwLock<EventTypes>,
}

impl Catalog {
    pub(super) fn new(kind: Kind) -> Self {
        // One shard: with more, a tenant of many endpoints would be too heavy for its own.
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(1_000)
            .weight_capacity(ENDPOINTS_CACHED)
            .build()
            .expect("both capacities are given");
        let tenants =
            Cache::with_options(options, ByEndpoints, DefaultHashBuilder::default(), DefaultLifecycle::default());
        Self {
            shared: kind == Kind::Postgres,
            tenants,
            reading: Semaphore::new(READERS_AT_ONCE),
            replacing: Mutex::default(),
            event_types: RwLock::default(),
        }
    }

    /// Waits until no other host uses what it read before.
    pub(super) async fn wait_for_others(&self) {
        if self.shared {
            tokio::time::sleep(AGE).await;
        }
    }

    /// The tenant's endpoints, if nothing newer can have been acknowledged anywhere.
    pub(super) fn endpoints(&self, tenant: &TenantId) -> Option<Arc<TenantEndpoints>> {
        self.newest(tenant).filter(|endpoints| !self.shared || endpoints.is_fresh())
    }

    /// The newest endpoints known here.
    pub(super) fn newest(&self, tenant: &TenantId) -> Option<Arc<TenantEndpoints>> {
        match self.tenants.get(tenant)? {
            Entry::Loaded(endpoints) => Some(endpoints),
            Entry::Required(_) => None,
        }
    }

    /// Keeps what was read, unless something newer is known.
    pub(super) fn keep(&self, tenant: &TenantId, read: &Arc<TenantEndpoints>) {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = match self.tenants.get(tenant) {
            Some(Entry::Required(version)) => version,
            Some(Entry::Loaded(endpoints)) => endpoints.version,
            None => i64::MIN,
        };
        if read.version >= newest {
            self.tenants.insert(tenant.clone(), Entry::Loaded(read.clone()));
        }
    }

    /// A change up to `version` is being committed here: nothing older is used from now on.
    pub(super) fn require(&self, tenant: &TenantId, version: i64) {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        // Two changes may end in either order.
        let required = match self.tenants.get(tenant) {
            Some(Entry::Required(required)) => required.max(version),
            Some(Entry::Loaded(endpoints)) if endpoints.version >= version => return,
            Some(Entry::Loaded(_)) | None => version,
        };
        self.tenants.insert(tenant.clone(), Entry::Required(required));
    }

    /// Nothing is known of the tenant any more.
    pub(super) fn forget(&self, tenant: &TenantId) {
        self.tenants.remove(tenant);
    }

    /// The types in the catalogue, if read recently.
    pub(super) fn event_types(&self) -> Option<Arc<HashSet<String>>> {
        let types = self.event_types.read().unwrap_or_else(PoisonError::into_inner);
        types.read.as_ref().filter(|(at, _)| at.elapsed() < EVENT_TYPES_AGE).map(|(_, types)| types.clone())
    }

    /// To be taken before reading the types and given to [`Catalog::keep_event_types`].
    pub(super) fn event_types_mark(&self) -> u64 {
        self.event_types.read().unwrap_or_else(PoisonError::into_inner).mark
    }

    pub(super) fn keep_event_types(&self, mark: u64, names: Vec<String>) {
        let mut types = self.event_types.write().unwrap_or_else(PoisonError::into_inner);
        if types.mark == mark {
            types.read = Some((Instant::now(), Arc::new(names.into_iter().collect())));
        }
    }

    pub(super) fn forget_event_types(&self) {
        let mut types = self.event_types.write().unwrap_or_else(PoisonError::into_inner);
        types.mark += 1;
        types.read = None;
    }
}
