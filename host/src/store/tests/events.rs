//! Past events, for whoever tries a plugin on them.

use super::*;

#[tokio::test]
async fn past_events_come_newest_first_in_pages_without_tests() {
    let world = World::new().await;
    let endpoint = world.endpoint().await;
    world.endpoint().await;
    let mut events = Vec::new();
    for n in 0..120 {
        events.push(world.event(&n.to_string()).await);
    }
    let test = Event {
        tenant: world.acme.clone(),
        id: EventId::new(world.clock.now()),
        event_type: EventType::test(),
        body: Bytes::from_static(b"{}"),
        fingerprint: None,
        trace: None,
    };
    world.writer.accept_test(test, endpoint.id).await.unwrap().unwrap();
    events.reverse();
    let mut seen = Vec::new();
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let left = 110 - seen.len();
        let page = world.store.last_events_of_endpoint(&world.acme, endpoint.id, before, left).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.delivery);
        pages.push(page.len());
        seen.extend(page.into_iter().map(|past| past.event));
    }
    assert_eq!(pages, [50, 50, 10]);
    assert_eq!(seen, events[..110]);
    let (event_type, body) = world.store.event(&world.acme, &events[0]).await.unwrap().unwrap();
    assert_eq!(event_type.as_str(), "incident.created");
    assert!(body.ends_with(b"\"data\":119}"));
    let elsewhere = world.store.event(&"mallory".parse().unwrap(), &events[0]).await.unwrap();
    assert!(elsewhere.is_none());
}
