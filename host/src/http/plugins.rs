//! Plugins, their versions, and how calls of them read.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{ForTenant, PathId};
use super::body::{Json, PageParams, Params};
use super::list::{List, Listed};
use super::problem::{FieldError, Problem, ProblemBody};
use super::{AppState, time};
use crate::domain::plugin::{self, Decision, InvalidName, PluginName};
use crate::store::{PluginRecord, PluginUsage, VersionRecord};

/// A plugin to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPlugin {
    /// `[a-z0-9][a-z0-9_-]{0,62}`, unique within the tenant, and no built-in plugin's.
    #[schema(example = "redact-emails")]
    pub(super) name: String,
}

/// A plugin: a name for the versions of one component.
#[derive(Serialize, ToSchema)]
pub(super) struct Plugin {
    /// The name, which stands in paths and attachments.
    #[schema(value_type = String, example = "redact-emails")]
    id: PluginName,
    #[schema(value_type = String, example = "redact-emails")]
    pub(super) name: PluginName,
    /// Built-in plugins are there for every tenant to attach, and for none to change.
    built_in: bool,
    #[schema(format = DateTime)]
    created_at: String,
    /// How many versions it has.
    versions: u64,
}

/// A version of a plugin: bytes that never change.
#[derive(Serialize, ToSchema)]
pub(super) struct Version {
    /// `sha256:` and the digest of its bytes.
    #[schema(value_type = String, example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    version: plugin::Version,
    size_bytes: u64,
    #[schema(format = DateTime)]
    created_at: String,
}

/// A version with what its calls came to.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionDetail {
    #[serde(flatten)]
    version: Version,
    usage: Usage,
}

/// What the calls of a version on deliveries came to, all together.
#[derive(Serialize, ToSchema)]
pub(super) struct Usage {
    /// How many.
    calls: u64,
    /// Their CPU time in microseconds.
    cpu_us: u64,
    /// Memory of the call that took most.
    memory_peak_bytes: u64,
    /// How many failed, by kind; kinds that did not happen are left out.
    #[schema(example = json!({"timed_out": 1}))]
    failures: BTreeMap<&'static str, u64>,
}

/// One call of a plugin.
#[derive(Serialize, ToSchema)]
pub(super) struct Run {
    #[schema(value_type = String, example = "redact-emails")]
    plugin: PluginName,
    #[schema(value_type = String)]
    version: plugin::Version,
    /// `deliver`, `drop` or `failed`.
    verdict: &'static str,
    /// Why it is to be dropped, in the plugin's words; left out: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How it failed; left out: it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    /// Wall time in microseconds.
    duration_us: u64,
    /// CPU time in microseconds.
    cpu_us: u64,
    /// Its memory at the most.
    memory_bytes: u64,
    /// What it logged.
    log: Vec<LogLine>,
    /// Whether it logged more than is kept.
    log_truncated: bool,
}

/// Why a call has no verdict.
#[derive(Serialize, ToSchema)]
pub(super) struct Failure {
    /// `trapped`, `out_of_memory`, `timed_out`, `output_too_large`, `bad_header`, `plugin_error`, `over_budget` or
    /// `unavailable`.
    kind: &'static str,
    /// In a few words, the plugin's own where it gave some.
    message: String,
}

/// One message of a plugin's log.
#[derive(Serialize, ToSchema)]
pub(super) struct LogLine {
    /// `debug`, `info`, `warn` or `error`.
    level: String,
    /// As the plugin wrote it: escape what is not fit to be shown.
    message: String,
}

/// Lists the plugins that a tenant may attach, its own and the built-in ones, by name.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/plugins", tag = "plugins", params(("tenant" = String, Path), PageParams), responses(
    (status = 200, body = List<Plugin>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody)
))]
pub(super) async fn list(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    uri: Uri,
    Params(page): Params<PageParams>,
) -> Result<Listed<Plugin>, Problem> {
    Ok(List::of(&uri, state.store.plugins(&tenant, &page.request()?).await?, shown))
}

/// Creates a plugin, without versions as yet.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/plugins", tag = "plugins", params(("tenant" = String, Path)), request_body = NewPlugin, responses(
    (status = 201, body = Plugin), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "The name is taken, or the tenant has 100 plugins"),
    (status = 422, body = ProblemBody)
))]
pub(super) async fn create(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    Json(new): Json<NewPlugin>,
) -> Result<(StatusCode, axum::Json<Plugin>), Problem> {
    let name = new.name.parse().map_err(|rule: InvalidName| Problem::Unprocessable(FieldError::new("name", rule)))?;
    Ok((StatusCode::CREATED, axum::Json(shown(state.store.create_plugin(&tenant, &name).await?))))
}

