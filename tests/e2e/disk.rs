//! The disk under the database is full, fails, or may not be written to: nothing more is acknowledged, nothing is lost, and the host
//! goes on by itself when it can.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use revnoxa_tests::{Answer, Disk, Gate, Machine, Receiver, binary, eventually, on_postgres};
use rustix::io::Errno;
use serde_json::{Value, json};
use tempfile::TempDir;

const FULL: &str = "the disk of the database is full";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_no_events_and_loses_none() {
    if on_postgres() {
        return;
    }
    let (machine, disk) = Disk::under(Machine::on_a_file());
    outlasts(&machine, FULL, false, || disk.fail(Errno::NOSPC), || disk.work()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_takes_no_events_and_loses_none() {
    if on_postgres() {
        return;
    }
    let (machine, disk) = Disk::under(Machine::on_a_file());
    outlasts(&machine, "the disk of the database fails", false, || disk.fail(Errno::IO), || disk.work()).await;
}

/// The same on a real file system that is full. In a mount namespace, to have a small one.
#[test]
fn a_full_file_system_takes_no_events_and_loses_none() {
    if on_postgres() {
        return;
    }
    // Not inside, where there is no room to build.
    binary();
    let folder = TempDir::new().unwrap();
    let mounted = |script: &str| {
        let mut command = Command::new("unshare");
        let script = format!("mount -t tmpfs -o size=24m tmpfs \"$1\" && shift && {script}");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(folder.path());
        command
    };
    let possible = mounted("true").output();
    if !possible.as_ref().is_ok_and(|made| made.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI needs mount namespaces: {possible:?}");
        eprintln!("skipped: no file system can be mounted here: {possible:?}");
        return;
    }
    let ran = mounted("exec \"$@\"")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disk::on_a_small_file_system", "--ignored", "--nocapture"])
        .env("TMPDIR", folder.path())
        .env("SMALL_FILE_SYSTEM", folder.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && printed.contains("1 passed"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs on the small file system that another test mounts"]
async fn on_a_small_file_system() {
    if std::env::var_os("SMALL_FILE_SYSTEM").is_none() {
        return;
    }
    let machine = Machine::on_a_file();
    let rest = machine.dir().join("rest");
    outlasts(&machine, FULL, true, || fill(&rest), || fs::remove_file(&rest).unwrap()).await;
}

/// Takes all the room there is.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let full = loop {
        if let Err(error) = file.write_all(&[0; 4096]) {
            break error;
        }
    };
    assert_eq!(full.raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "{full}");
}

/// The story of a host whose disk takes nothing any more, and then again. `said` is what the log has to say.
async fn outlasts(machine: &Machine, said: &str, room_for_little: bool, stop: impl FnOnce(), go_on: impl FnOnce()) {
    let mut host = machine.serve().await;
    let gate = Gate::closed();
    let answers = [Answer::status(200), Answer::status(200).behind(&gate), Answer::status(200)];
    let receiver = Receiver::answering(answers).await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let done = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &done).await;
    let under_way = endpoint.tenant.event("incident.created", json!({})).await;
    receiver.wait_for(2).await;
    let mut acknowledged = vec![done.id.clone(), under_way.id.clone()];

    stop();
    let producer = machine.producer().await;
    let event = |number: usize| {
        let id = format!("evt_{number}");
        json!({"tenant": "acme", "type": "incident.created", "id": id, "data": "x".repeat(20_000)})
    };
    // Files that are there may have some room left.
    let mut number = 0;
    let refused = loop {
        let answer = producer.post("/v1/events", event(number)).await;
        if answer.status != 202 {
            break answer;
        }
        acknowledged.push(answer.text_of("id").to_owned());
        number += 1;
        assert!(number < 500, "all is taken");
    };
    assert_eq!(refused.expect_problem(503, "unavailable").header("retry-after"), Some("1"));
    for _ in 0..3 {
        producer.post("/v1/events", event(number)).await.expect_problem(503, "unavailable");
    }
    host.line(said, |line| line.contains(said).then_some(())).await;
    let not_ready = eventually("the host to say that it is not ready, and why", async || {
        let ready = machine.anyone().get("/readyz").await;
        ready["detail"].as_str().is_some_and(|detail| detail.contains(said)).then_some(ready)
    })
    .await;
    not_ready.expect_problem(503, "unavailable");
    machine.anyone().get("/livez").await.expect(200);
    assert_eq!(endpoint.read().await["state"], "active", "what needs no room goes on");
    let failures = || host.printed().matches(said).count();
    let before = failures();
    gate.open();
    // A real disk that has no room for an event may have some for this.
    let recorded = async || room_for_little && endpoint.delivery(&under_way).await["state"] == "succeeded";
    eventually("the end of the attempt to be recorded, or that in vain", async || {
        (failures() > before + 2 || recorded().await).then_some(())
    })
    .await;
    machine.anyone().get("/readyz").await.expect_problem(503, "unavailable");

    go_on();
    eventually("the host to be ready, though nobody posts", async || {
        (machine.anyone().get("/readyz").await.status == 200).then_some(())
    })
    .await;
    eventually("an event to be taken", async || {
        (producer.post("/v1/events", event(number)).await.status == 202).then_some(())
    })
    .await;
    acknowledged.push(format!("evt_{number}"));
    assert!(host.is_running(), "{}", host.printed());
    let delivery = endpoint.delivery_in("succeeded", &under_way).await;
    assert_eq!(delivery["attempts"], 1);
    eventually("all to be done", async || endpoint.deliveries("?state=pending&limit=1").await.is_empty().then_some(()))
        .await;
    let mut arrivals = BTreeMap::<String, usize>::new();
    for request in receiver.received() {
        *arrivals.entry(request.event_id()).or_default() += 1;
    }
    let once: BTreeMap<String, usize> = acknowledged.into_iter().map(|id| (id, 1)).collect();
    assert_eq!(arrivals, once);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_or_folder_that_may_not_be_written_to_refuses_to_start_and_is_named() {
    if on_postgres() {
        return;
    }
    let machine = Machine::on_a_file().set("REVNOXA_RETRY_DELAYS", "1h");
    let (data, receiver) = (machine.dir().join("data"), Receiver::answering([500, 200]).await);
    let mut host = machine.serve().await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.attempted(1, &event).await;
    host.terminate();
    assert!(host.exit().await.success());

    let file = data.join("revnoxa.db");
    for (folder_mode, file_mode, lock, said) in [
        (0o500, 0o600, true, "cannot be written to"),
        (0o700, 0o400, true, "Permission denied"),
        (0o500, 0o600, false, "revnoxa.lock"),
    ] {
        if !lock {
            fs::remove_file(data.join("revnoxa.lock")).unwrap();
        }
        fs::set_permissions(&file, Permissions::from_mode(file_mode)).unwrap();
        fs::set_permissions(&data, Permissions::from_mode(folder_mode)).unwrap();
        let refused = machine.run_within_permissions(&["serve"]).await;
        fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
        let printed = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{printed}");
        assert!(printed.contains(data.to_str().unwrap()) && printed.contains(said), "{said}: {printed}");
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();

    let _host = machine.serve().await;
    let waiting: Vec<Value> = endpoint.deliveries("?state=pending").await;
    assert_eq!(waiting.len(), 1);
    endpoint.retry(&event).await.expect(202);
    endpoint.delivery_in("succeeded", &event).await;
}
