//! Plugins that go wrong in every way we know, and what must become of a call of each.

use revnoxa_host::domain::plugin::FailureKind::{self, *};

use crate::guest::{ECHO, Guest, LOOP, repeat};

/// A plugin that means harm. `Ok`: it gets nowhere with it, and delivers.
pub(crate) struct Hostile {
    pub(crate) name: &'static str,
    pub(crate) guest: Guest,
    pub(crate) becomes: Result<(), FailureKind>,
}

/// Tables of headers at 1,000,000: `$crowd` makes one of `count` headers whose name and value are the same `length` bytes.
const CROWD: &str = r#"
    (func $crowd (param $count i32) (param $length i32) (result i32) (local $at i32)
      (memory.fill (i32.const 900000) (i32.const 0x61) (i32.const 100000))
      (local.set $at (i32.add (i32.const 1000000) (i32.mul (local.get $count) (i32.const 16))))
      (loop $next
        (local.set $at (i32.sub (local.get $at) (i32.const 16)))
        (i32.store (local.get $at) (i32.const 900000))
        (i32.store offset=4 (local.get $at) (local.get $length))
        (i32.store offset=8 (local.get $at) (i32.const 900000))
        (i32.store offset=12 (local.get $at) (local.get $length))
        (br_if $next (i32.gt_u (local.get $at) (i32.const 1000000))))
      (call $deliver (i32.const 0) (i32.const 0) (i32.const 1000000) (local.get $count)))"#;

pub(crate) fn all() -> Vec<Hostile> {
    [endless(), greedy(), lying(), prying()].into_iter().flatten().collect()
}

/// They do not come to an end.
pub(crate) fn endless() -> Vec<Hostile> {
    let log = |length: usize| format!("(call $log (i32.const 1) (i32.const 65536) (i32.const {length}))");
    vec![
        hostile("loop", Guest::handling(LOOP), Err(TimedOut)),
        hostile("loop in start", Guest::echo().core(format!("(func $start {LOOP}) (start $start)")), Err(TimedOut)),
        hostile("loop in realloc", Guest::echo().realloc(LOOP), Err(TimedOut)),
        hostile("loop in post-return", Guest::echo().post_return(LOOP), Err(TimedOut)),
        hostile(
            "loop of logging",
            Guest::handling(format!("(loop $again {} (br $again)) (unreachable)", log(0))),
            Err(TimedOut),
        ),
        // Only heads of loops and entries of functions look at the clock by themselves.
        hostile(
            "20,000 long messages without a loop",
            Guest::handling(log(2_000_000).repeat(20_000) + ECHO).memory("40"),
            Err(TimedOut),
        ),
        hostile(
            "recursion",
            Guest::handling("(call $down) (unreachable)").core("(func $down (call $down))"),
            Err(Trapped),
        ),
        hostile(
            "recursion that logs",
            Guest::handling("(call $down) (unreachable)").core(format!("(func $down {} (call $down))", log(0))),
            Err(Trapped),
        ),
        hostile("panic", Guest::handling("(unreachable)"), Err(Trapped)),
        hostile("panic in start", Guest::echo().core("(func $start (unreachable)) (start $start)"), Err(Trapped)),
    ]
}

/// They want more than they may have.
pub(crate) fn greedy() -> Vec<Hostile> {
    let grow = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    let grow_table =
        "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))";
    let giving = |length: u32, headers: u32| {
        format!("(call $deliver (i32.const 0) (i32.const {length}) (i32.const 65536) (i32.const {headers}))")
    };
    let crowd = |count: u32, length: u32| {
        Guest::handling(format!("(call $crowd (i32.const {count}) (i32.const {length}))")).core(CROWD).memory("100")
    };
    let logging = |length: u32| {
        let message = format!("(call $log (i32.const 1) (i32.const 65536) (i32.const {length}))");
        Guest::handling(message + ECHO).memory("80")
    };
    vec![
        hostile("memory without end", Guest::handling(format!("{grow} (unreachable)")), Err(OutOfMemory)),
        hostile("memory until refused", Guest::handling(format!("{grow} {ECHO}")), Ok(())),
        hostile(
            "table until refused",
            Guest::handling(format!("{grow_table} {ECHO}")).core("(table $t 1 funcref)"),
            Ok(()),
        ),
        hostile("60 MB of body", Guest::handling(giving(60_000_000, 0)).memory("1000"), Err(OutputTooLarge)),
        hostile("100,000 headers", Guest::handling(giving(0, 100_000)).memory("100"), Err(OutputTooLarge)),
        hostile("60,000 headers of the same 1,000 bytes", crowd(60_000, 1_000), Err(OutputTooLarge)),
        hostile("20,000 headers of the same 1,000 bytes", crowd(20_000, 1_000), Err(OutputTooLarge)),
        hostile("5,000 headers of the same 100 bytes", crowd(5_000, 100), Err(BadHeader)),
        hostile("a message of 2 MB", logging(2_000_000), Ok(())),
        hostile("a message of 4 MB", logging(4_000_000), Err(OutputTooLarge)),
    ]
}

