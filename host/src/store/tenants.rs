//! Tenants.

use jiff::Timestamp;

use super::{Page, PageRequest, Store, StoreError, millis, parsed, timestamp};
use crate::domain::id::TenantId;

/// A tenant as the operator sees it.
#[derive(Debug)]
pub struct Tenant {
    /// Chosen by the operator.
    pub id: TenantId,
    /// For people; may be empty.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
}

pub(super) type Row = (String, String, i64);

impl Store {
    /// Creates a tenant. `None`: the id is taken, or its last owner is still being deleted.
    pub async fn create_tenant(&self, id: &TenantId, name: &str) -> Result<Option<Tenant>, StoreError> {
        let now = self.clock.now();
        let created = sqlx::query(
            "INSERT INTO tenants (id, name, created_at, endpoints_version) VALUES ($1, $2, $3, $3)
             ON CONFLICT DO NOTHING",
        )
        .bind(id.as_str())
        .bind(name)
        .bind(millis(now))
        .execute(&self.write)
        .await?;
        let tenant = || Tenant { id: id.clone(), name: name.to_owned(), created_at: now };
        Ok((created.rows_affected() == 1).then(tenant))
    }

    /// All tenants by id.
    pub async fn tenants(&self, page: &PageRequest<TenantId>) -> Result<Page<Tenant, TenantId>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, created_at FROM tenants WHERE deleted_at IS NULL AND id > $1 ORDER BY id LIMIT $2",
        )
        .bind(page.after())
        .bind(page.rows())
        .fetch_all(&self.browse)
        .await?;
        let tenants: Vec<Tenant> = rows.into_iter().map(tenant).collect::<Result<_, _>>()?;
        Ok(page.page(tenants, |tenant| tenant.id.clone()))
    }

    /// One tenant; `None`: no such, or being deleted.
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = sqlx::query_as("SELECT id, name, created_at FROM tenants WHERE id = $1 AND deleted_at IS NULL")
            .bind(id.as_str())
            .fetch_optional(&self.read);
        let row: Option<Row> = self.within_limit(async { Ok(row.await?) }).await?;
        row.map(tenant).transpose()
    }

    /// Makes a tenant invisible, its tokens, links and sessions void and its endpoints idle, at once. What it owns goes with
    /// [`Store::purge_tenant`]. `false`: no such.
    pub async fn delete_tenant(&self, id: &TenantId) -> Result<bool, StoreError> {
        let now = millis(self.clock.now());
        let mut change = self.begin_change(id).await?;
        let deleted = sqlx::query("UPDATE tenants SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL")
            .bind(id.as_str())
            .bind(now)
            .execute(change.on())
            .await?;
        for statement in [
            "DELETE FROM tokens WHERE tenant_id = $1",
            "DELETE FROM portal_links WHERE tenant_id = $1",
            "DELETE FROM sessions WHERE tenant_id = $1",
        ] {
            sqlx::query(statement).bind(id.as_str()).execute(change.on()).await?;
        }
        sqlx::query("UPDATE endpoints SET deleted_at = $2, state = 'disabled' WHERE tenant_id = $1")
            .bind(id.as_str())
            .bind(now)
            .execute(change.on())
            .await?;
        change.commit_for_all().await?;
        Ok(deleted.rows_affected() == 1)
    }
}

pub(super) fn tenant((id, name, created_at): Row) -> Result<Tenant, StoreError> {
    let created_at = timestamp("tenants", "created_at", &id, created_at)?;
    Ok(Tenant { id: parsed("tenants", "id", &id, &id)?, name, created_at })
}
