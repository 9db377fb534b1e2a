//! The database ends, or ends its connections, while hosts are busy. They go on, and lose and repeat nothing: what was done is
//! recorded as soon as the database is back. Or it answers and takes no writes.

use std::time::Duration;

use rand::RngExt;
use revnoxa_tests::{Postgres, eventually};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    customers::{Cost, Customers},
    database, host,
    load::{Load, Manner},
    random, rounds,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_costs_nothing_but_time() {
    let Some((mut server, url)) = database() else { return };
    let machines = [host(&url), host(&url)];
    let (_a, _b) = (machines[0].serve().await, machines[1].serve().await);
    let customers = Customers::moody(&machines[0], &url).await;
    let load = Load::on(&[&machines[0], &machines[1]], Manner::Once).await;
    let (mut random, rounds) = (random(), rounds(3));
    for _ in 0..rounds {
        // The moment is the point of all of these tests.
        sleep(Duration::from_millis(random.random_range(200..900))).await;
        server = crash(server, Duration::from_millis(random.random_range(0..1_500))).await;
        load.recovers(&customers).await;
    }
    let tally = load.stop().await;
    customers.check(&tally, Cost { faults: rounds, stranded: 0 }).await;
    assert!(tally.refusals() > 0, "nobody noticed");
}

/// Down for this long.
async fn crash(mut server: Postgres, down: Duration) -> Postgres {
    let (runtime, server) = (tokio::runtime::Handle::current(), async move {
        server.stop_immediately();
        sleep(down).await;
        server.restart();
        server
    });
    tokio::task::spawn_blocking(move || runtime.block_on(server)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_database_ends_cost_nothing_but_time() {
    let Some((_server, url)) = database() else { return };
    let machines = [host(&url), host(&url)];
    let (_a, _b) = (machines[0].serve().await, machines[1].serve().await);
    let customers = Customers::moody(&machines[0], &url).await;
    let load = Load::on(&[&machines[0], &machines[1]], Manner::Once).await;
    let (mut random, rounds) = (random(), rounds(10));
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(50..600))).await;
        let ended = Postgres::sql(
            &url,
            "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        assert!(ended.parse::<u32>().unwrap() > 8, "{ended} connections ended");
        load.recovers(&customers).await;
    }
    let tally = load.stop().await;
    customers.check(&tally, Cost { faults: rounds, stranded: 0 }).await;
}

/// As a standby is, to which the name of the server leads now.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_not_ready_while_its_database_is_read_only() {
    let Some((server, url)) = database() else { return };
    let machine = host(&url);
    let _process = machine.serve().await;
    machine.tenant("acme").await;
    let producer = machine.producer().await;
    let event = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    producer.post("/v1/events", event.clone()).await.expect(202);

    read_only(&server, &url, true);
    eventually("an event to be refused", async || {
        (producer.post("/v1/events", event.clone()).await.status == 503).then_some(())
    })
    .await;
    let not_ready = eventually("the host to say that it is not ready, and why", async || {
        let ready = machine.anyone().get("/readyz").await;
        ready["detail"].as_str().is_some_and(|detail| detail.contains("read-only")).then_some(ready)
    })
    .await;
    not_ready.expect_problem(503, "unavailable");
    machine.operator().get("/v1/tenants/acme").await.expect(200);

    read_only(&server, &url, false);
    eventually("the host to be ready, though nobody posts", async || {
        (machine.anyone().get("/readyz").await.status == 200).then_some(())
    })
    .await;
    eventually("an event to be taken", async || {
        (producer.post("/v1/events", event.clone()).await.status == 202).then_some(())
    })
    .await;
}

/// Makes it so for the connections to come, and ends those that there are.
fn read_only(server: &Postgres, url: &str, is: bool) {
    let (server, name) = (format!("{}postgres", server.url()), url.rsplit('/').next().unwrap());
    Postgres::sql(&server, &format!("ALTER DATABASE {name} SET default_transaction_read_only = {is}"));
    Postgres::sql(
        &server,
        &format!("SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'"),
    );
}
