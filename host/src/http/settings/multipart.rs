//! The form that uploads a component, as browsers send it without a script.

use axum::body::Body;
use axum::extract::multipart::Multipart;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;

use super::super::problem::{FieldError, Problem};
use super::session::CSRF_FIELD;

/// Name of the file's control.
const COMPONENT_FIELD: &str = "component";

/// What the form says: `multipart/form-data` (RFC 7578), whose parts come in the order of the page.
pub(super) struct UploadForm {
    pub(super) csrf: String,
    pub(super) component: Bytes,
}

impl UploadForm {
    /// Reads a body that was received in whole, whose size was vetted.
    pub(super) async fn read(kind: Option<HeaderValue>, body: Bytes) -> Result<Self, Problem> {
        let mut request = Request::new(Body::from(body));
        request.headers_mut().extend(kind.map(|kind| (CONTENT_TYPE, kind)));
        DefaultBodyLimit::disable().apply(&mut request);
        let form = Multipart::from_request(request, &()).await;
        let mut form = form.map_err(|_| Problem::UnsupportedMediaType)?;
        let csrf = part(&mut form, CSRF_FIELD).await?;
        let csrf = String::from_utf8(csrf.into()).map_err(|_| Problem::Forbidden)?;
        Ok(Self { csrf, component: part(&mut form, COMPONENT_FIELD).await? })
    }
}

/// The next part, which must be this one.
async fn part(form: &mut Multipart, name: &str) -> Result<Bytes, Problem> {
    let unreadable = || Problem::InvalidRequest(FieldError::new(name, "must be a part of the form, in its place"));
    let next = form.next_field().await.map_err(|_| unreadable())?;
    let field = next.filter(|field| field.name() == Some(name)).ok_or_else(unreadable)?;
    field.bytes().await.map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(body: &str) -> Result<(String, Vec<u8>), Problem> {
        let body = body.replace('\n', "\r\n");
        let form =
            UploadForm::read(Some(HeaderValue::from_static("multipart/form-data; boundary=b")), body.into()).await;
        form.map(|form| (form.csrf, form.component.into()))
    }

    #[tokio::test]
    async fn the_token_comes_before_the_file() {
        let csrf = "--b\nContent-Disposition: form-data; name=\"csrf\"\n\ntoken\n";
        let file = "--b\nContent-Disposition: form-data; name=\"component\"; filename=\"p.wasm\"\nContent-Type: application/wasm\n\n\0asm\n--x\n";
        let (token, component) = read(&format!("{csrf}{file}--b--\n")).await.unwrap();
        assert_eq!((token.as_str(), component.as_slice()), ("token", b"\0asm\r\n--x".as_slice()));
        let empty = file.replace("\0asm\n--x", "");
        assert_eq!(read(&format!("{csrf}{empty}--b--\n")).await.unwrap().1, b"");
        for wrong in
            ["".to_owned(), csrf.to_owned(), file.to_owned(), format!("{file}{csrf}--b--\n"), format!("{csrf}--b--\n")]
        {
            assert!(read(&wrong).await.is_err(), "{wrong:?}");
        }
        assert!(matches!(UploadForm::read(None, Bytes::new()).await, Err(Problem::UnsupportedMediaType)));
    }
}
