//! Who uses how much of the places and permits: all lanes together, those not proven, and each tenant.

use std::collections::{HashMap, VecDeque};

use super::lane::Limits;
use crate::domain::id::{EndpointId, TenantId};

/// How much is in use.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Used {
    /// Queued, promised and running.
    pub(super) held: usize,
    /// The part of `held` in lanes that are not proven.
    pub(super) unproven_held: usize,
    pub(super) running: usize,
    /// The part of `running` that was started from lanes that were not proven.
    pub(super) unproven_running: usize,
}

/// A tenant's part.
#[derive(Default)]
struct Share {
    used: Used,
    /// Lanes whose turn came while the tenant had its share: those not proven, and the proven. As in the turn queues, an entry
    /// whose lane is not in turn as such is stale.
    parked: [VecDeque<EndpointId>; 2],
}

pub(super) struct Account {
    limits: Limits,
    total: Used,
    /// Of tenants that hold a place.
    shares: HashMap<TenantId, Share>,
    closed: bool,
}

impl Account {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, total: Used::default(), shares: HashMap::new(), closed: false }
    }

    pub(super) fn total(&self) -> Used {
        self.total
    }

    pub(super) fn of(&self, tenant: &TenantId) -> Used {
        self.shares.get(tenant).map_or_else(Used::default, |share| share.used)
    }

    /// From now on there is no place and no permit for anybody.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether one more attempt may start from a lane of this standing, if its tenant may have it.
    pub(super) fn has_permit(&self, proven: bool) -> bool {
        !self.closed
            && self.total.running < self.limits.in_flight
            && (proven || self.total.unproven_running < Limits::half(self.limits.in_flight))
    }

    /// Whether the tenant may start one more attempt to an endpoint of this standing.
    pub(super) fn has_permit_for(&self, tenant: &TenantId, proven: bool) -> bool {
        let used = self.of(tenant);
        let free = self.limits.in_flight - self.total.running;
        let half = Limits::half(self.limits.in_flight).saturating_sub(self.total.unproven_running);
        used.running < free && (proven || used.unproven_running < half)
    }

    /// Whether so many places are free, for lanes of this standing, that a claim is worth it.
    pub(super) fn has_lump(&self, proven: bool) -> bool {
        let (lump, half) = (self.limits.lump(), Limits::half(self.limits.total_depth()));
        self.free_places() >= lump && (proven || half.saturating_sub(self.total.unproven_held) >= lump)
    }

    /// Places free for a lane of this standing: half of what its tenant leaves free, so that it ends where both are equal.
    pub(super) fn room(&self, tenant: &TenantId, proven: bool) -> usize {
        let (used, free) = (self.of(tenant), self.free_places());
        let room = free.saturating_sub(used.held).div_ceil(2);
        if proven {
            return room;
        }
        let half = Limits::half(self.limits.total_depth()).saturating_sub(self.total.unproven_held).min(free);
        room.min(half.saturating_sub(used.unproven_held).div_ceil(2))
    }

    fn free_places(&self) -> usize {
        if self.closed { 0 } else { self.limits.total_depth().saturating_sub(self.total.held) }
    }

    /// So many places more for a lane of this standing.
    pub(super) fn hold(&mut self, tenant: &TenantId, proven: bool, places: usize) {
        if places == 0 {
            return;
        }
        self.change(tenant, |used| {
            used.held += places;
            used.unproven_held += if proven { 0 } else { places };
        });
    }

    /// So many places less.
    pub(super) fn let_go(&mut self, tenant: &TenantId, proven: bool, places: usize) {
        if places == 0 {
            return;
        }
        self.change(tenant, |used| {
            used.held -= places;
            used.unproven_held -= if proven { 0 } else { places };
        });
        if self.of(tenant).held == 0 {
            self.shares.remove(tenant);
        }
    }

    /// A lane that holds so many places is proven now, or not any more.
    pub(super) fn proved(&mut self, tenant: &TenantId, proven: bool, places: usize) {
        if places == 0 {
            return;
        }
        self.change(tenant, |used| match proven {
            true => used.unproven_held -= places,
            false => used.unproven_held += places,
        });
    }

    /// An attempt begins, from a lane of this standing.
    pub(super) fn begin(&mut self, tenant: &TenantId, proven: bool) {
        self.change(tenant, |used| {
            used.running += 1;
            used.unproven_running += usize::from(!proven);
        });
    }

    /// An attempt ends that began from a lane of this standing.
    pub(super) fn end(&mut self, tenant: &TenantId, proven: bool) {
        self.change(tenant, |used| {
            used.running -= 1;
            used.unproven_running -= usize::from(!proven);
        });
    }

    /// Its turn came while its tenant had its share. `true`: it is the tenant's only one.
    pub(super) fn park(&mut self, tenant: &TenantId, proven: bool, endpoint: EndpointId) -> bool {
        let is_only = !self.has_parked(tenant);
        self.share(tenant).parked[usize::from(proven)].push_back(endpoint);
        is_only
    }

    /// The one that was parked first.
    pub(super) fn unpark(&mut self, tenant: &TenantId, proven: bool) -> Option<EndpointId> {
        self.shares.get_mut(tenant)?.parked[usize::from(proven)].pop_front()
    }

    pub(super) fn has_parked(&self, tenant: &TenantId) -> bool {
        self.shares.get(tenant).is_some_and(|share| share.parked.iter().any(|parked| !parked.is_empty()))
    }

    fn change(&mut self, tenant: &TenantId, change: impl Fn(&mut Used)) {
        change(&mut self.share(tenant).used);
        change(&mut self.total);
    }

    fn share(&mut self, tenant: &TenantId) -> &mut Share {
        if !self.shares.contains_key(tenant) {
            self.shares.insert(tenant.clone(), Share::default());
        }
        self.shares.get_mut(tenant).expect("it is there now")
    }

    /// Panics where the shares do not add up. `true`: nothing is held.
    #[cfg(test)]
    pub(super) fn adds_up(&self) -> bool {
        let sum = |of: fn(&Used) -> usize| self.shares.values().map(|share| of(&share.used)).sum::<usize>();
        let total = Used {
            held: sum(|used| used.held),
            unproven_held: sum(|used| used.unproven_held),
            running: sum(|used| used.running),
            unproven_running: sum(|used| used.unproven_running),
        };
        assert_eq!(self.total, total, "of all tenants");
        assert!(total.unproven_running <= total.running && total.running <= self.limits.in_flight);
        total.held == 0 && self.shares.is_empty()
    }
}
