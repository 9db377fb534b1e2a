//! One endpoint's lane, and how much there is for all.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::delivery::Leased;
use crate::domain::id::TenantId;
use crate::domain::outcome::{Outcome, SendError};

/// How many attempts run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Attempts at once on this host.
    pub in_flight: usize,
    /// Attempts at once to one endpoint.
    pub per_endpoint: usize,
}

/// Attempts at once to an endpoint that we know nothing of. Each prompt answer adds one, each other end halves them.
pub(super) const FIRST_LIMIT: usize = 8;
/// Attempts at once to an endpoint that does not answer.
pub(super) const LEAST_LIMIT: usize = 2;
/// A lane holds this many times its limit: the next ones are at hand when an attempt ends.
pub(super) const LANE_DEPTH: usize = 4;
/// All lanes together hold this many times the attempts in flight.
pub(super) const TOTAL_DEPTH: usize = 8;
/// Claims wait until this part of all places is free: a claim of one row costs nearly as much as one of many.
pub(super) const LUMP: usize = 64;
/// Claims under way at once: each is a few statements in a transaction that others wait for.
pub(super) const CLAIMS: usize = 16;
/// Lanes looked at in vain before a pass over the backlogs ends: those of one tenant that has its share may be many.
pub(super) const LOOKS: usize = 64;
/// Idle lanes kept for what they tell of their endpoints, about 200 bytes each; beyond it they are forgotten.
pub(super) const LANES_KEPT: usize = 20_000;
/// An answer that takes longer holds its permit too long to count as prompt.
pub const PROMPT: Duration = Duration::from_secs(1);

impl Limits {
    /// The unproven endpoints together may use one half: the other always belongs to those that answer promptly.
    pub(super) fn half(whole: usize) -> usize {
        (whole / 2).max(1)
    }

    pub(super) fn lump(self) -> usize {
        (self.total_depth() / LUMP).max(1)
    }

    pub(super) fn total_depth(self) -> usize {
        self.in_flight * TOTAL_DEPTH
    }

    pub(super) fn first(self) -> usize {
        self.per_endpoint.min(FIRST_LIMIT)
    }
}

/// What an attempt told of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answered within [`PROMPT`], whatever the status.
    Prompt,
    /// It did not: slow, time-out, refused, broken.
    Troubled,
    /// It was not asked.
    Unknown,
}

impl Health {
    /// What this outcome tells.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome.result {
            Ok(_) if outcome.duration < PROMPT => Self::Prompt,
            Err(SendError::Plugin(_)) => Self::Unknown,
            Ok(_) | Err(_) => Self::Troubled,
        }
    }
}

/// What waits for one endpoint, and what is known of it.
pub(super) struct Lane {
    pub(super) tenant: TenantId,
    pub(super) queue: VecDeque<Leased>,
    /// Places promised to deliveries that are being written or claimed.
    pub(super) promised: usize,
    pub(super) running: usize,
    /// The last attempt was answered promptly.
    pub(super) proven: bool,
    /// Attempts at once.
    pub(super) limit: usize,
    /// In one of the two turn queues, that of the proven or the other, or parked. An entry of the other one is stale.
    pub(super) in_turn: Option<bool>,
    pub(super) backlog: bool,
    /// In the queue of backlogs.
    pub(super) in_backlogs: bool,
    pub(super) claiming: bool,
    /// Flagged again since the claim under way was asked for, which may have missed it.
    pub(super) flagged_again: bool,
    pub(super) due: Option<Timestamp>,
}

impl Lane {
    pub(super) fn new(tenant: TenantId, limit: usize) -> Self {
        Self {
            tenant,
            queue: VecDeque::new(),
            promised: 0,
            running: 0,
            proven: false,
            limit,
            in_turn: None,
            backlog: false,
            in_backlogs: false,
            claiming: false,
            flagged_again: false,
            due: None,
        }
    }

    pub(super) fn held(&self) -> usize {
        self.queue.len() + self.promised + self.running
    }

    pub(super) fn depth(&self) -> usize {
        self.limit * LANE_DEPTH
    }

    /// Claims wait until half a lane is free: a claim of one row costs nearly as much as one of many.
    pub(super) fn wants_claim(&self) -> bool {
        self.backlog && !self.claiming && self.held() <= self.depth() / 2
    }

    pub(super) fn is_idle(&self) -> bool {
        self.held() == 0 && !self.backlog && !self.claiming && self.in_turn.is_none() && self.due.is_none()
    }
}
