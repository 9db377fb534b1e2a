//! Rows that the API would take too long to make: a table full of finished deliveries, and how the statements that
//! matter are planned over it; a tenant's many endpoints.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use revnoxa_host::{
    clock::Clock,
    config::{MasterKey, MasterKeys},
    domain::{
        address::{AddressPolicy, EndpointUrl},
        header::CustomHeaders,
        id::TenantId,
        lanes::Limits,
    },
    store::{Handover, NewEndpoint, Store},
};
use revnoxa_tests::{HOW_TO_INSTALL, Machine, Postgres};
use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

use crate::receiver::Receiver;

/// Adds this many events of one a millisecond from `oldest`, each with a delivery to a tenant's first endpoint that succeeded. No
/// host must run on a file.
pub(crate) async fn fill(database: &str, rows: usize, oldest: Timestamp) {
    let (began, oldest) = (Instant::now(), oldest.as_millisecond());
    let connection = connect(database).await;
    let sqlite = connection.backend_name() == "SQLite";
    let numbers = match sqlite {
        true => format!("WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows})"),
        false => format!("WITH numbers AS (SELECT n FROM generate_series(1, {rows}) n)"),
    };
    let name = if sqlite { "printf('%026d', n)" } else { "lpad(n::text, 26, '0')" };
    let first = "(SELECT tenant_id, MIN(id) AS id, ROW_NUMBER() OVER (ORDER BY tenant_id) - 1 AS place, COUNT(*) OVER () AS places
                  FROM endpoints GROUP BY tenant_id) e ON n % places = place";
    let statements = vec![
        format!(
            "INSERT INTO events (tenant_id, id, event_type, body, deliveries, created_at) {numbers}
             SELECT e.tenant_id, 'evt_old_' || n, 'incident.created', '{{}}', 1, {oldest} + n FROM numbers JOIN {first}"
        ),
        format!(
            "INSERT INTO deliveries (tenant_id, id, endpoint_id, event_id, event_type, state, attempts, failures, claim,
                                     finished_at, created_at) {numbers}
             SELECT e.tenant_id, 'dlv_000000' || {name}, e.id, 'evt_old_' || n, 'incident.created', 'succeeded', 1, 0, 1,
                    {oldest} + n, {oldest} + n
             FROM numbers JOIN {first}"
        ),
        "INSERT INTO attempts (tenant_id, delivery_id, number, started_at, duration_ms, request_headers, status_code,
                               response_body, response_truncated)
         SELECT tenant_id, id, 1, created_at, 5, 'content-type: application/json', 200, '', 0
         FROM deliveries WHERE event_id LIKE 'evt_old_%'"
            .to_owned(),
    ];
    execute(connection, statements).await;
    eprintln!("({rows} finished deliveries added in {:.0} s)", began.elapsed().as_secs_f64());
}

/// Makes a tenant with an active endpoint at each of these URLs. The API would test each and read all of them again
/// after it. The host's own store makes them, because what is secret of an endpoint is sealed for its row. A host may
/// run: it has read nothing of this tenant.
pub(crate) async fn add_endpoints(machine: &Machine, tenant: &str, urls: impl ExactSizeIterator<Item = String>) {
    let (began, count) = (Instant::now(), urls.len());
    let database = machine.setting("REVNOXA_DATABASE_URL");
    let key: MasterKey = machine.setting("REVNOXA_MASTER_KEY").parse().unwrap();
    let lanes = Arc::new(Handover::new(Limits { in_flight: 1, per_endpoint: 1 }));
    let store = Store::open(&database, &MasterKeys::from(key), Clock::system(), lanes).await.unwrap();
    let id: TenantId = tenant.parse().unwrap();
    store.create_tenant(&id, "").await.unwrap().expect("nobody has this id");
    for url in urls {
        let new = NewEndpoint {
            url: EndpointUrl::parse(&url, AddressPolicy::AllowInsecure).unwrap(),
            description: String::new(),
            event_types: None,
            headers: CustomHeaders::default(),
        };
        store.create_endpoint(&id, new).await.unwrap().expect("a tenant may have so many");
    }
    store.close().await;
    let tested = format!("UPDATE endpoints SET state = 'active' WHERE tenant_id = '{tenant}'");
    execute(connect(&database).await, vec![tested]).await;
    eprintln!("({count} endpoints added in {:.0} s)", began.elapsed().as_secs_f64());
}

