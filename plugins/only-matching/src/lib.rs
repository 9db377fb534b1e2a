//! A plugin that lets through the events whose JSON fields meet a condition, unchanged, and drops all others.

mod condition;
mod test;

use std::collections::BTreeMap;

use revnoxa_plugin::{Event, Found, Plugin, Pointer, Request, Verdict, export, find};

use condition::Condition;

/// What the body has in each field.
type Values<'a> = BTreeMap<&'a Pointer, Vec<Found<'a>>>;

struct OnlyMatching;

impl Plugin for OnlyMatching {
    fn handle(event: Event, settings: String) -> Result<Verdict, String> {
        Ok(match failure(&event.body, &settings)? {
            None => Verdict::Deliver(Request { body: event.body, headers: Vec::new() }),
            Some(reason) => Verdict::Drop(reason),
        })
    }
}

export!(OnlyMatching);

/// What of the condition in `settings` the body does not meet, such as `/data/severity is not "high"`; `None` when it
/// meets it.
///
/// # Errors
///
/// When the settings are wrong or the body is not JSON, as a sentence for the tenant.
pub fn failure(body: &[u8], settings: &str) -> Result<Option<String>, String> {
    let condition = Condition::parse(settings)?;
    let fields = condition.fields();
    let found = find(body, fields.iter().copied())?;
    let values: Values = fields.into_iter().zip(found).collect();
    Ok(condition.failure(&values))
}

#[cfg(test)]
mod tests {
    use super::failure;

