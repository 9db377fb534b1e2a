//! Generated secrets, headers and bodies, most of them nearly right: nothing panics, and every answer is the one
//! that the [`oracle`] gives.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p revnoxa-verifier --test properties` looks longer.

mod oracle;

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine};
use oracle::Request;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};
use revnoxa_verifier::{InvalidSecret, Key, StandardHeaders, StandardKey, StandardVerifier, VerifyError};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_body_signature_is_accepted_in_one_spelling(
        (secret, body) in ("(?s).{1,100}", bytes(0..300)),
        (other_secret, other_body) in ("(?s).{1,100}", bytes(0..300)),
        spelling in edits(),
    ) {
        prop_assert_eq!(Key::parse("").err(), Some(InvalidSecret::Empty));
        let key = Key::parse(&secret).unwrap();
        let right = oracle::body_signature(&secret, &body);
        let signed = key.sign(&body);
        prop_assert_eq!(signed.as_str(), &right);
        let near = [right.to_uppercase(), format!("sha256={right}"), right[..62].to_owned(), format!("{right}00")];
        let foreign = [oracle::body_signature(&other_secret, &body), oracle::body_signature(&secret, &other_body)];
        for signature in [right.clone(), spelling.of(&right)].into_iter().chain(near).chain(foreign) {
            prop_assert_eq!(key.verify(&body, &signature), signature == right, "{}", signature);
        }
    }

    #[test]
    fn a_standard_secret_is_read_as_the_oracle_reads_it(secret in secrets()) {
        match (StandardKey::parse(&secret), oracle::standard_key(&secret)) {
            (Ok(key), Ok(expected)) => {
                let signed = key.sign("evt_1", 5, b"{}");
                prop_assert_eq!(signed.as_str(), oracle::standard_signature(&expected, "evt_1", "5", b"{}"));
            }
            (key, expected) => prop_assert_eq!(key.err(), expected.err()),
        }
    }

    #[test]
    fn what_is_signed_is_what_the_oracle_signs_and_is_accepted(
        (key, body) in (key(), bytes(0..3000)), (id, timestamp_s) in (id(), timestamp()),
        (odd_id, odd_timestamp_s) in (text(), prop_oneof![any::<i64>(), -20..=0_i64]),
    ) {
        let secret = format!("whsec_{}", BASE64_STANDARD.encode(&key));
        let standard = StandardKey::parse(&secret).unwrap();
        for (id, timestamp_s) in [(&id, timestamp_s), (&odd_id, odd_timestamp_s)] {
            let right = oracle::standard_signature(&key, id, &timestamp_s.to_string(), &body);
            let signed = standard.sign(id, timestamp_s, &body);
            prop_assert_eq!(signed.as_str(), right);
        }
        let (timestamp, signature) = (timestamp_s.to_string(), standard.sign(&id, timestamp_s, &body));
        let headers = StandardHeaders { id: &id, timestamp: &timestamp, signature: signature.as_str() };
        prop_assert_eq!(standard.verify(headers, &body, timestamp_s), Ok(()));
        let hex = Key::parse(&secret).unwrap();
        prop_assert!(hex.verify(&body, hex.sign(&body).as_str()));
    }

    #[test]
    fn a_request_that_is_nearly_right_gets_the_verdict_of_the_oracle(request in requests()) {
        prop_assert_eq!(verify(&request), oracle::verdict(&request));
        for key in &request.keys {
            let alone = Request { keys: vec![key.clone()], tolerance_s: 300, ..request.clone() };
            let key = standard(key);
            prop_assert_eq!(key.verify(headers(&alone), &alone.body, alone.now_s), oracle::verdict(&alone));
        }
    }

    #[test]
    fn any_request_gets_the_verdict_of_the_oracle(
        keys in prop::collection::vec(key(), 0..3),
        (id, timestamp, signature) in (text(), text(), text()),
        body in bytes(0..300), now_s in any::<i64>(), tolerance_s in any::<u32>(),
    ) {
        let request = Request { keys, id, timestamp, signature, body, now_s, tolerance_s };
        prop_assert_eq!(verify(&request), oracle::verdict(&request));
        prop_assert!(verify(&request).is_err());
    }
}

