//! Receivers that mean harm: their attempts end in time, the history says how, and nobody else notices.

use std::{collections::BTreeSet, iter::repeat_n, ops::RangeInclusive};

use jiff::Timestamp;
use revnoxa_tests::{
    Answer, Authority, Endpoint, Event, Host, HostileReceiver, Received, Receiver, Script,
    Step::{self, Echo, Request, Write},
};
use serde_json::{Value, json};

use crate::hostile_cases::{PATIENCE, cases};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_receiver_does_its_attempt_ends_in_time_and_the_history_says_how() {
    let authority = Authority::new();
    let pem = authority.pem_file();
    let host = Host::builder().with(|config| {
        config.attempt_timeout = PATIENCE;
        config.extra_ca = Some(pem);
    });
    let host = host.start().await;
    let (acme, globex) = (host.tenant("acme").await, host.tenant("globex").await);
    let alive = Receiver::answering([200]).await;
    let healthy = [acme.endpoint(&alive).await, globex.endpoint(&alive).await];
    let mut hostile = Vec::new();
    for case in cases(&authority) {
        let receiver = case.receiver().await;
        let wanted = json!({"url": receiver.url(), "event_types": ["incident.created"]});
        let endpoint = acme.endpoint_with(wanted).await;
        assert_eq!(endpoint.created["state"], "active", "{}: {}", case.name, endpoint.created);
        receiver.turn(case.script.clone());
        hostile.push((case, receiver, endpoint));
    }

    let event = acme.event("incident.created", json!({})).await;
    assert_eq!(event.deliveries, hostile.len() as u64 + 1);
    for n in 0..10 {
        for endpoint in &healthy {
            let event = endpoint.tenant.event("incident.resolved", json!({"n": n})).await;
            endpoint.delivery_in("succeeded", &event).await;
        }
    }
    healthy[0].delivery_in("succeeded", &event).await;
    for (case, _, endpoint) in &hostile {
        case.check(&endpoint.attempted(1, &event).await);
    }
    assert!(hostile.len() > 100, "{}", hostile.len());
}

/// As many requests over one connection as a test sends, each treated like this.
fn again_and_again(steps: Vec<Step>) -> Script {
    Script::new(repeat_n(steps, 64).flatten().collect::<Vec<_>>())
}

