//! Origins of web pages, as settings name them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};

use super::forms::list;

/// Scheme, host and port of a web page (RFC 6454), as browsers write it in `Origin`: `https://app.example.com`; for those that may
/// frame us also `https://*.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// The text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be `https://HOST` or `https://HOST:PORT`, without a path")]
pub struct InvalidOrigin;

impl Origin {
    /// The origin as browsers write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what is sent to it is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// Whether it stands for all hosts of a domain.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.host().starts_with("*.")
    }

    fn host(&self) -> &str {
        let (_, authority) = self.0.split_once("://").expect("parsed");
        let port = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
        &authority[..port.unwrap_or(authority.len())]
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, authority) = text.trim_end_matches('/').split_once("://").ok_or(InvalidOrigin)?;
        // `*.` is no part of a URL's host, but of what a policy lists.
        let host = authority.strip_prefix("*.").unwrap_or(authority);
        let url = url::Url::parse(&format!("{scheme}://{host}")).map_err(|_| InvalidOrigin)?;
        let plain = matches!(scheme, "https" | "http") && url.path() == "/" && url.query().is_none();
        let bare = url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
        // What the parser would write differently (a default port, upper case) is not what browsers send.
        let written = url.as_str().trim_end_matches('/') == format!("{scheme}://{host}");
        let listable = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        (plain && bare && written && listable).then(|| Self(format!("{scheme}://{authority}"))).ok_or(InvalidOrigin)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A list of origins; as a setting `a,b` or `["a", "b"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(pub Vec<Origin>);

impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let origins = list(deserializer)?;
        origins.iter().map(|text| text.parse().map_err(D::Error::custom)).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let valid = [
            "https://hooks.example.com",
            "https://hooks.example.com:8443",
            "https://*.example.com",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
        ];
        for text in valid {
            assert_eq!(text.parse::<Origin>().map(|origin| origin.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("https://a.example/".parse::<Origin>().unwrap().as_str(), "https://a.example");
        let invalid = [
            "",
            "hooks.example.com",
            "ftp://a.example",
            "https://a.example/path",
            "https://a.example?x",
            "https://a.example#x",
            "https://user@a.example",
            "https://A.example",
            "https://a.example:443",
            "https://a.example; script-src *",
            "https://a.example 'self'",
            "https://*",
            "https://a.*.example",
            "'self'",
        ];
        for text in invalid {
            assert_eq!(text.parse::<Origin>(), Err(InvalidOrigin), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_from_what_only_looks_like_it() {
        let cases = [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://[::1]", true),
            ("http://localhost:1", true),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
        ];
        for (text, loopback) in cases {
            assert_eq!(text.parse::<Origin>().unwrap().is_loopback(), loopback, "{text}");
        }
    }
}
