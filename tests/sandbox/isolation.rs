//! Nothing of one call is left for the next.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use revnoxa_host::domain::plugin::FailureKind::{TimedOut, Trapped};
use revnoxa_host::domain::plugin::{FailureKind, Verdict};
use revnoxa_host::plugins::{Call, Ready};

use crate::guest::Guest;
use crate::support::{Sandbox, call};

/// Writes all over what it has, or looks whether anything is there that should not be.
///
/// The body says what: `w` or `s`, then, little-endian, by how many pages memory is to grow (2 bytes), and how a writer
/// ends (1 byte: it delivers, panics or loops). A scanner drops the event and says as a digit where it found something,
/// or delivers the number of its pages.
const CORE: &str = r#"
    (memory $other 8)
    (global $global (mut i64) (i64.const 7))
    (table $table 64 funcref)
    (data $passive "canary")
    (elem $names func $dirty)
    (func $dirty (param $place i32) (result i32)
      (i32.store8 (i32.const 64) (i32.add (local.get $place) (i32.const 0x30)))
      (call $drop (i32.const 64) (i32.const 1)))
    (func $end (result i32) (i32.shl (memory.size) (i32.const 16)))
    (func $clean (param $at i32) (param $end i32) (result i32) (local $found v128)
      (if (i32.lt_u (local.get $at) (local.get $end)) (then
        (loop $next
          (local.set $found (v128.or (local.get $found) (v128.or
            (v128.or (v128.load (local.get $at)) (v128.load offset=16 (local.get $at)))
            (v128.or (v128.load offset=32 (local.get $at)) (v128.load offset=48 (local.get $at))))))
          (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 64))) (local.get $end))))))
      (i32.eqz (v128.any_true (local.get $found))))
    (func $other-clean (param $at i32) (param $end i32) (result i32) (local $found v128)
      (loop $next
        (local.set $found (v128.or (local.get $found) (v128.load $other (local.get $at))))
        (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 16))) (local.get $end))))
      (i32.eqz (v128.any_true (local.get $found))))
    (func $table-clean (result i32) (local $at i32)
      (loop $next
        (if (i32.eqz (ref.is_null (table.get $table (local.get $at)))) (then (return (i32.const 0))))
        (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (table.size $table))))
      (i32.const 1))
    (func $scan (param $pages i32) (result i32) (local $end i32)
      (if (i32.eqz (call $clean (i32.const 0) (i32.const 4096))) (then (return (call $dirty (i32.const 1)))))
      ;; The event stands from 4096 on.
      (if (i32.eqz (call $clean (i32.const 8192) (call $end))) (then (return (call $dirty (i32.const 2)))))
      (if (i32.eqz (call $other-clean (i32.const 0) (i32.const 524288))) (then (return (call $dirty (i32.const 3)))))
      (if (i64.ne (global.get $global) (i64.const 7)) (then (return (call $dirty (i32.const 4)))))
      (if (i32.ne (table.size $table) (i32.const 64)) (then (return (call $dirty (i32.const 5)))))
      (if (i32.eqz (call $table-clean)) (then (return (call $dirty (i32.const 6)))))
      (local.set $end (call $end))
      (drop (memory.grow (local.get $pages)))
      (drop (table.grow $table (ref.null func) (i32.const 1000)))
      (if (i32.eqz (call $clean (local.get $end) (call $end))) (then (return (call $dirty (i32.const 7)))))
      (if (i32.eqz (call $table-clean)) (then (return (call $dirty (i32.const 8)))))
      (memory.init $passive (i32.const 64) (i32.const 0) (i32.const 6))
      (if (i32.ne (i32.load (i32.const 64)) (i32.const 0x616e6163)) (then (return (call $dirty (i32.const 9)))))
      (table.init $table $names (i32.const 0) (i32.const 0) (i32.const 1))
      (i32.store (i32.const 64) (memory.size))
      (call $deliver (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0)))
    (func $write (param $pages i32) (param $ending i32) (result i32)
      (drop (memory.grow (local.get $pages)))
      (drop (table.grow $table (ref.null func) (i32.const 1000)))
      (memory.fill (i32.const 0) (i32.const 0x5a) (call $end))
      (memory.fill $other (i32.const 0) (i32.const 0x5a) (i32.const 524288))
      (global.set $global (i64.const 0x5a5a))
      (table.fill $table (i32.const 0) (ref.func $dirty) (table.size $table))
      (data.drop $passive)
      (elem.drop $names)
      (if (i32.eq (local.get $ending) (i32.const 1)) (then (unreachable)))
      (if (i32.eq (local.get $ending) (i32.const 2)) (then (loop $again (br $again))))
      (call $deliver (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0)))"#;

