use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;
use serde::de::IgnoredAny;

use crate::pointer::{Pointer, Segment};

/// A value that a pointer leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<'a> {
    /// Where in the body it is.
    pub range: Range<usize>,
    /// The value as it is in the body.
    pub json: &'a str,
}

/// The values in `body` that `pointers` lead to: a list for each pointer, in the order of the body. When a key occurs
/// twice in an object, both values are found.
///
/// # Errors
///
/// When the body is not JSON, as a sentence. What no pointer enters is checked but not read, so a number like `1e400`
/// is no error.
pub fn find<'a, 'p>(
    body: &'a [u8],
    pointers: impl IntoIterator<Item = &'p Pointer>,
) -> Result<Vec<Vec<Found<'a>>>, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("the body is not JSON: {error}"))?;
    let open = |(pointer, to): (usize, &'p Pointer)| Open { pointer, rest: to.segments() };
    let open: Vec<_> = pointers.into_iter().enumerate().map(open).collect();
    let mut walk = Walk { text, at: 0, found: vec![Vec::new(); open.len()] };
    walk.next();
    walk.value(&open);
    Ok(walk.found)
}

/// A pointer that leads on from a value, without the segments that led to it.
#[derive(Clone, Copy)]
struct Open<'p> {
    pointer: usize,
    rest: &'p [Segment],
}

