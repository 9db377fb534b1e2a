//! What stands between an event and an endpoint: which plugin, in which version, with which settings.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{PluginName, Version};
use crate::domain::id::EventId;

/// Plugins attached to one endpoint.
pub const ATTACHMENTS_LIMIT: usize = 8;
/// Bytes of an attachment's settings as JSON text.
pub const SETTINGS_LIMIT: usize = 64 * 1024;

/// What follows when a plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The attempt counts as failed, and the retry schedule goes on.
    #[default]
    Retry,
    /// The event is delivered without this plugin.
    Skip,
    /// The event is not delivered.
    Drop,
}

impl OnError {
    /// The policy's word in the API and the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Drop => "drop",
        }
    }

    /// The policy of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Retry, Self::Skip, Self::Drop].into_iter().find(|policy| policy.name() == name)
    }
}

/// A plugin on an endpoint. An endpoint's attachments run in order, each on what the one before it made.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Which plugin.
    pub plugin: PluginName,
    /// Which version runs, for the events that `rollout` chooses.
    pub version: Version,
    /// `None`: it runs for all events.
    pub rollout: Option<Rollout>,
    /// JSON text, given to each call.
    pub settings: Arc<str>,
    /// What follows when it fails.
    pub on_error: OnError,
}

// Settings are often credentials: they stay out of logs.
impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment")
            .field("plugin", &self.plugin)
            .field("version", &self.version)
            .field("rollout", &self.rollout)
            .field("settings_bytes", &self.settings.len())
            .field("on_error", &self.on_error)
            .finish()
    }
}

/// A version that runs for some of the events only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    percent: u8,
    /// What runs for the other events; `None`: they pass by this plugin.
    pub baseline: Option<Version>,
}

/// The number is not a share of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 0 to 100")]
pub struct InvalidRollout;

impl Rollout {
    /// A version for `percent` of the events, 0 to 100, and another or none for the rest.
    pub fn new(percent: i64, baseline: Option<Version>) -> Result<Self, InvalidRollout> {
        let percent = u8::try_from(percent).ok().filter(|percent| *percent <= 100).ok_or(InvalidRollout)?;
        Ok(Self { percent, baseline })
    }

    /// How many of a hundred events.
    #[must_use]
    pub fn percent(self) -> u8 {
        self.percent
    }
}

impl Attachment {
    /// The version that runs for this event; `None`: the event passes by this plugin.
    ///
    /// The choice depends on the event's id and the plugin's name alone, so that retries and replays agree, and a growing
    /// share keeps the events it had.
    #[must_use]
    pub fn version_for(&self, event: &EventId) -> Option<Version> {
        let Some(rollout) = self.rollout else { return Some(self.version) };
        let digest = Sha256::new().chain_update(self.plugin.as_str()).chain_update([0]).chain_update(event.as_str());
        let (first, _) =
            digest.finalize().split_first_chunk::<8>().map(|(first, rest)| (*first, rest.len())).expect("32 bytes");
        if u64::from_be_bytes(first) % 100 < u64::from(rollout.percent) { Some(self.version) } else { rollout.baseline }
    }

    /// The versions that may run.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        std::iter::once(self.version).chain(self.rollout.and_then(|rollout| rollout.baseline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(percent: i64, baseline: Option<Version>) -> Attachment {
        Attachment {
            plugin: "redact".parse().unwrap(),
            version: Version::of(b"new"),
            rollout: Some(Rollout::new(percent, baseline).unwrap()),
            settings: "{}".into(),
            on_error: OnError::Retry,
        }
    }

    fn chosen(attachment: &Attachment) -> Vec<bool> {
        let event = |n: u32| format!("evt_{n}").parse().unwrap();
        (0..10_000).map(|n| attachment.version_for(&event(n)) == Some(attachment.version)).collect()
    }

    #[test]
    fn a_share_is_as_large_as_it_says_and_keeps_its_events_as_it_grows() {
        let mut before = vec![false; 10_000];
        for percent in [0, 1, 10, 50, 99, 100] {
            let now = chosen(&attachment(percent, None));
            let share = now.iter().filter(|chosen| **chosen).count() as f64 / 100.0;
            assert!((share - percent as f64).abs() < 1.5, "{percent} %: {share} %");
            assert!(before.iter().zip(&now).all(|(before, now)| !before || *now), "{percent} %");
            before = now;
        }
        assert_eq!(chosen(&attachment(0, None)).iter().filter(|chosen| **chosen).count(), 0);
        assert_eq!(chosen(&attachment(100, None)).iter().filter(|chosen| **chosen).count(), 10_000);
    }

    #[test]
    fn other_events_get_the_baseline() {
        let old = Version::of(b"old");
        let event = "evt_1".parse().unwrap();
        assert_eq!(attachment(0, Some(old)).version_for(&event), Some(old));
        assert_eq!(attachment(0, None).version_for(&event), None);
        assert_eq!(Rollout::new(101, None), Err(InvalidRollout));
        assert_eq!(Rollout::new(-1, None), Err(InvalidRollout));
    }
}
