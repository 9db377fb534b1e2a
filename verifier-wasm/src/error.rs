//! Why a secret or a request was refused.

use core::{error::Error, fmt};

/// Why a text cannot be an endpoint's secret. Its message never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidSecret {
    /// There is no text.
    Empty,
    /// The text does not start with `whsec_`.
    Prefix,
    /// What follows `whsec_` is not base64.
    Base64,
    /// The decoded key is shorter than 24 or longer than 64 bytes.
    Length,
}

impl fmt::Display for InvalidSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "webhook secret is empty",
            Self::Prefix => "webhook secret does not start with whsec_",
            Self::Base64 => "webhook secret is not base64 after whsec_",
            Self::Length => "webhook secret does not decode to 24 to 64 bytes",
        })
    }
}

impl Error for InvalidSecret {}

/// Why a request's Standard Webhooks headers were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// A header is missing or empty.
    MissingHeader,
    /// The id holds something else than visible ASCII, or a full stop, or a header is too long.
    InvalidHeader,
    /// The timestamp is not a plain decimal number of Unix seconds.
    InvalidTimestamp,
    /// The request was signed too long ago: it may be a replay.
    TimestampTooOld,
    /// The request was signed too far in the future: check this machine's clock.
    TimestampTooNew,
    /// No `v1` signature fits any of the keys and these bytes of a body.
    NoMatch,
}

impl VerifyError {
    /// The stable name: the same text as `err.code` of the npm package.
    pub fn code(self) -> &'static str {
        match self {
            Self::MissingHeader => "missing_header",
            Self::InvalidHeader => "invalid_header",
            Self::InvalidTimestamp => "invalid_timestamp",
            Self::TimestampTooOld => "timestamp_too_old",
            Self::TimestampTooNew => "timestamp_too_new",
            Self::NoMatch => "no_match",
        }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingHeader => "webhook header is missing",
            Self::InvalidHeader => "webhook header is malformed or too long",
            Self::InvalidTimestamp => "webhook timestamp is not in Unix seconds",
            Self::TimestampTooOld => "webhook timestamp is too old",
            Self::TimestampTooNew => "webhook timestamp is too far in the future",
            Self::NoMatch => "webhook signature does not match",
        })
    }
}

impl Error for VerifyError {}
