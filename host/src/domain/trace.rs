//! Where an event stands in a distributed trace: the `traceparent` of W3C Trace Context.

use std::fmt;
use std::str::FromStr;

/// Characters of a `traceparent`, version 00.
const LENGTH: usize = 55;
/// The flags that mean something: *sampled* and *random-trace-id*.
const FLAGS: u8 = 0b11;
const SAMPLED: u8 = 0b01;

/// A trace, the span of it that comes before what is done now, and whether it is recorded.
/// (<https://www.w3.org/TR/trace-context-2/#traceparent-header>)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// The text is no `traceparent`. Callers ignore it then, as the standard wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 00-TRACE-SPAN-FLAGS in 32, 16 and 2 lower-case hex digits")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// The span `span` of the trace `trace`; neither is zero.
    #[must_use]
    pub fn new(trace: [u8; 16], span: [u8; 8], flags: u8) -> Self {
        Self { trace, span, flags: flags & FLAGS }
    }

    /// The trace's id.
    #[must_use]
    pub fn trace(self) -> [u8; 16] {
        self.trace
    }

    /// The span's id.
    #[must_use]
    pub fn span(self) -> [u8; 8] {
        self.span
    }

    /// As in the header.
    #[must_use]
    pub fn flags(self) -> u8 {
        self.flags
    }

    /// Whether the caller may have recorded it.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        parse(text).ok_or(InvalidTraceParent)
    }
}

fn parse(text: &str) -> Option<TraceParent> {
    let (known, later) = text.split_at_checked(LENGTH)?;
    let mut parts = known.split('-');
    let version = hex(parts.next()?, 2)?;
    let (trace, span, flags) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
    // A later version may have more to say, after what this one has.
    let readable = later.is_empty() || (version > 0 && later.starts_with('-'));
    if !readable || parts.next().is_some() || version == 0xff || trace == 0 || span == 0 {
        return None;
    }
    let (span, flags) = (u64::try_from(span).ok()?, u8::try_from(flags).ok()?);
    Some(TraceParent::new(trace.to_be_bytes(), span.to_be_bytes(), flags))
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower_case = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if text.len() == digits && lower_case { u128::from_str_radix(text, 16).ok() } else { None }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn it_reads_as_it_is_written() {
        let cases = [
            (format!("00-{TRACE}-{SPAN}-01"), format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-03"), format!("00-{TRACE}-{SPAN}-03"), true),
            // Flags that nobody knows yet are not passed on.
            (format!("00-{TRACE}-{SPAN}-f8"), format!("00-{TRACE}-{SPAN}-00"), false),
            // A later version is read as far as this one goes.
            (format!("cc-{TRACE}-{SPAN}-01"), format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"), format!("00-{TRACE}-{SPAN}-01"), true),
        ];
        for (text, expected, sampled) in cases {
            let parsed: TraceParent = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((parsed.to_string(), parsed.is_sampled()), (expected, sampled), "{text}");
        }
    }

    #[test]
    fn what_the_standard_refuses_is_refused() {
        let (zero_trace, zero_span) = ("0".repeat(32), "0".repeat(16));
        let cases = [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-what-the-future-will-be-like"),
            format!("cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-0{TRACE}-{SPAN}-01"),
            format!("00-{zero_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{zero_span}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", TRACE.replace('4', "x")),
            format!("00-{}-{SPAN}-01", TRACE.replace('4', "+")),
            format!("00_{TRACE}_{SPAN}_01"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0é"),
        ];
        for text in cases {
            assert_eq!(text.parse::<TraceParent>(), Err(InvalidTraceParent), "{text}");
        }
    }
}
