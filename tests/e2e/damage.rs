//! A database file that is damaged or gone: the host names it and says what to do, and makes nothing of it by itself.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::PathBuf,
};

use revnoxa_tests::{Endpoint, Event, HostProcess, Machine, Receiver, on_postgres};
use serde_json::json;

const DAMAGED: &str = "the database file is damaged";
/// Of the file; SQLite's default.
const PAGE: u64 = 4096;

/// A machine that was stopped with an acknowledged event yet to be delivered.
struct Stopped {
    machine: Machine,
    endpoint: Endpoint,
    event: Event,
    file: PathBuf,
    /// The file as it was left, for a backup.
    whole: Vec<u8>,
    _receiver: Receiver,
}

impl Stopped {
    async fn new() -> Self {
        let machine = Machine::on_a_file().set("REVNOXA_RETRY_DELAYS", "1h");
        let receiver = Receiver::answering([500, 200]).await;
        let host = machine.serve().await;
        let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
        let event = endpoint.tenant.event("incident.created", json!({})).await;
        endpoint.attempted(1, &event).await;
        stops(host).await;
        let file = machine.dir().join("data/revnoxa.db");
        let whole = fs::read(&file).unwrap();
        Self { machine, endpoint, event, file, whole, _receiver: receiver }
    }

    async fn refuses(&self, arguments: &[&str], said: &str, case: &str) {
        let refused = self.machine.run(arguments).await;
        let printed = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{case}: {printed}");
        assert!(printed.contains(self.file.to_str().unwrap()) && printed.contains(said), "{case}: {printed}");
    }

    /// Puts the backup in its place, as the host says it.
    fn restore(&self) {
        fs::write(&self.file, &self.whole).unwrap();
        for ending in ["db-wal", "db-shm"] {
            let _ = fs::remove_file(self.file.with_extension(ending));
        }
    }

    async fn delivers(&self) {
        let host = self.machine.serve().await;
        self.endpoint.retry(&self.event).await.expect(202);
        self.endpoint.delivery_in("succeeded", &self.event).await;
        host.kill9().await;
    }
}

async fn stops(mut host: HostProcess) {
    host.terminate();
    let status = host.exit().await;
    assert!(status.success(), "{status}:\n{}", host.printed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_refuses_to_start_and_is_named() {
    if on_postgres() {
        return;
    }
    let stopped = Stopped::new().await;
    let whole = &stopped.whole;
    let cases = [
        ("no database", [b"Dear diary, ".repeat(1_000), whole[12_000..].to_vec()].concat()),
        ("half of it", whole[..whole.len() / 2].to_vec()),
        ("its first bytes", whole[..100].to_vec()),
    ];
    for (case, bytes) in cases {
        fs::write(&stopped.file, &bytes).unwrap();
        stopped.refuses(&["serve"], DAMAGED, case).await;
        assert_eq!(fs::read(&stopped.file).unwrap(), bytes, "{case}: it is left as it is");
    }
    stopped.restore();
    stopped.delivers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_or_missing_file_that_was_served_is_not_taken_for_a_new_one() {
    if on_postgres() {
        return;
    }
    let stopped = Stopped::new().await;
    let serve: &[&str] = &["serve"];
    for arguments in [serve, &["migrate"], &["token", "create", "--scope", "operator"]] {
        fs::write(&stopped.file, "").unwrap();
        stopped.refuses(arguments, "put a backup in its place", "empty").await;
        fs::remove_file(&stopped.file).unwrap();
        stopped.refuses(arguments, "put a backup in its place", "gone").await;
        assert!(!stopped.file.exists());
    }
    stopped.restore();
    stopped.delivers().await;
    // Who wants a new one gets it.
    fs::remove_file(&stopped.file).unwrap();
    fs::remove_file(stopped.file.with_extension("lock")).unwrap();
    let _host = stopped.machine.serve().await;
    assert!(stopped.machine.operator().all("/v1/tenants").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_damaged_under_a_running_host_is_reported_and_a_backup_brings_all_back() {
    if on_postgres() {
        return;
    }
    let stopped = Stopped::new().await;
    let machine = &stopped.machine;
    let mut host = machine.serve().await;
    // The first page, which it looks at all the time, stays.
    let mut file = File::options().write(true).open(&stopped.file).unwrap();
    file.seek(SeekFrom::Start(PAGE)).unwrap();
    file.write_all(&vec![0xff; stopped.whole.len() - PAGE as usize]).unwrap();
    let event = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    for _ in 0..3 {
        machine.operator().post("/v1/events", event.clone()).await.expect_problem(503, "unavailable");
    }
    machine.operator().get("/v1/tenants/acme/endpoints").await.expect_problem(503, "unavailable");
    host.line(DAMAGED, |line| line.contains(DAMAGED).then_some(())).await;
    machine.anyone().get("/livez").await.expect(200);
    assert!(host.is_running(), "{}", host.printed());
    stops(host).await;
    stopped.refuses(&["serve"], DAMAGED, "damaged").await;

    stopped.restore();
    stopped.delivers().await;
}
