//! CPU time that a tenant's plugins may use in a minute.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::domain::id::TenantId;

/// Tenants whose budgets are kept; one beyond it begins anew with a full budget.
const TENANTS: usize = 10_000;

/// Each tenant's budget: filled steadily, a minute's worth at the most.
pub(super) struct Budgets {
    /// Zero: there is none.
    per_minute: Duration,
    clock: Clock,
    left: Cache<TenantId, Arc<Mutex<Left>>>,
}

/// What is left at `at`; below zero when a call used more than there was.
struct Left {
    us: f64,
    at: Timestamp,
}

impl Budgets {
    pub(super) fn new(per_minute: Duration, clock: Clock) -> Self {
        Self { per_minute, clock, left: Cache::new(TENANTS) }
    }

    /// Whether the tenant has time left for a call.
    pub(super) fn allows(&self, tenant: &TenantId) -> bool {
        self.per_minute.is_zero() || self.settle(tenant, 0.0) > 0.0
    }

    /// Takes what a call used.
    pub(super) fn spend(&self, tenant: &TenantId, used: Duration) {
        if !self.per_minute.is_zero() {
            self.settle(tenant, used.as_secs_f64() * 1e6);
        }
    }

    fn settle(&self, tenant: &TenantId, spent_us: f64) -> f64 {
        let now = self.clock.now();
        let full = self.per_minute.as_secs_f64() * 1e6;
        let fresh = || Ok::<_, Infallible>(Arc::new(Mutex::new(Left { us: full, at: now })));
        let left = self.left.get_or_insert_with(tenant, fresh).unwrap_or_else(|never| match never {});
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        let minutes = now.duration_since(left.at).as_secs_f64().max(0.0) / 60.0;
        left.us = (left.us + full * minutes).min(full) - spent_us;
        left.at = now;
        left.us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_fills_again() {
        let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
        let budgets = Budgets::new(Duration::from_secs(6), clock);
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert!(budgets.allows(&a));
        budgets.spend(&a, Duration::from_secs(7));
        assert!(!budgets.allows(&a) && budgets.allows(&b));
        hand.advance(Duration::from_secs(10));
        assert!(!budgets.allows(&a), "the second too many is paid first");
        hand.advance(Duration::from_secs(1));
        assert!(budgets.allows(&a));
        hand.advance(Duration::from_secs(3_600));
        budgets.spend(&a, Duration::from_secs(6));
        assert!(!budgets.allows(&a), "no more than a minute's worth is saved up");
    }
}
