//! The chart of an endpoint's attempts and of how long its answers take: SVG, drawn here, with the same numbers in a table.
//!
//! Colours and the size of its texts are those of `chart.css`; nothing in it needs a script.

use std::fmt::Write;
use std::str::FromStr;

use askama::Template;
use jiff::Timestamp;

use crate::domain::hour::{self, Counts, HOUR_MS, Hour};

/// Units of the drawing, which is as wide as the page lets it be.
const WIDTH: f64 = 720.0;
/// Left of the bars, for the numbers at the grid lines.
const MARGIN: f64 = 56.0;
/// Above the bars, for half of the topmost number.
const TOP: f64 = 12.0;
const ATTEMPTS_HEIGHT: f64 = 150.0;
const LATENCY_HEIGHT: f64 = 100.0;
/// What is there is seen, however little.
const LEAST_HEIGHT: f64 = 2.0;
/// Between what succeeded and what failed in a bar.
const GAP: f64 = 1.5;
const RADIUS: f64 = 3.0;
/// Grid lines above the zero line at most.
const LINES: u32 = 4;

/// How far back a chart looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// 24 hours, a bar for each; `24h` in queries.
    Day,
    /// 7 days, a bar for every six hours; `7d` in queries.
    Week,
}

/// The text is not a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be `24h` or `7d`")]
pub(super) struct InvalidRange;

impl FromStr for Range {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        match text {
            "24h" => Ok(Self::Day),
            "7d" => Ok(Self::Week),
            _ => Err(InvalidRange),
        }
    }
}

impl Range {
    /// As in queries.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    /// When the first bar begins of those that end with the one that `now` is in. Hours since then are what
    /// [`Chart::new`] shows.
    pub(super) fn since(self, now: Timestamp) -> Timestamp {
        Timestamp::from_millisecond(self.first_ms(now)).unwrap_or(Timestamp::MIN)
    }

    /// In a sentence.
    fn words(self) -> &'static str {
        match self {
            Self::Day => "24 hours",
            Self::Week => "7 days",
        }
    }

    fn bars(self) -> usize {
        match self {
            Self::Day => 24,
            Self::Week => 28,
        }
    }

    fn bar_ms(self) -> i64 {
        match self {
            Self::Day => HOUR_MS,
            Self::Week => 6 * HOUR_MS,
        }
    }

    fn first_ms(self, now: Timestamp) -> i64 {
        let last = hour::hour_of(now).div_euclid(self.bar_ms()) * self.bar_ms();
        last - (self.bars() as i64 - 1) * self.bar_ms()
    }

    /// What is written below a bar that begins at `start`, if anything.
    fn label(self, start: Timestamp) -> Option<String> {
        let hour = start.as_millisecond().div_euclid(HOUR_MS).rem_euclid(24);
        match self {
            Self::Day => (hour % 6 == 0).then(|| start.strftime("%H:%M").to_string()),
            Self::Week => (hour == 0).then(|| start.strftime("%-d %b").to_string()),
        }
    }
}

/// A chart as HTML: shown with `{{ chart|safe }}`. There can be one on a page.
#[derive(Template)]
#[template(path = "settings/chart.html")]
pub(super) struct Chart {
    range: Range,
    /// All bars together.
    all: Counts,
    bars: Vec<Bar>,
    attempts: Scale,
    /// In milliseconds.
    latency: Scale,
    median: Curve,
    p95: Curve,
}

/// What a bar shows: attempts of an hour or of several.
struct Bar {
    start: Timestamp,
    end: Timestamp,
    counts: Counts,
    /// Its place, of all the width it has.
    x: f64,
    width: f64,
    /// At the axis.
    label: Option<String>,
}

/// A vertical axis from 0 up.
struct Scale {
    /// At its upper end.
    most: f64,
    height: f64,
    lines: Vec<f64>,
}

/// Values over time.
struct Curve {
    /// SVG path; broken where there are no answers.
    path: String,
    /// Each value's place.
    points: Vec<(f64, f64)>,
}

