//! Trying plugins without sending anything: one call, or a replay of what an endpoint got.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::auth::{ForTenant, PathId};
use super::body::{Json, Object};
use super::problem::{FieldError, Problem, ProblemBody};
use super::{AppState, endpoints};
use crate::chain::{Decided, Difference, Input, REPLAY_LIMIT, Replay, Replayed, Unavailable};
use crate::domain::event::{DATA_LIMIT, EventType, request_body};
use crate::domain::id::{EndpointId, EventId, TenantId};
use crate::domain::plugin::{Changed, Failure, LogLine, PluginName, SETTINGS_LIMIT, Verdict, Version};
use crate::plugins::Report;

/// What to call a version with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DryRun {
    /// As when attached; `{}` when left out.
    #[schema(value_type = Option<Object>)]
    pub(super) settings: Option<Box<RawValue>>,
    /// A sample event; this or `event_id`.
    pub(super) event: Option<Object<Sample>>,
    /// One of your past events; this or `event`.
    #[schema(value_type = Option<String>)]
    pub(super) event_id: Option<String>,
}

/// An event that never happened.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// `evt_sample` when left out.
    #[schema(value_type = Option<String>)]
    pub(super) id: Option<String>,
    /// The event's type.
    #[serde(rename = "type")]
    #[schema(example = "incident.created")]
    pub(super) event_type: String,
    /// RFC 3339; now when left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) timestamp: Option<String>,
    /// Any JSON.
    #[schema(value_type = Object)]
    pub(super) data: Box<RawValue>,
}

/// What became of a call.
#[derive(Serialize, ToSchema)]
pub struct DryRunResult {
    /// `deliver`, `drop` or `failed`.
    verdict: &'static str,
    /// With `deliver`: the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<PluginRequest>,
    /// With `drop`: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// With `failed`: how.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, example = json!({"kind": "timed_out", "message": "took longer than 100ms"}))]
    error: Option<Failure>,
    /// What it logged, stdout (`info`) and stderr (`warn`) included.
    #[schema(value_type = Vec<Object>, example = json!([{"level": "info", "message": "hello"}]))]
    log: Vec<LogLine>,
    /// Whether it logged more than is kept.
    log_truncated: bool,
    /// Wall time, making the instance included.
    duration_us: u64,
    /// CPU time.
    cpu_us: u64,
    /// Linear memory at the most.
    memory_bytes: u64,
}

/// A request as a plugin would have it sent.
#[derive(Serialize, ToSchema)]
pub struct PluginRequest {
    /// The body, bytes that are not UTF-8 replaced.
    pub(super) body: String,
    /// The headers it adds.
    pub(super) headers: BTreeMap<String, String>,
}

/// Which events to run a version over.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// The endpoint whose events and other plugins are taken.
    pub(super) endpoint: String,
    /// Events, the newest first; 1 to 1,000; 100 when left out.
    #[schema(minimum = 1, maximum = 1000)]
    pub(super) last: Option<usize>,
    /// Instead of those it is attached with; `{}` where it is not attached.
    #[schema(value_type = Option<Object>)]
    pub(super) settings: Option<Box<RawValue>>,
}

/// What a version would change.
#[derive(Serialize, ToSchema)]
pub(super) struct ReplayResult {
    /// How many of the events: `unchanged`, `changed`, `dropped`, `failed`.
    pub(super) summary: BTreeMap<&'static str, usize>,
    /// False: the time for one replay (60 s) ended before the last event.
    pub(super) complete: bool,
    /// The newest event first.
    pub(super) items: Vec<ReplayedEvent>,
}

/// What a version would change for one event.
#[derive(Serialize, ToSchema)]
pub(super) struct ReplayedEvent {
    #[schema(value_type = String)]
    pub(super) event_id: EventId,
    /// `unchanged`, `changed`, `dropped` or `failed`.
    pub(super) result: &'static str,
    /// With `dropped`: the reason; with `failed`: how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// With `changed`: as attached now. Both are left out when the bodies of one answer exceed 8 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Side>,
    /// With `changed`: with the new version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Side>,
}

