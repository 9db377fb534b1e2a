//! What goes wrong, and how hosts come and go.

use std::mem::take;

use rand::RngExt;

use super::super::host::{Host, State};
use super::super::plan::Fault;
use super::super::table::Fate;
use super::super::{RENEWAL_MS, START_MS};
use super::{Event, Step, World};
use crate::domain::lanes::Health;
use crate::store::group::Command;

impl World<'_> {
    /// A fault begins, if its host is up.
    pub(super) fn strike(&mut self, number: usize) {
        let (_, h, fault) = self.plan.faults[number];
        if self.hosts[h].state != State::Up {
            return;
        }
        self.tell(|_| format!("host {h}: {fault:?}"));
        let (now_ms, life) = (self.now_ms, self.hosts[h].life);
        let host = &mut self.hosts[h];
        match fault {
            Fault::Crash { down_ms } => {
                self.ledger.count("hosts that died");
                self.down(h, down_ms);
            }
            Fault::Stop { grace_ms, down_ms } => {
                host.state = State::Stopping { down_ms };
                (host.alarms.poll_ms, host.alarms.due_ms) = (None, None);
                let queued = host.store.handover.lanes().close();
                self.send(h, Command::Release(queued));
                self.queue(now_ms + grace_ms, Event::Step(h, life, Step::Abandon));
                self.ledger.count("hosts that stopped");
            }
            Fault::Freeze { ms } => {
                host.frozen_until_ms = host.frozen_until_ms.max(now_ms + ms);
                host.troubled_until(now_ms + ms);
                self.ledger.count("hosts that stood still");
            }
            Fault::Partition { ms } => {
                host.partitioned_until_ms = host.partitioned_until_ms.max(now_ms + ms);
                host.troubled_until(now_ms + ms);
            }
            Fault::Commits { percent, ms } => host.failing = (now_ms + ms, percent),
            Fault::Skew { ahead_ms } => host.ahead_ms = ahead_ms,
            Fault::Clock { ahead_ms, ms } => {
                host.ahead_ms = ahead_ms;
                // Whose clock was ahead sleeps so much longer once it is set right.
                let until_ms = now_ms + ms + ahead_ms.abs() + RENEWAL_MS;
                self.hosts.iter_mut().for_each(|host| host.troubled_until(until_ms));
                self.queue(now_ms + ms, Event::SetRight(h));
            }
        }
    }

    /// A host starts, as soon as it reaches the database.
    pub(super) async fn start(&mut self, h: usize) {
        let reachable_ms = self.hosts[h].partitioned_until_ms;
        if reachable_ms > self.now_ms {
            return self.queue(reachable_ms, Event::Start(h));
        }
        self.tell(|_| format!("host {h} starts"));
        self.hosts[h].start(self.table, &self.plan, self.now_ms);
        if self.hosts.len() == 1 {
            let store = self.hosts[h].store.clone();
            store.release_all_leases().await.unwrap();
            store.complete_events().await.unwrap();
            self.ledger.taken_over(self.table.rows().await);
        }
    }

    /// It is gone, and starts again.
    pub(super) fn down(&mut self, h: usize, down_ms: i64) {
        self.hosts[h].end();
        self.ledger.died(h);
        self.queue(self.now_ms + down_ms, Event::Start(h));
        self.hear();
    }

    /// As at the end of a graceful stop.
    pub(super) fn abandon(&mut self, h: usize) {
        let host = &mut self.hosts[h];
        let State::Stopping { down_ms } = host.state else { return };
        host.state = State::Leaving { down_ms };
        host.alarms.renew_ms = None;
        let abandoned = host.leases.held();
        for (number, running) in take(&mut host.running) {
            host.store.handover.lanes().finished(&running.started, Health::Unknown);
            self.ledger.dropped(number);
        }
        self.tell(|_| format!("host {h} drops {} attempts", abandoned.len()));
        if !abandoned.is_empty() {
            self.send(h, Command::End(abandoned));
        }
        self.leave(h);
    }

    /// Goes down once everything is written.
    pub(super) fn leave(&mut self, h: usize) {
        if let State::Leaving { down_ms } = self.hosts[h].state
            && self.hosts[h].has_written()
        {
            self.down(h, down_ms);
        }
    }

    /// What becomes of the commit that a host makes now.
    pub(super) fn fate(&mut self, h: usize) -> Fate {
        let host = &self.hosts[h];
        let (until_ms, percent) = host.failing;
        if host.partitioned_until_ms > self.now_ms {
            Fate::OutOfReach
        } else if until_ms > self.now_ms && self.random.random_range(0..100) < percent {
            [Fate::Refused, Fate::Unheard, Fate::Conflict][self.random.random_range(0..3)]
        } else {
            Fate::Through
        }
    }

    pub(super) fn count_commit(&mut self, h: usize, fate: Fate, failed: bool) {
        let what = match (fate, failed) {
            (Fate::Refused, true) => "commits refused",
            (Fate::Unheard, _) => "commits that nobody heard of",
            (Fate::Conflict, _) => "commits made again after a conflict",
            (Fate::OutOfReach, _) => "commits out of reach",
            (Fate::Through | Fate::Refused, _) => return self.ledger.count("commits"),
        };
        self.ledger.count(what);
        self.tell(|_| format!("host {h}: {what}"));
    }

    /// Wake-ups from one host to the others, as far as they arrive. More than it would send: that does no harm.
    pub(super) fn wake_others(&mut self, from: usize) {
        let reaches = |host: &Host<'_>, now_ms: i64| host.state == State::Up && host.partitioned_until_ms <= now_ms;
        for h in (0..self.hosts.len()).filter(|h| *h != from) {
            let host = &self.hosts[h];
            if !reaches(host, self.now_ms) || host.frozen_until_ms > self.now_ms {
                continue;
            }
            for (tenant, endpoint) in self.ledger.due(START_MS + self.now_ms + host.ahead_ms) {
                if self.random.random_range(0..100) < self.plan.heard {
                    host.store.flag_backlog(&tenant.parse().unwrap(), endpoint.parse().unwrap());
                }
            }
        }
    }
}
