//! When a tenant's next connection may be made. Making one costs several times what a request over one that is there costs: an event for
//! a hundred endpoints without would take the whole machine for a moment, and everybody's other events would wait behind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Between two connections of a tenant on a machine with one processor; with several it is so much shorter. To make one and send a request
/// over it takes about a tenth of that, over plain TCP on loopback.
const GAP: Duration = Duration::from_millis(2);
/// Connections that a tenant may make at once after it has made none for a while.
const AT_ONCE: u32 = 4;

/// The turns of all tenants that have pools.
pub(super) struct Pace {
    gap: Duration,
    tenants: Mutex<HashMap<Box<str>, Weak<Turns>>>,
}

/// The turns of one tenant.
pub(super) struct Turns {
    gap: Duration,
    /// When the next would be if all had the same gap. Whoever waits for it holds this, and the others wait in line.
    next: tokio::sync::Mutex<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        let processors = available_parallelism().map_or(1, |processors| u32::try_from(processors.get()).unwrap_or(1));
        Self { gap: GAP / processors, tenants: Mutex::default() }
    }

    pub(super) fn of(&self, tenant: &str) -> Arc<Turns> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = tenants.get(tenant).and_then(Weak::upgrade) {
            return turns;
        }
        // As seldom as the map grows.
        if tenants.len() == tenants.capacity() {
            tenants.retain(|_, turns| turns.strong_count() > 0);
        }
        let now = Instant::now();
        let turns = Arc::new(Turns { gap: self.gap, next: tokio::sync::Mutex::new(now - self.gap * AT_ONCE) });
        tenants.insert(tenant.into(), Arc::downgrade(&turns));
        turns
    }
}

impl Turns {
    /// Waits for a turn and takes it. `false`: it is not needed any more, and left to the next.
    pub(super) async fn take(&self, is_needed: impl Fn() -> bool) -> bool {
        let mut next = self.next.lock().await;
        if !is_needed() {
            return false;
        }
        let turn = self.turn(*next, Instant::now());
        if turn > Instant::now() {
            sleep_until(turn).await;
            if !is_needed() {
                return false;
            }
        }
        *next = turn + self.gap;
        true
    }

    fn turn(&self, next: Instant, now: Instant) -> Instant {
        next.max(now - self.gap * (AT_ONCE - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_few_at_once_they_come_one_after_the_other() {
        let (turns, now) = (Pace::new().of("acme"), Instant::now());
        let mut next = now - turns.gap * 1_000;
        let mut wait = |at| {
            let turn = turns.turn(next, at);
            next = turn + turns.gap;
            turn.saturating_duration_since(at)
        };
        for _ in 0..AT_ONCE {
            assert_eq!(wait(now), Duration::ZERO);
        }
        for turn in 1..=100 {
            assert_eq!(wait(now), turns.gap * turn);
        }
        assert_eq!(wait(now + turns.gap * 60), turns.gap * 41, "those before it have had theirs");
        let much_later = now + turns.gap * 1_000;
        let at_once = (0..100).take_while(|_| wait(much_later).is_zero()).count();
        assert_eq!(at_once, AT_ONCE as usize, "a long rest does not make it more");
    }

    #[tokio::test]
    async fn what_is_not_needed_any_more_takes_no_turn() {
        let turns = Pace::new().of("acme");
        for _ in 0..AT_ONCE {
            assert!(turns.take(|| true).await);
        }
        let next = *turns.next.lock().await;
        for _ in 0..100 {
            assert!(!turns.take(|| false).await);
        }
        assert_eq!(*turns.next.lock().await, next);
    }

    #[test]
    fn a_tenant_has_its_turns_as_long_as_it_has_pools() {
        let pace = Pace::new();
        let acme = pace.of("acme");
        for number in 0..10_000 {
            pace.of(&format!("tenant-{number}"));
        }
        assert!(Arc::ptr_eq(&acme, &pace.of("acme")));
        assert!(pace.tenants.lock().unwrap().len() < 100, "those without are forgotten");
    }
}
