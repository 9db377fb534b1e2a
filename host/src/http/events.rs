//! Posting events.

use std::borrow::Cow;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Producer;
use super::body::{self, Object};
use super::limits::{self, Fields};
use super::problem::{FieldError, Problem, ProblemBody};
use crate::domain::event::{BATCH_LIMIT, DATA_LIMIT};
use crate::domain::trace::TraceParent;
use crate::ingest::NewEvent;
use crate::store::Accepted;

/// Bytes of a request with one event: the data and room for the rest, white space included.
const EVENT_BODY_LIMIT: usize = DATA_LIMIT + 16 * 1024;
/// Bytes of a request with a batch of events.
const BATCH_BODY_LIMIT: usize = 16 * 1024 * 1024;
/// Characters of an idempotency key, without its quotes.
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
        ("Idempotency-Key" = Option<String>, Header, example = "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"",
            description = "A string of 1 to 255 characters in double quotes, as in draft-ietf-httpapi-idempotency-key-header, or the bare text. The same key and request give the same answer, also while the first is under way. Kept as long as the event, 24 h at least; used only for events without an id."),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context. Each request to a receiver has one of the same trace; what is no `traceparent` is ignored.")
    ),
    responses(
        (status = 202, body = AcceptedEvent), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
        (status = 403, body = ProblemBody), (status = 409, body = ProblemBody, description = "The id was used before with another event"),
        (status = 413, body = ProblemBody), (status = 415, body = ProblemBody),
        (status = 422, body = ProblemBody, description = "It breaks a rule, or the key was used before with another request"),
        (status = 503, body = ProblemBody)
    )
)]
pub(super) async fn post_event(
    State(state): State<AppState>,
    _: Producer,
    request: Request,
) -> Result<(StatusCode, Option<Fields>, axum::Json<AcceptedEvent>), Problem> {
    let (key, trace) = (idempotency_key(request.headers())?, trace_parent(request.headers()));
    let bytes = body::read(request, EVENT_BODY_LIMIT).await?;
    let event = event_in(&bytes)?;
    let named = event.id.is_some();
    let taken = state.ingest.accept(vec![event], key.as_deref(), trace).await;
    let (field, keyed) = (|_: usize, name: &str| name.to_owned(), |_: usize| key.is_some() && !named);
    let mut taken = taken.map_err(|error| Problem::of_events(error, field, keyed))?;
    let accepted = taken.accepted.pop().expect("one event in, one out");
    Ok((StatusCode::ACCEPTED, taken.standing.as_ref().map(limits::fields), axum::Json(answer(accepted))))
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
        (status = 403, body = ProblemBody), (status = 409, body = ProblemBody, description = "An id was used before with another event"),
        (status = 413, body = ProblemBody), (status = 415, body = ProblemBody),
        (status = 422, body = ProblemBody, description = "It breaks a rule, or the key was used before with another request"),
        (status = 503, body = ProblemBody)
    )
)]
pub(super) async fn post_batch(
    State(state): State<AppState>,
    _: Producer,
    request: Request,
) -> Result<(StatusCode, Option<Fields>, axum::Json<AcceptedBatch>), Problem> {
    let (key, trace) = (idempotency_key(request.headers())?, trace_parent(request.headers()));
    let bytes = body::read(request, BATCH_BODY_LIMIT).await?;
    let events = events_in(&bytes)?;
    let named: Vec<bool> = events.iter().map(|event| event.id.is_some()).collect();
    let taken = state.ingest.accept(events, key.as_deref(), trace).await;
    let keyed = |at: usize| key.is_some() && !named[at];
    let taken = taken.map_err(|error| Problem::of_events(error, field_of, keyed))?;
    let events = taken.accepted.into_iter().map(answer).collect();
    let fields = taken.standing.as_ref().map(limits::fields);
    Ok((StatusCode::ACCEPTED, fields, axum::Json(AcceptedBatch { events })))
}

/// The event that a request posts, as far as it can be told without the catalogue.
pub(super) fn event_in(body: &[u8]) -> Result<NewEvent<'_>, Problem> {
    new_event(&body::parse(body)?, str::to_owned)
}

/// The events that a request posts together.
pub(super) fn events_in(body: &[u8]) -> Result<Vec<NewEvent<'_>>, Problem> {
    let PostBatch { events } = body::parse(body)?;
    if !(1..=BATCH_LIMIT).contains(&events.len()) {
        let rule = format_args!("must hold 1 to {BATCH_LIMIT} events");
        return Err(Problem::Unprocessable(FieldError::new("events", rule)));
    }
    let events = events.iter().enumerate();
    events.map(|(at, Object(event))| new_event(event, |name| field_of(at, name))).collect()
}

fn field_of(at: usize, name: &str) -> String {
    format!("events[{at}].{name}")
}

fn new_event<'r>(posted: &PostEvent<'r>, field: impl Fn(&str) -> String) -> Result<NewEvent<'r>, Problem> {
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

/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>. Where the draft answers 409, to a request whose
/// twin is under way, both wait for the same commit and get the same answer.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = if values.next().is_some() { None } else { key_in(value) };
    let rule =
        format_args!("must be one string of 1 to {KEY_LIMIT} visible ASCII characters, in double quotes or bare");
    key.map(Some).ok_or_else(|| Problem::InvalidRequest(FieldError::new("Idempotency-Key", rule)))
}

/// The draft's form is a structured field (RFC 9651), a string in double quotes; bare text, which many send, is the same key.
fn key_in(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let key = if text.starts_with('"') {
        let item: sfv::Item = sfv::Parser::new(text).parse().ok()?;
        item.bare_item.as_string()?.as_str().to_owned()
    } else {
        text.to_owned()
    };
    (1..=KEY_LIMIT).contains(&key.len()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_structured_string_or_bare_text() {
        let longest = "k".repeat(KEY_LIMIT);
        let (quoted, too_long) = (format!("\"{longest}\""), format!("\"{longest}k\""));
        let cases = [
            (r#""8e03978e""#, Some("8e03978e")),
            ("8e03978e", Some("8e03978e")),
            ("key 1", Some("key 1")),
            (r#""key 1""#, Some("key 1")),
            (r#""a \"b\" \\""#, Some(r#"a "b" \"#)),
            (r#""key";of=parameters;that="are ignored""#, Some("key")),
            (r#"a"b"#, Some(r#"a"b"#)),
            (quoted.as_str(), Some(longest.as_str())),
            (too_long.as_str(), None),
            (r#""""#, None),
            ("", None),
            (r#"""#, None),
            (r#""key"#, None),
            (r#""key" more"#, None),
            (r#""a", "b""#, None),
            (r#""a\b""#, None),
            ("k\u{e4}y", None),
        ];
        for (value, key) in cases {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            assert_eq!(key_in(&value).as_deref(), key, "{value:?}");
        }
    }
}
