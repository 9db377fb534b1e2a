//! What strangers write and this project reads: each function takes any bytes, and panics where a rule does not hold.
//!
//! cargo-fuzz runs them for as long as it is let, the test `fuzz` of the workspace on what is kept in `corpus/` and on some thousand
//! changes of it.
//!
//! ```text
//! cargo install cargo-fuzz                                                            once
//! cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none url                           until it finds something, or ctrl-c
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz url -- -max_total_time=600            the same with the address sanitizer, for 10 minutes
//! cargo build --release && cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none lifting     needs the host's program to compile its guest
//! cargo fuzz cmin --fuzz-dir tests/fuzz --sanitizer none url                          before what it found is kept
//! FUZZ_TRIES=1000000 cargo test --release -p revnoxa-tests --test fuzz                without cargo-fuzz
//! ```
//!
//! An input that failed is kept in `corpus/` with the change that mends it.

mod config;
mod endpoint_url;
mod event;
mod ids;
mod lifting;
mod retry_after;
mod signature;

pub use config::config;
pub use endpoint_url::url;
pub use event::{batch, event};
pub use ids::ids;
pub use lifting::Lifting;
pub use retry_after::retry_after;
pub use signature::{headers, secret};

/// Most of what is read here is text.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}