/// Reads a plugin.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/plugins/{plugin}", tag = "plugins", params(("tenant" = String, Path), ("plugin" = String, Path)), responses(
    (status = 200, body = Plugin), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)
))]
pub(super) async fn read(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(name): PathId<PluginName>,
) -> Result<axum::Json<Plugin>, Problem> {
    let found = state.store.plugin(&tenant, &name).await?.ok_or(Problem::NotFound)?;
    Ok(axum::Json(shown(found)))
}

/// Deletes a plugin with its versions.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/plugins/{plugin}", tag = "plugins", params(("tenant" = String, Path), ("plugin" = String, Path)), responses(
    (status = 204, description = "Deleted"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "It is attached to an endpoint, or built in")
))]
pub(super) async fn delete(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(name): PathId<PluginName>,
) -> Result<StatusCode, Problem> {
    state.store.delete_plugin(&tenant, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists a plugin's versions, the newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/plugins/{plugin}/versions", tag = "plugins", params(("tenant" = String, Path), ("plugin" = String, Path), PageParams), responses(
    (status = 200, body = List<Version>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody)
))]
pub(super) async fn list_versions(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(name): PathId<PluginName>,
    uri: Uri,
    Params(page): Params<PageParams>,
) -> Result<Listed<Version>, Problem> {
    let versions = state.store.versions(&tenant, &name, &page.request()?).await?.ok_or(Problem::NotFound)?;
    Ok(List::of(&uri, versions, version))
}

/// Reads a version, with what its calls on your deliveries came to.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/plugins/{plugin}/versions/{digest}", tag = "plugins", params(("tenant" = String, Path), ("plugin" = String, Path), ("digest" = String, Path)), responses(
    (status = 200, body = VersionDetail), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)
))]
pub(super) async fn read_version(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(name): PathId<PluginName>,
    PathId(digest): PathId<plugin::Version>,
) -> Result<axum::Json<VersionDetail>, Problem> {
    let found = state.store.version(&tenant, &name, digest).await?.ok_or(Problem::NotFound)?;
    let usage = usage(state.store.plugin_usage(&tenant, &name, digest).await?);
    Ok(axum::Json(VersionDetail { version: version(found), usage }))
}

/// Deletes a version.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/plugins/{plugin}/versions/{digest}", tag = "plugins", params(("tenant" = String, Path), ("plugin" = String, Path), ("digest" = String, Path)), responses(
    (status = 204, description = "Deleted"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "It is attached to an endpoint, or the plugin is built in")
))]
pub(super) async fn delete_version(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(name): PathId<PluginName>,
    PathId(digest): PathId<plugin::Version>,
) -> Result<StatusCode, Problem> {
    state.store.delete_version(&tenant, &name, digest).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn version(record: VersionRecord) -> Version {
    Version { version: record.version, size_bytes: record.size_bytes, created_at: time(record.created_at) }
}

/// A call as histories show it.
pub(super) fn run(run: plugin::Run) -> Run {
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let (verdict, reason, error) = match run.decision {
        Decision::Deliver => ("deliver", None, None),
        Decision::Drop { reason } => ("drop", Some(reason), None),
        Decision::Failed { error } => {
            ("failed", None, Some(Failure { kind: error.kind.name(), message: error.message }))
        }
    };
    Run {
        plugin: run.plugin,
        version: run.version,
        verdict,
        reason,
        error,
        duration_us: micros(run.duration),
        cpu_us: micros(run.cpu),
        memory_bytes: run.memory_bytes,
        log: run.log.into_iter().map(|line| LogLine { level: line.level, message: line.message }).collect(),
        log_truncated: run.log_truncated,
    }
}

fn shown(record: PluginRecord) -> Plugin {
    Plugin {
        id: record.name.clone(),
        name: record.name,
        built_in: record.built_in,
        created_at: time(record.created_at),
        versions: record.versions,
    }
}

fn usage(usage: PluginUsage) -> Usage {
    Usage {
        calls: usage.calls,
        cpu_us: u64::try_from(usage.cpu.as_micros()).unwrap_or(u64::MAX),
        memory_peak_bytes: usage.memory_peak_bytes,
        failures: usage.failures.into_iter().map(|(kind, calls)| (kind.name(), calls)).collect(),
    }
}
