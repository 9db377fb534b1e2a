//! Whether the time that a verification takes tells how much of a signature is right, by the method of dudect: Reparaz,
//! Balasch and Verbauwhede, "Dude, is my code constant time?", <https://eprint.iacr.org/2016/1123>.
//!
//! `cargo test --release -p revnoxa-verifier --test timing -- --ignored --nocapture`

use std::hint::black_box;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use revnoxa_verifier::{Key, StandardHeaders, StandardKey};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const ID: &str = "evt_1";
const NOW_S: i64 = 1_767_225_600;

/// A greater |t| is a leak; dudect suspects one from 4.5 on.
const LIMIT: f64 = 5.0;
/// What the comparison with a leak has to exceed: else this machine is too noisy to tell anything.
const CONTROL: f64 = 10.0;
/// Chance exceeds the limit in one run, a leak in each.
const RUNS: u64 = 3;
const MEASUREMENTS: usize = 400_000;

#[test]
#[ignore = "seconds: cargo test --release -p revnoxa-verifier --test timing -- --ignored --nocapture"]
fn the_time_of_a_verification_does_not_tell_how_much_of_a_signature_is_right() {
    let key = Key::parse(SECRET).unwrap();
    let standard_key = StandardKey::parse(SECRET).unwrap();
    let hex = |body: &[u8], spoil: Spoil| hex_of(spoil(hex_to_mac(key.sign(body).as_str())));
    let base64 = |body: &[u8], spoil: Spoil| {
        let right = standard_key.sign(ID, NOW_S, body);
        let mac = BASE64_STANDARD.decode(&right.as_str()["v1,".len()..]).unwrap();
        format!("v1,{}", BASE64_STANDARD.encode(spoil(mac)))
    };
    let until_the_first_difference = |body: &[u8], signature: &str| {
        let right = key.sign(body);
        right.as_str().bytes().zip(signature.bytes()).all(|(right, given)| black_box(right) == given)
    };
    let timestamp = NOW_S.to_string();
    let standard = |body: &[u8], signature: &str| {
        let headers = StandardHeaders { id: ID, timestamp: &timestamp, signature };
        standard_key.verify(headers, body, NOW_S).is_ok()
    };
    assert!(leaks("a comparison that leaves early", CONTROL, hex, until_the_first_difference), "the control");
    assert!(!leaks("Key::verify", LIMIT, hex, |body, signature| key.verify(body, signature)), "Key::verify");
    assert!(!leaks("StandardKey::verify", LIMIT, base64, standard), "StandardKey::verify");
}

type Spoil<'a> = &'a dyn Fn(Vec<u8>) -> Vec<u8>;

/// Whether |t| exceeds `limit` in all runs.
fn leaks(
    name: &str,
    limit: f64,
    forge: impl Fn(&[u8], Spoil<'_>) -> String,
    verify: impl Fn(&[u8], &str) -> bool,
) -> bool {
    (1..=RUNS).all(|run| {
        let mut rng = StdRng::seed_from_u64(run);
        let t = greatest_t(measure(&mut rng, &forge, &verify));
        println!("{name}, run {run}: |t| = {t:.2}");
        t > limit
    })
}

/// Nanoseconds to refuse a signature that is wrong from its first byte on, and one that is wrong in its last byte only,
/// in random order. Each is of a body of its own, so that it is not the letters of a few signatures that differ.
fn measure(
    rng: &mut StdRng,
    forge: impl Fn(&[u8], Spoil<'_>) -> String,
    verify: impl Fn(&[u8], &str) -> bool,
) -> [Vec<f64>; 2] {
    let mut times = [vec![], vec![]];
    // One place in memory for both classes.
    let mut signature = String::new();
    for _ in 0..MEASUREMENTS {
        let body: [u8; 16] = rng.random();
        // Both hex digits of a byte change.
        let change = rng.random::<u8>() | 0x11;
        let class = usize::from(rng.random::<bool>());
        let spoil = |mut mac: Vec<u8>| {
            mac[[0, 31][class]] ^= change;
            mac
        };
        signature.clear();
        signature.push_str(&forge(&body, &spoil));
        let start = Instant::now();
        let is_accepted = verify(black_box(&body), black_box(&signature));
        let time = start.elapsed();
        assert!(!black_box(is_accepted));
        times[class].push(time.as_nanos() as f64);
    }
    times
}

/// The greatest |t| over all times and over the fastest 50 %, 75 % … 99.9 %: interruptions make the slowest.
fn greatest_t(times: [Vec<f64>; 2]) -> f64 {
    let mut sorted = times.concat();
    sorted.sort_unstable_by(f64::total_cmp);
    let limits = (1..=10).map(|halvings| sorted[((1.0 - 0.5_f64.powi(halvings)) * sorted.len() as f64) as usize]);
    let cropped =
        |limit: f64| times.each_ref().map(|times| times.iter().copied().filter(|time| *time <= limit).collect());
    limits.chain([f64::INFINITY]).map(|limit| welch_t(cropped(limit)).abs()).fold(0.0, f64::max)
}

fn welch_t(times: [Vec<f64>; 2]) -> f64 {
    let [(first_mean, first_error), (second_mean, second_error)] = times.map(|times| {
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    });
    (first_mean - second_mean) / (first_error + second_error).sqrt()
}

fn hex_of(mac: Vec<u8>) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_to_mac(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}
