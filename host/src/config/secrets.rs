//! Settings that are secrets: `Debug` and errors never show them.

use std::fmt;
use std::str::FromStr;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde::de::{Deserialize, Deserializer, Error as _};
use sha2::Sha256;

/// A key that encrypts secrets at rest; 32 bytes. `Debug` hides it.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

/// The name of a master key, by which logs and errors call it: eight hexadecimal digits that tell nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; KeyId::BYTES]);

/// The keys that values at rest may be sealed under: more than one only while one replaces another.
#[derive(Debug, Clone)]
pub struct MasterKeys {
    /// Setting `master_key`.
    pub current: MasterKey,
    /// Setting `previous_master_keys`.
    pub previous: Vec<MasterKey>,
}

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

    /// The key's name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(b"revnoxa: name of a master key");
        let name = mac.finalize().into_bytes();
        KeyId(*name.first_chunk().expect("SHA-256 has more bytes"))
    }
}

impl KeyId {
    /// Bytes of a name. Two keys of one name are no harm: both are tried.
    pub const BYTES: usize = 4;

    /// The name that [`KeyId::as_bytes`] gave.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The name as values carry it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl MasterKeys {
    /// The current one first.
    pub fn iter(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// The names of all, separated by commas.
    #[must_use]
    pub fn ids(&self) -> String {
        self.iter().map(|key| key.id().to_string()).collect::<Vec<_>>().join(",")
    }
}

impl From<MasterKey> for MasterKeys {
    /// The only one there is.
    fn from(current: MasterKey) -> Self {
        Self { current, previous: Vec::new() }
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
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
