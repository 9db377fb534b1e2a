//! What the author of a plugin runs: the sandbox without a host.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::clock::Clock;
use crate::config::{Config, PluginSettings};
use crate::domain::header::PluginHeaders;
use crate::domain::id::TenantId;
use crate::domain::plugin::Version;
use crate::http::plugin_runs::{DryRunResult, Sample};
use crate::plugins::{Call, Plugins, Ready};

/// Compiles and checks a component as an upload would, and says what it is.
pub async fn check(config: &Config, program: &Path, component: &Path) -> anyhow::Result<()> {
    let (_, ready) = ready(&config.plugins, program, component).await?;
    println!("{} is a plugin: version {}", component.display(), ready.version());
    Ok(())
}

/// Calls a component once with the event and settings of these files, and prints what became of it as JSON.
pub async fn run(
    config: &Config,
    program: &Path,
    component: &Path,
    event: &Path,
    settings: Option<&Path>,
) -> anyhow::Result<()> {
    let sample: Sample = json(event)?;
    let (event, event_type, body) =
        sample.event().map_err(|error| anyhow::anyhow!("{}: `{}` {}", event.display(), error.field, error.rule))?;
    let settings: Arc<str> = match settings {
        Some(path) => json::<Box<RawValue>>(path)?.get().into(),
        None => "{}".into(),
    };
    let timestamp = crate::domain::event::timestamp_in(&body).context("the event has no timestamp")?;
    let (plugins, ready) = ready(&config.plugins, program, component).await?;
    let call =
        Call { event, event_type, tenant: tenant(), timestamp, body, headers: PluginHeaders::default(), settings };
    let result = DryRunResult::of(plugins.call(&ready, call).await);
    println!("{}", serde_json::to_string_pretty(&result)?);
    ensure!(result.succeeded(), "the plugin failed");
    Ok(())
}

async fn ready(settings: &PluginSettings, program: &Path, path: &Path) -> anyhow::Result<(Plugins, Arc<Ready>)> {
    let component = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let plugins = Plugins::new(settings.clone(), program, None, Clock::system())?;
    let ready = plugins
        .check(&tenant(), &component)
        .await
        .with_context(|| format!("{} ({}) is refused", path.display(), Version::of(&component)))?;
    Ok((plugins, ready))
}

fn tenant() -> TenantId {
    "acme".parse().expect("a tenant's id")
}

fn json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not as expected", path.display()))
}
