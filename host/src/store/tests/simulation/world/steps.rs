//! What a host's tasks do when it is their turn: the loops of the dispatcher and of the writers, step by step.

use std::mem::replace;

use rand::RngExt;

use super::super::host::{Running, State, Writing};
use super::super::ledger::{Begins, Committed, Note};
use super::super::table::Fate;
use super::super::{LEASE_MS, RENEWAL, RENEWAL_MS, START_MS, at, since_start_ms};
use super::{Event, Step, World};
use crate::domain::lanes::{Health, Started};
use crate::store::direct::Direct;
use crate::store::group::{Command, Group};
use crate::store::{Attempt, Finished, Turn};

/// A host hears of its commit within this time; of one that did not reach the database within the other.
const ANSWER_MS: i64 = 50;
const TIME_OUT_MS: i64 = 1_500;
/// As the host has them: the pause after a failed commit, and between two looks of the safety poll.
const PAUSE_MS: i64 = 200;
const POLL_MS: i64 = 1_000;

impl World<'_> {
    /// The dispatcher starts and claims what it may.
    pub(super) fn turn(&mut self, h: usize) {
        let host = &mut self.hosts[h];
        if host.state != State::Up {
            return;
        }
        let Turn { started, wants, due } = host.store.handover.turn(host.store.now());
        (host.turning, host.alarms.due_ms) = (false, due.map(since_start_ms));
        self.begin_soon(h, started);
        if !wants.is_empty() {
            self.send(h, Command::Claim(wants));
        }
    }

    /// The safety poll.
    pub(super) async fn poll(&mut self, h: usize) {
        let host = &self.hosts[h];
        if host.state != State::Up {
            return;
        }
        let clock_ms = self.now_ms + host.ahead_ms;
        // Where nothing is due the look would find nothing; and it may not be what wakes a dispatcher that should be awake.
        if host.partitioned_until_ms <= self.now_ms && !self.ledger.due(START_MS + clock_ms).is_empty() {
            host.store.flag_endpoints_with_due_deliveries().await.unwrap();
        }
        self.hosts[h].alarms.poll_ms = Some(clock_ms + POLL_MS);
    }

    /// The leases of what runs.
    pub(super) fn renew(&mut self, h: usize) {
        let host = &mut self.hosts[h];
        if !matches!(host.state, State::Up | State::Stopping { .. }) {
            return;
        }
        host.alarms.renew_ms = Some(self.now_ms + host.ahead_ms + RENEWAL_MS);
        let held = host.leases.held();
        if !held.is_empty() {
            self.send(h, Command::Renew(held));
        }
    }

    /// As an attempt begins: not with too little time left.
    pub(super) fn begin(&mut self, h: usize, started: Started) {
        let host = &mut self.hosts[h];
        if matches!(host.state, State::Leaving { .. }) {
            return;
        }
        let (now, leases) = (host.store.now(), host.leases);
        let lease = leases.hold(&started.leased);
        if lease.runs_out(now, RENEWAL) {
            drop(lease);
            let more = host.store.handover.ended(&started, Health::Unknown);
            self.send(h, Command::Release(vec![started.leased]));
            return self.begin_soon(h, more);
        }
        let outcome = self.plan.receivers[&started.leased.endpoint].answers(&mut self.random);
        let begins = Begins {
            host: h,
            now_ms: self.now_ms,
            left_ms: started.leased.lease_until.as_millisecond() - now.as_millisecond(),
            clocks_differ_ms: self.plan.clocks_differ_ms,
            excused: host.was_in_trouble_since(self.now_ms - LEASE_MS),
        };
        let number = self.ledger.begins(&started.leased, begins);
        let name = self.ledger.name(&started.leased.id.to_string());
        self.tell(|_| format!("host {h} attempts {name}: {outcome:?}"));
        let lasts_ms = i64::try_from(outcome.duration.as_millis()).unwrap();
        let running = Running { started, started_at: now, outcome, _lease: lease };
        self.hosts[h].running.insert(number, running);
        self.queue(self.now_ms + lasts_ms, Event::Step(h, self.hosts[h].life, Step::End(number)));
    }

    /// As it ends: what follows from its outcome is to be recorded.
    pub(super) fn end(&mut self, h: usize, number: usize) {
        let jitter = self.random.random();
        let host = &mut self.hosts[h];
        // Dropped by a stop.
        let Some(running) = host.running.remove(&number) else { return };
        let Running { started, started_at, outcome, _lease } = running;
        let leased = started.leased.clone();
        let spared = self.plan.receivers[&leased.endpoint].is_spared(&mut self.random);
        let after = leased.delivery.after(&outcome, host.store.now(), &self.schedule, jitter).expect("pending");
        let (next, health) = match spared {
            true => (leased.delivery.dropped(), Health::Unknown),
            false => (after, Health::of(&outcome)),
        };
        self.ledger.ended(number, self.now_ms, next);
        let attempt = Attempt { started_at, outcome, request_headers: String::new(), error: None };
        let attempt = (!spared).then_some(attempt);
        let finished = Box::new(Finished { leased, next, attempt, plugins: None, reason: None, gone: false });
        let more = host.store.handover.ended(&started, health);
        self.send(h, Command::Record { finished, done: None, room: None });
        self.begin_soon(h, more);
    }

    /// A writer drains what waits and commits it.
    pub(super) async fn write(&mut self, h: usize, writer: usize) {
        let host = &mut self.hosts[h];
        let commands = host.drain(writer);
        if commands.is_empty() {
            host.writers[writer].writing = Writing::Idle;
            return self.leave(h);
        }
        let note = Note::of(&commands);
        let (store, now) = (host.store.clone(), host.store.now());
        let lease_until = at(since_start_ms(now) + LEASE_MS);
        let mut group = Box::new(Group::new(commands.into_iter(), now, lease_until));
        let fate = self.fate(h);
        let effects = self.table.commit(&store, &mut group, fate).await;
        let failed = effects.is_none();
        self.hosts[h].wrote(self.now_ms, failed, note.renews());
        self.count_commit(h, fate, failed);
        if store.direct.as_ref().is_some_and(Direct::is_open) {
            self.ledger.count("commits of hosts that write beside the driver");
        }
        let committed = Committed {
            host: h,
            note: &note,
            clock_ms: now.as_millisecond(),
            clocks_differ_ms: self.plan.clocks_differ_ms,
        };
        let hosts = &self.hosts;
        let rows = self.table.rows().await;
        self.ledger.compare(&committed, rows, |attempted| hosts[attempted.host].excuses(attempted));
        self.hosts[h].writers[writer].writing = Writing::Committed(group, effects);
        let within_ms = if fate == Fate::OutOfReach { TIME_OUT_MS } else { ANSWER_MS };
        self.within(h, within_ms, Step::Answered(writer));
    }

    /// A writer hears of its commit, and tells everyone.
    pub(super) fn answered(&mut self, h: usize, writer: usize) {
        let host = &mut self.hosts[h];
        let writing = replace(&mut host.writers[writer].writing, Writing::Called);
        let Writing::Committed(group, effects) = writing else { panic!("it hears of what it did not write") };
        let store = host.store.clone();
        let failed = effects.is_none();
        host.writers[writer].rest = match effects {
            Some(effects) => group.answer(&store, effects),
            None => group.undo(&store),
        };
        let begun = |command: &Command| matches!(command, Command::Accept(accept) if accept.progress.is_some());
        if host.writers[writer].rest.iter().any(begun) {
            self.ledger.count("parts of requests");
        }
        self.hear();
        match (self.hosts[h].state, failed) {
            // It does not try again: what it leased runs out.
            (State::Leaving { down_ms }, true) => self.down(h, down_ms),
            (_, true) => {
                let life = self.hosts[h].life;
                self.queue(self.now_ms + PAUSE_MS, Event::Step(h, life, Step::Write(writer)));
            }
            (_, false) => {
                self.wake_others(h);
                self.soon(h, Step::Write(writer));
            }
        }
    }
}
