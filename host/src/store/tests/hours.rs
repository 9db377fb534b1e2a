//! Attempts counted by endpoint and hour.

use sqlx::AssertSqlSafe;

use super::*;
use crate::domain::delivery::Delivery;
use crate::domain::hour::{Counts, Durations, Hour};
use crate::domain::id::EndpointId;
use crate::domain::outcome::{Answer, Outcome, SendError};
use crate::store::hours::{UNWRITTEN, Unwritten};
use crate::store::{Attempt, Finished, Purged, Totals};

/// What ended with this answer after so many milliseconds, or with none.
fn finished(leased: Leased, started_at: Timestamp, answer: Option<(u16, u64)>) -> Finished {
    let answered = |status| Answer { status, body: Bytes::new(), truncated: false, retry_after: None };
    let outcome = Outcome {
        duration: Duration::from_millis(answer.map_or(0, |(_, ms)| ms)),
        result: answer.map(|(status, _)| answered(status)).ok_or(SendError::ConnectionRefused),
    };
    let next = Delivery::Succeeded { attempts: leased.delivery.attempts() + 1 };
    let attempt = Attempt { started_at, outcome, request_headers: String::new(), error: None };
    Finished { leased, next, attempt: Some(attempt), plugins: None, reason: None, gone: false }
}

fn hour(start: &str, succeeded: u64, failed: u64, durations: [u64; 7]) -> Hour {
    Hour { start: at(start), counts: Counts { succeeded, failed, durations: Durations(durations) } }
}

fn totals(succeeded: u64, failed: u64) -> Totals {
    Totals { succeeded, failed }
}

impl World {
    /// An event comes, and its delivery's attempt ends with this answer.
    pub(super) async fn attempted(&self, answer: Option<(u16, u64)>) {
        self.event("{}").await;
        let leased = self.leased().await;
        assert!(self.writer.record_now(finished(leased, self.clock.now(), answer)).await);
    }

    async fn hours(&self, endpoint: EndpointId) -> Vec<Hour> {
        self.store.hours_of_endpoint(&self.acme, endpoint, Timestamp::MIN).await.unwrap()
    }

    async fn rename(&self, from: &str, to: &str) {
        let rename = AssertSqlSafe(format!("ALTER TABLE {from} RENAME TO {to}"));
        sqlx::query(rename).execute(&self.store.write).await.unwrap();
    }
}

#[tokio::test]
async fn each_recorded_attempt_counts_once_in_the_hour_it_began_in() {
    let world = World::new().await;
    let endpoint = world.endpoint().await.id;
    for answer in [Some((200, 10)), Some((204, 3_001)), Some((500, 31)), None] {
        world.attempted(answer).await;
    }
    world.store.write_hours().await.unwrap();
    world.store.write_hours().await.unwrap();
    world.hand.advance(Duration::from_mins(59));
    world.attempted(Some((200, 10))).await;
    world.hand.advance(Duration::from_mins(1));
    world.attempted(Some((200, 11))).await;
    // What a host comes back with that was overtaken is not recorded, and not counted.
    world.event("{}").await;
    let leased = world.leased().await;
    let late = Leased { claim: leased.claim - 1, ..leased };
    world.writer.record_now(finished(late, world.clock.now(), Some((200, 1)))).await;
    // A plugin decided that no attempt is made.
    world.event("{}").await;
    let leased = world.leased().await;
    let next = leased.delivery.dropped();
    let dropped = Finished { next, attempt: None, ..finished(leased, world.clock.now(), None) };
    assert!(world.writer.record_now(dropped).await);
    world.store.write_hours().await.unwrap();
    let (first, second) = (
        hour("2026-03-01T12:00:00Z", 3, 2, [2, 0, 1, 0, 0, 0, 1]),
        hour("2026-03-01T13:00:00Z", 1, 0, [0, 1, 0, 0, 0, 0, 0]),
    );
    assert_eq!(world.hours(endpoint).await, [first, second]);
    let since = |since| world.store.hours_of_endpoint(&world.acme, endpoint, at(since));
    assert_eq!(since("2026-03-01T12:59:59Z").await.unwrap(), [first, second]);
    assert_eq!(since("2026-03-01T13:59:59Z").await.unwrap(), [second]);
    let elsewhere = world.store.hours_of_endpoint(&"mallory".parse().unwrap(), endpoint, Timestamp::MIN).await;
    assert_eq!(elsewhere.unwrap(), []);
}

#[tokio::test]
async fn totals_are_those_of_the_endpoints_asked_for() {
    let world = World::new().await;
    let mut endpoints = Vec::new();
    for _ in 0..4 {
        endpoints.push(world.endpoint().await.id);
    }
    // The last one never gets anything.
    let last = endpoints[3];
    world.store.disable_endpoint(&world.acme, last, "").await.unwrap();
    for hour in 0..2 {
        world.event("{}").await;
        for _ in 0..3 {
            let leased = world.leased().await;
            let status = if leased.endpoint == endpoints[1] { 500 } else { 200 };
            world.writer.record_now(finished(leased, world.clock.now(), Some((status, 1)))).await;
        }
        world.store.write_hours().await.unwrap();
        if hour == 0 {
            world.hand.advance(Duration::from_hours(1));
        }
    }
    let of = async |first, last, since| world.store.totals(&world.acme, first, last, at(since)).await.unwrap();
    let middle = [(endpoints[1], totals(0, 2)), (endpoints[2], totals(2, 0))];
    assert_eq!(of(endpoints[1], last, NOW).await, middle.into());
    let newer = [(endpoints[0], totals(1, 0)), (endpoints[1], totals(0, 1))];
    assert_eq!(of(endpoints[0], endpoints[1], "2026-03-01T13:30:00Z").await, newer.into());
    assert_eq!(of(last, last, NOW).await, [].into());
}

