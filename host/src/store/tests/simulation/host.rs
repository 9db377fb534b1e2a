//! A host: what it holds in memory, and how well it is.

use std::collections::{BTreeMap, VecDeque};
use std::mem::take;
use std::pin::pin;
use std::sync::Arc;

use jiff::Timestamp;

use super::ledger::Attempted;
use super::plan::Plan;
use super::table::Table;
use super::{RENEWAL_MS, at};
use crate::clock::{Clock, Hand};
use crate::domain::lanes::{Limits, Started};
use crate::domain::outcome::Outcome;
use crate::store::group::{Command, Effects, Group};
use crate::store::{LeaseGuard, Leases, Store};

/// Writers of a host, as on PostgreSQL: while one commits, another drains.
pub(super) const WRITERS: usize = 2;
/// Commits may fail for so long without it being a host's excuse.
const HICCUP_MS: i64 = 1_000;
/// What a lease must have left beside its renewals: hiccups, pauses after them, clocks that differ, and the time that steps take.
const SLACK_MS: i64 = 4_000;

pub(super) struct Host<'l> {
    /// Grows with each end: steps of an earlier life are not taken.
    pub(super) life: u32,
    pub(super) state: State,
    pub(super) store: Arc<Store>,
    pub(super) hand: Hand,
    pub(super) leases: &'l Leases,
    pub(super) running: BTreeMap<usize, Running<'l>>,
    /// What waits for its writers.
    pub(super) commands: VecDeque<Command>,
    pub(super) writers: [Writer; WRITERS],
    /// The dispatcher was woken and will have its turn.
    pub(super) turning: bool,
    pub(super) alarms: Alarms,
    /// How far its clock is ahead.
    pub(super) ahead_ms: i64,
    pub(super) frozen_until_ms: i64,
    pub(super) partitioned_until_ms: i64,
    /// Until when how many of a hundred commits go wrong.
    pub(super) failing: (i64, u32),
    trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Down,
    Up,
    /// It takes nothing new, and is started again so long after its end.
    Stopping {
        down_ms: i64,
    },
    /// Nothing runs any more; what waits to be written is.
    Leaving {
        down_ms: i64,
    },
}

/// An attempt.
pub(super) struct Running<'l> {
    pub(super) started: Started,
    pub(super) started_at: Timestamp,
    pub(super) outcome: Outcome,
    /// Given back when it is dropped.
    pub(super) _lease: LeaseGuard<'l>,
}

/// When it wakes by itself, by its own clock, in milliseconds since the start. `None`: it does not, or has, and its step is coming.
#[derive(Default)]
pub(super) struct Alarms {
    pub(super) due_ms: Option<i64>,
    pub(super) poll_ms: Option<i64>,
    pub(super) renew_ms: Option<i64>,
}

#[derive(Default)]
pub(super) struct Writer {
    /// To be written again, before anything else.
    pub(super) rest: Vec<Command>,
    pub(super) writing: Writing,
}

#[derive(Default)]
pub(super) enum Writing {
    #[default]
    Idle,
    /// It will drain what waits.
    Called,
    /// The database is done with it, and its host has not heard; `None`: it will hear of an error.
    Committed(Box<Group>, Option<Effects>),
}

/// When a host was so unwell that others may have taken its work.
struct Trouble {
    until_ms: i64,
    /// Its commits fail since.
    failing_since_ms: Option<i64>,
    renewals_failed_ms: Vec<i64>,
}

impl<'l> Host<'l> {
    /// One that is down.
    pub(super) fn new(table: &Table, limits: Limits, leases: &'l Leases) -> Self {
        let (clock, hand) = Clock::manual(at(0));
        Self {
            life: 0,
            state: State::Down,
            store: table.store(clock, limits, false),
            hand,
            leases,
            running: BTreeMap::new(),
            commands: VecDeque::new(),
            writers: Default::default(),
            turning: false,
            alarms: Alarms::default(),
            ahead_ms: 0,
            frozen_until_ms: 0,
            partitioned_until_ms: 0,
            failing: (0, 0),
            trouble: Trouble { until_ms: i64::MIN, failing_since_ms: None, renewals_failed_ms: Vec::new() },
        }
    }

