//! Rate limits of tenants: what is left to each of its quota, on this host.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use metrics::counter;
use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::domain::id::TenantId;
use crate::domain::quota::{Quota, Refused, Taken, WHOLE};

/// Tenants whose quotas are remembered; beyond it those longest unasked for begin anew with a whole one.
const TENANTS: usize = 10_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Events that are posted for a tenant.
    Events,
    /// Calls of the API and the settings pages by a tenant's own tokens and people.
    Calls,
}

/// Where a tenant stands after a use, or after one that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whose.
    pub tenant: TenantId,
    /// Of what.
    pub counted: Counted,
    /// How much there is.
    pub quota: Quota,
    /// Units that fit now.
    pub left: u32,
    /// Seconds until the quota is whole again; after a refusal, until what was refused fits.
    pub in_s: u32,
}

/// A use beyond a tenant's quota. Nothing was taken.
#[derive(Debug, thiserror::Error)]
pub enum OverLimit {
    /// It fits later.
    #[error("{}; try again in {} s", .0.allowance(), .0.in_s)]
    Later(Standing),
    /// It is more than the whole quota.
    #[error("{}; these are more at once than ever fit", .0.allowance())]
    Never(Standing),
}

/// Each tenant's quota of one thing.
pub struct Quotas {
    counted: Counted,
    quota: Quota,
    clock: Clock,
    /// When each will be whole again.
    levels: Cache<TenantId, Arc<AtomicI64>>,
}

impl Counted {
    /// The name of the limit.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Calls => "api",
        }
    }
}

impl Standing {
    fn allowance(&self) -> String {
        let Self { tenant, quota, .. } = self;
        let (units, window_s) = (quota.units(), quota.window_s());
        match self.counted {
            Counted::Events => format!("`{tenant}` may have {units} events in {window_s} s"),
            Counted::Calls => format!("`{tenant}` may make {units} calls in {window_s} s"),
        }
    }
}

impl OverLimit {
    /// Whose quota it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        let (Self::Later(standing) | Self::Never(standing)) = self;
        &standing.tenant
    }
}

impl Quotas {
    /// Such a quota for each tenant.
    #[must_use]
    pub fn new(counted: Counted, quota: Quota, clock: Clock) -> Self {
        Self { counted, quota, clock, levels: Cache::new(TENANTS) }
    }

    /// Takes so many units of a tenant's quota, or none.
    pub fn take(&self, tenant: &TenantId, units: u32) -> Result<Standing, OverLimit> {
        let taken = self.take_from(&self.level(tenant), units);
        taken.map(|taken| self.after(tenant, taken)).map_err(|refused| self.refusal(tenant, refused))
    }

    /// Takes units of several tenants' quotas, all or none. Gives the standing of the tenant that has least left, or the refusal
    /// of the one that has to wait longest. `None`: nothing is wanted.
    pub fn take_all(&self, wanted: &[(&TenantId, u32)]) -> Result<Option<Standing>, OverLimit> {
        let levels: Vec<Arc<AtomicI64>> = wanted.iter().map(|(tenant, _)| self.level(tenant)).collect();
        // A look first: a refusal must not for a moment take from those who have enough.
        let now = self.clock.now();
        let refused = wanted.iter().zip(&levels).filter_map(|((tenant, units), level)| {
            let refused = self.quota.take(level.load(Relaxed), now, *units).err()?;
            Some((*tenant, refused))
        });
        if let Some((tenant, refused)) = refused.max_by_key(|(_, refused)| *refused) {
            return Err(self.refusal(tenant, refused));
        }
        let mut least: Option<(&TenantId, Taken)> = None;
        for (at, ((tenant, units), level)) in wanted.iter().zip(&levels).enumerate() {
            match self.take_from(level, *units) {
                Ok(taken) if least.is_none_or(|(_, least)| taken.left < least.left) => least = Some((*tenant, taken)),
                Ok(_) => {}
                Err(refused) => {
                    // Somebody took it since the look.
                    for ((_, units), level) in wanted.iter().zip(&levels).take(at) {
                        level.fetch_sub(self.quota.worth(*units), Relaxed);
                    }
                    return Err(self.refusal(tenant, refused));
                }
            }
        }
        Ok(least.map(|(tenant, taken)| self.after(tenant, taken)))
    }

    fn level(&self, tenant: &TenantId) -> Arc<AtomicI64> {
        let whole = || Ok::<_, Infallible>(Arc::new(AtomicI64::new(WHOLE)));
        let Ok(level) = self.levels.get_or_insert_with(tenant, whole);
        level
    }

