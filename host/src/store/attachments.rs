//! What is attached to an endpoint: it is read with the endpoint and replaced as a whole.

use std::collections::HashMap;

use sqlx::AnyConnection;

use super::{Store, StoreError, parsed, plugins, unreadable};
use crate::domain::id::{EndpointId, TenantId};
use crate::domain::plugin::{Attachment, OnError, PluginName, Rollout};

/// Bytes of the settings of all of a tenant's attachments together, sealed: they are in memory while its endpoints are.
pub const TENANT_SETTINGS_LIMIT: u64 = 16 * 1024 * 1024;

/// Why nothing was attached. Indexes count from 0.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No such endpoint.
    #[error("no such endpoint")]
    NotFound,
    /// The plugin of this attachment has no such version, or is not there at all.
    #[error("no such version of this plugin")]
    UnknownVersion(usize),
    /// The plugin of this attachment has no such version.
    #[error("no such version of this plugin")]
    UnknownBaseline(usize),
    /// [`TENANT_SETTINGS_LIMIT`].
    #[error("the settings of all of a tenant's attachments have at most {TENANT_SETTINGS_LIMIT} bytes together")]
    TooMuchSettings,
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for AttachError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    endpoint_id: String,
    position: i64,
    plugin: String,
    version: String,
    percent: Option<i64>,
    baseline: Option<String>,
    settings: Vec<u8>,
    on_error: String,
}

impl Store {
    /// Replaces all that is attached to an endpoint, or nothing.
    pub async fn attach(
        &self,
        tenant: &TenantId,
        endpoint: EndpointId,
        attachments: Vec<Attachment>,
    ) -> Result<(), AttachError> {
        let id = endpoint.to_string();
        let mut change = self.begin_change(tenant).await?;
        let exists: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM endpoints WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL")
                .bind(tenant.as_str())
                .bind(&id)
                .fetch_optional(change.on())
                .await?;
        exists.ok_or(AttachError::NotFound)?;
        sqlx::query("DELETE FROM attachments WHERE tenant_id = $1 AND endpoint_id = $2")
            .bind(tenant.as_str())
            .bind(&id)
            .execute(change.on())
            .await?;
        let key = self.key_to_seal(change.on()).await?;
        for (index, attachment) in attachments.into_iter().enumerate() {
            // In the transaction that attaches: a version that is being deleted is either attached or gone.
            if !plugins::is_there(change.on(), tenant, &attachment.plugin, attachment.version).await? {
                return Err(AttachError::UnknownVersion(index));
            }
            let baseline = attachment.rollout.and_then(|rollout| rollout.baseline);
            if let Some(baseline) = baseline
                && !plugins::is_there(change.on(), tenant, &attachment.plugin, baseline).await?
            {
                return Err(AttachError::UnknownBaseline(index));
            }
            let position = index as i64;
            sqlx::query(
                "INSERT INTO attachments
                     (tenant_id, endpoint_id, position, plugin, version, percent, baseline, settings, on_error)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(tenant.as_str())
            .bind(&id)
            .bind(position)
            .bind(attachment.plugin.as_str())
            .bind(attachment.version.to_string())
            .bind(attachment.rollout.map(|rollout| i64::from(rollout.percent())))
            .bind(baseline.map(|baseline| baseline.to_string()))
            .bind(key.seal(&place(tenant, &id, &position.to_string()), attachment.settings.as_bytes()))
            .bind(attachment.on_error.name())
            .execute(change.on())
            .await?;
        }
        let settings_bytes: i64 = sqlx::query_scalar(
            "SELECT CAST(COALESCE(SUM(LENGTH(settings)), 0) AS BIGINT) FROM attachments WHERE tenant_id = $1",
        )
        .bind(tenant.as_str())
        .fetch_one(change.on())
        .await?;
        if u64::try_from(settings_bytes).unwrap_or(0) > TENANT_SETTINGS_LIMIT {
            return Err(AttachError::TooMuchSettings);
        }
        Ok(change.commit_for_all().await?)
    }

    /// To how many of the tenant's endpoints each plugin is attached; those attached to none are left out.
    pub async fn endpoints_by_plugin(&self, tenant: &TenantId) -> Result<HashMap<PluginName, u64>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT plugin, COUNT(DISTINCT endpoint_id) FROM attachments WHERE tenant_id = $1 GROUP BY plugin",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.browse)
        .await?;
        let counted = |(plugin, endpoints): (String, i64)| {
            Ok((parsed("attachments", "plugin", &plugin, &plugin)?, u64::try_from(endpoints).unwrap_or(0)))
        };
        rows.into_iter().map(counted).collect()
    }

