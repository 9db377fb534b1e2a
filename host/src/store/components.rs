//! The bytes of plugins' versions, in parts: others get their turn to write in between.
//!
//! Parts are there before their version is, and for a while after it. Those that have none are swept.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sqlx::AnyConnection;

use super::{Store, StoreError, millis};
use crate::domain::plugin::{PluginName, Version};

/// Bytes of a part; the last may have fewer.
const PART: usize = 1 << 20;
/// How long an upload has for its parts and its version.
const UPLOAD: SignedDuration = SignedDuration::from_hours(1);

/// Which component: a plugin's version, and whose.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) owner: &'a str,
    pub(super) plugin: &'a PluginName,
    pub(super) version: Version,
}

pub(super) const PARTS: &str = "SELECT bytes FROM component_parts
     WHERE tenant_id = $1 AND plugin = $2 AND version = $3 ORDER BY part";
const ABANDONED: &str = "SELECT p.tenant_id, p.plugin, p.version, p.part FROM component_parts p
     WHERE p.created_at < $1 AND NOT EXISTS (
         SELECT 1 FROM plugin_versions v
         WHERE v.tenant_id = p.tenant_id AND v.plugin = p.plugin AND v.version = p.version)";

impl Store {
    /// Writes the parts of a component whose version is to be added.
    pub(super) async fn put_component(&self, of: Of<'_>, component: &Bytes) -> Result<(), StoreError> {
        for (part, start) in (0i64..).zip((0..component.len()).step_by(PART)) {
            // A twin's part is as good, but may be about to be swept.
            sqlx::query(
                "INSERT INTO component_parts (tenant_id, plugin, version, part, created_at, bytes)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (tenant_id, plugin, version, part) DO UPDATE SET created_at = excluded.created_at",
            )
            .bind(of.owner)
            .bind(of.plugin.as_str())
            .bind(of.version.to_string())
            .bind(part)
            .bind(millis(self.clock.now()))
            .bind(component[start..component.len().min(start + PART)].to_vec())
            .execute(&self.write)
            .await?;
        }
        Ok(())
    }

    /// Deletes parts older than an upload that have no version.
    pub async fn sweep_components(&self, now: Timestamp) -> Result<(), StoreError> {
        let before = millis(now.saturating_sub(UPLOAD).unwrap_or(Timestamp::MIN));
        let abandoned: Vec<(String, String, String, i64)> =
            sqlx::query_as(ABANDONED).bind(before).fetch_all(&self.browse).await?;
        for (owner, plugin, version, part) in abandoned {
            sqlx::query(
                "DELETE FROM component_parts
                 WHERE tenant_id = $1 AND plugin = $2 AND version = $3 AND part = $4 AND created_at < $5
                   AND NOT EXISTS (SELECT 1 FROM plugin_versions WHERE tenant_id = $1 AND plugin = $2 AND version = $3)",
            )
            .bind(owner)
            .bind(plugin)
            .bind(version)
            .bind(part)
            .bind(before)
            .execute(&self.write)
            .await?;
        }
        Ok(())
    }
}

/// Whether all parts of a component of `size` bytes are there.
pub(super) async fn is_whole(connection: &mut AnyConnection, of: Of<'_>, size: usize) -> Result<bool, StoreError> {
    let bytes: i64 = sqlx::query_scalar(
        "SELECT CAST(COALESCE(SUM(LENGTH(bytes)), 0) AS BIGINT) FROM component_parts
         WHERE tenant_id = $1 AND plugin = $2 AND version = $3",
    )
    .bind(of.owner)
    .bind(of.plugin.as_str())
    .bind(of.version.to_string())
    .fetch_one(connection)
    .await?;
    Ok(bytes == size as i64)
}

/// A component from its parts, as far as they are there.
pub(super) async fn read(connection: &mut AnyConnection, of: Of<'_>) -> Result<Bytes, StoreError> {
    let parts: Vec<Vec<u8>> = sqlx::query_scalar(PARTS)
        .bind(of.owner)
        .bind(of.plugin.as_str())
        .bind(of.version.to_string())
        .fetch_all(connection)
        .await?;
    Ok(parts.concat().into())
}
