//! Every migration over what a host wrote before there was the next one.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, Connection, SqlSafeStr, SqliteConnection};

use super::*;
use crate::domain::plugin::PluginName;
use crate::store::database::{SQLITE, migrate_sqlite};
use crate::store::seal::Sealer;

const SECRET: &str = "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

#[tokio::test]
async fn what_the_first_schema_held_is_there_under_the_newest() {
    let folder = Folder::new();
    let mut old = SqliteConnection::connect(&format!("{}?mode=rwc", folder.url())).await.unwrap();
    SQLITE.run_to(1, &mut old).await.unwrap();
    let now = at(NOW);
    let (acme, endpoint): (TenantId, _) = ("acme".parse().unwrap(), crate::domain::id::EndpointId::new(now));
    let (finished, waiting) = (crate::domain::id::DeliveryId::new(now), crate::domain::id::DeliveryId::new(now));
    let sealer = Sealer::new(&keys(1, &[]));
    let (id, sealed) = (endpoint.to_string(), |column, text: &str| {
        sealer.seal_nameless(&[column, "acme", &endpoint.to_string()], text.as_bytes())
    });
    sqlx::query("INSERT INTO tenants VALUES ('acme', 'Acme', 0, 7, NULL)").execute(&mut old).await.unwrap();
    sqlx::query(
        "INSERT INTO endpoints (tenant_id, id, url, description, headers, secret, state, created_at)
         VALUES ('acme', $1, 'https://example.com/', 'ours', $2, $3, 'active', 0)",
    )
    .bind(&id)
    .bind(sealed("headers", r#"[["x-team","a"]]"#))
    .bind(sealed("secret", SECRET))
    .execute(&mut old)
    .await
    .unwrap();
    sqlx::query("INSERT INTO events VALUES ('acme', 'evt_1', 'incident.created', $1, NULL, 2, 0)")
        .bind(b"{\"old\":1}".as_slice())
        .execute(&mut old)
        .await
        .unwrap();
    for (delivery, state, attempts, due) in [(finished, "succeeded", 1, None), (waiting, "pending", 0, Some(0))] {
        sqlx::query(
            "INSERT INTO deliveries VALUES ('acme', $1, $2, 'evt_1', 'incident.created', $3, $4, 0, $5, $5, 1, 0, 0)",
        )
        .bind(delivery.to_string())
        .bind(&id)
        .bind(state)
        .bind(attempts)
        .bind(due)
        .execute(&mut old)
        .await
        .unwrap();
    }
    sqlx::query("INSERT INTO attempts VALUES ('acme', $1, 1, 0, 12, 'a: b', 200, $2, 0, NULL)")
        .bind(finished.to_string())
        .bind(b"thanks".as_slice())
        .execute(&mut old)
        .await
        .unwrap();
    old.close().await.unwrap();

    let (clock, _hand) = Clock::manual(now);
    let store = open(&folder, &clock).await;
    let read = store.endpoint(&acme, endpoint).await.unwrap().unwrap();
    assert_eq!((read.description.as_str(), read.plugins.len()), ("ours", 0));
    assert_eq!(read.headers.iter().collect::<Vec<_>>(), [("x-team", "a")]);
    let history = store.delivery_with_history(&acme, finished).await.unwrap().unwrap();
    assert_eq!((history.delivery.state.as_str(), history.delivery.state_reason), ("succeeded", None));
    assert_eq!(history.body, b"{\"old\":1}");
    assert_eq!(history.attempts[0].response_body.as_deref(), Some(b"thanks".as_slice()));
    assert_eq!(history.runs, []);
    assert_eq!(store.output(&acme, finished).await.unwrap(), None);
    assert_eq!(store.hours_of_endpoint(&acme, endpoint, Timestamp::MIN).await.unwrap(), [], "counted from now on");

    // Delivering goes on, and plugins can be had.
    let (writer, tasks) = WriterTask::new(store.clone(), Duration::from_mins(1), Duration::from_hours(120));
    let stop = CancellationToken::new();
    for task in tasks {
        tokio::spawn(task.run(stop.clone()));
    }
    store.flag_endpoints_with_due_deliveries().await.unwrap();
    let name: PluginName = "mine".parse().unwrap();
    store.create_plugin(&acme, &name).await.unwrap();
    let version = store.add_version(&acme, &name, Bytes::from_static(b"bytes")).await.unwrap().0.version;
    store.attach(&acme, endpoint, vec![attachment(&name, version, "{}")]).await.unwrap();
    let world = World { store, writer, clock, hand: _hand, acme, _stop: stop.drop_guard(), folder };
    let leased = world.leased().await;
    assert_eq!((leased.id, leased.transformed, &leased.body[..]), (waiting, false, b"{\"old\":1}".as_slice()));
}

#[tokio::test]
async fn components_of_the_second_schema_are_whole_under_the_newest() {
    let folder = Folder::new();
    let mut old = SqliteConnection::connect(&format!("{}?mode=rwc", folder.url())).await.unwrap();
    SQLITE.run_to(2, &mut old).await.unwrap();
    sqlx::query("INSERT INTO tenants VALUES ('acme', 'Acme', 0, 7, NULL)").execute(&mut old).await.unwrap();
    sqlx::query("INSERT INTO plugins VALUES ('acme', 'mine', 0)").execute(&mut old).await.unwrap();
    let components = [1, 1 << 20, (1 << 20) + 1, 32 << 20].map(|size| vec![b'a'; size]);
    for (number, component) in (1..).zip(&components) {
        sqlx::query("INSERT INTO plugin_versions VALUES ('acme', 'mine', $1, $2, $3, 0, $4)")
            .bind(Version::of(component).to_string())
            .bind(number)
            .bind(component.len() as i64)
            .bind(component)
            .execute(&mut old)
            .await
            .unwrap();
    }
    old.close().await.unwrap();

    let store = open(&folder, &Clock::manual(at(NOW)).0).await;
    for component in components {
        let read = store.component(&"acme".parse().unwrap(), &"mine".parse().unwrap(), Version::of(&component)).await;
        assert_eq!(read.unwrap().map(Vec::from), Some(component));
    }
}

#[tokio::test]
async fn migrations_cut_short_leave_all_as_it_was_and_the_next_start_makes_them() {
    const TABLES: &str = "SELECT COUNT(*) FROM sqlite_schema";
    const BODY: &[u8] = b"{\"old\":1}";
    let folder = Folder::new();
    let mut old = SqliteConnection::connect(&format!("{}?mode=rwc", folder.url())).await.unwrap();
    SQLITE.run_to(1, &mut old).await.unwrap();
    sqlx::query("INSERT INTO tenants VALUES ('acme', 'Acme', 0, 7, NULL)").execute(&mut old).await.unwrap();
    sqlx::query("INSERT INTO events VALUES ('acme', 'evt_1', 'incident.created', $1, NULL, 0, 0)")
        .bind(BODY)
        .execute(&mut old)
        .await
        .unwrap();
    let before: i64 = sqlx::query_scalar(TABLES).fetch_one(&mut old).await.unwrap();
    old.close().await.unwrap();

    let statements = "CREATE TABLE twice (a); CREATE TABLE twice (a)".into_sql_str();
    let broken = Migration::new(i64::MAX, "broken".into(), MigrationType::Simple, statements, false);
    let migrator = Migrator::with_migrations(SQLITE.iter().cloned().chain([broken]).collect());
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&folder.url()).await.unwrap();
    let failed = migrate_sqlite(&mut connection, &migrator).await;
    assert!(matches!(failed, Err(MigrateError::ExecuteMigration(_, i64::MAX))), "{failed:?}");
    let after: i64 = sqlx::query_scalar(TABLES).fetch_one(&mut connection).await.unwrap();
    assert_eq!(after, before, "all of them or none");
    connection.close().await.unwrap();

    let store = open(&folder, &Clock::manual(at(NOW)).0).await;
    let body: Vec<u8> = sqlx::query_scalar("SELECT body FROM events").fetch_one(&store.read).await.unwrap();
    assert_eq!(body, BODY);
}

/// One of them changes the text of the schema alone: <https://www.sqlite.org/lang_altertable.html#making_other_kinds_of_table_schema_changes>.
#[tokio::test]
async fn the_file_is_sound_and_takes_no_state_but_the_four() {
    let folder = Folder::new();
    let store = open(&folder, &Clock::manual(at(NOW)).0).await;
    let insert = |state: &'static str| {
        let row = sqlx::query(
            "INSERT INTO deliveries (tenant_id, id, endpoint_id, event_id, event_type, state, attempts, failures, claim, created_at)
             VALUES ('acme', $1, 'ep', 'evt', 'incident.created', $1, 1, 0, 1, 0)",
        );
        row.bind(state).execute(&store.write)
    };
    for state in ["pending", "succeeded", "failed", "dropped"] {
        insert(state).await.unwrap();
    }
    for state in ["lost", "", "Pending"] {
        let refused = insert(state).await.unwrap_err().to_string();
        assert!(refused.contains("CHECK"), "{state:?}: {refused}");
    }
    let checked: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&store.write).await.unwrap();
    assert_eq!(checked, "ok");
}