/// Else the properties above could hold for want of cases.
#[test]
fn the_generators_reach_every_verdict_often() {
    let mut runner = TestRunner::new(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..config() });
    let mut verdicts = BTreeMap::new();
    let mut refusals = BTreeMap::new();
    for _ in 0..1_000 {
        let request = requests().new_tree(&mut runner).unwrap().current();
        *verdicts.entry(oracle::verdict(&request).map_or_else(VerifyError::code, |()| "ok")).or_insert(0) += 1;
        let secret = secrets().new_tree(&mut runner).unwrap().current();
        let refusal = oracle::standard_key(&secret).map_or_else(|refusal| format!("{refusal:?}"), |_| "ok".to_owned());
        *refusals.entry(refusal).or_insert(0) += 1;
    }
    println!("{verdicts:?} {refusals:?}");
    assert!(verdicts.len() == 7 && verdicts.values().all(|count| *count >= 10), "{verdicts:?}");
    assert!(refusals.len() == 5 && refusals.values().all(|count| *count >= 5), "{refusals:?}");
}

/// A failure prints its input: that becomes a vector. The seed differs from run to run.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(1024), failure_persistence: None, ..default }
}

fn verify(request: &Request) -> Result<(), VerifyError> {
    let keys: Vec<_> = request.keys.iter().map(|key| standard(key)).collect();
    let verifier = StandardVerifier { keys: &keys, tolerance_s: request.tolerance_s };
    verifier.verify(headers(request), &request.body, request.now_s)
}

fn standard(key: &[u8]) -> StandardKey {
    StandardKey::parse(&format!("whsec_{}", BASE64_STANDARD.encode(key))).expect("24 to 64 bytes")
}

fn headers(request: &Request) -> StandardHeaders<'_> {
    StandardHeaders { id: &request.id, timestamp: &request.timestamp, signature: &request.signature }
}

/// Right in all parts, or signed and then changed, or changed and then signed.
fn requests() -> impl Strategy<Value = Request> {
    let keys = prop::collection::vec(key(), 1..4);
    let right = (keys, any::<Index>(), id(), timestamp(), bytes(0..300), times());
    right.prop_flat_map(|(keys, signer, id, timestamp_s, body, (tolerance_s, now_s))| {
        let now_s = now_s(timestamp_s, tolerance_s);
        let key = signer.get(&keys).clone();
        let request = Request {
            keys,
            timestamp: timestamp_s.to_string(),
            signature: oracle::standard_signature(&key, &id, &timestamp_s.to_string(), &body),
            id,
            body,
            now_s,
            tolerance_s,
        };
        (changed(request), any::<bool>()).prop_flat_map(move |(mut request, sign_again)| {
            if sign_again {
                request.signature = oracle::standard_signature(&key, &request.id, &request.timestamp, &request.body);
            }
            let headers = prop_oneof![3 => Just(request.signature.clone()), 4 => signature_headers(&request.signature)];
            headers.prop_map(move |signature| Request { signature, ..request.clone() })
        })
    })
}

/// A tolerance, and the receiver's clock for a timestamp: mostly within, often at an edge.
fn times() -> impl Strategy<Value = (u32, fn(i64, u32) -> i64)> {
    let clocks: [fn(i64, u32) -> i64; 10] = [
        |at, _| at,
        |at, _| at,
        |at, tolerance| at + i64::from(tolerance) / 2,
        |at, tolerance| at + i64::from(tolerance),
        |at, tolerance| at - i64::from(tolerance),
        |at, tolerance| at + i64::from(tolerance) + 1,
        |at, tolerance| at - i64::from(tolerance) - 1,
        |at, tolerance| at + i64::from(tolerance) - 1,
        |_, _| i64::MAX,
        |_, _| i64::MIN,
    ];
    (prop_oneof![2 => Just(300), 2 => select(vec![0, 1, 299, u32::MAX]), 1 => any::<u32>()], select(clocks.to_vec()))
}

fn changed(request: Request) -> impl Strategy<Value = Request> {
    let Request { id, timestamp, body, .. } = request.clone();
    let ids = prop_oneof![id_edits(&id), self::id()];
    let bodies =
        prop_oneof![bytes(0..300), any::<Index>().prop_map(move |at| flipped(&body, at.index(body.len().max(1))))];
    let timestamps =
        prop_oneof![3 => select(odd_timestamps(&timestamp)), 1 => edits().prop_map(move |edit| edit.of(&timestamp))];
    let [with_id, with_timestamp, with_body] = [request.clone(), request.clone(), request.clone()];
    prop_oneof![
        4 => Just(request),
        1 => ids.prop_map(move |id| Request { id, ..with_id.clone() }),
        1 => timestamps.prop_map(move |timestamp| Request { timestamp, ..with_timestamp.clone() }),
        1 => bodies.prop_map(move |body| Request { body, ..with_body.clone() }),
    ]
}

