//! Requests with many deliveries, which SQLite is given in parts.

use std::collections::BTreeMap;

use tokio::sync::{Mutex, oneshot};

use super::{Arc, Clock, Duration, Event, World, keys, numbered_event as event, room};
use crate::domain::id::EndpointId;
use crate::domain::lanes::Limits;
use crate::store::group::{Accept, AcceptError, Accepted, Command, Group};
use crate::store::{Handover, Store};

type Answer = oneshot::Receiver<Result<Vec<Accepted>, AcceptError>>;

fn request(events: std::ops::Range<usize>) -> (Command, Answer) {
    let (answer, answered) = oneshot::channel();
    let events = events.map(|number| Event { fingerprint: Some([7; 32]), ..event(number) }).collect();
    (Command::Accept(Accept { events, _room: room(), answer, progress: None }), answered)
}

impl World {
    /// One transaction. Gives what is left to do.
    async fn write(&self, commands: Vec<Command>) -> Vec<Command> {
        let now = self.clock.now();
        let mut group = Group::new(commands.into_iter(), now, now);
        loop {
            let mut connection = self.store.write.acquire().await.unwrap();
            let committed = group.commit(&self.store, &mut connection, jiff::SignedDuration::from_hours(1)).await;
            match committed.unwrap() {
                Some(effects) => return group.answer(&self.store, effects),
                None => group.rewind(&self.store),
            }
        }
    }

    async fn deliveries_of(&self, endpoint: EndpointId) -> i64 {
        self.rows_of(&format!("deliveries WHERE endpoint_id = '{endpoint}'")).await
    }

    /// Every event has as many deliveries as it says, one for each endpoint.
    async fn assert_whole(&self, events: i64, endpoints: i64) {
        let counts: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT e.deliveries, COUNT(d.id), COUNT(DISTINCT d.endpoint_id)
             FROM events e LEFT JOIN deliveries d ON d.tenant_id = e.tenant_id AND d.event_id = e.id GROUP BY e.id",
        )
        .fetch_all(&self.store.read)
        .await
        .unwrap();
        assert_eq!(counts, vec![(endpoints, endpoints, endpoints); usize::try_from(events).unwrap()]);
    }
}

/// Requests with many deliveries are put off until they have transactions for themselves; each gets some.
#[tokio::test]
async fn large_requests_and_small_ones_are_all_stored() {
    let world = World::new().await;
    world.endpoint().await;
    let post = |numbers: std::ops::Range<usize>| async {
        world.writer.accept(numbers.map(event).collect(), room()).await.unwrap().len()
    };
    let counts = tokio::join!(post(0..1), post(10_000..11_001), post(1..3), post(20_000..20_900), post(3..4));
    assert_eq!(counts, (1, 1_001, 2, 900, 1));
    world.assert_whole(1_905, 1).await;
}

/// Deliveries of one endpoint share pages: more of them are written at once than of as many endpoints.
#[tokio::test]
async fn a_request_is_large_by_its_endpoints_or_its_deliveries() {
    let world = World::new().await;
    let mut left = Vec::new();
    for (endpoints, events) in [(1, 200), (1, 201), (50, 4), (50, 5), (51, 1)] {
        while world.rows_of("endpoints").await < endpoints {
            world.endpoint().await;
        }
        let first = left.len() * 1_000;
        let (request, _answer) = request(first..first + events);
        left.push(world.write(vec![request]).await.len());
    }
    assert_eq!(left, [0, 1, 0, 1, 1]);
}

#[tokio::test]
async fn a_small_request_does_not_wait_for_a_large_one_before_it() {
    let world = World::new().await;
    world.endpoint().await;
    let answered = Mutex::new(Vec::new());
    let post = |numbers: std::ops::Range<usize>| async {
        let events = numbers.map(event).collect();
        let accepted = world.writer.accept(events, room()).await.unwrap();
        answered.lock().await.push(accepted.len());
    };
    tokio::join!(post(0..1_000), post(1_000..1_001));
    assert_eq!(*answered.lock().await, [1, 1_000]);
}

#[tokio::test]
async fn what_repeats_a_large_request_under_way_is_answered_as_that() {
    let world = World::new().await;
    for _ in 0..2 {
        world.endpoint().await;
    }
    let ((large, first), (twin, second), (part, third)) = (request(0..300), request(0..300), request(299..300));
    let mut rest = world.write(vec![large]).await;
    rest.extend([twin, part]);
    while !rest.is_empty() {
        rest = world.write(rest).await;
    }
    let (first, second, third) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap(), third.await);
    assert!(first.iter().all(|accepted| accepted.deliveries == 2), "{first:?}");
    assert_eq!((&second, &third.unwrap().unwrap()[..]), (&first, &first[299..]));
    world.assert_whole(300, 2).await;

    let (again, fourth) = request(0..300);
    assert_eq!(world.write(vec![again]).await.len(), 0);
    assert_eq!(fourth.await.unwrap().unwrap(), first);
    world.assert_whole(300, 2).await;
}

