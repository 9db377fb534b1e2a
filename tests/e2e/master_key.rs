//! The master key is replaced while events flow.

use std::{
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use revnoxa_tests::{Endpoint, HostProcess, Machine, Receiver, eventually, verify};
use serde_json::{Value, json};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::plugin_flow::{attach, redact};

/// The key of every [`Machine`].
const FIRST: u8 = 9;

fn key(byte: u8) -> String {
    BASE64_STANDARD.encode([byte; 32])
}

/// A machine whose processes to come have this key, and these that it replaces.
fn with_keys(machine: Machine, current: u8, previous: &[u8]) -> Machine {
    let machine = machine.set("REVNOXA_MASTER_KEY", &key(current)).unset("REVNOXA_PREVIOUS_MASTER_KEYS");
    match previous {
        [] => machine,
        previous => {
            let previous: Vec<String> = previous.iter().copied().map(key).collect();
            machine.set("REVNOXA_PREVIOUS_MASTER_KEYS", &previous.join(","))
        }
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

/// What a subcommand says that does not do it.
async fn refused(machine: &Machine, command: &str) -> String {
    let output = machine.run(&[command]).await;
    let said = said(&output);
    assert!(!output.status.success(), "{command}: {said}");
    for byte in 1..=FIRST {
        assert!(!said.contains(&key(byte)), "a key is shown: {said}");
    }
    said
}

/// Connections of a host that has just ended may still be there for a moment, on PostgreSQL.
async fn rekey(machine: &Machine) -> String {
    eventually("the rekey to be through", async || {
        let output = machine.run(&["rekey"]).await;
        output.status.success().then(|| said(&output))
    })
    .await
}

async fn stop(mut host: HostProcess) {
    host.terminate();
    let status = host.exit().await;
    assert!(status.success(), "{status}:\n{}", host.printed());
}

/// A producer that posts without pause, each event again until it is taken.
struct Flow {
    stopped: Arc<AtomicBool>,
    posting: JoinHandle<Vec<String>>,
}

impl Flow {
    async fn start(machine: &Machine) -> Self {
        let (producer, stopped) = (machine.producer().await, Arc::new(AtomicBool::new(false)));
        let stop = stopped.clone();
        let posting = tokio::spawn(async move {
            let mut taken = Vec::new();
            while !stop.load(Relaxed) {
                let id = format!("evt_{}", taken.len());
                let event = json!({"tenant": "acme", "type": "incident.created", "id": id, "data": {}});
                let answer = producer.request("POST", "/v1/events").json(&event).try_send().await;
                if answer.is_ok_and(|reply| reply.status == 202) {
                    taken.push(id);
                }
                sleep(Duration::from_millis(10)).await;
            }
            taken
        });
        Self { stopped, posting }
    }

    /// The ids of all that were taken.
    async fn stop(self) -> Vec<String> {
        self.stopped.store(true, Relaxed);
        self.posting.await.unwrap()
    }
}

/// Posts an event and fails the test unless it arrives with what the endpoint had sealed: headers, settings and this secret.
async fn arrives_as_sealed(endpoint: &Endpoint, receiver: &Receiver, secret: &str) {
    let event = endpoint.tenant.event("incident.created", json!({"secret": "x"})).await;
    endpoint.delivery_in("succeeded", &event).await;
    let received = receiver.received();
    let request = received.iter().find(|request| request.event_id() == event.id).expect("it arrived");
    verify::both_signatures(secret, request, Timestamp::now());
    assert_eq!(request.header("x-token"), Some("credential"));
    assert_eq!(request.json()["data"], json!({"secret": "[redacted]"}));
}

/// An endpoint with a credential in a header and settings of a plugin.
async fn endpoint(machine: &Machine, receiver: &Receiver) -> Endpoint {
    let acme = machine.known_tenant("acme").await;
    let endpoint = acme.endpoint_with(json!({"url": receiver.url(), "headers": {"X-Token": "credential"}})).await;
    attach(&endpoint, json!([redact(&["/data/secret"])])).await.expect(200);
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_key_is_replaced_while_events_flow() {
    let machine = Machine::new();
    let host = machine.serve().await;
    let receivers =
        [Receiver::answering([200]).await, Receiver::answering([200]).await, Receiver::answering([200]).await];
    machine.tenant("acme").await;
    let early = endpoint(&machine, &receivers[0]).await;
    let rotated = early.post("/rotate-secret", json!({"overlap_seconds": 3600})).await.expect(200);
    let flow = Flow::start(&machine).await;

    // Neither does the new key open anything by itself, nor is it taken before the host that runs has it.
    let machine = with_keys(machine, 1, &[]);
    let alone = refused(&machine, "migrate").await;
    assert!(alone.contains("`previous_master_keys`"), "{alone}");
    let machine = with_keys(machine, 1, &[FIRST]);
    let too_early = refused(&machine, "rekey").await;
    assert!(too_early.contains("does not know the master key"), "{too_early}");

    stop(host).await;
    let host = machine.serve().await;
    let middle = endpoint(&machine, &receivers[1]).await;
    let done = rekey(&machine).await;
    assert!(done.contains("everything is sealed under the master key"), "{done}");
    let late = endpoint(&machine, &receivers[2]).await;

    let machine = with_keys(machine, 1, &[]);
    stop(host).await;
    let _host = machine.serve().await;
    arrives_as_sealed(&early, &receivers[0], rotated.text_of("secret")).await;
    arrives_as_sealed(&middle, &receivers[1], &middle.secret).await;
    arrives_as_sealed(&late, &receivers[2], &late.secret).await;
    let overlap = receivers[0].received();
    verify::standard_webhooks(&early.secret, overlap.last().unwrap(), Timestamp::now()).unwrap();

    let taken = flow.stop().await;
    assert!(taken.len() > 20, "events flowed: {}", taken.len());
    let all = format!("all {} events", taken.len());
    receivers[0]
        .wait_until(&all, |arrived| {
            let arrived: std::collections::HashSet<_> =
                arrived.iter().filter_map(|request| request.header("webhook-id")).collect();
            taken.iter().all(|id| arrived.contains(id.as_str()))
        })
        .await;

    let machine = with_keys(machine, FIRST, &[]);
    let too_late = refused(&machine, "migrate").await;
    assert!(too_late.contains("`master_key` is not the key of this database"), "{too_late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_that_is_killed_half_way_goes_on_and_hosts_serve_in_between() {
    let machine = Machine::new();
    let host = machine.serve().await;
    let receiver = Receiver::answering([200]).await;
    machine.tenant("acme").await;
    // As many settings that it takes a while.
    let mut attaching = JoinSet::new();
    for _ in 0..40 {
        let endpoint = endpoint(&machine, &receiver).await;
        let settings: Vec<Value> = (0..8).map(|_| redact(&["/data/secret"])).collect();
        attaching.spawn(async move { attach(&endpoint, json!(settings)).await.expect(200) });
    }
    attaching.join_all().await;
    let watched = Receiver::answering([200]).await;
    let endpoint = endpoint(&machine, &watched).await;
    stop(host).await;

    let mut machine = with_keys(machine, 1, &[FIRST]);
    let mut keys = vec![FIRST];
    let mut half_way = None;
    // Should one be through before it is killed, another key has its turn.
    for next in 1..=3 {
        machine = with_keys(machine, next, &keys);
        let rekeying = machine.spawn(&["rekey"]);
        rekeying.line("the new key to be taken", |line| line.contains("from now on").then_some(())).await;
        rekeying.kill9().await;
        machine = with_keys(machine, next, &[]);
        let alone = machine.run(&["migrate"]).await;
        machine = with_keys(machine, next, &keys);
        keys.insert(0, next);
        if !alone.status.success() {
            half_way = Some(said(&alone));
            break;
        }
    }
    let alone = half_way.expect("a rekey that is killed before it is through");
    assert!(alone.contains("until `revnoxa-host rekey` is through"), "{alone}");

    let host = machine.serve().await;
    host.line("what the host says of it", |line| line.contains("`revnoxa-host rekey` is not through").then_some(()))
        .await;
    assert_eq!(machine.operator().all("/v1/tenants/acme/endpoints").await.len(), 41);
    arrives_as_sealed(&endpoint, &watched, &endpoint.secret).await;
    rekey(&machine).await;
    arrives_as_sealed(&endpoint, &watched, &endpoint.secret).await;
    stop(host).await;

    let machine = with_keys(machine, keys[0], &[]);
    let _host = machine.serve().await;
    assert_eq!(machine.operator().all("/v1/tenants/acme/endpoints").await.len(), 41);
    arrives_as_sealed(&endpoint, &watched, &endpoint.secret).await;
}