/// What happens to an event.
#[derive(Serialize, ToSchema)]
pub(super) struct Side {
    /// `deliver`, `drop` or `fail`.
    pub(super) verdict: &'static str,
    /// With `deliver`: the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<PluginRequest>,
    /// Otherwise: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

/// Calls a version once, on a sample or a past event; nothing is sent or stored.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/plugins/{plugin}/versions/{digest}/dry-run", tag = "plugins",
    params(("tenant" = String, Path), ("plugin" = String, Path), ("digest" = String, Path)), request_body = DryRun, responses(
    (status = 200, body = DryRunResult), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)
))]
pub(super) async fn dry_run(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(plugin): PathId<PluginName>,
    PathId(version): PathId<Version>,
    Json(request): Json<DryRun>,
) -> Result<axum::Json<DryRunResult>, Problem> {
    let (_, report) = call_once(&state, tenant, &plugin, version, request).await?;
    Ok(axum::Json(DryRunResult::of(report)))
}

/// Calls a version once; gives the event that it was called with, too.
pub(super) async fn call_once(
    state: &AppState,
    tenant: TenantId,
    plugin: &PluginName,
    version: Version,
    request: DryRun,
) -> Result<(Input, Report), Problem> {
    state.store.version(&tenant, plugin, version).await?.ok_or(Problem::NotFound)?;
    let settings = settings(request.settings)?.unwrap_or_else(|| "{}".into());
    let input = match (request.event, request.event_id) {
        (Some(Object(sample)), None) => {
            let (event, event_type, body) = sample.event().map_err(|error| {
                Problem::Unprocessable(FieldError::new(format!("event.{}", error.field), error.rule))
            })?;
            Input { tenant, event, event_type, body }
        }
        (None, Some(id)) => {
            let absent = || Problem::Unprocessable(FieldError::new("event_id", "must be the id of one of your events"));
            let id: EventId = id.parse().map_err(|_| absent())?;
            let (event_type, body) = state.store.event(&tenant, &id).await?.ok_or_else(absent)?;
            Input { tenant, event: id, event_type, body }
        }
        _ => {
            return Err(Problem::Unprocessable(FieldError::new("event", "either `event` or `event_id` must be given")));
        }
    };
    let report = state.chain.try_version(plugin, version, &input, &settings).await?;
    Ok((input, report))
}

/// Runs a version over an endpoint's last events and tells what would be different; nothing is sent or stored.
///
/// Plugins are deterministic, so the answer holds for these events. The version stands where its plugin is attached,
/// or behind the other plugins where it is not, for all events and whatever its failure policy.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/plugins/{plugin}/versions/{digest}/replay", tag = "plugins",
    params(("tenant" = String, Path), ("plugin" = String, Path), ("digest" = String, Path)), request_body = ReplayRequest, responses(
    (status = 200, body = ReplayResult), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)
))]
pub(super) async fn replay(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(plugin): PathId<PluginName>,
    PathId(version): PathId<Version>,
    Json(request): Json<ReplayRequest>,
) -> Result<axum::Json<ReplayResult>, Problem> {
    state.store.version(&tenant, &plugin, version).await?.ok_or(Problem::NotFound)?;
    let refuse = |field: &str, rule: String| Problem::Unprocessable(FieldError::new(field, rule));
    let absent = || refuse("endpoint", "must be the id of one of your endpoints".to_owned());
    let endpoint: EndpointId = request.endpoint.parse().map_err(|_| absent())?;
    let endpoint = match endpoints::existing(&state, &tenant, endpoint).await {
        Err(Problem::NotFound) => return Err(absent()),
        found => found?,
    };
    let last = request.last.unwrap_or(100);
    if !(1..=REPLAY_LIMIT).contains(&last) {
        return Err(refuse("last", format!("must be 1 to {REPLAY_LIMIT}")));
    }
    let replay = Replay { plugin, version, settings: settings(request.settings)?, last };
    let (replayed, complete) = state.chain.replay(&endpoint, &replay).await?;
    let items: Vec<ReplayedEvent> = replayed.into_iter().map(ReplayedEvent::of).collect();
    let mut summary: BTreeMap<&str, usize> =
        ["unchanged", "changed", "dropped", "failed"].into_iter().map(|result| (result, 0)).collect();
    for item in &items {
        *summary.entry(item.result).or_default() += 1;
    }
    Ok(axum::Json(ReplayResult { summary, complete, items }))
}

