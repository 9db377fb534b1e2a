//! A plugin that turns an event into the body of a Slack message, for an endpoint that is a Slack incoming webhook.

mod content;
mod markup;
mod settings;

use jiff::Timestamp;
use revnoxa_plugin::{Event, Plugin, Request, Verdict, export};
use serde_json::{Value, json};

use content::Content;
use markup::{mrkdwn, plain};
use settings::Settings;

// Slack refuses a message that is over one of its limits, all counted in characters:
// https://docs.slack.dev/reference/block-kit/blocks
const MAX_HEADER: usize = 150;
const MAX_TEXT: usize = 3_000;
const MAX_FIELD: usize = 2_000;
const FIELDS_IN_A_SECTION: usize = 10;

struct SlackMessage;

impl Plugin for SlackMessage {
    fn handle(event: Event, settings: String) -> Result<Verdict, String> {
        let body = message(&event, &settings)?;
        Ok(Verdict::Deliver(Request { body, headers: Vec::new() }))
    }
}

export!(SlackMessage);

/// The message that tells of `event`, as the JSON that Slack takes.
///
/// # Errors
///
/// When the settings are wrong or the event's body is not JSON, as a sentence for the tenant.
pub fn message(event: &Event, settings: &str) -> Result<Vec<u8>, String> {
    let settings = Settings::parse(settings)?;
    let content = Content::read(&event.body, &settings)?;
    let title = settings.title.unwrap_or_else(|| readable(&event.type_));

    let mut blocks =
        vec![json!({ "type": "header", "text": { "type": "plain_text", "text": plain(&title, MAX_HEADER) } })];
    if let Some(summary) = &content.summary {
        blocks.push(json!({ "type": "section", "text": text(mrkdwn(summary, MAX_TEXT)) }));
    }
    for fields in content.fields.chunks(FIELDS_IN_A_SECTION) {
        let fields: Vec<_> = fields.iter().map(|(label, value)| field(label, value)).collect();
        blocks.push(json!({ "type": "section", "fields": fields }));
    }
    if let Some(link) = content.link {
        blocks.push(json!({ "type": "section", "text": text(link) }));
    }
    blocks.push(json!({ "type": "context", "elements": [text(context(event))] }));

    let fallback = match &content.summary {
        Some(summary) => format!("{title}: {summary}"),
        None => title,
    };
    Ok(json!({ "text": mrkdwn(&fallback, MAX_TEXT), "blocks": blocks }).to_string().into_bytes())
}

/// `verbatim`: what looks like a URL, a channel or a user in an event stays text.
fn text(mrkdwn: String) -> Value {
    json!({ "type": "mrkdwn", "text": mrkdwn, "verbatim": true })
}

fn field(label: &str, value: &str) -> Value {
    let mut field = format!("*{}*\n", mrkdwn(label, MAX_FIELD / 2));
    field.push_str(&mrkdwn(value, MAX_FIELD - markup::length(&field)));
    text(field)
}

/// Which event it was, and when in the reader's own time zone.
fn context(event: &Event) -> String {
    let seconds = event.timestamp_ms.div_euclid(1_000);
    let id = mrkdwn(&event.id, MAX_TEXT / 2);
    match Timestamp::from_second(seconds) {
        Ok(time) => format!("{id} · <!date^{seconds}^{{date_short_pretty}} {{time_secs}}|{time}>"),
        Err(_) => id,
    }
}

