//! Errors as `application/problem+json` (RFC 9457).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::limits;
use crate::deliver::TestError;
use crate::ingest::IngestError;
use crate::limits::{OverLimit, Standing};
use crate::store::{AcceptError, AttachError, PluginError, StoreError};

/// Seconds until a request that found us busy should come again.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// Why a request was refused. Each variant has one `type` and one status.
#[derive(Debug)]
pub(super) enum Problem {
    /// No token, or one that is unknown or revoked.
    Unauthorized,
    /// The token may not do this.
    Forbidden,
    /// It does not exist, or is not yours: the answer is the same.
    NotFound,
    /// It contradicts what is there.
    Conflict(String),
    /// An event's id used before with another body.
    IdempotencyConflict(FieldError),
    /// An idempotency key used before with another request.
    IdempotencyKeyReused(FieldError),
    /// Not readable: malformed JSON, an unknown field, a wrong type, a bad query.
    InvalidRequest(FieldError),
    /// Readable, but against a rule.
    Unprocessable(FieldError),
    /// The body is larger than this many bytes.
    PayloadTooLarge(usize),
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// The path has no such method.
    MethodNotAllowed,
    /// A tenant's quota is used up; nothing was done. An error without a field is no fault of a part of the request.
    RateLimited(FieldError, Standing),
    /// It could not be done now; nothing was changed, or whether it was is not known.
    Unavailable,
    /// Nothing can be stored at the moment, for this reason.
    NoWrites(&'static str),
    /// Our fault; the log has the same number.
    Internal(uuid::Uuid),
}

/// Which part of the request is at fault, and the rule it breaks.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// The field, such as `events[3].type`, the query parameter or the header; empty: the body as a whole.
    #[schema(example = "url")]
    pub field: String,
    /// What it must be.
    #[schema(example = "must use https")]
    pub rule: String,
}

impl FieldError {
    /// `field` must be as `rule` says.
    pub(super) fn new(field: impl Into<String>, rule: impl std::fmt::Display) -> Self {
        Self { field: field.into(), rule: rule.to_string() }
    }
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// Stable name of the kind of error.
    #[serde(rename = "type")]
    #[schema(example = "https://revnoxa.com/problems/unprocessable")]
    kind: String,
    /// The kind in words.
    pub(super) title: &'static str,
    /// The HTTP status.
    pub(super) status: u16,
    /// What was wrong with this request.
    pub(super) detail: String,
    /// The parts of the request at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// Number of this very error, to be found in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, ..) = self.kind();
        let mut response = (status, self.headers(), axum::Json(self.body())).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

impl Problem {
    /// Logs the cause, which the caller never sees, under a number that it does.
    pub(super) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let instance = uuid::Uuid::new_v4();
        tracing::error!(%instance, error = cause, "request failed");
        Self::Internal(instance)
    }

    /// What is told besides the body.
    pub(super) fn headers(&self) -> HeaderMap {
        match self {
            Self::Unauthorized => {
                HeaderMap::from_iter([(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))])
            }
            Self::Unavailable | Self::NoWrites(_) => HeaderMap::from_iter([(header::RETRY_AFTER, RETRY_AFTER_S)]),
            Self::RateLimited(_, standing) => {
                let retry_after = (header::RETRY_AFTER, HeaderValue::from(standing.in_s));
                limits::fields(standing).into_iter().chain([retry_after]).collect()
            }
            Self::IdempotencyConflict(_)
            | Self::IdempotencyKeyReused(_)
            | Self::InvalidRequest(_)
            | Self::Unprocessable(_)
            | Self::Internal(_)
            | Self::Forbidden
            | Self::NotFound
            | Self::Conflict(_)
            | Self::PayloadTooLarge(_)
            | Self::UnsupportedMediaType
            | Self::MethodNotAllowed => HeaderMap::new(),
        }
    }

    /// What whoever filled in a form can mend; the error is all else.
    pub(super) fn mendable(self) -> Result<FieldError, Self> {
        match self {
            Self::InvalidRequest(error) | Self::Unprocessable(error) => Ok(error),
            Self::Conflict(rule) => Ok(FieldError::new("", rule)),
            Self::PayloadTooLarge(_) => Ok(FieldError::new("", self.detail())),
            Self::Unauthorized
            | Self::Forbidden
            | Self::NotFound
            | Self::IdempotencyConflict(_)
            | Self::IdempotencyKeyReused(_)
            | Self::UnsupportedMediaType
            | Self::MethodNotAllowed
            | Self::RateLimited(..)
            | Self::Unavailable
            | Self::NoWrites(_)
            | Self::Internal(_) => Err(self),
        }
    }

    /// The problem as the caller reads it.
    pub(super) fn body(self) -> ProblemBody {
        let (status, slug, title) = self.kind();
        let mut body = ProblemBody {
            kind: format!("https://revnoxa.com/problems/{slug}"),
            title,
            status: status.as_u16(),
            detail: self.detail(),
            errors: Vec::new(),
            instance: None,
        };
        match self {
            Self::IdempotencyConflict(error)
            | Self::IdempotencyKeyReused(error)
            | Self::InvalidRequest(error)
            | Self::Unprocessable(error) => body.errors.push(error),
            Self::RateLimited(error, _) => body.errors.extend((!error.field.is_empty()).then_some(error)),
            Self::Internal(instance) => body.instance = Some(instance.urn().to_string()),
            Self::Unauthorized
            | Self::Unavailable
            | Self::NoWrites(_)
            | Self::Forbidden
            | Self::NotFound
            | Self::Conflict(_)
            | Self::PayloadTooLarge(_)
            | Self::UnsupportedMediaType
            | Self::MethodNotAllowed => {}
        }
        body
    }

    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The token may not do this"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict", "Contradicts what is there"),
            Self::IdempotencyConflict(_) => {
                (StatusCode::CONFLICT, "idempotency-conflict", "Used before with another body")
            }
            Self::IdempotencyKeyReused(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", "Used before with another request")
            }
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid-request", "The request is not readable"),
            Self::Unprocessable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", "The request breaks a rule"),
            Self::PayloadTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "Too large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Unsupported media type")
            }
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed"),
            Self::RateLimited(..) => (StatusCode::TOO_MANY_REQUESTS, "rate-limited", "Too many requests"),
            Self::Unavailable | Self::NoWrites(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not possible at the moment")
            }
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Our fault"),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unauthorized => "send a valid token as `Authorization: Bearer …`".into(),
            Self::Forbidden => "this token's scope does not cover this call".into(),
            Self::NotFound => "there is no such thing here".into(),
            Self::Conflict(detail) => detail.clone(),
            Self::IdempotencyConflict(error)
            | Self::IdempotencyKeyReused(error)
            | Self::InvalidRequest(error)
            | Self::Unprocessable(error)
            | Self::RateLimited(error, _) => {
                if error.field.is_empty() {
                    error.rule.clone()
                } else {
                    format!("`{}`: {}", error.field, error.rule)
                }
            }
            Self::PayloadTooLarge(limit) => format!("the body must be at most {limit} bytes"),
            Self::UnsupportedMediaType => "the body must be sent as `Content-Type: application/json`".into(),
            Self::MethodNotAllowed => "this path does not have this method".into(),
            Self::Unavailable => "try again; with an id or an Idempotency-Key that is safe".into(),
            Self::NoWrites(why) => format!("the database answers and takes no writes: {why}"),
            Self::Internal(_) => "the error is in our log under this `instance`".into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the database failed");
                Self::Unavailable
            }
            StoreError::Unreadable { .. } => Self::internal(&error),
        }
    }
}

