//! A backup with PostgreSQL's own tools, taken while hosts work, holds all that was acknowledged before it.

use revnoxa_tests::{Postgres, eventually};
use tempfile::TempDir;

use crate::{
    customers::Customers,
    database, host,
    load::{Load, Manner, Posted},
};

/// Events acknowledged before the backup, and again after it.
const EVENTS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_under_load_restores_all_that_was_acknowledged_before_it() {
    let Some((server, url)) = database() else { return };
    let machine = host(&url);
    let process = machine.serve().await;
    let customers = Customers::content(&machine, &url).await;
    let load = Load::on(&[&machine], Manner::Retry).await;
    let several = async |so_far: usize| {
        eventually("events to be acknowledged", async || (load.acknowledged() >= so_far + EVENTS).then_some(())).await;
    };
    several(0).await;
    let before = load.tally().acknowledged;
    let folder = TempDir::new().unwrap();
    let dump = folder.path().join("revnoxa.dump");
    Postgres::back_up(&url, &dump);
    several(load.acknowledged()).await;
    load.stop().await;
    process.kill9().await;

    let restored = server.database();
    Postgres::restore(&restored, &dump);
    let machine = host(&restored);
    let _process = machine.serve().await;
    eventually("what the dump held to be delivered", async || {
        let pending = Postgres::sql(&restored, "SELECT COUNT(*) FROM deliveries WHERE state = 'pending'");
        (pending == "0").then_some(())
    })
    .await;
    for (tenant, id) in before {
        let path = format!("/v1/tenants/{tenant}/events/{id}/deliveries");
        let deliveries = machine.operator().get(&path).await.expect(200);
        let succeeded = deliveries["items"].as_array().unwrap().iter().filter(|one| one["state"] == "succeeded");
        assert_eq!(succeeded.count(), 3, "{id}: {}", deliveries.text);
        customers.have(&Posted { tenant, id }).await;
    }
}
