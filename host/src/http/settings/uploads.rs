//! Uploading a version from a plugin's page: as a form, or by the page's script, which shows the progress.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;

use super::super::auth::PathId;
use super::super::problem::Problem;
use super::super::upload::{self as api, Turn};
use super::super::{AppState, body};
use super::multipart::UploadForm;
use super::plugin_version::Purpose;
use super::plugins::{Notice, plugin_page};
use super::session::{CSRF_HEADER, Sender};
use super::{OnPage, Page, PageError};
use crate::domain::plugin::PluginName;

/// Bytes of a form besides the file.
const FORM_ROOM: usize = 4 * 1024;

pub(super) async fn by_form(
    State(state): State<AppState>,
    OnPage(PathId(name)): OnPage<PathId<PluginName>>,
    request: Request,
) -> Page {
    let (mut parts, sent) = request.into_parts();
    let admitted = admit(&state, &name, Sender::from_request_parts(&mut parts, &state).await).await;
    let kind = parts.headers.remove(CONTENT_TYPE);
    let request = Request::from_parts(parts, sent);
    let (sender, turn) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => {
            body::discard(request).await;
            return Err(refused);
        }
    };
    let limit = state.chain.plugins().settings().upload_with_engine + FORM_ROOM;
    let form = UploadForm::read(kind, body::read_any(request, limit).await?).await?;
    let visitor = sender.vouched(Some(&form.csrf))?;
    let taken = api::take(&state, &visitor.tenant, &name, form.component).await;
    drop(turn);
    let notice = match taken {
        Ok(uploaded) => Notice::Ready(uploaded),
        Err(problem) => Notice::NotReady(problem.mendable()?),
    };
    plugin_page(&state, &visitor, &name, Purpose::default(), Some(notice)).await
}

/// The sender's turn: the token is in the body, which is not read before.
async fn admit(
    state: &AppState,
    name: &PluginName,
    sender: Result<Sender, PageError>,
) -> Result<(Sender, Turn), PageError> {
    let sender = sender?;
    let turn = api::admit(state, sender.tenant(), name).await?;
    Ok((sender, turn))
}

/// The component alone, with the token as a header. What is answered is the API's, so that the script can read it.
pub(super) async fn by_script(
    State(state): State<AppState>,
    PathId(name): PathId<PluginName>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, sent) = request.into_parts();
    let sender = Sender::from_request_parts(&mut parts, &state).await.map_err(|PageError(problem)| problem);
    let token = parts.headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
    let visitor = sender.and_then(|sender| sender.vouched(token));
    let (headers, request) = (parts.headers.clone(), Request::from_parts(parts, sent));
    match visitor {
        Ok(visitor) => api::upload(State(state), visitor.acts(), PathId(name), headers, request).await,
        Err(refused) => {
            body::discard(request).await;
            Err(refused)
        }
    }
}
