//! The newest attempt of each delivery of a page.

use std::collections::HashMap;
use std::sync::LazyLock;

use sqlx::Row;

use super::sized::Sized;
use super::{DeliveryRecord, Store, StoreError, parsed, unreadable};
use crate::domain::id::{DeliveryId, TenantId};

/// Bytes of a response that lists show.
const EXCERPT: i64 = 200;

/// What a list shows of a delivery's newest attempt.
#[derive(Debug, PartialEq, Eq)]
pub struct LastAttempt {
    /// How long it took.
    pub duration_ms: u64,
    /// `None`: no answer.
    pub status_code: Option<u16>,
    /// The first 200 bytes of the response; `None`: no answer.
    pub response_excerpt: Option<Vec<u8>>,
    /// `None`: there was an answer.
    pub error: Option<String>,
}

impl Store {
    /// The newest attempt of each of these deliveries that was attempted.
    pub async fn last_attempts(
        &self,
        tenant: &TenantId,
        deliveries: &[DeliveryRecord],
    ) -> Result<HashMap<DeliveryId, LastAttempt>, StoreError> {
        static SELECT: LazyLock<Sized> = LazyLock::new(|| {
            let head = format!(
                "SELECT a.delivery_id, a.duration_ms, a.status_code, substr(a.response_body, 1, {EXCERPT}), a.error FROM (VALUES"
            );
            let tail = ") AS v CROSS JOIN attempts a
                WHERE a.tenant_id = v.column1 AND a.delivery_id = v.column2 AND a.number = v.column3";
            Sized::new(&head, 3, tail)
        });
        let mut last = HashMap::with_capacity(deliveries.len());
        let mut connection = self.browse.acquire().await?;
        for (mut query, deliveries) in SELECT.over(self.kind, deliveries) {
            for delivery in deliveries {
                query = query.bind(tenant.to_string()).bind(delivery.id.to_string()).bind(i64::from(delivery.attempts));
            }
            for row in query.fetch_all(&mut *connection).await? {
                let id: String = row.try_get(0)?;
                let number =
                    |column, number: i64| u64::try_from(number).map_err(|_| unreadable("attempts", column, &id));
                let status: Option<i64> = row.try_get(2)?;
                let attempt = LastAttempt {
                    duration_ms: number("duration_ms", row.try_get(1)?)?,
                    status_code: status
                        .map(|status| u16::try_from(status).map_err(|_| unreadable("attempts", "status_code", &id)))
                        .transpose()?,
                    response_excerpt: row.try_get(3)?,
                    error: row.try_get(4)?,
                };
                last.insert(parsed("attempts", "delivery_id", &id, &id)?, attempt);
            }
        }
        Ok(last)
    }
}
