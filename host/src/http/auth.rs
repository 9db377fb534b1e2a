//! Who calls, and what of it may be seen.

use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use quick_cache::sync::Cache;

use super::AppState;
use super::problem::Problem;
use crate::config::OperatorToken;
use crate::domain::event::EventType;
use crate::domain::id::{DeliveryId, EndpointId, EventId, TenantId, TokenId};
use crate::domain::plugin::{PluginName, Version};
use crate::domain::token::{self, Scope, TokenHash};
use crate::store::Store;

/// Tokens remembered at most; the others are looked up at each request.
const TOKENS_CACHED: usize = 10_000;
/// A token revoked on another host is good here for this long at most.
const TOKEN_AGE: Duration = Duration::from_secs(1);

/// What the bearers of tokens may do.
pub(super) struct Tokens {
    operator: Option<TokenHash>,
    known: Cache<TokenHash, (Instant, Scope)>,
}

impl Tokens {
    pub(super) fn new(operator: Option<&OperatorToken>) -> Self {
        let operator = operator.map(|token| token::hash(token.reveal()));
        Self { operator, known: Cache::new(TOKENS_CACHED) }
    }

    /// Forgets a token that was just revoked.
    pub(super) fn forget(&self, hash: &TokenHash) {
        self.known.remove(hash);
    }

    /// Forgets all, as when a tenant goes with its tokens.
    pub(super) fn forget_all(&self) {
        self.known.clear();
    }

    async fn scope(&self, store: &Store, presented: &str) -> Result<Scope, Problem> {
        // Looked up by hash: comparing hashes tells an attacker nothing of the token.
        let hash = token::hash(presented);
        if self.operator == Some(hash) {
            return Ok(Scope::Operator);
        }
        if let Some((at, scope)) = self.known.get(&hash)
            && at.elapsed() < TOKEN_AGE
        {
            return Ok(scope);
        }
        let at = Instant::now();
        let scope = store.scope_of(&hash).await?.ok_or(Problem::Unauthorized)?;
        self.known.insert(hash, (at, scope.clone()));
        Ok(scope)
    }
}

/// The caller has a valid token, of any scope.
pub(super) struct Caller(pub(super) Scope);

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(token::bearer).ok_or(Problem::Unauthorized)?;
        let scope = state.tokens.scope(&state.store, token).await?;
        // By its token, not by the path: nobody uses up another's quota. An operator's calls count for nobody, so that a tenant
        // that has used up its own can still be seen to.
        if let Scope::Tenant(tenant) = &scope {
            state.calls.count(tenant, &parts.extensions)?;
        }
        Ok(Self(scope))
    }
}

/// The caller is an operator.
pub(super) struct Operator;

impl FromRequestParts<AppState> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, state).await?.0 {
            Scope::Operator => Ok(Self),
            Scope::Producer | Scope::Tenant(_) => Err(Problem::Forbidden),
        }
    }
}

/// The caller may post events.
pub(super) struct Producer;

impl FromRequestParts<AppState> for Producer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, state).await?.0 {
            Scope::Operator | Scope::Producer => Ok(Self),
            Scope::Tenant(_) => Err(Problem::Forbidden),
        }
    }
}

/// The caller may act for the `{tenant}` of the path, which exists.
pub(super) struct ForTenant(pub(super) TenantId);

impl FromRequestParts<AppState> for ForTenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let scope = Caller::from_request_parts(parts, state).await?.0;
        let tenant = parameter::<TenantId>(parts, state).await;
        match scope {
            Scope::Producer => Err(Problem::Forbidden),
            // Another tenant's and an absent one look alike.
            Scope::Tenant(own) => tenant.ok().filter(|tenant| *tenant == own).map(Self).ok_or(Problem::NotFound),
            Scope::Operator => {
                let tenant = tenant?;
                state.store.tenant(&tenant).await?.map(|_| Self(tenant)).ok_or(Problem::NotFound)
            }
        }
    }
}

/// A parameter of the path; what is not an id is not there.
pub(super) struct PathId<T>(pub(super) T);

/// A type with its place in the path.
pub(super) trait PathParameter: Sized {
    /// The parameter's name.
    const NAME: &str;

    /// `None`: the text is not one of its kind.
    fn read(text: &str) -> Option<Self>;
}

macro_rules! path_parameters {
    ($($type:ty: $name:literal),+) => {
        $(impl PathParameter for $type {
            const NAME: &str = $name;

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        })+
    };
}

path_parameters!(
    TenantId: "tenant", EndpointId: "endpoint", EventId: "event", DeliveryId: "delivery", TokenId: "token",
    EventType: "type", PluginName: "plugin"
);

impl PathParameter for Version {
    const NAME: &str = "digest";

    fn read(text: &str) -> Option<Self> {
        // The digest alone is easier to have in a URL than one with a colon.
        text.parse().or_else(|_| format!("sha256:{text}").parse()).ok()
    }
}

impl<T: PathParameter> FromRequestParts<AppState> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        parameter(parts, state).await.map(Self)
    }
}

async fn parameter<T: PathParameter>(parts: &mut Parts, state: &AppState) -> Result<T, Problem> {
    let parameters = RawPathParams::from_request_parts(parts, state).await.map_err(|_| Problem::NotFound)?;
    let text = parameters.iter().find(|(name, _)| *name == T::NAME).map(|(_, text)| text);
    text.and_then(T::read).ok_or(Problem::NotFound)
}
