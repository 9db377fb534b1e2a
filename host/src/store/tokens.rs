//! API tokens: only their hashes are stored.

use jiff::Timestamp;

use super::{Page, PageRequest, Store, StoreError, millis, parsed, timestamp, unreadable};
use crate::domain::id::{TenantId, TokenId};
use crate::domain::token::{self, Scope, Token, TokenHash};

/// What is known of a token; never the token.
#[derive(Debug)]
pub struct TokenRecord {
    /// To revoke it by.
    pub id: TokenId,
    /// What it may do.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
}

type Row = (String, String, Option<String>, i64);

impl Store {
    /// Makes a token. `None`: its tenant does not exist.
    pub async fn create_token(&self, scope: Scope) -> Result<Option<(TokenRecord, Token)>, StoreError> {
        let now = self.clock.now();
        let token = Token::from_bytes(&scope, rand::random());
        let id = TokenId::new(now);
        let tenant = tenant_of(&scope);
        let mut tx = match &scope {
            Scope::Tenant(tenant) => self.begin_for(tenant).await?,
            Scope::Operator | Scope::Producer => self.begin().await?,
        };
        let created = sqlx::query(
            "INSERT INTO tokens (id, hash, scope, tenant_id, created_at)
             SELECT $1, $2, $3, $4, $5
             WHERE $4 IS NULL OR EXISTS (SELECT 1 FROM tenants WHERE id = $4 AND deleted_at IS NULL)",
        )
        .bind(id.to_string())
        .bind(token::hash(token.reveal()).as_slice())
        .bind(scope.name())
        .bind(tenant)
        .bind(millis(now))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok((created.rows_affected() == 1).then(|| (TokenRecord { id, scope: scope.clone(), created_at: now }, token)))
    }

    /// What the bearer of the token with this hash may do; `None`: unknown or revoked.
    pub async fn scope_of(&self, hash: &TokenHash) -> Result<Option<Scope>, StoreError> {
        let row = sqlx::query_as("SELECT id, scope, tenant_id, created_at FROM tokens WHERE hash = $1")
            .bind(hash.as_slice())
            .fetch_optional(&self.read);
        let row: Option<Row> = self.within_limit(async { Ok(row.await?) }).await?;
        Ok(row.map(record).transpose()?.map(|record| record.scope))
    }

    /// A tenant's tokens, or with `None` those of operators and producers.
    pub async fn tokens(
        &self,
        tenant: Option<&TenantId>,
        page: &PageRequest<TokenId>,
    ) -> Result<Page<TokenRecord, TokenId>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, scope, tenant_id, created_at FROM tokens
             WHERE tenant_id IS NOT DISTINCT FROM $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(tenant.map(TenantId::as_str))
        .bind(page.after())
        .bind(page.rows())
        .fetch_all(&self.browse)
        .await?;
        let tokens: Vec<TokenRecord> = rows.into_iter().map(record).collect::<Result<_, _>>()?;
        Ok(page.page(tokens, |token| token.id))
    }

    /// Revokes a token of that tenant, or with `None` an operator's or producer's; gives its hash. `None`: no such.
    pub async fn revoke_token(&self, tenant: Option<&TenantId>, id: TokenId) -> Result<Option<TokenHash>, StoreError> {
        let hash: Option<Vec<u8>> =
            sqlx::query_scalar("DELETE FROM tokens WHERE id = $1 AND tenant_id IS NOT DISTINCT FROM $2 RETURNING hash")
                .bind(id.to_string())
                .bind(tenant.map(TenantId::as_str))
                .fetch_optional(&self.write)
                .await?;
        hash.map(|hash| hash.try_into().map_err(|_| unreadable("tokens", "hash", &id.to_string()))).transpose()
    }
}

fn tenant_of(scope: &Scope) -> Option<&str> {
    match scope {
        Scope::Tenant(tenant) => Some(tenant.as_str()),
        Scope::Operator | Scope::Producer => None,
    }
}

fn record((id, scope, tenant, created_at): Row) -> Result<TokenRecord, StoreError> {
    let scope = match (scope.as_str(), tenant) {
        ("operator", None) => Scope::Operator,
        ("producer", None) => Scope::Producer,
        ("tenant", Some(tenant)) => Scope::Tenant(parsed("tokens", "tenant_id", &id, &tenant)?),
        _ => return Err(unreadable("tokens", "scope", &id)),
    };
    let created_at = timestamp("tokens", "created_at", &id, created_at)?;
    Ok(TokenRecord { id: parsed("tokens", "id", &id, &id)?, scope, created_at })
}