#[tokio::test]
async fn an_event_that_stands_in_a_large_request_twice_is_one() {
    let world = World::new().await;
    world.endpoint().await;
    let twice = (0..300).chain(0..300).map(|number| Event { fingerprint: Some([7; 32]), ..event(number) }).collect();
    let accepted = world.writer.accept(twice, room()).await.unwrap();
    assert_eq!(accepted.iter().map(|accepted| accepted.deliveries).sum::<usize>(), 600);
    world.assert_whole(300, 1).await;
}

/// In between, endpoints come and go as ever.
#[tokio::test]
async fn endpoints_that_are_deleted_or_made_between_two_parts_count_from_then_on() {
    let world = World::new().await;
    let mut endpoints = Vec::new();
    for _ in 0..3 {
        endpoints.push(world.endpoint().await.id);
    }
    let (large, answer) = request(0..200);
    let mut rest = world.write(vec![large]).await;
    let first = [world.deliveries_of(endpoints[0]).await, world.deliveries_of(endpoints[2]).await];
    assert_eq!(first, [67, 66]);
    assert!(world.store.delete_endpoint(&world.acme, endpoints[0]).await.unwrap());
    let added = world.endpoint().await.id;
    while !rest.is_empty() {
        rest = world.write(rest).await;
    }
    let accepted = answer.await.unwrap().unwrap();
    assert_eq!([world.deliveries_of(endpoints[0]).await, world.deliveries_of(endpoints[2]).await], [67, 200]);
    // The event that a part ended within has all that come after, and the ones after that.
    assert_eq!(world.deliveries_of(added).await, 134);
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "SELECT e.id, COUNT(*) FROM events e JOIN deliveries d ON d.tenant_id = e.tenant_id AND d.event_id = e.id
         WHERE e.deliveries >= 0 GROUP BY e.id",
    )
    .fetch_all(&world.store.read)
    .await
    .unwrap();
    let counts: BTreeMap<String, i64> = counts.into_iter().collect();
    assert_eq!(counts.len(), 200);
    for accepted in accepted {
        assert_eq!(counts[accepted.id.as_str()], accepted.deliveries as i64);
    }
}

#[tokio::test]
async fn the_next_start_finishes_what_a_killed_host_left() {
    let world = World::new().await;
    for _ in 0..2 {
        world.endpoint().await;
    }
    let (large, answer) = request(0..300);
    assert_eq!(world.write(vec![large]).await.len(), 1);
    assert!(answer.await.is_err(), "it was never answered");
    assert_eq!((world.rows_of("events WHERE deliveries = -1").await, world.rows_of("deliveries").await), (300, 200));

    // Nobody is at it: a repetition is not taken for stored.
    let (again, answer) = request(0..300);
    world.write(vec![again]).await;
    assert!(matches!(answer.await.unwrap(), Err(AcceptError::Unavailable)));

    let next = restarted(&world).await;
    world.assert_whole(300, 2).await;
    let due: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM deliveries WHERE state = 'pending' AND claimable_at <= $1")
        .bind(world.clock.now().as_millisecond())
        .fetch_one(&next.read)
        .await
        .unwrap();
    assert_eq!(due, 600);
    let (again, answer) = request(0..300);
    world.write(vec![again]).await;
    assert!(answer.await.unwrap().unwrap().iter().all(|accepted| accepted.deliveries == 2));
}

async fn restarted(world: &World) -> Store {
    let handover = Arc::new(Handover::new(Limits { in_flight: 16, per_endpoint: 8 }));
    let clock = Clock::manual(world.clock.now()).0;
    Store::open_to_serve(&world.folder.url(), &keys(1, &[]), clock, handover).await.unwrap()
}

/// What is begun is not refused because a later part fails, and goes on when it can.
#[tokio::test]
async fn a_request_goes_on_after_a_part_that_failed() {
    let world = World::new().await;
    world.endpoint().await;
    let full = "CREATE TRIGGER full BEFORE INSERT ON deliveries WHEN (SELECT COUNT(*) FROM deliveries) >= 410
        BEGIN SELECT RAISE(ABORT, 'full'); END";
    sqlx::query(full).execute(&world.store.write).await.unwrap();
    let posted = world.writer.accept((0..600).map(event).collect(), room());
    let mend = async {
        let failed = async {
            while world.rows_of("deliveries").await < 400 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Behind the part that fails.
            world.writer.accept(vec![event(10_000)], room()).await
        };
        let small = tokio::time::timeout(Duration::from_secs(30), failed).await.unwrap();
        sqlx::query("DROP TRIGGER full").execute(&world.store.write).await.unwrap();
        small
    };
    let (posted, small) = tokio::join!(posted, mend);
    assert_eq!(posted.unwrap().len(), 600);
    assert_eq!(small.unwrap().len(), 1);
    world.assert_whole(601, 1).await;
}

#[tokio::test]
async fn endpoints_are_read_before_the_writer_needs_them() {
    let world = World::new().await;
    world.endpoint().await;
    let known = || world.store.catalog.newest(&world.acme).map(|known| known.endpoints.len());
    world.store.read_ahead(&world.acme).await.unwrap();
    assert_eq!(known(), Some(1));
    world.endpoint().await;
    world.store.read_ahead(&world.acme).await.unwrap();
    assert_eq!(known(), Some(2));
    world.store.read_ahead(&"nobody".parse().unwrap()).await.unwrap();
}
