//! The headers a tenant and its plugins may add to its requests.

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

/// Custom headers per endpoint.
pub const HEADERS_LIMIT: usize = 10;
/// Bytes of one header's value.
pub const VALUE_LIMIT: usize = 1_024;
/// Bytes of one header's name.
pub const NAME_LIMIT: usize = 128;

/// Names that HTTP itself or the connection needs; ours as well, by their prefixes in [`is_reserved`].
const RESERVED: [&str; 20] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];
const RESERVED_PREFIXES: [&str; 5] = ["webhook-", "x-revnoxa-", "proxy-", "sec-", "x-forwarded-"];

/// Why a custom header is refused; `Display` states the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// More than [`HEADERS_LIMIT`].
    #[error("at most {HEADERS_LIMIT} headers")]
    TooMany,
    /// Not a field name (RFC 9110 §5.1), or longer than [`NAME_LIMIT`].
    #[error("a header name must be 1 to {NAME_LIMIT} letters, digits or any of !#$%&'*+-.^_`|~")]
    Name,
    /// The same name twice; names differ not by case (RFC 9110 §5.1).
    #[error("the same header is given twice")]
    Twice,
    /// A name that would break the request or pass for one of ours.
    #[error("this header name is reserved")]
    Reserved,
    /// Longer than [`VALUE_LIMIT`] or with characters other than visible ASCII, space and tab.
    #[error("a header value must be at most {VALUE_LIMIT} visible ASCII characters, spaces or tabs")]
    Value,
}

/// A tenant's own headers, vetted, in the order they are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(HeaderMap);

impl CustomHeaders {
    /// Vets `headers`; the error carries the name at fault.
    pub fn parse<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, (String, InvalidHeader)> {
        let mut parsed = HeaderMap::new();
        for (name, value) in headers {
            let refuse = |rule| (name.to_owned(), rule);
            let (field, value) = parse_header(name, value).map_err(refuse)?;
            if is_reserved(&field) {
                return Err(refuse(InvalidHeader::Reserved));
            }
            if parsed.insert(field, value).is_some() {
                return Err(refuse(InvalidHeader::Twice));
            }
            if parsed.len() > HEADERS_LIMIT {
                return Err(refuse(InvalidHeader::TooMany));
            }
        }
        Ok(Self(parsed))
    }

    /// Reads back headers that were vetted when they were saved: the list of reserved names may have grown since.
    pub fn restore<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, InvalidHeader> {
        let headers = headers.into_iter().map(|(name, value)| parse_header(name, value));
        headers.collect::<Result<_, _>>().map(Self)
    }

    /// The headers as a map, to build a request on.
    #[must_use]
    pub fn as_map(&self) -> &HeaderMap {
        &self.0
    }

    /// Name and value of each header.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
    }
}

/// Headers that plugins add to one request, vetted. Unlike a tenant's own they may name the body's type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginHeaders(HeaderMap);

impl PluginHeaders {
    /// Vets `headers`, of which there may be `limit`; the error carries the name at fault, cut to [`NAME_LIMIT`].
    pub fn parse<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        limit: usize,
    ) -> Result<Self, (String, InvalidPluginHeader)> {
        let mut parsed = HeaderMap::new();
        for (name, value) in headers {
            let refuse = |rule: InvalidHeader| {
                let end = name.floor_char_boundary(NAME_LIMIT);
                (name[..end].to_owned(), InvalidPluginHeader::Rule(rule))
            };
            let (field, mut value) = parse_header(name, value).map_err(refuse)?;
            // The history shows what a plugin made.
            value.set_sensitive(false);
            if is_reserved(&field) && field != CONTENT_TYPE {
                return Err(refuse(InvalidHeader::Reserved));
            }
            if parsed.insert(field, value).is_some() {
                return Err(refuse(InvalidHeader::Twice));
            }
            if parsed.len() > limit {
                return Err((String::new(), InvalidPluginHeader::TooMany(limit)));
            }
        }
        Ok(Self(parsed))
    }

    /// Reads back headers that were vetted when they were stored: the list of reserved names may have grown since.
    pub fn restore<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, InvalidHeader> {
        let shown = |(name, value)| {
            let (name, mut value) = parse_header(name, value)?;
            value.set_sensitive(false);
            Ok((name, value))
        };
        headers.into_iter().map(shown).collect::<Result<_, _>>().map(Self)
    }

    /// These, and those of `later` instead of any of the same name.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// The headers as a map, to build a request on.
    #[must_use]
    pub fn as_map(&self) -> &HeaderMap {
        &self.0
    }

    /// Name and value of each header.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
    }
}

