use revnoxa_plugin::Pointer;
use serde::Deserialize;

use crate::MAX_HEADER;
use crate::markup::{length, plain};

/// How many fields a message shows.
pub(crate) const MAX_FIELDS: usize = 40;

/// The longest label; what is left of a field's 2,000 characters is the value's.
const MAX_LABEL: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) title: Option<String>,
    #[serde(default = "default_summary")]
    pub(crate) summary: Pointer,
    pub(crate) fields: Option<Vec<Field>>,
    pub(crate) link: Option<Pointer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    pub(crate) label: String,
    pub(crate) field: Pointer,
}

impl Settings {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = revnoxa_plugin::settings(text)?;
        if let Some(title) = &settings.title {
            check("title", title, MAX_HEADER)?;
        }
        let fields = settings.fields.as_deref().unwrap_or_default();
        if fields.len() > MAX_FIELDS {
            return Err(format!("settings: fields: names {} fields, may name at most {MAX_FIELDS}", fields.len()));
        }
        for (n, field) in fields.iter().enumerate() {
            check(&format!("fields[{n}].label"), &field.label, MAX_LABEL)?;
        }
        Ok(settings)
    }
}

fn default_summary() -> Pointer {
    Pointer::parse("/data/title").expect("it begins with a slash")
}

fn check(name: &str, text: &str, max: usize) -> Result<(), String> {
    if length(text) <= max && !plain(text, max).is_empty() {
        return Ok(());
    }
    Err(format!("settings: {name}: must be 1 to {max} characters, not only blanks or control characters"))
}
