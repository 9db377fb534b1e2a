//! JSON for people's eyes, without a change to what it says.

/// Puts each member and element on a line of its own; keys, numbers and strings stay as they are written.
///
/// `json` must be valid JSON; of anything else it makes something, but nothing useful.
#[must_use]
pub fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut characters = json.chars().peekable();
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                text.push('"');
                while let Some(character) = characters.next() {
                    text.push(character);
                    match character {
                        '\\' => text.extend(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                text.push(character);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                match characters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => text.push(end),
                    None => {
                        depth += 1;
                        line(&mut text, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(character);
            }
            ',' => {
                text.push(',');
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            space if space.is_ascii_whitespace() => {}
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_written() {
        let json = r#"{"b":1e400 , "a":[1.0,{"c , : {":"\"x\\"}, [ ] ,{}],"a":null}"#;
        let expected = "{\n  \"b\": 1e400,\n  \"a\": [\n    1.0,\n    {\n      \"c , : {\": \"\\\"x\\\\\"\n    },\n    [],\n    {}\n  ],\n  \"a\": null\n}";
        assert_eq!(indented(json), expected);
        assert_eq!(indented("7"), "7");
    }
}
