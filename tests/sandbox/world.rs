//! What a call finds around it: the same whenever it is made, and nothing of the machine.

use std::sync::Arc;
use std::time::Duration;

use revnoxa_host::plugins::{Call, Plugins, Ready};

use crate::guest::{Guest, repeat};
use crate::support::{Sandbox, body, call};

/// Looks at everything there is, and gives back its memory with what it saw; [`Seen`] knows where.
const LOOK: &str = "
    (call $random (i64.const 32) (i32.const 64))
    (call $insecure (i64.const 32) (i32.const 72))
    (call $seed (i32.const 80))
    (i64.store (i32.const 96) (call $random-u64))
    (i64.store (i32.const 104) (call $insecure-u64))
    (call $wall (i32.const 112))
    (call $wall-resolution (i32.const 128))
    (i64.store (i32.const 144) (call $monotonic))
    (i64.store (i32.const 152) (call $monotonic-resolution))
    (call $environment (i32.const 160))
    (call $arguments (i32.const 168))
    (call $directory (i32.const 176))
    (call $directories (i32.const 188))
    (call $read (call $stdin) (i64.const 1000) (i32.const 196))
    (call $tcp (i32.const 0) (i32.const 208))
    (call $tcp (i32.const 1) (i32.const 216))
    (call $udp (i32.const 0) (i32.const 224))
    (call $udp (i32.const 1) (i32.const 232))
    (call $resolve (call $network) (i32.const 512) (i32.const 9) (i32.const 240))
    (f64.store (i32.const 256) (f64.div (f64.const 0) (f64.const 0)))
    (f64.store (i32.const 264) (f64.add (f64.const -nan:0x123) (f64.const nan:0x456)))
    (f64.store (i32.const 272) (f64.sqrt (f64.const -1)))
    (f64.store (i32.const 280) (f64.promote_f32 (f32.const -nan:0x77)))
    (f32.store (i32.const 288) (f32.demote_f64 (f64.const -nan:0x77)))
    (f32.store (i32.const 292) (f32.min (f32.const nan:0x77) (f32.const -nan:0x66)))
    (v128.store (i32.const 304) (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 nan inf -inf 3e9)))
    (v128.store (i32.const 320) (f32x4.relaxed_madd
      (v128.const f32x4 1e30 0x1.000002p0 -0 nan:0x77) (v128.const f32x4 1e30 0x1.000002p0 0 1) (v128.const f32x4 -inf -1 -0 1)))
    (v128.store (i32.const 336) (f64x2.relaxed_min (v128.const f64x2 -0 nan) (v128.const f64x2 0 1)))
    (i32.store (i32.const 352) (memory.grow (i32.const 1)))
    (i32.store (i32.const 356) (memory.grow (i32.const 100000)))
    (i32.store (i32.const 360) (table.grow $table (ref.null func) (i32.const 19999)))
    (i32.store (i32.const 364) (table.grow $table (ref.null func) (i32.const 1)))
    (call $deliver (i32.const 0) (i32.const 65536) (i32.const 0) (i32.const 0))";

/// The memory of a guest that looked.
#[derive(Debug, Clone, PartialEq)]
struct Seen(Vec<u8>);

impl Seen {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    /// Of each source of randomness, what it gave.
    fn random(&self) -> [&[u8]; 5] {
        let list = |at| &self.0[self.u32(at) as usize..][..self.u32(at + 4) as usize];
        [list(64), list(72), &self.0[80..96], &self.0[96..104], &self.0[104..112]]
    }
}

fn looking() -> Guest {
    Guest::handling(LOOK).core("(table $table 1 funcref) (data (i32.const 512) \"localhost\")").wasi()
}

