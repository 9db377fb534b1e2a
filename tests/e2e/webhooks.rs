//! What endpoints are sent is what the OpenAPI document says under `webhooks`: real requests against its schemas, by a validator of JSON
//! Schema 2020-12.

use std::collections::BTreeSet;

use boon::{Compiler, Draft, Schemas};
use revnoxa_tests::{Host, Received, Receiver};
use serde_json::{Value, json};

/// The document, and its schemas as they are compiled.
struct Description {
    document: Value,
    compiler: Compiler,
    schemas: Schemas,
}

/// What the document is called for the validator, which fetches nothing.
const NAME: &str = "http://host/openapi.json";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_sent_as_the_document_says() {
    let host = Host::start().await;
    let mut description = Description::of(&host).await;
    let receiver = Receiver::answering([500, 200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let types = host.operator().all("/v1/event-types").await;
    let names: BTreeSet<&str> = types.iter().map(|known| known["name"].as_str().unwrap()).collect();
    let described = description.document["webhooks"].as_object().expect("webhooks");
    assert_eq!(described.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);

    let data = [
        json!({"id": "inc_1", "nested": {"list": [1, null]}}),
        json!([]),
        json!("text"),
        json!(1.5),
        Value::Null,
        json!(true),
    ];
    let posted: Vec<&str> = names.iter().copied().filter(|name| *name != "webhook.test").collect();
    assert_eq!(posted.len(), data.len());
    // The first one is repeated, and the last one has two signatures.
    for (at, (name, data)) in posted.iter().zip(data).enumerate() {
        if at + 1 == posted.len() {
            endpoint.post("/rotate-secret", json!({"overlap_seconds": 60})).await.expect(200);
        }
        let event = endpoint.tenant.event(name, data).await;
        if at == 0 {
            let failed = endpoint.attempted(1, &event).await;
            host.advance_to(&failed["next_attempt_at"], 0).await;
        }
        endpoint.delivery_in("succeeded", &event).await;
    }
    let requests = [receiver.received(), receiver.tests()].concat();
    let attempts: Vec<_> = requests.iter().filter_map(|request| request.header("x-revnoxa-attempt")).collect();
    assert_eq!(attempts, ["1", "2", "1", "1", "1", "1", "1", "1"]);
    let signatures = requests[posted.len()].header("webhook-signature").unwrap();
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
    for request in &requests {
        description.assert_describes(request);
    }
    let sent: BTreeSet<&str> = requests.iter().filter_map(|request| request.header("x-revnoxa-event")).collect();
    assert_eq!(sent, names);

    // The schemas tell one type from another, and an event from what is none.
    for request in &requests {
        let body = request.json();
        let own = request.header("x-revnoxa-event").unwrap();
        for name in &names {
            assert_eq!(description.fits(&body_schema(name), &body).is_ok(), *name == own, "{own} as {name}");
        }
        for member in ["id", "type", "timestamp", "data"] {
            let mut less = body.clone();
            less.as_object_mut().unwrap().remove(member);
            assert!(description.fits(&body_schema(own), &less).is_err(), "{own} without {member}");
        }
        for (member, wrong) in
            [("id", json!("a.b")), ("timestamp", json!("2026-02-30T00:00:00.000Z")), ("timestamp", json!(1))]
        {
            let mut wrong_body = body.clone();
            wrong_body[member] = wrong;
            assert!(description.fits(&body_schema(own), &wrong_body).is_err(), "{own}: {wrong_body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_an_operator_added_is_sent_in_the_same_form() {
    let host = Host::start().await;
    let mut description = Description::of(&host).await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    host.operator().post("/v1/event-types", json!({"name": "service.deployed"})).await.expect(201);
    endpoint.tenant.event("service.deployed", json!({"version": 7})).await;
    let mut request = (*receiver.wait_for(1).await[0]).clone();
    let text = request.text().replace("service.deployed", "incident.created");
    request.body = text.into_bytes();
    for (_, value) in request.headers.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case("x-revnoxa-event")) {
        *value = "incident.created".to_owned();
    }
    description.assert_describes(&request);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_an_event_is_sent_as_the_document_says() {
    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let host = Host::start().await;
    let mut description = Description::of(&host).await;
    let receiver = Receiver::answering([200]).await;
    host.tenant("acme").await.endpoint(&receiver).await;
    let event = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    let post = host.producer().await.request("POST", "/v1/events").json(&event).header("traceparent", TRACEPARENT);
    post.send().await.expect(202);
    let request = receiver.wait_for(1).await[0].clone();
    assert_eq!(request.header("traceparent"), Some(TRACEPARENT));
    description.assert_describes(&request);

    let described = |event_type: &str| {
        let headers = description.headers(event_type);
        headers.into_iter().find(|header| header.name == "traceparent").map(|header| (header.is_required, header.place))
    };
    assert!(described("webhook.test").is_none(), "it is posted by nobody");
    let (is_required, place) = described("incident.created").expect("it is described");
    assert!(!is_required, "an event may be of no trace");
    for wrong in [TRACEPARENT.to_uppercase().as_str(), &format!("{TRACEPARENT}-"), "00-not-a-trace-01", ""] {
        assert!(description.fits(&place, &json!(wrong)).is_err(), "{wrong}");
    }
}

/// A header of a webhook's requests.
struct Header {
    name: String,
    is_required: bool,
    /// Where its schema stands in the document.
    place: String,
}

impl Description {
    async fn of(host: &Host) -> Self {
        let document = host.anyone().get("/openapi.json").await.expect(200).json;
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        compiler.add_resource(NAME, document.clone()).unwrap();
        Self { document, compiler, schemas: Schemas::new() }
    }

    /// Whether the value is as the schema at this place of the document wants it.
    fn fits(&mut self, place: &str, value: &Value) -> Result<(), String> {
        let schema = self.compiler.compile(&format!("{NAME}#{place}"), &mut self.schemas);
        let schema = schema.unwrap_or_else(|error| panic!("{place} is no schema: {error:#}"));
        self.schemas.validate(value, schema).map_err(|error| error.to_string())
    }

    /// Fails the test unless the document describes every header and the body of this request.
    #[track_caller]
    fn assert_describes(&mut self, request: &Received) {
        let event_type = request.header("x-revnoxa-event").expect("it names its type");
        assert_eq!((request.method.as_str(), request.header("content-type")), ("POST", Some("application/json")));
        let headers = self.headers(event_type);
        for Header { name, is_required, place } in &headers {
            let Some(text) = request.header(name) else {
                assert!(!is_required, "a {event_type} without {name}");
                continue;
            };
            let is_whole = self.document.pointer(place).is_some_and(|schema| schema["type"] == "integer");
            let value = if is_whole { json!(text.parse::<u64>().unwrap()) } else { json!(text) };
            self.fits(place, &value).unwrap_or_else(|error| panic!("{name} of {event_type}: {error}"));
        }
        for (name, _) in &request.headers {
            let ours = ["x-revnoxa-", "webhook-", "traceparent"];
            let ours = ours.iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix));
            let is_described = headers.iter().any(|known| known.name.eq_ignore_ascii_case(name));
            assert!(!ours || is_described, "{name} is not described");
        }
        let (place, body) = (body_schema(event_type), request.json());
        self.fits(&place, &body).unwrap_or_else(|error| panic!("{body}: {error}"));
        let schema = self.document.pointer(&place).and_then(|schema| schema["$ref"].as_str()).expect("a named schema");
        let schema = self.document.pointer(schema.trim_start_matches('#')).expect("it leads to the schema");
        let members = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(members(&body), members(&schema["properties"]), "what is sent and what is described");
    }

    /// The headers of a webhook's requests.
    fn headers(&self, event_type: &str) -> Vec<Header> {
        let list = format!("/webhooks/{event_type}/post/parameters");
        let parameters = self.document.pointer(&list).and_then(Value::as_array).expect("headers");
        let header = |(at, parameter): (usize, &Value)| {
            let place = parameter["$ref"].as_str().map(|to| to.trim_start_matches('#').to_owned());
            let place = place.unwrap_or_else(|| format!("{list}/{at}"));
            let parameter = self.document.pointer(&place).unwrap_or_else(|| panic!("{place} leads nowhere"));
            assert_eq!(parameter["in"], "header", "{place}");
            Header {
                name: parameter["name"].as_str().unwrap().to_owned(),
                is_required: parameter["required"].as_bool().unwrap(),
                place: format!("{place}/schema"),
            }
        };
        parameters.iter().enumerate().map(header).collect()
    }
}

fn body_schema(event_type: &str) -> String {
    format!("/webhooks/{event_type}/post/requestBody/content/application~1json/schema")
}
