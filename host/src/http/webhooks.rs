//! What endpoints are sent, as the `webhooks` of the OpenAPI document: whoever writes a receiver finds its requests described there.

use serde_json::json;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, HttpMethod, OpenApi, Paths, Ref, Required};

use crate::domain::event::{EventType, SEEDED_TYPES};

const EVENT: &str = "X-Revnoxa-Event";
const TRACEPARENT: &str = "traceparent";

/// Adds a webhook and a schema for each type of the catalogue that every installation starts with.
pub(super) fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (name, description, form) in headers() {
        components.parameters.insert(name.to_owned(), header(name, description, form, Required::True).into());
    }
    components.parameters.insert(TRACEPARENT.to_owned(), traceparent().into());
    let mut webhooks = Paths::new();
    for (name, description) in SEEDED_TYPES {
        components.schemas.insert(schema_name(name), event(name, description).into());
        webhooks.add_path_operation(name, vec![HttpMethod::Post], request(name, description));
    }
    document.webhooks = Some(webhooks);
}

/// Name, meaning and form of each header that has the same form in every request. `Content-Type` is the body's to tell.
fn headers() -> [(&'static str, &'static str, ObjectBuilder); 7] {
    [
        ("User-Agent", "Who we are, and our version.", text(r"^Revnoxa-Webhooks/[0-9]+\.[0-9]+\.[0-9]+")),
        (
            "X-Revnoxa-Signature",
            "Lowercase hex of HMAC-SHA256 over the raw body, keyed with the secret as it is shown, `whsec_` and all.",
            text("^[0-9a-f]{64}$"),
        ),
        (
            "X-Revnoxa-Delivery",
            "The delivery: one event for one endpoint. The same in each of its attempts.",
            text("^dlv_[0-9a-f]{32}$"),
        ),
        ("X-Revnoxa-Attempt", "Which attempt of the delivery this is, from 1.", whole(1)),
        (
            "webhook-id",
            "The event's id. The same in each attempt: use it to recognise a repetition.",
            text("^[A-Za-z0-9_-]{1,128}$"),
        ),
        ("webhook-timestamp", "When this attempt was signed, in seconds since 1970.", whole(0)),
        (
            "webhook-signature",
            "Standard Webhooks: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, keyed with the bytes whose base64 the \
             secret has after `whsec_`. While a rotated secret is still good, a second one made with it, after a space.",
            text("^v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)?$"),
        ),
    ]
}

/// <https://www.w3.org/TR/trace-context/#traceparent-header>
fn traceparent() -> Parameter {
    let description = "W3C Trace Context: the trace that the event is of, and what comes before this request in it. Left out when the \
         event was posted without one and none was begun for it.";
    header(TRACEPARENT, description, text("^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"), Required::False)
}

fn header(name: &str, description: &str, form: ObjectBuilder, required: Required) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(required)
        .description(Some(description))
        .schema(Some(form))
        .build()
}

fn request(name: &str, description: &str) -> Operation {
    let body = RequestBodyBuilder::new()
        .description(Some(
            "Unless a plugin of the endpoint made another body of it. The signatures cover the bytes that are sent.",
        ))
        .content("application/json", Content::new(Some(Ref::from_schema_name(schema_name(name)))))
        .required(Some(Required::True));
    let answer = |meaning: &str| ResponseBuilder::new().description(meaning);
    let operation = OperationBuilder::new()
        .operation_id(Some(name))
        .tag("webhooks")
        .summary(Some(description))
        .request_body(Some(body.build()))
        .response(
            "2XX",
            answer("Received. Anything else, or no answer within 10 s of the start of the connect, is a failure."),
        )
        .parameter(header(EVENT, "The event's type.", constant(name), Required::True))
        // Whoever sends this is told by the signatures, not by a token.
        .security(SecurityRequirement::default());
    let operation = if name == EventType::TEST {
        operation
            .description(Some("Sent once to an endpoint that was just created, and whenever it is tested. 2xx makes a pending one active."))
            .response("default", answer("A failure. It is not repeated; a pending endpoint stays so."))
    } else {
        operation
            .description(Some("Sent to each active endpoint of the tenant that wants this type. Types that an operator added are sent in the same form."))
            .response("410", answer("A failure that disables the endpoint."))
            .response("429", answer("A failure; `Retry-After` can lengthen the delay before the next attempt, up to 2 h. So it can with 503."))
            .response("default", answer("A failure: four more attempts follow, 30 s, 5 min, 30 min and 2 h after the one before unless the operator set other delays. Redirects are not followed."))
    };
    // Nobody posts a test event: it is of no trace.
    let traceparent = (name != EventType::TEST).then_some(TRACEPARENT);
    let shared = headers().into_iter().map(|(name, ..)| name).chain(traceparent);
    let shared = shared.map(|name| Ref::new(format!("#/components/parameters/{name}")));
    shared.fold(operation, OperationBuilder::parameter_ref).build()
}

/// The body: an event of this type.
fn event(name: &str, description: &str) -> ObjectBuilder {
    let id = text("^[A-Za-z0-9_-]{1,128}$").description(Some("Unique within the tenant; also sent as `webhook-id`."));
    let timestamp = text(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some("When it happened: RFC 3339, UTC, milliseconds."));
    let members =
        [("id", id), ("type", constant(name)), ("timestamp", timestamp), ("data", data(name == EventType::TEST))];
    let event = ObjectBuilder::new().schema_type(Type::Object).description(Some(description));
    members.into_iter().fold(event, |event, (name, schema)| event.property(name, schema).required(name))
}

/// The data of a test event is ours; that of any other is what the product makes it.
fn data(of_test: bool) -> ObjectBuilder {
    if of_test {
        let members = [
            ("endpoint_id", text("^ep_[0-9a-f]{32}$").description(Some("The endpoint that is tested."))),
            ("message", ObjectBuilder::new().schema_type(Type::String).description(Some("For people."))),
        ];
        let data = ObjectBuilder::new().schema_type(Type::Object);
        return members.into_iter().fold(data, |data, (name, schema)| data.property(name, schema).required(name));
    }
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some("What the product posted with the event, byte for byte: an object of its own form, though any JSON may be posted."))
        .examples([json!({"id": "inc_2049", "title": "Checkout is down", "severity": "high"})])
}

fn constant(value: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some([value]))
}

fn text(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

fn whole(minimum: u32) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(minimum))
}

/// `IncidentCreatedEvent` for `incident.created`.
fn schema_name(event_type: &str) -> String {
    let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    event_type.split(['.', '_', '-']).map(word).collect::<String>() + "Event"
}
