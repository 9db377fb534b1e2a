use revnoxa_verifier::{Key, StandardHeaders, StandardKey};

use super::text;
use oracle::Request;

#[path = "../../../verifier-wasm/tests/oracle/mod.rs"]
mod oracle;

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The headers of a request, in which `$` stands for the right signature: the verdict is that of the property tests' oracle.
///
/// Two bytes tell how far the receiver's clock is off; then come id, timestamp, signature and body, a line each.
pub fn headers(input: &[u8]) {
    let Some((clock, lines)) = input.split_first_chunk::<2>() else { return };
    let Some(lines) = text(lines) else { return };
    let mut lines = lines.splitn(4, '\n').map(str::to_owned);
    let mut line = || lines.next().unwrap_or_default();
    let (id, timestamp, template, body) = (line(), line(), line(), line().into_bytes());
    // Often at the edges of the tolerance.
    let off_s = i64::from(i16::from_le_bytes(*clock) % 310);
    let now_s = timestamp.parse().unwrap_or(0_i64).saturating_add(off_s);
    let key: Vec<u8> = (0..32).collect();
    let signature = template.replace('$', &oracle::standard_signature(&key, &id, &timestamp, &body));
    let request = Request { keys: vec![key], id, timestamp, signature, body, now_s, tolerance_s: 300 };

    let Request { id, timestamp, signature, body, .. } = &request;
    let key = StandardKey::parse(SECRET).expect("a secret");
    assert_eq!(key.verify(StandardHeaders { id, timestamp, signature }, body, now_s), oracle::verdict(&request));

    let right = oracle::body_signature(SECRET, body);
    let signature = template.replace('$', &right);
    assert_eq!(Key::parse(SECRET).expect("a secret").verify(body, &signature), signature == right);
}

/// Any text as a secret: parsed as the oracle of the property tests parses it.
pub fn secret(input: &[u8]) {
    let Some(text) = text(input) else { return };
    assert_parsed(text);
    // libFuzzer does not see into the comparison with the prefix.
    assert_parsed(&format!("whsec_{text}"));
}

fn assert_parsed(secret: &str) {
    assert_eq!(Key::parse(secret).is_err(), secret.is_empty());
    match (StandardKey::parse(secret), oracle::standard_key(secret)) {
        (Ok(key), Ok(expected)) => {
            let right = oracle::standard_signature(&expected, "evt_1", "5", b"{}");
            assert_eq!(key.sign("evt_1", 5, b"{}").as_str(), right);
        }
        (key, expected) => assert_eq!(key.err(), expected.err()),
    }
}
