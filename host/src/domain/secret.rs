//! An endpoint's signing secret and the prepared keys made from it.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use revnoxa_verifier::{Key, StandardKey};

/// `whsec_` + standard base64 of 32 random bytes (Standard Webhooks, "Signature scheme"). Never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A stored secret that does not have the form we write.
#[derive(Debug, thiserror::Error)]
#[error("not a webhook secret")]
pub struct InvalidSecret;

impl Secret {
    /// The secret made of these random bytes.
    #[must_use]
    pub fn from_bytes(random: [u8; 32]) -> Self {
        Self(format!("whsec_{}", STANDARD.encode(random)))
    }

    /// Reads back a secret that [`Secret::reveal`] gave.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        StandardKey::parse(text).map_err(|_| InvalidSecret)?;
        Ok(Self(text.to_owned()))
    }

    /// The secret as shown once to the tenant; the key of `X-Revnoxa-Signature` is these very characters.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(whsec_…)")
    }
}

/// Keys prepared from an endpoint's secrets, so that signing hashes no key block again.
#[derive(Debug, Clone)]
pub struct SigningKeys {
    key: Key,
    standard: StandardKey,
    previous: Option<(StandardKey, Timestamp)>,
}

/// The three values of a request that depend on the secret.
#[derive(Debug)]
pub struct Signatures {
    /// `X-Revnoxa-Signature`: lowercase hex of HMAC-SHA256 over the body.
    pub hex: String,
    /// `webhook-signature`: `v1,<base64>`, two of them separated by a space during an overlap.
    pub standard: String,
}

impl SigningKeys {
    /// Keys for `current`; `previous` signs `webhook-signature` as well until its time.
    pub fn new(current: &Secret, previous: Option<(&Secret, Timestamp)>) -> Result<Self, InvalidSecret> {
        let standard = |secret: &Secret| StandardKey::parse(secret.reveal()).map_err(|_| InvalidSecret);
        Ok(Self {
            key: Key::parse(current.reveal()).map_err(|_| InvalidSecret)?,
            standard: standard(current)?,
            previous: previous.map(|(secret, until)| Ok((standard(secret)?, until))).transpose()?,
        })
    }

    /// Signs the exact bytes that will be sent.
    #[must_use]
    pub fn sign(&self, id: &str, now: Timestamp, body: &[u8]) -> Signatures {
        let seconds = now.as_second();
        let mut standard = self.standard.sign(id, seconds, body).as_str().to_owned();
        if let Some((previous, until)) = &self.previous
            && now < *until
        {
            standard.push(' ');
            standard.push_str(previous.sign(id, seconds, body).as_str());
        }
        Signatures { hex: self.key.sign(body).as_str().to_owned(), standard }
    }
}
