//! What a plugin makes of a body, beside the body as it was.

use std::time::{Duration, Instant};

use askama::Template;
use similar::{DiffOp, TextDiff};

use super::filters;
use crate::domain::json::indented;

/// Lines around a change that are shown though they are the same.
const CONTEXT: usize = 3;
/// Bytes and lines of a formatted body that are compared; what comes behind is left out.
const TEXT_LIMIT: usize = 256 * 1024;
const LINES_LIMIT: usize = 10_000;
/// Characters of a line that are shown, those from shortly before the first that differs.
const LINE_LIMIT: usize = 500;
/// The same characters that are shown before that one.
const LEAD: usize = 60;
/// How long two bodies are compared; after that the rest counts as replaced.
const TIME: Duration = Duration::from_millis(200);

/// Two bodies in two columns, formatted where they are JSON.
#[derive(Template)]
#[template(path = "settings/diff.html")]
pub(super) struct Diff {
    /// Empty: they are the same when formatted.
    rows: Vec<Row>,
    /// Whether the bytes are the same.
    identical: bool,
    /// Whether there is more than is shown.
    cut: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Row {
    Same {
        before: usize,
        after: usize,
        text: String,
    },
    Changed {
        before: Option<Line>,
        after: Option<Line>,
    },
    /// So many lines are the same.
    Unchanged(usize),
}

/// A line with the part that differs from its opposite.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// From 1.
    number: usize,
    start: String,
    changed: String,
    end: String,
}

impl Diff {
    /// Compares each pair, before and after, where there is one; shows at most `rows` rows of each.
    pub(super) async fn of_each(pairs: Vec<Option<(String, String)>>, rows: usize) -> Vec<Option<Self>> {
        let compare = move |(before, after): &(String, String)| Self::of(before, after, rows);
        let compare = move || pairs.iter().map(|pair| pair.as_ref().map(compare)).collect();
        tokio::task::spawn_blocking(compare).await.expect("comparing does not panic")
    }

    fn of(before: &str, after: &str, rows: usize) -> Self {
        let identical = before == after;
        let (before, after) = (formatted(before), formatted(after));
        let ((before, before_cut), (after, after_cut)) = (lines(&before), lines(&after));
        let diff = TextDiff::configure().deadline(Instant::now() + TIME).diff_slices(&before, &after);
        let mut shown = Vec::new();
        let mut reached = 0;
        for group in diff.grouped_ops(CONTEXT) {
            let (first, last) = (group.first().map(DiffOp::old_range), group.last().map(DiffOp::old_range));
            let between = first.map_or(0, |first| first.start - reached);
            if between > 0 {
                shown.push(Row::Unchanged(between));
            }
            reached = last.map_or(reached, |last| last.end);
            shown.extend(group.iter().flat_map(|op| rows_of(op, &before, &after)).take(rows + 1));
            if shown.len() > rows {
                break;
            }
        }
        let cut = before_cut || after_cut || shown.len() > rows;
        shown.truncate(rows);
        if !shown.is_empty() && !cut && reached < before.len() {
            shown.push(Row::Unchanged(before.len() - reached));
        }
        Self { rows: shown, identical, cut }
    }
}

/// JSON with each member on a line of its own; anything else as it is.
fn formatted(body: &str) -> String {
    let json = serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
    if json { indented(body) } else { body.to_owned() }
}

/// The lines that are compared, and whether these are not all.
fn lines(text: &str) -> (Vec<&str>, bool) {
    let kept = &text[..text.floor_char_boundary(TEXT_LIMIT)];
    let mut lines: Vec<&str> = kept.lines().take(LINES_LIMIT + 1).collect();
    let cut = kept.len() < text.len() || lines.len() > LINES_LIMIT;
    lines.truncate(LINES_LIMIT);
    (lines, cut)
}

fn rows_of(op: &DiffOp, before: &[&str], after: &[&str]) -> Vec<Row> {
    let (old, new) = (op.old_range(), op.new_range());
    if let DiffOp::Equal { .. } = op {
        let same = |(old, new): (usize, usize)| Row::Same {
            before: old + 1,
            after: new + 1,
            text: excerpt(&before[old].chars().collect::<Vec<char>>(), 0, 0),
        };
        return old.zip(new).map(same).collect();
    }
    let pair = |at: usize| {
        let (old, new) = (old.clone().nth(at), new.clone().nth(at));
        let text = |lines: &[&str], index: Option<usize>| -> Vec<char> {
            index.map(|index| lines[index].chars().collect()).unwrap_or_default()
        };
        let (old_text, new_text) = (text(before, old), text(after, new));
        Row::Changed {
            before: old.map(|old| Line::of(old + 1, &old_text, &new_text)),
            after: new.map(|new| Line::of(new + 1, &new_text, &old_text)),
        }
    };
    (0..old.len().max(new.len())).map(pair).collect()
}

