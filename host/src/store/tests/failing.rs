//! Since when an endpoint fails, as its row says after each attempt.

use super::*;

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
