//! API tokens.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Operator, PathId};
use super::body::{Json, OptionalJson, PageParams, Params};
use super::list::{List, Listed};
use super::problem::{Problem, ProblemBody};
use super::{AppState, time};
use crate::domain::id::{TenantId, TokenId};
use crate::domain::token::Scope;
use crate::store::TokenRecord;

/// What an operator's or producer's token may do.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScopeName {
    /// Everything.
    Operator,
    /// Post events for any tenant.
    Producer,
}

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    scope: ScopeName,
}

/// A tenant's token to be made: it has no fields.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTenantToken {}

/// What is known of a token.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    #[schema(value_type = String, example = "tok_0198c5f0a6c37e6fb1d7b0c3a9d2e4f1")]
    id: TokenId,
    /// `operator`, `producer` or `tenant`.
    scope: &'static str,
    #[schema(format = DateTime)]
    created_at: String,
}

/// A token just made.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedToken {
    #[serde(flatten)]
    record: Token,
    /// Shown this once.
    #[schema(example = "rvx_producer_…")]
    token: String,
}

/// Lists operators' and producers' tokens, the oldest first.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(PageParams), responses(
    (status = 200, body = List<Token>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)
))]
pub(super) async fn list(
    State(state): State<AppState>,
    _: Operator,
    uri: Uri,
    Params(page): Params<PageParams>,
) -> Result<Listed<Token>, Problem> {
    Ok(List::of(&uri, state.store.tokens(None, &page.request()?).await?, token))
}

/// Makes an operator's or producer's token.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = NewToken, responses(
    (status = 201, body = CreatedToken), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)
))]
pub(super) async fn create(
    State(state): State<AppState>,
    _: Operator,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<CreatedToken>), Problem> {
    let scope = match new.scope {
        ScopeName::Operator => Scope::Operator,
        ScopeName::Producer => Scope::Producer,
    };
    made(&state, scope).await
}

/// Revokes an operator's or producer's token, at once.
#[utoipa::path(delete, path = "/v1/tokens/{token}", tag = "tokens", params(("token" = String, Path)), responses(
    (status = 204, description = "Revoked"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)
))]
pub(super) async fn revoke(
    State(state): State<AppState>,
    _: Operator,
    PathId(id): PathId<TokenId>,
) -> Result<StatusCode, Problem> {
    revoked(&state, None, id).await
}

/// Lists a tenant's tokens, the oldest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/tokens", tag = "tokens", params(("tenant" = String, Path), PageParams), responses(
    (status = 200, body = List<Token>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody)
))]
pub(super) async fn list_of_tenant(
    State(state): State<AppState>,
    _: Operator,
    PathId(tenant): PathId<TenantId>,
    uri: Uri,
    Params(page): Params<PageParams>,
) -> Result<Listed<Token>, Problem> {
    state.store.tenant(&tenant).await?.ok_or(Problem::NotFound)?;
    Ok(List::of(&uri, state.store.tokens(Some(&tenant), &page.request()?).await?, token))
}

/// Makes a token for a tenant.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/tokens", tag = "tokens", params(("tenant" = String, Path)), request_body = Option<NewTenantToken>, responses(
    (status = 201, body = CreatedToken), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody)
))]
pub(super) async fn create_for_tenant(
    State(state): State<AppState>,
    _: Operator,
    PathId(tenant): PathId<TenantId>,
    _: OptionalJson<NewTenantToken>,
) -> Result<(StatusCode, axum::Json<CreatedToken>), Problem> {
    made(&state, Scope::Tenant(tenant)).await
}

/// Revokes a tenant's token, at once.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/tokens/{token}", tag = "tokens", params(("tenant" = String, Path), ("token" = String, Path)), responses(
    (status = 204, description = "Revoked"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)
))]
pub(super) async fn revoke_of_tenant(
    State(state): State<AppState>,
    _: Operator,
    PathId(tenant): PathId<TenantId>,
    PathId(id): PathId<TokenId>,
) -> Result<StatusCode, Problem> {
    revoked(&state, Some(&tenant), id).await
}

async fn made(state: &AppState, scope: Scope) -> Result<(StatusCode, axum::Json<CreatedToken>), Problem> {
    let (record, clear) = state.store.create_token(scope).await?.ok_or(Problem::NotFound)?;
    let created = CreatedToken { record: token(record), token: clear.reveal().to_owned() };
    Ok((StatusCode::CREATED, axum::Json(created)))
}

async fn revoked(state: &AppState, tenant: Option<&TenantId>, id: TokenId) -> Result<StatusCode, Problem> {
    let hash = state.store.revoke_token(tenant, id).await?.ok_or(Problem::NotFound)?;
    state.tokens.forget(&hash);
    Ok(StatusCode::NO_CONTENT)
}

fn token(record: TokenRecord) -> Token {
    Token { id: record.id, scope: record.scope.name(), created_at: time(record.created_at) }
}
