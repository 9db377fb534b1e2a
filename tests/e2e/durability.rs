//! An acknowledged event survives `kill -9`.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use revnoxa_tests::{Client, Machine, Receiver, eventually};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

const KILLS: usize = 20;
const PRODUCERS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_event_is_delivered_after_kill_9_at_twenty_random_moments() {
    let machine = Machine::new()
        .set("REVNOXA_LEASE", "2s")
        .set("REVNOXA_ATTEMPT_TIMEOUT", "1s")
        .set("REVNOXA_RETRY_DELAYS", "1s,1s,1s,1s");
    // Every third answer is a failure at first, so that each kill also finds deliveries that wait for a retry.
    let answers = (0..3_000).map(|n| if n % 3 == 0 { 500 } else { 200 });
    let receiver = Receiver::answering(answers.chain([200])).await;
    let mut random = StdRng::seed_from_u64(0x5eed);
    let acknowledged = Acknowledged::default();

    let mut host = machine.serve().await;
    machine.tenant("acme").await.endpoint(&receiver).await;
    let producer = machine.producer().await;
    for kill in 0..KILLS {
        let mut producers = JoinSet::new();
        for _ in 0..PRODUCERS {
            producers.spawn(post_until_it_dies(producer.clone(), acknowledged.clone(), kill));
        }
        // The moment is the point of this test, not something to wait for.
        sleep(Duration::from_millis(random.random_range(5..250))).await;
        host.kill9().await;
        producers.join_all().await;
        host = machine.serve().await;
    }
    let endpoint = &machine.operator().all("/v1/tenants/acme/endpoints").await[0];
    let path = format!("/v1/tenants/acme/endpoints/{}/deliveries", endpoint["id"].as_str().unwrap());
    eventually("all deliveries to be done", async || {
        let waiting = machine.operator().get(&format!("{path}?state=pending&limit=1")).await.expect(200);
        waiting["items"].as_array()?.is_empty().then_some(())
    })
    .await;
    let requests = receiver.received();
    let delivered: HashSet<&str> = requests.iter().filter_map(|request| request.header("webhook-id")).collect();
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() >= KILLS, "there was a load: {}", acknowledged.len());
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !delivered.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged events are lost: {lost:?}", lost.len(), acknowledged.len());
}

type Acknowledged = Arc<Mutex<Vec<String>>>;

async fn post_until_it_dies(producer: Client, acknowledged: Acknowledged, kill: usize) {
    loop {
        let event = json!({"tenant": "acme", "type": "incident.created", "data": {"before_kill": kill}});
        match producer.request("POST", "/v1/events").json(&event).try_send().await {
            Ok(reply) => acknowledged.lock().unwrap().push(reply.expect(202).text_of("id").to_owned()),
            Err(_) => return,
        }
    }
}