/// HTTP/1.1 tells by their order alone which answer belongs to which request. What has come before a request is sent is no answer
/// to it; of what comes later nobody can know more than the receiver, and it is heard by its own tenant only.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_credited_to_the_request_before_it_and_to_no_other() {
    let stale = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale".to_vec();
    let head = b"HTTP/1.1 200 OK\r\nContent-".to_vec();
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let cases = [
        ("keeps to the rules", vec![Request, Echo(Vec::new())], true),
        ("adds an answer to the first", vec![Request, Echo(stale.clone())], true),
        ("adds the beginning of an answer", vec![Request, Echo(head)], true),
        ("adds garbage", vec![Request, Echo(b"\0\0\0\0".to_vec())], true),
        ("answers once more, unasked", vec![Request, Echo(Vec::new()), Write(stale)], false),
    ];
    for (case, steps, at_once) in cases {
        let receiver = HostileReceiver::start().await;
        let endpoint = acme.endpoint_with(json!({"url": receiver.url()})).await;
        receiver.turn(again_and_again(steps));
        for n in 0..5 {
            let event = acme.event("incident.created", json!({"n": n})).await;
            assert_own_answer(case, &endpoint, &event).await;
        }
        let mut events = Vec::new();
        let together = if at_once { 30 } else { 0 };
        for n in 0..together {
            events.push(acme.event("incident.created", json!({"n": n})).await);
        }
        for event in &events {
            assert_own_answer(case, &endpoint, event).await;
        }
        endpoint.delete("").await.expect(204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_closes_what_it_promised_to_keep_open_loses_no_delivery() {
    let host = Host::start().await;
    let receiver = HostileReceiver::start().await;
    let endpoint = host.tenant("acme").await.endpoint_with(json!({"url": receiver.url()})).await;
    receiver.turn(Script::new([Request, Echo(Vec::new())]));
    for n in 1..=10 {
        let event = endpoint.tenant.event("incident.created", json!({"n": n})).await;
        assert_own_answer("closes at once", &endpoint, &event).await;
        assert_eq!(receiver.opened(), n);
    }
}

/// Its first attempt succeeded, with an answer that names the event.
async fn assert_own_answer(case: &str, endpoint: &Endpoint, event: &Event) {
    let delivery = endpoint.attempted(1, event).await;
    assert_eq!(delivery["state"], "succeeded", "{case}: {delivery:#}");
    assert_eq!(delivery["history"][0]["response_body"], event.id.as_str(), "{case}: {delivery:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_at_one_receiver_share_no_connection() {
    let authority = Authority::new();
    let pem = authority.pem_file();
    let host = Host::builder().with(|config| config.extra_ca = Some(pem)).start().await;
    let (acme, globex) = (host.tenant("acme").await, host.tenant("globex").await);
    for receiver in [Receiver::answering([200]).await, Receiver::answering_https(&authority, [200]).await] {
        // The same URL: nothing but the tenant tells them apart.
        let endpoints = [acme.endpoint(&receiver).await, globex.endpoint(&receiver).await];
        let mut connections = [BTreeSet::new(), BTreeSet::new()];
        for n in 0..5 {
            for (endpoint, of_tenant) in endpoints.iter().zip(&mut connections) {
                let event = endpoint.tenant.event("incident.created", json!({"n": n})).await;
                endpoint.delivery_in("succeeded", &event).await;
                let received = receiver.received();
                let mut of_event =
                    received.iter().filter(|request| request.header("webhook-id") == Some(event.id.as_str()));
                of_tenant.insert(of_event.next().expect("it came").connection);
            }
        }
        let [of_acme, of_globex] = connections;
        assert!(of_acme.is_disjoint(&of_globex), "{}: {of_acme:?} and {of_globex:?}", receiver.url());
        for endpoint in endpoints {
            endpoint.delete("").await.expect(204);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_asks_for_changes_nothing_about_the_next_request() {
    let host = Host::start().await;
    let trap = Receiver::answering([200]).await;
    let trap_port = trap.url().rsplit(':').next().unwrap().trim_end_matches("/hook").to_owned();
    let answer = [
        ("Alt-Svc", format!("http/1.1=\"127.0.0.1:{trap_port}\"; ma=86400, h2=\":{trap_port}\"; ma=86400; persist=1")),
        ("Strict-Transport-Security", "max-age=31536000".to_owned()),
        ("Set-Cookie", "session=1; Path=/".to_owned()),
        ("ETag", "\"1\"".to_owned()),
        ("WWW-Authenticate", "Basic realm=\"x\"".to_owned()),
        ("Location", trap.url()),
        ("Content-Location", trap.url()),
        ("Refresh", format!("0; url={}", trap.url())),
        ("Link", format!("<{}>; rel=preload", trap.url())),
        ("Connection", "keep-alive, webhook-id".to_owned()),
        ("Keep-Alive", "timeout=99999999, max=99999999".to_owned()),
        ("Accept-CH", "Sec-CH-UA-Platform-Version".to_owned()),
        ("Clear-Site-Data", "\"*\"".to_owned()),
    ];
    let answer = answer.iter().fold(Answer::status(200), |answer, (name, value)| answer.header(name, value));
    let receiver = Receiver::answering([answer]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    for n in 0..3 {
        let event = endpoint.tenant.event("incident.created", json!({"n": n})).await;
        endpoint.delivery_in("succeeded", &event).await;
    }
    let names = |request: &Received| -> Vec<String> {
        request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
    };
    let received = receiver.received();
    assert_eq!(received.len(), 3);
    for request in &received[1..] {
        assert_eq!((&request.path, names(request)), (&received[0].path, names(&received[0])));
    }
    assert_eq!((trap.connections(), receiver.connections()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_retry_after_neither_hurries_nor_stops_the_retries() {
    const USUAL: RangeInclusive<i64> = 30..=33;
    const LONGEST: RangeInclusive<i64> = 7_200..=7_920;
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let digits = "9".repeat(100 << 10);
    let cases: [(&[u8], RangeInclusive<i64>); 20] = [
        (b"18446744073709551616", LONGEST),
        (b"9999999999999999999999999999999999999999999999999999999999999999", LONGEST),
        (b"99999999999999999999999999999999999999999999999999999999999999999", USUAL),
        (digits.as_bytes(), USUAL),
        (b"-1", USUAL),
        (b"-18446744073709551616", USUAL),
        (b"+60", USUAL),
        (b"NaN", USUAL),
        (b"inf", USUAL),
        (b"1e9", USUAL),
        (b"0x7fffffff", USUAL),
        (b"60, 60", USUAL),
        (b"", USUAL),
        (b"6\xc3\xa00", USUAL),
        ("\u{ff16}\u{ff10}".as_bytes(), USUAL),
        (b"Thu, 01 Jan 2099 00:00:00 GMT", LONGEST),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 30..=7_920),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", USUAL),
        (b"Sun, 99 Mar 2026 99:99:99 GMT", USUAL),
        (b"60\r\nRetry-After: 9999", 60..=66),
    ];
    for (value, delays) in cases {
        let head = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\nRetry-After: ".as_slice();
        let receiver = Receiver::answering([Answer::raw([head, value, b"\r\n\r\n"].concat())]).await;
        let endpoint = acme.endpoint(&receiver).await;
        let event = acme.event("incident.created", json!({})).await;
        let delivery = endpoint.attempted(1, &event).await;
        let delay = delay(&host, &delivery);
        let shown = String::from_utf8_lossy(&value[..value.len().min(80)]);
        assert!(delays.contains(&delay), "{shown}: {delay} s: {}", delivery["history"][0]);
        endpoint.delete("").await.expect(204);
    }
}

/// Whole seconds from now to the delivery's next attempt.
fn delay(host: &Host, delivery: &Value) -> i64 {
    let next: Timestamp = delivery["next_attempt_at"].as_str().expect("another attempt").parse().unwrap();
    (next.as_millisecond() - host.now().as_millisecond()) / 1_000
}
