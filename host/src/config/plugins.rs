//! Limits of plugins: the table `[plugins]`.

use std::time::Duration;

use super::ConfigError;
use super::forms::{duration, size};

/// What plugins may use, and how they are compiled. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginSettings {
    /// Linear memory of one call. Beyond it the plugin's allocation fails. Default `64MiB`; 1 MiB to 1 GiB.
    #[serde(deserialize_with = "size")]
    pub memory: usize,
    /// Wall time of one call, making the instance included; then it is ended as `timed_out`. Default `100ms`; 1 ms to 5 s.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// The body a plugin gives back. Default `512KiB`; 1 KiB to 8 MiB.
    #[serde(deserialize_with = "size")]
    pub body: usize,
    /// Headers a plugin gives back. Default 64; 0 to 256.
    pub headers: usize,
    /// Log kept of one call; the rest is cut off. Default `16KiB`; 0 to 1 MiB.
    #[serde(deserialize_with = "size")]
    pub log: usize,
    /// What one crossing from plugin to host may carry beyond the size of the event. Default `2MiB`; 1 MiB to 64 MiB, and at least `body`.
    #[serde(deserialize_with = "size")]
    pub crossing: usize,
    /// Calls at once on this host; others wait. Default 32; 1 to 256.
    pub calls: usize,
    /// Calls at once of one tenant; its others wait. Default 4; 1 to `calls`.
    pub calls_per_tenant: usize,
    /// CPU time that one tenant's plugins may use in a minute on this host; then its calls fail as `over_budget`. Default
    /// `0s`: no budget.
    #[serde(deserialize_with = "duration")]
    pub cpu_per_minute: Duration,
    /// A component that is uploaded. Default `16MiB`; 64 KiB to 64 MiB.
    #[serde(deserialize_with = "size")]
    pub upload: usize,
    /// A component that carries the engine of its language, made by componentize-js or componentize-py. Default `32MiB`; `upload` to 64 MiB.
    #[serde(deserialize_with = "size")]
    pub upload_with_engine: usize,
    /// Address space of the process that compiles a component. Default `1GiB`; 64 MiB to 16 GiB.
    #[serde(deserialize_with = "size")]
    pub compile_memory: usize,
    /// CPU time of the process that compiles a component. Default `30s`; 1 s to 10 min.
    #[serde(deserialize_with = "duration")]
    pub compile_time: Duration,
}

impl Default for PluginSettings {
    fn default() -> Self {
        const KIB: usize = 1 << 10;
        const MIB: usize = 1 << 20;
        Self {
            memory: 64 * MIB,
            timeout: Duration::from_millis(100),
            body: 512 * KIB,
            headers: 64,
            log: 16 * KIB,
            crossing: 2 * MIB,
            calls: 32,
            calls_per_tenant: 4,
            cpu_per_minute: Duration::ZERO,
            upload: 16 * MIB,
            upload_with_engine: 32 * MIB,
            compile_memory: 1024 * MIB,
            compile_time: Duration::from_secs(30),
        }
    }
}

impl PluginSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const KIB: usize = 1 << 10;
        const MIB: usize = 1 << 20;
        let ms = Duration::from_millis;
        let rules = [
            ((MIB..=1024 * MIB).contains(&self.memory), "plugins.memory", "must be 1MiB to 1GiB"),
            ((ms(1)..=ms(5_000)).contains(&self.timeout), "plugins.timeout", "must be 1ms to 5s"),
            ((KIB..=8 * MIB).contains(&self.body), "plugins.body", "must be 1KiB to 8MiB"),
            (self.headers <= 256, "plugins.headers", "must be at most 256"),
            (self.log <= MIB, "plugins.log", "must be at most 1MiB"),
            (
                (MIB.max(self.body)..=64 * MIB).contains(&self.crossing),
                "plugins.crossing",
                "must be 1MiB to 64MiB and at least `plugins.body`",
            ),
            ((1..=256).contains(&self.calls), "plugins.calls", "must be 1 to 256"),
            (
                (1..=self.calls).contains(&self.calls_per_tenant),
                "plugins.calls_per_tenant",
                "must be 1 to `plugins.calls`",
            ),
            ((64 * KIB..=64 * MIB).contains(&self.upload), "plugins.upload", "must be 64KiB to 64MiB"),
            (
                (self.upload..=64 * MIB).contains(&self.upload_with_engine),
                "plugins.upload_with_engine",
                "must be `plugins.upload` to 64MiB",
            ),
            (
                (64 * MIB..=16 * 1024 * MIB).contains(&self.compile_memory),
                "plugins.compile_memory",
                "must be 64MiB to 16GiB",
            ),
            ((ms(1_000)..=ms(600_000)).contains(&self.compile_time), "plugins.compile_time", "must be 1s to 10m"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, rule)) => Err(ConfigError::Rule { key, rule }),
            None => Ok(()),
        }
    }
}
