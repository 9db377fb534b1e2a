//! What the attempts at one endpoint came to in one hour.

use std::ops::AddAssign;
use std::time::Duration;

use jiff::Timestamp;

use super::outcome::Outcome;

/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Durations of answers are counted in steps that end with these many milliseconds each; the last step has no end.
pub const STEPS_MS: [u32; 6] = [10, 30, 100, 300, 1_000, 3_000];
/// The end of the last step, as far as percentiles go: how long an attempt may take, as long as nobody sets it otherwise.
const LONGEST_MS: u32 = 10_000;

/// One hour that attempts began in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hour {
    /// When it begins: a whole hour, UTC.
    pub start: Timestamp,
    /// What its attempts came to.
    pub counts: Counts,
}

/// What attempts came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those answered 2xx.
    pub succeeded: u64,
    /// All others, also those that a plugin's failure prevented.
    pub failed: u64,
    /// How long those took that were answered, whatever the answer.
    pub durations: Durations,
}

/// How many took how long: a number for each of [`STEPS_MS`], and one for those beyond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durations(pub [u64; STEPS_MS.len() + 1]);

/// The hour that `at` is in, as milliseconds of its start.
#[must_use]
pub fn hour_of(at: Timestamp) -> i64 {
    at.as_millisecond().div_euclid(HOUR_MS) * HOUR_MS
}

impl Counts {
    /// Counts one attempt.
    pub fn count(&mut self, outcome: &Outcome) {
        match outcome.succeeded() {
            true => self.succeeded += 1,
            false => self.failed += 1,
        }
        if outcome.result.is_ok() {
            self.durations.count(outcome.duration);
        }
    }

    /// All of them.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.succeeded + self.failed
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        for (all, more) in self.durations.0.iter_mut().zip(other.durations.0) {
            *all += more;
        }
    }
}

impl Durations {
    /// Counts one answer.
    pub fn count(&mut self, duration: Duration) {
        let step = STEPS_MS.iter().position(|ms| duration <= Duration::from_millis(u64::from(*ms)));
        self.0[step.unwrap_or(STEPS_MS.len())] += 1;
    }

    /// The duration, in milliseconds, that this share (0.0 to 1.0) of the answers did not exceed, as if those of each step
    /// were spread over it evenly: exact to the step, a guess within it. `None`: there were no answers.
    #[must_use]
    pub fn percentile_ms(&self, share: f64) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        let (rank, mut below, mut start) = (share * all as f64, 0.0, 0.0);
        let ends = STEPS_MS.into_iter().chain([LONGEST_MS]).map(f64::from);
        for (count, end) in self.0.iter().zip(ends) {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                return Some(start + (end - start) * (rank - below) / count);
            }
            below += count;
            start = end;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::outcome::{Answer, SendError};

    #[test]
    fn attempts_count_by_what_came_of_them() {
        let answer = |status, ms| Outcome {
            duration: Duration::from_millis(ms),
            result: Ok(Answer { status, body: Bytes::new(), truncated: false, retry_after: None }),
        };
        let mut counts = Counts::default();
        for outcome in [answer(200, 10), answer(299, 11), answer(500, 3_001), answer(302, 60_000)] {
            counts.count(&outcome);
        }
        counts.count(&Outcome { duration: Duration::ZERO, result: Err(SendError::ConnectionRefused) });
        let durations = Durations([1, 1, 0, 0, 0, 0, 2]);
        assert_eq!(counts, Counts { succeeded: 2, failed: 3, durations });
        counts += counts;
        assert_eq!((counts.attempts(), counts.durations), (10, Durations([2, 2, 0, 0, 0, 0, 4])));
    }

    #[test]
    fn percentiles_are_found_within_their_step() {
        for (durations, share, expected) in [
            ([0; 7], 0.5, None),
            ([1, 0, 0, 0, 0, 0, 0], 0.5, Some(5.0)),
            ([100, 0, 0, 0, 0, 0, 0], 0.95, Some(9.5)),
            // Half are in the first step, half in the second: the median is where they meet.
            ([10, 10, 0, 0, 0, 0, 0], 0.5, Some(10.0)),
            ([10, 0, 10, 0, 0, 0, 0], 0.75, Some(65.0)),
            ([0, 0, 0, 4, 0, 0, 0], 0.5, Some(200.0)),
            ([94, 0, 0, 0, 0, 0, 6], 0.95, Some(3_000.0 + 7_000.0 / 6.0)),
            ([0, 0, 0, 0, 0, 0, 3], 1.0, Some(10_000.0)),
        ] {
            let found = Durations(durations).percentile_ms(share);
            let close =
                found.zip(expected).map_or(found == expected, |(found, expected)| (found - expected).abs() < 1e-6);
            assert!(close, "{durations:?} {share}: {found:?}");
        }
    }

    #[test]
    fn an_hour_begins_on_the_hour() {
        for (at, start) in [
            ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z"),
            ("2026-03-01T12:59:59.999Z", "2026-03-01T12:00:00Z"),
            ("1969-12-31T23:30:00Z", "1969-12-31T23:00:00Z"),
        ] {
            let at: Timestamp = at.parse().unwrap();
            assert_eq!(hour_of(at), start.parse::<Timestamp>().unwrap().as_millisecond(), "{at}");
        }
    }
}