impl Chart {
    /// Of what an endpoint's hours came to, up to `now`. Hours outside of `range` are left out.
    pub(super) fn new(hours: &[Hour], now: Timestamp, range: Range) -> Self {
        let (first, bar_ms) = (range.first_ms(now), range.bar_ms());
        let width = (WIDTH - MARGIN) / range.bars() as f64;
        let at = |number: usize| Timestamp::from_millisecond(first + number as i64 * bar_ms).unwrap_or(now);
        let bar = |number: usize| Bar {
            start: at(number),
            end: at(number + 1),
            counts: Counts::default(),
            x: MARGIN + number as f64 * width,
            width,
            label: range.label(at(number)),
        };
        let mut bars: Vec<Bar> = (0..range.bars()).map(bar).collect();
        let mut all = Counts::default();
        for hour in hours {
            let number = usize::try_from((hour.start.as_millisecond() - first).div_euclid(bar_ms));
            if let Some(bar) = number.ok().and_then(|number| bars.get_mut(number)) {
                bar.counts += hour.counts;
                all += hour.counts;
            }
        }
        let most = bars.iter().map(|bar| bar.counts.attempts()).max().unwrap_or(0);
        let slowest = bars.iter().filter_map(Bar::p95_ms).fold(0.0, f64::max);
        let attempts = Scale::new(most as f64, ATTEMPTS_HEIGHT);
        let latency = Scale::new(slowest, LATENCY_HEIGHT);
        let (median, p95) = (Curve::new(&bars, &latency, Bar::median_ms), Curve::new(&bars, &latency, Bar::p95_ms));
        Self { range, all, bars, attempts, latency, median, p95 }
    }

    /// The whole in a sentence.
    fn summary(&self) -> String {
        let Counts { succeeded, failed, .. } = self.all;
        let attempts = self.all.attempts();
        let noun = if attempts == 1 { "attempt" } else { "attempts" };
        let range = self.range.words();
        format!(
            "{} {noun} in the last {range}: {} succeeded ({}), {} failed.",
            grouped(attempts),
            grouped(succeeded),
            percent(succeeded, attempts),
            grouped(failed)
        )
    }

    /// The upper drawing in words.
    fn attempts_in_words(&self) -> String {
        let busiest = self.bars.iter().max_by_key(|bar| bar.counts.attempts());
        let busiest = busiest.map(|bar| format!(" Most in one bar: {}.", bar.attempts_in_words(self.range)));
        format!("{}{}", self.summary(), busiest.unwrap_or_default())
    }

    /// The lower drawing in words.
    fn latency_in_words(&self) -> String {
        let slowest = self.answered().filter_map(|bar| Some((bar.p95_ms()?, bar)));
        let slowest = slowest.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, bar)| bar);
        let slowest = slowest.map(|bar| format!(" Slowest: {}.", bar.latency_in_words(self.range)));
        let (median, p95) = (self.all.durations.percentile_ms(0.5), self.all.durations.percentile_ms(0.95));
        format!(
            "Over the last {}, half of the answers took {} or less, 95 % {} or less.{}",
            self.range.words(),
            duration(median),
            duration(p95),
            slowest.unwrap_or_default()
        )
    }

    /// Bars with attempts.
    fn attempted(&self) -> impl Iterator<Item = &Bar> {
        self.bars.iter().filter(|bar| bar.counts.attempts() > 0)
    }

    /// Bars with answers.
    fn answered(&self) -> impl Iterator<Item = &Bar> {
        self.bars.iter().filter(|bar| bar.median_ms().is_some())
    }

    fn attempts_grid(&self) -> impl Iterator<Item = (f64, String)> {
        self.attempts.grid(1.0)
    }

    fn latency_grid(&self) -> impl Iterator<Item = (f64, String)> {
        self.latency.grid(if self.in_seconds() { 1_000.0 } else { 1.0 })
    }

    /// Whether the numbers at the lower grid are, and not milliseconds.
    fn in_seconds(&self) -> bool {
        self.latency.most >= 1_000.0
    }

    fn width(&self) -> f64 {
        WIDTH
    }

    fn left(&self) -> f64 {
        MARGIN
    }
}

impl Bar {
    fn median_ms(&self) -> Option<f64> {
        self.counts.durations.percentile_ms(0.5)
    }

    fn p95_ms(&self) -> Option<f64> {
        self.counts.durations.percentile_ms(0.95)
    }

    fn middle(&self) -> f64 {
        self.x + self.width / 2.0
    }

