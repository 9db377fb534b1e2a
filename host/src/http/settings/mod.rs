//! Settings › Webhooks: the pages that tenants' people use.
//!
//! Rendered here, with plain forms; a script only adds to them. What a page changes it changes through the handlers of the API,
//! so that both have the same rules.

mod assets;
mod attachments;
mod chart;
mod debugger;
mod deliveries;
mod diff;
mod endpoint;
mod endpoints;
mod filters;
mod multipart;
mod plain;
mod plugin_version;
mod plugins;
mod session;
mod sign_in;
mod snippets;
mod trials;
mod uploads;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use askama::Template;
use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::problem::Problem;
use super::{AppState, limits};
use crate::config::{Origin, Origins};

/// Where browsers find the pages.
pub struct Site {
    origin: Origin,
    /// Whether the operator named the origin; else a page's own address will do.
    named: bool,
    frame_ancestors: String,
}

impl Site {
    /// The site at `public_url`, or where it listens.
    #[must_use]
    pub fn new(public_url: Option<&Origin>, listens: SocketAddr, frame_ancestors: &Origins) -> Self {
        let host = if listens.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listens.ip() };
        let own = || format!("http://{}", SocketAddr::new(host, listens.port())).parse().expect("an origin");
        let ancestors: Vec<&str> = frame_ancestors.0.iter().map(Origin::as_str).collect();
        Self {
            origin: public_url.cloned().unwrap_or_else(own),
            named: public_url.is_some(),
            frame_ancestors: if ancestors.is_empty() { "'none'".to_owned() } else { ancestors.join(" ") },
        }
    }

    /// The address of a path of this host.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// What a page may load and be shown in, and as the page needs it, what it may run and reach (<https://www.w3.org/TR/CSP3/>).
    fn policy(&self, directives: &str) -> HeaderValue {
        let text = format!(
            "default-src 'none'; style-src 'self'; img-src 'self'; {directives}; base-uri 'none'; frame-ancestors {}",
            self.frame_ancestors
        );
        HeaderValue::from_str(&text).expect("origins are visible ASCII")
    }
}

/// The path of a one-time link.
#[must_use]
pub fn sign_in_path(key: &str) -> String {
    format!("/settings/sign-in/{key}")
}

/// Every page and what its forms are sent to, below `/settings`.
fn table() -> Vec<(&'static str, MethodRouter<AppState>)> {
    vec![
        ("/webhooks", get(endpoints::list).post(endpoints::create)),
        ("/webhooks/new", get(endpoints::new)),
        ("/webhooks/endpoints/{endpoint}", get(endpoint::show)),
        ("/webhooks/endpoints/{endpoint}/history", get(endpoint::history)),
        ("/webhooks/endpoints/{endpoint}/edit", get(endpoints::edit).post(endpoints::change)),
        ("/webhooks/endpoints/{endpoint}/test", post(endpoint::test)),
        ("/webhooks/endpoints/{endpoint}/rotate-secret", post(endpoint::rotate_secret)),
        ("/webhooks/endpoints/{endpoint}/enable", post(endpoint::enable)),
        ("/webhooks/endpoints/{endpoint}/disable", post(endpoint::disable)),
        ("/webhooks/endpoints/{endpoint}/recover", post(endpoint::recover)),
        ("/webhooks/endpoints/{endpoint}/delete", post(endpoint::delete)),
        ("/webhooks/endpoints/{endpoint}/plugins", get(attachments::show).post(attachments::save)),
        ("/webhooks/debugger", get(debugger::show)),
        ("/webhooks/deliveries/{delivery}", get(deliveries::show)),
        ("/webhooks/deliveries/{delivery}/retry", post(deliveries::retry)),
        ("/webhooks/plugins", get(plugins::list).post(plugins::create)),
        ("/webhooks/plugins/{plugin}", get(plugins::show)),
        ("/webhooks/plugins/{plugin}/delete", post(plugins::delete)),
        ("/webhooks/plugins/{plugin}/upload", post(uploads::by_form)),
        ("/webhooks/plugins/{plugin}/versions", post(uploads::by_script)),
        ("/webhooks/plugins/{plugin}/versions/{digest}", get(plugin_version::show)),
        ("/webhooks/plugins/{plugin}/versions/{digest}/delete", post(plugin_version::delete)),
        ("/webhooks/plugins/{plugin}/versions/{digest}/dry-run", post(trials::dry_run)),
        ("/webhooks/plugins/{plugin}/versions/{digest}/replay", post(trials::replay)),
        ("/sign-in/{key}", get(sign_in::open)),
        ("/sign-out", post(sign_in::sign_out)),
        ("/assets/{name}", get(assets::serve)),
    ]
}

