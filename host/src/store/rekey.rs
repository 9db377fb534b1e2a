//! Which master key values are sealed under, and how another takes its place while hosts go on.
//!
//! The installation has one key, and whoever seals looks it up in the transaction that stores the value. A rekey makes `master_key`
//! that key, and notes the one before it: from that commit on nothing is sealed under the one before any more. Then it seals in small
//! batches what still is, and last it takes the note away. Cut short, the next one goes on; two at once do no harm.

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::AnyConnection;

use super::database::{self, Kind, Sql, locking};
use super::seal::{Closed, Key};
use super::sized::Sized;
use super::{OpenError, Store, StoreError, attachments, endpoints, parsed};
use crate::config::KeyId;
use crate::domain::id::TenantId;

/// Endpoints whose values are sealed again at once.
const ENDPOINTS: i64 = 64;
/// Attachments of which the same is said; each may have 64 KiB of settings.
const ATTACHMENTS: i64 = 16;
/// Between two batches, so that deliveries get their turn to write.
const BREATH: Duration = Duration::from_millis(20);

/// Where the known text stands that tells the key of the installation; the one before it is told in the same way.
const PLACE: [&str; 1] = ["installation.key_check"];
const TEXT: &[u8] = b"revnoxa";

/// Whoever seals under the key keeps it from being replaced until the value is stored.
const KEY_TO_SEAL: Sql = locking!("SELECT key_check FROM installation", "FOR SHARE");

/// Why the master key was not replaced, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// A host that runs now would not be able to read what is sealed under the new key.
    #[error(
        "a host that serves this database does not know the master key {0} yet: restart every host with it as `master_key` and the old one in `previous_master_keys`, then try again"
    )]
    UnknownToHost(KeyId),
    /// The database is not to be changed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RekeyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What a rekey came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rekeyed {
    /// The key that everything is sealed under.
    pub key: KeyId,
    /// How many values were sealed again.
    pub sealed: u64,
    /// Values that no key opens: they are as they were, and named in the log.
    pub unreadable: u64,
}

/// What the installation's row tells of keys.
struct Installation<'s> {
    key: &'s Key,
    key_check: Vec<u8>,
    /// Values may still be sealed under this one; `None`: there are none.
    before: Option<(&'s Key, Vec<u8>)>,
}

