//! One version of a plugin: what its calls came to, and forms to try it.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use jiff::Timestamp;
use serde::Deserialize;

use super::super::AppState;
use super::super::auth::PathId;
use super::super::body::Params;
use super::super::plugins as api;
use super::super::problem::{FieldError, Problem};
use super::attachments::editable;
use super::plugins::example_settings;
use super::session::{Pressed, Submitted, Visitor};
use super::trials::{Called, DryRunForm, ReplayForm, Replayed};
use super::{OnPage, Page, PageError, Section, Shell, filters, with_status};
use crate::chain::REPLAY_LIMIT;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::EndpointId;
use crate::domain::plugin::{Decision, FailureKind, PluginName, Version};
use crate::store::PageRequest;

/// Endpoints and event types that the forms offer.
const OFFERED: u32 = 100;

#[derive(Template)]
#[template(path = "settings/plugin_version.html")]
struct VersionPage {
    shell: Shell,
    plugin: PluginName,
    version: Version,
    /// Whether it is a plugin that no tenant can change.
    built_in: bool,
    size: usize,
    created_at: Timestamp,
    usage: Usage,
    types: Vec<String>,
    endpoints: Vec<Offered>,
    /// There are more endpoints than are offered.
    more_endpoints: bool,
    dry_run: DryRunForm,
    replay: ReplayForm,
    tried: Tried,
}

struct Usage {
    calls: u64,
    cpu: Duration,
    memory_peak: usize,
    /// By kind, the most frequent first.
    failures: Vec<(FailureKind, u64)>,
}

struct Offered {
    id: EndpointId,
    url: String,
}

/// What the visitor just tried came to.
pub(super) enum Tried {
    Nothing,
    DryRun(Called),
    Replay(Replayed),
    NotRun(FieldError),
    NotReplayed(FieldError),
    NotDeleted(FieldError),
}

/// What it is tried for.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Purpose {
    /// An endpoint, which gets it or has it already.
    pub(super) endpoint: String,
}

pub(super) async fn show(
    State(state): State<AppState>,
    visitor: Visitor,
    OnPage(PathId(plugin)): OnPage<PathId<PluginName>>,
    OnPage(PathId(version)): OnPage<PathId<Version>>,
    OnPage(Params(purpose)): OnPage<Params<Purpose>>,
) -> Page {
    let endpoint = endpoint(&state, &visitor, &purpose.endpoint).await?;
    let attached = endpoint.iter().flat_map(|endpoint| &endpoint.plugins).find(|attached| attached.plugin == plugin);
    let settings =
        attached.map_or_else(|| example_settings(&plugin).to_owned(), |attached| editable(&attached.settings));
    let (dry_run, replay) = (DryRunForm::example(settings), ReplayForm::of(purpose.endpoint));
    version_page(&state, &visitor, (plugin, version), dry_run, replay, Tried::Nothing).await
}

pub(super) async fn delete(
    State(state): State<AppState>,
    OnPage(PathId(plugin)): OnPage<PathId<PluginName>>,
    OnPage(PathId(version)): OnPage<PathId<Version>>,
    submitted: Submitted<Pressed>,
) -> Page {
    let visitor = submitted.visitor;
    let deleted =
        api::delete_version(State(state.clone()), visitor.acts(), PathId(plugin.clone()), PathId(version)).await;
    match deleted {
        Ok(_) => Ok(Redirect::to(&format!("/settings/webhooks/plugins/{plugin}")).into_response()),
        Err(problem) => {
            let dry_run = DryRunForm::example(example_settings(&plugin).to_owned());
            let replay = ReplayForm::of(String::new());
            let refused = Tried::NotDeleted(problem.mendable()?);
            version_page(&state, &visitor, (plugin, version), dry_run, replay, refused).await
        }
    }
}

/// The page with both forms as they were filled in, and what was tried.
pub(super) async fn version_page(
    state: &AppState,
    visitor: &Visitor,
    (plugin, version): (PluginName, Version),
    dry_run: DryRunForm,
    replay: ReplayForm,
    tried: Tried,
) -> Page {
    let tenant = &visitor.tenant;
    let record = state.store.version(tenant, &plugin, version).await?.ok_or(Problem::NotFound)?;
    let built_in = state.store.plugin(tenant, &plugin).await?.is_some_and(|plugin| plugin.built_in);
    let used = state.store.plugin_usage(tenant, &plugin, version).await?;
    let mut failures: Vec<(FailureKind, u64)> = used.failures.into_iter().collect();
    failures.sort_by_key(|(kind, calls)| (std::cmp::Reverse(*calls), kind.name()));
    let memory_peak = usize::try_from(used.memory_peak_bytes).unwrap_or(usize::MAX);
    let types = state.store.event_types(&PageRequest { limit: OFFERED, cursor: None }).await?.items;
    let mut types: Vec<String> = types.into_iter().map(|known| known.name.to_string()).collect();
    if !dry_run.event_type.is_empty() && !types.contains(&dry_run.event_type) {
        types.insert(0, dry_run.event_type.clone());
    }
    let known = state.store.endpoints(tenant, &PageRequest { limit: OFFERED, cursor: None }).await?;
    let offer = |endpoint: &Endpoint| Offered { id: endpoint.id, url: endpoint.url.as_str().to_owned() };
    let mut endpoints: Vec<Offered> = known.items.iter().map(offer).collect();
    if let Some(chosen) = endpoint(state, visitor, &replay.endpoint).await?
        && endpoints.iter().all(|offered| offered.id != chosen.id)
    {
        endpoints.insert(0, offer(&chosen));
    }
    let refused = matches!(tried, Tried::NotRun(_) | Tried::NotReplayed(_) | Tried::NotDeleted(_));
    let page = VersionPage {
        shell: visitor.shell(Section::Plugins),
        plugin,
        version,
        built_in,
        size: usize::try_from(record.size_bytes).unwrap_or(usize::MAX),
        created_at: record.created_at,
        usage: Usage { calls: used.calls, cpu: used.cpu, memory_peak, failures },
        types,
        endpoints,
        more_endpoints: known.next.is_some(),
        dry_run,
        replay,
        tried,
    };
    with_status(if refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }, page)
}

/// The tenant's endpoint of this id; `None`: it has none, or the text is no id.
async fn endpoint(state: &AppState, visitor: &Visitor, id: &str) -> Result<Option<Arc<Endpoint>>, PageError> {
    let Ok(id) = id.parse::<EndpointId>() else { return Ok(None) };
    Ok(state.store.endpoint(&visitor.tenant, id).await?)
}

impl VersionPage {
    /// The rule that a field of the dry run breaks.
    fn dry_run_error(&self, field: &str) -> Option<&str> {
        let Tried::NotRun(error) = &self.tried else { return None };
        // `event.type`
        (error.field.rsplit('.').next() == Some(field)).then_some(error.rule.as_str())
    }

    /// The rule that a field of the replay breaks.
    fn replay_error(&self, field: &str) -> Option<&str> {
        let Tried::NotReplayed(error) = &self.tried else { return None };
        (error.field == field).then_some(error.rule.as_str())
    }
}