fn id_edits(id: &str) -> impl Strategy<Value = String> + use<> {
    let id = id.to_owned();
    let lengths = prop_oneof![0_usize..=258, select(vec![256, 257])];
    prop_oneof![edits().prop_map(move |edit| edit.of(&id)), lengths.prop_map(|length| "a".repeat(length))]
}

fn odd_timestamps(right: &str) -> Vec<String> {
    let in_digits_from = |zero: char| {
        let digits = right.bytes().map(|digit| char::from_u32(u32::from(zero) + u32::from(digit - b'0')));
        digits.collect::<Option<String>>().expect("ten digits follow each other")
    };
    let arabic_and_fullwidth = ['\u{660}', '\u{ff10}'].map(in_digits_from);
    let around =
        [("0", ""), ("00", ""), ("+", ""), ("-", ""), (" ", ""), ("0x", ""), ("", "\n"), ("", " "), ("", "\0")];
    let behind = ["000", ".0", "e0", "_0", "Z", ",", "s"].map(|behind| ("", behind));
    let edges = ["999999999999", "1000000000000", "9223372036854775807", "18446744073709551616", "-0", "00", ""];
    let written_around = around.into_iter().chain(behind).map(|(before, behind)| format!("{before}{right}{behind}"));
    written_around.chain(arabic_and_fullwidth).chain(edges.map(str::to_owned)).collect()
}

/// Headers with the right signature somewhere, or with something like it.
fn signature_headers(right: &str) -> impl Strategy<Value = String> + use<> {
    let right = right.to_owned();
    let near = near_signatures(&right);
    let count = || prop_oneof![0_usize..4, 0_usize..300];
    let separators = select(vec!["  ", "\t", ",", "\n", "\u{a0}", ";", ""]);
    let among = (count(), count(), prop_oneof![3 => Just(" "), 1 => separators]);
    let other = prop_oneof![other_signature(), select(vec!["", "v1,", "x"]).prop_map(str::to_owned)];
    // Filled up to about the limit, with the right one anywhere.
    let others = prop::collection::vec(other_signature(), 1..21);
    let long = (others, any::<Index>(), select(vec![1023_usize, 1024, 1024, 1025, 1025, 1026, 2000]));
    let (in_few, in_many, edited) = (right.clone(), right.clone(), right);
    prop_oneof![
        4 => select(near),
        3 => edits().prop_map(move |edit| edit.of(&edited)),
        2 => (among, other).prop_map(move |((before, behind, separator), other)| {
            let mut entries = vec![other; before + behind];
            entries.insert(before, in_few.clone());
            entries.join(separator)
        }),
        2 => long.prop_map(move |(mut entries, at, length_bytes)| {
            entries.insert(at.index(entries.len() + 1), in_many.clone());
            let used = entries.join(" ").len();
            let filling = format!("v0,{}", "A".repeat(length_bytes.saturating_sub(used + 4)));
            entries.insert(at.index(entries.len() + 1), filling);
            entries.join(" ")
        }),
    ]
}

fn other_signature() -> impl Strategy<Value = String> {
    let version = select(vec!["v1,", "v1a,", "v2,", "v1", ""]);
    (version, any::<[u8; 32]>()).prop_map(|(version, mac)| format!("{version}{}", BASE64_STANDARD.encode(mac)))
}

