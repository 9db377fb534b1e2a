//! Standard Webhooks 1.0, symmetric scheme `v1`: base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`,
//! keyed with the decoded secret.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use core::{fmt, ops::RangeInclusive, slice, str};

use base64ct::{Base64, Encoding};
use ctutils::CtEq;
use hmac::Mac;

use crate::{HmacSha256, InvalidSecret, VerifyError, finish, keyed_mac};

/// How many seconds a timestamp may differ from the receiver's clock, to either side, unless a
/// [`StandardVerifier`] says otherwise.
pub const DEFAULT_TOLERANCE_S: u32 = 300;

/// An id with more bytes is an invalid header.
const MAX_ID_BYTES: usize = 256;

/// A timestamp with more digits is invalid; catches milliseconds, lasts until the year 33658.
const MAX_TIMESTAMP_DIGITS: usize = 12;

/// A signature header with more bytes is invalid; 21 signatures fit.
const MAX_SIGNATURE_BYTES: usize = 1024;

/// The key sizes that the specification allows, in bytes ("Signature scheme").
const KEY_BYTES: RangeInclusive<usize> = 24..=64;

const PREFIX: &[u8] = b"whsec_";
const VERSION: &[u8] = b"v1,";

/// An endpoint's secret, ready to sign and verify the Standard Webhooks headers.
#[derive(Clone)]
pub struct StandardKey(HmacSha256);

impl StandardKey {
    /// Prepares a secret: `whsec_` and the base64 of 24 to 64 bytes, padded or not.
    pub fn parse(secret: &str) -> Result<Self, InvalidSecret> {
        Self::from_bytes(secret.as_bytes())
    }

    pub(crate) fn from_bytes(secret: &[u8]) -> Result<Self, InvalidSecret> {
        if secret.is_empty() {
            return Err(InvalidSecret::Empty);
        }
        let encoded = secret.strip_prefix(PREFIX).ok_or(InvalidSecret::Prefix)?;
        let mut buffer = [0; *KEY_BYTES.end()];
        let length = decode(encoded, &mut buffer)?;
        if !KEY_BYTES.contains(&length) {
            return Err(InvalidSecret::Length);
        }
        Ok(Self(keyed_mac(&buffer[..length])))
    }

    /// The value of `webhook-signature` for a request with this `webhook-id`, `webhook-timestamp`
    /// (Unix seconds) and exactly these bytes of a body.
    ///
    /// The id is visible ASCII without a full stop, at most 256 bytes, and the timestamp is not
    /// negative, else [`StandardVerifier::verify`] refuses the request. To sign with two keys, as
    /// after a rotation, join both values with a space.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> StandardSignature {
        let mut buffer = [0; 20];
        StandardSignature::encode(self.mac(id.as_bytes(), decimal(timestamp_s, &mut buffer), body))
    }

    /// Checks a request against this key alone, with a tolerance of [`DEFAULT_TOLERANCE_S`].
    /// `now_s` is the receiver's clock in Unix seconds.
    pub fn verify(&self, headers: StandardHeaders<'_>, body: &[u8], now_s: i64) -> Result<(), VerifyError> {
        StandardVerifier { keys: slice::from_ref(self), tolerance_s: DEFAULT_TOLERANCE_S }.verify(headers, body, now_s)
    }

    /// The message's mac up to the body.
    pub(crate) fn begin(&self, id: &[u8], timestamp: &[u8]) -> HmacSha256 {
        let mut mac = self.0.clone();
        for part in [id, b".", timestamp, b"."] {
            mac.update(part);
        }
        mac
    }

    fn mac(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> HmacSha256 {
        self.begin(id, timestamp).chain_update(body)
    }
}

impl fmt::Debug for StandardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandardKey(..)")
    }
}

/// A request's three headers as received; one that is missing is the empty string.
#[derive(Clone, Copy, Debug)]
pub struct StandardHeaders<'a> {
    /// `webhook-id`: the event's id, the same for every attempt.
    pub id: &'a str,
    /// `webhook-timestamp`: when this attempt was signed, in Unix seconds.
    pub timestamp: &'a str,
    /// `webhook-signature`: `v1,` and base64; several are separated by spaces, one match is enough.
    pub signature: &'a str,
}

/// Verifies with several keys, as while a secret is replaced, or with a tolerance of one's own.
/// [`StandardKey::verify`] is the short form.
#[derive(Clone, Copy, Debug)]
pub struct StandardVerifier<'k> {
    /// A signature by any of these is enough. The body is hashed once for each.
    pub keys: &'k [StandardKey],
    /// How many seconds the timestamp may differ from `now_s`, to either side.
    pub tolerance_s: u32,
}

