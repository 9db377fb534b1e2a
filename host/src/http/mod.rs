//! The HTTP API and the settings pages: the only user of axum. A handler extracts, makes one call, and answers.

mod attachments;
mod auth;
mod body;
mod deliveries;
mod document;
mod endpoints;
mod event_types;
mod events;
mod limits;
mod list;
pub mod listen;

mod operations;
pub mod plugin_runs;
mod plugins;
mod portal_links;
mod problem;
pub mod settings;
mod tenants;
mod tokens;
mod upload;
mod webhooks;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::http::{HeaderValue, Method};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::task::TaskTracker;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::chain::Chain;
use crate::config::OperatorToken;
use crate::deliver::Deliver;
use crate::domain::address::AddressPolicy;
use crate::ingest::{Ingest, NewEvent};
use crate::limits::Quotas;
use crate::store::{Store, StoreError};
use crate::telemetry::METRICS;

use auth::Tokens;
use document::Document;
use limits::Calls;
use problem::{FieldError, Problem};
use settings::Site;
use upload::Uploads;

/// What handlers call.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

/// The parts behind [`AppState`].
pub struct Parts {
    store: Arc<Store>,
    ingest: Ingest,
    deliver: Arc<Deliver>,
    chain: Arc<Chain>,
    uploads: Uploads,
    policy: AddressPolicy,
    tokens: Tokens,
    calls: Calls,
    site: Site,
    metrics: PrometheusHandle,
    /// Purges that go on after their caller was answered; a stop drops them, and retention finishes them after the start.
    purges: TaskTracker,
}

/// What may be reached from here, and who reaches us how.
pub struct Access {
    /// Of endpoints' addresses.
    pub policy: AddressPolicy,
    /// Accepted besides those in the database.
    pub operator_token: Option<OperatorToken>,
    /// Of calls by tenants; operators and producers have none. `None`: no limit.
    pub calls: Option<Quotas>,
    /// Where browsers find the settings pages.
    pub site: Site,
}

impl AppState {
    /// Waits a while for a purge, so that small ones are through when the caller reads the answer.
    async fn purge(&self, purge: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let purge = self.purges.spawn(async move {
            if let Err(error) = purge.await {
                tracing::error!(error = &error as &dyn std::error::Error, "a purge will be tried again later");
            }
        });
        let _ = tokio::time::timeout(PATIENCE, purge).await;
    }

    /// The state of a router.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        ingest: Ingest,
        deliver: Arc<Deliver>,
        chain: Arc<Chain>,
        access: Access,
        metrics: PrometheusHandle,
    ) -> Self {
        let Access { policy, operator_token, calls, site } = access;
        let (tokens, calls) = (Tokens::new(operator_token.as_ref()), Calls::new(calls));
        let (uploads, purges) = (Uploads::new(), TaskTracker::new());
        Self(Arc::new(Parts { store, ingest, deliver, chain, uploads, policy, tokens, calls, site, metrics, purges }))
    }
}

impl std::ops::Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// However long the database takes, who reads hears within this.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// What every route has, in one layer, because each costs the hot path some allocations: a time limit for reading, an answer
/// where a handler panics, a header for browsers, metrics for operators.
async fn around(request: Request, next: Next) -> Response {
    let _running = METRICS.request();
    let reads = request.method() == Method::GET;
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let answered = if reads { tokio::time::timeout(READ_LIMIT, answer).await } else { Ok(answer.await) };
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => panicked(&*panic),
        Err(_) => Problem::Unavailable.into_response(),
    };
    response.headers_mut().entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    METRICS.responded(response.status().as_u16());
    response
}

/// Every route, grouped by who calls.
pub fn router(state: AppState) -> Router {
    let producer = OpenApiRouter::new().routes(routes!(events::post_event)).routes(routes!(events::post_batch));
    let operator = OpenApiRouter::new()
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(tenants::read, tenants::delete))
        .routes(routes!(tokens::list_of_tenant, tokens::create_for_tenant))
        .routes(routes!(tokens::revoke_of_tenant))
        .routes(routes!(portal_links::create))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(event_types::list, event_types::add))
        .routes(routes!(event_types::retire))
        .route_layer(middleware::from_fn(limits::tell));
    let tenant = OpenApiRouter::new()
        .routes(routes!(endpoints::list, endpoints::create))
        .routes(routes!(endpoints::read, endpoints::change, endpoints::delete))
        .routes(routes!(endpoints::test))
        .routes(routes!(endpoints::rotate_secret))
        .routes(routes!(endpoints::enable))
        .routes(routes!(endpoints::disable))
        .routes(routes!(endpoints::recover))
        .routes(routes!(deliveries::list_of_endpoint))
        .routes(routes!(deliveries::list_of_event))
        .routes(routes!(deliveries::read))
        .routes(routes!(deliveries::retry))
        .routes(routes!(plugins::list, plugins::create))
        .routes(routes!(plugins::read, plugins::delete))
        .routes(routes!(plugins::list_versions, upload::upload))
        .routes(routes!(plugins::read_version, plugins::delete_version))
        .routes(routes!(attachments::list, attachments::replace))
        .routes(routes!(plugin_runs::dry_run))
        .routes(routes!(plugin_runs::replay))
        .route_layer(middleware::from_fn(limits::tell));
    let open = OpenApiRouter::new()
        .routes(routes!(operations::livez))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics));
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(producer)
        .merge(operator)
        .merge(tenant)
        .merge(open)
        .split_for_parts();
    limits::describe(&mut document);
    router
        .merge(settings::routes(&state))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document::completed(document)))
        .fallback(|| async { Problem::NotFound })
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .layer(middleware::from_fn(around))
        .with_state(state)
}

/// The event in a body of `POST /v1/events`, as far as it can be told without the catalogue; else the field at fault and its rule.
pub fn posted_event(body: &[u8]) -> Result<NewEvent<'_>, FieldError> {
    events::event_in(body).map_err(at_fault)
}

/// The same for the events of `POST /v1/events/batch`.
pub fn posted_events(body: &[u8]) -> Result<Vec<NewEvent<'_>>, FieldError> {
    events::events_in(body).map_err(at_fault)
}

fn at_fault(problem: Problem) -> FieldError {
    problem.mendable().expect("a body that was read is at fault itself")
}

/// RFC 3339, UTC, milliseconds.
fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Response {
    #[derive(Debug, thiserror::Error)]
    #[error("a handler panicked: {0}")]
    struct Panicked(String);
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    Problem::internal(&Panicked(text.unwrap_or_default())).into_response()
}
