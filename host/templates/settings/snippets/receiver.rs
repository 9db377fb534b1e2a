// The crate `revnoxa-verifier`
use revnoxa_verifier::{StandardHeaders, StandardKey};

/// Whether a request is genuine; `header` gives a header's value, `now` the time in Unix seconds.
pub fn is_genuine<'h>(header: impl Fn(&str) -> &'h str, raw_body: &[u8], secret: &str, now: i64) -> bool {
    let headers = StandardHeaders {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    StandardKey::parse(secret).is_ok_and(|key| key.verify(headers, raw_body, now).is_ok())
}
