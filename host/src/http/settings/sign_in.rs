//! A one-time link opens a session; signing out ends it.

use axum::extract::{Path, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Redirect};

use super::super::AppState;
use super::super::problem::Problem;
use super::session::{Pressed, Submitted, cookie, set_cookie};
use super::{Page, PageError};
use crate::domain::session::hash;

pub(super) async fn open(
    State(state): State<AppState>,
    method: Method,
    headers: HeaderMap,
    Path(key): Path<String>,
) -> Page {
    let prefetched = headers.get("sec-purpose").is_some_and(|purpose| purpose.as_bytes().starts_with(b"prefetch"));
    if method == Method::HEAD || prefetched {
        // Whoever only looks at the link must not use it up.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let before = cookie(&headers, &state.site).map(hash);
    let opened = state.store.sign_in(&hash(&key), before.as_ref()).await?;
    let key = opened.ok_or(PageError(Problem::Unauthorized))?;
    let cookie = set_cookie(&state.site, Some(key.reveal()));
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/settings/webhooks")).into_response())
}

pub(super) async fn sign_out(State(state): State<AppState>, submitted: Submitted<Pressed>) -> Page {
    state.store.end_session(&submitted.visitor.key_hash()).await?;
    let cookie = set_cookie(&state.site, None);
    Ok(([(SET_COOKIE, cookie)], PageError(Problem::Unauthorized)).into_response())
}
