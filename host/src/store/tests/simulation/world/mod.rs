//! Time, whose turn it is, and the producers.

mod faults;
mod steps;

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Semaphore;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::host::{Host, State};
use super::ledger::Ledger;
use super::plan::Plan;
use super::table::Table;
use super::{DELAYS_MS, Tally, at};
use crate::domain::lanes::Started;
use crate::domain::retry::RetrySchedule;
use crate::store::group::{Accept, Command};
use crate::store::{AcceptError, Accepted, Leases};

/// A task that is ready has its turn within this time.
const STEP_MS: i64 = 20;
/// A producer that has heard nothing posts again.
const PATIENCE_MS: i64 = 2_000;
/// All is over so long after the last fault, however slow the receivers are.
const DRAINED_MS: i64 = 3_600_000;
/// Lines of the story that a failure shows.
const SHOWN: usize = 60;

/// What a producer waits for.
type Answer = oneshot::Receiver<Result<Vec<Accepted>, AcceptError>>;

/// A moment; what is at the same one comes in an order of the seed's.
type Moment = (i64, u32, u64);

enum Event {
    /// The core product posts, or posts again.
    Post(usize),
    Fault(usize),
    Start(usize),
    /// A clock that was wrong is set right.
    SetRight(usize),
    /// Of a host, in one of its lives.
    Step(usize, u32, Step),
}

enum Step {
    /// The dispatcher's turn.
    Turn,
    /// The safety poll looks.
    Poll,
    /// The leases of what runs are renewed.
    Renew,
    /// An attempt begins.
    Begin(Box<Started>),
    /// This attempt has its answer.
    End(usize),
    /// This writer drains what waits and commits it.
    Write(usize),
    /// This writer hears of its commit.
    Answered(usize),
    /// What runs after the grace is dropped.
    Abandon,
}

pub(super) struct World<'l> {
    seed: u64,
    random: StdRng,
    plan: Plan,
    table: &'l Table,
    hosts: Vec<Host<'l>>,
    ledger: Ledger,
    schedule: RetrySchedule,
    room: Arc<Semaphore>,
    /// Postings whose answer is still to come.
    waiting: Vec<(usize, Answer)>,
    acknowledged: Vec<bool>,
    coming: BTreeMap<Moment, Event>,
    queued: u64,
    now_ms: i64,
    story: Vec<String>,
    told: bool,
}

impl<'l> World<'l> {
    /// Before anything has happened. `told`: it tells its story as it goes.
    pub(super) fn new(table: &'l Table, leases: &'l [Leases], seed: u64, told: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let plan = Plan::new(&mut random, table);
        let delays = DELAYS_MS.map(|ms| Duration::from_millis(ms.unsigned_abs()));
        let mut world = Self {
            seed,
            random,
            hosts: leases.iter().take(plan.hosts).map(|leases| Host::new(table, plan.limits, leases)).collect(),
            table,
            ledger: Ledger::default(),
            schedule: RetrySchedule::new(delays.to_vec()),
            room: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            waiting: Vec::new(),
            acknowledged: vec![false; plan.postings.len()],
            coming: BTreeMap::new(),
            queued: 0,
            now_ms: 0,
            story: Vec::new(),
            told,
            plan,
        };
        (0..world.hosts.len()).for_each(|host| world.queue(0, Event::Start(host)));
        let postings: Vec<i64> = world.plan.postings.iter().map(|posting| posting.at_ms).collect();
        let faults: Vec<i64> = world.plan.faults.iter().map(|(at_ms, ..)| *at_ms).collect();
        postings.iter().enumerate().for_each(|(number, at_ms)| world.queue(*at_ms, Event::Post(number)));
        faults.iter().enumerate().for_each(|(number, at_ms)| world.queue(*at_ms, Event::Fault(number)));
        world
    }

    /// Until all is delivered or given up, and all hosts are at rest.
    pub(super) async fn run(&mut self) {
        self.tell(|world| format!("{} hosts, {:?}", world.hosts.len(), world.plan.limits));
        while !self.is_over() {
            let (now_ms, event) = self.next();
            self.now_ms = now_ms;
            let late = now_ms > self.plan.quiet_ms + DRAINED_MS;
            assert!(!late, "it comes to no end: {:#?}", self.ledger.unfinished());
            self.hosts.iter().for_each(|host| host.hand.set(at(now_ms + host.ahead_ms)));
            if let Some(event) = event {
                self.happen(event).await;
            }
            self.look();
        }
        self.ledger.check_end(&self.table.history().await);
        assert_eq!(
            self.table.miscounted().await,
            Vec::<String>::new(),
            "events that say something else of their deliveries"
        );
    }

    pub(super) fn tally(&mut self) -> Tally {
        take(&mut self.ledger.tally)
    }

    pub(super) fn story(&mut self) -> Vec<String> {
        take(&mut self.story)
    }

    fn is_over(&self) -> bool {
        self.now_ms >= self.plan.quiet_ms
            && self.acknowledged.iter().all(|acknowledged| *acknowledged)
            && self.ledger.unfinished().is_empty()
            && self.hosts.iter().all(Host::is_at_rest)
    }

    /// What happens next, and when; `None`: somebody wakes.
    fn next(&mut self) -> (i64, Option<Event>) {
        let due_ms = self.coming.first_key_value().map(|((at_ms, ..), _)| *at_ms);
        let alarm_ms = self.hosts.iter().filter_map(Host::next_alarm_ms).min();
        match (due_ms, alarm_ms) {
            (Some(due_ms), alarm_ms) if alarm_ms.is_none_or(|alarm_ms| due_ms <= alarm_ms) => {
                let (_, event) = self.coming.pop_first().expect("it has a first");
                (due_ms.max(self.now_ms), Some(event))
            }
            (_, Some(alarm_ms)) => (alarm_ms.max(self.now_ms), None),
            (_, None) => panic!("nobody has anything to do: {:#?}", self.ledger.unfinished()),
        }
    }

