//! JSON for people's eyes, without a change to what it says.

/// Deeper than this everything stays on one line: else whoever nests thousands of arrays makes gigabytes of white space.
const DEEPEST: usize = 32;

/// Puts each member and element on a line of its own, to a depth of 32; keys, numbers and strings stay as they are written.
///
/// `json` must be valid JSON; of anything else it makes something, but nothing useful.
#[must_use]
pub fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut characters = json.chars().peekable();
    let line = |text: &mut String, within: usize, depth: usize| {
        if within <= DEEPEST {
            text.push('\n');
            text.extend(std::iter::repeat_n("  ", depth));
        }
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
                        line(&mut text, depth, depth);
                    }
                }
            }
            '}' | ']' => {
                line(&mut text, depth, depth.saturating_sub(1));
                depth = depth.saturating_sub(1);
                text.push(character);
            }
            ',' => {
                text.push(',');
                line(&mut text, depth, depth);
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

    #[test]
    fn deep_nesting_stays_small() {
        let depth = 100_000;
        let nested = "[".repeat(depth) + "1,2" + &"]".repeat(depth);
        let text = indented(&nested);
        assert!(text.len() < nested.len() + 4 * DEEPEST * DEEPEST, "{} bytes", text.len());
        let deepest =
            format!("\n{}{}1,2{}\n", "  ".repeat(DEEPEST), "[".repeat(depth - DEEPEST), "]".repeat(depth - DEEPEST));
        assert!(text.contains(&deepest));
        assert_eq!(text.split_whitespace().collect::<String>(), nested);
    }
}
