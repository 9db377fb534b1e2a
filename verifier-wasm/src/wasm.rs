//! What the npm package's JavaScript calls: numbers only, so that nothing is allocated and no glue is needed.
//!
//! JavaScript writes to [`input`] and tells how many bytes there are. A body goes in pieces: `begin_…`, [`update`] for
//! each, then one of the endings. Prepared keys stay in slots that JavaScript assigns.

// What is `pub` here is so for JavaScript.
#![expect(unsafe_code, unreachable_pub)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;

use hmac::Mac;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::body::is_mac;
use crate::standard::Headers;
use crate::{HexSignature, HmacSha256, InvalidSecret, Key, StandardKey, StandardSignature, VerifyError};

/// Bytes of a body's piece, or of a secret, at the most.
const PIECE: usize = 64 << 10;
/// Behind it each header has a place: more than its limit, so that one which is cut off there is still too long.
const ID: usize = PIECE;
const TIMESTAMP: usize = ID + 264;
const SIGNATURE: usize = TIMESTAMP + 16;
const END: usize = SIGNATURE + 1_032;
/// Keys of each kind that stay prepared.
const SLOTS: usize = 32;

struct State {
    input: [u8; END],
    keys: [Option<Key>; SLOTS],
    standard_keys: [Option<StandardKey>; SLOTS],
    mac: Option<HmacSha256>,
}

struct Single(UnsafeCell<State>);

// SAFETY: this module is built without threads.
unsafe impl Sync for Single {}

static STATE: Single = Single(UnsafeCell::new(State {
    input: [0; END],
    keys: [const { None }; SLOTS],
    standard_keys: [const { None }; SLOTS],
    mac: None,
}));

fn state() -> &'static mut State {
    // SAFETY: there is one thread, no export calls another, and none keeps the reference.
    unsafe { &mut *STATE.0.get() }
}

impl State {
    fn take(&mut self) -> HmacSha256 {
        self.mac.take().expect("a body was begun")
    }

    fn headers(&self, id: usize, timestamp: usize, signature: usize) -> Headers<'_> {
        let at = |start, length| &self.input[start..start + length];
        Headers { id: at(ID, id), timestamp: at(TIMESTAMP, timestamp), signature: at(SIGNATURE, signature) }
    }
}

/// Where JavaScript writes.
#[wasm_bindgen]
pub fn input() -> *const u8 {
    state().input.as_ptr()
}

/// Prepares a secret for `X-Revnoxa-Signature`; 0, or why it is refused.
#[wasm_bindgen]
pub fn prepare(slot: usize, length: usize) -> u32 {
    let state = state();
    Key::from_bytes(&state.input[..length]).map_or_else(refusal, |key| {
        state.keys[slot] = Some(key);
        0
    })
}

/// Prepares a secret for the Standard Webhooks headers; 0, or why it is refused.
#[wasm_bindgen]
pub fn prepare_standard(slot: usize, length: usize) -> u32 {
    let state = state();
    StandardKey::from_bytes(&state.input[..length]).map_or_else(refusal, |key| {
        state.standard_keys[slot] = Some(key);
        0
    })
}

/// Begins a body for `X-Revnoxa-Signature`.
#[wasm_bindgen]
pub fn begin(slot: usize) {
    let state = state();
    state.mac = state.keys[slot].as_ref().map(Key::begin);
}

/// Begins a body for the Standard Webhooks headers, whose id and timestamp have so many bytes.
#[wasm_bindgen]
pub fn begin_standard(slot: usize, id: usize, timestamp: usize) {
    let state = state();
    let headers = state.headers(id, timestamp, 0);
    state.mac = state.standard_keys[slot].as_ref().map(|key| key.begin(headers.id, headers.timestamp));
}

/// Goes on with so many bytes of the body.
#[wasm_bindgen]
pub fn update(length: usize) {
    let State { input, mac, .. } = state();
    mac.as_mut().expect("a body was begun").update(&input[..length]);
}

/// Whether the signature of so many bytes is the body's `X-Revnoxa-Signature`.
#[wasm_bindgen]
pub fn verify(signature: usize) -> bool {
    let state = state();
    is_mac(state.take(), state.headers(0, 0, signature).signature)
}

/// Checks everything of the Standard Webhooks headers but the signature; 0, or why they are refused.
#[wasm_bindgen]
pub fn check_standard(id: usize, timestamp: usize, signature: usize, now_s: f64, tolerance_s: u32) -> u32 {
    match state().headers(id, timestamp, signature).check(now_s as i64, tolerance_s) {
        Ok(()) => 0,
        Err(VerifyError::MissingHeader) => 1,
        Err(VerifyError::InvalidHeader) => 2,
        Err(VerifyError::InvalidTimestamp) => 3,
        Err(VerifyError::TimestampTooOld) => 4,
        Err(VerifyError::TimestampTooNew) => 5,
        Err(VerifyError::NoMatch) => 6,
    }
}

/// Whether one of the Standard Webhooks signatures is the body's.
#[wasm_bindgen]
pub fn verify_standard(signature: usize) -> bool {
    let state = state();
    let mac = state.take();
    state.headers(0, 0, signature).hold(mac)
}

/// Writes the body's `X-Revnoxa-Signature` to where signatures are; how many bytes.
#[wasm_bindgen]
pub fn sign() -> usize {
    let state = state();
    let HexSignature(digits) = HexSignature::encode(state.take());
    state.input[SIGNATURE..][..digits.len()].copy_from_slice(&digits);
    digits.len()
}

/// Writes the body's Standard Webhooks signature to where signatures are; how many bytes.
#[wasm_bindgen]
pub fn sign_standard() -> usize {
    let state = state();
    let StandardSignature(text) = StandardSignature::encode(state.take());
    state.input[SIGNATURE..][..text.len()].copy_from_slice(&text);
    text.len()
}

fn refusal(error: InvalidSecret) -> u32 {
    match error {
        InvalidSecret::Empty => 1,
        InvalidSecret::Prefix => 2,
        InvalidSecret::Base64 => 3,
        InvalidSecret::Length => 4,
    }
}

/// wasm-bindgen asks for an allocator, but nothing here allocates.
struct NoMemory;

// SAFETY: null says that there is no memory.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
