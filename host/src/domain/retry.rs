//! When a failed delivery is tried again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};

/// `Retry-After` lengthens a delay to this at most.
pub const RETRY_AFTER_LIMIT: Duration = Duration::from_hours(2);

/// Jitter lengthens a delay by this share at most; it never shortens one.
const JITTER: f64 = 0.1;

/// The delays between the attempts of a delivery: one attempt more than there are delays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule(Vec<Duration>);

impl RetrySchedule {
    /// A schedule of these delays, each counted from the failure before it.
    #[must_use]
    pub fn new(delays: Vec<Duration>) -> Self {
        Self(delays)
    }

    /// One attempt, no retry: for test events.
    #[must_use]
    pub fn once() -> Self {
        Self(Vec::new())
    }

    /// Attempts of a delivery that never succeeds.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.0.len() + 1
    }

    /// When to try again after `failures` failures, the last at `now`; `None` when that was the last attempt.
    ///
    /// `jitter` is a random number in `0.0..1.0`. `retry_after` is what the receiver asked for.
    #[must_use]
    pub fn next(&self, failures: u32, now: Timestamp, retry_after: Option<Duration>, jitter: f64) -> Option<Timestamp> {
        let index = usize::try_from(failures).ok()?.checked_sub(1)?;
        let scheduled = self.0.get(index)?.mul_f64(1.0 + JITTER * jitter);
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_LIMIT);
        // Whole milliseconds, as they are stored and shown: never earlier than the delay.
        let delay = scheduled.max(asked).as_nanos().div_ceil(1_000_000);
        let delay = i64::try_from(delay).map_or(SignedDuration::MAX, SignedDuration::from_millis);
        Some(now.saturating_add(delay).unwrap_or(Timestamp::MAX))
    }
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds or an HTTP date. `None` when it is neither, or in the past.
#[must_use]
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds is still "very long"; the limit cuts it.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = DateTimeParser::new().parse_timestamp(value).ok()?;
    Duration::try_from(at.duration_since(now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn five_attempts_with_the_promised_delays() {
        let schedule = RetrySchedule::new(vec![30 * S, 300 * S, 1_800 * S, 7_200 * S]);
        let cases =
            [(1, Some(30)), (2, Some(300)), (3, Some(1_800)), (4, Some(7_200)), (5, None), (6, None), (0, None)];
        for (failures, delay) in cases {
            let next = schedule.next(failures, at(1_000), None, 0.0);
            assert_eq!(next, delay.map(|delay| at(1_000 + delay)), "after failure {failures}");
        }
    }

    #[test]
    fn jitter_adds_at_most_a_tenth() {
        let schedule = RetrySchedule::new(vec![30 * S]);
        assert_eq!(schedule.next(1, at(0), None, 0.0), Some(at(30)));
        let latest = schedule.next(1, at(0), None, 0.123_456_789).unwrap();
        assert_eq!(latest.subsec_nanosecond() % 1_000_000, 0, "{latest}");
        let latest = schedule.next(1, at(0), None, 0.999_999).unwrap();
        assert!(latest > at(32) && latest <= at(33), "{latest}");
    }

    #[test]
    fn retry_after_lengthens_up_to_two_hours_and_never_shortens() {
        let schedule = RetrySchedule::new(vec![30 * S]);
        for (asked, delay) in [(1, 30), (31, 31), (7_200, 7_200), (7_201, 7_200), (u64::MAX, 7_200)] {
            let next = schedule.next(1, at(0), Some(Duration::from_secs(asked)), 0.0);
            assert_eq!(next, Some(at(delay)), "asked for {asked} s");
        }
    }

    #[test]
    fn retry_after_forms() {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Mon, 23 Nov 2026 12:02:00 GMT", Some(120)),
            ("Mon, 23 Nov 2026 11:00:00 GMT", None),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
