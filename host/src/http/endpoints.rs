//! Endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::auth::{ForTenant, PathId};
use super::body::{Json, OptionalJson, PageParams, Params, vet_text};
use super::list::{List, Listed};
use super::problem::{FieldError, Problem, ProblemBody};
use super::{AppState, time};
use crate::deliver::TestResult;
use crate::domain::address::EndpointUrl;
use crate::domain::endpoint::{self, DESCRIPTION_LIMIT, EVENT_TYPES_LIMIT, EndpointState, OVERLAP_LIMIT_S};
use crate::domain::event::{EventType, InvalidEventType};
use crate::domain::header::CustomHeaders;
use crate::domain::id::{EndpointId, TenantId};
use crate::store::{EndpointChange, Held};

/// An endpoint to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEndpoint {
    /// `https`, a public name or address, at most 2,048 bytes.
    #[schema(example = "https://example.com/webhooks")]
    pub(super) url: String,
    /// Your own words; at most 512 bytes.
    #[serde(default)]
    pub(super) description: String,
    /// The types it gets; null or left out: all, later ones included.
    pub(super) event_types: Option<Vec<String>>,
    /// Headers added to each request: at most 10, names of HTTP's or ours are refused.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

/// What to change of an endpoint; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeEndpoint {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub(super) url: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub(super) description: Option<String>,
    /// Null: all.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) event_types: Option<Option<Vec<String>>>,
    /// Replaces all.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub(super) headers: Option<BTreeMap<String, String>>,
}

/// A tenant's endpoint.
#[derive(Serialize, ToSchema)]
pub(super) struct Endpoint {
    #[schema(value_type = String, example = "ep_0198c5f0a6c37e6fb1d7b0c3a9d2e4f1")]
    pub(super) id: EndpointId,
    pub(super) url: String,
    pub(super) description: String,
    /// Null: all.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) event_types: Option<Vec<EventType>>,
    pub(super) headers: BTreeMap<String, String>,
    /// `pending` until a test event is answered with 2xx, then `active`, or `disabled`.
    pub(super) state: &'static str,
    /// Why it is not active.
    pub(super) state_reason: Option<String>,
    #[schema(format = DateTime)]
    pub(super) created_at: String,
}

/// An endpoint just created.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedEndpoint {
    #[serde(flatten)]
    pub(super) endpoint: Endpoint,
    /// The signing secret, shown this once.
    #[schema(example = "whsec_…")]
    pub(super) secret: String,
    pub(super) test: Test,
}

/// What a test event came to.
#[derive(Serialize, ToSchema)]
pub(super) struct Test {
    /// Whether it was answered with 2xx.
    pub(super) delivered: bool,
    /// Left out: no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status_code: Option<u16>,
    /// Why it was not delivered, where the status does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// How to rotate.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotate {
    /// How long the old secret signs `webhook-signature` as well: 0 (default) to 604,800 s.
    #[serde(default)]
    pub(super) overlap_seconds: u32,
}

/// The new secret, shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct Secret {
    pub(super) secret: String,
}

/// How to enable.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Enable {
    /// What becomes of the deliveries held meanwhile: `deliver` (default) or `drop`.
    #[schema(value_type = Option<String>)]
    pub(super) held: Option<Held>,
}

/// What to recover.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Recover {
    /// RFC 3339: failed deliveries created then or later.
    #[schema(format = DateTime)]
    pub(super) since: String,
}

/// What was recovered.
#[derive(Serialize, ToSchema)]
pub(super) struct Recovered {
    /// How many deliveries are sent again.
    pub(super) deliveries: u64,
}

/// Lists a tenant's endpoints, the oldest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/endpoints", tag = "endpoints", params(("tenant" = String, Path), PageParams), responses(
    (status = 200, body = List<Endpoint>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody)
))]
pub(super) async fn list(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    uri: Uri,
    Params(page): Params<PageParams>,
) -> Result<Listed<Endpoint>, Problem> {
    Ok(List::of(&uri, state.store.endpoints(&tenant, &page.request()?).await?, |endpoint| shown(&endpoint)))
}

