//! One delivery: every attempt, and what was sent.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect};

use super::super::AppState;
use super::super::auth::PathId;
use super::super::deliveries as api;
use super::super::problem::Problem;
use super::session::{Pressed, Submitted, Visitor};
use super::snippets::quoted;
use super::{OnPage, Page, Section, Shell, filters, page};
use crate::domain::endpoint::EndpointState;
use crate::domain::id::DeliveryId;
use crate::domain::json::indented;
use crate::domain::plugin::Decision;
use crate::store::{AttemptRecord, DeliveryRecord, RunRecord};

/// Headers that HTTP itself writes: a request made again has its own.
const NOT_REPEATED: [&str; 3] = ["host", "content-length", "accept"];

#[derive(Template)]
#[template(path = "settings/delivery.html")]
struct DeliveryPage {
    shell: Shell,
    delivery: DeliveryRecord,
    url: String,
    body: Body,
    attempts: Vec<Attempt>,
    runs: Vec<RunRecord>,
    attempts_limit: usize,
    /// Why it cannot be sent again now; `None`: it can.
    not_restartable: Option<&'static str>,
    /// Why it was not, when somebody just tried.
    refused: Option<String>,
}

struct Attempt {
    record: AttemptRecord,
    /// Name and value of each, as sent.
    headers: Vec<(String, String)>,
    response: Option<Body>,
    curl: String,
}

/// Bytes of others as text.
struct Body {
    raw: String,
    /// `None`: it is not JSON, or looks the same.
    pretty: Option<String>,
    bytes: usize,
}

pub(super) async fn show(
    State(state): State<AppState>,
    visitor: Visitor,
    OnPage(PathId(id)): OnPage<PathId<DeliveryId>>,
) -> Page {
    delivery_page(&state, &visitor, id, None).await
}

pub(super) async fn retry(
    State(state): State<AppState>,
    OnPage(PathId(id)): OnPage<PathId<DeliveryId>>,
    submitted: Submitted<Pressed>,
) -> Page {
    let visitor = submitted.visitor;
    match api::retry(State(state.clone()), visitor.acts(), PathId(id)).await {
        Ok(_) => Ok(Redirect::to(&format!("/settings/webhooks/deliveries/{id}")).into_response()),
        Err(problem) => delivery_page(&state, &visitor, id, Some(problem.mendable()?.rule)).await,
    }
}

async fn delivery_page(state: &AppState, visitor: &Visitor, id: DeliveryId, refused: Option<String>) -> Page {
    let found = state.store.delivery_with_history(&visitor.tenant, id).await?;
    let history = found.ok_or(Problem::NotFound)?;
    let endpoint = super::super::endpoints::existing(state, &visitor.tenant, history.delivery.endpoint).await?;
    let not_restartable = match endpoint.state {
        EndpointState::Active => None,
        EndpointState::Pending { .. } => Some("Its endpoint is pending: a test event answered with 2xx activates it."),
        EndpointState::Disabled { .. } => Some("Its endpoint is disabled; enable it first."),
    };
    let url = endpoint.url.as_str().to_owned();
    let attempt = |record: AttemptRecord| {
        let headers = record.request_headers.lines().filter_map(|line| line.split_once(": "));
        let headers: Vec<(String, String)> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Attempt {
            response: record.response_body.as_deref().map(Body::of),
            curl: curl(&url, &headers, &history.body),
            headers,
            record,
        }
    };
    page(DeliveryPage {
        shell: visitor.shell(Section::Endpoints),
        attempts: history.attempts.into_iter().rev().map(attempt).collect(),
        body: Body::of(&history.body),
        delivery: history.delivery,
        url,
        runs: history.runs,
        attempts_limit: state.deliver.attempts_limit(),
        not_restartable,
        refused,
    })
}

impl Attempt {
    /// The state that a delivery has after an attempt like this.
    fn verdict(&self) -> &'static str {
        let succeeded =
            self.record.error.is_none() && self.record.status_code.is_some_and(|status| (200..300).contains(&status));
        if succeeded { "succeeded" } else { "failed" }
    }
}

impl Body {
    fn of(bytes: &[u8]) -> Self {
        let raw = String::from_utf8_lossy(bytes).into_owned();
        let json = serde_json::from_str::<serde::de::IgnoredAny>(&raw).is_ok();
        let pretty = json.then(|| indented(&raw)).filter(|pretty| *pretty != raw);
        Self { raw, pretty, bytes: bytes.len() }
    }
}

/// The request as a command of a POSIX shell.
fn curl(url: &str, headers: &[(String, String)], body: &[u8]) -> String {
    let mut command = format!("curl -i {}", quoted(url));
    let repeated = |name: &str| !NOT_REPEATED.iter().any(|known| name.eq_ignore_ascii_case(known));
    for (name, value) in headers.iter().filter(|(name, _)| repeated(name)) {
        command += &format!(" \\\n  -H {}", quoted(&format!("{name}: {value}")));
    }
    command + &format!(" \\\n  --data-binary {}", quoted(&String::from_utf8_lossy(body)))
}
