//! `move`: everything that a SQLite installation holds is on PostgreSQL afterwards, also where it was cut short.

use revnoxa_tests::{Machine, Postgres, Receiver, eventually};
use serde_json::{Value, json};

const EVENTS: usize = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_move_killed_half_way_goes_on_and_nothing_is_lost() {
    let Some((_server, to)) = crate::database() else { return };
    let machine = Machine::on_a_file().set("REVNOXA_RETRY_DELAYS", "3s,1s,1s,1s");
    let from = machine.setting("REVNOXA_DATABASE_URL");
    let healthy = Receiver::answering([200]).await;
    let failing = Receiver::answering([500]).await;
    let mut host = machine.serve().await;
    let acme = machine.tenant("acme").await;
    let first = acme.endpoint(&healthy).await;
    let second = acme.endpoint(&failing).await;
    machine.operator().delete("/v1/event-types/hijacker.detected").await.expect(204);
    for batch in 0..EVENTS / 100 {
        let event = |n: usize| {
            json!({"tenant": "acme", "id": format!("evt_moved_{batch}_{n}"), "type": "incident.created",
                   "data": {"nul": "\0", "n": n}})
        };
        let events: Vec<Value> = (0..100).map(event).collect();
        machine.producer().await.post("/v1/events/batch", json!({"events": events})).await.expect(202);
    }
    eventually("the healthy receiver to have them all", async || (healthy.received().len() == EVENTS).then_some(()))
        .await;
    host.terminate();
    host.exit().await;
    let sqlite = machine.serve().await;
    let before = everything(&machine).await;
    sqlite.kill9().await;

    let machine = machine.set("REVNOXA_DATABASE_URL", &to);
    let cut_short = machine.spawn(&["move", "--from", &from]);
    eventually("some events to be over", async || {
        let there = Postgres::try_sql(&to, "SELECT COUNT(*) FROM events").ok()?;
        (there.parse::<usize>().ok()? > 0).then_some(())
    })
    .await;
    cut_short.kill9().await;
    let there: usize = Postgres::sql(&to, "SELECT COUNT(*) FROM attempts").parse().unwrap();
    assert!(there < EVENTS, "it was cut short: {there}");
    refuses_to_serve(&machine, "not through").await;
    let machine = machine.set("REVNOXA_DATABASE_URL", &from);
    refuses_to_serve(&machine, "moved to PostgreSQL").await;

    let machine = machine.set("REVNOXA_DATABASE_URL", &to);
    let moved = machine.run(&["move", "--from", &from]).await;
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    let again = machine.run(&["move", "--from", &from]).await;
    assert!(String::from_utf8_lossy(&again.stderr).contains("tenants of its own"), "it is not repeated by accident");

    let counted = "SELECT SUM(succeeded) FROM endpoint_hours WHERE endpoint_id = ";
    let counted = Postgres::sql(&to, &format!("{counted}'{}'", first.id));
    assert_eq!(
        counted,
        (EVENTS + 1).to_string(),
        "a host that ends writes what it counted, the test event with the others"
    );
    let _host = machine.serve().await;
    let after = everything(&machine).await;
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    failing.answer([200]);
    eventually("what waited for its retry to be delivered", async || {
        let pending = second.get("/deliveries?state=pending&limit=1").await.expect(200);
        pending["items"].as_array()?.is_empty().then_some(())
    })
    .await;
    assert_eq!(healthy.received().len(), EVENTS, "what was delivered is not delivered again");
    let event = first.tenant.event("incident.created", json!({})).await;
    first.delivery_in("succeeded", &event).await;
    let retired = json!({"tenant": "acme", "type": "hijacker.detected", "data": {}});
    machine.producer().await.post("/v1/events", retired).await.expect(422);
}

async fn refuses_to_serve(machine: &Machine, why: &str) {
    let refused = machine.run(&["serve"]).await;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains(why), "{said}");
}

/// What the API shows of the tenant, but for what changes by itself.
async fn everything(machine: &Machine) -> Vec<Value> {
    let operator = machine.operator();
    let mut all = operator.all("/v1/event-types").await;
    all.extend(operator.all("/v1/tenants").await);
    all.extend(operator.all("/v1/tenants/acme/tokens").await);
    let endpoints = operator.all("/v1/tenants/acme/endpoints").await;
    for endpoint in &endpoints {
        let path = format!("/v1/tenants/acme/endpoints/{}/deliveries?limit=100", endpoint["id"].as_str().unwrap());
        let ids = operator.all(&path).await.into_iter().map(|delivery| json!([delivery["id"], delivery["event_id"]]));
        all.extend(ids);
    }
    all.extend(endpoints);
    all
}