    pub(super) fn start(&mut self, table: &Table, plan: &Plan, now_ms: i64) {
        let clock_ms = now_ms + self.ahead_ms;
        let (clock, hand) = Clock::manual(at(clock_ms));
        (self.store, self.hand, self.state) = (table.store(clock, plan.limits, plan.direct), hand, State::Up);
        self.alarms = Alarms { due_ms: None, poll_ms: Some(clock_ms), renew_ms: Some(clock_ms) };
    }

    /// All that was in memory is gone.
    pub(super) fn end(&mut self) {
        self.life += 1;
        self.state = State::Down;
        self.running.clear();
        self.commands.clear();
        self.writers = Default::default();
        (self.turning, self.alarms) = (false, Alarms::default());
        (self.frozen_until_ms, self.trouble.failing_since_ms) = (0, None);
        assert!(self.leases.held().is_empty(), "a lease is held by nobody");
    }

    /// When it next wakes by itself, on the true clock.
    pub(super) fn next_alarm_ms(&self) -> Option<i64> {
        let Alarms { due_ms, poll_ms, renew_ms } = self.alarms;
        let earliest = [due_ms, poll_ms, renew_ms].into_iter().flatten().min()?;
        Some((earliest - self.ahead_ms).max(self.frozen_until_ms))
    }

    /// Whether somebody woke the dispatcher since it was last asked.
    pub(super) fn is_woken(&self) -> bool {
        pin!(self.store.handover.wake.notified()).enable()
    }

    /// Nobody sleeps while there is work: what may start or be claimed was told to the dispatcher.
    pub(super) fn assert_nothing_to_do(&self, host: usize) {
        let mut lanes = self.store.handover.lanes();
        assert!(lanes.start().is_none(), "host {host} sleeps, and an attempt may begin");
        let wants = lanes.wants();
        assert!(wants.is_empty(), "host {host} sleeps, and could claim: {wants:?}");
    }

    pub(super) fn idle_writer(&mut self) -> Option<usize> {
        let idle = self.writers.iter().position(|writer| matches!(writer.writing, Writing::Idle))?;
        self.writers[idle].writing = Writing::Called;
        Some(idle)
    }

    /// What a writer writes next.
    pub(super) fn drain(&mut self, writer: usize) -> Vec<Command> {
        let mut commands = take(&mut self.writers[writer].rest);
        commands.extend(self.commands.drain(..));
        commands
    }

    /// Nothing is to be written.
    pub(super) fn has_written(&self) -> bool {
        let idle = |writer: &Writer| matches!(writer.writing, Writing::Idle) && writer.rest.is_empty();
        self.commands.is_empty() && self.writers.iter().all(idle)
    }

    /// It is up, and has nothing to do and nothing in its lanes.
    pub(super) fn is_at_rest(&self) -> bool {
        self.state == State::Up
            && self.has_written()
            && !self.turning
            && self.running.is_empty()
            && self.store.handover.lanes().recounted()
    }

    /// It is in trouble until then.
    pub(super) fn troubled_until(&mut self, ms: i64) {
        self.trouble.until_ms = self.trouble.until_ms.max(ms);
    }

    /// A commit came to its end, as it hears.
    pub(super) fn wrote(&mut self, now_ms: i64, failed: bool, renews: bool) {
        if !failed {
            self.trouble.failing_since_ms = None;
            return;
        }
        let since_ms = *self.trouble.failing_since_ms.get_or_insert(now_ms);
        if now_ms - since_ms > HICCUP_MS {
            self.troubled_until(now_ms);
        }
        if renews {
            self.trouble.renewals_failed_ms.push(now_ms);
        }
    }

    /// Whether it was in trouble since.
    pub(super) fn was_in_trouble_since(&self, ms: i64) -> bool {
        self.trouble.until_ms >= ms
    }

    /// Whether this attempt of its may have been taken over by another host.
    pub(super) fn excuses(&self, attempted: &Attempted) -> bool {
        let failed = self.trouble.renewals_failed_ms.iter().filter(|at| **at >= attempted.began_ms).count() as i64;
        let short = attempted.left_ms < (failed + 1) * RENEWAL_MS + SLACK_MS;
        self.was_in_trouble_since(attempted.began_ms) || failed >= 2 || short
    }
}
