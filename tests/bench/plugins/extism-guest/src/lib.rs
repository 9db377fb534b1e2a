//! The same Rust code as `redact-fields`, under Extism's contract: settings, a NUL, the body.

use extism_pdk::{FnResult, WithReturnCode, plugin_fn};

#[plugin_fn]
pub fn handle(input: Vec<u8>) -> FnResult<Vec<u8>> {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let settings = std::str::from_utf8(&input[..end])?;
    let redacted = redact_fields::redact(&input[end + 1..], settings);
    redacted.map(Into::into).map_err(|error| WithReturnCode::new(extism_pdk::Error::msg(error), 1))
}
