//! Deliveries: the history.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::{ForTenant, PathId};
use super::body::{self, Params};
use super::endpoints;
use super::list::{List, Listed};
use super::plugins::{self, Run};
use super::problem::{Problem, ProblemBody};
use super::{AppState, time};
use crate::domain::event::EventType;
use crate::domain::id::{DeliveryId, EndpointId, EventId, TenantId};
use crate::store::{AttemptRecord, DeliveryRecord, Filter, NotRestartable, PageRequest, RunRecord};

/// What a delivery's state may be.
pub(super) const STATES: [&str; 5] = ["pending", "held", "succeeded", "failed", "dropped"];

/// Which deliveries, which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryParams {
    /// `pending`, `held`, `succeeded`, `failed` or `dropped`.
    pub(super) state: Option<String>,
    /// Of this event type.
    #[serde(rename = "type")]
    pub(super) event_type: Option<String>,
    /// RFC 3339: created then or later.
    pub(super) after: Option<String>,
    /// RFC 3339: created earlier.
    pub(super) before: Option<String>,
    /// Items of the page, 1 to 100; 50 when left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    pub(super) limit: Option<String>,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}

/// One event for one endpoint.
#[derive(Serialize, ToSchema)]
pub(super) struct Delivery {
    #[schema(value_type = String, example = "dlv_0198c5f0a6c37e6fb1d7b0c3a9d2e4f1")]
    id: DeliveryId,
    #[schema(value_type = String)]
    event_id: EventId,
    #[schema(value_type = String, example = "incident.created")]
    event_type: EventType,
    #[schema(value_type = String)]
    endpoint_id: EndpointId,
    /// `pending`, `succeeded`, `failed`, `dropped`, or `held` while the endpoint is disabled.
    state: String,
    /// Why it was dropped; null: it was not.
    state_reason: Option<String>,
    /// Attempts made so far.
    attempts: u32,
    /// Null: it is finished or held.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

/// A delivery with its request and every attempt.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryDetail {
    #[serde(flatten)]
    delivery: Delivery,
    /// The exact body sent: the event as it was posted, or what plugins made of it. Bytes that are not UTF-8 are replaced.
    request_body: String,
    /// The first attempt first.
    history: Vec<Attempt>,
    /// Each call of a plugin, in order.
    plugins: Vec<PluginRun>,
}

/// One HTTP request of a delivery.
#[derive(Serialize, ToSchema)]
pub(super) struct Attempt {
    /// From 1.
    number: u32,
    #[schema(format = DateTime)]
    started_at: String,
    /// From the start of the connect to the end.
    duration_ms: u64,
    /// Null: no answer.
    status_code: Option<u16>,
    /// The first 16 KiB, bytes that are not UTF-8 replaced; null: no answer.
    response_body: Option<String>,
    /// Whether there was more.
    response_truncated: bool,
    /// Why there was no answer, or that it was a redirect.
    error: Option<String>,
    /// As sent; values of your own headers are left out.
    request_headers: BTreeMap<String, String>,
}

/// One call of a plugin on a delivery.
#[derive(Serialize, ToSchema)]
pub(super) struct PluginRun {
    /// Number of the attempt it ran for, whether or not that was then made.
    attempt: u32,
    #[serde(flatten)]
    run: Run,
}

/// Lists an endpoint's deliveries, the newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/endpoints/{endpoint}/deliveries", tag = "deliveries", params(("tenant" = String, Path), ("endpoint" = String, Path), DeliveryParams), responses(
    (status = 200, body = List<Delivery>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody)
))]
pub(super) async fn list_of_endpoint(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(endpoint): PathId<EndpointId>,
    uri: Uri,
    Params(params): Params<DeliveryParams>,
) -> Result<Listed<Delivery>, Problem> {
    endpoints::existing(&state, &tenant, endpoint).await?;
    let (filter, page) = params.parsed()?;
    Ok(List::of(&uri, state.store.deliveries_of_endpoint(&tenant, endpoint, &filter, &page).await?, delivery))
}

