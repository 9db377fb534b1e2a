//! Taking events in: checks what the catalogue knows, builds the final request body, and has it stored.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::domain::event::{Event, EventType, fingerprint, request_body};
use crate::domain::id::{EventId, TenantId};
use crate::domain::trace::TraceParent;
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

/// Why none of a request's events was taken. Indexes count from 0.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The tenant of this event does not exist.
    #[error("no such tenant")]
    UnknownTenant(usize),
    /// The type of this event is not in the catalogue, or retired, or the test event's.
    #[error("no such event type")]
    UnknownType(usize),
    /// The id or idempotency key of this event belongs to an earlier request with another body.
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
    traces: Traces,
    room: Arc<Semaphore>,
}

impl Ingest {
    /// Stores into `store` by `writer`.
    #[must_use]
    pub fn new(store: Arc<Store>, writer: Writer, clock: Clock, traces: Traces) -> Self {
        Self { store, writer, clock, traces, room: Arc::new(Semaphore::new(WAITING_KIB)) }
    }

    /// Stores all events or none; when this returns `Ok` they are on disk.
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
    ) -> Result<Vec<Accepted>, IngestError> {
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
    ) -> Result<Vec<Accepted>, IngestError> {
        for (index, event) in events.iter().enumerate() {
            if event.event_type.is_test() || !self.store.is_event_type(&event.event_type).await? {
                return Err(IngestError::UnknownType(index));
            }
        }
        let size_kib = events.iter().map(|event| event.data.len() / 1024 + 1).sum::<usize>().min(WAITING_KIB);
        let stored = async {
            let size_kib = u32::try_from(size_kib).unwrap_or(u32::MAX);
            let room = self.room.clone().acquire_many_owned(size_kib).await.map_err(|_| AcceptError::Unavailable)?;
            self.writer.accept(self.finish(events, idempotency_key, trace), room).await
        };
        match tokio::time::timeout(self.store.patience(), stored).await {
            Ok(Ok(accepted)) => Ok(accepted),
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

/// For operators: what came of a post, and how long it took.
fn observe(result: &Result<Vec<Accepted>, IngestError>, began: Instant, mut span: Span) {
    let took = began.elapsed();
    match result {
        Ok(accepted) => {
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
