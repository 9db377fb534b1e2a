//! Taking events in: checks what the catalogue knows, builds the final request body, and has it stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::domain::event::{Event, EventType, fingerprint, request_body};
use crate::domain::id::{EventId, TenantId};
use crate::domain::trace::TraceParent;
use crate::limits::{OverLimit, Quotas, Standing};
use crate::store::{AcceptError, Accepted, FAN_OUT_LIMIT, Store, StoreError, Writer};
use crate::telemetry::METRICS;
use crate::traces::{Span, Traces};

/// Payload waiting to be stored at most, in KiB; whoever brings more is told to come back.
const WAITING_KIB: usize = 64 * 1024;

/// An event as posted; `data` is JSON text, borrowed from the request.
pub struct NewEvent<'r> {
    /// Whose event.
    pub tenant: TenantId,
    /// The producer's own id; `None`: we make one.
    pub id: Option<EventId>,
    /// What happened.
    pub event_type: EventType,
    /// When; `None`: now.
    pub timestamp: Option<Timestamp>,
    /// Sent byte for byte.
    pub data: &'r str,
}

/// Events that were taken: they are on disk.
pub struct Taken {
    /// In the order posted.
    pub accepted: Vec<Accepted>,
    /// Where the tenant stands that has least left of its quota. `None`: there are no quotas.
    pub standing: Option<Standing>,
}

/// Why none of a request's events was taken. Indexes count from 0.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The tenant of this event does not exist.
    #[error("no such tenant")]
    UnknownTenant(usize),
    /// The type of this event is not in the catalogue, or retired, or the test event's.
    #[error("no such event type")]
    UnknownType(usize),
    /// With this event and its others, its tenant would have more than its quota.
    #[error("{1}")]
    OverLimit(usize, OverLimit),
    /// The id of this event, or the one that it gets from the idempotency key, belongs to an earlier request with another body.
    #[error("the id was used with another body")]
    Conflict(usize),
    /// Together they would make too many deliveries.
    #[error("would make more than {FAN_OUT_LIMIT} deliveries; post fewer events at once")]
    TooManyDeliveries,
    /// It is not known to be stored; asking again with the same id or key is safe.
    #[error("the events could not be stored")]
    Unavailable,
    /// The catalogue could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes events in.
pub struct Ingest {
    store: Arc<Store>,
    writer: Writer,
    clock: Clock,
    quotas: Option<Quotas>,
    traces: Traces,
    room: Arc<Semaphore>,
}

impl Ingest {
    /// Stores into `store` by `writer` what is within each tenant's quota, if there are quotas.
    #[must_use]
    pub fn new(store: Arc<Store>, writer: Writer, clock: Clock, quotas: Option<Quotas>, traces: Traces) -> Self {
        Self { store, writer, clock, quotas, traces, room: Arc::new(Semaphore::new(WAITING_KIB)) }
    }

    /// Stores all events or none; when this returns `Ok` they are on disk. What gets as far as the database counts, whatever
    /// becomes of it there.
    ///
    /// With an idempotency key, an event without an id of its own gets one that follows from the key, its tenant and its
    /// place in the request: the same request finds its own events again, as long as the history keeps them.
    ///
    /// What is made of new events goes on with the trace of the request.
    pub async fn accept(
        &self,
        events: Vec<NewEvent<'_>>,
        idempotency_key: Option<&str>,
        trace: Option<TraceParent>,
    ) -> Result<Taken, IngestError> {
        let began = Instant::now();
        let mut span = self.traces.post(trace, self.clock.now());
        if let [event] = &events[..] {
            span.note("revnoxa.tenant", &event.tenant);
            span.note("revnoxa.event_type", &event.event_type);
        }
        let result = self.keep(events, idempotency_key, span.context()).await;
        observe(&result, began, span);
        result
    }

    async fn keep(
        &self,
        events: Vec<NewEvent<'_>>,
        idempotency_key: Option<&str>,
        trace: Option<TraceParent>,
    ) -> Result<Taken, IngestError> {
        for (index, event) in events.iter().enumerate() {
            if event.event_type.is_test() || !self.store.is_event_type(&event.event_type).await? {
                return Err(IngestError::UnknownType(index));
            }
        }
        let standing = match &self.quotas {
            Some(quotas) => count(quotas, &events)?,
            None => None,
        };
        let size_kib = events.iter().map(|event| event.data.len() / 1024 + 1).sum::<usize>().min(WAITING_KIB);
        let stored = async {
            let size_kib = u32::try_from(size_kib).unwrap_or(u32::MAX);
            let room = self.room.clone().acquire_many_owned(size_kib).await.map_err(|_| AcceptError::Unavailable)?;
            let events = self.finish(events, idempotency_key, trace);
            for of_tenant in events.chunk_by(|a, b| a.tenant == b.tenant) {
                self.store.read_ahead(&of_tenant[0].tenant).await.map_err(|_| AcceptError::Unavailable)?;
            }
            self.writer.accept(events, room).await
        };
        match tokio::time::timeout(self.store.patience(), stored).await {
            Ok(Ok(accepted)) => Ok(Taken { accepted, standing }),
            Ok(Err(AcceptError::UnknownTenant(index))) => Err(IngestError::UnknownTenant(index)),
            Ok(Err(AcceptError::Conflict(index))) => Err(IngestError::Conflict(index)),
            Ok(Err(AcceptError::TooManyDeliveries)) => Err(IngestError::TooManyDeliveries),
            Ok(Err(AcceptError::Unavailable)) | Err(_) => Err(IngestError::Unavailable),
        }
    }