    /// The tenant's endpoints that a plugin is attached to, the oldest first, each with its URL; at most `limit`.
    pub async fn endpoints_with_plugin(
        &self,
        tenant: &TenantId,
        plugin: &PluginName,
        limit: u32,
    ) -> Result<Vec<(EndpointId, String)>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT DISTINCT e.id, e.url FROM attachments a
             JOIN endpoints e ON e.tenant_id = a.tenant_id AND e.id = a.endpoint_id
             WHERE a.tenant_id = $1 AND a.plugin = $2 AND e.deleted_at IS NULL ORDER BY e.id LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(plugin.as_str())
        .bind(i64::from(limit))
        .fetch_all(&self.browse)
        .await?;
        rows.into_iter().map(|(id, url)| Ok((parsed("endpoints", "id", &id, &id)?, url))).collect()
    }

    /// What is attached to the tenant's endpoints from `first` to `last`, each in its order.
    pub(super) async fn attachments(
        &self,
        connection: &mut AnyConnection,
        tenant: &TenantId,
        first: &str,
        last: &str,
    ) -> Result<HashMap<String, Vec<Attachment>>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT endpoint_id, position, plugin, version, percent, baseline, settings, on_error FROM attachments
             WHERE tenant_id = $1 AND endpoint_id >= $2 AND endpoint_id <= $3 ORDER BY endpoint_id, position",
        )
        .bind(tenant.as_str())
        .bind(first)
        .bind(last)
        .fetch_all(connection)
        .await?;
        let mut attachments: HashMap<String, Vec<Attachment>> = HashMap::new();
        for row in rows {
            let attachment = self.attachment_of(tenant, &row)?;
            attachments.entry(row.endpoint_id).or_default().push(attachment);
        }
        Ok(attachments)
    }

    fn attachment_of(&self, tenant: &TenantId, row: &Row) -> Result<Attachment, StoreError> {
        const TABLE: &str = "attachments";
        let id = row.endpoint_id.as_str();
        let baseline = row.baseline.as_ref().map(|text| parsed(TABLE, "baseline", id, text)).transpose()?;
        let rollout = row.percent.map(|percent| Rollout::new(percent, baseline)).transpose();
        let opened = self.sealer.open(&place(tenant, id, &row.position.to_string()), &row.settings);
        let (_, settings) = opened.map_err(|closed| closed.at(TABLE, "settings", id))?;
        let settings = String::from_utf8(settings).ok();
        Ok(Attachment {
            plugin: parsed(TABLE, "plugin", id, &row.plugin)?,
            version: parsed(TABLE, "version", id, &row.version)?,
            rollout: rollout.map_err(|_| unreadable(TABLE, "percent", id))?,
            settings: settings.ok_or_else(|| unreadable(TABLE, "settings", id))?.into(),
            on_error: OnError::named(&row.on_error).ok_or_else(|| unreadable(TABLE, "on_error", id))?,
        })
    }
}

/// Where settings stand, for their seal.
pub(super) fn place<'a>(tenant: &'a TenantId, endpoint: &'a str, position: &'a str) -> [&'a str; 4] {
    ["attachments.settings", tenant.as_str(), endpoint, position]
}
