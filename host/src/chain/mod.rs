//! Runs an endpoint's plugins over an event: which versions, one on the other's output, and what follows from a failure.

mod replay;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use metrics::{counter, histogram};

use crate::domain::event::{self, EventType};
use crate::domain::header::PluginHeaders;
use crate::domain::id::{EventId, TenantId};
use crate::domain::plugin::{
    Attachment, Changed, Decision, Failure, FailureKind, OnError, PluginName, Run, Verdict, Version,
};
use crate::plugins::{Call, Plugins, Ready, Refused, Report};
use crate::store::{Store, StoreError};
use crate::telemetry::METRICS;

pub use replay::{Difference, REPLAY_LIMIT, Replay, Replayed};

/// The sandbox, and where components are stored.
pub struct Chain {
    store: Arc<Store>,
    plugins: Arc<Plugins>,
}

/// An event as plugins see it.
#[derive(Clone)]
pub struct Input {
    /// Whose event it is.
    pub tenant: TenantId,
    /// The event's id.
    pub event: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// The request body as the event has it.
    pub body: Bytes,
}

/// What a chain came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chained {
    /// Each call, in order.
    pub runs: Vec<Run>,
    /// What follows.
    pub decided: Decided,
}

/// What follows from the calls of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// This is sent.
    Deliver(Changed),
    /// Nothing is sent, for this reason.
    Drop(String),
    /// The attempt has failed: a plugin whose policy is to try again. The text says which and how.
    Fail(String),
}

/// Why a version cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The tenant has no such version.
    #[error("this version is not there")]
    Missing,
    /// It does not compile or fit any more.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The component cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Chain {
    /// Runs plugins of `plugins` that are stored in `store`.
    #[must_use]
    pub fn new(store: Arc<Store>, plugins: Arc<Plugins>) -> Self {
        Self { store, plugins }
    }

    /// The sandbox.
    #[must_use]
    pub fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// Runs what is attached over the event, in order.
    ///
    /// A test event is not dropped: it goes on as if the plugin that would were not there, because its purpose is to be
    /// answered.
    pub async fn run(&self, attachments: &[Attachment], input: &Input) -> Chained {
        let mut runs = Vec::with_capacity(attachments.len());
        let mut changed = Changed { body: input.body.clone(), headers: PluginHeaders::default() };
        for attachment in attachments {
            let Some(version) = attachment.version_for(&input.event) else { continue };
            let call = input.call(&changed, &attachment.settings);
            let report = match self.ready(&input.tenant, &attachment.plugin, version).await {
                Ok(ready) => self.plugins.call(&ready, call).await,
                Err(unavailable) => {
                    tracing::error!(
                        tenant.id = %input.tenant,
                        plugin = %attachment.plugin,
                        plugin.version = %version,
                        error = &unavailable as &dyn std::error::Error,
                        "a plugin is not available"
                    );
                    Report::none(Failure::new(FailureKind::Unavailable, unavailable.for_tenant()))
                }
            };
            count(&input.tenant, &attachment.plugin, version, &report);
            let (decided, run) = record(attachment, version, report);
            runs.push(run);
            match decided {
                Step::On(next) => {
                    changed.body = next.body;
                    changed.headers.extend(next.headers);
                }
                Step::Skip => {}
                Step::End(Decided::Drop(_)) if input.event_type.is_test() => {}
                Step::End(decided) => return Chained { runs, decided },
            }
        }
        Chained { runs, decided: Decided::Deliver(changed) }
    }

    /// Calls one version once, with no effect on anything.
    pub async fn try_version(
        &self,
        plugin: &PluginName,
        version: Version,
        input: &Input,
        settings: &Arc<str>,
    ) -> Result<Report, Unavailable> {
        let ready = self.ready(&input.tenant, plugin, version).await?;
        let unchanged = Changed { body: input.body.clone(), headers: PluginHeaders::default() };
        Ok(self.plugins.call(&ready, input.call(&unchanged, settings)).await)
    }

    async fn ready(&self, tenant: &TenantId, plugin: &PluginName, version: Version) -> Result<Arc<Ready>, Unavailable> {
        let component = async || {
            let component = self.store.component(tenant, plugin, version).await?;
            component.ok_or(Unavailable::Missing)
        };
        self.plugins.ready(tenant, version, component).await
    }
}

impl Input {
    /// The timestamp in the event's own body.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        event::timestamp_in(&self.body).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn call(&self, so_far: &Changed, settings: &Arc<str>) -> Call {
        Call {
            event: self.event.clone(),
            event_type: self.event_type.clone(),
            tenant: self.tenant.clone(),
            timestamp: self.timestamp(),
            body: so_far.body.clone(),
            headers: so_far.headers.clone(),
            settings: settings.clone(),
        }
    }
}

impl Unavailable {
    /// The database's words are for the operator.
    fn for_tenant(&self) -> String {
        match self {
            Self::Missing | Self::Refused(_) => self.to_string(),
            Self::Store(_) => "its bytes could not be read".to_owned(),
        }
    }
}

/// What follows from one call.
enum Step {
    On(Changed),
    Skip,
    End(Decided),
}

fn record(attachment: &Attachment, version: Version, report: Report) -> (Step, Run) {
    let plugin = &attachment.plugin;
    let (step, decision) = match report.result {
        Ok(Verdict::Deliver(changed)) => (Step::On(changed), Decision::Deliver),
        Ok(Verdict::Drop(reason)) => {
            (Step::End(Decided::Drop(format!("plugin `{plugin}`: {reason}"))), Decision::Drop { reason })
        }
        Err(error) => {
            let how = format!("plugin `{plugin}` failed ({}): {}", error.kind.name(), error.message);
            let step = match attachment.on_error {
                // The host's own failure: the plugin did not get to say anything.
                _ if error.kind == FailureKind::Unavailable => Step::End(Decided::Fail(how)),
                OnError::Retry => Step::End(Decided::Fail(how)),
                OnError::Skip => Step::Skip,
                OnError::Drop => Step::End(Decided::Drop(how)),
            };
            (step, Decision::Failed { error })
        }
    };
    let run = Run {
        plugin: plugin.clone(),
        version,
        decision,
        duration: report.duration,
        cpu: report.cpu,
        memory_bytes: report.memory_bytes,
        log: report.log,
        log_truncated: report.log_truncated,
    };
    (step, run)
}

fn count(tenant: &TenantId, plugin: &PluginName, version: Version, report: &Report) {
    let labels = [("tenant", tenant.to_string()), ("plugin", plugin.to_string()), ("version", version.to_string())];
    counter!("revnoxa_plugin_calls_total", &labels).increment(1);
    counter!("revnoxa_plugin_cpu_microseconds_total", &labels)
        .increment(u64::try_from(report.cpu.as_micros()).unwrap_or(u64::MAX));
    histogram!("revnoxa_plugin_memory_bytes", &labels).record(report.memory_bytes as f64);
    METRICS.plugin_duration.record(report.duration.as_secs_f64());
    if let Err(failure) = &report.result {
        let [tenant, plugin, version] = labels;
        let labels = [tenant, plugin, version, ("kind", failure.kind.name().to_owned())];
        counter!("revnoxa_plugin_failures_total", &labels).increment(1);
    }
}
