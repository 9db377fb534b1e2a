//! Trying a version on a plugin's page: one call, or a replay over what an endpoint got.

use std::time::Duration;

use axum::extract::State;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::AppState;
use super::super::auth::PathId;
use super::super::body::{Json, Object};
use super::super::plugin_runs::{
    self as api, DryRun, PluginRequest, ReplayRequest, ReplayResult, ReplayedEvent, Sample, Side,
};
use super::super::problem::{FieldError, Problem};
use super::diff::Diff;
use super::plugin_version::{Tried, version_page};
use super::plugins::example_settings;
use super::session::Submitted;
use super::{OnPage, Page};
use crate::chain::REPLAY_LIMIT;
use crate::domain::id::EventId;
use crate::domain::plugin::{Decision, LogLine, PluginName, Verdict, Version};
use crate::plugins::Report;

/// Rows of the one comparison after a dry run.
const DRY_RUN_ROWS: usize = 1_000;
/// Events of a replay whose difference is shown, and rows of each.
const EVENTS_SHOWN: usize = 50;
const REPLAY_ROWS: usize = 100;

const EXAMPLE_DATA: &str = r#"{
  "id": "inc_2049",
  "title": "Checkout is down",
  "severity": "high",
  "reporter": {"name": "Ada Lovelace", "email": "ada@example.com"},
  "url": "https://example.com/incidents/2049"
}"#;

/// One call, as the form was filled in.
#[derive(Deserialize)]
pub(super) struct DryRunForm {
    /// `sample` or `past`.
    pub(super) on: String,
    #[serde(rename = "type")]
    pub(super) event_type: String,
    pub(super) data: String,
    pub(super) event_id: String,
    pub(super) settings: String,
    /// The endpoint that the version is tried for; may be empty.
    endpoint: String,
}

/// A replay, as the form was filled in.
#[derive(Deserialize)]
pub(super) struct ReplayForm {
    #[serde(default)]
    pub(super) endpoint: String,
    pub(super) last: String,
    pub(super) settings: String,
}

/// What a call came to.
pub(super) struct Called {
    pub(super) decision: Decision,
    /// With [`Decision::Deliver`].
    pub(super) request: Option<Changes>,
    pub(super) log: Vec<LogLine>,
    pub(super) log_truncated: bool,
    pub(super) duration: Duration,
    pub(super) cpu: Duration,
    pub(super) memory: usize,
}

/// What is different about a request.
pub(super) struct Changes {
    pub(super) body: Diff,
    /// Name and value of each header that it had and has not.
    pub(super) removed: Vec<(String, String)>,
    /// Name and value of each header that it has and had not.
    pub(super) added: Vec<(String, String)>,
}

/// What a replay came to.
pub(super) struct Replayed {
    pub(super) result: ReplayResult,
    /// Those that a version makes a difference to, the newest first.
    pub(super) events: Vec<Difference>,
    /// How many more there are.
    pub(super) left_out: usize,
}

/// What a version would make of an event.
pub(super) struct Difference {
    pub(super) event: EventId,
    /// `changed`, `dropped` or `failed`.
    pub(super) result: &'static str,
    /// Why it is dropped, or how it failed, now and with the version.
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    /// `None`: there are no two requests to be compared, or no room for them.
    pub(super) request: Option<Changes>,
}

pub(super) async fn dry_run(
    State(state): State<AppState>,
    OnPage(PathId(plugin)): OnPage<PathId<PluginName>>,
    OnPage(PathId(version)): OnPage<PathId<Version>>,
    submitted: Submitted<DryRunForm>,
) -> Page {
    let Submitted { visitor, form } = submitted;
    let called = match form.request() {
        Ok(request) => api::call_once(&state, visitor.tenant.clone(), &plugin, version, request).await,
        Err(error) => Err(error),
    };
    let tried = match called {
        Ok((input, report)) => Tried::DryRun(Called::of(&input.body, report).await),
        Err(problem) => Tried::NotRun(problem.mendable()?),
    };
    let replay = ReplayForm::of(form.endpoint.clone());
    version_page(&state, &visitor, (plugin, version), form, replay, tried).await
}

pub(super) async fn replay(
    State(state): State<AppState>,
    OnPage(PathId(plugin)): OnPage<PathId<PluginName>>,
    OnPage(PathId(version)): OnPage<PathId<Version>>,
    submitted: Submitted<ReplayForm>,
) -> Page {
    let Submitted { visitor, form } = submitted;
    let replayed = match form.request() {
        Ok(request) => {
            let (plugin, version) = (PathId(plugin.clone()), PathId(version));
            api::replay(State(state.clone()), visitor.acts(), plugin, version, Json(request)).await
        }
        Err(error) => Err(error),
    };
    let tried = match replayed {
        Ok(axum::Json(result)) => Tried::Replay(Replayed::of(result).await),
        Err(problem) => Tried::NotReplayed(problem.mendable()?),
    };
    let dry_run = DryRunForm::example(example_settings(&plugin).to_owned());
    version_page(&state, &visitor, (plugin, version), dry_run, form, tried).await
}

