//! Text that Slack shows as it was meant: <https://docs.slack.dev/messaging/formatting-message-text>

/// The longest URL of a link.
const MAX_URL: usize = 2_000;

/// How long Slack takes a text for: it counts in JavaScript's characters.
pub(crate) fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Text on one line, for a `plain_text` object.
pub(crate) fn plain(text: &str, max: usize) -> String {
    let line: Vec<_> = text.split_whitespace().collect();
    cut(line.join(" ").chars().filter(|c| !c.is_control()).map(String::from), max)
}

/// Text for an `mrkdwn` object, in which nothing is a link or mentions anybody.
pub(crate) fn mrkdwn(text: &str, max: usize) -> String {
    let shown = text.trim().chars().filter(|c| *c == '\n' || !c.is_control());
    cut(shown.map(escaped), max)
}

/// A link to `url`, or `None` when it is none that Slack could follow.
pub(crate) fn link(url: &str) -> Option<String> {
    let scheme = url.split_once("://")?.0;
    let is_web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    if !is_web || url.contains(|c: char| c.is_control() || c.is_whitespace()) || length(url) > MAX_URL {
        return None;
    }
    // These end a link's URL; in a URL they may only stand encoded.
    let url = url.replace('<', "%3C").replace('>', "%3E").replace('|', "%7C").replace('&', "&amp;");
    Some(format!("<{url}|Open>"))
}

fn escaped(character: char) -> String {
    match character {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        other => other.into(),
    }
}

/// The `pieces` that fit into `max` characters, the last of them an ellipsis when not all do.
fn cut(pieces: impl Iterator<Item = String>, max: usize) -> String {
    let (mut text, mut used) = (String::new(), 0);
    let mut cut_here = 0;
    for piece in pieces {
        used += length(&piece);
        if used > max {
            text.truncate(cut_here);
            text.push('…');
            break;
        }
        text.push_str(&piece);
        if used < max {
            cut_here = text.len();
        }
    }
    text
}
