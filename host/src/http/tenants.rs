//! Tenants.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Operator, PathId};
use super::body::{Json, PageParams, Params, vet_text};
use super::list::{List, Listed};
use super::problem::{FieldError, Problem, ProblemBody};
use super::{AppState, time};
use crate::domain::id::{InvalidId, TenantId};
use crate::store;

/// Bytes of a tenant's name.
const NAME_LIMIT: usize = 256;

/// A tenant to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTenant {
    /// `[a-z0-9][a-z0-9-]{0,62}`.
    #[schema(example = "acme")]
    id: String,
    /// For people; at most 256 bytes.
    #[serde(default)]
    name: String,
}

/// A customer of the product.
#[derive(Serialize, ToSchema)]
pub(super) struct Tenant {
    #[schema(value_type = String, example = "acme")]
    id: TenantId,
    name: String,
    #[schema(format = DateTime)]
    created_at: String,
}

/// Lists the tenants by id.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", params(PageParams), responses(
    (status = 200, body = List<Tenant>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)
))]
pub(super) async fn list(
    State(state): State<AppState>,
    _: Operator,
    uri: Uri,
    Params(page): Params<PageParams>,
) -> Result<Listed<Tenant>, Problem> {
    Ok(List::of(&uri, state.store.tenants(&page.request()?).await?, tenant))
}

/// Creates a tenant.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", request_body = NewTenant, responses(
    (status = 201, body = Tenant), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "The id is taken"), (status = 422, body = ProblemBody)
))]
pub(super) async fn create(
    State(state): State<AppState>,
    _: Operator,
    Json(new): Json<NewTenant>,
) -> Result<(StatusCode, axum::Json<Tenant>), Problem> {
    let id: TenantId = new.id.parse().map_err(|rule: InvalidId| Problem::Unprocessable(FieldError::new("id", rule)))?;
    let name = vet_text("name", new.name, NAME_LIMIT)?;
    let created = state.store.create_tenant(&id, &name).await?;
    let created = created.ok_or_else(|| Problem::Conflict(format!("the tenant `{id}` exists already")))?;
    Ok((StatusCode::CREATED, axum::Json(tenant(created))))
}

/// Reads a tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}", tag = "tenants", params(("tenant" = String, Path)), responses(
    (status = 200, body = Tenant), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)
))]
pub(super) async fn read(
    State(state): State<AppState>,
    _: Operator,
    PathId(id): PathId<TenantId>,
) -> Result<axum::Json<Tenant>, Problem> {
    let found = state.store.tenant(&id).await?.ok_or(Problem::NotFound)?;
    Ok(axum::Json(tenant(found)))
}

/// Deletes a tenant with all it owns: tokens, endpoints, events, history.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}", tag = "tenants", params(("tenant" = String, Path)), responses(
    (status = 204, description = "Deleted"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)
))]
pub(super) async fn delete(
    State(state): State<AppState>,
    _: Operator,
    PathId(id): PathId<TenantId>,
) -> Result<StatusCode, Problem> {
    if !state.store.delete_tenant(&id).await? {
        return Err(Problem::NotFound);
    }
    state.tokens.forget_all();
    let store = state.store.clone();
    state.purge(async move { store.purge_tenant(&id).await }).await;
    Ok(StatusCode::NO_CONTENT)
}

fn tenant(tenant: store::Tenant) -> Tenant {
    Tenant { id: tenant.id, name: tenant.name, created_at: time(tenant.created_at) }
}
