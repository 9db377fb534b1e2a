//! Rate limits as callers meet them: their calls are counted, and answers tell what is left.
//!
//! The fields are those of <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/>; the partition key is the
//! tenant's id.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::http::{Extensions, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use utoipa::openapi::{Content, HeaderBuilder, Object, OpenApi, Ref, RefOr, ResponseBuilder, Type};

use super::problem::Problem;
use crate::domain::id::TenantId;
use crate::limits::{Quotas, Standing};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// `RateLimit-Policy` and `RateLimit`.
pub(super) type Fields = [(HeaderName, HeaderValue); 2];

/// Counts what tenants' own tokens and people call.
pub(super) struct Calls(Option<Quotas>);

/// Where whoever counts a call leaves for its answer what is left.
#[derive(Clone, Default)]
struct Counted(Arc<OnceLock<Standing>>);

impl Calls {
    /// Without quotas nothing is refused.
    pub(super) fn new(quotas: Option<Quotas>) -> Self {
        Self(quotas)
    }

    /// Counts a call of the tenant; `extensions` are those of the request.
    pub(super) fn count(&self, tenant: &TenantId, extensions: &Extensions) -> Result<(), Problem> {
        let Some(quotas) = &self.0 else { return Ok(()) };
        let standing = quotas.take(tenant, 1).map_err(|over| Problem::over_limit("", over))?;
        if let Some(Counted(counted)) = extensions.get() {
            // Nobody counts a request twice.
            let _ = counted.set(standing);
        }
        Ok(())
    }
}

/// Adds to the answer to a call that was counted what is left.
pub(super) async fn tell(mut request: Request, next: Next) -> Response {
    let counted = Counted::default();
    request.extensions_mut().insert(counted.clone());
    let mut response = next.run(request).await;
    // Whoever minds the fields would wait before following a redirect.
    if let Some(standing) = counted.0.get()
        && !response.status().is_redirection()
    {
        response.headers_mut().extend(fields(standing));
    }
    response
}

/// What is to be told of a tenant's quota.
pub(super) fn fields(standing: &Standing) -> Fields {
    let Standing { tenant, counted, quota, left, in_s } = standing;
    let (name, units, window_s) = (counted.name(), quota.units(), quota.window_s());
    let key = Base64Display::new(tenant.as_str().as_bytes(), &STANDARD);
    let value = |text: String| HeaderValue::try_from(text).expect("visible ASCII");
    [
        (POLICY, value(format!("\"{name}\";q={units};w={window_s}"))),
        (LIMIT, value(format!("\"{name}\";r={left};t={in_s};pk=:{key}:"))),
    ]
}

/// Adds to the description of each call of the API that it may be refused.
pub(super) fn describe(document: &mut OpenApi) {
    const NAME: &str = "RateLimited";
    let text = |description: &str| HeaderBuilder::new().description(Some(description)).build();
    let seconds = HeaderBuilder::new()
        .schema(Some(Object::with_type(Type::Integer)))
        .description(Some("Seconds until the same request fits"))
        .build();
    let response = ResponseBuilder::new()
        .description("The tenant's quota of events or of calls is used up; nothing was done")
        .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))))
        .header("Retry-After", seconds)
        .header("RateLimit-Policy", text("The quota `q` and its window `w` in seconds: `\"api\";q=6000;w=60`"))
        .header("RateLimit", text("What is left, `r`, for so many seconds, `t`; `pk` is the tenant's id in base64"))
        .build();
    let components = document.components.get_or_insert_default();
    components.responses.insert(NAME.to_owned(), RefOr::T(response));
    for (_, item) in document.paths.paths.iter_mut().filter(|(path, _)| path.starts_with("/v1/")) {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let limited = RefOr::Ref(Ref::from_response_name(NAME));
            operation.responses.responses.insert("429".to_owned(), limited);
        }
    }
}
