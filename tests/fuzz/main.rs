//! The fuzz targets in a short form: what is kept of their inputs, and some thousand changes of it, the same in every run.
//! `FUZZ_TRIES=1000000` makes it so many. The long form is in [`targets`].

#[allow(unreachable_pub, reason = "a library of its own for cargo-fuzz")]
#[path = "src/lib.rs"]
mod targets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Changed inputs of each target.
const TRIES: usize = 3_000;
/// Bytes of a changed input at most.
const LONGEST: usize = 4_096;
/// Pieces that mean something to one of the targets.
const WORDS: &[&str] = &[
    "https://",
    "http:",
    "//",
    "@",
    "#",
    "?",
    "..",
    "%2e",
    "[::1]",
    "127.1",
    "0x7f",
    "xn--",
    "\u{ff0e}",
    "\\",
    ":443",
    ":0",
    "{",
    "}",
    "\"data\":",
    "\"tenant\":",
    "null",
    "1e400",
    "\\ud800",
    "\0",
    "-",
    "=",
    "0",
    "18446744073709551616",
    " GMT",
    "evt_",
    "dlv_",
    "Bearer ",
    "whsec_",
    "$",
    "\n",
    "[plugins]\n",
];

macro_rules! targets {
    ($($name:ident),+) => {
        const NAMES: &[&str] = &["lifting", $(stringify!($name)),+];
        $(
            #[test]
            fn $name() {
                try_inputs(stringify!($name), targets::$name);
            }
        )+
    };
}

targets!(url, ids, event, batch, retry_after, config, headers, secret);

#[test]
fn lifting() {
    let lifting = targets::Lifting::new(revnoxa_tests::binary());
    try_inputs("lifting", |input| lifting.lift(input));
}

#[test]
fn every_target_is_tried_here_and_by_cargo_fuzz() {
    let named = |folder: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(here().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let names: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(named("fuzz_targets"), names);
    assert_eq!(named("corpus"), names);
    let manifest = std::fs::read_to_string(here().join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn try_inputs(target: &str, check: impl Fn(&[u8])) {
    let kept = kept(target);
    assert!(kept.len() >= 5, "{target}: {} inputs are kept", kept.len());
    let tries = std::env::var("FUZZ_TRIES").map_or(TRIES, |tries| tries.parse().expect("FUZZ_TRIES is a number"));
    let mut random = StdRng::seed_from_u64(0x5eed);
    let check = |input: &[u8]| {
        let _tried = Tried { target, input };
        check(input);
    };
    kept.iter().for_each(|input| check(input));
    for _ in 0..tries {
        check(&changed(&kept, &mut random));
    }
}

/// Says which input it is, should the check of it panic.
struct Tried<'i> {
    target: &'i str,
    input: &'i [u8],
}

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{0} fails with b\"{1}\"; keep it in corpus/{0}", self.target, self.input.escape_ascii());
        }
    }
}

/// In the order of their names.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = here().join("corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One of them with a few changes.
fn changed(kept: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = one(kept, random).to_vec();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=input.len());
        let end = random.random_range(at..=input.len());
        match random.random_range(0..8) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 => input.insert(at, random.random()),
            3 => drop(input.drain(at..end)),
            4 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            5 => {
                let other = one(kept, random);
                input.truncate(at);
                input.extend_from_slice(&other[random.random_range(0..=other.len())..]);
            }
            _ => {
                let word = WORDS[random.random_range(0..WORDS.len())];
                let end = if random.random() { at } else { end };
                input.splice(at..end, word.bytes());
            }
        }
        input.truncate(LONGEST);
    }
    input
}

fn one<'k>(kept: &'k [Vec<u8>], random: &mut StdRng) -> &'k [u8] {
    &kept[random.random_range(0..kept.len())]
}
