//! What plugins did is stored with the attempt, for whoever holds the lease.

use super::*;
use crate::domain::delivery::Delivery;
use crate::domain::endpoint::EndpointState;
use crate::domain::header::PluginHeaders;
use crate::domain::outcome::{Answer, Outcome, SendError};
use crate::domain::plugin::{Changed, Decision, Failure, FailureKind, LogLine, Ran, Run};
use crate::store::{Attempt, Finished, Held, Output};

fn run(plugin: &PluginName, version: Version, decision: Decision) -> Run {
    Run {
        plugin: plugin.clone(),
        version,
        decision,
        duration: Duration::from_micros(700),
        cpu: Duration::from_micros(500),
        memory_bytes: 65_536,
        log: vec![LogLine { level: "info".into(), message: "\u{1b}[2J\0".into() }],
        log_truncated: false,
    }
}

fn changed(body: impl Into<Bytes>, headers: &[(&str, &str)]) -> Changed {
    Changed { body: body.into(), headers: PluginHeaders::parse(headers.iter().copied(), 64).unwrap() }
}

fn attempt(result: Result<u16, SendError>) -> Attempt {
    let answer = |status| Answer { status, body: Bytes::new(), truncated: false, retry_after: None };
    Attempt {
        started_at: at(NOW),
        outcome: Outcome { duration: Duration::from_millis(3), result: result.map(answer) },
        request_headers: String::new(),
        error: None,
    }
}

fn waits(leased: &Leased, until: Timestamp) -> Delivery {
    let attempts = leased.delivery.attempts() + 1;
    Delivery::Pending { attempts, failures: attempts, next_attempt_at: until }
}

#[tokio::test]
async fn a_retry_finds_what_the_first_attempt_sent() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    let version = world.version(&mine, b"bytes").await;
    world.endpoint().await;
    for (data, output, expected_body) in [
        ("1", changed("replaced", &[("x-a", "1"), ("content-type", "text/plain")]), Some("replaced")),
        ("2", changed("", &[]), Some("")),
        ("3", changed("the event's own", &[("x-a", "1")]), None),
    ] {
        world.event(data).await;
        let leased = world.leased().await;
        assert!(!leased.transformed, "{data}");
        assert_eq!(world.store.output(&world.acme, leased.id).await.unwrap(), None, "{data}");
        let output = if expected_body.is_none() { Changed { body: leased.body.clone(), ..output } } else { output };
        let later = world.clock.now() + Duration::from_secs(30);
        let finished = Finished {
            next: waits(&leased, later),
            attempt: Some(attempt(Ok(500))),
            plugins: Some(Ran { runs: vec![run(&mine, version, Decision::Deliver)], output: Some(output.clone()) }),
            reason: None,
            gone: false,
            leased,
        };
        let id = finished.leased.id;
        assert!(world.writer.record_now(finished).await);
        world.hand.advance(Duration::from_secs(30));
        let again = world.leased().await;
        assert_eq!((again.id, again.transformed), (id, true), "{data}");
        let stored = world.store.output(&world.acme, id).await.unwrap().unwrap();
        assert_eq!(stored, Output { body: expected_body.map(Bytes::from), headers: output.headers.clone() }, "{data}");
        let bodies: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM plugin_runs WHERE delivery_id = $1 AND body IS NOT NULL")
                .bind(id.to_string())
                .fetch_one(&world.store.read)
                .await
                .unwrap();
        assert_eq!(bodies == 1, expected_body.is_some(), "{data}: the event's own body is not stored twice");

        let done = Finished {
            next: Delivery::Succeeded { attempts: 2 },
            attempt: Some(attempt(Ok(200))),
            plugins: None,
            reason: None,
            gone: false,
            leased: again,
        };
        assert!(world.writer.record_now(done).await);
        let history = world.store.delivery_with_history(&world.acme, id).await.unwrap().unwrap();
        assert_eq!(history.body, output.body, "{data}");
        assert_eq!(history.attempts.len(), 2, "{data}");
        let [record] = &history.runs[..] else { panic!("{data}: {:?}", history.runs) };
        assert_eq!((record.attempt, &record.run), (1, &run(&mine, version, Decision::Deliver)), "{data}");
    }
}