impl Store {
    /// Whether this store's keys are the database's; in a new database `master_key` is made its key.
    pub(super) async fn check_master_keys(&self) -> Result<(), OpenError> {
        let mut tx = self.begin().await?;
        // Of several hosts that start on a new database at once one is first, and the others check theirs against it.
        sqlx::query("INSERT INTO installation (one, key_check, created_at) VALUES (1, $1, $2) ON CONFLICT DO NOTHING")
            .bind(self.sealer.current().seal(&PLACE, TEXT))
            .bind(self.clock.now().as_millisecond())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::from)?;
        self.installation(&mut tx).await?;
        Ok(tx.commit().await.map_err(StoreError::from)?)
    }

    /// Says so where a rekey is due, or was cut short.
    pub(super) async fn remind_of_rekey(&self) -> Result<(), OpenError> {
        let mut connection = self.read.acquire().await.map_err(StoreError::from)?;
        let installation = self.installation(&mut connection).await?;
        if !installation.key.is(self.sealer.current()) {
            let key = installation.key.id();
            tracing::warn!(%key, "values are sealed under a previous master key until `revnoxa-host rekey` is run");
        } else if let Some((before, _)) = installation.before {
            let key = before.id();
            tracing::warn!(%key, "some values are sealed under a previous master key: `revnoxa-host rekey` is not through");
        }
        Ok(())
    }

    /// The key that a value is to be sealed under which this transaction stores.
    pub(super) async fn key_to_seal(&self, connection: &mut AnyConnection) -> Result<&Key, StoreError> {
        let statement = KEY_TO_SEAL.on(self.kind);
        let key_check: Vec<u8> = sqlx::query_scalar(statement).fetch_one(connection).await?;
        self.key_of(&key_check).map_err(|closed| closed.at("installation", "key_check", "1"))
    }

    /// Makes `master_key` the key that everything is sealed under. `url` is the database's; `sealed` is told of each batch.
    pub async fn rekey(&self, url: &str, mut sealed: impl FnMut(u64)) -> Result<Rekeyed, RekeyError> {
        self.check_not_moving().await?;
        let current = self.sealer.current();
        let mut rekeyed = Rekeyed { key: current.id(), sealed: 0, unreadable: 0 };
        loop {
            let installation = self.installation(&mut *self.write.acquire().await?).await?;
            if let Some((_, before)) = &installation.before {
                rekeyed.unreadable = 0;
                let mut again = Again { store: self, key: installation.key, rekeyed: &mut rekeyed };
                again.seal_endpoints(&mut sealed).await?;
                again.seal_attachments(&mut sealed).await?;
                self.forget_key_before(&installation.key_check, before).await?;
            } else if !installation.key.is(current) {
                self.check_hosts_know(url, current.id()).await?;
                self.take_key(&installation.key_check).await?;
            } else {
                return Ok(rekeyed);
            }
        }
    }

    async fn installation(&self, connection: &mut AnyConnection) -> Result<Installation<'_>, OpenError> {
        let row = sqlx::query_as("SELECT key_check, previous_key_check FROM installation").fetch_one(connection);
        let (key_check, before): (Vec<u8>, Option<Vec<u8>>) = row.await.map_err(StoreError::from)?;
        let key = self.key_of(&key_check).map_err(|closed| OpenError::WrongMasterKey(closed.key()))?;
        let before = match before {
            Some(check) => {
                let key = self.key_of(&check).map_err(|closed| OpenError::MissingMasterKey(closed.key()))?;
                Some((key, check))
            }
            None => None,
        };
        Ok(Installation { key, key_check, before })
    }

    fn key_of(&self, key_check: &[u8]) -> Result<&Key, Closed> {
        match self.sealer.open(&PLACE, key_check)? {
            (key, text) if text == TEXT => Ok(key),
            _ => Err(Closed::Unreadable),
        }
    }

    /// From the commit of this on, `master_key` is what values are sealed under, on all hosts.
    async fn take_key(&self, key_check: &[u8]) -> Result<(), StoreError> {
        let key = self.sealer.current();
        // Waits for those who seal under the key before; whoever comes later sees the new one.
        let taken = sqlx::query(
            "UPDATE installation SET previous_key_check = key_check, key_check = $1
             WHERE previous_key_check IS NULL AND key_check = $2",
        )
        .bind(key.seal(&PLACE, TEXT))
        .bind(key_check)
        .execute(&self.write)
        .await?;
        if taken.rows_affected() == 1 {
            tracing::info!(key = %key.id(), "values are sealed under this master key from now on");
        }
        Ok(())
    }

    /// Nothing is sealed under the key before any more.
    async fn forget_key_before(&self, key_check: &[u8], before: &[u8]) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE installation SET previous_key_check = NULL WHERE key_check = $1 AND previous_key_check = $2",
        )
        .bind(key_check)
        .bind(before)
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// Hosts leave the names of their keys where others see them: on PostgreSQL in the names of their connections, on SQLite in the
    /// lock file.
    async fn check_hosts_know(&self, url: &str, key: KeyId) -> Result<(), RekeyError> {
        let all_know = match self.kind {
            Kind::Sqlite => database::note_of_holder(url)?.is_none_or(|note| note.contains(&key.to_string())),
            Kind::Postgres => {
                let ignorant = sqlx::query_scalar(
                    "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
                     AND application_name LIKE 'revnoxa-host%' AND application_name NOT LIKE $1",
                );
                let ignorant: i64 = ignorant.bind(format!("%{key}%")).fetch_one(&self.write).await?;
                ignorant == 0
            }
        };
        if all_know { Ok(()) } else { Err(RekeyError::UnknownToHost(key)) }
    }
}

/// Seals again what is not under `key`.
struct Again<'a> {
    store: &'a Store,
    key: &'a Key,
    rekeyed: &'a mut Rekeyed,
}

#[derive(sqlx::FromRow)]
struct EndpointRow {
    tenant_id: String,
    id: String,
    headers: Vec<u8>,
    secret: Vec<u8>,
    previous_secret: Option<Vec<u8>>,
}

#[derive(sqlx::FromRow)]
struct AttachmentRow {
    tenant_id: String,
    endpoint_id: String,
    position: i64,
    settings: Vec<u8>,
}

/// A value, and what is to stand in its place.
struct Replaced {
    tenant: String,
    endpoint: String,
    /// `None`: it is a value of the endpoint's own.
    attachment: Option<i64>,
    sealed: Vec<u8>,
    again: Vec<u8>,
}

