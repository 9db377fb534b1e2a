//! Rates, as settings name them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};

use super::forms::parse_duration;

/// The fastest rate that is told from its neighbours.
const MOST_A_SECOND: u64 = 1_000_000;
const DAY_S: u64 = 24 * 3_600;

/// So many in such a time: `COUNT/TIME`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    time: Duration,
}

/// The text is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be `off` or COUNT/TIME such as `600/1m`: COUNT at least 1 and at most {MOST_A_SECOND} a second, TIME 1s to 1d in whole seconds"
)]
pub struct InvalidRate;

impl Rate {
    /// How many; at least 1.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// In which time, whole seconds.
    #[must_use]
    pub fn time(self) -> Duration {
        self.time
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (count, time) = text.split_once('/').ok_or(InvalidRate)?;
        let count: u32 = count.trim().parse().map_err(|_| InvalidRate)?;
        let time = parse_duration(time.trim()).map_err(|_| InvalidRate)?;
        let whole = time.subsec_nanos() == 0 && (1..=DAY_S).contains(&time.as_secs());
        let told_apart = u64::from(count) <= MOST_A_SECOND * time.as_secs();
        (count > 0 && whole && told_apart).then_some(Self { count, time }).ok_or(InvalidRate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.count, self.time.as_secs())
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A rate, or none where it is `off`.
pub(super) fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rate>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged, expecting = "must be `off` or COUNT/TIME such as `600/1m`")]
    enum Form {
        Text(String),
    }
    let Form::Text(text) = Form::deserialize(deserializer)?;
    if text == "off" { Ok(None) } else { text.parse().map(Some).map_err(D::Error::custom) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_in_whole_seconds() {
        let valid = [
            ("600/1m", "600/60s"),
            ("1/1s", "1/1s"),
            ("1 / 1d", "1/86400s"),
            ("1000000/1s", "1000000/1s"),
            ("60000000/1m", "60000000/60s"),
        ];
        for (text, shown) in valid {
            assert_eq!(text.parse::<Rate>().map(|rate| rate.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for text in
            ["", "600", "/", "/1m", "600/", "0/1m", "-1/1m", "1.5/1m", "600/0s", "600/1500ms", "1/2d", "1000001/1s"]
        {
            assert_eq!(text.parse::<Rate>(), Err(InvalidRate), "{text}");
        }
    }
}
