//! Groups on SQLite beside the driver: all of it or nothing.

use super::{Bytes, Duration, NOW, Timestamp, World, at, numbered_event as event, room};
use crate::domain::delivery::{Delivery, Leased};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, EndpointId};
use crate::domain::lanes::{Remaining, Want};
use crate::domain::outcome::{Answer, Outcome};
use crate::store::Held;
use crate::store::batch::{Attempt, Finished, GoesTo, NewDelivery};
use crate::store::claims::{Claimed, claim};
use crate::store::database::sqlite_path;
use crate::store::direct::{Claims, STATEMENTS};
use crate::store::rows::Rows;

const LEASE: Duration = Duration::from_mins(1);
const NOTHING: Rows<'_> = Rows { events: &[], deliveries: &[], finished: &[] };

impl World {
    fn commit(&self, rows: &Rows<'_>) -> bool {
        self.committed(rows, &[]).is_some()
    }

    fn committed(&self, rows: &Rows<'_>, wants: &[Want]) -> Option<Vec<Claimed>> {
        let now = self.clock.now();
        let claims = Claims { wants, lease_until: now + LEASE };
        self.store.direct.as_ref().unwrap().commit(rows, &[], &claims, now)
    }
}

fn nothing((leased, remaining): Claimed) -> Remaining {
    assert!(leased.is_empty());
    remaining
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

/// On the writer's own thread as by the driver.
#[tokio::test]
async fn claims_bring_what_is_due_and_say_what_is_left() {
    for by_the_driver in [false, true] {
        let world = World::new().await;
        let endpoint = world.endpoint().await.id;
        let want = |credits| Want { tenant: world.acme.clone(), endpoint, credits };
        let claimed = async |credits| match by_the_driver {
            false => world.committed(&NOTHING, &[want(credits)]).unwrap().remove(0),
            true => {
                let mut connection = world.store.write.acquire().await.unwrap();
                let now = world.clock.now();
                claim(&mut connection, &want(credits), now, now + LEASE).await.unwrap()
            }
        };
        assert_eq!(nothing(claimed(5).await), Remaining::Nothing);

        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
        let posted = [Event { trace: Some(trace), ..event(0) }, event(1), event(2)];
        let mut made = Vec::new();
        for event in &posted {
            let new = [NewDelivery { goes_to: GoesTo::Table, ..delivery(event, endpoint, world.clock.now()) }];
            assert!(world.commit(&Rows { events: &[(event, Some(1))], deliveries: &new, finished: &[] }));
            made.extend(new.map(|new| new.leased));
            world.hand.advance(Duration::from_millis(1));
        }
        let lease_until = world.clock.now() + LEASE;
        let (leased, remaining) = claimed(2).await;
        assert_eq!(remaining, Remaining::More);
        let of_events: Vec<_> = leased.iter().map(|leased| (&leased.event, &leased.body, leased.trace)).collect();
        assert_eq!(of_events, [0, 1].map(|event| (&posted[event].id, &posted[event].body, posted[event].trace)));
        for (leased, made) in leased.iter().zip(&made) {
            assert!(leased.claim > 1);
            assert_eq!((leased.endpoint, leased.lease_until), (endpoint, lease_until));
            assert_eq!((leased.id, leased.delivery), (made.id, made.delivery));
        }
        world.store.disable_endpoint(&world.acme, endpoint, "").await.unwrap();
        assert_eq!(nothing(claimed(5).await), Remaining::Nothing);
        world.store.enable_endpoint(&world.acme, endpoint, Held::Deliver).await.unwrap();
        let (leased, remaining) = claimed(5).await;
        assert_eq!((leased.len(), &leased[0].event), (1, &posted[2].id));
        assert_eq!(remaining, Remaining::Until(lease_until));
    }
}

/// The driver says then what it is.
#[tokio::test]
async fn nothing_is_claimed_beside_what_cannot_be_read() {
    let world = World::new().await;
    let (now, endpoint) = (at(NOW), world.endpoint().await.id);
    let posted = [event(0), event(1)];
    let deliveries =
        posted.each_ref().map(|event| NewDelivery { goes_to: GoesTo::Table, ..delivery(event, endpoint, now) });
    let events = posted.each_ref().map(|event| (event, Some(1)));
    assert!(world.commit(&Rows { events: &events, deliveries: &deliveries, finished: &[] }));
    sqlx::query("UPDATE deliveries SET event_type = '' WHERE id = $1")
        .bind(deliveries[1].leased.id.to_string())
        .execute(&world.store.write)
        .await
        .unwrap();
    let want = Want { tenant: world.acme.clone(), endpoint, credits: 2 };
    assert!(world.committed(&NOTHING, &[want]).is_none());
    assert_eq!(world.rows_of("deliveries WHERE claim = 1").await, 2);
}

/// SQLite makes one for each row that is written, should a `CHECK` have an `IN` with more than two values.
#[tokio::test]
async fn what_is_written_of_each_event_makes_no_table_of_its_own() {
    let world = World::new().await;
    let connection = rusqlite::Connection::open(sqlite_path(&world.folder.url())).unwrap();
    for statement in STATEMENTS {
        let mut explained = connection.prepare(&format!("EXPLAIN {statement}")).unwrap();
        // Without values: nothing is run.
        let steps: Vec<String> = explained.raw_query().mapped(|step| step.get("opcode")).map(Result::unwrap).collect();
        assert!(steps.iter().any(|step| step == "Transaction"), "no program: {steps:?}");
        assert!(!steps.iter().any(|step| step == "OpenEphemeral"), "{statement}");
    }
}