impl StandardVerifier<'_> {
    /// Checks the headers, the time, then the signature, and answers with the first that fails.
    /// `now_s` is the receiver's clock in Unix seconds.
    pub fn verify(&self, headers: StandardHeaders<'_>, body: &[u8], now_s: i64) -> Result<(), VerifyError> {
        let headers = Headers::from(headers);
        headers.check(now_s, self.tolerance_s)?;
        let matches = |key: &StandardKey| headers.hold(key.mac(headers.id, headers.timestamp, body));
        if self.keys.iter().any(matches) { Ok(()) } else { Err(VerifyError::NoMatch) }
    }
}

/// [`StandardHeaders`] in bytes: what is not ASCII is refused, whether it is UTF-8 or not.
pub(crate) struct Headers<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) timestamp: &'a [u8],
    pub(crate) signature: &'a [u8],
}

impl<'a> From<StandardHeaders<'a>> for Headers<'a> {
    fn from(headers: StandardHeaders<'a>) -> Self {
        let StandardHeaders { id, timestamp, signature } = headers;
        Self { id: id.as_bytes(), timestamp: timestamp.as_bytes(), signature: signature.as_bytes() }
    }
}

impl Headers<'_> {
    /// Everything but the signature itself.
    pub(crate) fn check(&self, now_s: i64, tolerance_s: u32) -> Result<(), VerifyError> {
        if self.id.is_empty() || self.timestamp.is_empty() || self.signature.is_empty() {
            return Err(VerifyError::MissingHeader);
        }
        if !is_valid_id(self.id) || self.signature.len() > MAX_SIGNATURE_BYTES {
            return Err(VerifyError::InvalidHeader);
        }
        let timestamp_s = parse_timestamp(self.timestamp).ok_or(VerifyError::InvalidTimestamp)?;
        if timestamp_s < now_s.saturating_sub(tolerance_s.into()) {
            return Err(VerifyError::TimestampTooOld);
        }
        if timestamp_s > now_s.saturating_add(tolerance_s.into()) {
            return Err(VerifyError::TimestampTooNew);
        }
        Ok(())
    }

    /// Whether one of the signatures is this mac's, each compared in constant time.
    pub(crate) fn hold(&self, mac: HmacSha256) -> bool {
        let StandardSignature(expected) = StandardSignature::encode(mac);
        self.signature.split(|byte| *byte == b' ').any(|entry| expected[..].ct_eq(entry).into())
    }
}

/// A full stop could move bytes between id, timestamp and body under the same signature.
fn is_valid_id(id: &[u8]) -> bool {
    id.len() <= MAX_ID_BYTES && id.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.')
}

/// Only the digits that a sender prints: no sign, no leading zero.
fn parse_timestamp(text: &[u8]) -> Option<i64> {
    let is_plain = text.len() <= MAX_TIMESTAMP_DIGITS
        && text.iter().all(u8::is_ascii_digit)
        && (text == b"0" || !text.starts_with(b"0"));
    is_plain.then(|| text.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

/// Decodes base64 (RFC 4648, section 4), and tells how many bytes it is; those beyond `bytes` are not kept.
///
/// All of the padding may be missing: a double click does not select it, and the Standard Webhooks libraries do without it
/// too. base64ct's decoder would be a fifth of the wasm module.
fn decode(encoded: &[u8], bytes: &mut [u8]) -> Result<usize, InvalidSecret> {
    let digits = match encoded {
        [rest @ .., b'=', b'='] | [rest @ .., b'='] if encoded.len().is_multiple_of(4) => rest,
        _ => encoded,
    };
    let (mut rest, mut bits, mut length) = (0u32, 0, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(InvalidSecret::Base64),
        };
        rest = rest << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            if let Some(byte) = bytes.get_mut(length) {
                *byte = (rest >> bits) as u8;
            }
            rest &= (1 << bits) - 1;
            length += 1;
        }
    }
    // A digit that begins no byte, or bits beyond the last byte.
    if bits == 6 || rest != 0 {
        return Err(InvalidSecret::Base64);
    }
    Ok(length)
}

/// The digits of `number`, written to the end of `buffer`, without core::fmt: the wasm build is to stay small.
fn decimal(number: i64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut start = buffer.len();
    let mut rest = number.unsigned_abs();
    loop {
        start -= 1;
        buffer[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        start -= 1;
        buffer[start] = b'-';
    }
    &buffer[start..]
}

/// A value of `webhook-signature`: `v1,` and 44 base64 digits.
#[derive(Clone, Copy, Debug)]
pub struct StandardSignature(pub(crate) [u8; 47]);

impl StandardSignature {
    /// The header's value.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("the version and base64 digits are ASCII")
    }

    pub(crate) fn encode(mac: HmacSha256) -> Self {
        let mut text = [0; 47];
        let (version, digits) = text.split_at_mut(VERSION.len());
        version.copy_from_slice(VERSION);
        Base64::encode(&finish(mac), digits).expect("32 bytes are 44 base64 digits");
        Self(text)
    }
}
