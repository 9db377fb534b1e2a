//! Posting events.

use std::borrow::Cow;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Producer;
use super::body::{self, Object};
use super::problem::{FieldError, Problem, ProblemBody};
use crate::domain::event::{BATCH_LIMIT, DATA_LIMIT};
use crate::domain::trace::TraceParent;
use crate::ingest::NewEvent;
use crate::store::Accepted;

/// Bytes of a request with one event: the data and room for the rest, white space included.
const EVENT_BODY_LIMIT: usize = DATA_LIMIT + 16 * 1024;
/// Bytes of a request with a batch of events.
const BATCH_BODY_LIMIT: usize = 16 * 1024 * 1024;
/// Characters of an idempotency key.
const KEY_LIMIT: usize = 255;

/// An event to be delivered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostEvent<'r> {
    /// Whose event.
    #[serde(borrow)]
    #[schema(value_type = String, example = "acme")]
    tenant: Cow<'r, str>,
    /// A type of the catalogue.
    #[serde(borrow, rename = "type")]
    #[schema(value_type = String, example = "incident.created")]
    event_type: Cow<'r, str>,
    /// Any JSON of at most 256 KiB; sent byte for byte as it stands here.
    #[serde(borrow)]
    #[schema(value_type = Object)]
    data: &'r RawValue,
    /// The event's id, `[A-Za-z0-9_-]{1,128}`, unique within the tenant; made when left out. The same id and content give
    /// the same answer again, other content is refused with 409.
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    id: Option<Cow<'r, str>>,
    /// When it happened, RFC 3339; now when left out.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, format = DateTime)]
    timestamp: Option<Cow<'r, str>>,
}

/// Events to be delivered, all or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostBatch<'r> {
    /// 1 to 1,000 events.
    #[serde(borrow)]
    #[schema(value_type = Vec<PostEvent>, min_items = 1, max_items = 1000)]
    events: Vec<Object<PostEvent<'r>>>,
}

/// An event as accepted: it is on disk.
#[derive(Serialize, ToSchema)]
pub(super) struct AcceptedEvent {
    /// The event's id; receivers get it as `webhook-id`.
    #[schema(value_type = String)]
    id: crate::domain::id::EventId,
    /// How many endpoints get it.
    deliveries: usize,
}

/// Events as accepted.
#[derive(Serialize, ToSchema)]
pub(super) struct AcceptedBatch {
    /// In the order posted.
    events: Vec<AcceptedEvent>,
}

/// Posts an event.
#[utoipa::path(
    post, path = "/v1/events", tag = "events", request_body = PostEvent,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible characters; the same key and body give the same answer. Kept as long as the event, 24 h at least; used only for events without an id."),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context. Each request to a receiver has one of the same trace; what is no `traceparent` is ignored.")
    ),
    responses(
        (status = 202, body = AcceptedEvent), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
        (status = 403, body = ProblemBody), (status = 409, body = ProblemBody), (status = 413, body = ProblemBody),
        (status = 415, body = ProblemBody), (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)
    )
)]
pub(super) async fn post_event(
    State(state): State<AppState>,
    _: Producer,
    request: Request,
) -> Result<(StatusCode, axum::Json<AcceptedEvent>), Problem> {
    let (key, trace) = (idempotency_key(request.headers())?, trace_parent(request.headers()));
    let bytes = body::read(request, EVENT_BODY_LIMIT).await?;
    let field = |_: usize, name: &str| name.to_owned();
    let posted: PostEvent<'_> = body::parse(&bytes)?;
    let keyed = key.is_some() && posted.id.is_none();
    let event = new_event(&posted, |name| field(0, name))?;
    let accepted = state.ingest.accept(vec![event], key.as_deref(), trace).await;
    let mut accepted = accepted.map_err(|error| Problem::of_events(error, field, keyed))?;
    let accepted = accepted.pop().expect("one event in, one out");
    Ok((StatusCode::ACCEPTED, axum::Json(answer(accepted))))
}

