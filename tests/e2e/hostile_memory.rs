//! What a thousand hostile connections at once cost the host, and what those do that callers keep: the real process, and what the
//! kernel says of it.
//!
//! ```sh
//! cargo test -p revnoxa-tests --test e2e hostile_memory -- --include-ignored    # also with a thousand receivers
//! ```

use std::io::Write;

use revnoxa_tests::{
    HostileReceiver, Machine, Script,
    Step::{self, Flood, Request, Silence},
    Tenant, eventually, on_postgres,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const AT_ONCE: usize = 1_000;
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 128 * MIB;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_to_hostile_receivers_cost_little_memory() {
    cost_of(AT_ONCE / 8).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long, as it makes a thousand endpoints: see the module for the command"]
async fn a_thousand_hostile_receivers_cost_little_memory() {
    cost_of(AT_ONCE).await;
}

#[tokio::test]
async fn connections_that_callers_keep_cost_little_memory() {
    const CALLERS: u64 = 400;
    const EACH: u64 = 40 << 10;
    if on_postgres() {
        return;
    }
    raise_file_limit();
    let machine = Machine::new();
    let process = machine.serve().await;
    let before = memory(process.pid(), "RssAnon:");
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = TcpStream::connect(machine.address()).await.unwrap();
        caller.write_all(b"GET /livez HTTP/1.1\r\nHost: host\r\n\r\n").await.unwrap();
        assert_ne!(caller.read(&mut [0; 1_024]).await.unwrap(), 0);
        callers.push(caller);
    }
    let each = memory(process.pid(), "RssAnon:").saturating_sub(before) / CALLERS;
    show(&format!("a connection that is kept: {} KiB", each >> 10));
    assert!(each <= EACH, "{} KiB for each connection", each >> 10);
}

/// The kinds that make a host keep most, and whether they keep it waiting.
fn kinds() -> [(&'static str, Vec<Step>, bool); 4] {
    let head = |kib: usize| format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(kib << 10)).into_bytes();
    let body = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(16 << 10)).into_bytes();
    let endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    [
        ("30 KiB of headers and then silence", vec![Request, Step::Write(head(30)), Silence], true),
        ("16 KiB of a body and then silence", vec![Request, Step::Write(body), Silence], true),
        ("400 KiB of headers and then silence", vec![Request, Step::Write(head(400)), Silence], false),
        ("a body without end", vec![Request, Step::Write(endless), Flood(vec![b'x'; 64 << 10])], false),
    ]
}

async fn cost_of(receivers: usize) {
    if on_postgres() {
        // What a receiver can make a host keep has nothing to do with the database.
        return;
    }
    raise_file_limit();
    let machine = Machine::new()
        .set("REVNOXA_MAX_IN_FLIGHT", &(4 * AT_ONCE).to_string())
        .set("REVNOXA_ATTEMPT_TIMEOUT", "5s")
        .set("REVNOXA_RETRY_DELAYS", "2h");
    let process = machine.serve().await;
    let acme = machine.tenant("acme").await;
    let mut hostile = Vec::new();
    for _ in 0..receivers {
        let receiver = HostileReceiver::start().await;
        acme.endpoint_with(json!({"url": receiver.url()})).await;
        hostile.push(receiver);
    }
    let events = AT_ONCE / receivers;
    post(&acme, events, |_| {}).await;

    // What a host needs for so many receivers when they are friendly is not the hostile ones' doing.
    let before = memory(process.pid(), "VmRSS:");
    forget_peak(process.pid());
    for (kind, steps, keeps_waiting) in kinds() {
        let script = Script::new(steps);
        hostile.iter().for_each(|receiver| receiver.turn(script.clone()));
        let mut most: usize = 0;
        post(&acme, events, |_| most = most.max(hostile.iter().map(HostileReceiver::open).sum())).await;
        assert!(!keeps_waiting || most >= AT_ONCE, "{kind}: {most} connections at once");
        let cost = memory(process.pid(), "VmHWM:").saturating_sub(before);
        show(&format!(
            "{receivers} receivers, {AT_ONCE} attempts, {kind}: {} MiB, of {} before",
            cost / MIB,
            before / MIB
        ));
        assert!(cost <= LIMIT, "{kind}: {} MiB", cost / MIB);
        // Endpoints that do not answer get few attempts at once: let them answer before the next kind.
        hostile.iter().for_each(HostileReceiver::calm_down);
        post(&acme, events, |_| {}).await;
    }
}

/// Posts events and waits until each of their deliveries was attempted; `look` sees how many have been, again and again.
async fn post(acme: &Tenant, events: usize, mut look: impl FnMut(usize)) {
    let mut posted = Vec::new();
    for n in 0..events {
        posted.push(acme.event("incident.created", json!({"n": n})).await);
    }
    let all = usize::try_from(posted.iter().map(|event| event.deliveries).sum::<u64>()).unwrap();
    assert_eq!(all, AT_ONCE);
    eventually("every delivery to have been attempted", async || {
        let mut attempted = 0;
        for event in &posted {
            let deliveries = acme.all(&format!("/events/{}/deliveries", event.id)).await;
            attempted += deliveries.iter().filter(|delivery| delivery["attempts"] != 0).count();
            look(attempted);
        }
        (attempted == all).then_some(())
    })
    .await;
}

/// Each connection is a file of this process, too.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// A line of `/proc/PID/status`, in bytes: proc_pid_status(5).
fn memory(process: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let kib = status.lines().find_map(|shown| shown.strip_prefix(line)?.trim().strip_suffix("kB"));
    kib.unwrap_or_else(|| panic!("no {line} in {status}")).trim().parse::<u64>().unwrap() * 1_024
}

/// From now on `VmHWM` counts anew: proc_pid_clear_refs(5).
fn forget_peak(process: u32) {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
}

/// Past the capture of what tests print: the figure is to be seen.
fn show(figure: &str) {
    let _ = writeln!(std::io::stderr(), "{figure}");
}