fn settings(settings: Option<Box<RawValue>>) -> Result<Option<Arc<str>>, Problem> {
    let settings: Option<Arc<str>> = settings.map(|settings| settings.get().into());
    if settings.as_ref().is_some_and(|settings| settings.len() > SETTINGS_LIMIT) {
        let rule = format!("must be at most {SETTINGS_LIMIT} bytes");
        return Err(Problem::Unprocessable(FieldError::new("settings", rule)));
    }
    Ok(settings)
}

impl Sample {
    /// The event with the body that its receivers would get.
    pub fn event(self) -> Result<(EventId, EventType, bytes::Bytes), FieldError> {
        let refuse = |field: &str, rule: &dyn std::fmt::Display| FieldError::new(field, rule);
        let id = self.id.as_deref().unwrap_or("evt_sample");
        let id: EventId = id.parse().map_err(|rule: crate::domain::id::InvalidId| refuse("id", &rule))?;
        let event_type: EventType =
            self.event_type.parse().map_err(|rule: crate::domain::event::InvalidEventType| refuse("type", &rule))?;
        let now = Timestamp::now;
        let timestamp = self.timestamp.map_or_else(|| Ok(now()), |text| text.parse::<Timestamp>());
        let timestamp = timestamp.map_err(|_| refuse("timestamp", &"must be an RFC 3339 time"))?;
        if self.data.get().len() > DATA_LIMIT {
            return Err(refuse("data", &format_args!("must be at most {DATA_LIMIT} bytes")));
        }
        let body = request_body(&id, &event_type, timestamp, self.data.get());
        Ok((id, event_type, body))
    }
}

impl DryRunResult {
    /// What the report says.
    #[must_use]
    pub fn of(report: Report) -> Self {
        let us = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let mut result = Self {
            verdict: "failed",
            request: None,
            reason: None,
            error: None,
            log: report.log,
            log_truncated: report.log_truncated,
            duration_us: us(report.duration),
            cpu_us: us(report.cpu),
            memory_bytes: report.memory_bytes,
        };
        match report.result {
            Ok(Verdict::Deliver(changed)) => {
                result.verdict = "deliver";
                result.request = Some(PluginRequest::of(&changed));
            }
            Ok(Verdict::Drop(reason)) => {
                result.verdict = "drop";
                result.reason = Some(reason);
            }
            Err(error) => result.error = Some(error),
        }
        result
    }

    /// Whether there is a verdict.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.error.is_none()
    }
}

impl PluginRequest {
    fn of(changed: &Changed) -> Self {
        let headers = changed.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { body: String::from_utf8_lossy(&changed.body).into_owned(), headers }
    }
}

impl ReplayedEvent {
    fn of(replayed: Replayed) -> Self {
        let mut event = Self { event_id: replayed.event, result: "unchanged", detail: None, before: None, after: None };
        match replayed.difference {
            Difference::Unchanged => {}
            Difference::Changed(sides) => {
                event.result = "changed";
                if let Some((before, after)) = sides.map(|sides| *sides) {
                    event.before = Some(Side::of(before));
                    event.after = Some(Side::of(after));
                }
            }
            Difference::Dropped(reason) => {
                event.result = "dropped";
                event.detail = Some(reason);
            }
            Difference::Failed(how) => {
                event.result = "failed";
                event.detail = Some(how);
            }
        }
        event
    }
}

impl Side {
    fn of(decided: Decided) -> Self {
        match decided {
            Decided::Deliver(changed) => {
                Self { verdict: "deliver", request: Some(PluginRequest::of(&changed)), detail: None }
            }
            Decided::Drop(reason) => Self { verdict: "drop", request: None, detail: Some(reason) },
            Decided::Fail(how) => Self { verdict: "fail", request: None, detail: Some(how) },
        }
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::Missing => Self::NotFound,
            Unavailable::Refused(refused) => refused.into(),
            Unavailable::Store(error) => error.into(),
        }
    }
}