    fn take_from(&self, level: &AtomicI64, units: u32) -> Result<Taken, Refused> {
        let now = self.clock.now();
        let mut whole_at = level.load(Relaxed);
        loop {
            let taken = self.quota.take(whole_at, now, units)?;
            match level.compare_exchange_weak(whole_at, taken.whole_at, Relaxed, Relaxed) {
                Ok(_) => return Ok(taken),
                Err(changed) => whole_at = changed,
            }
        }
    }

    fn after(&self, tenant: &TenantId, taken: Taken) -> Standing {
        self.standing(tenant, taken.left, taken.whole_in_s)
    }

    fn refusal(&self, tenant: &TenantId, refused: Refused) -> OverLimit {
        counter!("revnoxa_rate_limited_total", "limit" => self.counted.name()).increment(1);
        match refused {
            Refused::Later { wait_s, left } => OverLimit::Later(self.standing(tenant, left, wait_s)),
            Refused::Never { left } => OverLimit::Never(self.standing(tenant, left, 0)),
        }
    }

    fn standing(&self, tenant: &TenantId, left: u32, in_s: u32) -> Standing {
        Standing { tenant: tenant.clone(), counted: self.counted, quota: self.quota, left, in_s }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::clock::Hand;

    fn quotas(units: u32) -> (Quotas, Hand) {
        let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
        (Quotas::new(Counted::Events, Quota::new(units, Duration::from_secs(60)), clock), hand)
    }

    fn tenant(id: &str) -> TenantId {
        id.parse().unwrap()
    }

    #[test]
    fn tenants_have_quotas_of_their_own() {
        let (quotas, hand) = quotas(2);
        let (a, b) = (tenant("a"), tenant("b"));
        assert_eq!(quotas.take(&a, 2).unwrap().left, 0);
        assert_eq!(quotas.take(&a, 1).unwrap_err().to_string(), "`a` may have 2 events in 60 s; try again in 30 s");
        assert_eq!(quotas.take(&b, 1).unwrap().left, 1);
        hand.advance(Duration::from_secs(30));
        assert_eq!(quotas.take(&a, 1).unwrap().in_s, 60);
    }

    #[test]
    fn all_get_what_they_want_or_none_gets_anything() {
        let (quotas, _hand) = quotas(10);
        let [a, b, c] = ["a", "b", "c"].map(tenant);
        let least = quotas.take_all(&[(&a, 7), (&b, 8), (&c, 1)]).unwrap().unwrap();
        assert_eq!((least.tenant, least.left), (b.clone(), 2));
        let over = quotas.take_all(&[(&a, 4), (&b, 4), (&c, 1)]).unwrap_err();
        assert_eq!(
            (over.tenant(), over.to_string().as_str()),
            (&b, "`b` may have 10 events in 60 s; try again in 12 s")
        );
        let over = quotas.take_all(&[(&a, 11), (&b, 4)]).unwrap_err();
        assert!(*over.tenant() == a && over.to_string().contains("more at once than ever fit"), "{over}");
        for (tenant, left) in [(&a, 3), (&b, 2), (&c, 9)] {
            assert_eq!(quotas.take(tenant, 0).unwrap().left, left, "{tenant}");
        }
        assert_eq!(quotas.take_all(&[]).unwrap(), None);
    }

    #[test]
    fn many_at_once_get_no_more_than_there_is() {
        let (quotas, _hand) = quotas(1_000);
        let (a, b) = (tenant("a"), tenant("b"));
        let taken: u32 = std::thread::scope(|scope| {
            let one = || (0..500).filter(|_| quotas.take(&a, 1).is_ok()).count();
            let both = || (0..500).filter(|_| quotas.take_all(&[(&a, 1), (&b, 1)]).is_ok()).count();
            let threads = [scope.spawn(one), scope.spawn(one), scope.spawn(both), scope.spawn(both)];
            threads.into_iter().map(|thread| u32::try_from(thread.join().unwrap()).unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
        assert_eq!(quotas.take(&a, 0).unwrap().left, 0);
    }

    #[test]
    fn more_tenants_than_are_remembered_take_no_more_memory() {
        let (quotas, _hand) = quotas(1);
        for n in 0..3 * TENANTS {
            quotas.take(&tenant(&format!("tenant-{n}")), 1).unwrap();
        }
        let remembered = quotas.levels.len();
        assert!((TENANTS / 2..=TENANTS * 11 / 10).contains(&remembered), "{remembered}");
    }
}
