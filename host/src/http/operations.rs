//! What operators' machines ask.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::problem::{Problem, ProblemBody};
use crate::store::SKEW_LIMIT;
use crate::telemetry;

/// All is well.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`: what is not is an error.
    status: &'static str,
}

/// The process runs.
#[utoipa::path(get, path = "/livez", tag = "operations", security(()), responses((status = 200, body = Health)))]
pub(super) async fn livez() -> axum::Json<Health> {
    axum::Json(Health { status: "ok" })
}

/// The database answers and takes writes.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Always `ok`: what is not is an error.
    status: &'static str,
    /// How many milliseconds this machine's clock is ahead of PostgreSQL's. Left out on SQLite, where there is no other clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_skew_ms: Option<i64>,
    /// What an operator should look at; left out when there is nothing. A skew of more than 5 s: the database's time is used, but
    /// what else runs on this machine goes by a wrong one.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
}

/// The database answers and takes writes, as far as is known: requests may be sent here.
///
/// That it takes none is noticed when something is to be stored, and that it does again within a second or two.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()), responses(
    (status = 200, body = Readiness), (status = 503, body = ProblemBody, description = "It does not answer within 1.5 s, or takes no writes: `detail` says why")
))]
pub(super) async fn readyz(State(state): State<AppState>) -> Result<axum::Json<Readiness>, Problem> {
    state.store.ping().await?;
    if let Some(why) = state.store.write_trouble() {
        return Err(Problem::NoWrites(why));
    }
    let skew = state.store.clock_skew();
    Ok(axum::Json(Readiness {
        status: "ok",
        clock_skew_ms: skew.map(|skew| i64::try_from(skew.as_millis()).unwrap_or(i64::MAX)),
        warning: skew
            .filter(|skew| skew.abs() > SKEW_LIMIT)
            .map(|_| "this machine's clock and the database's are more than 5 s apart"),
    }))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", security(()), responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    state.store.observe();
    telemetry::observe_process();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.render())
}
