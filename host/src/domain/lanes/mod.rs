//! Which leased delivery is attempted next: one lane an endpoint, served in turn, so that no endpoint holds up another.
//!
//! An endpoint whose last answer was prompt is *proven*. The others, dead and slow ones among them, share one half of
//! the permits and of the places, so that however many they are, the other half serves those that answer. And a tenant
//! gets no more than it leaves free: one alone has half, two have a third each, and whoever comes next finds some
//! (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998).
//!
//! The deliveries table is the only queue; lanes are its bounded front in memory. A lane whose endpoint has more
//! waiting in the table has a *backlog*: its deliveries are claimed in order, and fresh ones queue up behind them.

mod account;
mod lane;

use std::collections::{BTreeSet, HashMap, VecDeque};

use jiff::Timestamp;

use super::delivery::Leased;
use super::id::{EndpointId, TenantId};
use account::Account;
use lane::{CLAIMS, LANES_KEPT, LEAST_LIMIT, LOOKS, Lane};
pub use lane::{Health, Limits, PROMPT};

/// A leased delivery whose attempt has begun.
#[derive(Clone)]
pub struct Started {
    /// What to send.
    pub leased: Leased,
    proven: bool,
}

/// What a claim left in the table for one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remaining {
    /// More may be due already.
    More,
    /// Nothing is due before this.
    Until(Timestamp),
    /// Nothing is pending.
    Nothing,
}

/// A request to claim up to `credits` deliveries of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The owner.
    pub tenant: TenantId,
    /// Whose deliveries.
    pub endpoint: EndpointId,
    /// At most this many.
    pub credits: usize,
}

/// What the lanes of a host hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Deliveries whose attempt has not begun, and places promised to those that are about to come.
    pub waiting: usize,
    /// Attempts under way.
    pub running: usize,
    /// How many there may be.
    pub limit: usize,
}

/// All lanes of this host.
pub struct Lanes {
    limits: Limits,
    lanes: HashMap<EndpointId, Lane>,
    account: Account,
    proven: VecDeque<EndpointId>,
    unproven: VecDeque<EndpointId>,
    /// Lanes that want to claim, the longest waiting first: those not proven, and the proven.
    backlogs: [VecDeque<EndpointId>; 2],
    /// Tenants with parked lanes.
    parked: VecDeque<TenantId>,
    timers: BTreeSet<(Timestamp, EndpointId)>,
    /// Claims that are not answered yet.
    claims: usize,
}

