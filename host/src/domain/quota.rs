//! How much may be used in a time: the rule of rate limits.

use std::time::Duration;

use jiff::Timestamp;

const NANOSECONDS: i64 = 1_000_000_000;

/// When the quota of whoever has used nothing is whole: it always was.
pub const WHOLE: i64 = i64::MIN;

/// So many units in a window: at once if they were saved up, and then as they come back, one by one, evenly over the window.
///
/// This is the generic cell rate algorithm (<https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>). All there is to remember of
/// whoever has a quota is when it will be whole again, in nanoseconds since 1970; at first [`WHOLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    units: u32,
    window_s: u32,
    /// Until one unit is back, at most a window's share.
    each_ns: i64,
}

/// A use that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// To be remembered.
    pub whole_at: i64,
    /// Units that are left.
    pub left: u32,
    /// Until the quota is whole again if nothing more is used, in seconds, rounded up.
    pub whole_in_s: u32,
}

/// A use that does not fit; nothing is taken. The longer the wait, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// It fits later.
    Later {
        /// Until then, in seconds, rounded up.
        wait_s: u32,
        /// Units that fit now.
        left: u32,
    },
    /// It is more than the whole quota.
    Never {
        /// Units that fit now.
        left: u32,
    },
}

impl Quota {
    /// So many units in a window of whole seconds; one of each at least.
    #[must_use]
    pub fn new(units: u32, window: Duration) -> Self {
        let units = units.max(1);
        let window_s = u32::try_from(window.as_secs()).unwrap_or(u32::MAX).max(1);
        let each_ns = (i64::from(window_s) * NANOSECONDS / i64::from(units)).max(1);
        Self { units, window_s, each_ns }
    }

    /// Units of a window.
    #[must_use]
    pub fn units(self) -> u32 {
        self.units
    }

    /// The window's seconds.
    #[must_use]
    pub fn window_s(self) -> u32 {
        self.window_s
    }

    /// Uses `units` at `now` of a quota that was to be whole again at `whole_at`.
    pub fn take(self, whole_at: i64, now: Timestamp, units: u32) -> Result<Taken, Refused> {
        let now = now.as_millisecond().saturating_mul(NANOSECONDS / 1_000);
        let used = self.used(whole_at, now);
        if units > self.units {
            return Err(Refused::Never { left: self.left(used) });
        }
        let wanted = used + self.worth(units);
        match wanted - self.full() {
            missing @ 1.. => Err(Refused::Later { wait_s: seconds(missing), left: self.left(used) }),
            _ => {
                Ok(Taken { whole_at: now.saturating_add(wanted), left: self.left(wanted), whole_in_s: seconds(wanted) })
            }
        }
    }

    /// The time that so many units, no more than a window's, take to come back, in nanoseconds. Who takes it off `whole_at` has
    /// given them back.
    #[must_use]
    pub fn worth(self, units: u32) -> i64 {
        self.each_ns * i64::from(units)
    }

    fn full(self) -> i64 {
        self.worth(self.units)
    }

    /// Two who use at once may read the clock in another order than they are counted in, which makes a bit more than a full quota.
    /// More than two come of a clock that was set back: then nobody knows what is left, and all is.
    fn used(self, whole_at: i64, now: i64) -> i64 {
        match whole_at.saturating_sub(now) {
            used if used > 2 * self.full() => 0,
            used => used.clamp(0, self.full()),
        }
    }

    fn left(self, used: i64) -> u32 {
        u32::try_from((self.full() - used) / self.each_ns).unwrap_or(0)
    }
}