impl From<TestError> for Problem {
    fn from(error: TestError) -> Self {
        match error {
            TestError::Stopping
            | TestError::Busy
            | TestError::Overtaken
            | TestError::Accept(AcceptError::Unavailable) => Self::Unavailable,
            TestError::Gone | TestError::Accept(AcceptError::UnknownTenant(_)) => Self::NotFound,
            TestError::Accept(AcceptError::Conflict(_) | AcceptError::TooManyDeliveries) => Self::internal(&error),
            TestError::Store(error) => error.into(),
        }
    }
}

impl From<PluginError> for Problem {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::NotFound => Self::NotFound,
            PluginError::NameTaken
            | PluginError::BuiltIn
            | PluginError::Attached { .. }
            | PluginError::TooManyPlugins
            | PluginError::TooManyVersions
            | PluginError::TooManyBytes => Self::Conflict(error.to_string()),
            PluginError::Store(error) => error.into(),
        }
    }
}

impl From<AttachError> for Problem {
    fn from(error: AttachError) -> Self {
        let field = |at: usize, field: &str| format!("items[{at}].{field}");
        match error {
            AttachError::NotFound => Self::NotFound,
            AttachError::UnknownVersion(at) => Self::Unprocessable(FieldError::new(field(at, "version"), error)),
            AttachError::UnknownBaseline(at) => Self::Unprocessable(FieldError::new(field(at, "baseline"), error)),
            AttachError::TooMuchSettings => Self::Unprocessable(FieldError::new("items", error)),
            AttachError::Store(error) => error.into(),
        }
    }
}

impl Problem {
    /// `field` names the tenant whose quota is used up; empty: it is the caller's.
    pub(super) fn over_limit(field: impl Into<String>, over: OverLimit) -> Self {
        let error = FieldError::new(field, &over);
        match over {
            OverLimit::Later(standing) => Self::RateLimited(error, standing),
            // It would not help to try again.
            OverLimit::Never(_) => Self::Unprocessable(error),
        }
    }

    /// `field` names a field of the event at an index; `keyed` tells whether that event goes by the idempotency key.
    pub(super) fn of_events(
        error: IngestError,
        field: impl Fn(usize, &str) -> String,
        keyed: impl Fn(usize) -> bool,
    ) -> Self {
        match error {
            IngestError::UnknownTenant(at) => Self::Unprocessable(FieldError::new(field(at, "tenant"), error)),
            IngestError::UnknownType(at) => Self::Unprocessable(FieldError::new(field(at, "type"), error)),
            IngestError::OverLimit(at, over) => Self::over_limit(field(at, "tenant"), over),
            IngestError::Conflict(at) if keyed(at) => {
                Self::IdempotencyKeyReused(FieldError::new("Idempotency-Key", "was used before with another request"))
            }
            IngestError::Conflict(at) => {
                Self::IdempotencyConflict(FieldError::new(field(at, "id"), "was used before with another body"))
            }
            IngestError::TooManyDeliveries => Self::Unprocessable(FieldError::new("", error)),
            IngestError::Unavailable => Self::Unavailable,
            IngestError::Store(error) => error.into(),
        }
    }
}
