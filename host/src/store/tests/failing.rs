//! Since when an endpoint fails, as its row says after each attempt.

use super::*;
use crate::store::Held;

/// What is not written again because it is known must not hide what is new.
#[tokio::test]
async fn a_time_of_failure_begins_after_a_success_and_ends_with_the_next() {
    let world = World::new().await;
    world.endpoint().await;
    let failing_since = async || -> Option<i64> {
        sqlx::query_scalar("SELECT failing_since FROM endpoints").fetch_one(&world.store.read).await.unwrap()
    };
    for _ in 0..2 {
        world.attempted(Some((200, 5))).await;
        world.attempted(Some((204, 5))).await;
        assert_eq!(failing_since().await, None);
        let began = world.clock.now();
        world.attempted(Some((500, 5))).await;
        world.hand.advance(Duration::from_secs(1));
        world.attempted(None).await;
        assert_eq!(failing_since().await, Some(began.as_millisecond()));
    }
    world.attempted(Some((200, 5))).await;
    assert_eq!(failing_since().await, None);
}

/// Nor must what is known outlive its reason.
#[tokio::test]
async fn a_time_of_failure_begins_anew_when_the_endpoint_is_enabled() {
    let world = World::new().await;
    let endpoint = world.endpoint().await.id;
    for _ in 0..2 {
        world.attempted(Some((500, 5))).await;
        world.store.disable_endpoint(&world.acme, endpoint, "by hand").await.unwrap();
        world.store.enable_endpoint(&world.acme, endpoint, Held::Deliver).await.unwrap();
        world.hand.advance(Duration::from_secs(1));
    }
    let began = world.clock.now();
    world.attempted(Some((500, 5))).await;
    let since: i64 =
        sqlx::query_scalar("SELECT failing_since FROM endpoints").fetch_one(&world.store.read).await.unwrap();
    assert_eq!(since, began.as_millisecond());
}
