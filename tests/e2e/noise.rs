//! One tenant's noise: whoever goes far beyond its quota harms nobody else.

use std::collections::{BTreeMap, BTreeSet};

use revnoxa_tests::{Host, Receiver, eventually};
use serde_json::json;
use tokio::task::JoinSet;

/// Of events and of calls, in a minute that does not pass.
const QUOTA: usize = 20;
const QUIET: [&str; 3] = ["quiet-0", "quiet-1", "quiet-2"];

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_its_quota_of_events_harms_no_other_tenant_s_deliveries_and_answers() {
    let limit = Some(format!("{QUOTA}/1m").parse().unwrap());
    let host = Host::builder().with(|config| config.event_rate_limit = limit).start().await;
    let (noise, quiet) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    host.tenant("noisy").await.endpoint(&noise).await;
    let mut endpoints = Vec::new();
    for tenant in QUIET {
        endpoints.push(host.tenant(tenant).await.endpoint(&quiet).await);
    }
    let producer = host.producer().await;
    let mut posts = JoinSet::new();
    for n in 0..QUOTA {
        for tenant in ["noisy"; 10].into_iter().chain(QUIET) {
            let producer = producer.clone();
            let event = json!({"tenant": tenant, "type": "incident.created", "data": {"n": n}});
            posts.spawn(async move {
                let reply = producer.post("/v1/events", event).await;
                assert_eq!(reply.header("retry-after").is_some(), reply.status == 429, "{}", reply.text);
                (tenant, reply.status)
            });
        }
    }
    let mut answers = BTreeMap::new();
    for answer in posts.join_all().await {
        *answers.entry(answer).or_insert(0) += 1;
    }
    let mut expected = BTreeMap::from([(("noisy", 202), QUOTA), (("noisy", 429), 9 * QUOTA)]);
    expected.extend(QUIET.map(|tenant| ((tenant, 202), QUOTA)));
    assert_eq!(answers, expected);

    quiet.wait_for(QUIET.len() * QUOTA).await;
    noise.wait_for(QUOTA).await;
    for endpoint in &endpoints {
        eventually("all of a quiet tenant's deliveries to succeed", async || {
            let succeeded = endpoint.deliveries("?state=succeeded&type=incident.created").await;
            (succeeded.len() == QUOTA).then_some(())
        })
        .await;
    }
    host.claim_round().await;
    let distinct = |receiver: &Receiver| {
        receiver.received().iter().map(|request| request.event_id()).collect::<BTreeSet<_>>().len()
    };
    assert_eq!((distinct(&quiet), quiet.received().len()), (QUIET.len() * QUOTA, QUIET.len() * QUOTA));
    assert_eq!((distinct(&noise), noise.received().len()), (QUOTA, QUOTA), "what was refused is not delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_beyond_a_quota_take_nothing_from_the_tenants_that_they_are_also_for() {
    let limit = Some(format!("{QUOTA}/1m").parse().unwrap());
    let host = Host::builder().with(|config| config.event_rate_limit = limit).start().await;
    let receiver = Receiver::answering([200]).await;
    host.tenant("noisy").await;
    host.tenant("quiet").await.endpoint(&receiver).await;
    let producer = host.producer().await;
    let batch = |noisy: usize, quiet: usize| {
        let tenants = ["noisy"].repeat(noisy).into_iter().chain(["quiet"].repeat(quiet));
        let event = |tenant| json!({"tenant": tenant, "type": "incident.created", "data": {}});
        json!({"events": tenants.map(event).collect::<Vec<_>>()})
    };
    producer.post("/v1/events/batch", batch(QUOTA, 0)).await.expect(202);
    let mut posts = JoinSet::new();
    for _ in 0..10 {
        let (producer, batch) = (producer.clone(), batch(QUOTA, QUOTA));
        posts
            .spawn(async move { producer.post("/v1/events/batch", batch).await.expect(429).blamed_field().to_owned() });
    }
    assert_eq!(posts.join_all().await, ["events[0].tenant"; 10]);
    producer.post("/v1/events/batch", batch(0, QUOTA)).await.expect(202);
    receiver.wait_for(QUOTA).await;
    host.claim_round().await;
    assert_eq!(receiver.received().len(), QUOTA);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_its_quota_of_calls_harms_no_other_tenant_s_answers_and_no_deliveries() {
    let limit = Some(format!("{QUOTA}/1m").parse().unwrap());
    let host = Host::builder().with(|config| config.api_rate_limit = limit).start().await;
    let receiver = Receiver::answering([200]).await;
    let noisy = host.tenant("noisy").await;
    // By the operator: none of the tenants' own calls is used up.
    let as_operator = noisy.with_token(host.operator().token());
    as_operator.post("/endpoints", json!({"url": receiver.url()})).await.expect(201);
    let mut callers = vec![(noisy.id.clone(), noisy.below(""), 10)];
    for id in QUIET {
        let tenant = host.tenant(id).await;
        callers.push((tenant.id.clone(), tenant.below(""), 1));
    }
    let mut calls = JoinSet::new();
    for _ in 0..QUOTA {
        for (tenant, client, times) in &callers {
            for _ in 0..*times {
                let (tenant, client) = (tenant.clone(), client.clone());
                calls.spawn(async move { (tenant, client.get("/endpoints").await.status) });
            }
        }
    }
    let mut answers = BTreeMap::new();
    for answer in calls.join_all().await {
        *answers.entry(answer).or_insert(0) += 1;
    }
    let noisy_ones = [(("noisy".to_owned(), 200), QUOTA), (("noisy".to_owned(), 429), 9 * QUOTA)];
    let mut expected = BTreeMap::from(noisy_ones);
    expected.extend(QUIET.map(|tenant| ((tenant.to_owned(), 200), QUOTA)));
    assert_eq!(answers, expected);

    // Not even its own: calls are one thing, events another.
    noisy.event("incident.created", json!({})).await;
    receiver.wait_for(1).await;
}
