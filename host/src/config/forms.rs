//! How settings are written: durations, sizes, lists.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};

use super::MasterKey;

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    // jiff leaves days out of absolute durations; a setting's day is 24 hours.
    let days = text.trim().strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let parsed = days.map_or_else(|| text.parse(), |days| Ok(jiff::SignedDuration::from_hours(24 * i64::from(days))));
    parsed
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("`{text}` is not a duration such as 500ms, 30s, 5m, 2h"))
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(super) fn durations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
    list(deserializer)?.iter().map(|text| parse_duration(text).map_err(D::Error::custom)).collect()
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let expected = |text: &String| format!("`{text}` is not ADDRESS:PORT");
    list(deserializer)?.iter().map(|text| text.parse().map_err(|_| D::Error::custom(expected(text)))).collect()
}

pub(super) fn master_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<MasterKey>, D::Error> {
    list(deserializer)?.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

/// `a,b` or `["a", "b"]`.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged, expecting = "must be a list of texts, or one text with commas")]
    enum List {
        Text(String),
        Texts(Vec<String>),
    }
    Ok(match List::deserialize(deserializer)? {
        List::Text(text) => {
            text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        }
        List::Texts(texts) => texts,
    })
}

/// Whole bytes: `512KiB`, `64MiB`, `1GiB`, or a number.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged, expecting = "must be a size such as 512KiB, 64MiB, 1GiB")]
    enum Size {
        Bytes(usize),
        Text(String),
    }
    match Size::deserialize(deserializer)? {
        Size::Bytes(bytes) => Ok(bytes),
        Size::Text(text) => parse_size(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a size such as 512KiB, 64MiB, 1GiB"))),
    }
}

fn parse_size(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        let cases = [("7", Some(7)), ("16KiB", Some(16_384)), ("64 MiB", Some(1 << 26)), ("1GiB", Some(1 << 30))];
        for (text, expected) in
            cases.into_iter().chain([("1GB", None), ("-1", None), ("", None), ("KiB", None), ("99999999999GiB", None)])
        {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