#[tokio::test]
async fn a_drop_has_a_reason_and_no_attempt_and_can_be_tried_again() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    let version = world.version(&mine, b"bytes").await;
    let endpoint = world.endpoint().await;
    world.event("1").await;
    let dropped = |leased: Leased, reason: &str| Finished {
        next: leased.delivery.dropped(),
        attempt: None,
        plugins: Some(Ran { runs: vec![run(&mine, version, Decision::Drop { reason: reason.into() })], output: None }),
        reason: Some(reason.into()),
        gone: false,
        leased,
    };
    for reason in ["not ours", "still not ours"] {
        let leased = world.leased().await;
        let id = leased.id;
        assert!(world.writer.record_now(dropped(leased, reason)).await);
        let history = world.store.delivery_with_history(&world.acme, id).await.unwrap().unwrap();
        assert_eq!((history.delivery.state.as_str(), history.delivery.attempts), ("dropped", 0));
        assert_eq!(history.delivery.state_reason.as_deref(), Some(reason));
        assert_eq!((history.attempts.len(), history.runs.len(), history.runs[0].attempt), (0, 1, 1));
        assert_eq!(history.runs[0].run.decision, Decision::Drop { reason: reason.into() });
        world.store.restart_delivery(&world.acme, id).await.unwrap().unwrap();
        assert_eq!(world.store.delivery(&world.acme, id).await.unwrap().unwrap().state_reason, None);
    }
    // What the tenant drops by enabling has a reason as well.
    let leased = world.leased().await;
    world.store.disable_endpoint(&world.acme, endpoint.id, "").await.unwrap();
    world.store.enable_endpoint(&world.acme, endpoint.id, Held::Drop).await.unwrap();
    let record = world.store.delivery(&world.acme, leased.id).await.unwrap().unwrap();
    assert_eq!(record.state_reason.as_deref(), Some("dropped when the endpoint was enabled"));
}

#[tokio::test]
async fn a_late_twin_stores_nothing_of_its_plugins() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    let version = world.version(&mine, b"bytes").await;
    world.endpoint().await;
    world.event("1").await;
    let mut late = world.leased().await;
    late.claim -= 1;
    let (id, leased) = (late.id, Leased { claim: late.claim + 1, ..late.clone() });
    let finished = |leased: Leased, body: &'static str| Finished {
        next: Delivery::Succeeded { attempts: 1 },
        attempt: Some(attempt(Ok(200))),
        plugins: Some(Ran { runs: vec![run(&mine, version, Decision::Deliver)], output: Some(changed(body, &[])) }),
        reason: None,
        gone: false,
        leased,
    };
    assert!(world.writer.record_now(finished(late, "late")).await);
    assert_eq!(world.store.output(&world.acme, id).await.unwrap(), None);
    assert_eq!(world.store.plugin_usage(&world.acme, &mine, version).await.unwrap().calls, 0);
    assert!(world.writer.record_now(finished(leased, "in time")).await);
    let stored = world.store.output(&world.acme, id).await.unwrap().unwrap();
    assert_eq!(stored.body.as_deref(), Some(b"in time".as_slice()));
    assert_eq!(world.store.plugin_usage(&world.acme, &mine, version).await.unwrap().calls, 1);
}

/// The receiver was never asked: nothing is known of it, good or bad.
#[tokio::test]
async fn a_plugins_failure_is_not_the_endpoints() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    let version = world.version(&mine, b"bytes").await;
    let endpoint = world.endpoint().await;
    let failing_since = async || -> Option<i64> {
        sqlx::query_scalar("SELECT failing_since FROM endpoints").fetch_one(&world.store.read).await.unwrap()
    };
    let record = async |result: Result<u16, SendError>| {
        world.event("1").await;
        let leased = world.leased().await;
        let error = Failure::new(FailureKind::Trapped, "it panicked");
        let ran = Ran { runs: vec![run(&mine, version, Decision::Failed { error })], output: None };
        let finished = Finished {
            next: Delivery::Failed { attempts: 1 },
            plugins: matches!(result, Err(SendError::Plugin(_))).then_some(ran),
            attempt: Some(attempt(result)),
            reason: None,
            gone: false,
            leased,
        };
        assert!(world.writer.record_now(finished).await);
    };
    let by_plugin = || Err(SendError::Plugin("plugin mine: it panicked".into()));
    record(by_plugin()).await;
    assert_eq!(failing_since().await, None);
    record(Ok(500)).await;
    let since = failing_since().await;
    assert_eq!(since, Some(at(NOW).as_millisecond()));
    world.hand.advance(Duration::from_hours(200));
    record(by_plugin()).await;
    assert_eq!(failing_since().await, since, "it neither lengthens nor ends the time");
    let read = world.store.endpoint(&world.acme, endpoint.id).await.unwrap().unwrap();
    assert_eq!(read.state, EndpointState::Active, "long enough, but not by an attempt of the receiver");
    let usage = world.store.plugin_usage(&world.acme, &mine, version).await.unwrap();
    assert_eq!((usage.calls, usage.failures), (2, [(FailureKind::Trapped, 2)].into()));
}

