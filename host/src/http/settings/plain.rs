//! Text of others, such that whoever reads it sees what is there.

use std::fmt::Write;

/// `text` with characters that act instead of being seen replaced by what they are called: terminal and other controls (but line
/// ends and tabs), those that turn the direction of text or are invisible (<https://unicode.org/reports/tr9/#Directional_Formatting_Characters>,
/// <https://unicode.org/reports/tr36/>). It is still to be escaped for HTML.
pub(super) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\t' => shown.push(character),
            '\r' if characters.peek() == Some(&'\n') => {}
            character if is_hidden(character) => {
                write!(shown, "⟨U+{:04X}⟩", u32::from(character)).expect("a String takes all");
            }
            character => shown.push(character),
        }
    }
    shown
}

fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_named_and_what_is_seen_stays() {
        let cases = [
            ("Ünïcödé 漢字 👩‍🚒 עברית", "Ünïcödé 漢字 👩‍🚒 עברית"),
            ("a\tb\nc\r\nd", "a\tb\nc\nd"),
            ("\u{1b}[31mred", "⟨U+001B⟩[31mred"),
            ("cut\rover", "cut⟨U+000D⟩over"),
            ("user\u{202e}gpj.exe", "user⟨U+202E⟩gpj.exe"),
            ("a\u{200b}b\u{feff}\0", "a⟨U+200B⟩b⟨U+FEFF⟩⟨U+0000⟩"),
            ("\u{9b}31m\u{e0041}", "⟨U+009B⟩31m⟨U+E0041⟩"),
            ("<b>", "<b>"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text), expected, "{text:?}");
        }
    }
}
