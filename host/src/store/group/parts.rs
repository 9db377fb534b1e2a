//! On SQLite all that writes has its turn one after another, so a request with many deliveries is written in parts: its events with
//! some of the deliveries, the other deliveries, and in the end how many they were. Others have their turn in between. It is
//! answered after the last part; should the host be killed before, its next start makes what is missing.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use bytes::Bytes;
use sqlx::AnyConnection;

use super::fan_out::{Endpoints, current_endpoints, leased};
use super::{Accept, AcceptError, Accepted, Group, Place, Taken};
use crate::domain::event::Event;
use crate::domain::id::{EndpointId, EventId, TenantId};
use crate::store::batch::{GoesTo, KnownEvents, NewDelivery};
use crate::store::database::Kind;
use crate::store::rows::{Rows, count};
use crate::store::sized::Column::{Integer, Text};
use crate::store::sized::Sized;
use crate::store::{Store, StoreError, parsed};

/// Endpoints of one part at most. Each has pages of its own in two indexes, so that more of them fill the log that is folded when it
/// has [`FOLD_OFTEN`](crate::store::database::FOLD_OFTEN) pages within the part; with fewer the commits are what costs.
pub(in crate::store) const ENDPOINTS: usize = 50;
/// Deliveries of one part at most. Those of one endpoint share pages.
pub(super) const DELIVERIES: usize = 200;

/// What is in one part.
#[derive(Default)]
pub(super) struct Part {
    endpoints: HashSet<EndpointId>,
    deliveries: usize,
}

impl Part {
    /// Takes a delivery in, if it has room for it.
    pub(super) fn takes(&mut self, endpoint: EndpointId) -> bool {
        let has_place = self.endpoints.len() < ENDPOINTS || self.endpoints.contains(&endpoint);
        let takes = has_place && self.deliveries < DELIVERIES;
        if takes {
            self.endpoints.insert(endpoint);
            self.deliveries += 1;
        }
        takes
    }
}

/// How far the parts of a request came.
#[derive(Clone)]
pub(in crate::store) struct Progress {
    events: Vec<Deliveries>,
    /// Of `events`, the one that is next.
    next: usize,
    /// The last of its endpoints that has a delivery.
    after: Option<EndpointId>,
}

/// Of one event.
#[derive(Clone, Copy)]
enum Deliveries {
    /// So many so far.
    Made(usize),
    /// The event was there already.
    MadeBefore(usize),
    /// It stands in the request twice; they are those of the other.
    OfTwin(usize),
}

impl Progress {
    fn new(events: &[Event], known: &KnownEvents) -> Self {
        let mut own = HashMap::new();
        let of = |(index, event): (usize, &Event)| {
            if event.fingerprint.is_none() {
                return Deliveries::Made(0);
            }
            let key = (event.tenant.clone(), event.id.clone());
            if let Some((_, Some(deliveries))) = known.get(&key) {
                return Deliveries::MadeBefore(*deliveries);
            }
            match own.insert(key, index) {
                Some(twin) => Deliveries::OfTwin(twin),
                None => Deliveries::Made(0),
            }
        };
        Self { events: events.iter().enumerate().map(of).collect(), next: 0, after: None }
    }

    fn deliveries(&self, event: usize) -> usize {
        match self.events[event] {
            Deliveries::Made(deliveries) | Deliveries::MadeBefore(deliveries) => deliveries,
            Deliveries::OfTwin(twin) => self.deliveries(twin),
        }
    }
}