#[tokio::test]
async fn usage_adds_up_over_many_deliveries_at_once() {
    let world = World::new().await;
    let built_in: PluginName = "built-in".parse().unwrap();
    let version = world.store.keep_built_in(&built_in, Bytes::from_static(b"for all")).await.unwrap();
    let gone: PluginName = "gone".parse().unwrap();
    world.endpoint().await;
    let mut records = tokio::task::JoinSet::new();
    for n in 0..300_u64 {
        world.event("1").await;
        let leased = world.leased().await;
        let mut good = run(&built_in, version, Decision::Deliver);
        good.memory_bytes = n;
        let error = Failure::new(FailureKind::ALL[n as usize % 8], "");
        let bad = run(&built_in, version, Decision::Failed { error });
        let deleted = run(&gone, Version::of(b"gone"), Decision::Deliver);
        // Together more than fits one statement, and more than may wait for the writer.
        let body = vec![b'x'; if n % 2 == 0 { 512 * 1024 } else { 1 }];
        let finished = Finished {
            next: Delivery::Succeeded { attempts: 1 },
            attempt: Some(attempt(Ok(200))),
            plugins: Some(Ran { runs: vec![good, bad, deleted], output: Some(changed(body, &[])) }),
            reason: None,
            gone: false,
            leased,
        };
        let writer = world.writer.clone();
        records.spawn(async move { assert!(writer.record_now(finished).await) });
    }
    records.join_all().await;
    let usage = world.store.plugin_usage(&world.acme, &built_in, version).await.unwrap();
    assert_eq!((usage.calls, usage.cpu, usage.memory_peak_bytes), (600, Duration::from_micros(300_000), 65_536));
    let expected = FailureKind::ALL.into_iter().enumerate().map(|(at, kind)| (kind, if at < 4 { 38 } else { 37 }));
    assert_eq!(usage.failures, expected.collect());
    let gone = world.store.plugin_usage(&world.acme, &gone, Version::of(b"gone")).await.unwrap();
    assert_eq!(gone.calls, 0, "of what is not there nothing is kept");
    let stored: (i64, i64) = sqlx::query_as("SELECT COUNT(*), SUM(LENGTH(body)) FROM plugin_runs")
        .fetch_one(&world.store.read)
        .await
        .unwrap();
    assert_eq!(stored, (300, 150 * 512 * 1024 + 150));
}

#[tokio::test]
async fn what_plugins_did_goes_with_the_event_and_with_the_endpoint() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    let version = world.version(&mine, b"bytes").await;
    let endpoint = world.endpoint().await;
    let rows = async || -> i64 {
        sqlx::query_scalar("SELECT COUNT(*) FROM plugin_runs").fetch_one(&world.store.read).await.unwrap()
    };
    let deliver = async || {
        world.event("1").await;
        let leased = world.leased().await;
        let finished = Finished {
            next: Delivery::Succeeded { attempts: 1 },
            attempt: Some(attempt(Ok(200))),
            plugins: Some(Ran { runs: vec![run(&mine, version, Decision::Deliver)], output: Some(changed("x", &[])) }),
            reason: None,
            gone: false,
            leased,
        };
        assert!(world.writer.record_now(finished).await);
    };
    deliver().await;
    world.hand.advance(Duration::from_hours(1));
    deliver().await;
    assert_eq!(rows().await, 2);
    let between = at(NOW) + Duration::from_mins(1);
    world.store.purge_old_events(&world.acme, between).await.unwrap();
    assert_eq!(rows().await, 1);
    world.store.delete_endpoint(&world.acme, endpoint.id).await.unwrap();
    world.store.purge_endpoint(&world.acme, endpoint.id).await.unwrap();
    assert_eq!(rows().await, 0);
}
