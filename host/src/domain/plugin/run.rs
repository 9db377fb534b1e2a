//! What a call of a plugin came to, and what a whole chain of them decided.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{PluginName, Version};
use crate::domain::header::PluginHeaders;

/// Why a call has no verdict. The words are those of the API and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It did what no component may: a panic, an endless recursion, values that are not what the contract says.
    Trapped,
    /// It asked for more memory than it may have.
    OutOfMemory,
    /// It took longer than it may.
    TimedOut,
    /// The body, or all that it gave back, is larger than it may be.
    OutputTooLarge,
    /// A header that no plugin may set, or not so.
    BadHeader,
    /// It answered with an error of its own.
    PluginError,
    /// The tenant's plugins have had their CPU time for this minute.
    OverBudget,
    /// The version could not be made ready to run on this host.
    Unavailable,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Trapped,
        Self::OutOfMemory,
        Self::TimedOut,
        Self::OutputTooLarge,
        Self::BadHeader,
        Self::PluginError,
        Self::OverBudget,
        Self::Unavailable,
    ];

    /// The kind's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trapped => "trapped",
            Self::OutOfMemory => "out_of_memory",
            Self::TimedOut => "timed_out",
            Self::OutputTooLarge => "output_too_large",
            Self::BadHeader => "bad_header",
            Self::PluginError => "plugin_error",
            Self::OverBudget => "over_budget",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A call without a verdict. `message` is for the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What happened, in a few words; where the plugin gave them, they are the plugin's own.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What a plugin made of an event.
#[derive(Clone, PartialEq, Eq)]
pub struct Changed {
    /// The request's body.
    pub body: Bytes,
    /// Headers it adds, vetted.
    pub headers: PluginHeaders,
}

// The body is payload: it stays out of logs.
impl std::fmt::Debug for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changed").field("body_bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// A plugin's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on with this.
    Deliver(Changed),
    /// Send nothing, for this reason.
    Drop(String),
}

/// One message of a plugin's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// As the plugin wrote it, any characters.
    pub message: String,
}

/// One call of a plugin as the history keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which plugin.
    pub plugin: PluginName,
    /// Which of its versions.
    pub version: Version,
    /// What it decided.
    #[serde(flatten)]
    pub decision: Decision,
    /// Wall time of the call.
    #[serde(rename = "duration_us", with = "micros")]
    pub duration: Duration,
    /// CPU time of the call.
    #[serde(rename = "cpu_us", with = "micros")]
    pub cpu: Duration,
    /// Bytes of its memory at the most.
    pub memory_bytes: u64,
    /// What it logged.
    pub log: Vec<LogLine>,
    /// Whether it logged more than is kept.
    pub log_truncated: bool,
}

/// What a call decided, without the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Decision {
    /// To go on.
    Deliver,
    /// To send nothing.
    Drop {
        /// Why.
        reason: String,
    },
    /// It failed, and the attachment's policy followed.
    Failed {
        /// How.
        error: Failure,
    },
}

/// What the plugins of an endpoint did in one attempt, for the history and the meters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Each call, in order.
    pub runs: Vec<Run>,
    /// What is sent by this attempt and every later one; `None`: they decided to send nothing, or failed.
    pub output: Option<Changed>,
}

/// Durations as whole microseconds.
mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_reads_as_it_is_written() {
        let run = Run {
            plugin: "only-matching".parse().unwrap(),
            version: Version::of(b""),
            decision: Decision::Failed { error: Failure::new(FailureKind::TimedOut, "took longer than 100 ms") },
            duration: Duration::from_micros(100_012),
            cpu: Duration::from_micros(99),
            memory_bytes: 65_536,
            log: vec![LogLine { level: "info".into(), message: "\u{1b}[31m\0".into() }],
            log_truncated: true,
        };
        let text = serde_json::to_string(&run).unwrap();
        assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run, "{text}");
        assert!(text.contains(r#""verdict":"failed","error":{"kind":"timed_out","message":"#), "{text}");
    }
}
