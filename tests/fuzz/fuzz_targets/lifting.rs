#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use revnoxa_fuzz::Lifting;

/// As `cargo build --release` makes it.
const HOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/revnoxa-host");

static LIFTING: LazyLock<Lifting> = LazyLock::new(|| Lifting::new(Path::new(HOST)));

libfuzzer_sys::fuzz_target!(|input: &[u8]| LIFTING.lift(input));