/// Posts up to 1,000 events, all or none.
#[utoipa::path(
    post, path = "/v1/events/batch", tag = "events", request_body = PostBatch,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "As for one event, for the batch as a whole."),
        ("traceparent" = Option<String>, Header, description = "As for one event.")
    ),
    responses(
        (status = 202, body = AcceptedBatch), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
        (status = 403, body = ProblemBody), (status = 409, body = ProblemBody), (status = 413, body = ProblemBody),
        (status = 415, body = ProblemBody), (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)
    )
)]
pub(super) async fn post_batch(
    State(state): State<AppState>,
    _: Producer,
    request: Request,
) -> Result<(StatusCode, axum::Json<AcceptedBatch>), Problem> {
    let (key, trace) = (idempotency_key(request.headers())?, trace_parent(request.headers()));
    let bytes = body::read(request, BATCH_BODY_LIMIT).await?;
    let field = |at: usize, name: &str| format!("events[{at}].{name}");
    let posted: PostBatch<'_> = body::parse(&bytes)?;
    if !(1..=BATCH_LIMIT).contains(&posted.events.len()) {
        let rule = format_args!("must hold 1 to {BATCH_LIMIT} events");
        return Err(Problem::Unprocessable(FieldError::new("events", rule)));
    }
    let keyed = key.is_some() && posted.events.iter().all(|Object(event)| event.id.is_none());
    let events = posted.events.iter().enumerate();
    let events: Vec<NewEvent<'_>> =
        events.map(|(at, Object(event))| new_event(event, |name| field(at, name))).collect::<Result<_, _>>()?;
    let accepted = state.ingest.accept(events, key.as_deref(), trace).await;
    let accepted = accepted.map_err(|error| Problem::of_events(error, field, keyed))?;
    let events = accepted.into_iter().map(answer).collect();
    Ok((StatusCode::ACCEPTED, axum::Json(AcceptedBatch { events })))
}

fn new_event<'r>(posted: &'r PostEvent<'r>, field: impl Fn(&str) -> String) -> Result<NewEvent<'r>, Problem> {
    let refuse = |name: &str, rule: String| Problem::Unprocessable(FieldError::new(field(name), rule));
    let data = posted.data.get();
    if data.len() > DATA_LIMIT {
        return Err(refuse("data", format!("must be at most {DATA_LIMIT} bytes of JSON")));
    }
    Ok(NewEvent {
        tenant: posted
            .tenant
            .parse()
            .map_err(|rule: crate::domain::id::InvalidId| refuse("tenant", rule.to_string()))?,
        id: match &posted.id {
            Some(id) => Some(id.parse().map_err(|rule: crate::domain::id::InvalidId| refuse("id", rule.to_string()))?),
            None => None,
        },
        event_type: posted
            .event_type
            .parse()
            .map_err(|rule: crate::domain::event::InvalidEventType| refuse("type", rule.to_string()))?,
        timestamp: match &posted.timestamp {
            Some(text) => Some(timestamp(text).ok_or_else(|| refuse("timestamp", TIMESTAMP_RULE.to_owned()))?),
            None => None,
        },
        data,
    })
}

const TIMESTAMP_RULE: &str = "must be an RFC 3339 time from 1970 to 9999, such as 2026-11-23T12:00:00.000Z";

fn timestamp(text: &str) -> Option<Timestamp> {
    let at: Timestamp = text.parse().ok()?;
    (0..253_402_300_800).contains(&at.as_second()).then_some(at)
}

fn answer(accepted: Accepted) -> AcceptedEvent {
    AcceptedEvent { id: accepted.id, deliveries: accepted.deliveries }
}

/// What cannot be read, or is there twice, counts as if it was not there, as the standard has it.
fn trace_parent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all("traceparent").iter();
    let (first, second) = (values.next()?, values.next());
    if second.is_some() { None } else { first.to_str().ok()?.parse().ok() }
}

/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_LIMIT).contains(&key.len()));
    let rule = format_args!("must be 1 to {KEY_LIMIT} visible ASCII characters");
    key.map(|key| Some(key.to_owned())).ok_or_else(|| Problem::InvalidRequest(FieldError::new("Idempotency-Key", rule)))
}
