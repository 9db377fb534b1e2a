//! Identifiers: each parses and prints itself.

use std::{fmt, str::FromStr, sync::Arc, sync::LazyLock, sync::Mutex};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::{ContextV7, Uuid};

/// Why a text is not an id. `Display` states the rule, for the caller to mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Tenant ids are chosen by the operator.
    #[error("must be 1 to 63 of a-z, 0-9 and '-', not starting with '-'")]
    Tenant,
    /// Event ids may be chosen by the producer; they appear in `webhook-id`, where `.` is a separator.
    #[error("must be 1 to 128 of A-Z, a-z, 0-9, '_' and '-'")]
    Event,
    /// Ids we made: the prefix and 32 lowercase hexadecimal digits.
    #[error("must be {0} followed by 32 hexadecimal digits")]
    Made(&'static str),
}

/// A tenant's id, `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-');
        valid.then(|| Self(text.into())).ok_or(InvalidId::Tenant)
    }
}

/// An event's id: `evt_…` when we make it, the producer's own otherwise. Unique within its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Arc<str>);

impl EventId {
    /// A new id that sorts after those made before it.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(format!("evt_{}", time_ordered(now).simple()).into())
    }

    /// The id that an idempotency key stands for: the same 16 bytes of digest give the same id.
    #[must_use]
    pub fn from_digest(digest: [u8; 16]) -> Self {
        Self(format!("evt_{}", Uuid::from_bytes(digest).simple()).into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let valid = (1..=128).contains(&text.len()) && text.bytes().all(allowed);
        valid.then(|| Self(text.into())).ok_or(InvalidId::Event)
    }
}

macro_rules! made_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id that sorts after those made before it.
            #[must_use]
            pub fn new(now: Timestamp) -> Self {
                Self(time_ordered(now))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // Exactly one spelling of each id: no upper case, no hyphens.
                let hex = text.strip_prefix($prefix).filter(|hex| {
                    hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                });
                hex.and_then(|hex| Uuid::try_parse(hex).ok()).map(Self).ok_or(InvalidId::Made($prefix))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

made_id!(
    /// An endpoint's id, `ep_…`.
    EndpointId, "ep_"
);
made_id!(
    /// A delivery's id, `dlv_…`; sorts by creation.
    DeliveryId, "dlv_"
);
made_id!(
    /// An API token's id, `tok_…` (not the token itself).
    TokenId, "tok_"
);

macro_rules! text_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

text_id!(TenantId);
text_id!(EventId);

/// UUID version 7 (RFC 9562 §5.7): creation order is sort order, also within one millisecond of this process.
fn time_ordered(now: Timestamp) -> Uuid {
    static CONTEXT: LazyLock<Mutex<ContextV7>> = LazyLock::new(Mutex::default);
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(&*CONTEXT, seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids_follow_the_rule() {
        let longest = "a".repeat(63);
        for valid in ["a", "acme", "0-a", "a-", longest.as_str()] {
            assert!(valid.parse::<TenantId>().is_ok(), "{valid}");
        }
        let too_long = "a".repeat(64);
        for invalid in ["", "-a", "Acme", "a_b", "a.b", "ä", "a b", too_long.as_str()] {
            assert_eq!(invalid.parse::<TenantId>(), Err(InvalidId::Tenant), "{invalid}");
        }
    }

    #[test]
    fn event_ids_never_hold_a_separator_of_the_signed_content() {
        for valid in ["evt_1", "A-b_9", "x"] {
            assert!(valid.parse::<EventId>().is_ok(), "{valid}");
        }
        for invalid in ["", "a.b", "a b", "a\n", "é"] {
            assert_eq!(invalid.parse::<EventId>(), Err(InvalidId::Event), "{invalid}");
        }
    }

    #[test]
    fn made_ids_round_trip_in_one_spelling_and_sort_by_creation() {
        let now = Timestamp::from_millisecond(1_800_000_000_123).unwrap();
        let ids: Vec<String> = (0..1_000).map(|_| DeliveryId::new(now).to_string()).collect();
        assert!(ids.is_sorted());
        let id: DeliveryId = ids[0].parse().unwrap();
        assert_eq!(id.to_string(), ids[0]);
        assert!(ids[0].to_uppercase().parse::<DeliveryId>().is_err());
        assert!(ids[0].replace("dlv_", "ep_").parse::<DeliveryId>().is_err());
    }
}
