//! Leases of running attempts, and what is recorded while they are renewed.

use super::*;
use crate::domain::delivery::Delivery;
use crate::domain::outcome::{Outcome, SendError};
use crate::store::{Attempt, Finished, Leases};

/// A renewal on its way when the attempt ends comes to the table after its record: the retry must not wait for the lease, nor
/// may a stop that gives leases up bring it forward.
#[tokio::test]
async fn a_renewal_that_comes_after_the_record_leaves_the_retry_at_its_time() {
    let world = World::new().await;
    world.endpoint().await;
    world.event("1").await;
    let leased = world.leased().await;
    let leases = Leases::default();
    let guard = leases.hold(&leased);
    let (late, later) = (leases.held(), leases.held());
    drop(guard);
    assert!(leases.held().is_empty());
    let next_attempt_at = world.clock.now() + Duration::from_secs(30);
    let finished = Finished {
        leased,
        next: Delivery::Pending { attempts: 1, failures: 1, next_attempt_at },
        attempt: Some(Attempt {
            started_at: world.clock.now(),
            outcome: Outcome { duration: Duration::ZERO, result: Err(SendError::ConnectionRefused) },
            request_headers: String::new(),
            error: None,
        }),
        plugins: None,
        reason: None,
        gone: false,
    };
    assert!(world.writer.record_now(finished).await);
    world.writer.renew(late).await;
    world.writer.end(later).await;
    // Written after both.
    world.event("2").await;
    let due = "SELECT claimable_at FROM deliveries WHERE attempts = 1";
    let due: i64 = sqlx::query_scalar(due).fetch_one(&world.store.read).await.unwrap();
    assert_eq!(due, next_attempt_at.as_millisecond());
}

#[tokio::test]
async fn a_lease_runs_as_long_as_it_is_renewed() {
    let world = World::new().await;
    world.endpoint().await;
    world.event("1").await;
    let leased = world.leased().await;
    let leases = Leases::default();
    let guard = leases.hold(&leased);
    let third = jiff::SignedDuration::from_secs(20);
    assert!(!guard.runs_out(world.clock.now(), third));
    world.hand.advance(Duration::from_secs(41));
    assert!(guard.runs_out(world.clock.now(), third));
    world.writer.renew(leases.held()).await;
    world.event("2").await;
    assert!(!guard.runs_out(world.clock.now(), third));
    let until = "SELECT MAX(claimable_at) FROM deliveries WHERE created_at < $1";
    let until: i64 =
        sqlx::query_scalar(until).bind(world.clock.now().as_millisecond()).fetch_one(&world.store.read).await.unwrap();
    assert_eq!(until, (world.clock.now() + Duration::from_secs(60)).as_millisecond());
}
