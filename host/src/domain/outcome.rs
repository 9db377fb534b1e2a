//! What one HTTP request to a receiver came to. Expected failures are values here, never `Err`.

use std::time::Duration;

use bytes::Bytes;

/// The end of one attempt: how long it took and what, if anything, the receiver answered.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// From the start of the connect to the end of the attempt, on the monotonic clock.
    pub duration: Duration,
    /// The receiver's answer, or why there is none.
    pub result: Result<Answer, SendError>,
}

/// A status line arrived in time; the body may have been cut.
#[derive(Clone)]
pub struct Answer {
    /// 100–999 as sent.
    pub status: u16,
    /// The first 16 KiB at most, as sent (never decompressed).
    pub body: Bytes,
    /// True when the receiver sent, or would have sent, more than `body` holds.
    pub truncated: bool,
    /// `Retry-After` as sent (RFC 9110 §10.2.3), at most 64 bytes; read by [`super::retry`].
    pub retry_after: Option<String>,
}

/// Why no answer arrived. `Display` is shown to the tenant: it never names an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No status line within the attempt's time limit, or no address within the name lookup's share of
    /// it; this carries the limit that ran out.
    #[error("timed out after {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The URL, or an address its name resolved to, is not one we connect to.
    #[error("address refused")]
    AddressRefused,
    /// The name did not resolve.
    #[error("name not found")]
    NameNotFound,
    /// The receiver's machine refused the connection.
    #[error("connection refused")]
    ConnectionRefused,
    /// The TLS handshake failed; the text says which check.
    #[error("TLS error: {0}")]
    Tls(&'static str),
    /// The lookup or the connection broke, or what came back was not HTTP.
    #[error("{0}")]
    Network(&'static str),
    /// A plugin failed, and its attachment wants the attempt to fail: the receiver was never asked.
    #[error("{0}")]
    Plugin(String),
}

impl Outcome {
    /// A 2xx status (RFC 9110 §15.3).
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(&self.result, Ok(answer) if (200..300).contains(&answer.status))
    }

    /// Why it failed, in one of a few words that operators count by; `None`: it succeeded.
    #[must_use]
    pub fn cause(&self) -> Option<&'static str> {
        match &self.result {
            Ok(answer) => match answer.status {
                200..300 => None,
                300..400 => Some("status_3xx"),
                400..500 => Some("status_4xx"),
                500..600 => Some("status_5xx"),
                _ => Some("status_other"),
            },
            Err(error) => Some(error.name()),
        }
    }
}

impl SendError {
    fn name(&self) -> &'static str {
        match self {
            Self::TimedOut(_) => "timed_out",
            Self::AddressRefused => "address_refused",
            Self::NameNotFound => "name_not_found",
            Self::ConnectionRefused => "connection_refused",
            Self::Tls(_) => "tls",
            Self::Network(_) => "network",
            Self::Plugin(_) => "plugin",
        }
    }
}

// Bodies are payload: they stay out of logs, so `Debug` shows their size only.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .field("truncated", &self.truncated)
            .field("retry_after", &self.retry_after)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_cause_to_count_by() {
        let answered = |status| Ok(Answer { status, body: Bytes::new(), truncated: false, retry_after: None });
        let cases = [
            (answered(200), None),
            (answered(299), None),
            (answered(199), Some("status_other")),
            (answered(301), Some("status_3xx")),
            (answered(410), Some("status_4xx")),
            (answered(500), Some("status_5xx")),
            (answered(999), Some("status_other")),
            (Err(SendError::TimedOut(Duration::from_secs(10))), Some("timed_out")),
            (Err(SendError::Tls("certificate expired")), Some("tls")),
            (Err(SendError::Plugin("plugin `x` failed".to_owned())), Some("plugin")),
        ];
        for (result, expected) in cases {
            let outcome = Outcome { duration: Duration::ZERO, result };
            assert_eq!(outcome.cause(), expected, "{outcome:?}");
            assert_eq!(outcome.cause().is_none(), outcome.succeeded(), "{outcome:?}");
        }
    }
}