    /// When it is.
    fn time(&self, range: Range) -> String {
        let (from, to) = (self.start.strftime("%H:%M"), self.end.strftime("%H:%M"));
        match range {
            Range::Day => format!("{from}–{to}"),
            Range::Week => format!("{}, {from}–{to}", self.start.strftime("%a %-d %b")),
        }
    }

    fn attempts_in_words(&self, range: Range) -> String {
        let Counts { succeeded, failed, .. } = self.counts;
        match self.counts.attempts() {
            0 => format!("{} UTC: no attempts", self.time(range)),
            _ => format!("{} UTC: {} succeeded, {} failed", self.time(range), grouped(succeeded), grouped(failed)),
        }
    }

    fn latency_in_words(&self, range: Range) -> String {
        match (self.median_ms(), self.p95_ms()) {
            (None, _) | (_, None) => format!("{} UTC: no answers", self.time(range)),
            (median, p95) => {
                format!("{} UTC: median {}, 95th percentile {}", self.time(range), duration(median), duration(p95))
            }
        }
    }

    fn median(&self) -> String {
        duration(self.median_ms())
    }

    fn p95(&self) -> String {
        duration(self.p95_ms())
    }

    fn succeeded(&self) -> String {
        grouped(self.counts.succeeded)
    }

    fn failed(&self) -> String {
        grouped(self.counts.failed)
    }

    /// SVG paths of what succeeded, at the bottom, and of what failed, on it; empty where there is nothing.
    fn paths(&self, scale: &Scale) -> (String, String) {
        let height = |count: u64| match count {
            0 => 0.0,
            _ => (scale.height * count as f64 / scale.most).max(LEAST_HEIGHT),
        };
        let (succeeded, failed) = (height(self.counts.succeeded), height(self.counts.failed));
        let gap = if succeeded > 0.0 && failed > 0.0 { GAP } else { 0.0 };
        let bottom = TOP + scale.height;
        let (x, width) = (self.x + self.width * 0.14, self.width * 0.72);
        let block = |bottom: f64, height: f64, radius: f64| match height {
            0.0 => String::new(),
            _ => {
                let radius = radius.min(height).min(width / 2.0);
                let (side, top) = (height - radius, width - 2.0 * radius);
                format!(
                    "M{x:.1} {bottom:.1}v-{side:.1}q0-{radius:.1} {radius:.1}-{radius:.1}h{top:.1}\
                     q{radius:.1} 0 {radius:.1} {radius:.1}v{side:.1}z"
                )
            }
        };
        let lower = block(bottom, succeeded, if failed > 0.0 { 0.0 } else { RADIUS });
        (lower, block(bottom - succeeded - gap, failed, RADIUS))
    }
}

impl Scale {
    /// Up to `most` or a little more, with lines at round numbers.
    fn new(most: f64, height: f64) -> Self {
        let least = if most > 0.0 { most } else { 1.0 };
        let power = 10_f64.powi((least / f64::from(LINES)).log10().floor() as i32);
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| (step * power).max(1.0));
        let step = steps.into_iter().find(|step| least / step <= f64::from(LINES)).unwrap_or(10.0 * power);
        let count = (least / step).ceil();
        let lines = (0..=LINES).map(f64::from).take_while(|line| *line <= count).map(|line| line * step).collect();
        Self { most: count * step, height, lines }
    }

    fn y(&self, value: f64) -> f64 {
        TOP + self.height * (1.0 - value / self.most)
    }

    /// Where each grid line is, from below, and the number at it.
    fn grid(&self, unit: f64) -> impl Iterator<Item = (f64, String)> {
        self.lines.iter().map(move |line| (self.y(*line), short(line / unit)))
    }

    fn bottom(&self) -> f64 {
        TOP + self.height
    }

    /// With the labels below it.
    fn whole_height(&self) -> f64 {
        self.bottom() + 26.0
    }
}

impl Curve {
    fn new(bars: &[Bar], scale: &Scale, value: fn(&Bar) -> Option<f64>) -> Self {
        let (mut path, mut points, mut goes_on) = (String::new(), Vec::new(), false);
        for bar in bars {
            let point = value(bar).map(|value| (bar.middle(), scale.y(value)));
            if let Some((x, y)) = point {
                let command = if goes_on { 'L' } else { 'M' };
                write!(path, "{command}{x:.1} {y:.1}").expect("a text takes all");
                points.push((x, y));
            }
            goes_on = point.is_some();
        }
        Self { path, points }
    }
}