/// A way through a text that is known to be JSON, each byte read once; serde_json's raw values would be read again on each
/// level.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    found: Vec<Vec<Found<'a>>>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, open: &[Open]) {
        match self.byte() {
            b'{' if !open.is_empty() => self.members(open),
            b'[' if !open.is_empty() => self.elements(open),
            _ => self.skip(),
        }
    }

    fn members(&mut self, open: &[Open]) {
        self.at += 1;
        while self.next() != b'}' {
            let key = self.key();
            self.next();
            self.child(step(open, |segment| segment.is_key(key.as_deref())));
        }
        self.at += 1;
    }

    fn elements(&mut self, open: &[Open]) {
        self.at += 1;
        let mut index = 0;
        while self.next() != b']' {
            self.child(step(open, |segment| segment.is_index(index)));
            index += 1;
        }
        self.at += 1;
    }

    fn child(&mut self, mut open: Vec<Open>) {
        let start = self.at;
        let arrived: Vec<_> = open.extract_if(.., |open| open.rest.is_empty()).collect();
        self.value(&open);
        for open in arrived {
            self.found[open.pointer].push(Found { range: start..self.at, json: &self.text[start..self.at] });
        }
    }

    /// `None` is a key that is no Rust string.
    fn key(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        self.skip();
        let quoted = &self.text[start..self.at];
        if quoted.contains('\\') {
            serde_json::from_str(quoted).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
        }
    }

    /// Goes to the end of a value.
    fn skip(&mut self) {
        let mut depth = 0;
        loop {
            match self.byte() {
                b'"' => self.skip_string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                _ if depth == 0 => self.skip_scalar(),
                _ => self.at += 1,
            }
            if depth == 0 {
                break;
            }
        }
    }

    fn skip_string(&mut self) {
        self.at += 1;
        loop {
            self.at += memchr2(b'"', b'\\', &self.text.as_bytes()[self.at..]).expect("a string has an end");
            if self.byte() == b'"' {
                break;
            }
            self.at += 2;
        }
        self.at += 1;
    }

    fn skip_scalar(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|byte| b" \t\n\r,]}".contains(byte)).unwrap_or(rest.len());
    }

    /// Goes over blanks and separators to the next value, key or bracket, and tells its first byte.
    fn next(&mut self) -> u8 {
        while matches!(self.byte(), b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> u8 {
        self.text.as_bytes()[self.at]
    }
}

/// The pointers that lead on to a child that satisfies `is_next`.
fn step<'p>(open: &[Open<'p>], is_next: impl Fn(&Segment) -> bool) -> Vec<Open<'p>> {
    let onwards = |open: &Open<'p>| {
        let (first, rest) = open.rest.split_first()?;
        is_next(first).then_some(Open { rest, ..*open })
    };
    open.iter().filter_map(onwards).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_pointer_leads_to_values() {
        let body =
            r#" {"a": {"b":1e400, "b" : [true,{"c":null}]}, "x/y":2, "~":3, "*":4, "":5, "\u0061":6, "\ud800":7} "#;
        for (pointer, expected) in [
            ("/a/b", &["1e400", r#"[true,{"c":null}]"#][..]),
            ("/a/b/1/c", &["null"]),
            ("/a/b/*", &["true", r#"{"c":null}"#]),
            ("/a/*/1", &[r#"{"c":null}"#]),
            ("/*/b/*/c", &["null"]),
            ("/a/b/01", &[]),
            ("/a/b/+1", &[]),
            ("/a/b/-", &[]),
            ("/a/b/99999999999999999999", &[]),
            ("/x~1y", &["2"]),
            ("/~0", &["3"]),
            ("/~2", &["4"]),
            ("/", &["5"]),
            ("/a", &[r#"{"b":1e400, "b" : [true,{"c":null}]}"#, "6"]),
            ("/a/b/c/d", &[]),
            ("/none", &[]),
        ] {
            let found = find(body.as_bytes(), &[Pointer::parse(pointer).unwrap()]).unwrap();
            let values: Vec<_> = found[0].iter().map(|found| found.json).collect();
            assert_eq!(values, expected, "{pointer}");
            assert!(found[0].iter().all(|found| &body[found.range.clone()] == found.json), "{pointer}");
        }
    }

    #[test]
    fn many_pointers_are_followed_at_once() {
        let pointers = ["/b", "/a", "/a/0", "/a", "/*/0"].map(|text| Pointer::parse(text).unwrap());
        let found = find(b"{\"a\":[1],\"b\":[2]}", &pointers).unwrap();
        let found: Vec<Vec<_>> = found.iter().map(|found| found.iter().map(|found| found.json).collect()).collect();
        assert_eq!(found, [vec!["[2]"], vec!["[1]"], vec!["1"], vec!["[1]"], vec!["1", "2"]]);
    }

    #[test]
    fn a_body_may_be_any_json_and_nothing_else() {
        let pointer = [Pointer::parse("/a/0").unwrap()];
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for body in ["1e400", "\"a\"", " [ ] ", "{}", &deep] {
            assert_eq!(find(body.as_bytes(), &pointer), Ok(vec![Vec::new()]), "{body:.20}");
        }
        for body in ["", "{", "[1,]", "{} {}", "1 2", r#"{"a":[1}"#, r#"{"a":"\x"}"#, "{'a':1}", "\u{feff}{}", "NaN"] {
            let error = find(body.as_bytes(), &pointer).unwrap_err();
            assert!(error.starts_with("the body is not JSON: "), "{body}: {error}");
        }
        assert!(find(b"{\"a\":\"\xff\"}", &pointer).unwrap_err().contains("invalid utf-8"));
    }
    #[test]
    fn every_value_of_a_tree_is_found_where_serde_json_finds_it() {
        let mut tree = json!(["", "\"\\]}", -1.5e-7, 0, true, null, {}, []]);
        for _ in 0..3 {
            tree = json!({ "a": tree, "[{\"\\": [tree, [[]], " , : "], "": { "0": tree } });
        }
        let mut pointers = vec![String::new()];
        for n in 0.. {
            let Some(pointer) = pointers.get(n).cloned() else { break };
            let keys: Vec<String> = match tree.pointer(&pointer).unwrap() {
                Value::Object(members) => members.keys().cloned().collect(),
                Value::Array(elements) => (0..elements.len()).map(|index| index.to_string()).collect(),
                _ => Vec::new(),
            };
            pointers.extend(keys.iter().map(|key| format!("{pointer}/{key}")));
        }
        assert!(pointers.len() > 300, "{}", pointers.len());
        for body in [serde_json::to_string(&tree).unwrap(), serde_json::to_string_pretty(&tree).unwrap()] {
            for pointer in &pointers[1..] {
                let found = find(body.as_bytes(), [&Pointer::parse(pointer).unwrap()]).unwrap();
                let values: Vec<Value> =
                    found[0].iter().map(|found| serde_json::from_str(found.json).unwrap()).collect();
                assert_eq!(values, [tree.pointer(pointer).unwrap().clone()], "{pointer}");
            }
        }
    }
}