/// `incident.created` as `Incident created`: a title for any event type and a label for any key.
fn readable(name: &str) -> String {
    let words: Vec<_> = name.split(['.', '_', '-']).filter(|word| !word.is_empty()).collect();
    let words = words.join(" ");
    let mut characters = words.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(type_: &str, body: &str) -> Event {
        Event {
            id: "evt_1".into(),
            type_: type_.into(),
            tenant: "acme".into(),
            timestamp_ms: 1_795_435_200_000,
            body: body.into(),
            headers: Vec::new(),
        }
    }

    fn told(type_: &str, data: &str, settings: &str) -> Value {
        let body = format!(r#"{{"id":"evt_1","type":{},"data":{data}}}"#, json!(type_));
        serde_json::from_slice(&message(&event(type_, &body), settings).unwrap()).unwrap()
    }

    /// The texts of all blocks, without the context's.
    fn texts(message: &Value) -> Vec<&str> {
        let blocks = message["blocks"].as_array().unwrap();
        let (context, blocks) = blocks.split_last().unwrap();
        assert_eq!(context["type"], "context");
        blocks
            .iter()
            .flat_map(|block| match &block["fields"] {
                Value::Array(fields) => fields.iter().collect(),
                _ => vec![&block["text"]],
            })
            .map(|text| text["text"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn any_event_becomes_a_message() {
        let link = r#"{"link":"/data/u","fields":[]}"#;
        for (case, type_, data, settings, expected) in [
            (
                "defaults: title, then members by key, none twice",
                "approval.rejected",
                r#"{"title":"T","z_key":1e400,"by":"Ann","n":null,"o":{},"a":[],"ok":false,"blank":" "}"#,
                "{}",
                &["Approval rejected", "T", "*By*\nAnn", "*Ok*\nfalse", "*Z key*\n1e400"][..],
            ),
            ("a type nobody knows", "a-b.c_d", "{}", "{}", &["A b c d"]),
            ("a type without words", "_", "{}", "{}", &["_"]),
            ("no object in data", "x", "5", "{}", &["X"]),
            ("a title of one's own", "x", r#"{"title":"T"}"#, r#"{"title":"Mine"}"#, &["Mine", "T"]),
            ("another summary", "x", r#"{"s":["S",2]}"#, r#"{"summary":"/data/s/*","fields":[]}"#, &["X", "S, 2"]),
            (
                "chosen fields, absent ones left out",
                "x",
                r#"{"a":{"b":"B"},"o":{"k": 1}}"#,
                r#"{"fields":[{"label":"O","field":"/data/o"},{"label":"N","field":"/data/n"},{"label":"A","field":"/data/a/b"}]}"#,
                &["X", "*O*\n{\"k\": 1}", "*A*\nB"],
            ),
            (
                "escapes",
                "x",
                r#"{"title":"<!channel> & \u0007\u001b[1m\r\nyou","<k>":"<@U1>"}"#,
                "{}",
                &["X", "&lt;!channel&gt; &amp; [1m\nyou", "*&lt;k&gt;*\n&lt;@U1&gt;"],
            ),
            (
                "a link",
                "x",
                r#"{"u":"HTTPS://e.com/?a=<|>&b"}"#,
                link,
                &["X", "<HTTPS://e.com/?a=%3C%7C%3E&amp;b|Open>"],
            ),
            ("no link: a script", "x", r#"{"u":"javascript://e.com"}"#, link, &["X"]),
            ("no link: a blank", "x", r#"{"u":"https://e.com/ x"}"#, link, &["X"]),
            ("no link: absent", "x", "{}", link, &["X"]),
        ] {
            assert_eq!(texts(&told(type_, data, settings)), expected, "{case}");
        }
    }

    #[test]
    fn slacks_limits_are_kept() {
        for part in ["x", "&", "😀", "<😀\u{7}"] {
            let long = part.repeat(3_500);
            let members: String = (0..60).map(|n| format!(r#","{n}{long}":"{n}{long}""#)).collect();
            let data = format!(r#"{{"title":"{long}"{members}}}"#).replace('\u{7}', "\\u0007");
            let message = told(&part.repeat(300), &data, "{}");
            let blocks = message["blocks"].as_array().unwrap();
            assert_eq!(blocks.len(), 1 + 1 + 4 + 1, "{part}");
            for block in blocks {
                let fields = block["fields"].as_array();
                assert!(fields.is_none_or(|fields| fields.len() == FIELDS_IN_A_SECTION));
            }
            let texts = texts(&message);
            for (n, text) in texts.iter().enumerate() {
                let max = [MAX_HEADER, MAX_TEXT].get(n).copied().unwrap_or(MAX_FIELD);
                assert!((max - 10..=max).contains(&markup::length(text)), "{part}, {n}: {}", markup::length(text));
                assert!(text.ends_with('…'));
                assert!(n == 0 || !text.replace("&amp;", "").replace("&lt;", "").contains('&'), "no half entity");
            }
        }
        let exactly = "x".repeat(MAX_TEXT);
        assert_eq!(texts(&told("x", &format!(r#"{{"title":"{exactly}"}}"#), "{}")), ["X", &exactly]);
    }

    #[test]
    fn wrong_settings_and_bodies_are_refused() {
        let field = r#"{"label":"L","field":"/a"}"#;
        let too_many = format!(r#"{{"fields":[{}]}}"#, vec![field; 41].join(","));
        let long_title = format!(r#"{{"title":"{}"}}"#, "x".repeat(151));
        for (settings, expected) in [
            (r#"{"titel":"x"}"#, "settings: titel: unknown field `titel`, expected one of `title`, `summary`"),
            (r#"{"title":" \u0007"}"#, "settings: title: must be 1 to 150 characters, not only blanks"),
            (&long_title, "settings: title: must be 1 to 150 characters"),
            (&too_many, "settings: fields: names 41 fields, may name at most 40"),
            (r#"{"fields":[{"label":"","field":"/a"}]}"#, "settings: fields[0].label: must be 1 to 100 characters"),
            (r#"{"fields":[{"label":"A"}]}"#, "settings: fields[0]: missing field `field`"),
            (r#"{"link":"data"}"#, "settings: link: \"data\" does not begin with `/`"),
        ] {
            let error = message(&event("x", "{}"), settings).unwrap_err();
            assert!(error.starts_with(expected), "{settings}: {error}");
        }
        assert!(message(&event("x", "nothing"), "{}").unwrap_err().starts_with("the body is not JSON: "));
    }

    #[test]
    fn the_readme_example_is_true() {
        let block = |name| {
            let (_, rest) = include_str!("../README.md").split_once(&format!("```json file={name}\n")).unwrap();
            rest.split_once("\n```").unwrap().0
        };
        let message = message(&event("incident.created", block("before.json")), block("settings.json")).unwrap();
        let expected: Value = serde_json::from_str(block("after.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&message).unwrap(), expected);
    }
}
