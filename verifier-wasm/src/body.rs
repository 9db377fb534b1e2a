//! `X-Revnoxa-Signature`: lowercase hex of HMAC-SHA256 over the body, keyed with the secret's own text.

use core::{fmt, str};

use hmac::Mac;

use crate::{HmacSha256, InvalidSecret, keyed_mac};

/// An endpoint's secret, ready to sign and verify `X-Revnoxa-Signature`.
#[derive(Clone)]
pub struct Key(HmacSha256);

impl Key {
    /// Prepares the secret as shown, `whsec_` included: its UTF-8 bytes are the key.
    ///
    /// Any text but the empty one is a key; with an empty secret anybody could sign.
    pub fn parse(secret: &str) -> Result<Self, InvalidSecret> {
        if secret.is_empty() {
            return Err(InvalidSecret::Empty);
        }
        Ok(Self(keyed_mac(secret.as_bytes())))
    }

    /// The header's value for exactly these bytes of a body.
    pub fn sign(&self, body: &[u8]) -> HexSignature {
        let mac = self.0.clone().chain_update(body).finalize().into_bytes();
        HexSignature::encode(&mac.into())
    }

    /// Whether `signature`, the header's value, is this secret's for exactly these bytes of a body.
    ///
    /// Only the form that [`Key::sign`] gives is accepted, 64 lowercase hex digits: a body has one
    /// valid value, not one for each spelling. A missing header is the empty string: refused.
    #[must_use]
    pub fn verify(&self, body: &[u8], signature: &str) -> bool {
        decode_hex(signature).is_some_and(|mac| self.0.clone().chain_update(body).verify(&mac.into()).is_ok())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A value of `X-Revnoxa-Signature`: 64 lowercase hex digits.
#[derive(Clone, Copy, Debug)]
pub struct HexSignature([u8; 64]);

impl HexSignature {
    /// The header's value.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("hex digits are ASCII")
    }

    fn encode(mac: &[u8; 32]) -> Self {
        let mut digits = [0; 64];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(mac) {
            *pair = [hex_digit(byte >> 4), hex_digit(byte & 0xf)];
        }
        Self(digits)
    }
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + (nibble - 10),
    }
}

fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, &[high, low]) in bytes.iter_mut().zip(digits.as_chunks().0) {
        *byte = nibble(high)? << 4 | nibble(low)?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
