//! Endpoints, their secrets and states.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use sqlx::AnyConnection;

use super::catalog::TenantEndpoints;
use super::database::Kind;
use super::seal::Key;
use super::{Page, PageRequest, Store, StoreError, millis, parsed, timestamp, unreadable};
use crate::domain::address::EndpointUrl;
use crate::domain::endpoint::{ENDPOINTS_LIMIT, Endpoint, EndpointState};
use crate::domain::event::EventType;
use crate::domain::header::CustomHeaders;
use crate::domain::id::{EndpointId, TenantId};
use crate::domain::plugin::Attachment;
use crate::domain::secret::{Secret, SigningKeys};

/// Endpoints whose secrets are opened before others have their turn on the thread: some milliseconds.
const ENDPOINTS_AT_ONCE: usize = 64;
/// Deliveries changed in one transaction, so that others get their turn to write in between.
const CHUNK: i64 = 1_000;

/// What a tenant gives for a new endpoint.
#[derive(Debug)]
pub struct NewEndpoint {
    /// Vetted.
    pub url: EndpointUrl,
    /// May be empty.
    pub description: String,
    /// `None`: all.
    pub event_types: Option<Vec<EventType>>,
    /// Vetted.
    pub headers: CustomHeaders,
}

/// What a tenant changes of an endpoint; `None` leaves it.
#[derive(Debug, Default)]
pub struct EndpointChange {
    /// Vetted.
    pub url: Option<EndpointUrl>,
    /// May be empty.
    pub description: Option<String>,
    /// `Some(None)`: all.
    pub event_types: Option<Option<Vec<EventType>>>,
    /// Replaces all.
    pub headers: Option<CustomHeaders>,
}

/// What becomes of the deliveries held while an endpoint was disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// They are attempted as soon as they are due.
    Deliver,
    /// They are dropped.
    Drop,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    url: String,
    description: String,
    event_types: Option<String>,
    headers: Vec<u8>,
    secret: Vec<u8>,
    previous_secret: Option<Vec<u8>>,
    previous_secret_until: Option<i64>,
    state: String,
    state_reason: Option<String>,
    created_at: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, url, description, event_types, headers, secret, previous_secret, previous_secret_until, state, \
             state_reason, created_at FROM endpoints WHERE tenant_id = $1 AND deleted_at IS NULL ",
            $rest
        )
    };
}

impl Store {
    /// Creates a pending endpoint with a new secret. `None`: the tenant does not exist, or has
    /// [`ENDPOINTS_LIMIT`] endpoints.
    pub async fn create_endpoint(
        &self,
        tenant: &TenantId,
        new: NewEndpoint,
    ) -> Result<Option<(Endpoint, Secret)>, StoreError> {
        let now = self.clock.now();
        let secret = Secret::from_bytes(rand::random());
        let keys = SigningKeys::new(&secret, None).expect("a secret we made has the right form");
        let endpoint = Endpoint {
            id: EndpointId::new(now),
            tenant: tenant.clone(),
            url: new.url,
            description: new.description,
            event_types: new.event_types,
            headers: new.headers,
            plugins: Vec::new(),
            state: EndpointState::Pending { reason: None },
            created_at: now,
            keys,
        };
        let id = endpoint.id.to_string();
        let mut change = self.begin_change(tenant).await?;
        let key = self.key_to_seal(change.on()).await?;
        let created = sqlx::query(
            "INSERT INTO endpoints (tenant_id, id, url, description, event_types, headers, secret, state, created_at)
             SELECT $1, $2, $3, $4, $5, $6, $7, 'pending', $8
             WHERE EXISTS (SELECT 1 FROM tenants WHERE id = $1 AND deleted_at IS NULL)
               AND (SELECT COUNT(*) FROM endpoints WHERE tenant_id = $1 AND deleted_at IS NULL) < $9",
        )
        .bind(tenant.as_str())
        .bind(&id)
        .bind(endpoint.url.as_str())
        .bind(&endpoint.description)
        .bind(event_types_text(endpoint.event_types.as_deref()))
        .bind(sealed_headers(key, tenant, &id, &endpoint.headers))
        .bind(key.seal(&place("secret", tenant, &id), secret.reveal().as_bytes()))
        .bind(millis(now))
        .bind(ENDPOINTS_LIMIT as i64)
        .execute(change.on())
        .await?;
        if created.rows_affected() == 0 {
            return Ok(None);
        }
        change.commit().await?;
        Ok(Some((endpoint, secret)))
    }

