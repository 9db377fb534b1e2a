//! Each limit of `[plugins]` has its effect.

use std::time::Duration;

use revnoxa_host::domain::plugin::FailureKind::{BadHeader, OutOfMemory, OutputTooLarge, OverBudget, TimedOut};
use revnoxa_host::domain::plugin::Verdict;
use revnoxa_host::plugins::{Call, Refused};
use tokio::sync::Mutex;

use crate::guest::{ECHO, Guest, LOOP, repeat, section};
use crate::support::{BODY, MIB, Sandbox, body, call, failure};

const KIB: usize = 1 << 10;
/// What a message takes of a log besides its bytes.
const LINE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_where_the_setting_says() {
    let sandbox = Sandbox::with(|settings| settings.memory = 2 * MIB).await;
    // 32 pages are 2 MiB; one is there from the beginning.
    let growing = |pages| {
        let insists = format!("(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then (unreachable)))");
        Guest::handling(format!("{insists} (call $deliver (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"))
    };
    let fits = sandbox.run(&growing(31)).await;
    assert_eq!((fits.result.is_ok(), fits.memory_bytes), (true, 2 * MIB as u64));
    let refused = sandbox.run(&growing(32)).await;
    assert_eq!((failure(&refused).0, refused.memory_bytes), (OutOfMemory, 64 * KIB as u64));
    let two = Guest::echo().memory("20").core("(memory 20)");
    assert_eq!(failure(&sandbox.run(&two).await).0, OutOfMemory, "two memories together");
    let minimum = sandbox.refused(&Guest::echo().memory("33").component()).await;
    assert!(matches!(minimum, Refused::Limits(_)), "{minimum}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_may_take_as_long_as_the_setting_says() {
    let counting = Guest::handling(repeat(50_000_000, "") + ECHO);
    let hurried = Sandbox::with(|settings| settings.timeout = Duration::from_millis(1)).await;
    assert_eq!(failure(&hurried.run(&counting).await), (TimedOut, "took longer than 1ms"));
    let patient = Sandbox::with(|settings| settings.timeout = Duration::from_secs(5)).await;
    assert_eq!(body(&patient.run(&counting).await), BODY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_as_long_as_the_setting_says() {
    let sandbox = Sandbox::with(|settings| settings.body = 100 * KIB).await;
    assert_eq!(body(&sandbox.run(&giving(100 * KIB)).await), [0; 100 * KIB]);
    let longer = sandbox.run(&giving(100 * KIB + 1)).await;
    assert_eq!(failure(&longer), (OutputTooLarge, "a body of 102401 bytes; at most 102400"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crosses_to_the_host_is_as_much_as_the_setting_says() {
    let sandbox = Sandbox::with(|settings| {
        settings.body = 8 * MIB;
        settings.crossing = MIB;
    })
    .await;
    // The event's own size is added, and the header's table costs nothing as there is none.
    assert_eq!(body(&sandbox.run(&giving(MIB + BODY.len())).await).len(), MIB + BODY.len());
    let longer = sandbox.run(&giving(MIB + BODY.len() + 1)).await;
    assert_eq!(failure(&longer), (OutputTooLarge, "gave back more than 1048576 bytes beyond the event's size"));
}

/// Gives so many zeros.
fn giving(length: usize) -> Guest {
    let giving = format!("(call $deliver (i32.const 65536) (i32.const {length}) (i32.const 0) (i32.const 0))");
    Guest::handling(giving).memory("40")
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_as_many_as_the_setting_says() {
    let sandbox = Sandbox::with(|settings| settings.headers = 3).await;
    // Names `x-a`, `x-b`, …, each with its last letter as value.
    let headers = |count: u8| {
        let at = |offset: u32, length: u32| [offset.to_le_bytes(), length.to_le_bytes()].concat();
        let table = (0..u32::from(count)).flat_map(|n| [at(1_024 + 3 * n, 3), at(1_026 + 3 * n, 1)].concat());
        let names: String = (b'a'..b'a' + count).map(|letter| format!("x-{}", char::from(letter))).collect();
        let table: String = table.map(|byte| format!("\\{byte:02x}")).collect();
        Guest::handling(format!("(call $deliver (i32.const 0) (i32.const 0) (i32.const 64) (i32.const {count}))"))
            .core(format!("(data (i32.const 64) \"{table}\") (data (i32.const 1024) \"{names}\")"))
    };
    let Ok(Verdict::Deliver(changed)) = sandbox.run(&headers(3)).await.result else { panic!() };
    assert_eq!(changed.headers.iter().collect::<Vec<_>>(), [("x-a", "a"), ("x-b", "b"), ("x-c", "c")]);
    assert_eq!(failure(&sandbox.run(&headers(4)).await), (BadHeader, "header ``: at most 3 headers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_as_long_as_the_setting_says() {
    let log = |length: usize| format!("(call $log (i32.const 1) (i32.const 256) (i32.const {length}))");
    let print = |stream: &str, length: usize| {
        format!("(call $write (call ${stream}) (i32.const 256) (i32.const {length}) (i32.const 64))")
    };
    let a = "a".repeat(1_000);
    for (case, says, memory, kept, truncated) in [
        ("fits", log(10).repeat(4), a.as_str(), vec![("info", "aaaaaaaaaa"); 4], false),
        ("many", log(10).repeat(100), &a, vec![("info", "aaaaaaaaaa"); 4], true),
        ("long", log(1_000), &a, vec![("info", &a[..88])], true),
        ("umlauts", log(1_000), &"ä".repeat(500), vec![("info", "ä".repeat(44).as_str())], true),
        // PostgreSQL takes no NUL.
        ("zeros", log(1_000), "", vec![("info", " ".repeat(88).as_str())], true),
        ("lines", print("stdout", 10), "one\\ntwo\\n34", vec![("info", "one"), ("info", "two"), ("info", "34")], false),
        ("errors", print("stderr", 4), "one\\n", vec![("warn", "one")], false),
        ("long line", print("stdout", 1_000), &a, vec![("info", &a[..88])], true),
        ("longer line", print("stdout", 1_000).repeat(100), &a, vec![("info", &a[..88])], true),
    ] {
        let sandbox = Sandbox::with(|settings| settings.log = 4 * (LINE + 10)).await;
        let guest = Guest::handling(says + ECHO).core(format!("(data (i32.const 256) \"{memory}\")")).wasi();
        let report = sandbox.run(&guest).await;
        assert_eq!(body(&report), BODY, "{case}");
        let found: Vec<_> = report.log.iter().map(|line| (line.level.as_str(), line.message.as_str())).collect();
        assert_eq!((found, report.log_truncated), (kept, truncated), "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_messages_are_no_more_than_the_setting_says() {
    let sandbox = Sandbox::with(|settings| settings.timeout = Duration::from_secs(5)).await;
    let log = "(call $log (i32.const 1) (i32.const 0) (i32.const 0))";
    let flood = Guest::handling(repeat(1_000_000, log) + ECHO);
    let report = sandbox.run(&flood).await;
    assert_eq!(body(&report), BODY);
    assert_eq!((report.log.len(), report.log_truncated), (16 * KIB / LINE, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_are_as_many_as_the_setting_says() {
    for (calls, calls_per_tenant, tenants, first_to_end) in [
        (3, 3, ["one", "one", "one"], "echo"),
        (3, 1, ["one", "one", "one"], "loop"),
        (3, 1, ["one", "one", "two"], "echo"),
        (1, 1, ["one", "two", "three"], "loop"),
        (3, 1, ["one", "two", "three"], "echo"),
    ] {
        let sandbox = Sandbox::with(|settings| {
            settings.calls = calls;
            settings.calls_per_tenant = calls_per_tenant;
        })
        .await;
        let found = first_to_end_of_two_loops_and_an_echo(&sandbox, tenants.map(call)).await;
        assert_eq!(found, first_to_end, "{calls} calls, {calls_per_tenant} per tenant, {tenants:?}");
    }
}

/// Which ends first when they begin in this order. Two loops, because what waits for one of them begins before that one's
/// end has been told.
async fn first_to_end_of_two_loops_and_an_echo(sandbox: &Sandbox, [first, second, third]: [Call; 3]) -> &'static str {
    let (endless, echo) = (sandbox.ready(&Guest::handling(LOOP)).await, sandbox.ready(&Guest::echo()).await);
    let ended = Mutex::new(Vec::new());
    let endless = async |call: Call| {
        assert_eq!(failure(&sandbox.call(&endless, call).await).0, TimedOut);
        ended.lock().await.push("loop");
    };
    let echo = async {
        // Waiting is not the plugin's time: it does not time out.
        assert_eq!(body(&sandbox.call(&echo, third).await), BODY);
        ended.lock().await.push("echo");
    };
    tokio::join!(biased; endless(first), endless(second), echo);
    ended.into_inner()[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_as_much_time_in_a_minute_as_the_setting_says() {
    let sandbox = Sandbox::with(|settings| {
        settings.cpu_per_minute = Duration::from_millis(50);
        settings.timeout = Duration::from_millis(20);
    })
    .await;
    let (endless, echo) = (sandbox.ready(&Guest::handling(LOOP)).await, sandbox.ready(&Guest::echo()).await);
    let mut used = Duration::ZERO;
    while used < Duration::from_millis(50) {
        let report = sandbox.call(&endless, call("acme")).await;
        assert_eq!(failure(&report).0, TimedOut);
        used += report.cpu;
    }
    let message = "the plugins of this tenant have used 50ms of CPU time in a minute";
    assert_eq!(failure(&sandbox.call(&echo, call("acme")).await), (OverBudget, message));
    assert_eq!(body(&sandbox.call(&echo, call("other")).await), BODY);
    sandbox.clock.advance(Duration::from_secs(60));
    assert_eq!(body(&sandbox.call(&echo, call("acme")).await), BODY);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_as_large_as_the_setting_says() {
    let sandbox = Sandbox::with(|settings| {
        settings.upload = 64 * KIB;
        settings.upload_with_engine = 128 * KIB;
    })
    .await;
    for (mark, limit, setting) in [
        ("", 64 * KIB, "`plugins.upload`"),
        ("componentize-py", 64 * KIB, "`plugins.upload`"),
        ("libcomponentize_py_runtime.so", 128 * KIB, "`plugins.upload_with_engine`"),
        ("ComponentizeJS", 128 * KIB, "`plugins.upload_with_engine`"),
    ] {
        let fits = sandbox.load(&padded(limit, mark)).await;
        assert!(fits.is_ok(), "{mark}: {:?}", fits.err());
        assert_eq!(sandbox.refused(&padded(limit + 1, mark)).await, Refused::TooLarge { limit, setting }, "{mark}");
    }
}

/// A component of so many bytes, with this mark in it.
fn padded(size: usize, mark: &str) -> Vec<u8> {
    let mut component = Guest::echo().component();
    const CUSTOM: u8 = 0;
    // An empty name, then zeros. Identifier and length of the section take 4 bytes.
    let mut content = vec![0; size - component.len() - 4];
    content[1..=mark.len()].copy_from_slice(mark.as_bytes());
    section(&mut component, CUSTOM, &content);
    assert_eq!(component.len(), size);
    component
}