/// The paths of all pages, their parameters in braces: whoever goes through them has missed none, for the router is made of the
/// same table.
pub fn paths() -> impl Iterator<Item = String> {
    table().into_iter().map(|(path, _)| format!("/settings{path}"))
}

/// The table as a router.
pub(super) fn routes(state: &AppState) -> Router<AppState> {
    let pages = table().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    let settings = pages
        .fallback(|| async { PageError(Problem::NotFound) })
        .method_not_allowed_fallback(|| async { PageError(Problem::MethodNotAllowed) })
        .layer(middleware::from_fn(limits::tell))
        .layer(middleware::from_fn_with_state(state.clone(), guard));
    Router::new().nest("/settings", settings)
}

/// Headers that every answer has, unless its page chose others.
async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let defaults = [
        (
            header::CONTENT_SECURITY_POLICY,
            state.site.policy("script-src 'self'; connect-src 'self'; form-action 'self'"),
        ),
        // Pages hold payloads, and one of them a secret.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Without it no `Origin` comes with a form; with more, other sites learn ids.
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    ];
    for (name, value) in defaults {
        headers.entry(name).or_insert(value);
    }
    response
}

/// What every page shows around its own part.
pub(super) struct Shell {
    /// The tenant as its people know it.
    tenant: String,
    csrf: String,
    section: Section,
}

/// A place of the navigation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Endpoints,
    Plugins,
    Debugger,
}

impl Shell {
    /// The address of a file of ours, of this very version.
    fn asset(&self, name: &str) -> String {
        assets::address(name)
    }

    /// What every form carries.
    fn csrf_field(&self) -> String {
        format!(r#"<input type="hidden" name="csrf" value="{}">"#, self.csrf)
    }
}

/// A page's answer.
type Page = Result<Response, PageError>;

fn page(template: impl Template) -> Page {
    with_status(StatusCode::OK, template)
}

fn with_status(status: StatusCode, template: impl Template) -> Page {
    match template.render() {
        Ok(text) => Ok((status, Html(text)).into_response()),
        Err(error) => Err(Problem::internal(&error).into()),
    }
}

/// A problem, shown as a page.
struct PageError(Problem);

impl<E: Into<Problem>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

#[derive(Template)]
#[template(path = "settings/problem.html")]
struct ProblemPage {
    stylesheet: String,
    icon: String,
    signed_out: bool,
    forbidden: bool,
    title: &'static str,
    detail: String,
    instance: Option<String>,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let (signed_out, forbidden) = (matches!(self.0, Problem::Unauthorized), matches!(self.0, Problem::Forbidden));
        let mut headers = self.0.headers();
        // A page's reader has no token to send.
        headers.remove(header::WWW_AUTHENTICATE);
        let body = self.0.body();
        let status = StatusCode::from_u16(body.status).expect("one of ours");
        let page = ProblemPage {
            stylesheet: assets::address("settings.css"),
            icon: assets::address("icon.svg"),
            signed_out,
            forbidden,
            title: body.title,
            detail: body.detail,
            instance: body.instance,
        };
        // Should it not even render, the words will do.
        (status, headers, Html(page.render().unwrap_or_else(|_| page.title.to_owned()))).into_response()
    }
}

/// An extractor of the API whose refusal is shown as a page.
struct OnPage<E>(E);

impl<E: FromRequestParts<AppState, Rejection = Problem>> FromRequestParts<AppState> for OnPage<E> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, PageError> {
        Ok(Self(E::from_request_parts(parts, state).await?))
    }
}
