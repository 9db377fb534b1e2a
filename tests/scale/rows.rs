//! A table full of finished deliveries, and how the statements that matter are planned over it.

use std::time::Instant;

use revnoxa_tests::{Machine, Postgres};
use serde_json::json;

/// Adds this many events, each with a delivery that succeeded.
pub(crate) fn fill(database: &str, rows: usize) {
    let began = Instant::now();
    Postgres::sql(
        database,
        &format!(
            "INSERT INTO events (tenant_id, id, event_type, body, deliveries, created_at)
             SELECT 'tenant-' || n % 10, 'evt_old_' || n, 'incident.created', '{{}}', 1, 1700000000000 + n
             FROM generate_series(1, {rows}) n;
             INSERT INTO deliveries (tenant_id, id, endpoint_id, event_id, event_type, state, attempts, failures, claim,
                                     finished_at, created_at)
             SELECT e.tenant_id, 'dlv_' || lpad(n::text, 26, '0'), e.id, 'evt_old_' || n, 'incident.created', 'succeeded', 1, 0, 1,
                    1700000000000 + n, 1700000000000 + n
             FROM generate_series(1, {rows}) n JOIN endpoints e ON e.tenant_id = 'tenant-' || n % 10;
             INSERT INTO attempts (tenant_id, delivery_id, number, started_at, duration_ms, request_headers, status_code,
                                   response_body, response_truncated)
             SELECT tenant_id, id, 1, created_at, 5, 'content-type: application/json', 200, '', 0
             FROM deliveries WHERE id LIKE 'dlv_0000%'"
        ),
    );
    // Else the server would do so beside the load that is measured.
    for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
        Postgres::sql(database, statement);
    }
    let size = Postgres::sql(database, "SELECT pg_size_pretty(pg_database_size(current_database()))");
    println!("{rows} finished deliveries added in {:.0} s; the database has {size}", began.elapsed().as_secs_f64());
}

/// Has a host claim, look for what is due, show a page of history and delete what is old, and prints the plans of it.
pub(crate) async fn explain(server: &Postgres, database: &str) {
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