    fn finish(
        &self,
        events: Vec<NewEvent<'_>>,
        idempotency_key: Option<&str>,
        trace: Option<TraceParent>,
    ) -> Vec<Event> {
        let now = self.clock.now();
        let keyed = idempotency_key.map(|key| (key, request_fingerprint(&events)));
        let finish = |(index, event): (usize, NewEvent<'_>)| {
            let place = (index as u64).to_be_bytes();
            let (id, fingerprint) = match (event.id.clone(), &keyed) {
                (Some(id), _) => (id, Some(event_fingerprint(&event))),
                (None, Some((key, request))) => {
                    let tenant = event.tenant.as_str().as_bytes();
                    let digest = fingerprint(&[b"idempotency-key", tenant, key.as_bytes(), &place]);
                    let half = *digest.first_chunk().expect("16 of 32 bytes");
                    (EventId::from_digest(half), Some(fingerprint(&[request, &place])))
                }
                (None, None) => (EventId::new(now), None),
            };
            let body = request_body(&id, &event.event_type, event.timestamp.unwrap_or(now), event.data);
            Event { tenant: event.tenant, id, event_type: event.event_type, body, fingerprint, trace }
        };
        events.into_iter().enumerate().map(finish).collect()
    }
}

/// Takes each event off its tenant's quota, or none of them.
fn count(quotas: &Quotas, events: &[NewEvent<'_>]) -> Result<Option<Standing>, IngestError> {
    if let [event] = events {
        let taken = quotas.take(&event.tenant, 1);
        return taken.map(Some).map_err(|over| IngestError::OverLimit(0, over));
    }
    // Of each tenant the first event and how many there are.
    let mut tenants = BTreeMap::<&TenantId, (usize, u32)>::new();
    for (index, event) in events.iter().enumerate() {
        tenants.entry(&event.tenant).or_insert((index, 0)).1 += 1;
    }
    let wanted: Vec<(&TenantId, u32)> = tenants.iter().map(|(tenant, (_, units))| (*tenant, *units)).collect();
    quotas.take_all(&wanted).map_err(|over| {
        let first = tenants.get(over.tenant()).map_or(0, |(first, _)| *first);
        IngestError::OverLimit(first, over)
    })
}

/// For operators: what came of a post, and how long it took.
fn observe(result: &Result<Taken, IngestError>, began: Instant, mut span: Span) {
    let took = began.elapsed();
    match result {
        Ok(Taken { accepted, .. }) => {
            METRICS.posts_accepted.increment(1);
            METRICS.events.increment(accepted.len() as u64);
            METRICS.acknowledgement_duration.record(took.as_secs_f64());
            span.count("revnoxa.events", accepted.len() as i64);
            if let [event] = &accepted[..] {
                span.note("revnoxa.event", &event.id);
            }
        }
        Err(error @ (IngestError::Unavailable | IngestError::Store(_))) => {
            METRICS.posts_unavailable.increment(1);
            span.fail("unavailable", error);
        }
        Err(error) => {
            METRICS.posts_refused.increment(1);
            span.fail("refused", error);
        }
    }
    span.end(took);
}

/// Tells one event's request from another's: a timestamp we filled in does not count.
fn event_fingerprint(event: &NewEvent<'_>) -> [u8; 32] {
    let timestamp = event.timestamp.map(|at| at.as_millisecond().to_be_bytes());
    let timestamp = timestamp.as_ref().map_or(&[][..], |bytes| bytes);
    let id = event.id.as_ref().map_or("", EventId::as_str);
    let parts: [&[u8]; 5] = [
        event.tenant.as_str().as_bytes(),
        id.as_bytes(),
        event.event_type.as_str().as_bytes(),
        timestamp,
        event.data.as_bytes(),
    ];
    fingerprint(&parts)
}

fn request_fingerprint(events: &[NewEvent<'_>]) -> [u8; 32] {
    let events: Vec<[u8; 32]> = events.iter().map(event_fingerprint).collect();
    let parts: Vec<&[u8]> = events.iter().map(|event| event.as_slice()).collect();
    fingerprint(&parts)
}