/// Creates an endpoint and sends it a test event at once: 2xx makes it active.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/endpoints", tag = "endpoints", params(("tenant" = String, Path)), request_body = NewEndpoint, responses(
    (status = 201, body = CreatedEndpoint), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "The tenant has 10,000 endpoints"), (status = 422, body = ProblemBody)
))]
pub(super) async fn create(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    Json(new): Json<NewEndpoint>,
) -> Result<(StatusCode, axum::Json<CreatedEndpoint>), Problem> {
    let vetted = crate::store::NewEndpoint {
        url: vet_url(&state, &new.url)?,
        event_types: vet_event_types(&state, new.event_types).await?,
        headers: vet_headers(&new.headers)?,
        description: vet_text("description", new.description, DESCRIPTION_LIMIT)?,
    };
    let created = state.store.create_endpoint(&tenant, vetted).await?;
    let (endpoint, secret) = created
        .ok_or_else(|| Problem::Conflict(format!("a tenant has at most {} endpoints", endpoint::ENDPOINTS_LIMIT)))?;
    let id = endpoint.id;
    // The endpoint and its secret stand whatever becomes of the test: not to answer would hide the secret for good.
    let test = state.deliver.test_endpoint(Arc::new(endpoint)).await;
    let test = test.unwrap_or_else(|error| {
        tracing::error!(endpoint.id = %id, error = &error as &dyn std::error::Error, "the test of a new endpoint failed");
        TestResult { delivered: false, status_code: None, error: Some("not known; try the test again".to_owned()) }
    });
    let endpoint = existing(&state, &tenant, id).await?;
    let created =
        CreatedEndpoint { endpoint: shown(&endpoint), secret: secret.reveal().to_owned(), test: tested(test) };
    Ok((StatusCode::CREATED, axum::Json(created)))
}

/// Reads an endpoint.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/endpoints/{endpoint}", tag = "endpoints", params(("tenant" = String, Path), ("endpoint" = String, Path)), responses(
    (status = 200, body = Endpoint), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)
))]
pub(super) async fn read(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<EndpointId>,
) -> Result<axum::Json<Endpoint>, Problem> {
    Ok(axum::Json(shown(&*existing(&state, &tenant, id).await?)))
}

/// Changes an endpoint; its state stays.
#[utoipa::path(patch, path = "/v1/tenants/{tenant}/endpoints/{endpoint}", tag = "endpoints", params(("tenant" = String, Path), ("endpoint" = String, Path)), request_body = ChangeEndpoint, responses(
    (status = 200, body = Endpoint), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)
))]
pub(super) async fn change(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<EndpointId>,
    Json(change): Json<ChangeEndpoint>,
) -> Result<axum::Json<Endpoint>, Problem> {
    let vetted = EndpointChange {
        url: change.url.map(|url| vet_url(&state, &url)).transpose()?,
        event_types: match change.event_types {
            Some(types) => Some(vet_event_types(&state, types).await?),
            None => None,
        },
        headers: change.headers.map(|headers| vet_headers(&headers)).transpose()?,
        description: change.description.map(|text| vet_text("description", text, DESCRIPTION_LIMIT)).transpose()?,
    };
    let changed = state.store.change_endpoint(&tenant, id, vetted).await?.ok_or(Problem::NotFound)?;
    Ok(axum::Json(shown(&changed)))
}

/// Deletes an endpoint with its history.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/endpoints/{endpoint}", tag = "endpoints", params(("tenant" = String, Path), ("endpoint" = String, Path)), responses(
    (status = 204, description = "Deleted"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)
))]
pub(super) async fn delete(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<EndpointId>,
) -> Result<StatusCode, Problem> {
    if !state.store.delete_endpoint(&tenant, id).await? {
        return Err(Problem::NotFound);
    }
    let store = state.store.clone();
    state.purge(async move { store.purge_endpoint(&tenant, id).await }).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a test event, once: 2xx makes a pending endpoint active.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/endpoints/{endpoint}/test", tag = "endpoints", params(("tenant" = String, Path), ("endpoint" = String, Path)), responses(
    (status = 200, body = Test), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 503, body = ProblemBody)
))]
pub(super) async fn test(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<EndpointId>,
) -> Result<axum::Json<Test>, Problem> {
    let endpoint = existing(&state, &tenant, id).await?;
    Ok(axum::Json(tested(state.deliver.test_endpoint(endpoint).await?)))
}

/// Replaces the secret for every later request, retries included.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/endpoints/{endpoint}/rotate-secret", tag = "endpoints", params(("tenant" = String, Path), ("endpoint" = String, Path)), request_body = Option<Rotate>, responses(
    (status = 200, body = Secret), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)
))]
pub(super) async fn rotate_secret(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<EndpointId>,
    OptionalJson(rotate): OptionalJson<Rotate>,
) -> Result<axum::Json<Secret>, Problem> {
    if rotate.overlap_seconds > OVERLAP_LIMIT_S {
        return Err(refused("overlap_seconds", format_args!("must be 0 to {OVERLAP_LIMIT_S}")));
    }
    let overlap = Duration::from_secs(rotate.overlap_seconds.into());
    let secret = state.store.rotate_secret(&tenant, id, overlap).await?.ok_or(Problem::NotFound)?;
    Ok(axum::Json(Secret { secret: secret.reveal().to_owned() }))
}

