use serde::Deserialize;

/// Reads an attachment's settings.
///
/// # Errors
///
/// A sentence for the tenant that names the wrong field and the rule it breaks.
pub fn settings<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let settings = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        match error.into_inner() {
            error if error.is_data() && path != "." => format!("settings: {path}: {error}"),
            error => format!("settings: {error}"),
        }
    })?;
    deserializer.end().map_err(|error| format!("settings: {error}"))?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pointer;

    #[test]
    fn wrong_settings_are_refused_by_name() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Settings {
            #[expect(dead_code)]
            fields: Vec<Pointer>,
        }
        let too_long = format!(r#"{{"fields":["{}"]}}"#, "/a".repeat(33));
        for (text, expected) in [
            (r#"{"fields":["/a","b"]}"#, r#"settings: fields[1]: "b" does not begin with `/`"#),
            (r#"{"fields":["/~"]}"#, r#"settings: fields[0]: "/~" has a `~` that is not"#),
            (r#"{"fields":["/~3"]}"#, r#"settings: fields[0]: "/~3" has a `~` that is not"#),
            (&too_long, "has more than 32 segments"),
            (r#"{"fields":1}"#, "settings: fields: invalid type: integer `1`, expected a sequence"),
            (r#"{"field":["/a"]}"#, "settings: field: unknown field `field`, expected `fields`"),
            ("{}", "settings: missing field `fields`"),
            ("{", "settings: EOF"),
            (r#"{"fields":["/a"]} 1"#, "settings: trailing characters"),
        ] {
            let error = settings::<Settings>(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
