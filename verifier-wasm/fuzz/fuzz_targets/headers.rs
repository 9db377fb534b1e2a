//! Any headers, in which `$` stands for the right signature: the verdict is that of the property tests' oracle.
#![no_main]

#[path = "../../tests/oracle/mod.rs"]
#[expect(dead_code, reason = "what headers do not need")]
mod oracle;

use libfuzzer_sys::fuzz_target;
use oracle::Request;
use revnoxa_verifier::{Key, StandardHeaders, StandardKey};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fuzz_target!(|input: (i16, &str)| {
    let (clock_offset, lines) = input;
    let mut lines = lines.splitn(4, '\n').map(str::to_owned);
    let mut line = || lines.next().unwrap_or_default();
    let (id, timestamp, template, body) = (line(), line(), line(), line().into_bytes());
    // Often at the edges of the tolerance.
    let now_s = timestamp.parse().unwrap_or(0_i64).saturating_add(i64::from(clock_offset % 310));
    let key: Vec<u8> = (0..32).collect();
    let signature = template.replace('$', &oracle::standard_signature(&key, &id, &timestamp, &body));
    let request = Request { keys: vec![key], id, timestamp, signature, body, now_s, tolerance_s: 300 };

    let Request { id, timestamp, signature, body, .. } = &request;
    let verdict = StandardKey::parse(SECRET).unwrap().verify(StandardHeaders { id, timestamp, signature }, body, now_s);
    assert_eq!(verdict, oracle::verdict(&request));

    let right = oracle::body_signature(SECRET, body);
    let signature = template.replace('$', &right);
    assert_eq!(Key::parse(SECRET).unwrap().verify(body, &signature), signature == right);
});