#[tokio::test]
async fn what_could_not_be_written_is_written_once_it_can_be() {
    let world = World::new().await;
    let endpoint = world.endpoint().await.id;
    let (stop, store) = (CancellationToken::new(), world.store.clone());
    world.rename("endpoint_hours", "hidden").await;
    world.attempted(Some((200, 1))).await;
    world.store.write_hours().await.unwrap_err();
    world.attempted(Some((500, 1))).await;
    world.store.write_hours().await.unwrap_err();
    world.rename("hidden", "endpoint_hours").await;
    let keep = tokio::spawn({
        let stop = stop.clone();
        async move { store.keep_hours(stop).await }
    });
    let written = async {
        while world.rows_of("endpoint_hours").await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), written).await.expect("they are written by themselves");
    assert_eq!(world.hours(endpoint).await, [hour("2026-03-01T12:00:00Z", 1, 1, [2, 0, 0, 0, 0, 0, 0])]);
    stop.cancel();
    keep.await.unwrap();
}

#[tokio::test]
async fn what_is_deleted_has_no_hours() {
    let world = World::new().await;
    let (gone, there) = (world.endpoint().await.id, world.endpoint().await.id);
    let attempts = async || {
        world.event("{}").await;
        for _ in 0..2 {
            let leased = world.leased().await;
            world.writer.record_now(finished(leased, world.clock.now(), Some((200, 1)))).await;
        }
    };
    attempts().await;
    world.store.write_hours().await.unwrap();
    world.hand.advance(Duration::from_hours(1));
    attempts().await;
    assert_eq!(world.rows_of("endpoint_hours").await, 2);
    world.store.delete_endpoint(&world.acme, gone).await.unwrap();
    world.store.purge_endpoint(&world.acme, gone).await.unwrap();
    // Counted before it was deleted.
    world.store.write_hours().await.unwrap();
    assert_eq!((world.hours(gone).await.len(), world.hours(there).await.len()), (0, 2));
    world.store.delete_tenant(&world.acme).await.unwrap();
    world.store.purge_tenant(&world.acme).await.unwrap();
    assert_eq!(world.rows_of("endpoint_hours").await, 0);
}

#[tokio::test]
async fn old_hours_go_one_after_the_other() {
    let world = World::new().await;
    let endpoint = world.endpoint().await.id;
    for _ in 0..3 {
        world.attempted(Some((200, 1))).await;
        world.hand.advance(Duration::from_hours(1));
    }
    world.store.write_hours().await.unwrap();
    let before = at("2026-03-01T14:00:00Z");
    assert_eq!(world.store.tenants_with_old_hours(at(NOW)).await.unwrap(), []);
    assert_eq!(world.store.tenants_with_old_hours(before).await.unwrap(), std::slice::from_ref(&world.acme));
    let purge = || world.store.purge_oldest_hour(&world.acme, before);
    assert_eq!(purge().await.unwrap(), Purged::Some(1));
    assert_eq!(world.hours(endpoint).await[0].start, at("2026-03-01T13:00:00Z"));
    assert_eq!(purge().await.unwrap(), Purged::Some(1));
    assert_eq!(purge().await.unwrap(), Purged::Nothing);
    assert_eq!(world.hours(endpoint).await.len(), 1);
}

#[tokio::test]
async fn memory_for_what_is_not_written_is_bounded() {
    let world = World::new().await;
    world.endpoint().await;
    world.event("{}").await;
    let mut attempt = finished(world.leased().await, at(NOW), Some((200, 1)));
    let unwritten = Unwritten::default();
    let mut count = |hours_later: usize, times: usize| {
        let later = Duration::from_hours(hours_later as u64);
        attempt.attempt.as_mut().unwrap().started_at = at(NOW) - later;
        unwritten.count(std::iter::repeat_n(&attempt, times));
    };
    (0..=UNWRITTEN).for_each(|hours| count(hours, 1));
    count(0, 2);
    count(UNWRITTEN + 1, 1);
    let counted = unwritten.take();
    assert_eq!(counted.len(), UNWRITTEN);
    assert!(counted.is_sorted_by_key(|counted| counted.hour));
    assert_eq!(counted[UNWRITTEN - 1].counts.succeeded, 3, "what is known goes on");
    // What came meanwhile and what could not be written come together.
    count(0, 1);
    unwritten.put_back(counted);
    let counted = unwritten.take();
    assert_eq!((counted.len(), counted[UNWRITTEN - 1].counts.succeeded), (UNWRITTEN, 4));
}
