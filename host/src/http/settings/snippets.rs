//! What a receiver needs to verify its first delivery, to be copied.

/// Code in one language.
pub(super) struct Snippet {
    pub(super) language: &'static str,
    pub(super) code: String,
}

impl Snippet {
    /// In each language; `url` is the endpoint's.
    pub(super) fn all(url: &str) -> Vec<Self> {
        let snippet = |(language, code): (&'static str, &str)| Self { language, code: code.to_owned() };
        let mut all: Vec<Self> = [
            ("Node", include_str!("../../../templates/settings/snippets/receiver.mjs")),
            ("Python", include_str!("../../../templates/settings/snippets/receiver.py")),
            ("Rust", include_str!("../../../templates/settings/snippets/receiver.rs")),
        ]
        .map(snippet)
        .into();
        let curl = include_str!("../../../templates/settings/snippets/send.sh").replace("{{url}}", &quoted(url));
        all.push(Self { language: "cURL", code: curl });
        all
    }
}

/// A word of a POSIX shell that stands for exactly this text.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_quoted_text_as_it_is() {
        for text in ["", "a b", "it's", "$(id) `id` \\ \"x\"", "'", "line\nend", "é\u{1b}"] {
            let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(text))]).output();
            assert_eq!(said.unwrap().stdout, text.as_bytes(), "{text:?}");
        }
    }
}
