//! One-time links to the settings pages, and the sessions they open.

use jiff::{SignedDuration, Timestamp};
use sqlx::AnyConnection;

use super::tenants::{self, Tenant};
use super::{Store, StoreError, millis, parsed};
use crate::domain::id::TenantId;
use crate::domain::session::{self, Key, KeyHash, LINK_LIFE, SESSION_LIFE};

const NEW_LINK: &str = "INSERT INTO portal_links (hash, tenant_id, expires_at)
     SELECT $1, $2, $3 WHERE EXISTS (SELECT 1 FROM tenants WHERE id = $2 AND deleted_at IS NULL)";
const NEW_SESSION: &str = "INSERT INTO sessions (hash, tenant_id, expires_at)
     SELECT $1, $2, $3 WHERE EXISTS (SELECT 1 FROM tenants WHERE id = $2 AND deleted_at IS NULL)";

impl Store {
    /// Makes a link that opens the tenant's pages once, until the time given with it. `None`: no such tenant.
    pub async fn create_portal_link(&self, tenant: &TenantId) -> Result<Option<(Key, Timestamp)>, StoreError> {
        let mut tx = self.begin_for(tenant).await?;
        let created = self.keep_key(&mut tx, NEW_LINK, tenant, LINK_LIFE).await?;
        tx.commit().await?;
        Ok(created)
    }

    /// Opens a session with the key of a link, which works no more; the session that the same browser had, if any, ends. `None`:
    /// the link is unknown, used or expired.
    pub async fn sign_in(&self, link: &KeyHash, before: Option<&KeyHash>) -> Result<Option<Key>, StoreError> {
        let now = millis(self.clock.now());
        let tenant = sqlx::query_scalar("SELECT tenant_id FROM portal_links WHERE hash = $1 AND expires_at > $2")
            .bind(link.as_slice())
            .bind(now)
            .fetch_optional(&self.read);
        let tenant: Option<String> = self.within_limit(async { Ok(tenant.await?) }).await?;
        let Some(tenant) = tenant else { return Ok(None) };
        let tenant: TenantId = parsed("portal_links", "tenant_id", &tenant, &tenant)?;
        let mut tx = self.begin_for(&tenant).await?;
        let used =
            sqlx::query("DELETE FROM portal_links WHERE hash = $1").bind(link.as_slice()).execute(&mut *tx).await?;
        if used.rows_affected() == 0 {
            return Ok(None);
        }
        if let Some(before) = before {
            sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(before.as_slice()).execute(&mut *tx).await?;
        }
        let opened = self.keep_key(&mut tx, NEW_SESSION, &tenant, SESSION_LIFE).await?;
        tx.commit().await?;
        Ok(opened.map(|(key, _)| key))
    }

    /// Whose session this is. `None`: unknown, ended or expired.
    pub async fn session(&self, key: &KeyHash) -> Result<Option<Tenant>, StoreError> {
        let row = sqlx::query_as(
            "SELECT t.id, t.name, t.created_at FROM sessions s CROSS JOIN tenants t
             WHERE s.hash = $1 AND s.expires_at > $2 AND t.id = s.tenant_id AND t.deleted_at IS NULL",
        )
        .bind(key.as_slice())
        .bind(millis(self.clock.now()))
        .fetch_optional(&self.read);
        let row: Option<tenants::Row> = self.within_limit(async { Ok(row.await?) }).await?;
        row.map(tenants::tenant).transpose()
    }

    /// Ends a session.
    pub async fn end_session(&self, key: &KeyHash) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(key.as_slice()).execute(&self.write).await?;
        Ok(())
    }

    /// Deletes the links and sessions that have expired by `now`.
    pub async fn sweep_sessions(&self, now: Timestamp) -> Result<(), StoreError> {
        for statement in
            ["DELETE FROM portal_links WHERE expires_at <= $1", "DELETE FROM sessions WHERE expires_at <= $1"]
        {
            sqlx::query(statement).bind(millis(now)).execute(&self.write).await?;
        }
        Ok(())
    }

    /// Stores the hash of a new key, good for so long. `None`: no such tenant.
    async fn keep_key(
        &self,
        connection: &mut AnyConnection,
        statement: &'static str,
        tenant: &TenantId,
        life: SignedDuration,
    ) -> Result<Option<(Key, Timestamp)>, StoreError> {
        let expires_at = self.clock.now().saturating_add(life).unwrap_or(Timestamp::MAX);
        let key = Key::from_bytes(rand::random());
        let kept = sqlx::query(statement)
            .bind(session::hash(key.reveal()).as_slice())
            .bind(tenant.as_str())
            .bind(millis(expires_at))
            .execute(connection)
            .await?;
        Ok((kept.rows_affected() == 1).then_some((key, expires_at)))
    }
}