impl Line {
    fn of(number: usize, text: &[char], opposite: &[char]) -> Self {
        let lead = text.iter().zip(opposite).take_while(|(one, other)| one == other).count();
        let (rest, opposite) = (&text[lead..], &opposite[lead..]);
        let tail = rest.iter().rev().zip(opposite.iter().rev()).take_while(|(one, other)| one == other).count();
        let (changed, end) = rest.split_at(rest.len() - tail);
        let from = if text.len() > LINE_LIMIT { lead.saturating_sub(LEAD) } else { 0 };
        Self {
            number,
            start: excerpt(&text[..lead], from, 0),
            changed: excerpt(changed, 0, lead - from),
            end: excerpt(end, 0, lead - from + changed.len()),
        }
    }
}

/// The part of a line's text from `from` on that fits on it behind the `used` characters; what is left out leaves an ellipsis.
fn excerpt(text: &[char], from: usize, used: usize) -> String {
    let room = LINE_LIMIT.saturating_sub(used);
    let kept: String = text[from..].iter().take(room).collect();
    let (before, behind) = (if from > 0 { "…" } else { "" }, if text.len() - from > room { "…" } else { "" });
    format!("{before}{kept}{behind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(before: &str, after: &str) -> Vec<String> {
        let line = |line: Option<Line>| match line {
            Some(line) => format!("{} {}[{}]{}", line.number, line.start, line.changed, line.end),
            None => "-".to_owned(),
        };
        let row = |row: Row| match row {
            Row::Same { before, after, text } => format!("{before} {after} {text}"),
            Row::Changed { before, after } => format!("{} | {}", line(before), line(after)),
            Row::Unchanged(lines) => format!("{lines} unchanged"),
        };
        Diff::of(before, after, 100).rows.into_iter().map(row).collect()
    }

    #[test]
    fn what_changed_is_marked_and_what_is_far_from_it_is_counted() {
        let before = r#"{"a":1,"b":2,"c":3,"d":4,"name":"Ada","e":5,"f":6,"g":7,"h":8,"i":9}"#;
        let after = before.replace("Ada", "[redacted]").replace(r#""f":6,"#, "");
        let expected = [
            "2 unchanged",
            r#"3 3   "b": 2,"#,
            r#"4 4   "c": 3,"#,
            r#"5 5   "d": 4,"#,
            r#"6   "name": "[Ada]", | 6   "name": "[[redacted]]","#,
            r#"7 7   "e": 5,"#,
            r#"8 [  "f": 6,] | -"#,
            r#"9 8   "g": 7,"#,
            r#"10 9   "h": 8,"#,
            r#"11 10   "i": 9"#,
            "1 unchanged",
        ];
        assert_eq!(drawn(before, &after), expected);
    }

    #[test]
    fn what_reads_the_same_has_no_rows() {
        let spaced = Diff::of(r#"{"a":1}"#, r#"{ "a": 1 }"#, 100);
        assert!(spaced.rows.is_empty() && !spaced.identical && !spaced.cut);
        let same = Diff::of("not JSON", "not JSON", 100);
        assert!(same.rows.is_empty() && same.identical);
        assert_eq!(drawn("", "new"), ["- | 1 [new]"]);
    }

    #[test]
    fn a_long_line_is_shown_around_its_first_difference() {
        let long = "x".repeat(10_000);
        let rows = drawn(&format!("{long}old{long}"), &format!("{long}new{long}"));
        let start = format!("…{}", "x".repeat(60));
        let end = format!("{}…", "x".repeat(500 - 60 - 3));
        assert_eq!(rows, [format!("1 {start}[old]{end} | 1 {start}[new]{end}")]);
        assert_eq!(drawn("short", &long), [format!("1 [short] | 1 [{}…]", "x".repeat(500))]);
    }

    #[test]
    fn hostile_bodies_cost_little() {
        let numbers = |seed: u64| {
            let next = |state: &mut u64| {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                Some((*state >> 61).to_string())
            };
            let numbers: Vec<String> = std::iter::repeat_n((), 250_000).scan(seed, |state, ()| next(state)).collect();
            format!("[{}]", numbers.join(","))
        };
        let started = Instant::now();
        let diff = Diff::of(&numbers(1), &numbers(2), 100);
        assert!(diff.cut && diff.rows.len() == 100);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}
