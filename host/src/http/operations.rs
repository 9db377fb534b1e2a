//! What operators' machines ask.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::AppState;
use super::problem::{Problem, ProblemBody};

/// The process runs.
#[utoipa::path(get, path = "/livez", tag = "operations", security(()), responses((status = 204, description = "It runs")))]
pub(super) async fn livez() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The database answers: requests may be sent here.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()), responses(
    (status = 204, description = "It is ready"), (status = 503, body = ProblemBody, description = "It is not")
))]
pub(super) async fn readyz(State(state): State<AppState>) -> Result<StatusCode, Problem> {
    state.store.ping().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", security(()), responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.render())
}
