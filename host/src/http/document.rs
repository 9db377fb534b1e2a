//! What the OpenAPI document says besides what each handler says of itself.

use serde_json::json;
use utoipa::Modify;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, Ref, RefOr};

use super::webhooks;

/// The document before the handlers' parts.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Revnoxa webhooks", description = include_str!("api.md")),
    modifiers(&Bearer),
    security(("token" = []))
)]
pub(super) struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// The document with the handlers' parts in it.
pub(super) fn completed(mut document: OpenApi) -> OpenApi {
    link_pages(&mut document);
    webhooks::describe(&mut document);
    document
}

/// What can be asked for by `cursor` comes in pages, whose answers link to others.
fn link_pages(document: &mut OpenApi) {
    const LINK: &str = "Link";
    let link = HeaderBuilder::new()
        .description(Some("RFC 8288: `rel=\"first\"` leads to the first page by the same filters, `rel=\"next\"` to the next; that is left out on the last page."))
        .example(Some(json!(r#"</v1/tenants?limit=2>; rel="first", </v1/tenants?limit=2&cursor=YWNtZQ>; rel="next""#)));
    document.components.get_or_insert_default().headers.insert(LINK.to_owned(), link.build().into());
    let operations = document.paths.paths.values_mut().filter_map(|path| path.get.as_mut());
    for operation in operations {
        let mut parameters = operation.parameters.iter().flatten();
        let paged = parameters.any(|known| matches!(known, RefOr::T(parameter) if parameter.name == "cursor"));
        if paged && let Some(RefOr::T(answer)) = operation.responses.responses.get_mut("200") {
            answer.headers.insert(LINK.to_owned(), RefOr::Ref(Ref::new(format!("#/components/headers/{LINK}"))));
        }
    }
}
