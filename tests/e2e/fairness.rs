//! One dead endpoint does not slow the healthy ones.

use std::time::Duration;

use revnoxa_host::config::Config;
use revnoxa_tests::{Answer, Host, Receiver, eventually};
use serde_json::{Value, json};

/// A dead endpoint hangs longer than the test waits: whoever queued behind it would not arrive in time.
fn patient(config: &mut Config) {
    config.attempt_timeout = Duration::from_secs(60);
    config.lease = Duration::from_secs(300);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_endpoint_does_not_slow_a_hundred_healthy_ones() {
    let host = Host::builder().with(patient).start().await;
    let (dead, alive) = (Receiver::answering([Answer::hang()]).await, Receiver::answering([200]).await);
    let unlucky = host.tenant("unlucky").await.endpoint(&dead).await;
    let mut healthy = Vec::new();
    for tenant in 0..4 {
        let tenant = host.tenant(&format!("healthy-{tenant}")).await;
        for n in 0..25 {
            let url = alive.url_at(&format!("/{}/{n}", tenant.id));
            healthy.push(tenant.endpoint_with(json!({"url": url})).await);
        }
    }
    post(&host, "unlucky", 1_000).await;
    dead.wait_for(1).await;

    for round in 1..=3 {
        for tenant in 0..4 {
            post(&host, &format!("healthy-{tenant}"), 1).await;
        }
        post(&host, "unlucky", 100).await;
        alive.wait_for(round * healthy.len()).await;
    }
    let of_the_dead = unlucky.deliveries("?limit=100&type=incident.created").await;
    assert!(of_the_dead.iter().all(|delivery| delivery["state"] == "pending"), "it hung all the while");
    for endpoint in &healthy {
        let path_of_it = endpoint.created["url"].as_str().unwrap();
        let arrived = alive.received().iter().filter(|one| path_of_it.ends_with(&one.path)).count();
        assert_eq!(arrived, 3, "{path_of_it}");
    }
    drop(dead);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_s_backlog_of_due_retries_does_not_stand_in_front() {
    let host = Host::builder().with(patient).start().await;
    let (dead, alive) = (Receiver::answering([500]).await, Receiver::answering([500, 200]).await);
    let unlucky = host.tenant("unlucky").await.endpoint(&dead).await;
    let healthy = host.tenant("healthy").await.endpoint(&alive).await;
    post(&host, "unlucky", 1_000).await;
    eventually("all of the dead one's to have failed once", async || {
        let tried = unlucky.deliveries("?type=incident.created&limit=100").await;
        tried.iter().all(|delivery| delivery["attempts"] == 1).then_some(())
    })
    .await;
    let event = healthy.tenant.event("incident.created", json!({})).await;
    let failed = healthy.attempted(1, &event).await;

    // All 1,000 come due, most of them before the healthy one's single retry, and hang.
    dead.answer([Answer::hang()]);
    host.advance_to(&failed["next_attempt_at"], 4_000).await;
    healthy.delivery_in("succeeded", &event).await;
    assert!(unlucky.deliveries("?state=succeeded&type=incident.created").await.is_empty());
    drop(dead);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_s_hanging_tests_do_not_keep_another_from_its_own() {
    let host = Host::builder().with(patient).start().await;
    let (dead, alive) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    dead.answer_tests(Answer::hang());
    let crowd = host.tenant("crowd").await;
    for _ in 0..70 {
        let (crowd, url) = (crowd.clone(), dead.url());
        tokio::spawn(async move { crowd.post("/endpoints", json!({"url": url})).await });
    }
    eventually("the crowd's tests to hang", async || (dead.tests().len() == 8).then_some(())).await;

    let endpoint = host.tenant("other").await.endpoint(&alive).await;
    assert_eq!(endpoint.created["test"]["delivered"], true);
    assert_eq!(dead.tests().len(), 8, "the others of the crowd wait for their turn");
    drop(dead);
}

async fn post(host: &Host, tenant: &str, n: usize) {
    let event = |n| json!({"tenant": tenant, "type": "incident.created", "data": {"n": n}});
    let events: Vec<Value> = (0..n).map(event).collect();
    host.producer().await.post("/v1/events/batch", json!({"events": events})).await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_s_dead_endpoint_does_not_slow_its_other_one() {
    let host = Host::builder().with(patient).start().await;
    let (dead, alive) = (Receiver::answering([Answer::hang()]).await, Receiver::answering([200]).await);
    let acme = host.tenant("acme").await;
    let hanging = acme.endpoint(&dead).await;
    acme.endpoint(&alive).await;
    post(&host, "acme", 500).await;
    alive.wait_for(500).await;
    let of_the_dead = hanging.deliveries("?limit=100&type=incident.created").await;
    assert!(of_the_dead.iter().all(|delivery| delivery["state"] == "pending"), "it hung all the while");
    drop(dead);
}

/// Few permits, so that a few dead endpoints could take them all.
fn narrow(config: &mut Config) {
    patient(config);
    config.max_in_flight = 16;
    config.max_in_flight_per_endpoint = 16;
    config.retry_delays = vec![Duration::from_secs(30); 2];
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_dead_endpoints_leaves_permits_to_those_that_answer() {
    let host = Host::builder().with(narrow).start().await;
    let (dead, alive) = (Receiver::answering([Answer::close()]).await, Receiver::answering([200]).await);
    let healthy = host.tenant("healthy").await.endpoint(&alive).await;
    let unlucky = host.tenant("unlucky").await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(unlucky.endpoint(&dead).await);
    }
    let event = unlucky.event("incident.created", json!({})).await;
    for endpoint in &crowd {
        endpoint.attempted(1, &event).await;
    }
    dead.answer([Answer::hang()]);
    host.advance(Duration::from_secs(33)).await;
    dead.wait_for(crowd.len() + 1).await;

    for n in 0..20 {
        let event = healthy.tenant.event("incident.created", json!({"n": n})).await;
        healthy.delivery_in("succeeded", &event).await;
    }
    assert!(crowd[0].delivery(&event).await["history"].as_array().unwrap().len() == 1, "they hung all the while");
    drop(dead);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_endpoints_hang_after_good_tests_does_not_take_every_permit() {
    let host = Host::builder().with(narrow).start().await;
    let (dead, alive) = (Receiver::answering([Answer::hang()]).await, Receiver::answering([200]).await);
    let healthy = host.tenant("healthy").await.endpoint(&alive).await;
    let mallory = host.tenant("mallory").await;
    for _ in 0..40 {
        mallory.endpoint(&dead).await;
    }
    mallory.event("incident.created", json!({})).await;
    dead.wait_for(1).await;
    let event = healthy.tenant.event("incident.created", json!({})).await;
    healthy.delivery_in("succeeded", &event).await;
    drop(dead);
}
