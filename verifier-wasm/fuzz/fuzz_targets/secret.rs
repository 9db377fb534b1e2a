//! Any text as a secret: parsed as the oracle of the property tests parses it.
#![no_main]

#[path = "../../tests/oracle/mod.rs"]
#[expect(dead_code, reason = "what secrets do not need")]
mod oracle;

use libfuzzer_sys::fuzz_target;
use revnoxa_verifier::{Key, StandardKey};

fuzz_target!(|text: &str| {
    check(text);
    // libFuzzer does not see into the comparison with the prefix.
    check(&format!("whsec_{text}"));
});

fn check(secret: &str) {
    assert_eq!(Key::parse(secret).is_err(), secret.is_empty());
    match (StandardKey::parse(secret), oracle::standard_key(secret)) {
        (Ok(key), Ok(expected)) => {
            let right = oracle::standard_signature(&expected, "evt_1", "5", b"{}");
            assert_eq!(key.sign("evt_1", 5, b"{}").as_str(), right);
        }
        (key, expected) => assert_eq!(key.err(), expected.err()),
    }
}
