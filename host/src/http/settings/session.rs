//! Who looks at a page, and whether a form is from one of ours.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::super::AppState;
use super::super::auth::ForTenant;
use super::super::body;
use super::super::problem::{FieldError, Problem};
use super::{PageError, Section, Shell, Site};
use crate::domain::id::TenantId;
use crate::domain::session::{self, KeyHash, SESSION_LIFE};

/// The session's cookie where browsers speak TLS with us. The prefix keeps other hosts of the domain from setting it
/// (<https://www.ietf.org/archive/id/draft-ietf-httpbis-rfc6265bis-20.html>, section 4.1.3.2).
const COOKIE_NAME: &str = "__Host-revnoxa-session";
/// The same on a loopback address without TLS, where browsers refuse that prefix.
const PLAIN_COOKIE_NAME: &str = "revnoxa-session";
/// The form's field, or the script's header, that shows that a change comes from a page of this session.
pub(super) const CSRF_FIELD: &str = "csrf";
pub(super) const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
/// Bytes of a form: as many as the settings of all plugins of an endpoint may have, percent-encoded.
const FORM_LIMIT: usize = 2 * 1024 * 1024;

/// Someone of a tenant, signed in.
pub(super) struct Visitor {
    /// Whose pages.
    pub(super) tenant: TenantId,
    name: String,
    key: String,
}

impl Visitor {
    /// What surrounds a page of theirs.
    pub(super) fn shell(&self, section: Section) -> Shell {
        let tenant = if self.name.is_empty() { self.tenant.to_string() } else { self.name.clone() };
        Shell { tenant, csrf: session::csrf_token(&self.key), section }
    }

    /// To call a handler of the API with.
    pub(super) fn acts(&self) -> ForTenant {
        ForTenant(self.tenant.clone())
    }

    /// Whether the token of a form is this session's. Hashes are compared: how long it takes tells nothing of the token.
    fn knows(&self, csrf: &str) -> bool {
        session::hash(csrf) == session::hash(&session::csrf_token(&self.key))
    }

    pub(super) fn key_hash(&self) -> KeyHash {
        session::hash(&self.key)
    }
}

impl FromRequestParts<AppState> for Visitor {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, PageError> {
        let key = cookie(&parts.headers, &state.site).ok_or(Problem::Unauthorized)?.to_owned();
        let tenant = state.store.session(&session::hash(&key)).await?.ok_or(Problem::Unauthorized)?;
        state.calls.count(&tenant.id, &parts.extensions)?;
        Ok(Self { tenant: tenant.id, name: tenant.name, key })
    }
}

/// Who sends a change, as far as the origin and the cookie tell: [`Sender::vouched`] makes the visitor of them.
pub(super) struct Sender(Visitor);

impl Sender {
    /// Whose pages it was sent from.
    pub(super) fn tenant(&self) -> &TenantId {
        &self.0.tenant
    }

    /// The visitor, if the token is the one that their pages carry.
    pub(super) fn vouched(self, token: Option<&str>) -> Result<Visitor, Problem> {
        if token.is_some_and(|token| self.0.knows(token)) { Ok(self.0) } else { Err(Problem::Forbidden) }
    }
}

impl FromRequestParts<AppState> for Sender {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, PageError> {
        check_origin(&parts.headers, &state.site)?;
        Visitor::from_request_parts(parts, state).await.map(Self)
    }
}

/// A form of one of our pages, sent by whom it was shown to.
pub(super) struct Submitted<T> {
    pub(super) visitor: Visitor,
    pub(super) form: T,
}

impl<T: DeserializeOwned> FromRequest<AppState> for Submitted<T> {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, PageError> {
        let (mut parts, sent) = request.into_parts();
        let sender = Sender::from_request_parts(&mut parts, state).await?;
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return Err(Problem::UnsupportedMediaType.into());
        }
        let bytes = body::read_any(Request::from_parts(parts, sent), FORM_LIMIT).await?;
        let token = form_urlencoded::parse(&bytes).find(|(name, _)| name == CSRF_FIELD).map(|(_, token)| token);
        let visitor = sender.vouched(token.as_deref())?;
        let form = serde_html_form::from_bytes(&bytes);
        let form = form
            .map_err(|error| Problem::InvalidRequest(FieldError::new("", body::without_value(&error.to_string()))))?;
        Ok(Self { visitor, form })
    }
}

/// A form without fields: its button says it all.
#[derive(serde::Deserialize)]
pub(super) struct Pressed {}

/// The key of the session that a request comes with.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, site: &Site) -> Option<&'h str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(';'));
    let name = cookie_name(site);
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// `Set-Cookie` of a session; of its end where there is no key.
pub(super) fn set_cookie(site: &Site, key: Option<&str>) -> String {
    let (value, age_s) = key.map_or(("", 0), |key| (key, SESSION_LIFE.as_secs()));
    let secure = if site.origin.is_https() { "; Secure" } else { "" };
    format!("{}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}", cookie_name(site))
}

fn cookie_name(site: &Site) -> &'static str {
    if site.origin.is_https() { COOKIE_NAME } else { PLAIN_COOKIE_NAME }
}

/// Browsers name the page that a form or a script sends from (RFC 6454 §7); any but ours is refused, and so is none.
fn check_origin(headers: &HeaderMap, site: &Site) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(ORIGIN).ok_or(Problem::Forbidden)?;
    let own = origin == site.origin.as_str();
    // Reached under another name, such as `localhost`: then the page's address is the one that was asked for.
    let same_host = || text(HOST).is_some_and(|host| origin.strip_prefix("http://") == Some(host));
    if own || (!site.named && same_host()) { Ok(()) } else { Err(Problem::Forbidden) }
}
