//! What becomes of a call that goes wrong, and of those who have nothing to do with it.

use std::time::Duration;

use revnoxa_host::domain::plugin::FailureKind::TimedOut;
use revnoxa_host::plugins::BUILT_IN;
use revnoxa_tests::eventually;

use crate::guest::{Guest, LOOP};
use crate::hostile::{self, Hostile};
use crate::support::{BODY, MIB, Sandbox, begin, call, delivered, open_files, resident, threads};

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_is_ended() {
    each_is_contained(hostile::endless()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wants_too_much_does_not_get_it() {
    each_is_contained(hostile::greedy()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_are_found_out() {
    each_is_contained(hostile::lying()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_around_gives_nothing_away() {
    each_is_contained(hostile::prying()).await;
}

/// Calls each three times as often as there are slots, while another tenant calls its own plugin as often.
async fn each_is_contained(hostile: Vec<Hostile>) {
    let sandbox = Sandbox::with(|settings| {
        settings.timeout = Duration::from_millis(200);
        settings.calls = 4;
        settings.calls_per_tenant = 3;
    })
    .await;
    let echo = sandbox.ready(&Guest::echo()).await;
    let ready = sandbox.all_ready(hostile.iter().map(|hostile| &hostile.guest)).await;
    for (Hostile { name, becomes, .. }, ready) in hostile.into_iter().zip(ready) {
        let calls = 3 * sandbox.settings().calls;
        let attack = sandbox.calls(&ready, calls, call("mallory"));
        let neighbour = sandbox.calls(&echo, calls, call("acme"));
        let (attack, neighbour) = tokio::join!(attack, neighbour);
        for report in attack {
            let found = report.result.as_ref().map(drop).map_err(|failure| failure.kind);
            assert_eq!(found, becomes, "{name}: {:?}", report.result);
            assert!(report.cpu < Duration::from_secs(1), "{name}: {:?}", report.cpu);
            assert!(report.memory_bytes <= sandbox.settings().memory as u64, "{name}: {}", report.memory_bytes);
        }
        assert!(neighbour.iter().all(|report| delivered(report) == Some(BODY)), "beside {name}: {neighbour:?}");
        let after = sandbox.calls(&echo, sandbox.settings().calls, call("acme")).await;
        assert!(after.iter().all(|report| delivered(report) == Some(BODY)), "after {name}: {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_loops_of_one_tenant_cost_another_nothing() {
    let sandbox = Sandbox::new().await;
    let endless = sandbox.ready(&Guest::handling(LOOP)).await;
    let (_, redact_fields) = BUILT_IN.into_iter().find(|(name, _)| *name == "redact-fields").unwrap();
    let redact_fields = sandbox.load(redact_fields).await.unwrap();
    let mut redacting = call("acme");
    redacting.settings = r#"{"fields":["/data/secret"],"replacement":"-"}"#.into();
    let attack = sandbox.calls(&endless, 50, call("mallory"));
    let neighbour = sandbox.calls(&redact_fields, 200, redacting);
    let (attack, neighbour) = tokio::join!(attack, neighbour);
    let ended = attack.iter().filter(|report| report.result.as_ref().is_err_and(|failure| failure.kind == TimedOut));
    assert_eq!(ended.count(), 50);
    let redacted = br#"{"id":"evt_1","type":"incident.created","data":{"secret":"-","n":1e400}}"#;
    assert!(neighbour.iter().all(|report| delivered(report) == Some(redacted)), "{neighbour:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_calls_leave_no_memory_behind() {
    let sandbox = Sandbox::alone(|settings| {
        settings.timeout = Duration::from_millis(5);
        // What the pool itself keeps is 16 MiB for each.
        settings.calls = 2;
        settings.calls_per_tenant = 2;
    })
    .await;
    let hostile = hostile::all();
    let ready = sandbox.all_ready(hostile.iter().map(|hostile| &hostile.guest)).await;
    let (before, open_before) = (resident(), open_files());
    for (Hostile { name, .. }, ready) in hostile.iter().zip(ready) {
        for _ in 0..10 {
            assert_eq!(sandbox.calls(&ready, 20, call("mallory")).await.len(), 20);
        }
        let more = resident().saturating_sub(before);
        assert!(more < 64 * MIB, "{} MiB more after {name}", more / MIB);
        assert_eq!(open_files(), open_before, "after {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_gives_its_turn_back() {
    let sandbox = Sandbox::with(|settings| {
        settings.calls = 1;
        settings.calls_per_tenant = 1;
    })
    .await;
    let endless = sandbox.ready(&Guest::handling(LOOP)).await;
    let echo = sandbox.ready(&Guest::echo()).await;
    for _ in 0..3 {
        begin(sandbox.call(&endless, call("acme"))).await;
        assert_eq!(delivered(&sandbox.call(&echo, call("acme")).await), Some(BODY));
    }
}

/// A host that is stopped in the middle of a call.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends_with_its_sandbox() {
    let sandbox = Sandbox::alone(|settings| settings.timeout = Duration::from_secs(5)).await;
    let endless = Guest::handling(LOOP).component();
    // It matters on which side of a tick the end comes.
    for _ in 0..20 {
        let plugins = sandbox.twin();
        let endless = plugins.check(&"acme".parse().unwrap(), &endless).await.unwrap();
        begin(plugins.call(&endless, call("acme"))).await;
    }
    let of_one = std::thread::available_parallelism().unwrap().get();
    eventually("the threads of the others to end", async || (threads("plugin") == of_one).then_some(())).await;
}
