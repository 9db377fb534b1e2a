//! Several hosts make the schema at once; one of them dies half-way, or a migration fails.

use revnoxa_tests::{Machine, Postgres, Receiver, eventually};
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::{database, host};

/// Where it is noted which migrations were made; as the host makes it.
const NOTES: &str = "CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY, description TEXT NOT NULL, installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL,
    checksum BYTEA NOT NULL, execution_time BIGINT NOT NULL)";

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_killed_half_way_is_made_by_the_host_that_waited() {
    let Some((_server, url)) = database() else { return };
    Postgres::sql(&url, NOTES);
    // The first migration's tables can be made, and its note waits for this.
    let holder = spawn_blocking({
        let url = url.clone();
        move || Postgres::try_sql(&url, "BEGIN; LOCK TABLE _sqlx_migrations IN SHARE MODE; SELECT pg_sleep(50)")
    });
    locks(&url, "mode = 'ShareLock' AND granted AND relation = '_sqlx_migrations'::regclass").await;
    let (one, other) = (host(&url), host(&url));
    let half_way = one.spawn(&["serve"]);
    locks(&url, "locktype = 'relation' AND NOT granted").await;
    let (_other, ()) = tokio::join!(other.serve(), async {
        locks(&url, "locktype = 'advisory' AND NOT granted").await;
        half_way.kill9().await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
        Postgres::sql(&url, end);
    });
    holder.await.unwrap().unwrap_err();
    let _one = one.serve().await;
    delivers(&one, &other).await;
    assert_eq!(Postgres::sql(&url, "SELECT bool_and(success) AND COUNT(*) > 1 FROM _sqlx_migrations"), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_is_reported_and_changes_nothing() {
    let Some((_server, url)) = database() else { return };
    let machine = host(&url);
    Postgres::sql(&url, "CREATE TABLE deliveries (of_somebody_else TEXT)");
    refuses(&machine, "cannot bring the schema of the database").await;
    let tables = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(Postgres::sql(&url, tables), "2", "this one, and that of the notes");
    Postgres::sql(&url, "DROP TABLE deliveries");
    let process = machine.serve().await;
    delivers(&machine, &machine).await;
    process.kill9().await;

    Postgres::sql(&url, "INSERT INTO _sqlx_migrations VALUES (9999999, 'later', now(), true, '', 0)");
    refuses(&machine, "belongs to a newer revnoxa-host").await;
}

async fn refuses(machine: &Machine, said: &str) {
    let refused = machine.run(&["serve"]).await;
    let printed = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{printed}");
    let url = machine.setting("REVNOXA_DATABASE_URL");
    let (_, name) = url.rsplit_once('/').unwrap();
    assert!(printed.contains(said) && printed.contains(name), "{said}: {printed}");
}

/// Waits until there is a lock like this.
async fn locks(url: &str, like: &str) {
    eventually(&format!("a lock: {like}"), async || {
        (Postgres::sql(url, &format!("SELECT COUNT(*) FROM pg_locks WHERE {like}")) != "0").then_some(())
    })
    .await;
}

/// An event posted to one host, of a tenant made on the other.
async fn delivers(one: &Machine, other: &Machine) {
    let receiver = Receiver::answering([200]).await;
    let tenant = one.tenant("acme").await;
    let endpoint = tenant.endpoint(&receiver).await;
    let event = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    let accepted = other.operator().post("/v1/events", event).await.expect(202);
    assert_eq!(accepted["deliveries"], 1, "{}", endpoint.id);
    receiver.wait_for(1).await;
}
