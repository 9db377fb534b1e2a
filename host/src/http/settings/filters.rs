//! How templates write values.

#![expect(unreachable_pub, reason = "the macro makes a filter's own type public")]

use std::fmt::Display;
use std::time::Duration;

use askama::filters::Safe;
use askama::{Result, Values};
use jiff::Timestamp;

use crate::domain::plugin::Version;

/// Text of others: nothing in it acts. Escaped like all text.
#[askama::filter_fn]
pub(super) fn plain(text: impl Display, _: &dyn Values) -> Result<String> {
    Ok(super::plain::plain(&text.to_string()))
}

/// A time in UTC, which the script puts into the reader's zone; the exact one stands in the tooltip.
#[askama::filter_fn]
pub(super) fn time(at: &Timestamp, _: &dyn Values) -> Result<Safe<String>> {
    let (exact, shown) = (format!("{at:.3}"), at.strftime("%b %-d, %H:%M:%S UTC"));
    Ok(Safe(format!(r#"<time datetime="{exact}" title="{exact}">{shown}</time>"#)))
}

/// A size in bytes, for people.
#[askama::filter_fn]
pub(super) fn bytes(size: &usize, _: &dyn Values) -> Result<String> {
    Ok(match *size {
        size if size < 1024 => format!("{size} B"),
        size if size < 1024 * 1024 => format!("{:.1} KiB", size as f64 / 1024.0),
        size => format!("{:.1} MiB", size as f64 / (1024.0 * 1024.0)),
    })
}

/// How long something took, for people.
#[askama::filter_fn]
pub(super) fn took(duration: &Duration, _: &dyn Values) -> Result<String> {
    Ok(match duration.as_micros() {
        micros if micros < 1_000 => format!("{micros} µs"),
        micros if micros < 10_000_000 => format!("{:.1} ms", micros as f64 / 1_000.0),
        micros => format!("{:.1} s", micros as f64 / 1_000_000.0),
    })
}

/// The first digits of a version's digest; its place in the page names it in full.
#[askama::filter_fn]
pub(super) fn short(version: &Version, _: &dyn Values) -> Result<String> {
    Ok(version.to_string().chars().take("sha256:".len() + 12).collect())
}
