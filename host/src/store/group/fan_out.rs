//! Events that were posted become rows: which are new, which endpoints want them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use sqlx::AnyConnection;

use super::{Accept, AcceptError, Accepted, Group, Place};
use crate::domain::endpoint::EndpointState;
use crate::domain::event::Event;
use crate::domain::id::{EventId, TenantId};
use crate::store::batch::{self, GoesTo, KnownEvents, NewDelivery};
use crate::store::catalog::TenantEndpoints;
use crate::store::database::Kind;
use crate::store::{Store, StoreError};

/// Deliveries of one request at most; each row costs memory and time in a transaction that all others wait for.
pub const FAN_OUT_LIMIT: usize = 100_000;
/// New deliveries after which a transaction takes no further request.
const DELIVERIES: usize = 10_000;
/// A request that makes more deliveries has a transaction of its own: nobody else's is to take as long.
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
            .flat_map(|accept| &accept.events)
            .filter(|event| event.fingerprint.is_some())
            .map(|event| (event.tenant.clone(), event.id.clone()))
            .collect();
        let mut known = batch::existing_events(connection, &named).await?;
        self.take(store, &endpoints, &mut known);
        Ok(())
    }

    /// As many requests as go into one transaction; a large one only if there is nothing else.
    pub(super) fn take(&mut self, store: &Store, endpoints: &Endpoints, known: &mut KnownEvents) {
        let (mut large, small): (VecDeque<Accept>, VecDeque<Accept>) =
            self.accepts.drain(..).partition(|accept| deliveries_of(&accept.events, endpoints) > LARGE);
        let alone = small.is_empty() && !self.holds_others();
        self.accepts = if alone { large.pop_front().into_iter().collect() } else { small };
        while self.deliveries.len() < DELIVERIES
            && let Some(accept) = self.accepts.pop_front()
        {
            let result = self.accept(store, &accept.events, endpoints, known);
            self.taken.push((accept, result));
        }
        self.accepts.append(&mut large);
    }

    fn accept(
        &mut self,
        store: &Store,
        events: &[Event],
        endpoints: &Endpoints,
        known: &mut KnownEvents,
    ) -> Result<Vec<Accepted>, AcceptError> {
        // All or none: look at every event before the first is taken. Twins within the request are the request's own.
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
                // A repetition makes no deliveries, however many endpoints there are by now.
                if stored.is_some() || twin.is_some() {
                    continue;
                }
            }
            deliveries += endpoints.wanting(&event.event_type).count();
            if deliveries > FAN_OUT_LIMIT {
                return Err(AcceptError::TooManyDeliveries);
            }
        }
        let mut accepted = Vec::with_capacity(events.len());
        let mut lanes = store.handover.lanes();
        for (index, event) in events.iter().enumerate() {
            let key = event.fingerprint.map(|_| (event.tenant.clone(), event.id.clone()));
            if let Some((_, deliveries)) = key.as_ref().and_then(|key| known.get(key)) {
                accepted.push(Accepted { id: event.id.clone(), deliveries: *deliveries });
                continue;
            }
            let endpoints = endpoints.get(&event.tenant).and_then(Option::as_ref).expect("looked at above");
            let before = self.deliveries.len();
            for endpoint in endpoints.wanting(&event.event_type) {
                let leased = self.leased(event, endpoint.id);
                let goes_to = match endpoint.state {
                    EndpointState::Active if lanes.reserve(&event.tenant, endpoint.id) => GoesTo::Lane,
                    EndpointState::Active => GoesTo::Table,
                    EndpointState::Disabled { .. } | EndpointState::Pending { .. } => GoesTo::Held,
                };
                self.deliveries.push(NewDelivery { leased, goes_to });
            }
            let deliveries = self.deliveries.len() - before;
            if let Some(key) = key {
                known.insert(key, (event.fingerprint.map(|fingerprint| fingerprint.to_vec()), deliveries));
            }
            accepted.push(Accepted { id: event.id.clone(), deliveries });
            self.events.push((Place::Taken(self.taken.len(), index), deliveries));
        }
        Ok(accepted)
    }
}

/// The endpoints of these tenants, as this transaction sees them.
async fn current_endpoints(
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

/// How many deliveries these events make at most.
fn deliveries_of(events: &[Event], endpoints: &Endpoints) -> usize {
    let of = |event: &Event| Some(endpoints.get(&event.tenant)?.as_ref()?.wanting(&event.event_type).count());
    events.iter().filter_map(of).sum()
}
