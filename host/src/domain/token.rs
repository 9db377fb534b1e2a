//! API tokens: what they may do, and the form they are shown in.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::id::TenantId;

/// What a token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything, for every tenant.
    Operator,
    /// Post events for any tenant; nothing else.
    Producer,
    /// One tenant's endpoints, deliveries and plugins.
    Tenant(TenantId),
}

impl Scope {
    /// The scope's word in the API and the database.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Producer => "producer",
            Self::Tenant(_) => "tenant",
        }
    }
}

/// A bearer token in clear: `rvx_<scope>_` + base64url of 32 random bytes. Shown once; only its hash is kept.
pub struct Token(String);

impl Token {
    /// The token made of these random bytes. The prefix tells people and secret scanners what they found.
    #[must_use]
    pub fn from_bytes(scope: &Scope, random: [u8; 32]) -> Self {
        Self(format!("rvx_{}_{}", scope.name(), URL_SAFE_NO_PAD.encode(random)))
    }

    /// The token as shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(rvx_…)")
    }
}

/// The token in the value of an `Authorization` header (RFC 6750 §2.1). `None`: it holds none.
#[must_use]
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    // The scheme's name has no case (RFC 9110 §11.1).
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What is stored of a token. A plain SHA-256 is enough: the input has 256 random bits.
pub type TokenHash = [u8; 32];

/// The hash that a presented bearer token is looked up by.
#[must_use]
pub fn hash(presented: &str) -> TokenHash {
    Sha256::digest(presented.as_bytes()).into()
}
