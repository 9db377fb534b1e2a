//! The one database of a run, and what can go wrong with a commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe};

use super::at;
use crate::clock::Clock;
use crate::domain::address::{AddressPolicy, EndpointUrl};
use crate::domain::header::CustomHeaders;
use crate::domain::id::{EndpointId, TenantId};
use crate::domain::lanes::Limits;
use crate::store::database::{Database, Kind, SQLITE, sqlite_path};
use crate::store::direct::Direct;
use crate::store::group::{Effects, Group, PART_ENDPOINTS};
use crate::store::tests::{Folder, keys};
use crate::store::{Handover, NewEndpoint, Store, StoreError};

/// Tenants, and how many endpoints each has. An event for the last is written in parts.
const TENANTS: [(&str, usize); 3] = [("acme", 2), ("globex", 1), ("initech", PART_ENDPOINTS + 5)];
/// No endpoint fails this long.
const DISABLE_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// As long as `refusing` has a row, a transaction that changes deliveries comes to its end and is then refused.
const REFUSAL: [&str; 5] = [
    "CREATE TABLE nobody (id INTEGER PRIMARY KEY)",
    "CREATE TABLE refused (id INTEGER REFERENCES nobody (id) DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE refusing (id INTEGER)",
    "CREATE TRIGGER refuse_new AFTER INSERT ON deliveries WHEN EXISTS (SELECT 1 FROM refusing)
     BEGIN INSERT INTO refused VALUES (1); END",
    "CREATE TRIGGER refuse_change AFTER UPDATE ON deliveries WHEN EXISTS (SELECT 1 FROM refusing)
     BEGIN INSERT INTO refused VALUES (1); END",
];

/// The database that all hosts share.
pub(super) struct Table {
    pool: AnyPool,
    folder: Folder,
    pub(super) tenants: Vec<(TenantId, Vec<EndpointId>)>,
}

/// A delivery as it stands in the table.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) tenant_id: String,
    pub(super) endpoint_id: String,
    pub(super) event_id: String,
    pub(super) state: String,
    pub(super) attempts: i64,
    pub(super) failures: i64,
    pub(super) next_attempt_at: Option<i64>,
    pub(super) claimable_at: Option<i64>,
    pub(super) claim: i64,
}

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is through.
    Through,
    /// It is refused at its end.
    Refused,
    /// It is through, and its host hears of an error.
    Unheard,
    /// It is refused because of another, and made again.
    Conflict,
    /// The database is out of reach.
    OutOfReach,
}

impl Table {
    pub(super) async fn new() -> Self {
        sqlx::any::install_default_drivers();
        // Of what is lost with a machine there are other tests: where there is memory to put it in, it goes there.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { Folder::below(memory) } else { Folder::new() };
        let pool = AnyPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .connect(&format!("{}?mode=rwc", folder.url()))
            .await
            .unwrap();
        for pragma in ["journal_mode = WAL", "synchronous = OFF"] {
            sqlx::query(AssertSqlSafe(format!("PRAGMA {pragma}"))).execute(&pool).await.unwrap();
        }
        SQLITE.run(&pool).await.unwrap();
        for statement in REFUSAL {
            sqlx::query(statement).execute(&pool).await.unwrap();
        }
        let mut table = Self { pool, folder, tenants: Vec::new() };
        let (clock, _hand) = Clock::manual(at(0));
        let store = table.store(clock, Limits { in_flight: 1, per_endpoint: 1 }, false);
        store.check_master_keys().await.unwrap();
        for (tenant, endpoints) in TENANTS {
            let tenant: TenantId = tenant.parse().unwrap();
            store.create_tenant(&tenant, "").await.unwrap().unwrap();
            let mut ids = Vec::new();
            for _ in 0..endpoints {
                ids.push(endpoint(&store, &tenant).await);
            }
            table.tenants.push((tenant, ids));
        }
        table
    }

    /// Forgets the run before.
    pub(super) async fn clear(&self) {
        for statement in [
            "DELETE FROM attempts",
            "DELETE FROM deliveries",
            "DELETE FROM events",
            "UPDATE endpoints SET failing_since = NULL",
        ] {
            sqlx::query(statement).execute(&self.pool).await.unwrap();
        }
    }