    const BODY: &str = r#"{"id":"evt_1","type":"incident.created","data":{
        "severity":"high","n":5,"big":12345678901234567890,"huge":1e400,"null":null,"tags":["a",{"k":1}],"on":true,
        "twin":"x","twin":"y","people":[{"age":20},{"age":40}],"half":"\ud800"}}"#;

    #[test]
    fn a_condition_is_met_or_names_what_is_not() {
        let met = None;
        for (settings, expected) in [
            (r#"{"field":"/data/severity","equals":"high"}"#, met),
            (r#"{"field":"/data/severity","equals":"low"}"#, Some(r#"/data/severity is not "low""#)),
            (r#"{"field":"/data/n","equals":5.0}"#, met),
            (r#"{"field":"/data/big","equals":12345678901234567891}"#, Some("/data/big is not 12345678901234567891")),
            (r#"{"field":"/data/null","equals":null}"#, met),
            (r#"{"field":"/data/none","equals":null}"#, Some("/data/none is missing")),
            (r#"{"field":"/data/tags","equals":["a",{"k":1.0}]}"#, met),
            (r#"{"field":"/data/tags","equals":["a",{"k":2}]}"#, Some(r#"/data/tags is not ["a",{"k":2}]"#)),
            (r#"{"field":"/data/huge","equals":1}"#, Some("/data/huge is not 1")),
            (r#"{"field":"/data/half","equals":"x"}"#, Some(r#"/data/half is not "x""#)),
            (r#"{"field":"/data/twin","equals":"x"}"#, met),
            (r#"{"field":"/data/twin","equals":"y"}"#, met),
            (r#"{"field":"/data/severity","one_of":["low","high"]}"#, met),
            (r#"{"field":"/data/severity","one_of":["low",1]}"#, Some(r#"/data/severity is not one of "low", 1"#)),
            (r#"{"field":"/data/null","exists":true}"#, met),
            (r#"{"field":"/data/none","exists":true}"#, Some("/data/none is missing")),
            (r#"{"field":"/data/none","exists":false}"#, met),
            (r#"{"field":"/data/n","exists":false}"#, Some("/data/n is there")),
            (r#"{"field":"/type","contains":".created"}"#, met),
            (r#"{"field":"/type","contains":"resolved"}"#, Some(r#"/type does not contain "resolved""#)),
            (r#"{"field":"/data/tags","contains":{"k":1}}"#, met),
            (r#"{"field":"/data/tags","contains":"b"}"#, Some(r#"/data/tags does not contain "b""#)),
            (r#"{"field":"/data/n","contains":5}"#, Some("/data/n does not contain 5")),
            (r#"{"field":"/data/n","greater_than":4.5}"#, met),
            (r#"{"field":"/data/n","greater_than":5}"#, Some("/data/n is not greater than 5")),
            (r#"{"field":"/data/n","at_least":5}"#, met),
            (r#"{"field":"/data/n","at_least":6}"#, Some("/data/n is not at least 6")),
            (r#"{"field":"/data/n","less_than":6}"#, met),
            (r#"{"field":"/data/n","less_than":5}"#, Some("/data/n is not less than 5")),
            (r#"{"field":"/data/n","at_most":5}"#, met),
            (r#"{"field":"/data/n","at_most":4}"#, Some("/data/n is not at most 4")),
            (r#"{"field":"/data/huge","greater_than":1e300}"#, met),
            (r#"{"field":"/data/severity","at_least":0}"#, Some("/data/severity is not at least 0")),
            (r#"{"field":"/data/none","less_than":1}"#, Some("/data/none is missing")),
            (r#"{"field":"/data/people/*/age","greater_than":30}"#, met),
            (r#"{"field":"/data/people/*/age","greater_than":40}"#, Some("/data/people/*/age is not greater than 40")),
            (r#"{"field":"/data/people/1/age","equals":40}"#, met),
            (r#"{"not":{"field":"/data/none","equals":1}}"#, met),
            (r#"{"not":{"field":"/data/n","equals":5}}"#, Some("/data/n is 5")),
            (r#"{"not":{"field":"/data/none","exists":false}}"#, Some("/data/none is missing")),
            (r#"{"not":{"not":{"field":"/data/n","equals":6}}}"#, Some("not /data/n is 6")),
            (r#"{"all":[{"field":"/data/n","equals":5},{"field":"/data/on","equals":true}]}"#, met),
            (r#"{"all":[{"field":"/data/n","equals":5},{"field":"/data/n","equals":6}]}"#, Some("/data/n is not 6")),
            (r#"{"any":[{"field":"/data/n","equals":6},{"field":"/data/n","equals":5}]}"#, met),
            (
                r#"{"any":[{"field":"/data/n","equals":6},{"field":"/data/on","equals":false}]}"#,
                Some("/data/n is not 6 and /data/on is not false"),
            ),
            (
                r#"{"not":{"any":[{"all":[{"field":"/data/n","at_most":5},{"field":"/type","exists":true}]}]}}"#,
                Some("((/data/n is at most 5 and /type is there))"),
            ),
        ] {
            assert_eq!(failure(BODY.as_bytes(), settings).unwrap().as_deref(), expected, "{settings}");
        }
    }

    #[test]
    fn wrong_settings_and_bodies_are_refused() {
        let nested = |n| format!("{}{}{}", r#"{"not":"#.repeat(n), r#"{"field":"/a","exists":true}"#, "}".repeat(n));
        let many = |n| format!(r#"{{"any":[{}]}}"#, vec![r#"{"field":"/a","exists":true}"#; n].join(","));
        assert_eq!(failure(b"{}", &nested(15)), Ok(None));
        assert!(failure(b"{}", &many(100)).unwrap().is_some());
        for (settings, expected) in [
            ("{}", "settings: a condition is exactly one of `all`, `any`, `not`, or a `field` with its test"),
            (r#"{"equals":1}"#, "settings: a condition is exactly one of"),
            (r#"{"all":[],"any":[]}"#, "settings: a condition is exactly one of"),
            (r#"{"not":{"any":[]}}"#, "settings: not: `all` and `any` need at least one condition"),
            (r#"{"field":"/a"}"#, "settings: beside `field` there must be exactly one of `equals`"),
            (r#"{"field":"/a","equals":1,"exists":true}"#, "settings: beside `field` there must be exactly one of"),
            (r#"{"field":"/a","one_of":[]}"#, "settings: `one_of` needs at least one value"),
            (r#"{"all":[{"field":"a","exists":true}]}"#, "settings: all[0].field: \"a\" does not begin with `/`"),
            (r#"{"all":[{"field":"/a","is":1}]}"#, "settings: all[0].is: unknown field `is`, expected one of `all`"),
            (r#"{"field":"/a","at_least":"5"}"#, "settings: at_least: invalid type: string \"5\", expected f64"),
            ("[]", "settings: invalid length 0"),
            (&nested(16), "settings: conditions are within each other more than 16 deep"),
            (&nested(30_000), "settings: recursion limit exceeded"),
            (&many(101), "settings: 101 tests, at most 100 are possible"),
        ] {
            let error = failure(b"{}", settings).unwrap_err();
            assert!(error.starts_with(expected), "{settings:.100}: {error}");
        }
        let error = failure(b"{", r#"{"field":"/a","exists":true}"#).unwrap_err();
        assert!(error.starts_with("the body is not JSON: "), "{error}");
    }

    #[test]
    fn the_readme_example_is_true() {
        let block = |fence| {
            let (_, rest) = include_str!("../README.md").split_once(&format!("```{fence}\n")).unwrap();
            rest.split_once("\n```").unwrap().0
        };
        let failure = |body: &str| failure(body.as_bytes(), block("json file=settings.json")).unwrap();
        assert_eq!(failure(block("json file=delivered.json")), None);
        assert_eq!(failure(block("json file=dropped.json")).unwrap(), block("text file=reason"));
    }
}
