//! Plugins and their versions: a tenant's own, and the built-in ones that every tenant may attach.

use bytes::Bytes;
use jiff::Timestamp;
use sqlx::AnyConnection;

use super::components::{self, Of};
use super::{Page, PageRequest, Store, StoreError, millis, parsed, timestamp, unreadable};
use crate::domain::id::TenantId;
use crate::domain::plugin::{COMPONENTS_LIMIT, PLUGINS_LIMIT, PluginName, VERSIONS_LIMIT, Version};

/// Stands where a tenant's id would: the owner of the built-in plugins.
const BUILT_IN: &str = "";

/// A plugin as lists show it.
#[derive(Debug, PartialEq, Eq)]
pub struct PluginRecord {
    /// Its name, which is its id.
    pub name: PluginName,
    /// There for every tenant, for none to change.
    pub built_in: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// How many versions it has.
    pub versions: u64,
    /// The one added last; `None`: it has none.
    pub newest: Option<Version>,
}

/// A version without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// The digest of its bytes.
    pub version: Version,
    /// How many bytes.
    pub size_bytes: u64,
    /// When it was added.
    pub created_at: Timestamp,
    number: i64,
}

/// Why a plugin is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The tenant has no such plugin, or the plugin no such version.
    #[error("no such plugin or version")]
    NotFound,
    /// The tenant has one of this name.
    #[error("there is a plugin of this name already")]
    NameTaken,
    /// Built-in plugins belong to no tenant, and no tenant's plugin has the name of one.
    #[error("this is the name of a built-in plugin, which cannot be changed")]
    BuiltIn,
    /// What is attached stays.
    #[error("it is attached to {endpoints} endpoint{}; detach it first", if *endpoints == 1 { "" } else { "s" })]
    Attached {
        /// To how many.
        endpoints: u64,
    },
    /// [`PLUGINS_LIMIT`].
    #[error("a tenant has at most {PLUGINS_LIMIT} plugins")]
    TooManyPlugins,
    /// [`VERSIONS_LIMIT`].
    #[error("a plugin has at most {VERSIONS_LIMIT} versions; delete old ones")]
    TooManyVersions,
    /// [`COMPONENTS_LIMIT`].
    #[error("the versions of all of a tenant's plugins have at most {COMPONENTS_LIMIT} bytes together")]
    TooManyBytes,
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PluginError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

#[derive(sqlx::FromRow)]
struct PluginRow {
    tenant_id: String,
    name: String,
    created_at: i64,
    versions: i64,
    newest: Option<String>,
}

#[derive(sqlx::FromRow)]
struct VersionRow {
    version: String,
    number: i64,
    size_bytes: i64,
    created_at: i64,
}

/// A tenant's plugins and the built-in ones; should a later built-in have the name of a tenant's, the tenant keeps its own.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT p.tenant_id, p.name, p.created_at,
                    (SELECT COUNT(*) FROM plugin_versions v WHERE v.tenant_id = p.tenant_id AND v.plugin = p.name)
                        AS versions,
                    (SELECT v.version FROM plugin_versions v WHERE v.tenant_id = p.tenant_id AND v.plugin = p.name
                     ORDER BY v.number DESC LIMIT 1) AS newest
             FROM plugins p
             WHERE p.tenant_id IN ($1, '')
               AND (p.tenant_id = $1
                    OR NOT EXISTS (SELECT 1 FROM plugins own WHERE own.tenant_id = $1 AND own.name = p.name)) ",
            $rest
        )
    };
}

