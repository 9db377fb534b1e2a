//! What the crate should answer, in the plainest way and without its code: HMAC as RFC 2104 spells it, base64 digit by
//! digit, requests by comparing texts.

use base64::prelude::{BASE64_STANDARD, Engine};
use revnoxa_verifier::{InvalidSecret, VerifyError};
use sha2::{Digest, Sha256};

/// A request as a receiver sees it, and with what it is checked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The decoded secrets, 24 to 64 bytes each.
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
    pub(crate) body: Vec<u8>,
    pub(crate) now_s: i64,
    pub(crate) tolerance_s: u32,
}

pub(crate) fn verdict(request: &Request) -> Result<(), VerifyError> {
    let Request { keys, id, timestamp, signature, body, now_s, tolerance_s } = request;
    if [id, timestamp, signature].iter().any(|header| header.is_empty()) {
        return Err(VerifyError::MissingHeader);
    }
    if id.chars().count() > 256 || signature.len() > 1024 || id.chars().any(|c| !('!'..='~').contains(&c) || c == '.') {
        return Err(VerifyError::InvalidHeader);
    }
    let timestamp_s = match timestamp.parse::<i128>() {
        Ok(number) if number.to_string() == *timestamp && (0..1_000_000_000_000).contains(&number) => number,
        _ => return Err(VerifyError::InvalidTimestamp),
    };
    let age_s = i128::from(*now_s) - timestamp_s;
    if age_s > i128::from(*tolerance_s) {
        return Err(VerifyError::TimestampTooOld);
    }
    if -age_s > i128::from(*tolerance_s) {
        return Err(VerifyError::TimestampTooNew);
    }
    for key in keys {
        let right = standard_signature(key, id, timestamp, body);
        if signature.split(' ').any(|given| given == right) {
            return Ok(());
        }
    }
    Err(VerifyError::NoMatch)
}

/// The one right value of `webhook-signature`.
pub(crate) fn standard_signature(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let message = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    format!("v1,{}", BASE64_STANDARD.encode(hmac_sha256(key, &message)))
}

/// The one right value of `X-Revnoxa-Signature`.
pub(crate) fn body_signature(secret: &str, body: &[u8]) -> String {
    hmac_sha256(secret.as_bytes(), body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key that a secret of the Standard Webhooks means.
pub(crate) fn standard_key(secret: &str) -> Result<Vec<u8>, InvalidSecret> {
    if secret.is_empty() {
        return Err(InvalidSecret::Empty);
    }
    let encoded = secret.strip_prefix("whsec_").ok_or(InvalidSecret::Prefix)?;
    let key = from_base64(encoded).ok_or(InvalidSecret::Base64)?;
    if key.len() < 24 || key.len() > 64 { Err(InvalidSecret::Length) } else { Ok(key) }
}

/// RFC 2104, section 2.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    block.resize(64, 0);
    let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<_>>();
    let inner = Sha256::digest([&pad(0x36), message].concat());
    Sha256::digest([&pad(0x5c), &inner[..]].concat()).into()
}

/// RFC 4648, section 4; all of the padding is there or none, the bits beyond the last byte are zero.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let mut bits = String::new();
    for digit in digits.chars() {
        bits += &format!("{:06b}", ALPHABET.find(digit)?);
    }
    let (bytes, rest) = bits.split_at(bits.len() / 8 * 8);
    let full = match rest.len() {
        0 => 0,
        2 => 1,
        4 => 2,
        _ => return None,
    };
    if (padding != 0 && padding != full) || rest.contains('1') {
        return None;
    }
    Some(bytes.as_bytes().chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | (bit - b'0'))).collect())
}
