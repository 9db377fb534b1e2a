//! A database whose clock is not the hosts'. Theirs is right for nobody then: all go by the database's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use revnoxa_tests::{Machine, Postgres, eventually};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    customers::{Cost, Customers, NOTHING},
    database, host,
    load::{Load, Manner},
};

const SKEW_S: i64 = 7;

/// From now on, new connections to this database see another time.
fn set_clock_forward(url: &str) {
    let name = url.rsplit('/').next().unwrap();
    Postgres::sql(
        url,
        &format!(
            "CREATE SCHEMA fake;
             CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql
                 AS $$SELECT pg_catalog.clock_timestamp() + interval '{SKEW_S} seconds'$$;
             ALTER DATABASE {name} SET search_path = public, fake, pg_catalog"
        ),
    );
}

async fn readiness(host: &Machine) -> Value {
    host.anyone().get("/readyz").await.expect(200).json
}

fn is_behind(readiness: &Value) -> bool {
    let skew_ms = readiness["clock_skew_ms"].as_i64().expect("a number");
    (skew_ms + SKEW_S * 1_000).abs() < 500
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_pointed_out_and_made_up_for() {
    let Some((_server, url)) = database() else { return };
    set_clock_forward(&url);
    let machines = [host(&url), host(&url)];
    let (_a, _b) = (machines[0].serve().await, machines[1].serve().await);
    for machine in &machines {
        let readiness = readiness(machine).await;
        assert!(is_behind(&readiness), "{readiness}");
        assert!(readiness["warning"].as_str().unwrap().contains("clock"), "{readiness}");
        let metrics = machine.operator().get("/metrics").await.expect(200).text;
        let skew = metrics.lines().find_map(|line| line.strip_prefix("revnoxa_clock_skew_seconds ")).expect("a gauge");
        assert!((skew.parse::<f64>().unwrap() + SKEW_S as f64).abs() < 0.5, "{skew}");
    }
    let customers = Customers::moody(&machines[0], &url).await;
    let load = Load::on(&[&machines[0], &machines[1]], Manner::Once).await;
    eventually("a load", async || (load.acknowledged() >= 100).then_some(())).await;
    let tally = load.stop().await;
    customers.check(&tally, NOTHING).await;
    assert_eq!(tally.refusals(), 0);
    for request in customers.first() {
        let signed_s: u64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
        let arrived = SystemTime::now() - request.at.elapsed();
        let arrived_s = arrived.duration_since(UNIX_EPOCH).unwrap().as_secs() + SKEW_S as u64;
        assert!(signed_s.abs_diff(arrived_s) <= 1, "{signed_s}, arrived at {arrived_s} by the database's clock");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_is_followed_and_nothing_is_made_twice() {
    let Some((_server, url)) = database() else { return };
    let machines = [host(&url), host(&url)];
    let (_a, _b) = (machines[0].serve().await, machines[1].serve().await);
    for machine in &machines {
        let readiness = readiness(machine).await;
        assert!(readiness["clock_skew_ms"].as_i64().unwrap().abs() < 500, "{readiness}");
        assert_eq!(readiness["warning"], Value::Null);
    }
    let customers = Customers::moody(&machines[0], &url).await;
    let load = Load::on(&[&machines[0], &machines[1]], Manner::Retry).await;
    sleep(Duration::from_millis(300)).await;
    set_clock_forward(&url);
    Postgres::sql(
        &url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    load.recovers(&customers).await;
    for machine in &machines {
        eventually("the host to follow", async || is_behind(&readiness(machine).await).then_some(())).await;
    }
    load.recovers(&customers).await;
    customers.check(&load.stop().await, Cost { faults: 1, stranded: 0 }).await;
}