/// What they say is not true.
pub(crate) fn lying() -> Vec<Hostile> {
    let returning = |address: i64| Guest::handling(format!("(i32.const {address})"));
    let giving = |body: i64, length: i64, headers: i64, count: i64| {
        Guest::handling(format!(
            "(call $deliver (i32.const {body}) (i32.const {length}) (i32.const {headers}) (i32.const {count}))"
        ))
    };
    let text = |handle: &str, bytes: &str| Guest::handling(handle).core(format!("(data (i32.const 64) \"{bytes}\")"));
    let storing = |stores: &str| {
        Guest::handling(format!("(drop (call $drop (i32.const 0) (i32.const 0))) {stores} (i32.const 16)"))
    };
    // Name and value of a header, at 64: one of them is `a`, the other no text.
    let header = |fields: &str| {
        text("(call $deliver (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 1))", &format!("{fields}a\\ff\\fe"))
    };
    let (good, bad) = ("\\50\\00\\00\\00\\01\\00\\00\\00", "\\51\\00\\00\\00\\02\\00\\00\\00");
    vec![
        hostile("100 MB of body in 64 KiB of memory", giving(0, 100_000_000, 0, 0), Err(Trapped)),
        hostile("body at the end of memory", giving(65_535, 2, 0, 0), Err(Trapped)),
        hostile("body beyond memory", giving(0xffff_fff0, 16, 0, 0), Err(Trapped)),
        hostile("body that wraps around", giving(0xffff_ffff, 0xffff_ffff, 0, 0), Err(Trapped)),
        hostile("headers at an odd address", giving(0, 0, 65, 1), Err(Trapped)),
        hostile("headers beyond memory", giving(0, 0, 65_528, 1), Err(Trapped)),
        hostile("headers whose size wraps around", giving(0, 0, 64, 0x1000_0000), Err(Trapped)),
        hostile("as many headers as there are numbers", giving(0, 0, 64, 0xffff_ffff), Err(Trapped)),
        hostile("answer at an odd address", returning(17), Err(Trapped)),
        hostile("answer at the end of memory", returning(65_532), Err(Trapped)),
        hostile("answer beyond memory", returning(0xffff_fffc), Err(Trapped)),
        hostile("neither result nor error", storing("(i32.store8 (i32.const 16) (i32.const 2))"), Err(Trapped)),
        hostile("no verdict we know", storing("(i32.store8 (i32.const 20) (i32.const 7))"), Err(Trapped)),
        hostile(
            "no level we know",
            Guest::handling(format!("(call $log (i32.const 4) (i32.const 0) (i32.const 0)) {ECHO}")),
            Err(Trapped),
        ),
        hostile(
            "message beyond memory",
            Guest::handling(format!("(call $log (i32.const 1) (i32.const 65535) (i32.const 2)) {ECHO}")),
            Err(Trapped),
        ),
        hostile("room beyond memory", Guest::echo().realloc("(i32.const 0xfffffff0)"), Err(Trapped)),
        hostile("room at the end of memory", Guest::echo().realloc("(i32.const 65535)"), Err(Trapped)),
        hostile("room at odd addresses", Guest::echo().realloc("(i32.const 4097)"), Err(Trapped)),
        hostile("always the same room", Guest::echo().realloc("(i32.const 4096)"), Ok(())),
        hostile(
            "host called while the host cleans up",
            Guest::echo().post_return("(call $log (i32.const 1) (i32.const 0) (i32.const 0))"),
            Err(Trapped),
        ),
        hostile(
            "body that is no text",
            text("(call $deliver (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0))", "\\ff\\fe\\80\\c0"),
            Ok(()),
        ),
        hostile(
            "reason that is no text",
            text("(call $drop (i32.const 64) (i32.const 4))", "ab\\ff\\fe"),
            Err(Trapped),
        ),
        hostile(
            "error that is no text",
            text("(call $fail (i32.const 64) (i32.const 4))", "\\ed\\a0\\80a"),
            Err(Trapped),
        ),
        hostile("header's name that is no text", header(&format!("{bad}{good}")), Err(Trapped)),
        hostile("header's value that is no text", header(&format!("{good}{bad}")), Err(Trapped)),
        hostile(
            "message that is no text",
            text(&format!("(call $log (i32.const 1) (i32.const 64) (i32.const 2)) {ECHO}"), "\\c0\\80"),
            Err(Trapped),
        ),
    ]
}

