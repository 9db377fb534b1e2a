//! How PostgreSQL goes about what the host asks, on tables that were never analysed.

use revnoxa_tests::{Machine, Postgres, Receiver, eventually};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_finds_its_rows_by_an_index() {
    let explain =
        ["fsync=off", "shared_preload_libraries=auto_explain", "auto_explain.log_min_duration=0", "autovacuum=off"];
    let Some(server) = Postgres::start_with(&explain) else { return crate::skipped() };
    let database = server.database();
    let machine = Machine::on(&database).set("REVNOXA_RETRY_DELAYS", "1s,1s,1s,1s");
    let _host = machine.serve().await;
    let receiver = Receiver::answering([500, 500, 200]).await;
    let acme = machine.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let event = acme.event("incident.created", json!({})).await;
    // Its retries are claimed from the table.
    endpoint.delivery_in("succeeded", &event).await;
    endpoint.get("/deliveries?limit=10&state=failed").await.expect(200);
    let counted = "SELECT (SELECT SUM(succeeded + failed) FROM endpoint_hours) = (SELECT COUNT(*) FROM attempts)";
    eventually("its attempts to be counted", async || (Postgres::sql(&database, counted) == "t").then_some(())).await;
    endpoint.post("/recover", json!({"since": "2026-01-01T00:00:00Z"})).await.expect(202);
    endpoint.delete("").await.expect(204);
    machine.operator().delete("/v1/tenants/acme").await.expect(204);

    let claims = eventually("the plan of a claim", async || {
        let log = server.log();
        let claims: Vec<String> =
            plans(&log).filter(|plan| plan.contains("FOR UPDATE SKIP LOCKED))")).map(str::to_owned).collect();
        (!claims.is_empty()).then_some(claims)
    })
    .await;
    for claim in claims {
        assert!(claim.contains("Index Scan using deliveries_claimable"), "{claim}");
    }
    let log = server.log();
    let mut seen = 0;
    // Retention looks through all endpoints for what was deleted half, and the metrics for what is due, once in a while.
    let wholly = |plan: &&str| {
        ["_sqlx_migrations", "WHERE deleted_at IS NOT NULL\n", ") AS backlogs"].iter().any(|part| plan.contains(part))
    };
    for plan in plans(&log).filter(|plan| !wholly(plan) && !plan.contains(counted)) {
        seen += 1;
        for table in
            ["attempts", "deliveries", "endpoints", "events", "plugin_runs", "component_parts", "endpoint_hours"]
        {
            assert!(!plan.contains(&format!("Seq Scan on {table}")), "{plan}");
        }
        // Nor does it read all that a tenant has; where a group has no attempts, it reads nothing.
        if plan.contains("deliveries.id = v.") && !plan.contains("One-Time Filter: false") {
            assert!(plan.contains("using deliveries_pkey"), "{plan}");
        }
        if plan.contains("CROSS JOIN events e ") {
            assert!(plan.contains("using events_by_id"), "{plan}");
        }
    }
    assert!(seen > 50, "{seen} plans");
}

/// Plans are kept that were made for empty tables, and autovacuum comes after a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_young_database_is_analysed_as_it_grows() {
    let Some(server) = Postgres::start_with(&["fsync=off", "autovacuum=off"]) else { return crate::skipped() };
    let database = server.database();
    let machine = Machine::on(&database);
    let _host = machine.serve().await;
    let receiver = Receiver::answering([200]).await;
    let acme = machine.tenant("acme").await;
    acme.endpoint(&receiver).await;
    let known = || -> i64 {
        let rows = "SELECT CAST(reltuples AS BIGINT) FROM pg_class WHERE oid = to_regclass('deliveries')";
        Postgres::sql(&database, rows).parse().unwrap()
    };
    assert_eq!(known(), -1, "never analysed");
    // It looks anew when the file is twice as large, dead rows included.
    for (batches, rows) in [(1, 500), (4, 1_500)] {
        let event = json!({"tenant": "acme", "type": "incident.created", "data": {}});
        for _ in 0..batches {
            let batch = json!({"events": vec![event.clone(); 1_000]});
            machine.operator().post("/v1/events/batch", batch).await.expect(202);
        }
        eventually("the planner to know of them", async || (known() >= rows).then_some(())).await;
    }
}

fn plans(log: &str) -> impl Iterator<Item = &str> {
    log.split("duration: ").filter(|entry| entry.contains("Query Text"))
}
