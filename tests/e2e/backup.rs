//! `backup`: a copy taken while the host works holds all that was acknowledged before it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
};

use revnoxa_tests::{Client, Machine, Receiver, eventually, on_postgres};
use serde_json::json;
use tokio::task::JoinSet;

const PRODUCERS: usize = 4;
/// Events acknowledged before the backup, and again after it.
const EVENTS: usize = 200;

type Acknowledged = Arc<Mutex<Vec<String>>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_restores_all_that_was_acknowledged_before_it() {
    let machine = Machine::on_a_file();
    let data = machine.dir().join("data");
    let copy = machine.dir().join("copy.db");
    let receiver = Receiver::answering([200]).await;
    let host = machine.serve().await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let acknowledged = Acknowledged::default();
    let mut producers = JoinSet::new();
    for _ in 0..PRODUCERS {
        producers.spawn(post_until_it_dies(machine.producer().await, acknowledged.clone()));
    }
    let several = async |so_far: usize| {
        eventually("events to be acknowledged", async || {
            (acknowledged.lock().unwrap().len() >= so_far + EVENTS).then_some(())
        })
        .await;
    };
    several(0).await;
    let before = acknowledged.lock().unwrap().clone();
    let backup = machine.run(&["backup", copy.to_str().unwrap()]).await;
    assert!(backup.status.success(), "{}", String::from_utf8_lossy(&backup.stderr));
    let so_far = acknowledged.lock().unwrap().len();
    several(so_far).await;
    host.kill9().await;
    producers.join_all().await;
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600, "payloads are nobody else's business");

    // As the documentation says.
    for name in ["revnoxa.db", "revnoxa.db-wal", "revnoxa.db-shm"] {
        let _ = fs::remove_file(data.join(name));
    }
    fs::rename(&copy, data.join("revnoxa.db")).unwrap();
    let _host = machine.serve().await;
    for id in &before {
        let deliveries = endpoint.tenant.get(&format!("/events/{id}/deliveries")).await.expect(200);
        assert_eq!(deliveries["items"].as_array().map(Vec::len), Some(1), "{id}");
    }
    eventually("what the copy held to be delivered", async || {
        let pending = endpoint.get("/deliveries?state=pending&limit=1").await.expect(200);
        pending["items"].as_array()?.is_empty().then_some(())
    })
    .await;
    let arrived: Vec<String> = receiver.received().iter().map(|request| request.event_id()).collect();
    assert!(before.iter().all(|id| arrived.contains(id)), "each has arrived");
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &event).await;
}

async fn post_until_it_dies(producer: Client, acknowledged: Acknowledged) {
    let event = json!({"tenant": "acme", "type": "incident.created", "data": {"text": "x".repeat(2_000)}});
    while let Ok(reply) = producer.request("POST", "/v1/events").json(&event).try_send().await {
        acknowledged.lock().unwrap().push(reply.expect(202).text_of("id").to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_replaces_nothing_and_says_what_it_cannot_copy() {
    let machine = Machine::on_a_file();
    let refused = async |machine: &Machine, to: &str, why: &str| {
        let refused = machine.run(&["backup", to]).await;
        assert!(!refused.status.success(), "{to}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(why), "{said}");
    };
    refused(&machine, "copy.db", "there is no database").await;
    let migrated = machine.run(&["migrate"]).await;
    assert!(migrated.status.success(), "{migrated:?}");
    let backup = machine.run(&["backup", "copy.db"]).await;
    assert!(backup.status.success(), "{}", String::from_utf8_lossy(&backup.stderr));
    let before = fs::read(machine.dir().join("copy.db")).unwrap();
    refused(&machine, "copy.db", "is there already").await;
    assert_eq!(fs::read(machine.dir().join("copy.db")).unwrap(), before);
    refused(&machine, "no-such-folder/copy.db", "cannot write").await;

    fs::write(machine.dir().join("data/revnoxa.db"), "no database").unwrap();
    for name in ["data/revnoxa.db-wal", "data/revnoxa.db-shm"] {
        let _ = fs::remove_file(machine.dir().join(name));
    }
    refused(&machine, "damaged.db", "cannot copy the database").await;
    let left = fs::read_dir(machine.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<String> = left.collect();
    left.sort();
    assert_eq!(left, ["copy.db", "data"], "nothing is left of what did not work");
    if on_postgres() {
        refused(&Machine::new(), "copy.db", "pg_dump").await;
    }
}