impl Again<'_> {
    async fn seal_endpoints(&mut self, sealed: &mut impl FnMut(u64)) -> Result<(), StoreError> {
        // What is replaced by somebody else meanwhile is sealed under the key already: it stays as they made it.
        static UPDATES: LazyLock<[(&str, Sized); 3]> = LazyLock::new(|| {
            ["headers", "secret", "previous_secret"].map(|column| {
                let head = format!("UPDATE endpoints SET {column} = v.column4 FROM (VALUES");
                let tail = format!(
                    ") AS v WHERE endpoints.tenant_id = v.column1 AND endpoints.id = v.column2
                       AND endpoints.{column} = v.column3"
                );
                (column, Sized::new(&head, 4, &tail))
            })
        });
        let mut last = (String::new(), String::new());
        loop {
            let rows: Vec<EndpointRow> = sqlx::query_as(
                "SELECT tenant_id, id, headers, secret, previous_secret FROM endpoints
                 WHERE (tenant_id, id) > ($1, $2) ORDER BY tenant_id, id LIMIT $3",
            )
            .bind(last.0)
            .bind(last.1)
            .bind(ENDPOINTS)
            .fetch_all(&self.store.browse)
            .await?;
            let Some(row) = rows.last() else { return Ok(()) };
            last = (row.tenant_id.clone(), row.id.clone());
            for (column, update) in UPDATES.iter() {
                let column = *column;
                let mut values = Vec::with_capacity(rows.len());
                for row in &rows {
                    let value = match column {
                        "headers" => Some(&row.headers),
                        "secret" => Some(&row.secret),
                        _ => row.previous_secret.as_ref(),
                    };
                    let Some(value) = value else { continue };
                    let tenant: TenantId = parsed("endpoints", "tenant_id", &row.id, &row.tenant_id)?;
                    let place = endpoints::place(column, &tenant, &row.id);
                    values.extend(self.again(("endpoints", column, &row.id), &place, value).map(|again| Replaced {
                        tenant: row.tenant_id.clone(),
                        endpoint: row.id.clone(),
                        attachment: None,
                        sealed: value.clone(),
                        again,
                    }));
                }
                sealed(self.replace(update, &values).await?);
            }
            tokio::time::sleep(BREATH).await;
        }
    }

    async fn seal_attachments(&mut self, sealed: &mut impl FnMut(u64)) -> Result<(), StoreError> {
        static UPDATE: LazyLock<Sized> = LazyLock::new(|| {
            let head = "UPDATE attachments SET settings = v.column5 FROM (VALUES";
            let tail = ") AS v WHERE attachments.tenant_id = v.column1 AND attachments.endpoint_id = v.column2
                          AND attachments.position = v.column3 AND attachments.settings = v.column4";
            Sized::new(head, 5, tail)
        });
        let mut last = (String::new(), String::new(), 0_i64);
        loop {
            let rows: Vec<AttachmentRow> = sqlx::query_as(
                "SELECT tenant_id, endpoint_id, position, settings FROM attachments
                 WHERE (tenant_id, endpoint_id, position) > ($1, $2, $3)
                 ORDER BY tenant_id, endpoint_id, position LIMIT $4",
            )
            .bind(last.0)
            .bind(last.1)
            .bind(last.2)
            .bind(ATTACHMENTS)
            .fetch_all(&self.store.browse)
            .await?;
            let Some(row) = rows.last() else { return Ok(()) };
            last = (row.tenant_id.clone(), row.endpoint_id.clone(), row.position);
            let mut values = Vec::with_capacity(rows.len());
            for row in rows {
                let tenant: TenantId = parsed("attachments", "tenant_id", &row.endpoint_id, &row.tenant_id)?;
                let position = row.position.to_string();
                let place = attachments::place(&tenant, &row.endpoint_id, &position);
                let again = self.again(("attachments", "settings", &row.endpoint_id), &place, &row.settings);
                values.extend(again.map(|again| Replaced {
                    tenant: row.tenant_id,
                    endpoint: row.endpoint_id,
                    attachment: Some(row.position),
                    sealed: row.settings,
                    again,
                }));
            }
            sealed(self.replace(&UPDATE, &values).await?);
            tokio::time::sleep(BREATH).await;
        }
    }

    /// What is to stand in the place instead; `None`: what is there is sealed under the key, or does not open. `of` is its table, its
    /// column and its row.
    fn again(&mut self, of: (&'static str, &'static str, &str), place: &[&str], sealed: &[u8]) -> Option<Vec<u8>> {
        match self.store.sealer.open(place, sealed) {
            Ok((key, _)) if key.is(self.key) => None,
            Ok((_, text)) => Some(self.key.seal(place, &text)),
            Err(closed) => {
                let error = closed.at(of.0, of.1, of.2);
                tracing::error!(error = &error as &dyn std::error::Error, "it is left as it is");
                self.rekeyed.unreadable += 1;
                None
            }
        }
    }

    /// How many values were replaced: those that were still as they were read.
    async fn replace(&mut self, update: &Sized, values: &[Replaced]) -> Result<u64, StoreError> {
        let before = self.rekeyed.sealed;
        // What was replaced before a conflict is not as it was read any more: it is not replaced twice.
        while let Err(error) = self.try_replace(update, values).await {
            if !error.is_conflict() {
                return Err(error);
            }
            tokio::time::sleep(BREATH).await;
        }
        Ok(self.rekeyed.sealed - before)
    }

    async fn try_replace(&mut self, update: &Sized, values: &[Replaced]) -> Result<(), StoreError> {
        for (mut query, values) in update.over(self.store.kind, values) {
            for value in values {
                query = query.bind(value.tenant.clone()).bind(value.endpoint.clone());
                if let Some(position) = value.attachment {
                    query = query.bind(position);
                }
                query = query.bind(value.sealed.clone()).bind(value.again.clone());
            }
            self.rekeyed.sealed += query.execute(&self.store.write).await?.rows_affected();
        }
        Ok(())
    }
}