async fn look(plugins: &Plugins, ready: &Arc<Ready>, call: Call) -> Seen {
    Seen(body(&plugins.call(ready, call).await).to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_call_sees_the_same_world() {
    let sandbox = Sandbox::new().await;
    let ready = sandbox.ready(&looking()).await;
    let seen = look(&sandbox, &ready, call("acme")).await;
    let draws = seen.random();
    assert!(draws.iter().all(|draw| draw.iter().any(|byte| *byte != 0)), "{draws:?}");
    for report in sandbox.calls(&ready, 50, call("acme")).await {
        assert!(body(&report) == seen.0);
    }
    let twin = sandbox.twin();
    let ready_there = twin.check(&"acme".parse().unwrap(), &looking().component()).await.unwrap();
    assert!(look(&twin, &ready_there, call("acme")).await == seen, "another sandbox");

    let other_event = Call { event: "evt_2".parse().unwrap(), ..call("acme") };
    let other_event = look(&sandbox, &ready, other_event).await;
    let other_bytes = sandbox.ready(&looking().post_return("(nop)")).await;
    let other_bytes = look(&sandbox, &other_bytes, call("acme")).await;
    for (number, draw) in draws.into_iter().enumerate() {
        assert_ne!(draw, other_event.random()[number], "source {number}, another event");
        assert_ne!(draw, other_bytes.random()[number], "source {number}, another component");
    }
    assert_eq!(seen.0[112..160], other_event.0[112..160], "clocks");
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_show_the_time_of_the_event() {
    let sandbox = Sandbox::new().await;
    let ready = sandbox.ready(&looking()).await;
    for (timestamp, seconds, nanoseconds) in [
        ("2026-03-01T12:00:00.25Z", 1_772_366_400, 250_000_000),
        ("1970-01-01T00:00:00Z", 0, 0),
        ("1969-12-31T23:59:59Z", 0, 0),
    ] {
        let then = Call { timestamp: timestamp.parse().unwrap(), ..call("acme") };
        let seen = look(&sandbox, &ready, then).await;
        assert_eq!((seen.u64(112), seen.u32(120)), (seconds, nanoseconds), "{timestamp}");
        assert_eq!(seen.u64(144), seconds * 1_000_000_000 + u64::from(nanoseconds), "{timestamp}, monotonic");
        assert_eq!((seen.u64(128), seen.u32(136), seen.u64(152)), (0, 1_000_000, 1_000_000), "resolution");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_machine_is_to_be_seen() {
    let sandbox = Sandbox::new().await;
    let ready = sandbox.ready(&looking()).await;
    let seen = look(&sandbox, &ready, call("acme")).await;
    assert_eq!(seen.u32(164), 0, "environment");
    assert_eq!(seen.u32(172), 0, "arguments");
    assert_eq!(seen.0[176], 0, "no working directory");
    assert_eq!(seen.u32(192), 0, "directories");
    assert_eq!((seen.0[196], seen.0[200]), (1, 1), "stdin is closed");
    const ACCESS_DENIED: u8 = 1;
    const PERMANENT_RESOLVER_FAILURE: u8 = 20;
    for (at, what) in [(208, "tcp"), (216, "tcp6"), (224, "udp"), (232, "udp6")] {
        assert_eq!((seen.0[at], seen.0[at + 4]), (1, ACCESS_DENIED), "{what}");
    }
    assert_eq!((seen.0[240], seen.0[244]), (1, PERMANENT_RESOLVER_FAILURE), "localhost");
    assert_eq!((seen.u32(352), seen.u32(356)), (1, u32::MAX), "memory.grow");
    assert_eq!((seen.u32(360), seen.u32(364)), (1, u32::MAX), "table.grow");
    const CANONICAL: u64 = 0x7ff8_0000_0000_0000;
    assert_eq!([256, 264, 272, 280].map(|at| seen.u64(at)), [CANONICAL; 4], "NaN");
    assert_eq!([288, 292].map(|at| seen.u32(at)), [0x7fc0_0000; 2], "NaN of 32 bits");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_clock_tells_how_long_something_took() {
    let sandbox = Sandbox::with(|settings| settings.timeout = Duration::from_secs(5)).await;
    // Counts for some milliseconds; then a moment that was one millisecond away has still not come.
    let guest = Guest::handling(format!(
        "(local $soon i32) (local $before i64)
        (local.set $soon (call $after (i64.const 1000000)))
        (local.set $before (call $monotonic))
        {} {}
        (i32.store (i32.const 64) (call $ready (local.get $soon)))
        (i64.store (i32.const 68) (i64.sub (call $monotonic) (local.get $before)))
        (i32.store (i32.const 80) (call $after (i64.const 2000000000)))
        (i32.store (i32.const 84) (call $after (i64.const 0)))
        (call $poll (i32.const 80) (i32.const 2) (i32.const 88))
        (i32.store (i32.const 76) (i32.load (i32.load (i32.const 88))))
        (i32.store (i32.const 80) (i32.load (i32.const 92)))
        (call $deliver (i32.const 64) (i32.const 20) (i32.const 0) (i32.const 0))",
        repeat(100, "(call $block (call $after (i64.const 0))) (call $block (call $at (call $monotonic)))"),
        repeat(50_000_000, ""),
    ))
    .wasi();
    let report = sandbox.run(&guest).await;
    let seen = Seen(body(&report).to_vec());
    assert!(report.cpu.as_millis() >= 1, "{:?}", report.cpu);
    assert_eq!(seen.u32(0), 0, "not ready");
    assert_eq!(seen.u64(4), 0, "no time has passed");
    assert_eq!((seen.u32(16), seen.u32(12)), (1, 1), "of two, the second is ready");
}