async fn connect(database: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(database).await.unwrap()
}

async fn execute(mut connection: AnyConnection, mut statements: Vec<String>) {
    // Else the server, or the next writer, would do so beside the load that is measured.
    match connection.backend_name() {
        "SQLite" => statements.push("PRAGMA wal_checkpoint(TRUNCATE)".to_owned()),
        _ => statements.extend(["VACUUM ANALYZE".to_owned(), "CHECKPOINT".to_owned()]),
    }
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

/// Prints PostgreSQL's plans over this many.
pub(crate) async fn plans(rows: usize) {
    let settings = ["shared_preload_libraries=auto_explain", "auto_explain.log_analyze=on", "max_wal_size=8GB"];
    let Some(server) = Postgres::start_with(&settings) else { return eprintln!("SKIPPED: {HOW_TO_INSTALL}") };
    let database = server.database();
    let machine = Machine::on(&database);
    let receiver = Receiver::start().await;
    {
        let _host = machine.serve().await;
        for number in 0..10 {
            let url = format!("http://127.0.0.1:{}/", receiver.ports.http);
            machine.tenant(&format!("tenant-{number}")).await.endpoint_with(json!({"url": url})).await;
        }
    }
    // Old enough to be deleted.
    fill(&database, rows, Timestamp::UNIX_EPOCH).await;
    explain(&server, &database).await;
}

/// Has a host claim, look for what is due, show a page of history and delete what is old, and prints the plans of it.
async fn explain(server: &Postgres, database: &str) {
    for statement in ["ALTER SYSTEM SET auto_explain.log_min_duration = 0", "SELECT pg_reload_conf()"] {
        Postgres::sql(database, statement);
    }
    let machine = Machine::on(database);
    let _host = machine.serve().await;
    let endpoint = &machine.operator().all("/v1/tenants/tenant-1/endpoints").await[0];
    let path = format!("/v1/tenants/tenant-1/endpoints/{}", endpoint["id"].as_str().unwrap());
    let page = Instant::now();
    let first = machine.operator().get(&format!("{path}/deliveries?limit=100")).await.expect(200);
    println!("first page of 100 of an endpoint's history: {:.1} ms", page.elapsed().as_secs_f64() * 1e3);
    let delivery = first["items"][0]["id"].as_str().unwrap();
    // Retried by hand it is claimed from the table.
    machine.operator().post(&format!("/v1/tenants/tenant-1/deliveries/{delivery}/retry"), json!({})).await.expect(202);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let log = server.log();
    for (what, mark) in [
        ("a claim", "FOR UPDATE SKIP LOCKED))"),
        ("when the next is due", "SELECT MIN(d.claimable_at)"),
        ("which endpoints have something due", "SELECT e.tenant_id, e.id, e.failing_since"),
        ("a page of history", "ORDER BY d.id DESC LIMIT"),
        ("an attempt recorded", "UPDATE deliveries SET state = v.column4"),
        ("events to delete", "SELECT v.id FROM events v"),
    ] {
        let plans = log.split("duration: ").filter(|entry| entry.contains("Query Text") && entry.contains(mark));
        if let Some(plan) = plans.last() {
            println!("\n{what}: {}", plan.split("\n2").next().unwrap_or(plan));
        }
    }
    let deleted = Postgres::sql(database, "SELECT COUNT(*) FROM events WHERE id LIKE 'evt_old_%'");
    println!("\nold events left after {:.0} s of retention: {deleted}", page.elapsed().as_secs_f64());
}
