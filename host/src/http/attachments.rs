//! What is attached to an endpoint.

use std::borrow::Cow;

use axum::extract::{Request, State};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::auth::{ForTenant, PathId};
use super::list::List;
use super::problem::{FieldError, Problem, ProblemBody};
use super::{AppState, body, endpoints};
use crate::domain::id::{EndpointId, TenantId};
use crate::domain::plugin::{
    self, ATTACHMENTS_LIMIT, InvalidName, InvalidVersion, OnError, PluginName, Rollout, SETTINGS_LIMIT, Version,
};

/// Bytes of a request: all settings, and room for the rest, white space included.
const BODY_LIMIT: usize = ATTACHMENTS_LIMIT * SETTINGS_LIMIT + 16 * 1024;

/// All that is to be attached to an endpoint; a bare list of it will do.
#[derive(ToSchema)]
#[expect(dead_code, reason = "tells the document what `body::parse_items` reads")]
pub(super) struct NewAttachments {
    /// In the order they run; none detaches all.
    #[schema(max_items = 8)]
    items: Vec<NewAttachment<'static>>,
}

/// A plugin to be attached.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAttachment<'r> {
    /// One of the tenant's plugins, or a built-in one.
    #[serde(borrow)]
    #[schema(value_type = String, example = "redact-fields")]
    pub(super) plugin: Cow<'r, str>,
    /// `sha256:…`; left out or null: the plugin's newest version at this time.
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    pub(super) version: Option<Cow<'r, str>>,
    /// Any JSON of at most 64 KiB, given to each call as it stands here; left out: `{}`.
    #[serde(borrow, default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    pub(super) settings: Option<&'r RawValue>,
    /// What follows when it fails: `retry` (default): the attempt has failed and the retry schedule goes on; `skip`: the
    /// event goes on without it; `drop`: the event is dropped.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "retry")]
    pub(super) on_error: OnError,
    /// Share of the events, 0 to 100, that `version` runs for; left out or null: all.
    #[schema(minimum = 0, maximum = 100)]
    pub(super) percent: Option<i64>,
    /// The version that runs for the other events, only together with `percent`; left out or null: they pass by.
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    pub(super) baseline: Option<Cow<'r, str>>,
}

/// A plugin on an endpoint.
#[derive(Serialize, ToSchema)]
pub(super) struct Attachment {
    #[schema(value_type = String, example = "redact-fields")]
    plugin: PluginName,
    #[schema(value_type = String)]
    version: Version,
    /// As it was given.
    #[schema(value_type = Object)]
    settings: Box<RawValue>,
    /// `retry`, `skip` or `drop`.
    on_error: &'static str,
    /// Null: it runs for all events.
    percent: Option<u8>,
    /// Null: the other events pass by, or there are none.
    #[schema(value_type = Option<String>)]
    baseline: Option<Version>,
}

/// Lists what is attached to an endpoint, in the order it runs.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/endpoints/{endpoint}/plugins", tag = "plugins", params(("tenant" = String, Path), ("endpoint" = String, Path)), responses(
    (status = 200, body = List<Attachment>), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)
))]
pub(super) async fn list(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<EndpointId>,
) -> Result<axum::Json<List<Attachment>>, Problem> {
    attached(&state, &tenant, id).await
}

/// Replaces all that is attached to an endpoint, or nothing. Attempts that begin later run it; what plugins made of a
/// delivery before stays.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/endpoints/{endpoint}/plugins", tag = "plugins", params(("tenant" = String, Path), ("endpoint" = String, Path)), request_body = NewAttachments, responses(
    (status = 200, body = List<Attachment>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)
))]
pub(super) async fn replace(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(id): PathId<EndpointId>,
    request: Request,
) -> Result<axum::Json<List<Attachment>>, Problem> {
    let bytes = body::read(request, BODY_LIMIT).await?;
    attach(&state, &tenant, id, body::parse_items(&bytes)?).await?;
    attached(&state, &tenant, id).await
}

/// Replaces all that is attached to an endpoint by `items`, or nothing.
pub(super) async fn attach(
    state: &AppState,
    tenant: &TenantId,
    id: EndpointId,
    items: Vec<NewAttachment<'_>>,
) -> Result<(), Problem> {
    if items.len() > ATTACHMENTS_LIMIT {
        return Err(refused("items", format_args!("must be at most {ATTACHMENTS_LIMIT}")));
    }
    let mut attachments = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        attachments.push(vet(state, tenant, at, item).await?);
    }
    Ok(state.store.attach(tenant, id, attachments).await?)
}

async fn attached(
    state: &AppState,
    tenant: &TenantId,
    id: EndpointId,
) -> Result<axum::Json<List<Attachment>>, Problem> {
    let endpoint = endpoints::existing(state, tenant, id).await?;
    Ok(axum::Json(List { items: endpoint.plugins.iter().map(shown).collect(), next_cursor: None }))
}

async fn vet(
    state: &AppState,
    tenant: &TenantId,
    at: usize,
    item: NewAttachment<'_>,
) -> Result<plugin::Attachment, Problem> {
    let field = |name: &str| format!("items[{at}].{name}");
    let version =
        |name: &str, text: Cow<'_, str>| text.parse().map_err(|rule: InvalidVersion| refused(&field(name), rule));
    let plugin: PluginName = item.plugin.parse().map_err(|rule: InvalidName| refused(&field("plugin"), rule))?;
    let known = state.store.plugin(tenant, &plugin).await?;
    let known = known.ok_or_else(|| refused(&field("plugin"), "must be one of GET /v1/tenants/{tenant}/plugins"))?;
    let chosen = match item.version {
        Some(text) => version("version", text)?,
        None => known.newest.ok_or_else(|| refused(&field("plugin"), "must have a version to be attached"))?,
    };
    let baseline = item.baseline.map(|text| version("baseline", text)).transpose()?;
    let rollout = match (item.percent, baseline) {
        (Some(percent), baseline) => {
            Some(Rollout::new(percent, baseline).map_err(|rule| refused(&field("percent"), rule))?)
        }
        (None, Some(_)) => return Err(refused(&field("baseline"), "must be left out where `percent` is")),
        (None, None) => None,
    };
    let settings = item.settings.map_or("{}", RawValue::get);
    if settings.len() > SETTINGS_LIMIT {
        return Err(refused(&field("settings"), format_args!("must be at most {SETTINGS_LIMIT} bytes")));
    }
    Ok(plugin::Attachment { plugin, version: chosen, rollout, settings: settings.into(), on_error: item.on_error })
}

fn shown(attachment: &plugin::Attachment) -> Attachment {
    let settings = RawValue::from_string(attachment.settings.to_string());
    Attachment {
        plugin: attachment.plugin.clone(),
        version: attachment.version,
        settings: settings.expect("only JSON is attached"),
        on_error: attachment.on_error.name(),
        percent: attachment.rollout.map(Rollout::percent),
        baseline: attachment.rollout.and_then(|rollout| rollout.baseline),
    }
}

fn refused(field: &str, rule: impl std::fmt::Display) -> Problem {
    Problem::Unprocessable(FieldError::new(field, rule))
}

/// Tells null, which is JSON as well, from a field left out.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
