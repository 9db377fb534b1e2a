//! The catalogue of event types.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::{Caller, Operator, PathId};
use super::body::{Json, PageParams, Params, vet_text};
use super::list::{List, Listed};
use super::problem::{FieldError, Problem, ProblemBody};
use crate::domain::event::{EventType as Name, InvalidEventType};
use crate::store::Retired;

/// Bytes of a description.
const DESCRIPTION_LIMIT: usize = 512;

/// A type to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEventType {
    /// 1 to 64 of `a-z`, `0-9`, `_` and `-` in words separated by `.`.
    #[schema(example = "incident.escalated")]
    name: String,
    /// For people; at most 512 bytes.
    #[serde(default)]
    description: String,
}

/// A type of the catalogue.
#[derive(Serialize, ToSchema)]
pub(super) struct EventType {
    #[schema(value_type = String, example = "incident.created")]
    name: Name,
    description: String,
}

/// Lists the catalogue by name.
#[utoipa::path(get, path = "/v1/event-types", tag = "event types", params(PageParams), responses(
    (status = 200, body = List<EventType>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody)
))]
pub(super) async fn list(
    State(state): State<AppState>,
    _: Caller,
    uri: Uri,
    Params(page): Params<PageParams>,
) -> Result<Listed<EventType>, Problem> {
    let page = state.store.event_types(&page.request()?).await?;
    Ok(List::of(&uri, page, |record| EventType { name: record.name, description: record.description }))
}

/// Adds a type, or brings back a retired one.
#[utoipa::path(post, path = "/v1/event-types", tag = "event types", request_body = NewEventType, responses(
    (status = 201, body = EventType), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "It is there already"), (status = 422, body = ProblemBody)
))]
pub(super) async fn add(
    State(state): State<AppState>,
    _: Operator,
    Json(new): Json<NewEventType>,
) -> Result<(StatusCode, axum::Json<EventType>), Problem> {
    let refuse = |rule: InvalidEventType| Problem::Unprocessable(FieldError::new("name", rule));
    let name: Name = new.name.parse().map_err(refuse)?;
    let description = vet_text("description", new.description, DESCRIPTION_LIMIT)?;
    if !state.store.add_event_type(&name, &description).await? {
        return Err(Problem::Conflict(format!("the event type `{name}` exists already")));
    }
    Ok((StatusCode::CREATED, axum::Json(EventType { name, description })))
}

/// Retires a type: its history stays, new events of it are refused.
#[utoipa::path(delete, path = "/v1/event-types/{type}", tag = "event types", params(("type" = String, Path)), responses(
    (status = 204, description = "Retired"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "The test event's type stays")
))]
pub(super) async fn retire(
    State(state): State<AppState>,
    _: Operator,
    PathId(name): PathId<Name>,
) -> Result<StatusCode, Problem> {
    if name.is_test() {
        return Err(Problem::Conflict(format!("`{name}` cannot be retired: it tries new endpoints")));
    }
    match state.store.retire_event_type(&name).await? {
        Retired::Yes => Ok(StatusCode::NO_CONTENT),
        Retired::NotThere => Err(Problem::NotFound),
    }
}
