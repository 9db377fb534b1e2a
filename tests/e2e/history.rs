//! What is kept of deliveries: lists, filters, pages, and sending again.

use std::time::Duration;

use revnoxa_tests::{Answer, Endpoint, Event, Gate, Host, Receiver};
use serde_json::{Value, json};

async fn succeeded_events(host: &Host, endpoint: &Endpoint, n: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for n in 0..n {
        let event = endpoint.tenant.event("incident.created", json!({"n": n})).await;
        endpoint.delivery_in("succeeded", &event).await;
        events.push(event);
        host.advance(Duration::from_secs(1)).await;
    }
    events
}

fn event_ids(deliveries: &[Value]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery["event_id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_reads_as_promised() {
    let host = Host::start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let read = endpoint.attempted(1, &event).await;
    let listed = &endpoint.deliveries("?limit=1").await[0];
    let expected = json!({
        "id": read["id"],
        "event_id": event.id,
        "event_type": "incident.created",
        "endpoint_id": endpoint.id,
        "state": "pending",
        "state_reason": null,
        "attempts": 1,
        "next_attempt_at": read["next_attempt_at"],
        "created_at": "2026-03-01T12:00:00.000Z",
    });
    assert_eq!(listed, &expected);
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&read[name], value, "{name}");
    }
    let of_event = endpoint.tenant.all(&format!("/events/{}/deliveries", event.id)).await;
    assert_eq!(of_event, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_cover_the_list_once_even_while_it_grows() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let events = succeeded_events(&host, &endpoint, 7).await;
    let mut newest_first: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    newest_first.reverse();

    let mut seen = Vec::new();
    let mut path = "/deliveries?limit=3&type=incident.created".to_owned();
    for page in 0.. {
        let reply = endpoint.get(&path).await.expect(200);
        let items = reply["items"].as_array().unwrap().clone();
        assert!(items.len() <= 3);
        seen.extend(event_ids(&items).into_iter().map(str::to_owned));
        if page == 0 {
            // What comes in between is newer than the cursor and does not shift the pages.
            let late = endpoint.tenant.event("incident.created", json!("late")).await;
            endpoint.delivery_in("succeeded", &late).await;
        }
        let Some(cursor) = reply["next_cursor"].as_str() else { break };
        path = format!("/deliveries?limit=3&type=incident.created&cursor={cursor}");
    }
    assert_eq!(seen, newest_first);
    assert_eq!(endpoint.get("/deliveries?limit=100").await.expect(200)["next_cursor"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_is_paged() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let operator = host.operator();
    for n in 0..4 {
        operator.post("/v1/tenants", json!({"id": format!("t{n}")})).await.expect(201);
        operator.post("/v1/tokens", json!({"scope": "producer"})).await.expect(201);
        operator.post("/v1/tenants/acme/tokens", json!({})).await.expect(201);
        acme.endpoint(&receiver).await;
    }
    let event = acme.event("incident.created", json!({})).await;
    let of_event = format!("/v1/tenants/acme/events/{}/deliveries", event.id);
    let lists =
        ["/v1/tenants", "/v1/tokens", "/v1/tenants/acme/tokens", "/v1/tenants/acme/endpoints", of_event.as_str()];
    for list in lists {
        let all = operator.all(list).await;
        let in_pages = operator.all(&format!("{list}?limit=2")).await;
        let ids = |items: &[Value]| items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>();
        assert!(all.len() >= 4, "{list}");
        assert_eq!(ids(&all), ids(&in_pages), "{list}");
        let first = operator.get(&format!("{list}?limit=2")).await.expect(200);
        assert_eq!(first["items"].as_array().unwrap().len(), 2, "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_filtered_by_state_type_and_time() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200, 410]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let first = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &first).await;
    host.advance(Duration::from_mins(1)).await;
    let second = endpoint.tenant.event("incident.resolved", json!({})).await;
    endpoint.delivery_in("failed", &second).await;
    endpoint.comes_to("disabled").await;
    host.advance(Duration::from_mins(1)).await;
    let third = endpoint.tenant.event("incident.created", json!({})).await;

    let cases: [(&str, Vec<&Event>); 10] = [
        ("?state=succeeded&type=incident.created", vec![&first]),
        ("?state=failed", vec![&second]),
        ("?state=held", vec![&third]),
        ("?state=pending", vec![]),
        ("?state=dropped", vec![]),
        ("?type=incident.created", vec![&third, &first]),
        ("?after=2026-03-01T12:01:00Z", vec![&third, &second]),
        ("?before=2026-03-01T12:02:00Z&after=2026-03-01T12:00:01Z", vec![&second]),
        ("?after=2026-03-01T13:01:00%2B01:00", vec![&third, &second]),
        ("?type=incident.created&state=held&after=2026-03-01T12:02:00.000Z", vec![&third]),
    ];
    for (query, expected) in cases {
        let found = endpoint.deliveries(query).await;
        let expected: Vec<&str> = expected.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(event_ids(&found), expected, "{query}");
    }
    let of_event = format!("/events/{}/deliveries?state=succeeded", second.id);
    assert!(endpoint.tenant.all(&of_event).await.is_empty(), "the other list filters, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_query_is_refused() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    succeeded_events(&host, &endpoint, 2).await;
    let cursor = endpoint.get("/deliveries?limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    let cut = &cursor[..cursor.len() - 1];
    let queries = [
        "limit=0".to_owned(),
        "limit=101".to_owned(),
        "limit=-1".to_owned(),
        "limit=ten".to_owned(),
        "state=sleeping".to_owned(),
        "state=".to_owned(),
        "after=yesterday".to_owned(),
        "before=2026-03-01".to_owned(),
        "cursor=".to_owned(),
        "cursor=garbage".to_owned(),
        "cursor=%00%ff".to_owned(),
        format!("cursor={cut}"),
        format!("cursor={cursor}AAAA"),
        "surprise=1".to_owned(),
        "limit=1&limit=2".to_owned(),
    ];
    for query in &queries {
        let reply = endpoint.get(&format!("/deliveries?{query}")).await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.text);
        reply.expect_problem(400, "invalid-request");
    }
    for query in ["limit=0", "cursor=garbage", "surprise=1"] {
        host.operator().get(&format!("/v1/tenants?{query}")).await.expect_problem(400, "invalid-request");
        endpoint.tenant.get(&format!("/endpoints?{query}")).await.expect_problem(400, "invalid-request");
    }
    endpoint.get(&format!("/deliveries?cursor={cursor}")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_sends_a_finished_delivery_again_with_five_new_attempts() {
    let change = |config: &mut revnoxa_host::config::Config| config.retry_delays = vec![Duration::from_secs(1); 4];
    let host = Host::builder().with(change).start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    fail_all(&host, &endpoint, &event, 1..=5).await;

    let reply = endpoint.retry(&event).await.expect(202);
    assert_eq!((&reply["state"], &reply["attempts"]), (&json!("pending"), &json!(5)));
    fail_all(&host, &endpoint, &event, 6..=10).await;

    receiver.answer([200]);
    endpoint.retry(&event).await.expect(202);
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    assert_eq!(delivery["attempts"], 11);
    let requests = receiver.received();
    assert_eq!(requests[10].header("x-revnoxa-attempt"), Some("11"));
    assert!(requests.iter().all(|request| request.body == requests[0].body), "the same bytes each time");

    endpoint.retry(&event).await.expect(202);
    assert_eq!(endpoint.attempted(12, &event).await["state"], "succeeded", "also what had succeeded");
}

async fn fail_all(host: &Host, endpoint: &Endpoint, event: &Event, attempts: std::ops::RangeInclusive<usize>) {
    for number in attempts {
        let delivery = endpoint.attempted(number, event).await;
        match number % 5 {
            0 => assert_eq!(delivery["state"], "failed"),
            _ => host.advance_to(&delivery["next_attempt_at"], 0).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_of_a_waiting_delivery_sends_it_now() {
    let host = Host::start().await;
    let receiver = Receiver::answering([500, 200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.attempted(1, &event).await;
    endpoint.retry(&event).await.expect(202);
    endpoint.delivery_in("succeeded", &event).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_of_an_attempt_under_way_is_a_conflict() {
    let host = Host::start().await;
    let gate = Gate::closed();
    let receiver = Receiver::answering([Answer::status(200).behind(&gate)]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    receiver.wait_for(1).await;
    endpoint.retry(&event).await.expect_problem(409, "conflict");
    gate.open();
    endpoint.delivery_in("succeeded", &event).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn recover_sends_all_that_failed_since_a_time() {
    let host = Host::builder().with(|config| config.retry_delays = vec![Duration::from_secs(1)]).start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let mut events = Vec::new();
    for n in 0..4 {
        let event = endpoint.tenant.event("incident.created", json!({"n": n})).await;
        let failed = endpoint.attempted(1, &event).await;
        host.advance_to(&failed["next_attempt_at"], 0).await;
        endpoint.delivery_in("failed", &event).await;
        events.push(event);
        host.advance(Duration::from_mins(10)).await;
    }
    receiver.answer([200]);
    let good = endpoint.tenant.event("incident.created", json!("good")).await;
    endpoint.delivery_in("succeeded", &good).await;
    let sent_before = receiver.received().len();

    let since = endpoint.delivery(&events[1]).await["created_at"].clone();
    let recovered = endpoint.post("/recover", json!({"since": since})).await.expect(202);
    assert_eq!(recovered["deliveries"], 3);
    for event in &events[1..] {
        endpoint.delivery_in("succeeded", event).await;
    }
    assert_eq!(endpoint.delivery(&events[0]).await["state"], "failed", "it is older");
    assert_eq!(receiver.received().len(), sent_before + 3, "what had succeeded is not sent again");
    assert_eq!(endpoint.post("/recover", json!({"since": since})).await.expect(202)["deliveries"], 0);

    for refused in [json!({}), json!({"since": "yesterday"}), json!({"since": 1}), json!({"since": since, "x": 1})] {
        let reply = endpoint.post("/recover", refused).await;
        assert!([400, 422].contains(&reply.status), "{}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_not_text_is_kept_readable() {
    let host = Host::start().await;
    let receiver = Receiver::answering([Answer::status(500).body(b"caf\xe9 \x00 \xff".to_vec())]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let body = endpoint.attempted(1, &event).await["history"][0]["response_body"].as_str().unwrap().to_owned();
    assert!(body.starts_with("caf"), "{body:?}");
}
