use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};

/// How many segments a pointer can have: [`find`](crate::find()) recurses once for each.
const MAX_SEGMENTS: usize = 32;

/// Where values are in a JSON text: a JSON Pointer (RFC 6901), in which a segment `*` stands for every member of an
/// object and every element of an array.
///
/// It begins with `/` and has at most 32 segments. `~0` is `~` and `~1` is `/`, as in the RFC; `~2` is `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    Any,
    Key {
        key: String,
        /// The element it names when it meets an array.
        index: Option<usize>,
    },
}

impl Pointer {
    /// Reads a pointer.
    ///
    /// # Errors
    ///
    /// The rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("{text:?} does not begin with `/`"));
        };
        let segments: Option<Vec<_>> = rest.split('/').map(Segment::parse).collect();
        match segments {
            None => Err(format!("{text:?} has a `~` that is not `~0` (`~`), `~1` (`/`) or `~2` (`*`)")),
            Some(segments) if segments.len() > MAX_SEGMENTS => {
                Err(format!("{text:?} has more than {MAX_SEGMENTS} segments"))
            }
            Some(segments) => Ok(Self { text: text.to_owned(), segments }),
        }
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Segment {
    /// `None` when a `~` stands for nothing.
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let mut key = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            key.push(match character {
                '~' => match characters.next()? {
                    '0' => '~',
                    '1' => '/',
                    '2' => '*',
                    _ => return None,
                },
                other => other,
            });
        }
        // RFC 6901 section 4: no leading zeros; Rust would also read a sign.
        let is_index = key == "0" || key.starts_with(|first| matches!(first, '1'..='9'));
        let index = if is_index { key.parse().ok() } else { None };
        Some(Self::Key { key, index })
    }

    /// `None` is a key that JSON allows but no pointer can spell, such as `"\ud800"`.
    pub(crate) fn is_key(&self, other: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Key { key, .. } => Some(key.as_str()) == other,
        }
    }

    pub(crate) fn is_index(&self, other: usize) -> bool {
        match self {
            Self::Any => true,
            Self::Key { index, .. } => *index == Some(other),
        }
    }
}
