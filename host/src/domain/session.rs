//! How a tenant's people get to the pages: a link that works once opens a session.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::SignedDuration;
use sha2::{Digest, Sha256};

/// How long a link works.
pub const LINK_LIFE: SignedDuration = SignedDuration::from_mins(5);
/// How long a session lasts; the product sends people who come later through a new link.
pub const SESSION_LIFE: SignedDuration = SignedDuration::from_hours(12);

/// What the bearer of a link or of a session shows: base64url of 32 random bytes. Only its SHA-256 is kept.
pub struct Key(String);

/// What is stored of a key. A plain SHA-256 is enough: the input has 256 random bits.
pub type KeyHash = [u8; 32];

impl Key {
    /// The key made of these random bytes.
    #[must_use]
    pub fn from_bytes(random: [u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(random))
    }

    /// The key itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The hash that a presented key is looked up by.
#[must_use]
pub fn hash(presented: &str) -> KeyHash {
    Sha256::digest(presented.as_bytes()).into()
}

/// What forms of a session carry and other sites cannot know: it follows from the session's key, and does not give it away.
#[must_use]
pub fn csrf_token(session_key: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::new().chain_update(b"csrf\0").chain_update(session_key).finalize())
}
