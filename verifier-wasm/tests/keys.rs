//! What the vectors cannot say: keys stay secret, and no input panics.

use revnoxa_verifier::{InvalidSecret, Key, StandardHeaders, StandardKey, StandardVerifier, VerifyError};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[test]
fn a_key_is_never_printed() {
    let key = standard_key();
    let verifier = StandardVerifier { keys: &[key], tolerance_s: 300 };
    assert_eq!(format!("{:?}", Key::parse(SECRET)), "Ok(Key(..))");
    assert_eq!(format!("{verifier:?}"), "StandardVerifier { keys: [StandardKey(..)], tolerance_s: 300 }");
}

#[test]
fn a_refused_secret_is_not_in_the_error() {
    let refused = StandardKey::parse("whsec_hunter2!").expect_err("not base64");
    assert_eq!(refused, InvalidSecret::Base64);
    assert_eq!(refused.to_string(), "webhook secret is not base64 after whsec_");
    assert_eq!(format!("{refused:?}"), "Base64");
}

#[test]
fn both_keys_of_a_rotation_are_joined_with_a_space() {
    let new = standard_key();
    let old = StandardKey::parse("whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=").expect("valid");
    let [by_new, by_old] = [&new, &old].map(|key| key.sign("evt_1", 1_767_225_600, b"{}"));
    let both = format!("{} {}", by_new.as_str(), by_old.as_str());
    let headers = StandardHeaders { id: "evt_1", timestamp: "1767225600", signature: &both };
    assert_eq!(new.verify(headers, b"{}", 1_767_225_600), Ok(()));
    assert_eq!(old.verify(headers, b"{}", 1_767_225_600), Ok(()));
}

#[test]
fn every_timestamp_is_signed_as_its_decimal_digits() {
    let key = standard_key();
    for timestamp_s in [i64::MIN, -1, 0, 9, 10, 1_767_225_600, i64::MAX] {
        let signed = key.sign("evt_1", timestamp_s, b"x.5.y");
        let spelled_out = key.sign(&format!("evt_1.{timestamp_s}.x"), 5, b"y");
        assert_eq!(signed.as_str(), spelled_out.as_str(), "{timestamp_s}");
    }
}

#[test]
fn no_input_panics() {
    let odd = ["", " ", ".", "v1,", "v1,=", "v1,é", "é", "\0", "0", "-", "=", "🔑🔑", "whsec_", SECRET];
    let long = "v1,A ".repeat(100_000);
    let inputs = || odd.into_iter().chain([long.as_str()]);
    let body_key = Key::parse(SECRET).expect("valid");
    let key = standard_key();
    let verifiers = [0, u32::MAX].map(|tolerance_s| StandardVerifier { keys: std::slice::from_ref(&key), tolerance_s });
    for first in inputs() {
        _ = (Key::parse(first), StandardKey::parse(first));
        assert!(!body_key.verify(b"{}", first), "{first:.20}");
        for (id, second) in inputs().flat_map(|id| inputs().map(move |second| (id, second))) {
            let headers = StandardHeaders { id, timestamp: first, signature: second };
            for (verifier, now_s) in verifiers.iter().zip([i64::MIN, i64::MAX]) {
                let verdict = verifier.verify(headers, b"{}", now_s);
                assert!(verdict.is_err(), "{id:.20} {first:.20} {second:.20}");
            }
        }
    }
}

#[test]
fn the_time_is_checked_without_overflow() {
    let key = standard_key();
    let verify = |timestamp: &str, now_s| {
        let headers = StandardHeaders { id: "evt_1", timestamp, signature: "v1,AA==" };
        StandardVerifier { keys: std::slice::from_ref(&key), tolerance_s: u32::MAX }.verify(headers, b"{}", now_s)
    };
    assert_eq!(verify("0", i64::MAX), Err(VerifyError::TimestampTooOld));
    assert_eq!(verify("0", i64::MIN), Err(VerifyError::TimestampTooNew));
    assert_eq!(verify("999999999999", i64::MAX), Err(VerifyError::TimestampTooOld));
}

fn standard_key() -> StandardKey {
    StandardKey::parse(SECRET).expect("valid")
}
