//! A plugin that replaces named JSON fields of an event's body; every other byte stays as it was.

use std::borrow::Cow;

use revnoxa_plugin::{Event, Plugin, Pointer, Request, Verdict, export, find};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// How many fields an attachment can name: each is compared with the keys of every object it leads into.
const MAX_FIELDS: usize = 100;

struct RedactFields;

impl Plugin for RedactFields {
    fn handle(event: Event, settings: String) -> Result<Verdict, String> {
        let body = redact(&event.body, &settings)?.into_owned();
        Ok(Verdict::Deliver(Request { body, headers: Vec::new() }))
    }
}

export!(RedactFields);

/// The body with the fields that `settings` names replaced; the body itself when it has none of them.
///
/// # Errors
///
/// When the settings are wrong or the body is not JSON, as a sentence for the tenant.
pub fn redact<'a>(body: &'a [u8], settings: &str) -> Result<Cow<'a, [u8]>, String> {
    let settings = Settings::parse(settings)?;
    let mut found: Vec<_> = find(body, &settings.fields)?.into_iter().flatten().map(|found| found.range).collect();
    if found.is_empty() {
        return Ok(Cow::Borrowed(body));
    }
    found.sort_unstable_by_key(|range| range.start);

    let replacement = settings.replacement.map_or(r#""[redacted]""#, RawValue::get).as_bytes();
    let mut redacted = Vec::with_capacity(body.len() + found.len() * replacement.len());
    let mut done = 0;
    for field in found {
        // A field inside one that is already replaced, or the same field named twice.
        if field.start < done {
            continue;
        }
        redacted.extend_from_slice(&body[done..field.start]);
        redacted.extend_from_slice(replacement);
        done = field.end;
    }
    redacted.extend_from_slice(&body[done..]);
    Ok(Cow::Owned(redacted))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings<'a> {
    fields: Vec<Pointer>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    replacement: Option<&'a RawValue>,
}

impl<'a> Settings<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let settings: Self = revnoxa_plugin::settings(text)?;
        match settings.fields.len() {
            1..=MAX_FIELDS => Ok(settings),
            n => Err(format!("settings: fields: names {n} fields, must name 1 to {MAX_FIELDS}")),
        }
    }
}

/// Reads `null` as a value, not as a missing one.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(body: &str, settings: &str) -> String {
        String::from_utf8(redact(body.as_bytes(), settings).unwrap().into_owned()).unwrap()
    }

    #[test]
    fn named_fields_are_replaced_and_nothing_else() {
        for (case, body, settings, expected) in [
            ("a text", r#"{"a":1,"s":"x","b":2}"#, r#"{"fields":["/s"]}"#, r#"{"a":1,"s":"[redacted]","b":2}"#),
            (
                "the other bytes",
                "\r\n{ \"z\" : 1e400,\t\"s\":\"x\" ,\"a\":-0.0e-0, \"a\":\"\\u0041\\ud800\" }\n",
                r#"{"fields":["/s"]}"#,
                "\r\n{ \"z\" : 1e400,\t\"s\":\"[redacted]\" ,\"a\":-0.0e-0, \"a\":\"\\u0041\\ud800\" }\n",
            ),
            ("each twin", r#"{"s":1,"s":{"s":2},"\u0073":3}"#, r#"{"fields":["/s"]}"#, r#"{"s":0,"s":0,"\u0073":0}"#),
            ("elements", r#"{"l":[{"p":1},2,{"p":3}]}"#, r#"{"fields":["/l/*/p"]}"#, r#"{"l":[{"p":0},2,{"p":0}]}"#),
            ("one element", "[1,2,3]", r#"{"fields":["/1"]}"#, "[1,0,3]"),
            ("members", r#"{"l":{"x":1,"y":[2]}}"#, r#"{"fields":["/l/*"]}"#, r#"{"l":{"x":0,"y":0}}"#),
            ("a null", r#"{"s":null}"#, r#"{"fields":["/s"]}"#, r#"{"s":0}"#),
            ("inside another", r#"{"s":{"t":1},"u":2}"#, r#"{"fields":["/s/t","/u","/s","/s"]}"#, r#"{"s":0,"u":0}"#),
            ("absent", r#"{"a":{"b":1}}"#, r#"{"fields":["/s","/a/b/c","/a/0"]}"#, r#"{"a":{"b":1}}"#),
            ("no object", " 5 ", r#"{"fields":["/s"]}"#, " 5 "),
        ] {
            let zero = format!(r#"{{"replacement":0,{}"#, &settings[1..]);
            let expected_zero = expected.replace(r#""[redacted]""#, "0");
            assert_eq!(redacted(body, &zero), expected_zero, "{case}");
            if expected.contains("[redacted]") {
                assert_eq!(redacted(body, settings), expected, "{case}, replacement not given");
            }
        }
    }

    #[test]
    fn the_replacement_is_any_json() {
        for replacement in ["null", "{ \"by\": [\"policy\"] }", "1e400", "\"\\u2588\""] {
            let settings = format!(r#"{{"fields":["/s"],"replacement":{replacement}}}"#);
            assert_eq!(redacted(r#"{"s":"x"}"#, &settings), format!(r#"{{"s":{replacement}}}"#));
        }
    }

    #[test]
    fn wrong_settings_and_bodies_are_refused() {
        let too_many = format!(r#"{{"fields":[{}]}}"#, vec![r#""/a""#; 101].join(","));
        for (settings, expected) in [
            ("{}", "settings: missing field `fields`"),
            (r#"{"fields":[]}"#, "settings: fields: names 0 fields, must name 1 to 100"),
            (&too_many, "settings: fields: names 101 fields, must name 1 to 100"),
            (r#"{"fields":["a"]}"#, "settings: fields[0]: \"a\" does not begin with `/`"),
            (
                r#"{"fields":["/a"],"with":1}"#,
                "settings: with: unknown field `with`, expected `fields` or `replacement`",
            ),
        ] {
            let error = redact(b"{}", settings).unwrap_err();
            assert!(error.starts_with(expected), "{settings}: {error}");
        }
        let error = redact(b"{\"s\":", r#"{"fields":["/s"]}"#).unwrap_err();
        assert!(error.starts_with("the body is not JSON: "), "{error}");
    }

    #[test]
    fn the_readme_example_is_true() {
        let block = |name| {
            let (_, rest) = include_str!("../README.md").split_once(&format!("```json file={name}\n")).unwrap();
            rest.split_once("```").unwrap().0
        };
        assert_eq!(redacted(block("before.json"), block("settings.json")), block("after.json"));
    }
}
