//! Links by which the core product sends a tenant's people to the settings pages.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Operator, PathId};
use super::body::OptionalJson;
use super::problem::{Problem, ProblemBody};
use super::settings::sign_in_path;
use super::{AppState, time};
use crate::domain::id::TenantId;

/// A link to be made: it has no fields.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPortalLink {}

/// A link just made. Redirect the tenant's browser to it; whoever has it is in.
#[derive(Serialize, ToSchema)]
pub(super) struct PortalLink {
    /// Opens the tenant's settings pages, once.
    #[schema(example = "https://hooks.example.com/settings/sign-in/…")]
    url: String,
    /// It works for 5 minutes.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Makes a link that opens the tenant's settings pages once, for a session of 12 hours.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/portal-links", tag = "tenants", params(("tenant" = String, Path)), request_body = Option<NewPortalLink>, responses(
    (status = 201, body = PortalLink), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody)
))]
pub(super) async fn create(
    State(state): State<AppState>,
    _: Operator,
    PathId(tenant): PathId<TenantId>,
    _: OptionalJson<NewPortalLink>,
) -> Result<(StatusCode, axum::Json<PortalLink>), Problem> {
    let (key, expires_at) = state.store.create_portal_link(&tenant).await?.ok_or(Problem::NotFound)?;
    let url = state.site.url(&sign_in_path(key.reveal()));
    Ok((StatusCode::CREATED, axum::Json(PortalLink { url, expires_at: time(expires_at) })))
}
