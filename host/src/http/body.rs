//! Request bodies and queries, refused with the field and the rule.

use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use super::problem::{FieldError, Problem};
use crate::store::{Cursor, PageRequest};

/// Bytes of a body that has no limit of its own.
pub(super) const BODY_LIMIT: usize = 64 * 1024;
/// Bytes of a body over its limit that are read and thrown away, so that the sender gets to read the refusal.
const DISCARD_LIMIT: usize = 32 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Items of a page when the caller does not say.
const PAGE_DEFAULT: u32 = 50;
/// Items of a page at most.
const PAGE_LIMIT: u32 = 100;

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        parse(&read(request, BODY_LIMIT).await?).map(Self)
    }
}

/// A JSON body that may be left out.
pub(super) struct OptionalJson<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let is_json = is_json(&request);
        let bytes = read_any(request, BODY_LIMIT).await?;
        match (bytes.is_empty(), is_json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => parse(&bytes).map(Self),
            (false, false) => Err(Problem::UnsupportedMediaType),
        }
    }
}

/// Reads a JSON body of at most `limit` bytes.
pub(super) async fn read(request: Request, limit: usize) -> Result<Bytes, Problem> {
    if !is_json(&request) {
        return Err(Problem::UnsupportedMediaType);
    }
    read_any(request, limit).await
}

/// Reads a body of at most `limit` bytes, whatever it is.
pub(super) async fn read_any(request: Request, limit: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_TIME, collect(request.into_body(), limit)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::InvalidRequest(FieldError::new("", "the body must arrive within 30 s"))),
    }
}

/// Reads a body and throws it away, up to a limit: left unread it would end the connection under the sender's next request.
pub(super) async fn discard(request: Request) {
    let _ = read_any(request, 0).await;
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::InvalidRequest(FieldError::new("", "the body broke off")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > limit {
            joined = BytesMut::new();
            if length > limit + DISCARD_LIMIT {
                break;
            }
        } else if first.is_empty() {
            // Most bodies come in one piece, which needs no copy.
            first = data;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
    }
    match (length > limit, joined.is_empty()) {
        (true, _) => Err(Problem::PayloadTooLarge(limit)),
        (false, true) => Ok(first),
        (false, false) => Ok(joined.freeze()),
    }
}

/// Parses a JSON object; an error names the path to the field.
pub(super) fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Problem> {
    parse_any(bytes, "").map(|Object(value)| value)
}

/// Parses a list of JSON objects, bare or as the `items` of an object; an error names the path with `items`.
pub(super) fn parse_items<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<Vec<T>, Problem> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields, bound = "T: Deserialize<'de>")]
    struct Items<T> {
        items: Vec<Object<T>>,
    }
    let items = match bytes.trim_ascii_start().first() {
        Some(b'[') => parse_any(bytes, "items")?,
        _ => parse::<Items<T>>(bytes)?.items,
    };
    Ok(items.into_iter().map(|Object(item)| item).collect())
}

/// Parses JSON that is `within` a larger body.
fn parse_any<'de, T: Deserialize<'de>>(bytes: &'de [u8], within: &str) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        // Only now again, with the path: it costs too much on every request.
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let path = serde_path_to_error::deserialize::<_, T>(&mut json).err().map(|error| error.path().to_string());
        let field = within.to_owned() + &path.filter(|path| path != ".").unwrap_or_default();
        let rule =
            if error.is_data() { without_value(&without_position(&error)) } else { format!("not JSON: {error}") };
        Problem::InvalidRequest(FieldError::new(field, rule))
    })
}

/// A struct read from a JSON object only: serde would take a list of its fields' values as well.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMap<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(OnlyMap(PhantomData)).map(Self)
    }
}