/// They ask the world they find around them for too much.
pub(crate) fn prying() -> Vec<Hostile> {
    let handling = |handle: &str| Guest::handling(format!("{handle} {ECHO}")).wasi();
    let print = |length: u32| format!("(call $write (i32.const 1) (i32.const 0) (i32.const {length}) (i32.const 64))");
    let printing = |wat: String| handling(&format!("(drop (call $stdout)) {wat}"));
    vec![
        hostile("sleep of 2 s", handling("(call $block (call $after (i64.const 2000000000)))"), Err(TimedOut)),
        hostile("sleep until the end of time", handling("(call $block (call $at (i64.const -1)))"), Err(TimedOut)),
        hostile(
            "printing without end",
            printing(format!("(loop $again {} (br $again)) (unreachable)", print(4_096))),
            Err(TimedOut),
        ),
        hostile("printing more than is taken at once", printing(print(4_097)), Err(Trapped)),
        hostile(
            "a terabyte of zeroes",
            handling("(call $write-zeroes (call $stdout) (i64.const 0x10000000000) (i32.const 64))"),
            Err(Trapped),
        ),
        hostile(
            "more randomness than there is",
            handling("(call $random (i64.const 65537) (i32.const 64))"),
            Err(Trapped),
        ),
        hostile(
            "all the randomness there is",
            handling("(call $insecure (i64.const -1) (i32.const 64))"),
            Err(Trapped),
        ),
        hostile(
            "100,000 pollables",
            handling("(loop $again (drop (call $after (i64.const 1))) (br $again)) (unreachable)"),
            Err(Trapped),
        ),
        hostile("polling nothing", handling("(call $poll (i32.const 0) (i32.const 0) (i32.const 64))"), Err(Trapped)),
        hostile(
            "polling one thing 50,000 times",
            handling(&format!(
                "(local $pollable i32)
                (local.set $pollable (call $after (i64.const 1)))
                {}
                (call $poll (i32.const 65536) (i32.const 50000) (i32.const 64))",
                repeat(50_000, "(i32.store offset=65536 (i32.mul (local.get $n) (i32.const 4)) (local.get $pollable))")
            ))
            .memory("10"),
            Err(Trapped),
        ),
        hostile("a pollable nobody gave it", handling("(call $block (i32.const 7))"), Err(Trapped)),
        hostile(
            "a directory nobody gave it",
            handling("(call $create-directory (i32.const 3) (i32.const 64) (i32.const 1) (i32.const 128))"),
            Err(Trapped),
        ),
        hostile(
            "a stream instead of a directory",
            handling("(call $create-directory (call $stdout) (i32.const 64) (i32.const 1) (i32.const 128))"),
            Err(Trapped),
        ),
        hostile("leaving in peace", handling("(call $exit (i32.const 0))"), Err(Trapped)),
        hostile("leaving in anger", handling("(call $exit (i32.const 1))"), Err(Trapped)),
    ]
}

fn hostile(name: &'static str, guest: Guest, becomes: Result<(), FailureKind>) -> Hostile {
    Hostile { name, guest, becomes }
}
