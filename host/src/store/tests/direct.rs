//! Groups on SQLite that read nothing: all of it or nothing.

use super::{Bytes, Duration, NOW, Timestamp, World, at, numbered_event as event, room};
use crate::domain::delivery::{Delivery, Leased};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, EndpointId};
use crate::domain::outcome::{Answer, Outcome};
use crate::store::batch::{Attempt, Finished, GoesTo, NewDelivery};
use crate::store::rows::Rows;

impl World {
    fn commit(&self, rows: &Rows<'_>) -> bool {
        self.store.direct.as_ref().unwrap().commit(rows, self.clock.now())
    }
}

fn delivery(of: &Event, endpoint: EndpointId, now: Timestamp) -> NewDelivery {
    let leased = Leased {
        tenant: of.tenant.clone(),
        id: DeliveryId::new(now),
        endpoint,
        event: of.id.clone(),
        event_type: of.event_type.clone(),
        body: of.body.clone(),
        transformed: false,
        delivery: Delivery::new(now),
        claim: 1,
        lease_until: now,
        trace: None,
    };
    NewDelivery { leased, goes_to: GoesTo::Lane }
}

fn succeeded(leased: &Leased, now: Timestamp) -> Finished {
    let answer = Answer { status: 204, body: Bytes::new(), truncated: false, retry_after: None };
    Finished {
        leased: leased.clone(),
        next: Delivery::Succeeded { attempts: 1 },
        attempt: Some(Attempt {
            started_at: now,
            outcome: Outcome { duration: Duration::from_millis(3), result: Ok(answer) },
            request_headers: "content-type: application/json\n".to_owned(),
            error: None,
        }),
        plugins: None,
        reason: None,
        gone: false,
    }
}

#[tokio::test]
async fn all_of_it_is_written_however_many_statements_it_takes() {
    for events in [1, 3, 300] {
        let (world, now) = (World::new().await, at(NOW));
        let posted: Vec<Event> = (0..events).map(event).collect();
        let endpoints = [EndpointId::new(now), EndpointId::new(now)];
        let deliveries: Vec<NewDelivery> =
            posted.iter().flat_map(|event| endpoints.map(|endpoint| delivery(event, endpoint, now))).collect();
        let events_of: Vec<_> = posted.iter().map(|event| (event, Some(2))).collect();
        let new = Rows { events: &events_of, deliveries: &deliveries, finished: &[] };
        assert!(world.commit(&new));

        let finished: Vec<Finished> = deliveries.iter().map(|new| succeeded(&new.leased, now)).collect();
        let finished: Vec<&Finished> = finished.iter().collect();
        let ended = Rows { events: &[], deliveries: &[], finished: &finished };
        assert!(world.commit(&ended));
        let of_each: Vec<(String, i64, i64, String, i64)> = sqlx::query_as(
            "SELECT d.state, d.attempts, d.finished_at, a.request_headers, a.status_code FROM deliveries d, attempts a
             WHERE a.tenant_id = d.tenant_id AND a.delivery_id = d.id AND a.number = 1 AND a.response_body = X''
               AND a.error IS NULL AND d.next_attempt_at IS NULL AND d.claimable_at IS NULL",
        )
        .fetch_all(&world.store.write)
        .await
        .unwrap();
        let one = ("succeeded".to_owned(), 1, now.as_millisecond(), "content-type: application/json\n".to_owned(), 204);
        assert_eq!(of_each, vec![one; 2 * events]);
        assert_eq!(world.rows_of("events").await, events as i64);
        let bodies: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT body FROM events").fetch_all(&world.store.write).await.unwrap();
        assert!(posted.iter().all(|event| bodies.iter().any(|body| **body == *event.body)));
    }
}

#[tokio::test]
async fn nothing_is_written_where_a_delivery_was_taken_over() {
    let (world, now) = (World::new().await, at(NOW));
    let (first, endpoint) = (event(0), EndpointId::new(now));
    let old = [delivery(&first, endpoint, now), delivery(&first, endpoint, now)];
    let new = Rows { events: &[(&first, Some(2))], deliveries: &old, finished: &[] };
    assert!(world.commit(&new));
    sqlx::query("UPDATE deliveries SET claim = 2 WHERE id = $1")
        .bind(old[1].leased.id.to_string())
        .execute(&world.store.write)
        .await
        .unwrap();

    let second = event(1);
    let (held, lost) = (succeeded(&old[0].leased, now), succeeded(&old[1].leased, now));
    let mixed = Rows {
        events: &[(&second, Some(1))],
        deliveries: &[delivery(&second, endpoint, now)],
        finished: &[&held, &lost],
    };
    assert!(!world.commit(&mixed));
    assert_eq!(world.rows_of("events").await, 1);
    assert_eq!(world.rows_of("deliveries WHERE state = 'pending'").await, 2);
    assert_eq!(world.rows_of("attempts").await, 0);

    // The same without that one; it is not written a second time.
    let held = Rows { finished: &[&held], ..mixed };
    assert!(world.commit(&held));
    assert_eq!(world.rows_of("events").await, 2);
    assert!(!world.commit(&held));
    assert_eq!((world.rows_of("events").await, world.rows_of("attempts").await), (2, 1));
}

#[tokio::test]
async fn nothing_is_written_where_an_event_is_there_already() {
    let world = World::new().await;
    let (first, second) = (event(0), event(1));
    let one = Rows { events: &[(&first, Some(0))], deliveries: &[], finished: &[] };
    assert!(world.commit(&one));
    let both = Rows { events: &[(&second, Some(0)), (&first, Some(0))], deliveries: &[], finished: &[] };
    assert!(!world.commit(&both));
    assert_eq!(world.rows_of("events").await, 1);
}

/// The writer finds out by itself which events are new, however many there are.
#[tokio::test]
async fn a_repeated_event_is_told_from_new_ones_that_come_with_it() {
    for many in [1, 300] {
        let world = World::new().await;
        world.endpoint().await;
        let named = |number| Event { fingerprint: Some([7; 32]), ..event(number) };
        let old = || (0..many).map(named).collect();
        let first = world.writer.accept(old(), room()).await.unwrap();
        let new = (many..2 * many).map(named).collect();
        let (again, new) = tokio::join!(world.writer.accept(old(), room()), world.writer.accept(new, room()));
        assert_eq!(again.unwrap(), first);
        assert!(new.unwrap().iter().all(|accepted| accepted.deliveries == 1));
        let all = 2 * i64::try_from(many).unwrap();
        assert_eq!((world.rows_of("events").await, world.rows_of("deliveries").await), (all, all));
    }
}