fn near_signatures(right: &str) -> Vec<String> {
    let digits = &right["v1,".len()..];
    let mac = BASE64_STANDARD.decode(digits).expect("the right signature");
    let versions = ["", "V1,", "v1", "v1 ,", "v1, ", "v1,,", "v1:", "v1=", "v01,", "v2,", "v1a,", "1,", " v1,"];
    let mut texts: Vec<_> = versions.iter().map(|version| format!("{version}{digits}")).collect();
    let macs = [
        &mac[..31],
        &mac[..16],
        &mac[..1],
        &[&mac[..], &[0]].concat(),
        &mac.repeat(2),
        &flipped(&mac, 0),
        &flipped(&mac, 31),
    ];
    texts.extend(macs.iter().map(|mac| format!("v1,{}", BASE64_STANDARD.encode(mac))));
    let bare = right.trim_end_matches('=');
    let unused_bit = char::from(bare.as_bytes()[bare.len() - 1] + 1);
    texts.extend([
        bare.to_owned(),
        format!("{right}="),
        format!("{bare}=="),
        format!("{bare}A"),
        format!("{}{unused_bit}=", &bare[..bare.len() - 1]),
        format!("v1,{}", BASE64_URL_SAFE.encode(&mac)),
        format!("v1,{}", mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        format!("v1,{}", digits.to_uppercase()),
        format!("{right} "),
        format!(" {right}"),
        format!("{right},{right}"),
        "v1,".to_owned(),
        " ".to_owned(),
        String::new(),
    ]);
    texts
}

fn secrets() -> impl Strategy<Value = String> {
    let right = |key: &[u8]| format!("whsec_{}", BASE64_STANDARD.encode(key));
    let sizes =
        prop_oneof![bytes(0..100), select(vec![23, 24, 64, 65, 66]).prop_flat_map(|size| bytes(size..size + 1))];
    let near = sizes.prop_flat_map(move |key| {
        let right = right(&key);
        let bare = right.trim_end_matches('=');
        let unused_bits = format!("{}{}", &bare[..bare.len() - 1], char::from(bare.as_bytes()[bare.len() - 1] + 1));
        select(vec![
            bare.to_owned(),
            unused_bits,
            format!("{bare}A"),
            format!("{bare}="),
            format!("{bare}=="),
            format!("{bare}==="),
            format!("whsec_{}", BASE64_URL_SAFE.encode(&key)),
            right["whsec_".len()..].to_owned(),
            right.replace("whsec_", "WHSEC_"),
            right.replace("whsec_", "whsec-"),
            right.replace("whsec_", "whpk_"),
            right.replace("whsec_", "whsec_whsec_"),
            format!("{right}\n"),
            format!(" {right}"),
            right,
        ])
    });
    let edited = (key(), edits()).prop_map(move |(key, edit)| edit.of(&right(&key)));
    let bare = select(vec!["", "whsec_"]).prop_map(str::to_owned);
    prop_oneof![1 => bare, 1 => text(), 1 => text().prop_map(|text| format!("whsec_{text}")), 6 => near, 6 => edited]
}

/// One edit of a text, or none, or another text.
#[derive(Clone, Debug)]
enum Edit {
    None,
    Cut(Index),
    Replace(Index, char),
    Insert(Index, char),
    Remove(Index),
    SwapCase(Index),
    Whole(String),
}

fn edits() -> impl Strategy<Value = Edit> {
    let odd = select(" \t\n\r\0=.,_-+/0aAv\u{a0}\u{feff}\u{660}\u{ff10}é".chars().collect::<Vec<_>>());
    let character = prop_oneof![odd, prop::char::range('!', '~'), any::<char>()].boxed();
    prop_oneof![
        Just(Edit::None),
        any::<Index>().prop_map(Edit::Cut),
        (any::<Index>(), character.clone()).prop_map(|(at, with)| Edit::Replace(at, with)),
        (any::<Index>(), character).prop_map(|(at, with)| Edit::Insert(at, with)),
        any::<Index>().prop_map(Edit::Remove),
        any::<Index>().prop_map(Edit::SwapCase),
        text().prop_map(Edit::Whole),
    ]
}

impl Edit {
    fn of(&self, text: &str) -> String {
        let mut chars: Vec<_> = text.chars().collect();
        let length = chars.len();
        match self {
            Self::Whole(other) => return other.clone(),
            Self::Insert(at, with) => chars.insert(at.index(length + 1), *with),
            _ if length == 0 => {}
            Self::None => {}
            Self::Cut(at) => chars.truncate(at.index(length)),
            Self::Replace(at, with) => chars[at.index(length)] = *with,
            Self::Remove(at) => _ = chars.remove(at.index(length)),
            Self::SwapCase(at) => {
                let letter = &mut chars[at.index(length)];
                *letter =
                    if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
            }
        }
        chars.into_iter().collect()
    }
}

/// Any text, control characters and all; short ones of telling letters, too.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["(?s).{0,100}", r"[0-9v1,.+/= A-Fa-f_-]{0,80}", r"[\x00-\x7f]{0,10}"]
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[!-\\-/-~]{1,40}", 1 => "[!-\\-/-~]{250,256}"]
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 1_600_000_000..2_000_000_000_i64,
        1 => 0..1_000_000_000_000_i64,
        1 => select(vec![0, 1, 9, 10, 999_999_999_999]),
    ]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    bytes(24..65)
}

fn bytes(size: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), size)
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    bytes.iter().enumerate().map(|(index, byte)| if index == at { byte ^ 1 } else { *byte }).collect()
}