/// Lists an event's deliveries, the newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/events/{event}/deliveries", tag = "deliveries", params(("tenant" = String, Path), ("event" = String, Path), DeliveryParams), responses(
    (status = 200, body = List<Delivery>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody)
))]
pub(super) async fn list_of_event(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(event): PathId<EventId>,
    uri: Uri,
    Params(params): Params<DeliveryParams>,
) -> Result<Listed<Delivery>, Problem> {
    let (filter, page) = params.parsed()?;
    let deliveries = state.store.deliveries_of_event(&tenant, &event, &filter, &page).await?;
    Ok(List::of(&uri, deliveries.ok_or(Problem::NotFound)?, delivery))
}

/// Reads a delivery with its attempts.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/deliveries/{delivery}", tag = "deliveries", params(("tenant" = String, Path), ("delivery" = String, Path)), responses(
    (status = 200, body = DeliveryDetail), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)
))]
pub(super) async fn read(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<DeliveryId>,
) -> Result<axum::Json<DeliveryDetail>, Problem> {
    let found = state.store.delivery_with_history(&tenant, id).await?;
    let history = found.ok_or(Problem::NotFound)?;
    Ok(axum::Json(DeliveryDetail {
        delivery: delivery(history.delivery),
        request_body: String::from_utf8_lossy(&history.body).into_owned(),
        history: history.attempts.into_iter().map(attempt).collect(),
        plugins: history.runs.into_iter().map(plugin_run).collect(),
    }))
}

/// Sends a delivery again: a finished one with five new attempts, a waiting one at once.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/deliveries/{delivery}/retry", tag = "deliveries", params(("tenant" = String, Path), ("delivery" = String, Path)), responses(
    (status = 202, body = Delivery), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "An attempt is under way, or the endpoint is not active")
))]
pub(super) async fn retry(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<DeliveryId>,
) -> Result<(StatusCode, axum::Json<Delivery>), Problem> {
    match state.store.restart_delivery(&tenant, id).await? {
        Ok(()) => Ok((StatusCode::ACCEPTED, axum::Json(existing(&state, &tenant, id).await?))),
        Err(NotRestartable::NotFound) => Err(Problem::NotFound),
        Err(reason @ (NotRestartable::UnderWay | NotRestartable::EndpointNotActive)) => {
            Err(Problem::Conflict(reason.to_string()))
        }
    }
}

impl DeliveryParams {
    pub(super) fn parsed(&self) -> Result<(Filter, PageRequest<DeliveryId>), Problem> {
        let time = |field: &'static str, text: &Option<String>| {
            let parse = |text: &String| text.parse::<Timestamp>();
            text.as_ref().map(parse).transpose().map_err(|_| body::invalid(field, "must be an RFC 3339 time"))
        };
        let state = |text: &String| {
            let rule = format_args!("must be one of {}", STATES.join(", ")).to_string();
            STATES.into_iter().find(|state| state == text).ok_or_else(|| body::invalid("state", rule))
        };
        let event_type = |text: &String| {
            text.parse().map_err(|rule| body::invalid("type", rule as crate::domain::event::InvalidEventType))
        };
        let filter = Filter {
            state: self.state.as_ref().map(state).transpose()?,
            event_type: self.event_type.as_ref().map(event_type).transpose()?,
            after: time("after", &self.after)?,
            before: time("before", &self.before)?,
        };
        Ok((filter, body::page_request(self.limit.as_deref(), self.cursor.as_deref())?))
    }
}

async fn existing(state: &AppState, tenant: &TenantId, id: DeliveryId) -> Result<Delivery, Problem> {
    state.store.delivery(tenant, id).await?.map(delivery).ok_or(Problem::NotFound)
}

fn delivery(record: DeliveryRecord) -> Delivery {
    Delivery {
        id: record.id,
        event_id: record.event,
        event_type: record.event_type,
        endpoint_id: record.endpoint,
        state: record.state,
        state_reason: record.state_reason,
        attempts: record.attempts,
        next_attempt_at: record.next_attempt_at.map(time),
        created_at: time(record.created_at),
    }
}

fn attempt(record: AttemptRecord) -> Attempt {
    let headers = record.request_headers.lines().filter_map(|line| line.split_once(": "));
    Attempt {
        number: record.number,
        started_at: time(record.started_at),
        duration_ms: record.duration_ms,
        status_code: record.status_code,
        response_body: record.response_body.map(|body| String::from_utf8_lossy(&body).into_owned()),
        response_truncated: record.response_truncated,
        error: record.error,
        request_headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}

fn plugin_run(record: RunRecord) -> PluginRun {
    PluginRun { attempt: record.attempt, run: plugins::run(record.run) }
}