const HANDLE: &str = r#"
    (if (result i32) (i32.eq (i32.load8_u (local.get $body)) (i32.const 0x77))
      (then (call $write (i32.load16_u offset=1 (local.get $body)) (i32.load8_u offset=3 (local.get $body))))
      (else (call $scan (i32.load16_u offset=1 (local.get $body)))))"#;

const PAGES: u16 = 16;

fn canary() -> Guest {
    Guest::handling(HANDLE).core(CORE).memory(PAGES.to_string())
}

/// How a writer ends, and what becomes of its call.
const ENDINGS: [Result<(), FailureKind>; 3] = [Ok(()), Err(Trapped), Err(TimedOut)];

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_calls_find_nothing_of_those_before() {
    pairs(10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scanner_finds_what_is_there() {
    let sandbox = Sandbox::new().await;
    for (place, change) in [
        ("1", "(data (i32.const 4095) \"!\")"),
        ("2", "(data (i32.const 1048575) \"!\")"),
        ("3", "(data (memory $other) (i32.const 524287) \"!\")"),
        ("4", "(func $change (global.set $global (i64.const 8))) (start $change)"),
        ("5", "(func $change (drop (table.grow $table (ref.null func) (i32.const 1)))) (start $change)"),
        ("6", "(elem (table $table) (i32.const 63) func $dirty)"),
    ] {
        let ready = sandbox.ready(&canary().core(format!("{CORE} {change}"))).await;
        let report = sandbox.call(&ready, asking(*b"s\0\0\0")).await;
        assert_eq!(report.result, Ok(Verdict::Drop(place.into())), "{change}");
    }
}

async fn pairs(count: usize) {
    // With as many slots as there are tasks, a scanner gets the one that a writer has just left.
    let sandbox = Sandbox::with(|settings| {
        settings.calls = 2;
        settings.calls_per_tenant = 2;
        settings.timeout = Duration::from_secs(3);
    })
    .await;
    let plugins = [sandbox.ready(&canary()).await, sandbox.ready(&canary().post_return("(nop)")).await];
    let half = async |first: usize| {
        for number in (first..count).step_by(2) {
            pair(&sandbox, &plugins[number / 2 % 2], &plugins[number / 4 % 2], number).await;
        }
    };
    tokio::join!(half(0), half(1));
}

async fn pair(sandbox: &Sandbox, writer: &Arc<Ready>, scanner: &Arc<Ready>, number: usize) {
    let pages: u16 = if number.is_multiple_of(500) { 700 } else { [0, 1, 16, 48][number / 8 % 4] };
    let ending = if number % 5_000 == 4_999 { 2 } else { number / 32 % 2 };
    let [low, high] = pages.to_le_bytes();
    let written = sandbox.call(writer, asking([b'w', low, high, ending as u8])).await;
    assert_eq!(
        written.result.as_ref().map(drop).map_err(|failure| failure.kind),
        ENDINGS[ending],
        "{number}: {written:?}"
    );
    let scanned = sandbox.call(scanner, asking([b's', low, high, 0])).await;
    match &scanned.result {
        Ok(Verdict::Deliver(changed)) => assert_eq!(*changed.body, u32::from(PAGES + pages).to_le_bytes(), "{number}"),
        found => panic!("{number}: {found:?}"),
    }
}

fn asking(body: [u8; 4]) -> Call {
    Call { body: Bytes::copy_from_slice(&body), ..call("acme") }
}
