//! The leases of attempts that run, which are renewed until they end.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::millis;
use crate::domain::delivery::Leased;
use crate::domain::id::{DeliveryId, TenantId};

/// A lease that somebody works under.
#[derive(Debug, Clone)]
pub struct Lease {
    pub(super) tenant: TenantId,
    pub(super) id: DeliveryId,
    pub(super) claim: i64,
    until_ms: Arc<AtomicI64>,
}

impl Lease {
    /// When it runs out, as far as is known.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        Timestamp::from_millisecond(self.until_ms.load(Ordering::Relaxed)).unwrap_or(Timestamp::MAX)
    }

    /// Whether it may run out before it is renewed, which happens every `renewal`.
    #[must_use]
    pub fn runs_out(&self, now: Timestamp, renewal: SignedDuration) -> bool {
        now.saturating_add(renewal).unwrap_or(Timestamp::MAX) > self.until()
    }

    pub(super) fn renewed(&self, until: Timestamp) {
        self.until_ms.fetch_max(millis(until), Ordering::Relaxed);
    }
}

/// The leases that this host's attempts hold.
#[derive(Default)]
pub struct Leases(Mutex<HashMap<(DeliveryId, i64), Lease>>);

impl Leases {
    /// Holds a lease until what this gives is dropped.
    pub fn hold(&self, leased: &Leased) -> LeaseGuard<'_> {
        let until_ms = Arc::new(AtomicI64::new(millis(leased.lease_until)));
        let lease = Lease { tenant: leased.tenant.clone(), id: leased.id, claim: leased.claim, until_ms };
        self.map().insert((lease.id, lease.claim), lease.clone());
        LeaseGuard { leases: self, lease }
    }

    /// Those that are held now.
    pub fn held(&self) -> Vec<Lease> {
        self.map().values().cloned().collect()
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<(DeliveryId, i64), Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease held as long as this is.
pub struct LeaseGuard<'l> {
    leases: &'l Leases,
    lease: Lease,
}

impl Deref for LeaseGuard<'_> {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl Drop for LeaseGuard<'_> {
    fn drop(&mut self) {
        self.leases.map().remove(&(self.lease.id, self.lease.claim));
    }
}