impl Lanes {
    /// No lanes yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            account: Account::new(limits),
            proven: VecDeque::new(),
            unproven: VecDeque::new(),
            backlogs: Default::default(),
            parked: VecDeque::new(),
            timers: BTreeSet::new(),
            claims: 0,
        }
    }

    /// Promises a place to a fresh delivery that is about to be written. `false`: write it unleased; it will be claimed.
    pub fn reserve(&mut self, tenant: &TenantId, endpoint: EndpointId) -> bool {
        let lane = self.lane(tenant, endpoint);
        let free = !lane.backlog && !lane.claiming && lane.held() < lane.depth();
        if !free || self.room(tenant, endpoint) == 0 {
            return false;
        }
        self.hold(tenant, endpoint, 1);
        self.lane(tenant, endpoint).promised += 1;
        true
    }

    /// Takes back a promise: what it was for was not written.
    pub fn unreserve(&mut self, tenant: &TenantId, endpoint: EndpointId) {
        self.lane(tenant, endpoint).promised -= 1;
        self.let_go(tenant, endpoint, 1);
        self.tidy(endpoint);
    }

    /// Queues a delivery under a promise made by [`Lanes::reserve`].
    pub fn hand_over(&mut self, leased: Leased) {
        let endpoint = leased.endpoint;
        let lane = self.lane(&leased.tenant, endpoint);
        lane.promised -= 1;
        lane.queue.push_back(leased);
        self.line_up(endpoint);
    }

    /// The endpoint has deliveries due in the table. Call it after they were committed.
    pub fn flag_backlog(&mut self, tenant: &TenantId, endpoint: EndpointId) {
        let lane = self.lane(tenant, endpoint);
        lane.backlog = true;
        lane.flagged_again = lane.claiming;
        self.queue_backlog(endpoint);
    }

    /// The endpoint has a delivery in the table that will be due at `at`.
    pub fn schedule(&mut self, tenant: &TenantId, endpoint: EndpointId, at: Timestamp) {
        let lane = self.lane(tenant, endpoint);
        if lane.due.is_some_and(|due| due <= at) {
            return;
        }
        let earlier = lane.due.replace(at);
        if let Some(later) = earlier {
            self.timers.remove(&(later, endpoint));
        }
        self.timers.insert((at, endpoint));
    }

    /// Flags every endpoint whose time has come.
    pub fn flag_due(&mut self, now: Timestamp) {
        while let Some(&(at, endpoint)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(lane) = self.lanes.get_mut(&endpoint) {
                lane.due = None;
                let tenant = lane.tenant.clone();
                self.flag_backlog(&tenant, endpoint);
            }
        }
    }

    /// When the next endpoint's time comes.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// What to claim now, the longest waiting endpoint first, of those proven and the others in turn; each is to be answered
    /// by [`Lanes::claimed`]. It may be that more could be claimed after some of those answers.
    pub fn wants(&mut self) -> Vec<Want> {
        let (mut wants, mut refused) = (Vec::new(), [0, 0]);
        loop {
            let before = wants.len();
            for (proven, refused) in [false, true].into_iter().zip(&mut refused) {
                wants.extend(self.want(proven, refused));
            }
            if wants.len() == before {
                return wants;
            }
        }
    }

    /// The next claim for lanes of this standing; `refused` counts those that may have none now.
    fn want(&mut self, proven: bool, refused: &mut usize) -> Option<Want> {
        while *refused < LOOKS && self.may_claim(proven) {
            let endpoint = self.backlogs(proven).pop_front()?;
            let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
            lane.in_backlogs = false;
            if !lane.wants_claim() {
                // It has enough, and queues again when it has not.
                continue;
            }
            let (tenant, wanted) = (lane.tenant.clone(), lane.depth() - lane.held());
            let credits = wanted.min(self.room(&tenant, endpoint));
            if credits < wanted.min(self.limits.lump()) {
                *refused += 1;
                self.queue_backlog(endpoint);
                continue;
            }
            let lane = self.lane(&tenant, endpoint);
            lane.claiming = true;
            lane.promised += credits;
            self.claims += 1;
            self.hold(&tenant, endpoint, credits);
            return Some(Want { tenant, endpoint, credits });
        }
        None
    }

    /// The answer to a [`Want`]; `None` when the claim failed and is to be tried again.
    pub fn claimed(&mut self, want: &Want, claimed: Option<(Vec<Leased>, Remaining)>) {
        let (leased, remaining) = claimed.unwrap_or((Vec::new(), Remaining::More));
        self.claims -= 1;
        self.let_go(&want.tenant, want.endpoint, want.credits);
        self.hold(&want.tenant, want.endpoint, leased.len());
        let lane = self.lane(&want.tenant, want.endpoint);
        lane.claiming = false;
        lane.promised -= want.credits;
        lane.queue.extend(leased);
        lane.backlog = std::mem::take(&mut lane.flagged_again) || remaining == Remaining::More;
        self.queue_backlog(want.endpoint);
        if let Remaining::Until(at) = remaining {
            self.schedule(&want.tenant, want.endpoint, at);
        }
        self.line_up(want.endpoint);
        self.tidy(want.endpoint);
    }

    /// The next delivery to attempt, if a permit is free for it. Each is to be ended by [`Lanes::finished`].
    pub fn start(&mut self) -> Option<Started> {
        if !self.account.has_permit(true) {
            return None;
        }
        // The unproven first: their share is capped, so this starves nobody; the other order would starve them.
        if self.account.has_permit(false)
            && let Some(started) = self.start_from(false)
        {
            return Some(started);
        }
        self.start_from(true).or_else(|| self.start_parked())
    }

    /// An attempt ended, or was given up before it began. `true`: there is room to claim more.
    pub fn finished(&mut self, started: &Started, health: Health) -> bool {
        let Leased { tenant, endpoint, .. } = &started.leased;
        self.lane(tenant, *endpoint).running -= 1;
        self.account.end(tenant, started.proven);
        self.let_go(tenant, *endpoint, 1);
        self.observe(tenant, *endpoint, health);
        self.line_up(*endpoint);
        self.tidy(*endpoint);
        self.queue_backlog(*endpoint);
        [false, true].into_iter().any(|proven| !self.backlogs(proven).is_empty() && self.may_claim(proven))
    }

    /// Learns how the endpoint answers, also from attempts made outside the lanes.
    pub fn observe(&mut self, tenant: &TenantId, endpoint: EndpointId, health: Health) {
        let limits = self.limits;
        let lane = self.lane(tenant, endpoint);
        let was_proven = lane.proven;
        match health {
            Health::Prompt => {
                lane.proven = true;
                lane.limit = (lane.limit + 1).min(limits.per_endpoint);
            }
            Health::Troubled => {
                lane.proven = false;
                lane.limit = (lane.limit / 2).max(LEAST_LIMIT.min(limits.per_endpoint));
            }
            Health::Unknown => {}
        }
        let (held, proven) = (lane.held(), lane.proven);
        if was_proven == proven {
            return;
        }
        // Its place in the other turn queue is stale now.
        lane.in_turn = None;
        let waits_to_claim = std::mem::take(&mut lane.in_backlogs);
        self.account.proved(tenant, proven, held);
        if waits_to_claim {
            self.backlogs(was_proven).retain(|waiting| *waiting != endpoint);
            self.queue_backlog(endpoint);
        }
        self.line_up(endpoint);
    }

    /// After a start, before anything is known of it here: an endpoint that did not fail when it was last tried.
    pub fn presume_proven(&mut self, tenant: &TenantId, endpoint: EndpointId) {
        if !self.lanes.contains_key(&endpoint) {
            self.lane(tenant, endpoint).proven = true;
        }
    }

    /// What they hold now.
    #[must_use]
    pub fn load(&self) -> Load {
        let used = self.account.total();
        Load { waiting: used.held - used.running, running: used.running, limit: self.limits.in_flight }
    }

    /// Starts nothing any more and gives back what was queued.
    pub fn close(&mut self) -> Vec<Leased> {
        self.account.close();
        self.left_behind()
    }

    /// What was queued since they were closed, under promises made before, and that nobody will start.
    pub fn left_behind(&mut self) -> Vec<Leased> {
        if !self.account.is_closed() {
            return Vec::new();
        }
        let endpoints: Vec<EndpointId> = self.lanes.keys().copied().collect();
        let mut queued = Vec::new();
        for endpoint in endpoints {
            let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
            let (count, tenant) = (lane.queue.len(), lane.tenant.clone());
            queued.extend(lane.queue.drain(..));
            self.let_go(&tenant, endpoint, count);
        }
        queued
    }

    /// Counts anew what it counts as it goes, and panics where the two differ. `true`: nothing is held.
    #[cfg(test)]
    pub(crate) fn recounted(&self) -> bool {
        let mut counted: HashMap<&TenantId, (usize, usize, usize)> = HashMap::new();
        for lane in self.lanes.values() {
            let (held, unproven_held, running) = counted.entry(&lane.tenant).or_default();
            *held += lane.held();
            *unproven_held += if lane.proven { 0 } else { lane.held() };
            *running += lane.running;
        }
        for (tenant, counted) in counted {
            let used = self.account.of(tenant);
            assert_eq!((used.held, used.unproven_held, used.running), counted, "of tenant {tenant}");
        }
        self.account.adds_up()
    }

    fn lane(&mut self, tenant: &TenantId, endpoint: EndpointId) -> &mut Lane {
        let first = self.limits.first();
        self.lanes.entry(endpoint).or_insert_with(|| Lane::new(tenant.clone(), first))
    }

    fn backlogs(&mut self, proven: bool) -> &mut VecDeque<EndpointId> {
        &mut self.backlogs[usize::from(proven)]
    }

    fn queue_backlog(&mut self, endpoint: EndpointId) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if lane.wants_claim() && !std::mem::replace(&mut lane.in_backlogs, true) {
            let proven = lane.proven;
            self.backlogs(proven).push_back(endpoint);
        }
    }

    /// Whether there may be one more claim for lanes of this standing.
    fn may_claim(&self, proven: bool) -> bool {
        self.claims < CLAIMS && self.account.has_lump(proven)
    }

    fn is_proven(&self, endpoint: EndpointId) -> bool {
        self.lanes.get(&endpoint).is_some_and(|lane| lane.proven)
    }

    fn room(&self, tenant: &TenantId, endpoint: EndpointId) -> usize {
        self.account.room(tenant, self.is_proven(endpoint))
    }

    fn hold(&mut self, tenant: &TenantId, endpoint: EndpointId, places: usize) {
        self.account.hold(tenant, self.is_proven(endpoint), places);
    }

    fn let_go(&mut self, tenant: &TenantId, endpoint: EndpointId, places: usize) {
        self.account.let_go(tenant, self.is_proven(endpoint), places);
    }

    fn start_from(&mut self, proven: bool) -> Option<Started> {
        loop {
            let queue = if proven { &mut self.proven } else { &mut self.unproven };
            let endpoint = queue.pop_front()?;
            let Some(lane) = self.lanes.get(&endpoint) else { continue };
            if lane.in_turn != Some(proven) || lane.proven != proven {
                continue;
            }
            let tenant = lane.tenant.clone();
            if self.account.has_permit_for(&tenant, proven) {
                if let Some(started) = self.start_lane(&tenant, endpoint) {
                    return Some(started);
                }
                continue;
            }
            // Stays marked as in turn: it is, behind the tenant's own attempts.
            if self.account.park(&tenant, proven, endpoint) {
                self.parked.push_back(tenant);
            }
        }
    }

    /// The first parked lane whose tenant has its share again.
    fn start_parked(&mut self) -> Option<Started> {
        for _ in 0..self.parked.len() {
            let tenant = self.parked.pop_front()?;
            // As above; and neither waits for the other's share.
            let started = [false, true].into_iter().find_map(|proven| self.start_parked_of(&tenant, proven));
            if self.account.has_parked(&tenant) {
                self.parked.push_back(tenant);
            }
            if started.is_some() {
                return started;
            }
        }
        None
    }

    fn start_parked_of(&mut self, tenant: &TenantId, proven: bool) -> Option<Started> {
        while self.account.has_permit_for(tenant, proven) {
            let endpoint = self.account.unpark(tenant, proven)?;
            let in_turn = self.lanes.get(&endpoint).is_some_and(|lane| lane.in_turn == Some(proven));
            if in_turn && let Some(started) = self.start_lane(tenant, endpoint) {
                return Some(started);
            }
        }
        None
    }

    /// Starts the lane's first delivery, if its limit allows, and lines it up for the next.
    fn start_lane(&mut self, tenant: &TenantId, endpoint: EndpointId) -> Option<Started> {
        let lane = self.lane(tenant, endpoint);
        lane.in_turn = None;
        if lane.running >= lane.limit {
            return None;
        }
        let leased = lane.queue.pop_front()?;
        let proven = lane.proven;
        lane.running += 1;
        self.account.begin(tenant, proven);
        self.line_up(endpoint);
        Some(Started { leased, proven })
    }

    /// Puts the lane at the end of its turn queue, if it has something to start and may.
    fn line_up(&mut self, endpoint: EndpointId) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if lane.in_turn.is_some() || lane.queue.is_empty() || lane.running >= lane.limit {
            return;
        }
        lane.in_turn = Some(lane.proven);
        let queue = if lane.proven { &mut self.proven } else { &mut self.unproven };
        queue.push_back(endpoint);
    }

    /// Forgets an idle lane, if there are too many.
    fn tidy(&mut self, endpoint: EndpointId) {
        if self.lanes.len() > LANES_KEPT && self.lanes.get(&endpoint).is_some_and(Lane::is_idle) {
            self.lanes.remove(&endpoint);
        }
    }
}

#[cfg(test)]
mod tests;