/// Why a plugin's header is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPluginHeader {
    /// More than the setting allows.
    #[error("at most {0} headers")]
    TooMany(usize),
    /// One of them breaks a rule.
    #[error(transparent)]
    Rule(InvalidHeader),
}

fn parse_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), InvalidHeader> {
    let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| InvalidHeader::Name)?;
    if field.as_str().len() > NAME_LIMIT {
        return Err(InvalidHeader::Name);
    }
    let visible = value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    if value.len() > VALUE_LIMIT || !visible || value.trim() != value {
        return Err(InvalidHeader::Value);
    }
    let mut value = HeaderValue::from_str(value).map_err(|_| InvalidHeader::Value)?;
    // Often a credential: keeps it out of `Debug` and of HPACK's index.
    value.set_sensitive(true);
    Ok((field, value))
}

/// Whether the name belongs to HTTP, the connection or us.
#[must_use]
pub fn is_reserved(name: &HeaderName) -> bool {
    RESERVED.contains(&name.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_name_the_type_of_their_body_but_nothing_else_that_is_reserved() {
        let parse = |name, value| PluginHeaders::parse([(name, value)], 64);
        assert!(parse("Content-Type", "text/plain").is_ok());
        for name in ["host", "Content-Length", "transfer-encoding", "connection", "webhook-id", "X-Revnoxa-Event", "te"]
        {
            let refused = Err((name.to_owned(), InvalidPluginHeader::Rule(InvalidHeader::Reserved)));
            assert_eq!(parse(name, "v"), refused, "{name}");
        }
        assert_eq!(parse("x-a", "a\nb"), Err(("x-a".to_owned(), InvalidPluginHeader::Rule(InvalidHeader::Value))));
        let crowd = PluginHeaders::parse([("x-a", "1"), ("x-b", "2")], 1);
        assert_eq!(crowd, Err((String::new(), InvalidPluginHeader::TooMany(1))));
    }

    #[test]
    fn a_later_plugins_header_replaces_an_earlier_ones() {
        let mut headers = PluginHeaders::parse([("x-a", "1"), ("x-b", "1")], 64).unwrap();
        headers.extend(PluginHeaders::parse([("X-A", "2"), ("x-c", "2")], 64).unwrap());
        let mut all: Vec<_> = headers.iter().collect();
        all.sort_unstable();
        assert_eq!(all, [("x-a", "2"), ("x-b", "1"), ("x-c", "2")]);
    }

    #[test]
    fn each_rule_refuses() {
        let long_value = "v".repeat(VALUE_LIMIT + 1);
        let long_name = "n".repeat(NAME_LIMIT + 1);
        let cases = [
            ("", "v", InvalidHeader::Name),
            ("a b", "v", InvalidHeader::Name),
            ("a:", "v", InvalidHeader::Name),
            (long_name.as_str(), "v", InvalidHeader::Name),
            ("Host", "v", InvalidHeader::Reserved),
            ("Content-Length", "1", InvalidHeader::Reserved),
            ("transfer-encoding", "chunked", InvalidHeader::Reserved),
            ("Webhook-Id", "v", InvalidHeader::Reserved),
            ("X-REVNOXA-anything", "v", InvalidHeader::Reserved),
            ("Proxy-Authorization", "v", InvalidHeader::Reserved),
            ("x-a", "a\r\nb: c", InvalidHeader::Value),
            ("x-a", "a\0b", InvalidHeader::Value),
            ("x-a", "é", InvalidHeader::Value),
            ("x-a", " padded", InvalidHeader::Value),
            ("x-a", long_value.as_str(), InvalidHeader::Value),
        ];
        for (name, value, rule) in cases {
            assert_eq!(CustomHeaders::parse([(name, value)]), Err((name.to_owned(), rule)), "{name}: {value:?}");
        }
    }

    #[test]
    fn useful_headers_pass_and_doubles_and_crowds_do_not() {
        let headers = CustomHeaders::parse([("Authorization", "Bearer x"), ("X-Team", "a b\tc")]).unwrap();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("authorization", "Bearer x"), ("x-team", "a b\tc")]);
        let twice = CustomHeaders::parse([("X-A", "1"), ("x-a", "2")]);
        assert_eq!(twice, Err(("x-a".to_owned(), InvalidHeader::Twice)));
        let names: Vec<String> = (0..=HEADERS_LIMIT).map(|n| format!("x-{n}")).collect();
        let crowd = CustomHeaders::parse(names.iter().map(|name| (name.as_str(), "v")));
        assert_eq!(crowd, Err(("x-10".to_owned(), InvalidHeader::TooMany)));
    }
}
