//! Pages of lists, and the links from one to another.

use std::fmt::Display;

use axum::http::{HeaderName, HeaderValue, Uri, header};
use serde::Serialize;
use url::form_urlencoded;
use utoipa::ToSchema;

use crate::store::Page;

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T: ToSchema> {
    /// In the list's order.
    pub(super) items: Vec<T>,
    /// Give it as `cursor` for the next page; null: this is the last.
    pub(super) next_cursor: Option<String>,
}

/// A page with its `Link` header.
pub(super) type Listed<T> = ([(HeaderName, HeaderValue); 1], axum::Json<List<T>>);

impl<T: ToSchema> List<T> {
    /// The page that `uri` asked for.
    pub(super) fn of<R, K: Display>(uri: &Uri, page: Page<R, K>, item: impl Fn(R) -> T) -> Listed<T> {
        let next_cursor = page.next.map(|cursor| cursor.to_string());
        let link = links(uri, next_cursor.as_deref());
        ([(header::LINK, link)], axum::Json(Self { items: page.items.into_iter().map(item).collect(), next_cursor }))
    }
}

/// `Link` (RFC 8288) to the first page of a list, and to the next where there is one.
fn links(uri: &Uri, next: Option<&str>) -> HeaderValue {
    let mut links = format!("<{}>; rel=\"first\"", address(uri, None));
    if next.is_some() {
        links += &format!(", <{}>; rel=\"next\"", address(uri, next));
    }
    HeaderValue::try_from(links).expect("the path of a route and an encoded query are visible ASCII")
}

/// The page of the same list, by the same filters, that begins at this cursor.
fn address(uri: &Uri, cursor: Option<&str>) -> String {
    let asked = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(asked.filter(|(name, _)| name != "cursor"));
    query.extend_pairs(cursor.map(|cursor| ("cursor", cursor)));
    let query = query.finish();
    let path = uri.path();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_links_to_the_first_and_to_the_next() {
        let cases = [
            ("/v1/tenants", None, r#"</v1/tenants>; rel="first""#),
            ("/v1/tenants?cursor=YQ", None, r#"</v1/tenants>; rel="first""#),
            ("/v1/tenants", Some("Yg"), r#"</v1/tenants>; rel="first", </v1/tenants?cursor=Yg>; rel="next""#),
            (
                "/v1/tenants?cursor=YQ&limit=2",
                Some("Yg"),
                r#"</v1/tenants?limit=2>; rel="first", </v1/tenants?limit=2&cursor=Yg>; rel="next""#,
            ),
            (
                "/d?after=2026-01-01T00:00:00%2B01:00",
                None,
                r#"</d?after=2026-01-01T00%3A00%3A00%2B01%3A00>; rel="first""#,
            ),
            ("/d?type=%3E%2C%22%C3%A4", None, r#"</d?type=%3E%2C%22%C3%A4>; rel="first""#),
        ];
        for (uri, next, expected) in cases {
            assert_eq!(links(&uri.parse().unwrap(), next), expected, "{uri}");
        }
    }
}