    async fn happen(&mut self, event: Event) {
        let (h, life, step) = match event {
            Event::Post(number) => return self.post(number),
            Event::Fault(number) => return self.strike(number),
            Event::Start(h) => return self.start(h).await,
            Event::SetRight(h) => {
                self.hosts[h].ahead_ms = 0;
                return;
            }
            Event::Step(h, life, step) => (h, life, step),
        };
        let frozen_until_ms = self.hosts[h].frozen_until_ms;
        match step {
            _ if self.hosts[h].life != life => {}
            step if frozen_until_ms > self.now_ms => self.queue(frozen_until_ms, Event::Step(h, life, step)),
            Step::Turn => self.turn(h),
            Step::Poll => self.poll(h).await,
            Step::Renew => self.renew(h),
            Step::Begin(started) => self.begin(h, *started),
            Step::End(number) => self.end(h, number),
            Step::Write(writer) => self.write(h, writer).await,
            Step::Answered(writer) => self.answered(h, writer),
            Step::Abandon => self.abandon(h),
        }
    }

    /// After everything that happens: who is woken has its turn soon, and nobody else has anything to do.
    fn look(&mut self) {
        for h in 0..self.hosts.len() {
            let host = &mut self.hosts[h];
            if host.state == State::Down || host.frozen_until_ms > self.now_ms {
                continue;
            }
            let clock_ms = self.now_ms + host.ahead_ms;
            let passed = |alarm_ms: &mut Option<i64>| alarm_ms.take_if(|at_ms| *at_ms <= clock_ms).is_some();
            let (polls, renews) = (passed(&mut host.alarms.poll_ms), passed(&mut host.alarms.renew_ms));
            let dispatches = host.state == State::Up && !host.turning;
            let turns = dispatches && (host.is_woken() || passed(&mut host.alarms.due_ms));
            if turns {
                (host.turning, host.alarms.due_ms) = (true, None);
            } else if dispatches {
                host.assert_nothing_to_do(h);
            }
            host.store.handover.lanes().recounted();
            for (wakes, step) in [(polls, Step::Poll), (renews, Step::Renew), (turns, Step::Turn)] {
                if wakes {
                    self.soon(h, step);
                }
            }
        }
    }

    fn post(&mut self, number: usize) {
        if self.acknowledged[number] {
            return;
        }
        self.queue(self.now_ms + PATIENCE_MS, Event::Post(number));
        let up: Vec<usize> = (0..self.hosts.len()).filter(|h| self.hosts[*h].state == State::Up).collect();
        if up.is_empty() {
            return;
        }
        let h = up[self.random.random_range(0..up.len())];
        self.tell(|_| format!("posting {number} to host {h}"));
        let (answer, answered) = oneshot::channel();
        self.waiting.push((number, answered));
        let events = self.plan.postings[number].events.clone();
        let room = self.room.clone().try_acquire_owned().expect("there is room for all");
        self.send(h, Command::Accept(Accept { events, _room: room, answer, progress: None }));
    }

    /// What the producers hear.
    fn hear(&mut self) {
        let mut heard = Vec::new();
        self.waiting.retain_mut(|(number, answered)| match answered.try_recv() {
            Ok(Ok(accepted)) => {
                heard.push((*number, accepted));
                false
            }
            Ok(Err(AcceptError::Unavailable)) | Err(TryRecvError::Closed) => false,
            Ok(Err(error)) => panic!("posting {number}: {error}"),
            Err(TryRecvError::Empty) => true,
        });
        for (number, accepted) in heard {
            self.acknowledged[number] = true;
            self.tell(|_| format!("posting {number} is acknowledged"));
            let posting = &self.plan.postings[number];
            for (event, accepted) in posting.events.iter().zip(&accepted) {
                let stored = self.ledger.deliveries_of(event.id.as_str());
                assert_eq!((stored, accepted.deliveries), (posting.deliveries, posting.deliveries), "{}", event.id);
            }
            assert_eq!(accepted.len(), posting.events.len());
        }
    }

    /// To a host's writers.
    fn send(&mut self, h: usize, command: Command) {
        self.hosts[h].commands.push_back(command);
        if let Some(writer) = self.hosts[h].idle_writer() {
            self.soon(h, Step::Write(writer));
        }
    }

    fn begin_soon(&mut self, h: usize, started: Vec<Started>) {
        for started in started {
            self.soon(h, Step::Begin(Box::new(started)));
        }
    }

    fn soon(&mut self, h: usize, step: Step) {
        self.within(h, STEP_MS, step);
    }

    fn within(&mut self, h: usize, ms: i64, step: Step) {
        let at_ms = self.now_ms + self.random.random_range(0..=ms);
        self.queue(at_ms, Event::Step(h, self.hosts[h].life, step));
    }

    fn queue(&mut self, at_ms: i64, event: Event) {
        self.queued += 1;
        self.coming.insert((at_ms, self.random.random(), self.queued), event);
    }

    fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        let line = format!("{:>8} ms  {}", self.now_ms, line(self));
        if self.told {
            eprintln!("{line}");
        }
        self.story.push(line);
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = &self.story[self.story.len().saturating_sub(SHOWN)..];
            eprintln!(
                "{}\nat {} ms of seed {seed}; SIMULATION_SEED={seed} plays it again",
                shown.join("\n"),
                self.now_ms,
                seed = self.seed
            );
        }
    }
}