impl Group {
    /// The next part of a request, in a group that has no deliveries yet.
    pub(super) fn part(
        &mut self,
        store: &Store,
        Accept { events, progress, .. }: &Accept,
        endpoints: &Endpoints,
        known: &KnownEvents,
    ) -> Result<Taken, AcceptError> {
        let mut progress = match progress {
            Some(progress) => progress.clone(),
            None => {
                Self::check(events, endpoints, known)?;
                let progress = Progress::new(events, known);
                let new = (0..events.len()).filter(|event| matches!(progress.events[*event], Deliveries::Made(_)));
                self.events.extend(new.map(|event| (Place::Taken(self.taken.len(), event), None)));
                progress
            }
        };
        let (mut part, mut lanes) = (Part::default(), store.handover.lanes());
        while let Some(event) = events.get(progress.next) {
            let wanting = match endpoints.get(&event.tenant) {
                Some(Some(endpoints)) => Some(endpoints.wanting(&event.event_type)),
                // What was written of it stays as it is, until a start can finish it.
                Some(None) => return Err(AcceptError::Unavailable),
                // Deleted meanwhile.
                None => None,
            };
            if let Deliveries::Made(made) = &mut progress.events[progress.next] {
                let after = progress.after;
                for endpoint in wanting.into_iter().flatten().filter(|endpoint| Some(endpoint.id) > after) {
                    if !part.takes(endpoint.id) {
                        return Ok(Taken::Part(progress));
                    }
                    let goes_to = GoesTo::of(endpoint, &event.tenant, &mut lanes);
                    self.deliveries.push(NewDelivery { leased: self.leased(event, endpoint.id), goes_to });
                    *made += 1;
                    progress.after = Some(endpoint.id);
                }
            }
            progress.next += 1;
            progress.after = None;
        }
        let counted = |(index, event): (usize, &Event)| match progress.events[index] {
            Deliveries::Made(made) => Some((event.tenant.clone(), event.id.clone(), made)),
            Deliveries::MadeBefore(_) | Deliveries::OfTwin(_) => None,
        };
        self.completed.extend(events.iter().enumerate().filter_map(counted));
        let accepted =
            |(index, event): (usize, &Event)| Accepted { id: event.id.clone(), deliveries: progress.deliveries(index) };
        Ok(Taken::Answered(Ok(events.iter().enumerate().map(accepted).collect())))
    }
}

/// Notes that these events have all their deliveries.
pub(super) async fn complete(
    connection: &mut AnyConnection,
    completed: &[(TenantId, EventId, usize)],
) -> Result<(), StoreError> {
    static UPDATE: LazyLock<Sized> = LazyLock::new(|| {
        let head = "UPDATE events SET deliveries = v.column3 FROM (VALUES";
        let tail = ") AS v WHERE events.tenant_id = v.column1 AND events.id = v.column2";
        Sized::padded(head, &[Text, Text, Integer], tail)
    });
    for (mut query, completed) in UPDATE.over(Kind::of(connection), completed) {
        for (tenant, event, deliveries) in completed {
            query = query.bind(tenant.to_string()).bind(event.to_string()).bind(count(Some(*deliveries)));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

impl Store {
    /// Makes what is missing of events that were written in parts by a host that was killed. Only while nobody serves this
    /// database.
    pub(in crate::store) async fn complete_events(&self) -> Result<(), StoreError> {
        let unfinished: Vec<(String, String, String)> =
            sqlx::query_as("SELECT tenant_id, id, event_type FROM events WHERE deliveries < 0")
                .fetch_all(&self.read)
                .await?;
        for (tenant, id, event_type) in unfinished {
            let event = Event {
                tenant: parsed("events", "tenant_id", &id, &tenant)?,
                event_type: parsed("events", "event_type", &id, &event_type)?,
                id: parsed("events", "id", &id, &id)?,
                body: Bytes::new(),
                fingerprint: None,
                trace: None,
            };
            self.complete_event(&event).await?;
        }
        Ok(())
    }

    async fn complete_event(&self, event: &Event) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let endpoints = current_endpoints(self, &mut tx, std::slice::from_ref(&event.tenant)).await?;
        let endpoints = match endpoints.get(&event.tenant) {
            Some(Some(endpoints)) => Some(endpoints),
            // It has said so.
            Some(None) => return Ok(()),
            None => None,
        };
        let made: Vec<String> =
            sqlx::query_scalar("SELECT endpoint_id FROM deliveries WHERE tenant_id = $1 AND event_id = $2")
                .bind(event.tenant.as_str())
                .bind(event.id.as_str())
                .fetch_all(&mut *tx)
                .await?;
        let made: HashSet<EndpointId> =
            made.iter().map(|id| parsed("deliveries", "endpoint_id", id, id)).collect::<Result<_, _>>()?;
        let now = self.now();
        let missing = endpoints.into_iter().flat_map(|endpoints| endpoints.wanting(&event.event_type));
        let missing = missing.filter(|endpoint| !made.contains(&endpoint.id));
        let new = missing
            .map(|endpoint| NewDelivery { leased: leased(event, endpoint.id, now, now), goes_to: GoesTo::Table });
        let new: Vec<NewDelivery> = new.collect();
        Rows { events: &[], deliveries: &new, finished: &[] }.write(&mut tx, now).await?;
        complete(&mut tx, &[(event.tenant.clone(), event.id.clone(), made.len() + new.len())]).await?;
        tx.commit().await?;
        tracing::info!(event.id = %event.id, deliveries = new.len(), "an event has all its deliveries now");
        Ok(())
    }
}
