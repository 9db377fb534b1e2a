//! Signs and verifies Revnoxa webhooks: the host, Rust receivers and the npm package
//! `@revnoxa/webhook-verifier` all run this code.
//!
//! A request carries two signatures made with the endpoint's secret; checking one of them is enough.
//!
//! * [`StandardKey`]: the [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks)
//!   headers. They also cover the event id and the time of the attempt, so an old request cannot be
//!   replayed: prefer them.
//! * [`Key`]: `X-Revnoxa-Signature`, over the body alone; `openssl dgst -sha256 -hmac "$SECRET"`
//!   reproduces it.
//!
//! Both cover the exact bytes of the body: verify before parsing.
//!
//! ```
//! use revnoxa_verifier::{Key, StandardHeaders, StandardKey, VerifyError};
//!
//! let secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
//! let body = br#"{"id":"evt_1","type":"incident.created"}"#;
//!
//! let key = StandardKey::parse(secret)?;
//! let headers = StandardHeaders {
//!     id: "evt_1",
//!     timestamp: "1767225600",
//!     signature: "v1,YoHPyzjgXeLkpncSqRpikgMPe3/9qY4md/GIZDvLhkU=",
//! };
//! assert_eq!(key.verify(headers, body, 1_767_225_605), Ok(()));
//! assert_eq!(key.verify(headers, body, 1_767_225_901), Err(VerifyError::TimestampTooOld));
//!
//! let key = Key::parse(secret)?;
//! let x_revnoxa_signature = "92f17cf809ad87e8b8401df96b142e88e131d6dd7db97c501e13d5ba76ad3fc8";
//! assert!(key.verify(body, x_revnoxa_signature));
//! # Ok::<(), revnoxa_verifier::InvalidSecret>(())
//! ```
//!
//! Invariants: no input panics; no allocation; signatures are compared in constant time; a key is
//! never printed. A prepared key is cheap to clone and to use again: it hashes the secret only once.

#![no_std]
#![cfg_attr(not(all(feature = "npm", target_family = "wasm")), forbid(unsafe_code))]

mod body;
mod error;
mod standard;
#[cfg(all(feature = "npm", target_family = "wasm"))]
mod wasm;

pub use body::{HexSignature, Key};
pub use error::{InvalidSecret, VerifyError};
pub use standard::{DEFAULT_TOLERANCE_S, StandardHeaders, StandardKey, StandardSignature, StandardVerifier};

// The Rust on the npm page runs as a test.
#[cfg(doctest)]
#[allow(rustdoc::invalid_codeblock_attributes, reason = "file= is for the page's other test")]
#[doc = include_str!("../README.md")]
mod readme {}

type HmacSha256 = hmac::Hmac<sha2::Sha256>;

/// HMAC-SHA256 with `key` already hashed into both pads.
fn keyed_mac(key: &[u8]) -> HmacSha256 {
    hmac::KeyInit::new_from_slice(key).expect("HMAC takes a key of any length")
}

// Inlined twice it would be a tenth of the wasm module.
#[inline(never)]
fn finish(mac: HmacSha256) -> [u8; 32] {
    hmac::Mac::finalize(mac).into_bytes().into()
}
