//! What operators see of what waits.

use sqlx::{AssertSqlSafe, Row};

use super::*;
use crate::store::backlog::{BACKLOG, Backlog};

#[tokio::test]
async fn what_is_due_and_leased_by_nobody_is_counted() {
    let world = World::new().await;
    world.endpoint().await;
    let nothing = Backlog { endpoints: 0, deliveries: 0, oldest: None };
    assert_eq!(world.store.backlog().await.unwrap(), nothing);
    for _ in 0..40 {
        world.event("{}").await;
    }
    let leased = world.store.handover.lanes().load().waiting as u64;
    assert!((1..40).contains(&leased), "some are in the lanes, some are left in the table: {leased}");
    let due = Backlog { endpoints: 1, deliveries: 40 - leased, oldest: Some(at(NOW)) };
    assert_eq!(world.store.backlog().await.unwrap(), due);
    // Nobody renews what the lanes hold.
    world.hand.advance(Duration::from_secs(61));
    assert_eq!(world.store.backlog().await.unwrap(), Backlog { deliveries: 40, ..due });
}

/// However many deliveries are finished, or wait for their time: those that are due are read from the index, and no others.
#[tokio::test]
async fn counting_what_is_due_reads_the_partial_index() {
    let world = World::new().await;
    let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {BACKLOG}")));
    let plan: Vec<String> =
        plan.fetch_all(&world.store.read).await.unwrap().iter().map(|row| row.get("detail")).collect();
    let search = "INDEX deliveries_claimable (tenant_id=? AND endpoint_id=? AND claimable_at<?)";
    assert!(plan.iter().filter(|step| step.starts_with("SEARCH d")).count() >= 2, "{plan:#?}");
    assert!(plan.iter().all(|step| !step.starts_with("SEARCH d") || step.contains(search)), "{plan:#?}");
    assert!(!plan.iter().any(|step| step.starts_with("SCAN d")), "{plan:#?}");
}