/// JSON that somebody typed; nothing at all stands for `None`.
pub(super) fn typed_json<'t>(field: &str, text: &'t str) -> Result<Option<&'t RawValue>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let refuse =
        |error: serde_json::Error| Problem::Unprocessable(FieldError::new(field, format_args!("is not JSON: {error}")));
    serde_json::from_str(text).map(Some).map_err(refuse)
}

impl DryRunForm {
    pub(super) fn example(settings: String) -> Self {
        Self {
            on: "sample".to_owned(),
            event_type: "incident.created".to_owned(),
            data: EXAMPLE_DATA.to_owned(),
            event_id: String::new(),
            settings,
            endpoint: String::new(),
        }
    }

    fn request(&self) -> Result<DryRun, Problem> {
        let settings = typed_json("settings", &self.settings)?.map(ToOwned::to_owned);
        if self.on == "past" {
            return Ok(DryRun { settings, event: None, event_id: Some(self.event_id.trim().to_owned()) });
        }
        let absent = || Problem::Unprocessable(FieldError::new("data", "must be JSON"));
        let sample = Sample {
            id: None,
            event_type: self.event_type.trim().to_owned(),
            timestamp: None,
            data: typed_json("data", &self.data)?.ok_or_else(absent)?.to_owned(),
        };
        Ok(DryRun { settings, event: Some(Object(sample)), event_id: None })
    }
}

impl ReplayForm {
    pub(super) fn of(endpoint: String) -> Self {
        Self { endpoint, last: "100".to_owned(), settings: String::new() }
    }

    fn request(&self) -> Result<ReplayRequest, Problem> {
        let refuse = |_| {
            Problem::Unprocessable(FieldError::new("last", format_args!("must be a number from 1 to {REPLAY_LIMIT}")))
        };
        Ok(ReplayRequest {
            endpoint: self.endpoint.clone(),
            last: Some(self.last.trim().parse().map_err(refuse)?),
            settings: typed_json("settings", &self.settings)?.map(ToOwned::to_owned),
        })
    }
}

impl Called {
    async fn of(before: &[u8], report: Report) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (decision, request) = match report.result {
            Ok(Verdict::Deliver(changed)) => {
                let bodies = Some((text(before), text(&changed.body)));
                let body = Diff::of_each(vec![bodies], DRY_RUN_ROWS).await.into_iter().next().flatten();
                let added =
                    || changed.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                let changes = |body| Changes { body, removed: Vec::new(), added: added() };
                (Decision::Deliver, body.map(changes))
            }
            Ok(Verdict::Drop(reason)) => (Decision::Drop { reason }, None),
            Err(error) => (Decision::Failed { error }, None),
        };
        Self {
            decision,
            request,
            log: report.log,
            log_truncated: report.log_truncated,
            duration: report.duration,
            cpu: report.cpu,
            memory: usize::try_from(report.memory_bytes).unwrap_or(usize::MAX),
        }
    }
}

impl Replayed {
    async fn of(mut result: ReplayResult) -> Self {
        let mut differing: Vec<ReplayedEvent> = std::mem::take(&mut result.items);
        differing.retain(|event| event.result != "unchanged");
        let left_out = differing.len().saturating_sub(EVENTS_SHOWN);
        differing.truncate(EVENTS_SHOWN);
        let mut bodies = Vec::with_capacity(differing.len());
        let mut events = Vec::with_capacity(differing.len());
        for event in differing {
            let (before, before_request) = parted(event.before);
            let (after, after_request) = parted(event.after);
            let requests = before_request.zip(after_request);
            let headers = requests.as_ref().map(|(before, after)| {
                let only = |one: &PluginRequest, other: &PluginRequest| -> Vec<(String, String)> {
                    let new = one.headers.iter().filter(|(name, value)| other.headers.get(*name) != Some(*value));
                    new.map(|(name, value)| (name.clone(), value.clone())).collect()
                };
                (only(before, after), only(after, before))
            });
            bodies.push(requests.map(|(before, after)| (before.body, after.body)));
            let after = event.detail.or(after);
            events.push((
                Difference { event: event.event_id, result: event.result, before, after, request: None },
                headers,
            ));
        }
        let diffs = Diff::of_each(bodies, REPLAY_ROWS).await;
        let whole = |((event, headers), body): ((Difference, Option<_>), Option<Diff>)| {
            let changes = |((removed, added), body)| Changes { body, removed, added };
            Difference { request: headers.zip(body).map(changes), ..event }
        };
        Self { result, events: events.into_iter().zip(diffs).map(whole).collect(), left_out }
    }
}

/// Why nothing is sent, and what is.
fn parted(side: Option<Side>) -> (Option<String>, Option<PluginRequest>) {
    side.map_or((None, None), |side| (side.detail, side.request))
}
