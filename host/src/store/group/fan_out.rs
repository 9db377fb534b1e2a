//! Events that were posted become rows: which are new, which endpoints want them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use sqlx::AnyConnection;

use super::parts::{self, Part};
use super::{Accept, AcceptError, Accepted, Group, Place, Taken};
use crate::domain::delivery::{Delivery, Leased};
use crate::domain::endpoint::{Endpoint, EndpointState};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, EndpointId, EventId, TenantId};
use crate::domain::lanes::Lanes;
use crate::store::batch::{self, GoesTo, KnownEvents, NewDelivery};
use crate::store::catalog::TenantEndpoints;
use crate::store::database::Kind;
use crate::store::{Store, StoreError};

/// Deliveries of one request at most: each costs memory, and time that others wait for.
pub const FAN_OUT_LIMIT: usize = 100_000;
/// A request that makes more deliveries is large on PostgreSQL: it has a transaction of its own, so that nobody else's takes as
/// long. On SQLite, where nobody else writes meanwhile, one that makes more than a [`Part`] is, and has several.
const LARGE: usize = 1_000;

/// Of each tenant that exists; `None` where they are unreadable, which must not keep other tenants' events out.
pub(super) type Endpoints = HashMap<TenantId, Option<Arc<TenantEndpoints>>>;

impl Group {
    /// Turns accepted events into rows: which are new, which endpoints want them.
    pub(super) async fn fan_out(&mut self, store: &Store, connection: &mut AnyConnection) -> Result<(), StoreError> {
        if self.accepts.is_empty() {
            return Ok(());
        }
        let tenants: Vec<TenantId> = self.tenants().into_iter().cloned().collect();
        let endpoints = current_endpoints(store, connection, &tenants).await?;
        let named: Vec<(TenantId, EventId)> = self
            .accepts
            .iter()
            .filter(|accept| accept.progress.is_none())
            .flat_map(|accept| &accept.events)
            .filter(|event| event.fingerprint.is_some())
            .map(|event| (event.tenant.clone(), event.id.clone()))
            .collect();
        let mut known = batch::existing_events(connection, &named).await?;
        self.take_small(store, &endpoints, &mut known);
        self.take_large(store, &endpoints, &mut known);
        Ok(())
    }

    /// As many small requests as go into one transaction. Not those that repeat an event whose deliveries are still being made:
    /// they are answered when all are there.
    pub(super) fn take_small(&mut self, store: &Store, endpoints: &Endpoints, known: &mut KnownEvents) {
        let key = |event: &Event| (event.tenant.clone(), event.id.clone());
        let begun = self.accepts.iter().filter(|accept| accept.progress.is_some());
        let unfinished: HashSet<(TenantId, EventId)> = begun.flat_map(|accept| &accept.events).map(key).collect();
        let waits = |accept: &Accept| {
            !unfinished.is_empty() && accept.events.iter().any(|event| unfinished.contains(&key(event)))
        };
        let (mut later, small): (VecDeque<Accept>, VecDeque<Accept>) =
            self.accepts.drain(..).partition(|accept| is_large(store, accept, endpoints) || waits(accept));
        self.accepts = small;
        while self.deliveries.len() < enough(store.kind)
            && let Some(accept) = self.accepts.pop_front()
        {
            let result = self.accept(store, &accept.events, endpoints, known);
            self.taken.push((accept, Taken::Answered(result)));
        }
        self.accepts.append(&mut later);
    }

    /// A large request, or a part of one, if there is nothing else to do.
    pub(super) fn take_large(&mut self, store: &Store, endpoints: &Endpoints, known: &mut KnownEvents) {
        if !self.taken.is_empty() || self.holds_others() {
            return;
        }
        let begun = self.accepts.iter().position(|accept| accept.progress.is_some());
        let Some(accept) = self.accepts.remove(begun.unwrap_or(0)) else { return };
        let taken = match store.kind {
            Kind::Sqlite => self.part(store, &accept, endpoints, known),
            Kind::Postgres => self.accept(store, &accept.events, endpoints, known).map(|all| Taken::Answered(Ok(all))),
        };
        self.taken.push((accept, taken.unwrap_or_else(|error| Taken::Answered(Err(error)))));
    }

    fn accept(
        &mut self,
        store: &Store,
        events: &[Event],
        endpoints: &Endpoints,
        known: &mut KnownEvents,
    ) -> Result<Vec<Accepted>, AcceptError> {
        Self::check(events, endpoints, known)?;
        let mut accepted = Vec::with_capacity(events.len());
        let mut lanes = store.handover.lanes();
        for (index, event) in events.iter().enumerate() {
            let key = event.fingerprint.map(|_| (event.tenant.clone(), event.id.clone()));
            if let Some((_, Some(deliveries))) = key.as_ref().and_then(|key| known.get(key)) {
                accepted.push(Accepted { id: event.id.clone(), deliveries: *deliveries });
                continue;
            }
            let endpoints = endpoints.get(&event.tenant).and_then(Option::as_ref).expect("looked at above");
            let before = self.deliveries.len();
            for endpoint in endpoints.wanting(&event.event_type) {
                let goes_to = GoesTo::of(endpoint, &event.tenant, &mut lanes);
                self.deliveries.push(NewDelivery { leased: self.leased(event, endpoint.id), goes_to });
            }
            let deliveries = self.deliveries.len() - before;
            if let Some(key) = key {
                known.insert(key, (event.fingerprint.map(|fingerprint| fingerprint.to_vec()), Some(deliveries)));
            }
            accepted.push(Accepted { id: event.id.clone(), deliveries });
            self.events.push((Place::Taken(self.taken.len(), index), Some(deliveries)));
        }
        Ok(accepted)
    }

