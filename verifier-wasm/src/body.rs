//! `X-Revnoxa-Signature`: lowercase hex of HMAC-SHA256 over the body, keyed with the secret's own text.

use core::{fmt, str};

use ctutils::CtEq;
use hmac::Mac;

use crate::{HmacSha256, InvalidSecret, finish, keyed_mac};

/// An endpoint's secret, ready to sign and verify `X-Revnoxa-Signature`.
#[derive(Clone)]
pub struct Key(HmacSha256);

impl Key {
    /// Prepares the secret as shown, `whsec_` included: its UTF-8 bytes are the key.
    ///
    /// Any text but the empty one is a key; with an empty secret anybody could sign.
    pub fn parse(secret: &str) -> Result<Self, InvalidSecret> {
        Self::from_bytes(secret.as_bytes())
    }

    pub(crate) fn from_bytes(secret: &[u8]) -> Result<Self, InvalidSecret> {
        if secret.is_empty() {
            return Err(InvalidSecret::Empty);
        }
        Ok(Self(keyed_mac(secret)))
    }

    /// The mac of a body's first byte and on.
    pub(crate) fn begin(&self) -> HmacSha256 {
        self.0.clone()
    }

    /// The header's value for exactly these bytes of a body.
    pub fn sign(&self, body: &[u8]) -> HexSignature {
        HexSignature::encode(self.begin().chain_update(body))
    }

    /// Whether `signature`, the header's value, is this secret's for exactly these bytes of a body.
    ///
    /// Only the form that [`Key::sign`] gives is accepted, 64 lowercase hex digits: a body has one
    /// valid value, not one for each spelling. A missing header is the empty string: refused.
    #[must_use]
    pub fn verify(&self, body: &[u8], signature: &str) -> bool {
        is_mac(self.begin().chain_update(body), signature.as_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A value of `X-Revnoxa-Signature`: 64 lowercase hex digits.
#[derive(Clone, Copy, Debug)]
pub struct HexSignature(pub(crate) [u8; 64]);

impl HexSignature {
    /// The header's value.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("hex digits are ASCII")
    }

    pub(crate) fn encode(mac: HmacSha256) -> Self {
        let mut digits = [0; 64];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(finish(mac)) {
            *pair = [hex_digit(byte >> 4), hex_digit(byte & 0xf)];
        }
        Self(digits)
    }
}

/// Without a branch: the digits of an expected signature are nobody's to time.
fn hex_digit(nibble: u8) -> u8 {
    b'0' + nibble + (9u8.wrapping_sub(nibble) >> 7) * (b'a' - b'0' - 10)
}

/// Whether `signature` is this mac's, compared in constant time.
pub(crate) fn is_mac(mac: HmacSha256, signature: &[u8]) -> bool {
    HexSignature::encode(mac).0[..].ct_eq(signature).into()
}
