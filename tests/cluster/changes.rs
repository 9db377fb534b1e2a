//! What was changed through one host holds on the other as soon as the change is answered.

use std::time::{Duration, Instant};

use revnoxa_tests::{
    Answer, Endpoint, HostProcess, Machine, Postgres, Received, Receiver, Reply, eventually, verify::openssl_hmac,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{customers::attempted, database, host, rounds};

/// What was signed before the change was answered may arrive so much later.
const ON_ITS_WAY: Duration = Duration::from_millis(60);

/// What a host may go by without asking the database, so that it sees a change at the latest so long after.
const REMEMBERED: Duration = Duration::from_millis(250);

/// Two hosts; changes go to the first, and deliveries are made by the second.
struct Pair {
    changes: Machine,
    delivers: Machine,
    endpoint: Endpoint,
    receiver: Receiver,
    _processes: [HostProcess; 2],
    _server: Postgres,
}

impl Pair {
    async fn new() -> Option<Self> {
        let (server, url) = database()?;
        let often = |machine: Machine| machine.set("REVNOXA_RETRY_DELAYS", &["50ms"; 20].join(","));
        let (changes, delivers) = (often(host(&url)), often(host(&url)));
        let processes = [changes.serve().await, delivers.serve().await];
        let receiver = Receiver::answering([200]).await;
        let endpoint = changes.tenant("acme").await.endpoint(&receiver).await;
        Some(Self { changes, delivers, endpoint, receiver, _processes: processes, _server: server })
    }

    /// Events whose attempts fail again and again, one every few milliseconds, by the second host.
    async fn busy(&self, events: usize) {
        let before = self.receiver.received().len();
        self.receiver.answer([Answer::status(500)]);
        self.post(events).await;
        self.receiver.wait_for(before + 3 * events).await;
    }

    /// Through the second host.
    async fn post(&self, events: usize) {
        let producer = self.delivers.producer().await;
        for number in 0..events {
            let event = json!({"tenant": "acme", "type": "incident.created", "data": {"a": number, "b": number}});
            assert_eq!(producer.post("/v1/events", event).await.expect(202)["deliveries"], 1);
        }
    }

    /// What came after `moment`, once all is done.
    async fn after(&self, moment: Instant) -> Vec<std::sync::Arc<Received>> {
        self.receiver.answer([200]);
        eventually("all to be done", async || {
            self.endpoint.deliveries("?state=pending&limit=1").await.is_empty().then_some(())
        })
        .await;
        self.receiver.received().into_iter().filter(|request| request.at.into_std() > moment + ON_ITS_WAY).collect()
    }
}

/// The answer to a change, and when it came: not before the other host has forgotten how it was.
async fn change(request: impl Future<Output = Reply>) -> (Reply, Instant) {
    let asked = Instant::now();
    let answer = request.await;
    let moment = Instant::now();
    assert!(moment - asked >= REMEMBERED, "answered after {:?}", moment - asked);
    (answer, moment)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_used_everywhere() {
    let Some(pair) = Pair::new().await else { return };
    for _ in 0..rounds(4) {
        pair.busy(8).await;
        let rotation = pair.endpoint.post("/rotate-secret", json!({"overlap_seconds": 0}));
        let (rotated, moment) = change(rotation).await;
        let rotated = rotated.expect(200);
        let by_the_other = attempted(&pair.delivers).await;
        sleep(Duration::from_millis(200)).await;
        let secret = rotated.text_of("secret");
        let signed = pair.after(moment).await;
        for request in &signed {
            let signature = request.header("x-revnoxa-signature").unwrap();
            assert_eq!(signature, openssl_hmac(secret, &request.body), "{:?} after", request.at.into_std() - moment);
        }
        assert!(attempted(&pair.delivers).await > by_the_other, "the other host made none");
        assert!(signed.len() > 8, "{} attempts", signed.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_endpoint_and_a_deleted_one_get_nothing_from_anyone() {
    let Some(pair) = Pair::new().await else { return };
    let late = |moment: Instant| {
        let received = pair.receiver.received();
        received.iter().filter(|request| request.at.into_std() > moment + ON_ITS_WAY).count()
    };
    for _ in 0..rounds(3) {
        pair.busy(8).await;
        let (disabled, moment) = change(pair.endpoint.post_empty("/disable")).await;
        disabled.expect(200);
        // Many a retry would have come in this time.
        sleep(Duration::from_millis(400)).await;
        assert_eq!(late(moment), 0, "after it was disabled");
        pair.endpoint.post_empty("/enable").await.expect(200);
        assert!(!pair.after(moment).await.is_empty());
    }
    pair.busy(8).await;
    let (deleted, moment) = change(pair.endpoint.delete("")).await;
    deleted.expect(204);
    sleep(Duration::from_millis(400)).await;
    assert_eq!(late(moment), 0, "after it was deleted");
    let event = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    assert_eq!(pair.delivers.producer().await.post("/v1/events", event).await.expect(202)["deliveries"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_everywhere_within_a_second() {
    let Some(pair) = Pair::new().await else { return };
    let (here, there) = (pair.changes.operator(), pair.delivers.operator());
    for _ in 0..rounds(2) {
        let made = here.post("/v1/tokens", json!({"scope": "producer"})).await.expect(201);
        let bearer = there.with_token(made.text_of("token"));
        let event = json!({"tenant": "acme", "type": "incident.created", "data": {}});
        bearer.post("/v1/events", event.clone()).await.expect(202);
        here.delete(&format!("/v1/tokens/{}", made.text_of("id"))).await.expect(204);
        let moment = Instant::now();
        while bearer.post("/v1/events", event.clone()).await.status != 401 {
            assert!(moment.elapsed() < Duration::from_millis(1_100), "good after {:?}", moment.elapsed());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_attached_through_one_host_run_on_the_other() {
    let Some(pair) = Pair::new().await else { return };
    pair.post(1).await;
    pair.receiver.wait_for(1).await;
    let tenant = &pair.endpoint.tenant;
    tenant.post("/plugins", json!({"name": "mine"})).await.expect(201);
    let component = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../host/built-in/redact-fields.wasm")).unwrap();
    let uploaded = tenant.request("POST", "/plugins/mine/versions").body_of(Some("application/wasm"), component);
    uploaded.send().await.expect(201);
    let redact = |plugin: &str, field: &str| json!({"plugin": plugin, "settings": {"fields": [field]}});
    let both = json!([redact("redact-fields", "/data/a"), redact("mine", "/data/b")]);
    for (plugins, expected) in [(both, json!("[redacted]")), (json!([]), json!(0))].iter().cycle().take(2 * rounds(2)) {
        change(pair.endpoint.request("PUT", "/plugins").json(plugins).send()).await.0.expect(200);
        let (by_the_other, before) = (attempted(&pair.delivers).await, pair.receiver.received().len());
        pair.post(1).await;
        let data = &pair.receiver.wait_for(before + 1).await[before].json()["data"];
        assert_eq!((&data["a"], &data["b"]), (expected, expected));
        eventually("the other host to have run them", async || {
            (attempted(&pair.delivers).await > by_the_other).then_some(())
        })
        .await;
    }
    assert_eq!(pair.endpoint.read().await["state"], Value::from("active"));
}