    /// Whether all events can be taken, before the first is: all or none. Twins within the request are the request's own.
    pub(super) fn check(events: &[Event], endpoints: &Endpoints, known: &KnownEvents) -> Result<(), AcceptError> {
        let mut own: HashMap<(&TenantId, &EventId), [u8; 32]> = HashMap::new();
        let mut deliveries = 0;
        for (index, event) in events.iter().enumerate() {
            let endpoints = match endpoints.get(&event.tenant) {
                Some(Some(endpoints)) => endpoints,
                Some(None) => return Err(AcceptError::Unavailable),
                None => return Err(AcceptError::UnknownTenant(index)),
            };
            if let Some(fingerprint) = event.fingerprint {
                let stored = known.get(&(event.tenant.clone(), event.id.clone()));
                let twin = own.insert((&event.tenant, &event.id), fingerprint);
                let differs = stored.is_some_and(|(stored, _)| stored.as_deref() != Some(fingerprint.as_slice()));
                if differs || twin.is_some_and(|twin| twin != fingerprint) {
                    return Err(AcceptError::Conflict(index));
                }
                match stored {
                    // Left unfinished by a part that failed; a start finishes it.
                    Some((_, None)) => return Err(AcceptError::Unavailable),
                    // A repetition makes no deliveries, however many endpoints there are by now.
                    Some((_, Some(_))) => continue,
                    None if twin.is_some() => continue,
                    None => {}
                }
            }
            deliveries += endpoints.wanting(&event.event_type).count();
            if deliveries > FAN_OUT_LIMIT {
                return Err(AcceptError::TooManyDeliveries);
            }
        }
        Ok(())
    }

    pub(super) fn leased(&self, event: &Event, endpoint: EndpointId) -> Leased {
        leased(event, endpoint, self.now, self.lease_until)
    }
}

impl GoesTo {
    pub(super) fn of(endpoint: &Endpoint, tenant: &TenantId, lanes: &mut Lanes) -> Self {
        match endpoint.state {
            EndpointState::Active if lanes.reserve(tenant, endpoint.id) => Self::Lane,
            EndpointState::Active => Self::Table,
            EndpointState::Disabled { .. } | EndpointState::Pending { .. } => Self::Held,
        }
    }
}

/// A new delivery, under its first lease.
pub(super) fn leased(event: &Event, endpoint: EndpointId, now: Timestamp, lease_until: Timestamp) -> Leased {
    Leased {
        tenant: event.tenant.clone(),
        id: DeliveryId::new(now),
        endpoint,
        event: event.id.clone(),
        event_type: event.event_type.clone(),
        body: event.body.clone(),
        transformed: false,
        delivery: Delivery::new(now),
        claim: 1,
        lease_until,
        trace: event.trace,
    }
}

/// The endpoints of these tenants, as this transaction sees them.
pub(super) async fn current_endpoints(
    store: &Store,
    connection: &mut AnyConnection,
    tenants: &[TenantId],
) -> Result<Endpoints, StoreError> {
    let mut current = HashMap::with_capacity(tenants.len());
    let at = Instant::now();
    // On SQLite every change is made here, and none while this transaction writes: what is cached is the newest.
    let cached = |tenant: &TenantId| store.catalog.newest(tenant).filter(|_| store.kind == Kind::Sqlite);
    let mut unknown = Vec::new();
    for tenant in tenants {
        match cached(tenant) {
            Some(endpoints) => drop(current.insert(tenant.clone(), Some(endpoints))),
            None => unknown.push(tenant.clone()),
        }
    }
    for (tenant, version) in batch::endpoints_versions(connection, &unknown).await? {
        match store.endpoints_as_of(connection, &tenant, version, at).await {
            Ok(endpoints) => drop(current.insert(tenant, Some(endpoints))),
            Err(error @ StoreError::Unreadable { .. }) => {
                tracing::error!(tenant.id = %tenant, error = &error as &dyn std::error::Error, "events are refused");
                current.insert(tenant, None);
            }
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
        }
    }
    Ok(current)
}

/// New deliveries after which a transaction takes no further request.
fn enough(kind: Kind) -> usize {
    match kind {
        Kind::Sqlite => 2 * parts::DELIVERIES,
        Kind::Postgres => 10 * LARGE,
    }
}

/// Whether it needs a transaction of its own.
fn is_large(store: &Store, Accept { events, progress, .. }: &Accept, endpoints: &Endpoints) -> bool {
    // One for each delivery that they make at most.
    let wanting = || {
        events.iter().flat_map(|event| {
            let endpoints = endpoints.get(&event.tenant).and_then(Option::as_ref);
            endpoints.into_iter().flat_map(|endpoints| endpoints.wanting(&event.event_type))
        })
    };
    let makes_more_than = |deliveries| wanting().nth(deliveries).is_some();
    let is_large = || match store.kind {
        Kind::Sqlite => {
            let mut part = Part::default();
            // Few need no look at whose they are.
            makes_more_than(parts::ENDPOINTS) && !wanting().all(|endpoint| part.takes(endpoint.id))
        }
        Kind::Postgres => makes_more_than(LARGE),
    };
    progress.is_some() || is_large()
}