/// With commas: `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// At a grid line, in four characters or so: `0`, `250`, `1.5k`, `20k`, `3M`.
fn short(number: f64) -> String {
    let (number, unit) = match number {
        number if number >= 1e9 => (number / 1e9, "G"),
        number if number >= 1e6 => (number / 1e6, "M"),
        number if number >= 1e3 => (number / 1e3, "k"),
        number => (number, ""),
    };
    format!("{}{unit}", (number * 10.0).round() / 10.0)
}

/// To two digits, because a step is all that is known; `None`: there were no answers.
fn duration(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 1.0 => "1 ms".to_owned(),
        Some(ms) if ms < 99.5 => format!("{ms:.0} ms"),
        Some(ms) if ms < 995.0 => format!("{:.0} ms", (ms / 10.0).round() * 10.0),
        Some(ms) if ms < 9_950.0 => format!("{:.1} s", ms / 1_000.0),
        Some(ms) => format!("{:.0} s", ms / 1_000.0),
    }
}

/// A share of `all`, never rounded up to the whole of it.
pub(super) fn percent(part: u64, all: u64) -> String {
    if part == all {
        return "100 %".to_owned();
    }
    format!("{:.1} %", (part as f64 / all as f64 * 1_000.0).floor() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hour::Durations;

    const NOW: &str = "2026-03-02T13:20:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hour(start: &str, succeeded: u64, failed: u64, durations: [u64; 7]) -> Hour {
        Hour { start: at(start), counts: Counts { succeeded, failed, durations: Durations(durations) } }
    }

    fn chart(hours: &[Hour], range: Range) -> (Chart, String) {
        let chart = Chart::new(hours, at(NOW), range);
        let html = chart.render().unwrap();
        (chart, html)
    }

    #[test]
    fn ranges_are_parsed_and_begin_with_a_whole_bar() {
        for (text, since) in [("24h", "2026-03-01T14:00:00Z"), ("7d", "2026-02-23T18:00:00Z")] {
            let range: Range = text.parse().unwrap();
            assert_eq!((range.as_str(), range.since(at(NOW))), (text, at(since)));
        }
        for invalid in ["", "24", "1d", "7D"] {
            assert_eq!(invalid.parse::<Range>(), Err(InvalidRange), "{invalid}");
        }
    }

    #[test]
    fn hours_fall_into_their_bars() {
        let hours = [
            hour("2026-02-23T17:00:00Z", 1_000, 0, [0; 7]),
            hour("2026-02-23T18:00:00Z", 1, 0, [0; 7]),
            hour("2026-03-01T13:00:00Z", 2, 0, [0; 7]),
            hour("2026-03-01T14:00:00Z", 4, 1, [0; 7]),
            hour("2026-03-01T17:00:00Z", 8, 0, [0; 7]),
            hour("2026-03-02T12:00:00Z", 16, 0, [0; 7]),
            hour("2026-03-02T13:00:00Z", 32, 0, [0; 7]),
            hour("2026-03-02T18:00:00Z", 1_000, 0, [0; 7]),
        ];
        for (range, expected) in
            [(Range::Day, vec![(0, 5), (3, 8), (22, 16), (23, 32)]), (Range::Week, vec![(0, 1), (23, 15), (27, 48)])]
        {
            let (chart, _) = chart(&hours, range);
            let attempted = chart.bars.iter().enumerate().filter(|(_, bar)| bar.counts.attempts() > 0);
            let attempted: Vec<_> = attempted.map(|(number, bar)| (number, bar.counts.attempts())).collect();
            assert_eq!(attempted, expected, "{range:?}");
        }
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let old = hour("2026-02-01T00:00:00Z", 1, 0, [1, 0, 0, 0, 0, 0, 0]);
        for (hours, range, expected) in [
            (vec![], Range::Day, "No attempts in the last 24 hours."),
            (vec![old], Range::Week, "No attempts in the last 7 days."),
        ] {
            let (_, html) = chart(&hours, range);
            assert_eq!(html.trim(), format!(r#"<p class="chart-empty">{expected}</p>"#));
        }
    }

    #[test]
    fn one_hour_is_told_in_numbers_and_words() {
        let (_, html) = chart(&[hour("2026-03-02T12:00:00Z", 1_199, 1, [0, 0, 1_000, 0, 200, 0, 0])], Range::Day);
        for text in [
            "1,200 attempts in the last 24 hours: 1,199 succeeded (99.9 %), 1 failed.",
            "<title>12:00–13:00 UTC: 1,199 succeeded, 1 failed</title>",
            "<title>13:00–14:00 UTC: no attempts</title>",
            "half of the answers took 72 ms or less, 95 % 790 ms or less. Slowest: 12:00–13:00 UTC: median 72 ms,",
            "<title>13:00–14:00 UTC: no answers</title>",
            r#"<th scope="row">12:00–13:00</th><td>1,199</td><td>1</td><td>72 ms</td><td>790 ms</td>"#,
        ] {
            assert!(html.contains(text), "{text}\n{html}");
        }
        assert_eq!((html.matches("<tr>").count(), html.matches("<path ").count()), (2, 4));
        assert!(!html.contains("style=") && !html.contains("<script"), "the page's policy lets neither pass");
    }

    #[test]
    fn attempts_without_an_answer_have_no_latency() {
        let (_, html) = chart(&[hour("2026-03-02T12:00:00Z", 0, 1, [0; 7])], Range::Day);
        assert!(html.contains("1 attempt in the last 24 hours: 0 succeeded (0.0 %), 1 failed."), "{html}");
        assert!(html.contains("No answers in the last 24 hours."), "{html}");
        assert!(html.contains("<td>–</td><td>–</td>"), "{html}");
        assert_eq!(html.matches("<svg").count(), 1);
    }

    #[test]
    fn a_curve_breaks_where_there_are_no_answers() {
        let answered = |start| hour(start, 1, 0, [1, 0, 0, 0, 0, 0, 0]);
        let hours = ["2026-03-02T08:00:00Z", "2026-03-02T09:00:00Z", "2026-03-02T11:00:00Z"].map(answered);
        let (chart, _) = chart(&hours, Range::Day);
        assert_eq!((chart.median.path.matches('M').count(), chart.median.path.matches('L').count()), (2, 1));
        assert_eq!(chart.median.points.len(), 3);
    }

    #[test]
    fn little_is_seen_beside_much() {
        let (chart, _) = chart(&[hour("2026-03-02T12:00:00Z", 999_999, 1, [0; 7])], Range::Day);
        let (succeeded, failed) = chart.bars[22].paths(&chart.attempts);
        assert!(succeeded.contains(" 162.0v-150.0q0-0.0"), "square below what failed: {succeeded}");
        assert!(failed.contains("q0-2.0 2.0"), "{failed}");
        assert_eq!(chart.bars[21].paths(&chart.attempts), (String::new(), String::new()));
    }

    #[test]
    fn grid_lines_stand_at_round_numbers() {
        for (most, top, lines) in [
            (0.0, 1.0, "0 1"),
            (1.0, 1.0, "0 1"),
            (3.0, 3.0, "0 1 2 3"),
            (5.0, 6.0, "0 2 4 6"),
            (204.0, 300.0, "0 100 200 300"),
            (1_600.0, 2_000.0, "0 500 1k 1.5k 2k"),
            (40_000.0, 40_000.0, "0 10k 20k 30k 40k"),
            (123_456_789.0, 150_000_000.0, "0 50M 100M 150M"),
        ] {
            let scale = Scale::new(most, 100.0);
            let shown: Vec<String> = scale.lines.iter().map(|line| short(*line)).collect();
            assert_eq!((scale.most, shown.join(" ").as_str()), (top, lines), "{most}");
        }
    }

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (ms, text) in [
            (0.3, "1 ms"),
            (9.5, "10 ms"),
            (42.4, "42 ms"),
            (99.6, "100 ms"),
            (187.0, "190 ms"),
            (996.0, "1.0 s"),
            (1_250.0, "1.2 s"),
            (10_000.0, "10 s"),
        ] {
            assert_eq!(duration(Some(ms)), text, "{ms}");
        }
        for (part, all, text) in [(3, 3, "100 %"), (9_999, 10_000, "99.9 %"), (0, 3, "0.0 %"), (2, 3, "66.6 %")] {
            assert_eq!(percent(part, all), text);
        }
    }
}