    /// A tenant's endpoints, oldest first.
    pub async fn endpoints(
        &self,
        tenant: &TenantId,
        page: &PageRequest<EndpointId>,
    ) -> Result<Page<Endpoint, EndpointId>, StoreError> {
        let mut connection = self.browse.acquire().await?;
        let rows: Vec<Row> = sqlx::query_as(select!("AND id > $2 ORDER BY id LIMIT $3"))
            .bind(tenant.as_str())
            .bind(page.after())
            .bind(page.rows())
            .fetch_all(&mut *connection)
            .await?;
        Ok(page.page(self.endpoints_of(&mut connection, tenant, rows).await?, |endpoint| endpoint.id))
    }

    /// One endpoint as it is now; from the cache where nothing changed since.
    pub async fn endpoint(&self, tenant: &TenantId, id: EndpointId) -> Result<Option<Arc<Endpoint>>, StoreError> {
        if let Some(endpoints) = self.catalog.endpoints(tenant) {
            return Ok(endpoints.find(id).cloned());
        }
        self.within_limit(self.read_endpoint(tenant, id)).await
    }

    async fn read_endpoint(&self, tenant: &TenantId, id: EndpointId) -> Result<Option<Arc<Endpoint>>, StoreError> {
        let mut connection = self.read.acquire().await?;
        if let Ok(_turn) = self.catalog.reading.try_acquire() {
            let endpoints = self.newest_endpoints(&mut connection, tenant).await?;
            return Ok(endpoints.and_then(|endpoints| endpoints.find(id).cloned()));
        }
        let row: Option<Row> = sqlx::query_as(select!("AND id = $2"))
            .bind(tenant.as_str())
            .bind(id.to_string())
            .fetch_optional(&mut *connection)
            .await?;
        let endpoints = self.endpoints_of(&mut connection, tenant, row.into_iter().collect()).await?;
        Ok(endpoints.into_iter().next().map(Arc::new))
    }

    /// Changes an endpoint. `None`: no such.
    pub async fn change_endpoint(
        &self,
        tenant: &TenantId,
        id: EndpointId,
        new: EndpointChange,
    ) -> Result<Option<Arc<Endpoint>>, StoreError> {
        let id_text = id.to_string();
        let mut change = self.begin_change(tenant).await?;
        let headers = match &new.headers {
            Some(headers) => Some(sealed_headers(self.key_to_seal(change.on()).await?, tenant, &id_text, headers)),
            None => None,
        };
        let changed = sqlx::query(
            "UPDATE endpoints SET
                 url = COALESCE($3, url),
                 description = COALESCE($4, description),
                 event_types = CASE WHEN $5 = 1 THEN $6 ELSE event_types END,
                 headers = COALESCE($7, headers)
             WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL",
        )
        .bind(tenant.as_str())
        .bind(&id_text)
        .bind(new.url.as_ref().map(EndpointUrl::as_str))
        .bind(&new.description)
        .bind(i64::from(new.event_types.is_some()))
        .bind(new.event_types.as_ref().and_then(|types| event_types_text(types.as_deref())))
        .bind(headers)
        .execute(change.on())
        .await?;
        if changed.rows_affected() == 0 {
            return Ok(None);
        }
        change.commit_for_all().await?;
        self.endpoint(tenant, id).await
    }

