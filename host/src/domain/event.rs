//! Events, their types, and the request body they become.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::id::{EventId, TenantId};
use super::trace::TraceParent;

/// `data` of one event, in bytes of JSON text as posted.
pub const DATA_LIMIT: usize = 256 * 1024;

/// Events in one batch request.
pub const BATCH_LIMIT: usize = 1_000;

/// The catalogue every installation starts with.
pub const SEEDED_TYPES: [(&str, &str); 7] = [
    ("incident.created", "An incident was created"),
    ("incident.acknowledged", "An incident was acknowledged"),
    ("incident.resolved", "An incident was resolved"),
    ("approval.approved", "An approval was approved"),
    ("approval.rejected", "An approval was rejected"),
    ("hijacker.detected", "A hijacker threat was detected"),
    (EventType::TEST, "Sent by us to try an endpoint"),
];

/// An event type's name, such as `incident.created`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(Arc<str>);

/// The text is not an event type's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of a-z, 0-9, '_' and '-' in words separated by '.'")]
pub struct InvalidEventType;

impl EventType {
    /// The type of the event that tries an endpoint; never posted by a producer, never retried.
    pub const TEST: &str = "webhook.test";

    /// The test event's type.
    #[must_use]
    pub fn test() -> Self {
        Self(Self::TEST.into())
    }

    /// Whether this is [`EventType::TEST`].
    #[must_use]
    pub fn is_test(&self) -> bool {
        &*self.0 == Self::TEST
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = InvalidEventType;

    fn from_str(text: &str) -> Result<Self, InvalidEventType> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        let word = |word: &str| !word.is_empty() && word.bytes().all(allowed);
        let valid = text.len() <= 64 && text.split('.').all(word);
        valid.then(|| Self(text.into())).ok_or(InvalidEventType)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// One event as accepted: its request body is final.
#[derive(Clone)]
pub struct Event {
    /// Whose event it is.
    pub tenant: TenantId,
    /// Sent as `webhook-id`; unique within the tenant.
    pub id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// The exact bytes sent to every endpoint without a plugin.
    pub body: Bytes,
    /// Digest of the request that posted it, where the caller may repeat that request: an equal one is answered
    /// again, another is a conflict. `None` when the id was made by us.
    pub fingerprint: Option<[u8; 32]>,
    /// The trace that its post was part of; its attempts go on with it. `None`: none.
    pub trace: Option<TraceParent>,
}

/// `{"id","type","timestamp","data"}` with `data` byte for byte as posted; `timestamp` in milliseconds, UTC.
#[must_use]
pub fn request_body(id: &EventId, event_type: &EventType, timestamp: Timestamp, data: &str) -> Bytes {
    // Ids and type names hold no character that JSON escapes.
    let head = format!(r#"{{"id":"{id}","type":"{event_type}","timestamp":"{timestamp:.3}","data":"#);
    let mut body = Vec::with_capacity(head.len() + data.len() + 1);
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(data.as_bytes());
    body.push(b'}');
    body.into()
}

/// The timestamp in a body that [`request_body`] made.
#[must_use]
pub fn timestamp_in(body: &[u8]) -> Option<Timestamp> {
    const MARK: &[u8] = br#","timestamp":""#;
    // Nothing before it holds a quote, so the first is the one. Ids and types are short.
    let head = &body[..body.len().min(512)];
    let start = head.windows(MARK.len()).position(|at| at == MARK)? + MARK.len();
    let end = start + head[start..].iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&head[start..end]).ok()?.parse().ok()
}

/// Digest of `parts`, each preceded by its length so that no two lists of parts read alike.
#[must_use]
pub fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

// Payload stays out of logs.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("tenant", &self.tenant)
            .field("id", &self.id)
            .field("event_type", &self.event_type)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_follow_the_rule() {
        let longest = "a".repeat(64);
        for valid in ["incident.created", "a", "a_b.c-d.e9", longest.as_str()] {
            assert!(valid.parse::<EventType>().is_ok(), "{valid}");
        }
        let too_long = "a".repeat(65);
        for invalid in ["", ".", "a.", ".a", "a..b", "A", "a b", "a\"", too_long.as_str()] {
            assert_eq!(invalid.parse::<EventType>(), Err(InvalidEventType), "{invalid}");
        }
    }

    #[test]
    fn data_is_kept_byte_for_byte() {
        let at = Timestamp::from_millisecond(1_800_000_000_007).unwrap();
        let data = "{ \"b\":1.0,\"a\" : 1e400, \"a\":\"\\u00e9\" }";
        let body = request_body(&"evt_1".parse().unwrap(), &"incident.created".parse().unwrap(), at, data);
        let expected = format!(
            r#"{{"id":"evt_1","type":"incident.created","timestamp":"2027-01-15T08:00:00.007Z","data":{data}}}"#
        );
        assert_eq!(body, expected.as_bytes());
        assert_eq!(timestamp_in(&body), Some(at));
        assert_eq!(timestamp_in(b"{}"), None);
    }

    #[test]
    fn fingerprints_do_not_confuse_where_a_part_ends() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_ne!(fingerprint(&[b"ab"]), fingerprint(&[b"ab", b""]));
    }
}
