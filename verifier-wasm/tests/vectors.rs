//! The shared signature vectors; `tests/vectors/check.py` computed them apart from this crate.

use base64::prelude::{BASE64_STANDARD, Engine};
use revnoxa_verifier::{InvalidSecret, Key, StandardHeaders, StandardKey, StandardVerifier};
use serde::{Deserialize, de::DeserializeOwned};

#[derive(Deserialize)]
struct Vectors<C> {
    cases: Vec<C>,
    invalid_secrets: Vec<InvalidSecretCase>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyCase {
    why: String,
    secret: String,
    body: Option<String>,
    body_base64: Option<String>,
    signature: String,
    accepted: bool,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StandardCase {
    why: String,
    secrets: Vec<String>,
    id: String,
    timestamp: String,
    signature: String,
    body: Option<String>,
    body_base64: Option<String>,
    now_s: i64,
    tolerance_s: u32,
    result: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InvalidSecretCase {
    why: String,
    secret: String,
    refused: String,
}

#[test]
fn every_signature_vector_holds() {
    let vectors = signature_vectors();
    for case in &vectors.cases {
        assert!(holds(case), "{}", case.why);
    }
    for case in &vectors.invalid_secrets {
        assert_eq!(refusal(Key::parse(&case.secret)), case.refused, "{}", case.why);
    }
}

#[test]
fn every_standard_vector_holds() {
    let vectors = standard_vectors();
    for case in &vectors.cases {
        assert_eq!(result(case), case.result, "{}", case.why);
    }
    for case in &vectors.invalid_secrets {
        assert_eq!(refusal(StandardKey::parse(&case.secret)), case.refused, "{}", case.why);
    }
}

#[test]
fn a_broken_signature_vector_is_noticed() {
    for case in signature_vectors().cases {
        let turned = BodyCase { accepted: !case.accepted, ..case.clone() };
        assert!(!holds(&turned), "turned: {}", case.why);
        if case.accepted {
            let altered = BodyCase { signature: swap_last_letter(&case.signature), ..case.clone() };
            assert!(!holds(&altered), "altered: {}", case.why);
        }
    }
}

#[test]
fn a_broken_standard_vector_is_noticed() {
    for case in standard_vectors().cases.into_iter().filter(|case| case.result == "ok") {
        let altered = StandardCase { id: swap_last_letter(&case.id), ..case.clone() };
        assert_eq!(result(&altered), "no_match", "{}", case.why);
    }
}

fn signature_vectors() -> Vectors<BodyCase> {
    parse(include_str!("../../tests/vectors/signature.json"))
}

fn standard_vectors() -> Vectors<StandardCase> {
    parse(include_str!("../../tests/vectors/standard.json"))
}

fn parse<C: DeserializeOwned>(file: &str) -> Vectors<C> {
    let vectors: Vectors<C> = serde_json::from_str(file).expect("the vectors have this shape");
    assert!(vectors.cases.len() > 40, "the file was cut");
    vectors
}

fn holds(case: &BodyCase) -> bool {
    let key = Key::parse(&case.secret).expect("a case has a valid secret");
    let body = bytes(&case.body, &case.body_base64);
    let is_ours = key.sign(&body).as_str() == case.signature;
    is_ours == case.accepted && key.verify(&body, &case.signature) == case.accepted
}

fn result(case: &StandardCase) -> &'static str {
    let keys: Vec<_> =
        case.secrets.iter().map(|secret| StandardKey::parse(secret).expect("a case has valid secrets")).collect();
    let StandardCase { id, timestamp, signature, now_s, tolerance_s, .. } = case;
    let headers = StandardHeaders { id, timestamp, signature };
    let body = bytes(&case.body, &case.body_base64);
    let verdict = StandardVerifier { keys: &keys, tolerance_s: *tolerance_s }.verify(headers, &body, *now_s);
    if let ([key], 300) = (&keys[..], tolerance_s) {
        assert_eq!(key.verify(headers, &body, *now_s), verdict, "short form: {}", case.why);
    }
    if let Err(error) = verdict {
        return error.code();
    }
    let timestamp_s = timestamp.parse().expect("verified");
    let is_signed_by = |key: &StandardKey| {
        let expected = key.sign(id, timestamp_s, &body);
        signature.split(' ').any(|entry| entry == expected.as_str())
    };
    assert!(keys.iter().any(is_signed_by), "accepted, but not what sign gives: {}", case.why);
    "ok"
}

fn refusal<K: std::fmt::Debug>(parsed: Result<K, InvalidSecret>) -> &'static str {
    match parsed.expect_err("the secret is invalid") {
        InvalidSecret::Empty => "empty",
        InvalidSecret::Prefix => "prefix",
        InvalidSecret::Base64 => "base64",
        InvalidSecret::Length => "length",
    }
}

fn bytes(text: &Option<String>, base64: &Option<String>) -> Vec<u8> {
    match (text, base64) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(base64)) => BASE64_STANDARD.decode(base64).expect("valid base64"),
        _ => panic!("a case has either body or body_base64"),
    }
}

fn swap_last_letter(text: &str) -> String {
    let (rest, last) = text.split_at(text.len() - 1);
    format!("{rest}{}", if last == "0" { "1" } else { "0" })
}
