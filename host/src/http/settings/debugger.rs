//! The signature debugger: verifies in the browser, with the package that receivers use.

use askama::Template;
use axum::extract::State;
use axum::http::header::CONTENT_SECURITY_POLICY;
use serde::Deserialize;

use super::super::AppState;
use super::super::auth::PathParameter;
use super::super::body::Params;
use super::super::problem::Problem;
use super::session::Visitor;
use super::{OnPage, Page, Section, Shell, filters, page};
use crate::domain::id::DeliveryId;

#[derive(Template)]
#[template(path = "settings/debugger.html")]
struct DebuggerPage {
    shell: Shell,
    /// Of the delivery that the visitor comes from; else empty.
    body: String,
    /// One `name: value` a line; or empty.
    headers: String,
}

#[derive(Deserialize)]
pub(super) struct Query {
    delivery: Option<String>,
}

pub(super) async fn show(
    State(state): State<AppState>,
    visitor: Visitor,
    OnPage(Params(query)): OnPage<Params<Query>>,
) -> Page {
    let (body, headers) = match query.delivery {
        Some(id) => sent(&state, &visitor, &id).await?,
        None => (String::new(), String::new()),
    };
    let mut response = page(DebuggerPage { shell: visitor.shell(Section::Debugger), body, headers })?;
    // The verifier is WebAssembly. A secret is typed in here: nothing of the page can be sent anywhere.
    let policy = state.site.policy("script-src 'self' 'wasm-unsafe-eval'; connect-src 'none'; form-action 'none'");
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

/// Body and headers of a delivery's newest attempt.
async fn sent(state: &AppState, visitor: &Visitor, id: &str) -> Result<(String, String), Problem> {
    let id = DeliveryId::read(id).ok_or(Problem::NotFound)?;
    let history = state.store.delivery_with_history(&visitor.tenant, id).await?.ok_or(Problem::NotFound)?;
    let headers = history.attempts.into_iter().next_back().map(|attempt| attempt.request_headers);
    Ok((String::from_utf8_lossy(&history.body).into_owned(), headers.unwrap_or_default()))
}
