//! Pages of a list: the next page begins after the last key of this one, so rows that come or go never shift it.

use std::fmt::{self, Display};
use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The key that a page begins after; opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor<K>(K);

/// The text is not a cursor we gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a `next_cursor` of the same list")]
pub struct InvalidCursor;

/// Bytes of a cursor; longer than any of ours.
const CURSOR_LIMIT: usize = 256;

impl<K: Display> Display for Cursor<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.to_string()))
    }
}

impl<K: FromStr> FromStr for Cursor<K> {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() > CURSOR_LIMIT {
            return Err(InvalidCursor);
        }
        let key = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let key = String::from_utf8(key).map_err(|_| InvalidCursor)?;
        key.parse().map(Self).map_err(|_| InvalidCursor)
    }
}

/// Which page of a list that is sorted by `K`.
#[derive(Debug, Clone)]
pub struct PageRequest<K> {
    /// Items at most, 1 to 100.
    pub limit: u32,
    /// Begin after this; `None`: at the start.
    pub cursor: Option<Cursor<K>>,
}

impl<K: Display> PageRequest<K> {
    /// The key to begin after in ascending order; the empty text is before every key.
    pub(super) fn after(&self) -> String {
        self.cursor.as_ref().map_or_else(String::new, |cursor| cursor.0.to_string())
    }

    /// The key to begin before in descending order; `~` is after every key of ours.
    pub(super) fn before(&self) -> String {
        self.cursor.as_ref().map_or_else(|| "~".to_owned(), |cursor| cursor.0.to_string())
    }

    /// As [`PageRequest::before`], for keys that are numbers.
    pub(super) fn before_number(&self) -> i64
    where
        K: Copy + Into<i64>,
    {
        self.cursor.as_ref().map_or(i64::MAX, |cursor| cursor.0.into())
    }

    /// Rows to read: one more than shown tells whether another page follows.
    pub(super) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    pub(super) fn page<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> K) -> Page<T, K> {
        let limit = self.limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| Cursor(key(last)));
        Page { items, next }
    }
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<T, K> {
    /// In the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<Cursor<K>>,
}
