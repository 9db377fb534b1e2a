use std::time::Duration;

use jiff::Timestamp;
use revnoxa_host::domain::retry::{RETRY_AFTER_LIMIT, RetrySchedule, parse_retry_after};

use super::text;

/// `Retry-After` of a receiver: it can lengthen a delay up to the limit, and never shorten one.
pub fn retry_after(input: &[u8]) {
    const DELAY: Duration = Duration::from_secs(30);
    let Some(text) = text(input) else { return };
    let now = Timestamp::from_second(1_795_435_200).expect("a time");
    let asked = parse_retry_after(text, now);
    let digits = text.trim();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        assert_eq!(asked, Some(Duration::from_secs(digits.parse().unwrap_or(u64::MAX))));
    } else if let Some(asked) = asked {
        // A date, which begins with the name of a day or with a number, and holds a time.
        assert!(text.contains(':') && asked < Duration::from_secs(300_000_000_000), "{asked:?}");
    }
    for jitter in [0.0, 0.5, 0.999] {
        let schedule = RetrySchedule::new(vec![DELAY]);
        let (next, without) = (schedule.next(1, now, asked, jitter), schedule.next(1, now, None, jitter));
        let (next, without) = (next.expect("a retry"), without.expect("a retry"));
        assert!(next >= without && next >= now + DELAY);
        assert!(next <= now + RETRY_AFTER_LIMIT);
        assert_eq!(next.subsec_nanosecond() % 1_000_000, 0);
    }
}
