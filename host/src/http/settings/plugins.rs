//! The list of plugins, and one plugin with its versions.

use std::collections::HashMap;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use jiff::Timestamp;
use serde::Deserialize;

use super::super::AppState;
use super::super::auth::PathId;
use super::super::body::{Json, Params};
use super::super::plugins::{self as api, NewPlugin};
use super::super::problem::{FieldError, Problem};
use super::super::upload::Uploaded;
use super::plugin_version::Purpose;
use super::session::{Pressed, Submitted, Visitor};
use super::{OnPage, Page, PageError, Section, Shell, filters, page, with_status};
use crate::domain::id::EndpointId;
use crate::domain::plugin::{PluginName, Version};
use crate::store::{PageRequest, PluginRecord, VersionRecord};

/// Plugins of one page of the store; a tenant has few more than this.
const PLUGINS_READ: u32 = 100;
/// Versions that a page shows or offers: a tenant's plugin has no more.
const VERSIONS_SHOWN: u32 = 100;
/// Endpoints that a plugin's page names.
const ENDPOINTS_SHOWN: u32 = 25;

#[derive(Template)]
#[template(path = "settings/plugins.html")]
struct ListPage {
    shell: Shell,
    own: Vec<PluginRecord>,
    built_in: Vec<PluginRecord>,
    /// To how many endpoints each is attached.
    attached: HashMap<PluginName, u64>,
    form: PluginForm,
    error: Option<FieldError>,
}

/// A plugin to be created.
#[derive(Default, Deserialize)]
pub(super) struct PluginForm {
    name: String,
}

pub(super) async fn list(State(state): State<AppState>, visitor: Visitor) -> Page {
    list_page(&state, &visitor, PluginForm::default(), None).await
}

pub(super) async fn create(State(state): State<AppState>, submitted: Submitted<PluginForm>) -> Page {
    let Submitted { visitor, form } = submitted;
    let new = Json(NewPlugin { name: form.name.trim().to_owned() });
    match api::create(State(state.clone()), visitor.acts(), new).await {
        Ok((_, axum::Json(created))) => {
            Ok(Redirect::to(&format!("/settings/webhooks/plugins/{}", created.name)).into_response())
        }
        Err(problem) => list_page(&state, &visitor, form, Some(problem.mendable()?)).await,
    }
}

async fn list_page(state: &AppState, visitor: &Visitor, form: PluginForm, error: Option<FieldError>) -> Page {
    let (built_in, own) = all_plugins(state, visitor).await?.into_iter().partition(|plugin| plugin.built_in);
    let attached = state.store.endpoints_by_plugin(&visitor.tenant).await?;
    let status = if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let shell = visitor.shell(Section::Plugins);
    with_status(status, ListPage { shell, own, built_in, attached, form, error })
}

/// All that a tenant may attach, by name.
pub(super) async fn all_plugins(state: &AppState, visitor: &Visitor) -> Result<Vec<PluginRecord>, PageError> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let request = PageRequest { limit: PLUGINS_READ, cursor };
        let mut read = state.store.plugins(&visitor.tenant, &request).await?;
        all.append(&mut read.items);
        cursor = read.next;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

/// A plugin's versions, the newest first; none where there is no such plugin.
pub(super) async fn versions(
    state: &AppState,
    visitor: &Visitor,
    name: &PluginName,
) -> Result<Vec<VersionRecord>, PageError> {
    let request = PageRequest { limit: VERSIONS_SHOWN, cursor: None };
    let read = state.store.versions(&visitor.tenant, name, &request).await?;
    Ok(read.map(|versions| versions.items).unwrap_or_default())
}

#[derive(Template)]
#[template(path = "settings/plugin.html")]
struct PluginPage {
    shell: Shell,
    plugin: PluginRecord,
    versions: Vec<VersionRow>,
    /// Where it is attached, each with its URL.
    endpoints: Vec<(EndpointId, String)>,
    /// The endpoint that a version is looked for; may be empty.
    purpose: String,
    notice: Option<Notice>,
}

struct VersionRow {
    version: Version,
    size: usize,
    created_at: Timestamp,
}

/// What the visitor just did came to.
pub(super) enum Notice {
    /// The checks found nothing.
    Ready(Uploaded),
    /// The checks found this.
    NotReady(FieldError),
    /// It stays as it was.
    Refused(FieldError),
}

pub(super) async fn show(
    State(state): State<AppState>,
    visitor: Visitor,
    OnPage(PathId(name)): OnPage<PathId<PluginName>>,
    OnPage(Params(purpose)): OnPage<Params<Purpose>>,
) -> Page {
    plugin_page(&state, &visitor, &name, purpose, None).await
}

pub(super) async fn delete(
    State(state): State<AppState>,
    OnPage(PathId(name)): OnPage<PathId<PluginName>>,
    submitted: Submitted<Pressed>,
) -> Page {
    let visitor = submitted.visitor;
    match api::delete(State(state.clone()), visitor.acts(), PathId(name.clone())).await {
        Ok(_) => Ok(Redirect::to("/settings/webhooks/plugins").into_response()),
        Err(problem) => {
            let refused = Notice::Refused(problem.mendable()?);
            plugin_page(&state, &visitor, &name, Purpose::default(), Some(refused)).await
        }
    }
}

/// One plugin, with what the visitor did to it.
pub(super) async fn plugin_page(
    state: &AppState,
    visitor: &Visitor,
    name: &PluginName,
    purpose: Purpose,
    notice: Option<Notice>,
) -> Page {
    let plugin = state.store.plugin(&visitor.tenant, name).await?.ok_or(Problem::NotFound)?;
    let row = |record: VersionRecord| VersionRow {
        version: record.version,
        size: usize::try_from(record.size_bytes).unwrap_or(usize::MAX),
        created_at: record.created_at,
    };
    let versions = versions(state, visitor, name).await?.into_iter().map(row).collect();
    let endpoints = state.store.endpoints_with_plugin(&visitor.tenant, name, ENDPOINTS_SHOWN).await?;
    let (shell, purpose) = (visitor.shell(Section::Plugins), purpose.endpoint);
    page(PluginPage { shell, plugin, versions, endpoints, purpose, notice })
}

impl ListPage {
    /// In words, for a row of the list.
    fn attached(&self, name: &PluginName) -> String {
        match self.attached.get(name) {
            None => "–".to_owned(),
            Some(1) => "1 endpoint".to_owned(),
            Some(endpoints) => format!("{endpoints} endpoints"),
        }
    }
}

/// What a plugin's settings may look like, for those whose words are known.
pub(super) fn example_settings(name: &PluginName) -> &'static str {
    match name.as_str() {
        "redact-fields" => "{\"fields\": [\"/data/reporter/email\"]}",
        "only-matching" => "{\"field\": \"/data/severity\", \"equals\": \"high\"}",
        _ => "{}",
    }
}
