//! A new version over the events an endpoint got last, without sending anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Chain, Chained, Decided, Input};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::EventId;
use crate::domain::plugin::{Attachment, OnError, PluginName, Version};
use crate::store::StoreError;

/// Events of one replay at most.
pub const REPLAY_LIMIT: usize = 1_000;
/// Bytes of bodies in one answer; events whose bodies do not fit any more are told without them.
const BODIES: usize = 8 << 20;
/// Wall time of one replay; the events it did not come to are left out.
const TIME: Duration = Duration::from_secs(60);

/// What is to be compared.
pub struct Replay {
    /// The plugin that gets a new version.
    pub plugin: PluginName,
    /// The version.
    pub version: Version,
    /// Its settings; `None`: those it is attached with, else `{}`.
    pub settings: Option<Arc<str>>,
    /// Events, the newest first.
    pub last: usize,
}

/// One event under what is attached now and with the new version.
pub struct Replayed {
    /// The event.
    pub event: EventId,
    /// What is different.
    pub difference: Difference,
}

/// What the new version does to an event.
pub enum Difference {
    /// The same as what is attached now.
    Unchanged,
    /// Something else: what follows now, and what would. `None`: no room for more bodies in this answer.
    Changed(Option<Box<(Decided, Decided)>>),
    /// It is not sent any more, for this reason.
    Dropped(String),
    /// The new version fails, in this way; its policy aside.
    Failed(String),
}

impl Chain {
    /// Runs the endpoint's plugins over its last events twice: as attached, and with the new version instead, or at the
    /// end where the plugin is not attached. The second value tells whether all events were come to.
    pub async fn replay(&self, endpoint: &Endpoint, replay: &Replay) -> Result<(Vec<Replayed>, bool), StoreError> {
        let with_new = with_new(&endpoint.plugins, replay);
        let started = Instant::now();
        let mut room = BODIES;
        let mut replayed = Vec::new();
        let mut before = None;
        while replayed.len() < replay.last {
            let page = self
                .store
                .last_events_of_endpoint(&endpoint.tenant, endpoint.id, before, replay.last - replayed.len())
                .await?;
            let Some(oldest) = page.last() else { break };
            before = Some(oldest.delivery);
            for event in page {
                if started.elapsed() > TIME {
                    return Ok((replayed, false));
                }
                let input = Input {
                    tenant: endpoint.tenant.clone(),
                    event: event.event,
                    event_type: event.event_type,
                    body: event.body,
                };
                let now = self.run(&endpoint.plugins, &input).await;
                let new = self.run(&with_new, &input).await;
                replayed.push(Replayed { event: input.event, difference: difference(now, new, &mut room) });
            }
        }
        Ok((replayed, true))
    }
}

/// The attachments with the new version in place of the plugin's own.
fn with_new(attached: &[Attachment], replay: &Replay) -> Vec<Attachment> {
    let mut with_new = attached.to_vec();
    let mut found = false;
    for attachment in with_new.iter_mut().filter(|attachment| attachment.plugin == replay.plugin) {
        found = true;
        attachment.version = replay.version;
        attachment.rollout = None;
        // What the policy would make of a failure is not what is asked here.
        attachment.on_error = OnError::Retry;
        if let Some(settings) = &replay.settings {
            attachment.settings = settings.clone();
        }
    }
    if !found {
        with_new.push(Attachment {
            plugin: replay.plugin.clone(),
            version: replay.version,
            rollout: None,
            settings: replay.settings.clone().unwrap_or_else(|| "{}".into()),
            on_error: OnError::Retry,
        });
    }
    with_new
}

fn difference(now: Chained, new: Chained, room: &mut usize) -> Difference {
    if now.decided == new.decided {
        return Difference::Unchanged;
    }
    let bytes = |decided: &Decided| match decided {
        Decided::Deliver(changed) => changed.body.len(),
        Decided::Drop(_) | Decided::Fail(_) => 0,
    };
    match new.decided {
        Decided::Fail(how) => Difference::Failed(how),
        Decided::Drop(reason) => Difference::Dropped(reason),
        Decided::Deliver(_) => match room.checked_sub(bytes(&now.decided) + bytes(&new.decided)) {
            Some(left) => {
                *room = left;
                Difference::Changed(Some(Box::new((now.decided, new.decided))))
            }
            None => Difference::Changed(None),
        },
    }
}
