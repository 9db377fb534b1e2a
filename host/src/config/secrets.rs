//! Settings that are secrets: `Debug` and errors never show them.

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::{Deserialize, Deserializer, Error as _};

/// The key that encrypts secrets at rest; 32 bytes. `Debug` hides it.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

/// The text is not base64 of 32 bytes. Does not repeat it.
#[derive(Debug, thiserror::Error)]
#[error("must be base64 of 32 bytes; make one with `openssl rand -base64 32`")]
pub struct InvalidMasterKey;

impl MasterKey {
    /// The key made of these random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key in the form that settings and key files hold.
    #[must_use]
    pub fn reveal(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl FromStr for MasterKey {
    type Err = InvalidMasterKey;

    fn from_str(text: &str) -> Result<Self, InvalidMasterKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| InvalidMasterKey)?;
        bytes.try_into().map(Self).map_err(|_| InvalidMasterKey)
    }
}

/// The operator token given by setting. `Debug` hides it.
#[derive(Clone)]
pub struct OperatorToken(String);

/// A short token can be guessed. Does not repeat it.
#[derive(Debug, thiserror::Error)]
#[error("must have at least 32 characters")]
pub struct OperatorTokenTooShort;

impl OperatorToken {
    /// The token itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for OperatorToken {
    type Err = OperatorTokenTooShort;

    fn from_str(text: &str) -> Result<Self, OperatorTokenTooShort> {
        if text.len() < 32 { Err(OperatorTokenTooShort) } else { Ok(Self(text.to_owned())) }
    }
}

/// `sqlite://PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. `Debug` hides it: there may be a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// The text is no address of a database. Does not repeat it.
#[derive(Debug, thiserror::Error)]
#[error("`database_url` must be `sqlite://PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`")]
pub struct InvalidDatabaseUrl;

impl DatabaseUrl {
    /// The address, with its password.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let after = |scheme: &str| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty());
        let is_server = after("postgres://") || after("postgresql://");
        let is_valid = after("sqlite://") || is_server && url::Url::parse(text).is_ok();
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidDatabaseUrl) }
    }
}

macro_rules! hidden {
    ($name:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // An error of `String` would show the value; this one states the rule only.
                let text = String::deserialize(deserializer).map_err(|_| D::Error::custom("must be a text"))?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

hidden!(DatabaseUrl);
hidden!(MasterKey);
hidden!(OperatorToken);