    /// Replaces the secret for every request from now on. The old one signs `webhook-signature` as well for
    /// `overlap`. `None`: no such endpoint.
    pub async fn rotate_secret(
        &self,
        tenant: &TenantId,
        id: EndpointId,
        overlap: Duration,
    ) -> Result<Option<Secret>, StoreError> {
        let id_text = id.to_string();
        let mut change = self.begin_change(tenant).await?;
        let row: Option<Row> = sqlx::query_as(select!("AND id = $2"))
            .bind(tenant.as_str())
            .bind(&id_text)
            .fetch_optional(change.on())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let old = self.opened("secret", tenant, &id_text, &row.secret)?;
        let secret = Secret::from_bytes(rand::random());
        let until = self.clock.now().saturating_add(SignedDuration::try_from(overlap).unwrap_or(SignedDuration::MAX));
        let until = until.ok().filter(|_| !overlap.is_zero());
        let key = self.key_to_seal(change.on()).await?;
        sqlx::query(
            "UPDATE endpoints SET secret = $3, previous_secret = $4, previous_secret_until = $5
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant.as_str())
        .bind(&id_text)
        .bind(key.seal(&place("secret", tenant, &id_text), secret.reveal().as_bytes()))
        .bind(until.map(|_| key.seal(&place("previous_secret", tenant, &id_text), old.reveal().as_bytes())))
        .bind(until.map(millis))
        .execute(change.on())
        .await?;
        change.commit_for_all().await?;
        Ok(Some(secret))
    }

    /// Records what a test came to: a pending endpoint becomes active, or keeps the reason why not.
    /// An endpoint whose URL changed since it was `tested` stays as it is.
    pub async fn record_test(&self, tested: &Endpoint, failed: Option<&str>) -> Result<(), StoreError> {
        let mut change = self.begin_change(&tested.tenant).await?;
        sqlx::query(
            "UPDATE endpoints SET state = CASE WHEN $3 IS NULL THEN 'active' ELSE 'pending' END, state_reason = $3,
                 failing_since = NULL
             WHERE tenant_id = $1 AND id = $2 AND url = $4 AND state = 'pending' AND deleted_at IS NULL",
        )
        .bind(tested.tenant.as_str())
        .bind(tested.id.to_string())
        .bind(failed)
        .bind(tested.url.as_str())
        .execute(change.on())
        .await?;
        change.commit().await?;
        self.notes.forget(tested.id);
        Ok(())
    }