/// Enables a disabled endpoint.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/endpoints/{endpoint}/enable", tag = "endpoints", params(("tenant" = String, Path), ("endpoint" = String, Path)), request_body = Option<Enable>, responses(
    (status = 200, body = Endpoint), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "It is pending: test it")
))]
pub(super) async fn enable(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<EndpointId>,
    OptionalJson(enable): OptionalJson<Enable>,
) -> Result<axum::Json<Endpoint>, Problem> {
    match existing(&state, &tenant, id).await?.state {
        EndpointState::Pending { .. } => {
            return Err(Problem::Conflict(
                "the endpoint is pending: a test event answered with 2xx activates it".into(),
            ));
        }
        EndpointState::Active => {}
        EndpointState::Disabled { .. } => {
            state.store.enable_endpoint(&tenant, id, enable.held.unwrap_or(Held::Deliver)).await?;
        }
    }
    Ok(axum::Json(shown(&*existing(&state, &tenant, id).await?)))
}

/// Disables an endpoint: its events are held until it is enabled.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/endpoints/{endpoint}/disable", tag = "endpoints", params(("tenant" = String, Path), ("endpoint" = String, Path)), responses(
    (status = 200, body = Endpoint), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "It is pending: it gets no events")
))]
pub(super) async fn disable(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<EndpointId>,
) -> Result<axum::Json<Endpoint>, Problem> {
    if matches!(existing(&state, &tenant, id).await?.state, EndpointState::Pending { .. }) {
        return Err(Problem::Conflict("the endpoint is pending: it gets no events anyway".into()));
    }
    state.store.disable_endpoint(&tenant, id, "disabled by request").await?;
    Ok(axum::Json(shown(&*existing(&state, &tenant, id).await?)))
}

/// Sends every failed delivery since a time again, each with five new attempts.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/endpoints/{endpoint}/recover", tag = "endpoints", params(("tenant" = String, Path), ("endpoint" = String, Path)), request_body = Recover, responses(
    (status = 202, body = Recovered), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "It is pending: test it"), (status = 422, body = ProblemBody)
))]
pub(super) async fn recover(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<EndpointId>,
    Json(recover): Json<Recover>,
) -> Result<(StatusCode, axum::Json<Recovered>), Problem> {
    let since: Timestamp = recover.since.parse().map_err(|_| refused("since", "must be an RFC 3339 time"))?;
    if matches!(existing(&state, &tenant, id).await?.state, EndpointState::Pending { .. }) {
        return Err(Problem::Conflict("the endpoint is pending: a test event answered with 2xx activates it".into()));
    }
    let deliveries = state.store.recover(&tenant, id, since).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Recovered { deliveries })))
}

/// The endpoint, or 404.
pub(super) async fn existing(
    state: &AppState,
    tenant: &TenantId,
    id: EndpointId,
) -> Result<Arc<endpoint::Endpoint>, Problem> {
    state.store.endpoint(tenant, id).await?.ok_or(Problem::NotFound)
}

fn shown(endpoint: &endpoint::Endpoint) -> Endpoint {
    Endpoint {
        id: endpoint.id,
        url: endpoint.url.as_str().to_owned(),
        description: endpoint.description.clone(),
        event_types: endpoint.event_types.clone(),
        headers: endpoint.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        state: endpoint.state.name(),
        state_reason: endpoint.state.reason().map(str::to_owned),
        created_at: time(endpoint.created_at),
    }
}

fn tested(test: TestResult) -> Test {
    Test { delivered: test.delivered, status_code: test.status_code, error: test.error }
}

fn vet_url(state: &AppState, url: &str) -> Result<EndpointUrl, Problem> {
    EndpointUrl::parse(url, state.policy).map_err(|rule| refused("url", rule))
}

async fn vet_event_types(state: &AppState, types: Option<Vec<String>>) -> Result<Option<Vec<EventType>>, Problem> {
    let Some(names) = types else { return Ok(None) };
    if !(1..=EVENT_TYPES_LIMIT).contains(&names.len()) {
        return Err(refused(
            "event_types",
            format_args!("must name 1 to {EVENT_TYPES_LIMIT} types, or be null for all"),
        ));
    }
    let mut types: Vec<EventType> = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let field = format!("event_types[{at}]");
        let event_type = name.parse().map_err(|rule: InvalidEventType| refused(&field, rule))?;
        if !state.store.is_event_type(&event_type).await? {
            return Err(refused(&field, "must be in the catalogue, see GET /v1/event-types"));
        }
        if !types.contains(&event_type) {
            types.push(event_type);
        }
    }
    Ok(Some(types))
}

fn vet_headers(headers: &BTreeMap<String, String>) -> Result<CustomHeaders, Problem> {
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    CustomHeaders::parse(pairs).map_err(|(name, rule)| refused(&format!("headers.{name}"), rule))
}

fn refused(field: &str, rule: impl std::fmt::Display) -> Problem {
    Problem::Unprocessable(FieldError::new(field, rule))
}

/// Tells a field given as null from one left out: the first must be of the field's own type.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
