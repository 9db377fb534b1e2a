//! Pages of a list: the next page begins after the last key of this one, so rows that come or go never shift it.

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The key that a page begins after; opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

/// The text is not a cursor we gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a `next_cursor` of the same list")]
pub struct InvalidCursor;

/// Longer than any key of ours.
const CURSOR_LIMIT: usize = 256;

impl Cursor {
    fn after(key: &str) -> Self {
        Self(key.to_owned())
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() > CURSOR_LIMIT {
            return Err(InvalidCursor);
        }
        let key = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let key = String::from_utf8(key).map_err(|_| InvalidCursor)?;
        let valid = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        valid.then_some(Self(key)).ok_or(InvalidCursor)
    }
}

/// Which page of a list.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// Items at most, 1 to 100.
    pub limit: u32,
    /// Begin after this; `None`: at the start.
    pub cursor: Option<Cursor>,
}

impl PageRequest {
    /// The key to begin after in ascending order; the empty text is before every key.
    pub(super) fn after(&self) -> &str {
        self.cursor.as_ref().map_or("", |cursor| &cursor.0)
    }

    /// The key to begin before in descending order; `~` is after every key of ours.
    pub(super) fn before(&self) -> &str {
        self.cursor.as_ref().map_or("~", |cursor| &cursor.0)
    }

    /// Rows to read: one more than shown tells whether another page follows.
    pub(super) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    pub(super) fn page<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let limit = self.limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| Cursor::after(&key(last)));
        Page { items, next }
    }
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<Cursor>,
}