    /// Disables an active endpoint: its events are held from now on.
    pub async fn disable_endpoint(&self, tenant: &TenantId, id: EndpointId, reason: &str) -> Result<(), StoreError> {
        let mut change = self.begin_change(tenant).await?;
        sqlx::query(
            "UPDATE endpoints SET state = 'disabled', state_reason = $3
             WHERE tenant_id = $1 AND id = $2 AND state = 'active' AND deleted_at IS NULL",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(reason)
        .execute(change.on())
        .await?;
        change.commit_for_all().await
    }

    /// Enables a disabled endpoint, after dropping what it held if so wished.
    pub async fn enable_endpoint(&self, tenant: &TenantId, id: EndpointId, held: Held) -> Result<(), StoreError> {
        if held == Held::Drop {
            while self.drop_held(tenant, id).await? {}
        }
        let mut change = self.begin_change(tenant).await?;
        sqlx::query(
            "UPDATE endpoints SET state = 'active', state_reason = NULL, failing_since = NULL
             WHERE tenant_id = $1 AND id = $2 AND state = 'disabled' AND deleted_at IS NULL",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .execute(change.on())
        .await?;
        change.commit().await?;
        self.notes.forget(id);
        self.flag_backlog(tenant, id);
        Ok(())
    }

    /// Makes an endpoint invisible and idle at once. Its history goes with [`Store::purge_endpoint`]. `false`: no such.
    pub async fn delete_endpoint(&self, tenant: &TenantId, id: EndpointId) -> Result<bool, StoreError> {
        let mut change = self.begin_change(tenant).await?;
        let deleted = sqlx::query(
            "UPDATE endpoints SET deleted_at = $3, state = 'disabled'
             WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(millis(self.clock.now()))
        .execute(change.on())
        .await?;
        // At once: what is attached nowhere else may be deleted from now on.
        sqlx::query("DELETE FROM attachments WHERE tenant_id = $1 AND endpoint_id = $2")
            .bind(tenant.as_str())
            .bind(id.to_string())
            .execute(change.on())
            .await?;
        change.commit_for_all().await?;
        Ok(deleted.rows_affected() == 1)
    }

    /// To be called before events of a tenant are given to the writer, which would read the tenant's endpoints otherwise, and
    /// these may be thousands: on SQLite, which has one writer, everyone's events would wait.
    pub async fn read_ahead(&self, tenant: &TenantId) -> Result<(), StoreError> {
        if self.kind == Kind::Postgres || self.catalog.newest(tenant).is_some() {
            return Ok(());
        }
        let _turn = self.catalog.reading.acquire().await;
        if self.catalog.newest(tenant).is_some() {
            return Ok(());
        }
        let mut connection = self.read.acquire().await?;
        match self.newest_endpoints(&mut connection, tenant).await {
            // The writer will say so.
            Ok(_) | Err(StoreError::Unreadable { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A tenant's endpoints as they are now, read unless the catalog has them; `None`: no such tenant.
    async fn newest_endpoints(
        &self,
        connection: &mut AnyConnection,
        tenant: &TenantId,
    ) -> Result<Option<Arc<TenantEndpoints>>, StoreError> {
        let at = Instant::now();
        // The version first: read after the rows, it could vouch for rows older than itself.
        let version: Option<i64> =
            sqlx::query_scalar("SELECT endpoints_version FROM tenants WHERE id = $1 AND deleted_at IS NULL")
                .bind(tenant.as_str())
                .fetch_optional(&mut *connection)
                .await?;
        match version {
            Some(version) => self.endpoints_as_of(connection, tenant, version, at).await.map(Some),
            None => Ok(None),
        }
    }

    /// A tenant's endpoints of the version that was the newest `at` that moment, read unless the catalog has them.
    pub(super) async fn endpoints_as_of(
        &self,
        connection: &mut AnyConnection,
        tenant: &TenantId,
        version: i64,
        at: Instant,
    ) -> Result<Arc<TenantEndpoints>, StoreError> {
        if let Some(cached) = self.catalog.newest(tenant).filter(|cached| cached.version == version) {
            cached.confirm(at);
            return Ok(cached);
        }
        let rows: Vec<Row> =
            sqlx::query_as(select!("ORDER BY id")).bind(tenant.as_str()).fetch_all(&mut *connection).await?;
        let endpoints = self.endpoints_of(connection, tenant, rows).await?;
        let read = Arc::new(TenantEndpoints::new(version, endpoints.into_iter().map(Arc::new).collect(), at));
        self.catalog.keep(tenant, &read);
        Ok(read)
    }

    /// Drops a chunk of what a disabled endpoint holds; `true`: there may be more.
    async fn drop_held(&self, tenant: &TenantId, id: EndpointId) -> Result<bool, StoreError> {
        let dropped = sqlx::query(
            "UPDATE deliveries SET state = 'dropped', next_attempt_at = NULL, claimable_at = NULL, finished_at = $3,
                 claim = claim + 1, state_reason = 'dropped when the endpoint was enabled'
             WHERE tenant_id = $1 AND id IN (
                 SELECT d.id FROM deliveries d JOIN endpoints e ON e.tenant_id = d.tenant_id AND e.id = d.endpoint_id
                 WHERE d.tenant_id = $1 AND d.endpoint_id = $2 AND d.state = 'pending' AND e.state = 'disabled' LIMIT $4)",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(millis(self.clock.now()))
        .bind(CHUNK)
        .execute(&self.write)
        .await?;
        Ok(dropped.rows_affected() > 0)
    }

    /// The endpoints that `rows`, sorted by id, hold, with what is attached to them.
    async fn endpoints_of(
        &self,
        connection: &mut AnyConnection,
        tenant: &TenantId,
        rows: Vec<Row>,
    ) -> Result<Vec<Endpoint>, StoreError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
        let mut attachments = self.attachments(connection, tenant, &first.id, &last.id).await?;
        let mut endpoints = Vec::with_capacity(rows.len());
        for row in rows {
            if endpoints.len() % ENDPOINTS_AT_ONCE == ENDPOINTS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let plugins = attachments.remove(&row.id).unwrap_or_default();
            endpoints.push(self.endpoint_of(tenant, row, plugins)?);
        }
        Ok(endpoints)
    }

    fn endpoint_of(&self, tenant: &TenantId, row: Row, plugins: Vec<Attachment>) -> Result<Endpoint, StoreError> {
        const TABLE: &str = "endpoints";
        let id = row.id.as_str();
        let secret = self.opened("secret", tenant, id, &row.secret)?;
        let previous = match (&row.previous_secret, row.previous_secret_until) {
            (Some(sealed), Some(until)) => Some((
                self.opened("previous_secret", tenant, id, sealed)?,
                timestamp(TABLE, "previous_secret_until", id, until)?,
            )),
            _ => None,
        };
        let keys = SigningKeys::new(&secret, previous.as_ref().map(|(secret, until)| (secret, *until)))
            .map_err(|_| unreadable(TABLE, "secret", id))?;
        let state = match (row.state.as_str(), row.state_reason) {
            ("pending", reason) => EndpointState::Pending { reason },
            ("active", _) => EndpointState::Active,
            ("disabled", reason) => EndpointState::Disabled { reason: reason.unwrap_or_default() },
            _ => return Err(unreadable(TABLE, "state", id)),
        };
        let types = row.event_types.as_deref().map(|text| event_types_from(text, id)).transpose()?;
        Ok(Endpoint {
            id: parsed(TABLE, "id", id, id)?,
            tenant: tenant.clone(),
            url: EndpointUrl::restore(&row.url).map_err(|_| unreadable(TABLE, "url", id))?,
            description: row.description,
            event_types: types,
            headers: self.opened_headers(tenant, id, &row.headers)?,
            plugins,
            state,
            created_at: timestamp(TABLE, "created_at", id, row.created_at)?,
            keys,
        })
    }

    fn opened(&self, column: &'static str, tenant: &TenantId, id: &str, sealed: &[u8]) -> Result<Secret, StoreError> {
        let opened = self.sealer.open(&place(column, tenant, id), sealed);
        let (_, text) = opened.map_err(|closed| closed.at("endpoints", column, id))?;
        let secret = std::str::from_utf8(&text).ok().and_then(|text| Secret::parse(text).ok());
        secret.ok_or_else(|| unreadable("endpoints", column, id))
    }

    fn opened_headers(&self, tenant: &TenantId, id: &str, sealed: &[u8]) -> Result<CustomHeaders, StoreError> {
        let opened = self.sealer.open(&place("headers", tenant, id), sealed);
        let (_, json) = opened.map_err(|closed| closed.at("endpoints", "headers", id))?;
        let pairs: Option<Vec<(String, String)>> = serde_json::from_slice(&json).ok();
        let headers = pairs.and_then(|pairs| {
            CustomHeaders::restore(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))).ok()
        });
        headers.ok_or_else(|| unreadable("endpoints", "headers", id))
    }
}

/// Header values are often credentials, so they are sealed like secrets: a JSON list of `[name, value]`.
fn sealed_headers(key: &Key, tenant: &TenantId, id: &str, headers: &CustomHeaders) -> Vec<u8> {
    let json = serde_json::to_vec(&headers.iter().collect::<Vec<_>>()).expect("texts are JSON");
    key.seal(&place("headers", tenant, id), &json)
}

/// Where a value stands, for its seal.
pub(super) fn place<'a>(column: &'static str, tenant: &'a TenantId, id: &'a str) -> [&'a str; 3] {
    [column, tenant.as_str(), id]
}

fn event_types_text(types: Option<&[EventType]>) -> Option<String> {
    types.map(|types| serde_json::to_string(types).expect("names are JSON"))
}

fn event_types_from(text: &str, id: &str) -> Result<Vec<EventType>, StoreError> {
    let names: Vec<String> = serde_json::from_str(text).map_err(|_| unreadable("endpoints", "event_types", id))?;
    names.iter().map(|name| parsed("endpoints", "event_types", id, name)).collect()
}