fn seconds(nanoseconds: i64) -> u32 {
    let seconds = u64::try_from(nanoseconds).unwrap_or(0).div_ceil(NANOSECONDS.unsigned_abs());
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(units: u32, window_s: u64) -> Quota {
        Quota::new(units, Duration::from_secs(window_s))
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    /// Left and the seconds until it is whole.
    fn taken(left: u32, whole_in_s: u32) -> Result<(u32, u32), Refused> {
        Ok((left, whole_in_s))
    }

    fn later(left: u32, wait_s: u32) -> Result<(u32, u32), Refused> {
        Err(Refused::Later { wait_s, left })
    }

    #[test]
    fn what_is_used_comes_back_evenly() {
        // Ten in a minute: one every six seconds.
        let cases = [
            ("some at once", 0, 4, taken(6, 24)),
            ("all that is left", 0, 6, taken(0, 60)),
            ("one too many", 0, 1, later(0, 6)),
            ("a refusal takes nothing", 0, 1, later(0, 6)),
            ("a millisecond too early", 5_999, 1, later(0, 1)),
            ("one is back", 6_000, 1, taken(0, 60)),
            ("three of two that are back", 18_000, 3, later(2, 6)),
            ("the two", 18_000, 2, taken(0, 60)),
            ("more than there ever is", 18_000, 11, Err(Refused::Never { left: 0 })),
            ("no more is saved up than a window's", 3_600_000, 10, taken(0, 60)),
            ("and not one more", 3_600_000, 1, later(0, 6)),
            ("nothing is no use", 3_600_000, 0, taken(0, 60)),
            ("the clock set back a little", 3_590_000, 1, later(0, 6)),
            ("set back far: it begins anew", 1_000_000, 1, taken(9, 6)),
            ("and goes on", 1_000_000, 9, taken(0, 60)),
        ];
        let mut whole_at = WHOLE;
        for (case, ms, units, expected) in cases {
            let took = quota(10, 60).take(whole_at, at(ms), units);
            assert_eq!(took.map(|taken| (taken.left, taken.whole_in_s)), expected, "{case}");
            whole_at = took.map_or(whole_at, |taken| taken.whole_at);
        }
    }

    #[test]
    fn each_quota_gives_its_units_and_no_more() {
        for (units, window_s) in [(1, 1), (1, 86_400), (3, 1), (7, 60), (6_000, 60), (1_000_000, 1), (999_983, 3_600)] {
            let quota = quota(units, window_s);
            let mut whole_at = WHOLE;
            let first = quota.take(whole_at, at(0), units).unwrap();
            assert_eq!(first.left, 0, "{units}/{window_s}s");
            assert!(u64::from(first.whole_in_s) <= window_s, "{units}/{window_s}s");
            assert!(quota.take(first.whole_at, at(0), 1).is_err(), "{units}/{window_s}s");
            // A tenth of a window at a time, ten windows long.
            let step_ms = i64::try_from(window_s * 100).unwrap();
            let mut total = 0;
            for step in 0..100 {
                while let Ok(taken) = quota.take(whole_at, at(step * step_ms), (units / 100).max(1)) {
                    (whole_at, total) = (taken.whole_at, total + u64::from((units / 100).max(1)));
                }
            }
            // The quota that was whole, and what came back in 9.9 windows.
            let most = u64::from(units) * 109 / 10 + u64::from(units / 500 + 1);
            let least = u64::from(units) * 107 / 10;
            assert!((least..=most).contains(&total), "{units}/{window_s}s: {total} of {least} to {most}");
        }
    }

    #[test]
    fn what_is_given_back_can_be_used_again() {
        let quota = quota(10, 60);
        let whole_at = quota.take(WHOLE, at(0), 8).unwrap().whole_at - quota.worth(5);
        assert_eq!(quota.take(whole_at, at(0), 7).map(|taken| taken.left), Ok(0));
    }

    #[test]
    fn clocks_that_are_read_out_of_order_give_nothing_away() {
        let quota = quota(10, 60);
        let whole_at = quota.take(WHOLE, at(1), 10).unwrap().whole_at;
        assert_eq!(quota.take(whole_at, at(0), 1), Err(Refused::Later { wait_s: 6, left: 0 }));
    }

    #[test]
    fn who_waits_longest_is_the_greatest() {
        let refusals = [
            Refused::Later { wait_s: 1, left: 9 },
            Refused::Later { wait_s: 2, left: 0 },
            Refused::Later { wait_s: 2, left: 1 },
            Refused::Never { left: 0 },
        ];
        assert!(refusals.is_sorted());
    }
}
