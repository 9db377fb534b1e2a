use std::collections::BTreeMap;

use revnoxa_plugin::{Found, Pointer, find, log};
use serde_json::value::RawValue;

use crate::markup::link;
use crate::readable;
use crate::settings::{MAX_FIELDS, Settings};

/// What a message takes from an event's body.
pub(crate) struct Content {
    pub(crate) summary: Option<String>,
    /// Labels and values.
    pub(crate) fields: Vec<(String, String)>,
    /// A link as Slack writes it.
    pub(crate) link: Option<String>,
}

impl Content {
    pub(crate) fn read(body: &[u8], settings: &Settings) -> Result<Self, String> {
        let data = Pointer::parse("/data").expect("it begins with a slash");
        let chosen = settings.fields.as_deref().unwrap_or_default();
        let pointers = [&data, &settings.summary].into_iter().chain(&settings.link);
        let mut found = find(body, pointers.chain(chosen.iter().map(|field| &field.field)))?.into_iter();

        let data = found.next().unwrap_or_default();
        let summary = found.next().and_then(|found| joined(&found));
        let url = settings.link.as_ref().and_then(|_| joined(&found.next()?));
        let fields = match settings.fields {
            Some(_) => chosen
                .iter()
                .zip(found)
                .filter_map(|(field, found)| Some((field.label.clone(), joined(&found)?)))
                .collect(),
            None => data.last().map(|data| members(data.json, summary.as_deref())).unwrap_or_default(),
        };
        let link = url.and_then(|url| {
            let link = link(&url);
            if link.is_none() {
                log::warn("the link is left out: it is not an http or https URL of at most 2,000 characters");
            }
            link
        });
        Ok(Self { summary, fields, link })
    }
}

/// The values as people read them; `None` when there are none but nulls and blank texts.
fn joined(found: &[Found]) -> Option<String> {
    let texts: Vec<_> = found.iter().filter_map(|found| readable_value(found.json)).collect();
    if texts.is_empty() { None } else { Some(texts.join(", ")) }
}

fn readable_value(json: &str) -> Option<String> {
    // A text with half a surrogate pair is no Rust string: it stays JSON.
    let text = serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
    let is_blank = text.chars().all(|c| c.is_whitespace() || c.is_control());
    if json == "null" || is_blank { None } else { Some(text) }
}

/// The texts, numbers and truth values of an object, by key, without the one that the summary already shows.
fn members(json: &str, summary: Option<&str>) -> Vec<(String, String)> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap_or_default();
    members
        .into_iter()
        .filter(|(_, value)| !value.get().starts_with(['{', '[']))
        .filter_map(|(key, value)| Some((readable(&key), readable_value(value.get())?)))
        .filter(|(_, value)| Some(value.as_str()) != summary)
        .take(MAX_FIELDS)
        .collect()
}