impl Store {
    /// Creates a plugin without versions.
    pub async fn create_plugin(&self, tenant: &TenantId, name: &PluginName) -> Result<PluginRecord, PluginError> {
        let now = self.clock.now();
        let mut tx = self.begin_for(tenant).await?;
        match owner(&mut tx, tenant, name).await? {
            Some(BUILT_IN) => return Err(PluginError::BuiltIn),
            Some(_) => return Err(PluginError::NameTaken),
            None => {}
        }
        let plugins: Option<i64> = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM plugins p WHERE p.tenant_id = t.id) FROM tenants t
             WHERE t.id = $1 AND t.deleted_at IS NULL",
        )
        .bind(tenant.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        if plugins.ok_or(PluginError::NotFound)? >= PLUGINS_LIMIT as i64 {
            return Err(PluginError::TooManyPlugins);
        }
        sqlx::query("INSERT INTO plugins (tenant_id, name, created_at) VALUES ($1, $2, $3)")
            .bind(tenant.as_str())
            .bind(name.as_str())
            .bind(millis(now))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(PluginRecord { name: name.clone(), built_in: false, created_at: now, versions: 0, newest: None })
    }

    /// The plugins that a tenant may attach, by name.
    pub async fn plugins(
        &self,
        tenant: &TenantId,
        page: &PageRequest<PluginName>,
    ) -> Result<Page<PluginRecord, PluginName>, StoreError> {
        let rows: Vec<PluginRow> = sqlx::query_as(select!("AND p.name > $2 ORDER BY p.name LIMIT $3"))
            .bind(tenant.as_str())
            .bind(page.after())
            .bind(page.rows())
            .fetch_all(&self.browse)
            .await?;
        let plugins: Vec<PluginRecord> = rows.into_iter().map(plugin).collect::<Result<_, _>>()?;
        Ok(page.page(plugins, |plugin| plugin.name.clone()))
    }

    /// One plugin that a tenant may attach; `None`: no such.
    pub async fn plugin(&self, tenant: &TenantId, name: &PluginName) -> Result<Option<PluginRecord>, StoreError> {
        let row: Option<PluginRow> = sqlx::query_as(select!("AND p.name = $2"))
            .bind(tenant.as_str())
            .bind(name.as_str())
            .fetch_optional(&self.browse)
            .await?;
        row.map(plugin).transpose()
    }

    /// Deletes a plugin with its versions.
    pub async fn delete_plugin(&self, tenant: &TenantId, name: &PluginName) -> Result<(), PluginError> {
        let mut tx = self.begin_for(tenant).await?;
        own(&mut tx, tenant, name).await?;
        not_attached(&mut tx, tenant, name, None).await?;
        for statement in [
            "DELETE FROM plugin_usage WHERE tenant_id = $1 AND plugin = $2",
            "DELETE FROM plugin_versions WHERE tenant_id = $1 AND plugin = $2",
            "DELETE FROM plugins WHERE tenant_id = $1 AND name = $2",
        ] {
            sqlx::query(statement).bind(tenant.as_str()).bind(name.as_str()).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Adds a version to a tenant's own plugin; `false`: it was there already.
    pub async fn add_version(
        &self,
        tenant: &TenantId,
        name: &PluginName,
        component: Bytes,
    ) -> Result<(VersionRecord, bool), PluginError> {
        let version = digest(component.clone()).await;
        let of = Of { owner: tenant.as_str(), plugin: name, version };
        let mut there =
            check_version(&mut *self.browse.acquire().await?, tenant, name, version, component.len()).await?;
        loop {
            if let Some(there) = there {
                return Ok((there, false));
            }
            self.put_component(of, &component).await?;
            let mut tx = self.begin_for(tenant).await?;
            there = check_version(&mut tx, tenant, name, version, component.len()).await?;
            // Parts are missing when a twin was added and deleted meanwhile.
            if there.is_none() && components::is_whole(&mut tx, of, component.len()).await? {
                let added = insert_version(&mut tx, of, component.len(), self.clock.now()).await?;
                tx.commit().await?;
                return Ok((added, true));
            }
        }
    }

    /// A plugin's versions, the newest first; `None`: no such plugin.
    pub async fn versions(
        &self,
        tenant: &TenantId,
        name: &PluginName,
        page: &PageRequest<i64>,
    ) -> Result<Option<Page<VersionRecord, i64>>, StoreError> {
        let mut connection = self.browse.acquire().await?;
        let Some(owner) = owner(&mut connection, tenant, name).await? else { return Ok(None) };
        let rows: Vec<VersionRow> = sqlx::query_as(
            "SELECT version, number, size_bytes, created_at FROM plugin_versions
             WHERE tenant_id = $1 AND plugin = $2 AND number < $3 ORDER BY number DESC LIMIT $4",
        )
        .bind(owner)
        .bind(name.as_str())
        .bind(page.before_number())
        .bind(page.rows())
        .fetch_all(&mut *connection)
        .await?;
        let versions: Vec<VersionRecord> = rows.into_iter().map(record).collect::<Result<_, _>>()?;
        Ok(Some(page.page(versions, |version| version.number)))
    }

    /// One version; `None`: no such plugin or version.
    pub async fn version(
        &self,
        tenant: &TenantId,
        name: &PluginName,
        version: Version,
    ) -> Result<Option<VersionRecord>, StoreError> {
        let mut connection = self.browse.acquire().await?;
        let Some(owner) = owner(&mut connection, tenant, name).await? else { return Ok(None) };
        find_version(&mut connection, owner, name, version).await
    }

    /// The bytes of a version; `None`: no such plugin or version.
    pub async fn component(
        &self,
        tenant: &TenantId,
        name: &PluginName,
        version: Version,
    ) -> Result<Option<Bytes>, StoreError> {
        self.within_long_limit(self.read_component(tenant, name, version)).await
    }

    async fn read_component(
        &self,
        tenant: &TenantId,
        name: &PluginName,
        version: Version,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut connection = self.read.acquire().await?;
        let Some(owner) = owner(&mut connection, tenant, name).await? else { return Ok(None) };
        let Some(record) = find_version(&mut connection, owner, name, version).await? else { return Ok(None) };
        let component = components::read(&mut connection, Of { owner, plugin: name, version }).await?;
        // Else it was deleted meanwhile.
        Ok((component.len() as u64 == record.size_bytes).then_some(component))
    }

    /// Deletes a version of a tenant's own plugin.
    pub async fn delete_version(
        &self,
        tenant: &TenantId,
        name: &PluginName,
        version: Version,
    ) -> Result<(), PluginError> {
        let mut tx = self.begin_for(tenant).await?;
        own(&mut tx, tenant, name).await?;
        not_attached(&mut tx, tenant, name, Some(version)).await?;
        let mut deleted = 0;
        for statement in [
            "DELETE FROM plugin_usage WHERE tenant_id = $1 AND plugin = $2 AND version = $3",
            "DELETE FROM plugin_versions WHERE tenant_id = $1 AND plugin = $2 AND version = $3",
        ] {
            let done = sqlx::query(statement)
                .bind(tenant.as_str())
                .bind(name.as_str())
                .bind(version.to_string())
                .execute(&mut *tx)
                .await?;
            deleted = done.rows_affected();
        }
        if deleted == 0 {
            return Err(PluginError::NotFound);
        }
        Ok(tx.commit().await?)
    }

    /// Makes this the newest version of a built-in plugin, unless it is there already. Older ones stay, for those who
    /// attached them.
    pub async fn keep_built_in(&self, name: &PluginName, component: Bytes) -> Result<Version, StoreError> {
        let version = digest(component.clone()).await;
        let now = self.clock.now();
        let of = Of { owner: BUILT_IN, plugin: name, version };
        // Nobody deletes built-in versions, so parts that were put stay.
        self.put_component(of, &component).await?;
        let mut tx = self.begin().await?;
        sqlx::query("INSERT INTO plugins (tenant_id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(BUILT_IN)
            .bind(name.as_str())
            .bind(millis(now))
            .execute(&mut *tx)
            .await?;
        if find_version(&mut tx, BUILT_IN, name, version).await?.is_none() {
            insert_version(&mut tx, of, component.len(), now).await?;
        }
        tx.commit().await?;
        Ok(version)
    }
}

/// Whose plugin a tenant means by this name: its own, else the built-in one. `None`: no such.
async fn owner<'t>(
    connection: &mut AnyConnection,
    tenant: &'t TenantId,
    name: &PluginName,
) -> Result<Option<&'t str>, StoreError> {
    let owner: Option<String> = sqlx::query_scalar(
        "SELECT tenant_id FROM plugins WHERE tenant_id IN ($1, '') AND name = $2 ORDER BY tenant_id DESC LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(name.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(owner.map(|owner| if owner == BUILT_IN { BUILT_IN } else { tenant.as_str() }))
}

/// The tenant's own plugin is there to be changed.
async fn own(connection: &mut AnyConnection, tenant: &TenantId, name: &PluginName) -> Result<(), PluginError> {
    match owner(connection, tenant, name).await? {
        Some(BUILT_IN) => Err(PluginError::BuiltIn),
        Some(_) => Ok(()),
        None => Err(PluginError::NotFound),
    }
}

/// No endpoint has the plugin, or with a version that version, attached.
async fn not_attached(
    connection: &mut AnyConnection,
    tenant: &TenantId,
    name: &PluginName,
    version: Option<Version>,
) -> Result<(), PluginError> {
    let endpoints: i64 = sqlx::query_scalar(
        "SELECT COUNT(DISTINCT endpoint_id) FROM attachments
         WHERE tenant_id = $1 AND plugin = $2 AND ($3 IS NULL OR version = $3 OR baseline = $3)",
    )
    .bind(tenant.as_str())
    .bind(name.as_str())
    .bind(version.map(|version| version.to_string()))
    .fetch_one(connection)
    .await?;
    match u64::try_from(endpoints).unwrap_or(0) {
        0 => Ok(()),
        endpoints => Err(PluginError::Attached { endpoints }),
    }
}

/// Whether the tenant may attach this version.
pub(super) async fn is_there(
    connection: &mut AnyConnection,
    tenant: &TenantId,
    name: &PluginName,
    version: Version,
) -> Result<bool, StoreError> {
    let Some(owner) = owner(connection, tenant, name).await? else { return Ok(false) };
    Ok(find_version(connection, owner, name, version).await?.is_some())
}

async fn find_version(
    connection: &mut AnyConnection,
    owner: &str,
    name: &PluginName,
    version: Version,
) -> Result<Option<VersionRecord>, StoreError> {
    let row: Option<VersionRow> = sqlx::query_as(
        "SELECT version, number, size_bytes, created_at FROM plugin_versions
         WHERE tenant_id = $1 AND plugin = $2 AND version = $3",
    )
    .bind(owner)
    .bind(name.as_str())
    .bind(version.to_string())
    .fetch_optional(connection)
    .await?;
    row.map(record).transpose()
}

/// Whether a tenant's own plugin has this version already; if not, whether it may be added.
async fn check_version(
    connection: &mut AnyConnection,
    tenant: &TenantId,
    name: &PluginName,
    version: Version,
    size: usize,
) -> Result<Option<VersionRecord>, PluginError> {
    own(connection, tenant, name).await?;
    if let Some(there) = find_version(connection, tenant.as_str(), name, version).await? {
        return Ok(Some(there));
    }
    let (versions, bytes): (i64, i64) = sqlx::query_as(
        "SELECT COUNT(CASE WHEN plugin = $2 THEN 1 END), CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT)
         FROM plugin_versions WHERE tenant_id = $1",
    )
    .bind(tenant.as_str())
    .bind(name.as_str())
    .fetch_one(connection)
    .await?;
    if versions >= VERSIONS_LIMIT as i64 {
        return Err(PluginError::TooManyVersions);
    }
    if u64::try_from(bytes).unwrap_or(0) + size as u64 > COMPONENTS_LIMIT {
        return Err(PluginError::TooManyBytes);
    }
    Ok(None)
}

async fn insert_version(
    connection: &mut AnyConnection,
    of: Of<'_>,
    size: usize,
    now: Timestamp,
) -> Result<VersionRecord, StoreError> {
    let number: i64 = sqlx::query_scalar(
        "INSERT INTO plugin_versions (tenant_id, plugin, version, number, size_bytes, created_at)
         SELECT $1, $2, $3, COALESCE(MAX(number), 0) + 1, $4, $5 FROM plugin_versions
         WHERE tenant_id = $1 AND plugin = $2
         RETURNING number",
    )
    .bind(of.owner)
    .bind(of.plugin.as_str())
    .bind(of.version.to_string())
    .bind(size as i64)
    .bind(millis(now))
    .fetch_one(connection)
    .await?;
    Ok(VersionRecord { version: of.version, size_bytes: size as u64, created_at: now, number })
}

/// Hashing many MiB would keep this thread's other tasks waiting.
async fn digest(component: Bytes) -> Version {
    tokio::task::spawn_blocking(move || Version::of(&component)).await.expect("hashing does not panic")
}

fn plugin(row: PluginRow) -> Result<PluginRecord, StoreError> {
    const TABLE: &str = "plugins";
    let id = row.name.as_str();
    Ok(PluginRecord {
        name: parsed(TABLE, "name", id, id)?,
        built_in: row.tenant_id == BUILT_IN,
        created_at: timestamp(TABLE, "created_at", id, row.created_at)?,
        versions: u64::try_from(row.versions).unwrap_or(0),
        newest: row.newest.map(|version| parsed("plugin_versions", "version", &version, &version)).transpose()?,
    })
}

fn record(row: VersionRow) -> Result<VersionRecord, StoreError> {
    const TABLE: &str = "plugin_versions";
    let id = row.version.as_str();
    Ok(VersionRecord {
        version: parsed(TABLE, "version", id, id)?,
        size_bytes: u64::try_from(row.size_bytes).map_err(|_| unreadable(TABLE, "size_bytes", id))?,
        created_at: timestamp(TABLE, "created_at", id, row.created_at)?,
        number: row.number,
    })
}