    /// What a host that starts opens. `direct`: it writes plain groups beside the driver.
    pub(super) fn store(&self, clock: Clock, limits: Limits, direct: bool) -> Arc<Store> {
        let pool = || self.pool.clone();
        let direct = direct.then(|| Direct::new(&sqlite_path(&self.folder.url())));
        let database = Database { kind: Kind::Sqlite, read: pool(), browse: pool(), write: pool(), direct };
        Arc::new(Store::over(database, &keys(1, &[]), clock, Arc::new(Handover::new(limits))))
    }

    pub(super) fn endpoints(&self) -> impl Iterator<Item = EndpointId> {
        self.tenants.iter().flat_map(|(_, endpoints)| endpoints.iter().copied())
    }

    /// Commits a group. Gives what its host hears of it; `None`: an error.
    pub(super) async fn commit(&self, store: &Store, group: &mut Group, fate: Fate) -> Option<Effects> {
        let mut connection = self.pool.acquire().await.unwrap();
        match fate {
            Fate::Through => Some(through(store, group, &mut connection).await),
            Fate::Unheard => {
                through(store, group, &mut connection).await;
                None
            }
            Fate::Refused => refused(store, group, &mut connection).await,
            Fate::Conflict => match refused(store, group, &mut connection).await {
                Some(effects) => Some(effects),
                None => {
                    group.rewind(store);
                    Some(through(store, group, &mut connection).await)
                }
            },
            Fate::OutOfReach => None,
        }
    }

    /// All deliveries, in the order they were made.
    pub(super) async fn rows(&self) -> Vec<Row> {
        sqlx::query_as(
            "SELECT id, tenant_id, endpoint_id, event_id, state, attempts, failures, next_attempt_at, claimable_at, claim
             FROM deliveries ORDER BY id",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Events that do not say how many deliveries they have.
    pub(super) async fn miscounted(&self) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT id FROM events WHERE deliveries <> (SELECT COUNT(*) FROM deliveries d
             WHERE d.tenant_id = events.tenant_id AND d.event_id = events.id)",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// How many lines the history of each delivery has.
    pub(super) async fn history(&self) -> BTreeMap<String, i64> {
        let lines: Vec<(String, i64)> =
            sqlx::query_as("SELECT delivery_id, COUNT(*) FROM attempts GROUP BY delivery_id")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        lines.into_iter().collect()
    }
}

async fn through(store: &Store, group: &mut Group, connection: &mut AnyConnection) -> Effects {
    attempt(store, group, connection).await.expect("nothing is wrong with the database")
}

/// `None`: it was refused; what changes no delivery is not.
async fn refused(store: &Store, group: &mut Group, connection: &mut AnyConnection) -> Option<Effects> {
    sqlx::query("INSERT INTO refusing VALUES (1)").execute(&mut *connection).await.unwrap();
    let effects = attempt(store, group, connection).await;
    sqlx::query("DELETE FROM refusing").execute(&mut *connection).await.unwrap();
    effects.ok()
}

/// As a writer does: what was overtaken shows at the first try, and is left out of the second.
async fn attempt(store: &Store, group: &mut Group, connection: &mut AnyConnection) -> Result<Effects, StoreError> {
    if let Some(effects) = Box::pin(group.commit(store, connection, DISABLE_AFTER)).await? {
        return Ok(effects);
    }
    group.rewind(store);
    let effects = Box::pin(group.commit(store, connection, DISABLE_AFTER)).await?;
    Ok(effects.expect("it looked first"))
}

async fn endpoint(store: &Store, tenant: &TenantId) -> EndpointId {
    let new = NewEndpoint {
        url: EndpointUrl::parse("https://example.com/", AddressPolicy::PublicOnly).unwrap(),
        description: String::new(),
        event_types: None,
        headers: CustomHeaders::default(),
    };
    let (endpoint, _) = store.create_endpoint(tenant, new).await.unwrap().unwrap();
    store.record_test(&endpoint, None).await.unwrap();
    endpoint.id
}
