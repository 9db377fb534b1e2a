use std::collections::BTreeMap;

use jiff::Timestamp;
use revnoxa_host::domain::event::{BATCH_LIMIT, DATA_LIMIT, request_body, timestamp_in};
use revnoxa_host::http::{posted_event, posted_events};
use revnoxa_host::ingest::NewEvent;
use serde_json::value::RawValue;

/// A JSON object, its values as they are written: `1e400` is JSON, and no number of any type.
type Members = BTreeMap<String, Box<RawValue>>;

/// The body of `POST /v1/events`.
pub fn event(input: &[u8]) {
    match posted_event(input) {
        Ok(event) => assert_taken(&event, &serde_json::from_slice(input).expect("an object")),
        Err(error) => assert!(!error.rule.is_empty(), "{}", error.field),
    }
}

/// The body of `POST /v1/events/batch`.
pub fn batch(input: &[u8]) {
    match posted_events(input) {
        Ok(events) => {
            let posted: Members = serde_json::from_slice(input).expect("an object");
            let posted: Vec<Members> = serde_json::from_str(posted["events"].get()).expect("a list of objects");
            assert_eq!(events.len(), posted.len());
            assert!((1..=BATCH_LIMIT).contains(&events.len()));
            events.iter().zip(&posted).for_each(|(event, posted)| assert_taken(event, posted));
        }
        Err(error) => assert!(!error.rule.is_empty(), "{}", error.field),
    }
}

/// The event says what was posted, and so does the request that receivers get.
fn assert_taken(event: &NewEvent<'_>, posted: &Members) {
    assert_eq!(text_of(posted, "tenant").as_deref(), Some(event.tenant.as_str()));
    assert_eq!(text_of(posted, "type").as_deref(), Some(event.event_type.as_str()));
    assert_eq!(text_of(posted, "id").as_deref(), event.id.as_ref().map(|id| id.as_str()));
    assert_eq!(text_of(posted, "timestamp").is_some(), event.timestamp.is_some());
    assert_eq!(posted["data"].get(), event.data);
    assert!(event.data.len() <= DATA_LIMIT);

    let made = "evt_1".parse().expect("an id");
    let (id, at) = (event.id.as_ref().unwrap_or(&made), event.timestamp.unwrap_or(Timestamp::UNIX_EPOCH));
    let body = request_body(id, &event.event_type, at, event.data);
    let kept = timestamp_in(&body).expect("it has a timestamp");
    assert_eq!(at.duration_since(kept).as_millis(), 0, "{at} became {kept}");
    let sent: Members = serde_json::from_slice(&body).expect("what is sent is JSON");
    let names: Vec<&str> = sent.keys().map(String::as_str).collect();
    assert_eq!(names, ["data", "id", "timestamp", "type"]);
    assert_eq!(sent["data"].get(), event.data, "sent byte for byte");
    assert_eq!(text_of(&sent, "id").as_deref(), Some(id.as_str()));
}

/// `None`: it is not there, or null.
fn text_of(members: &Members, name: &str) -> Option<String> {
    members.get(name).and_then(|value| serde_json::from_str(value.get()).expect("a text or null"))
}
