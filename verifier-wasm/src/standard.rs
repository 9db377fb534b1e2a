//! Standard Webhooks 1.0, symmetric scheme `v1`: base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`,
//! keyed with the decoded secret.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use core::{fmt, ops::RangeInclusive, slice, str};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Mac, digest::CtOutput};

use crate::{HmacSha256, InvalidSecret, VerifyError, keyed_mac};

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

const PREFIX: &str = "whsec_";
const VERSION: &str = "v1,";

/// A double click does not select the padding; the Standard Webhooks libraries do without it too.
const SECRET_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An endpoint's secret, ready to sign and verify the Standard Webhooks headers.
#[derive(Clone)]
pub struct StandardKey(HmacSha256);

impl StandardKey {
    /// Prepares a secret: `whsec_` and the base64 of 24 to 64 bytes, padded or not.
    pub fn parse(secret: &str) -> Result<Self, InvalidSecret> {
        if secret.is_empty() {
            return Err(InvalidSecret::Empty);
        }
        let encoded = secret.strip_prefix(PREFIX).ok_or(InvalidSecret::Prefix)?;
        let mut buffer = [0; *KEY_BYTES.end()];
        let length = SECRET_BASE64.decode_slice(encoded, &mut buffer).map_err(|error| match error {
            base64::DecodeSliceError::DecodeError(_) => InvalidSecret::Base64,
            base64::DecodeSliceError::OutputSliceTooSmall => InvalidSecret::Length,
        })?;
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
        StandardSignature::encode(self.mac(id, decimal(timestamp_s, &mut buffer), body))
    }

    /// Checks a request against this key alone, with a tolerance of [`DEFAULT_TOLERANCE_S`].
    /// `now_s` is the receiver's clock in Unix seconds.
    pub fn verify(&self, headers: StandardHeaders<'_>, body: &[u8], now_s: i64) -> Result<(), VerifyError> {
        StandardVerifier { keys: slice::from_ref(self), tolerance_s: DEFAULT_TOLERANCE_S }.verify(headers, body, now_s)
    }

    fn mac(&self, id: &str, timestamp: &[u8], body: &[u8]) -> CtOutput<HmacSha256> {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp, b".", body] {
            mac.update(part);
        }
        mac.finalize()
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
        let StandardHeaders { id, timestamp, signature } = headers;
        if id.is_empty() || timestamp.is_empty() || signature.is_empty() {
            return Err(VerifyError::MissingHeader);
        }
        if !is_valid_id(id) || signature.len() > MAX_SIGNATURE_BYTES {
            return Err(VerifyError::InvalidHeader);
        }
        let timestamp_s = parse_timestamp(timestamp).ok_or(VerifyError::InvalidTimestamp)?;
        if timestamp_s < now_s.saturating_sub(self.tolerance_s.into()) {
            return Err(VerifyError::TimestampTooOld);
        }
        if timestamp_s > now_s.saturating_add(self.tolerance_s.into()) {
            return Err(VerifyError::TimestampTooNew);
        }
        let matches = |key: &StandardKey| {
            let expected = key.mac(id, timestamp.as_bytes(), body);
            signatures(signature).any(|candidate| candidate == expected)
        };
        if self.keys.iter().any(matches) { Ok(()) } else { Err(VerifyError::NoMatch) }
    }
}

/// A full stop could move bytes between id, timestamp and body under the same signature.
fn is_valid_id(id: &str) -> bool {
    id.len() <= MAX_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.')
}

/// Only the digits that a sender prints: no sign, no leading zero.
fn parse_timestamp(text: &str) -> Option<i64> {
    let is_plain = text.len() <= MAX_TIMESTAMP_DIGITS
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

/// The well-formed `v1` signatures of a header. Equality of a [`CtOutput`] takes constant time.
fn signatures(header: &str) -> impl Iterator<Item = CtOutput<HmacSha256>> {
    header.split(' ').filter_map(|entry| {
        let encoded = entry.strip_prefix(VERSION)?;
        let mut mac = [0; 32];
        let length = STANDARD.decode_slice(encoded, &mut mac).ok()?;
        (length == mac.len()).then(|| CtOutput::new(mac.into()))
    })
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
pub struct StandardSignature([u8; 47]);

impl StandardSignature {
    /// The header's value.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("the version and base64 digits are ASCII")
    }

    fn encode(mac: CtOutput<HmacSha256>) -> Self {
        let mut text = [0; 47];
        let (version, digits) = text.split_at_mut(VERSION.len());
        version.copy_from_slice(VERSION.as_bytes());
        STANDARD.encode_slice(mac.into_bytes(), digits).expect("32 bytes are 44 base64 digits");
        Self(text)
    }
}