/// A text for people: at most `limit` bytes, no control characters but line ends and tabs.
pub(super) fn vet_text(field: &str, text: String, limit: usize) -> Result<String, Problem> {
    let refuse = |rule: String| Problem::Unprocessable(FieldError::new(field, rule));
    if text.len() > limit {
        return Err(refuse(format!("must be at most {limit} bytes")));
    }
    if text.chars().any(|character| character.is_control() && !matches!(character, '\n' | '\r' | '\t')) {
        return Err(refuse("must not hold control characters".to_owned()));
    }
    Ok(text)
}

/// A query; what it does not know is refused.
pub(super) struct Params<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        query.map(|Query(params)| Self(params)).map_err(|rejection| {
            let cause = std::error::Error::source(&rejection).map_or_else(String::new, ToString::to_string);
            Problem::InvalidRequest(FieldError::new("query", without_value(&cause)))
        })
    }
}

/// `limit` and `cursor` of a list.
#[derive(serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// Items of the page, 1 to 100; 50 when left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    pub(super) limit: Option<String>,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}

impl PageParams {
    pub(super) fn request<K: FromStr>(&self) -> Result<PageRequest<K>, Problem> {
        page_request(self.limit.as_deref(), self.cursor.as_deref())
    }
}

/// The page that `limit` and `cursor` ask for.
pub(super) fn page_request<K: FromStr>(limit: Option<&str>, cursor: Option<&str>) -> Result<PageRequest<K>, Problem> {
    let limit = match limit {
        None => PAGE_DEFAULT,
        Some(text) => match text.parse() {
            Ok(limit) if (1..=PAGE_LIMIT).contains(&limit) => limit,
            _ => return Err(invalid("limit", format_args!("must be a number from 1 to {PAGE_LIMIT}"))),
        },
    };
    let cursor = cursor.map(str::parse::<Cursor<K>>).transpose().map_err(|rule| invalid("cursor", rule))?;
    Ok(PageRequest { limit, cursor })
}

/// A part of the query is not readable.
pub(super) fn invalid(field: &str, rule: impl std::fmt::Display) -> Problem {
    Problem::InvalidRequest(FieldError::new(field, rule))
}

fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// serde_json ends its messages with the position, which the field's path says better.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or_else(|| text.clone(), |(message, _)| message.to_owned())
}

/// serde's message without the text that it quotes, which may be a credential in the wrong place.
pub(super) fn without_value(message: &str) -> String {
    let quoting = [("invalid type: string", " \""), ("invalid value: string", " \""), ("unknown variant", " `")];
    let rule = |(start, quote): &(&str, &str)| {
        let quoted = message.strip_prefix(start)?.strip_prefix(quote)?;
        let (_, rule) = quoted.rsplit_once(&format!("{}, expected ", quote.trim_start()))?;
        Some(format!("{start}, expected {rule}"))
    };
    quoting.iter().find_map(rule).unwrap_or_else(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_does_not_repeat_what_was_sent() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Scope {
            Operator,
            Producer,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Body {
            scope: Option<Scope>,
            count: Option<u32>,
            items: Option<Vec<u32>>,
        }
        for (body, detail) in [
            (r#"{"scope":"secret"}"#, "`scope`: unknown variant, expected `operator` or `producer`"),
            (r#"{"scope":"secret`, expected x"}"#, "`scope`: unknown variant, expected `operator` or `producer`"),
            (r#"{"count":"secret"}"#, "`count`: invalid type: string, expected u32"),
            (r#"{"count":"a\", expected secret"}"#, "`count`: invalid type: string, expected u32"),
            (r#"{"items":"secret"}"#, "`items`: invalid type: string, expected a sequence"),
            (r#"{"items":["secret"]}"#, "`items[0]`: invalid type: string, expected u32"),
            (r#"{"count":true}"#, "`count`: invalid type: boolean `true`, expected u32"),
        ] {
            let Err(problem) = parse::<Body>(body.as_bytes()) else { panic!("{body} is taken") };
            assert_eq!(problem.body().detail, detail, "{body}");
        }
        assert_eq!(without_value("unknown field `colour`"), "unknown field `colour`");
    }
}
