//! Events as they were accepted.

use bytes::Bytes;

use super::{Store, StoreError, parsed};
use crate::domain::event::EventType;
use crate::domain::id::{DeliveryId, EndpointId, EventId, TenantId};

/// Past events read at once; each may have 256 KiB.
const PAST_EVENTS_PAGE: usize = 50;

/// An event that an endpoint got, or was to get.
pub struct PastEvent {
    /// Its delivery there; the key of the list.
    pub delivery: DeliveryId,
    /// Its id.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// The request body before any plugin.
    pub body: Bytes,
}

// The body is payload: it stays out of logs.
impl std::fmt::Debug for PastEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PastEvent")
            .field("delivery", &self.delivery)
            .field("event", &self.event)
            .field("event_type", &self.event_type)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

pub(super) const PAST_EVENTS: &str = "SELECT d.id, d.event_id, d.event_type, v.body
     FROM deliveries d CROSS JOIN events v
     WHERE d.tenant_id = $1 AND d.endpoint_id = $2 AND d.id < $3 AND d.event_type <> 'webhook.test'
       AND v.tenant_id = d.tenant_id AND v.id = d.event_id
     ORDER BY d.id DESC LIMIT $4";

impl Store {
    /// Type and request body of an event; `None`: no such.
    pub async fn event(&self, tenant: &TenantId, id: &EventId) -> Result<Option<(EventType, Bytes)>, StoreError> {
        let row: Option<(String, Vec<u8>)> =
            sqlx::query_as("SELECT event_type, body FROM events WHERE tenant_id = $1 AND id = $2")
                .bind(tenant.as_str())
                .bind(id.as_str())
                .fetch_optional(&self.browse)
                .await?;
        let event = |(event_type, body): (String, Vec<u8>)| {
            Ok((parsed("events", "event_type", id.as_str(), &event_type)?, Bytes::from(body)))
        };
        row.map(event).transpose()
    }

    /// The newest events of an endpoint, test events left out, the newest first: those of deliveries older than `before`,
    /// or with `None` of all. At most `limit`, and never more than 50: an empty list is the end.
    pub async fn last_events_of_endpoint(
        &self,
        tenant: &TenantId,
        endpoint: EndpointId,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<PastEvent>, StoreError> {
        let rows: Vec<(String, String, String, Vec<u8>)> = sqlx::query_as(PAST_EVENTS)
            .bind(tenant.as_str())
            .bind(endpoint.to_string())
            .bind(before.map_or_else(|| "~".to_owned(), |before| before.to_string()))
            .bind(limit.min(PAST_EVENTS_PAGE) as i64)
            .fetch_all(&self.browse)
            .await?;
        let past = |(delivery, event, event_type, body): (String, String, String, Vec<u8>)| {
            Ok(PastEvent {
                delivery: parsed("deliveries", "id", &delivery, &delivery)?,
                event: parsed("deliveries", "event_id", &delivery, &event)?,
                event_type: parsed("deliveries", "event_type", &delivery, &event_type)?,
                body: body.into(),
            })
        };
        rows.into_iter().map(past).collect()
    }
}
