//! Traces: from the producer's request through the table to the receiver's answer, as a collector gets them.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use revnoxa_tests::{Answer, Api, Event, Host, HostBuilder, Machine, Received, Receiver};
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PRODUCER: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_post_to_the_receivers_answer_also_after_a_restart() {
    let (collector, receiver) = (Receiver::answering([200]).await, Receiver::answering([500, 200]).await);
    let mut host = exporting_to(&collector).start().await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = post(&host, &[format!("00-{TRACE}-{PRODUCER}-01").as_str()]).await;
    endpoint.attempted(1, &event).await;
    // What comes now comes from the table.
    host.restart_after(Duration::from_secs(34)).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    host.stop().await;

    let spans = spans(&collector);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "nobody posted anything else: {spans:#?}");
    let post = only(&spans, "post events");
    assert_eq!((hex(&post.parent_span_id).as_str(), post.kind()), (PRODUCER, SpanKind::Server));
    assert_eq!(text(post, "revnoxa.event").as_deref(), Some(event.id.as_str()));
    let attempts = named(&spans, "attempt");
    let requests = receiver.received();
    assert_eq!((attempts.len(), requests.len()), (2, 2), "{spans:#?}");
    for (attempt, request) in attempts.iter().zip(&requests) {
        assert_eq!((&attempt.parent_span_id, attempt.kind()), (&post.span_id, SpanKind::Client));
        let sent = format!("00-{TRACE}-{}-01", hex(&attempt.span_id));
        assert_eq!(request.header("traceparent"), Some(sent.as_str()), "the receiver's spans come after this one");
        assert_eq!(text(attempt, "revnoxa.delivery").as_deref(), delivery["id"].as_str());
        assert_eq!(text(attempt, "server.address").as_deref(), Some("127.0.0.1"));
        assert!(attempt.end_time_unix_nano >= attempt.start_time_unix_nano);
    }
    let told = |attempt: &Span| {
        let status = attempt.status.as_ref().map(|status| status.code());
        (number(attempt, "revnoxa.attempt"), number(attempt, "http.response.status_code"), status)
    };
    assert_eq!(told(attempts[0]), (Some(1), Some(500), Some(StatusCode::Error)));
    assert_eq!(text(attempts[0], "error.type").as_deref(), Some("status_5xx"));
    assert_eq!((told(attempts[1]).0, told(attempts[1]).1), (Some(2), Some(200)));
    assert_ne!(told(attempts[1]).2, Some(StatusCode::Error));
    let shown = delivery["history"][0]["request_headers"].to_string();
    assert!(shown.contains(&hex(&attempts[0].span_id)), "the history shows it, as it shows all that was sent: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_have_spans_of_their_own() {
    let (collector, receiver) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    let host = exporting_to(&collector).start().await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let redact = json!({"items": [{"plugin": "redact-fields", "settings": {"fields": ["/data/secret"]}}]});
    endpoint.request("PUT", "/plugins").json(&redact).send().await.expect(200);
    let event = post(&host, &[]).await;
    endpoint.delivery_in("succeeded", &event).await;
    host.stop().await;

    let spans = spans(&collector);
    let post = only(&spans, "post events");
    assert!(post.parent_span_id.is_empty(), "a post without a traceparent begins a trace: {post:#?}");
    let attempt = only(&spans, "attempt");
    let plugin = only(&spans, "plugin redact-fields");
    assert_eq!((&attempt.trace_id, &plugin.trace_id), (&post.trace_id, &post.trace_id));
    assert_eq!(plugin.parent_span_id, attempt.span_id);
    assert!(plugin.start_time_unix_nano >= attempt.start_time_unix_nano);
    assert!(plugin.end_time_unix_nano <= attempt.end_time_unix_nano, "{attempt:#?} {plugin:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_receivers_get_the_producers_own_traceparent() {
    let receiver = Receiver::answering([500, 200]).await;
    let mut host = Host::start().await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let given = format!("00-{TRACE}-{PRODUCER}-01");
    let event = post(&host, &[given.as_str()]).await;
    endpoint.attempted(1, &event).await;
    host.restart_after(Duration::from_secs(34)).await;
    endpoint.delivery_in("succeeded", &event).await;
    let traces: Vec<Option<String>> = receiver.received().iter().map(|request| traceparent(request)).collect();
    assert_eq!(traces, [Some(given.clone()), Some(given.clone())]);

    // None, not one, two: there is no trace to go on with.
    let none: [&[&str]; 3] = [&[], &["00-not-a-trace-01"], &[given.as_str(), given.as_str()]];
    for given in none {
        let before = receiver.received().len();
        let event = post(&host, given).await;
        endpoint.delivery_in("succeeded", &event).await;
        assert_eq!(traceparent(&receiver.received()[before]), None, "{given:?}");
    }
    assert_eq!(receiver.tests().iter().find_map(|request| traceparent(request)), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_producer_does_not_record_is_passed_on_and_not_recorded() {
    let (collector, receiver) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    let host = exporting_to(&collector).start().await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let given = format!("00-{TRACE}-{PRODUCER}-00");
    let event = post(&host, &[given.as_str()]).await;
    endpoint.delivery_in("succeeded", &event).await;
    assert_eq!(traceparent(&receiver.received()[0]), Some(given));
    host.stop().await;
    assert_eq!(spans(&collector), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_many_posts_begins_a_trace_if_so_configured() {
    let (collector, receiver) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    let host = exporting_to(&collector).with(|config| config.trace_one_in = 1_000_000).start().await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    for _ in 0..10 {
        let event = post(&host, &[]).await;
        endpoint.delivery_in("succeeded", &event).await;
    }
    let event = post(&host, &[format!("00-{TRACE}-{PRODUCER}-01").as_str()]).await;
    endpoint.delivery_in("succeeded", &event).await;
    host.stop().await;
    assert_eq!(receiver.received().iter().filter_map(|request| traceparent(request)).count(), 1);
    let traces: Vec<String> = spans(&collector).iter().map(|span| hex(&span.trace_id)).collect();
    assert_eq!(traces, [TRACE, TRACE], "the producer's own, post and attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_says_nothing_holds_up_nothing() {
    let (collector, receiver) = (Receiver::answering([Answer::hang()]).await, Receiver::answering([200]).await);
    let host = exporting_to(&collector).start().await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = post(&host, &[]).await;
    endpoint.delivery_in("succeeded", &event).await;
    let stop = tokio::time::timeout(Duration::from_secs(10), host.stop());
    stop.await.expect("it waits for the collector two seconds at most");
    assert!(!collector.received().is_empty(), "it was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collector_gets_the_operators_headers_and_no_log_does() {
    let (collector, receiver) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    let machine = Machine::new()
        .set("RUST_LOG", "debug")
        .set("REVNOXA_OTLP_ENDPOINT", &collector.url_at(""))
        .set("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20header-in-no-log")
        .set("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=first");
    let mut process = machine.serve().await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let event = post(&machine, &[]).await;
    endpoint.delivery_in("succeeded", &event).await;
    process.terminate();
    assert!(process.exit().await.success());
    let request = &collector.received()[0];
    assert_eq!(request.header("authorization"), Some("Bearer header-in-no-log"));
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    let export = ExportTraceServiceRequest::decode(&request.body[..]).unwrap();
    let attributes = &export.resource_spans[0].resource.as_ref().expect("a resource").attributes;
    assert_eq!(text_in(attributes, "service.name").as_deref(), Some("revnoxa-host"));
    assert_eq!(text_in(attributes, "service.instance.id").as_deref(), Some("first"));
    assert!(!process.printed().contains("header-in-no-log"));
}

fn exporting_to(collector: &Receiver) -> HostBuilder {
    let url = collector.url_at("").parse().unwrap();
    Host::builder().with(|config| config.otlp_endpoint = Some(url))
}

/// Has the core post an event for `acme`, with these headers `traceparent`.
async fn post(api: &Api, traceparents: &[&str]) -> Event {
    let event: Value = json!({"tenant": "acme", "type": "incident.created", "data": {"secret": 1}});
    let mut request = api.producer().await.request("POST", "/v1/events").json(&event);
    for traceparent in traceparents {
        request = request.header("traceparent", traceparent);
    }
    let accepted = request.send().await.expect(202);
    Event { id: accepted.text_of("id").to_owned(), deliveries: accepted["deliveries"].as_u64().expect("a count") }
}

fn traceparent(request: &Received) -> Option<String> {
    request.header("traceparent").map(str::to_owned)
}

/// All that the collector has got.
fn spans(collector: &Receiver) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in collector.received() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
        let export = ExportTraceServiceRequest::decode(&request.body[..]).unwrap();
        for resource in export.resource_spans {
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans
}

/// Those of this name, the first first.
fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    let mut named: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    named.sort_by_key(|span| span.start_time_unix_nano);
    named
}

fn only<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let named = named(spans, name);
    assert_eq!(named.len(), 1, "spans `{name}`: {spans:#?}");
    named[0]
}

fn text(span: &Span, key: &str) -> Option<String> {
    text_in(&span.attributes, key)
}

fn text_in(attributes: &[KeyValue], key: &str) -> Option<String> {
    match value(attributes, key)? {
        Any::StringValue(text) => Some(text.clone()),
        other => panic!("{key} is {other:?}"),
    }
}

fn number(span: &Span, key: &str) -> Option<i64> {
    match value(&span.attributes, key)? {
        Any::IntValue(number) => Some(*number),
        other => panic!("{key} is {other:?}"),
    }
}

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Any> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
