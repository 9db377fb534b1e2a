//! Where spans go.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use url::Url;

/// Base URL of an OTLP collector over HTTP, such as `http://127.0.0.1:4318`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorUrl(String);

/// The text is no base URL of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be `http://HOST:PORT` or `https://HOST`, with a path if need be, but without a user, query or fragment")]
pub struct InvalidCollectorUrl;

impl CollectorUrl {
    /// Where spans are posted to.
    /// (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>)
    #[must_use]
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.0)
    }
}

impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CollectorUrl {
    type Err = InvalidCollectorUrl;

    fn from_str(text: &str) -> Result<Self, InvalidCollectorUrl> {
        let url = Url::parse(text).map_err(|_| InvalidCollectorUrl)?;
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
        // Credentials belong in a header: URLs are shown.
        let is_bare = url.username().is_empty() && url.password().is_none();
        let is_base = url.query().is_none() && url.fragment().is_none();
        if is_http && is_bare && is_base {
            Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
        } else {
            Err(InvalidCollectorUrl)
        }
    }
}

impl<'de> Deserialize<'de> for CollectorUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_below_the_base_url() {
        let cases = [
            ("http://127.0.0.1:4318", Some("http://127.0.0.1:4318/v1/traces")),
            ("http://collector:4318/", Some("http://collector:4318/v1/traces")),
            ("https://otlp.example.com/otlp", Some("https://otlp.example.com/otlp/v1/traces")),
            ("127.0.0.1:4318", None),
            ("collector:4318", None),
            ("grpc://collector:4317", None),
            ("https://user:hunter2@otlp.example.com", None),
            ("https://otlp.example.com/?token=1", None),
            ("https://otlp.example.com/#x", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let traces = text.parse::<CollectorUrl>().ok().map(|url| url.traces());
            assert_eq!(traces.as_deref(), expected, "{text}");
        }
    }
}
