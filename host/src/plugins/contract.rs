//! The contract, `plugins/wit`, as wasmtime sees it.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../plugins/wit",
    world: "plugin",
    ownership: Borrowing { duplicate_if_necessary: true },
    exports: { default: async },
});

/// The contract's version that this host runs: this one and every earlier 1.x.
pub(super) const VERSION: &str = "1.0.0";
/// What a plugin must export.
pub(super) const HANDLER: &str = "revnoxa:webhook/handler";
/// What a plugin may import besides WASI 0.2.
pub(super) const LOG: &str = "revnoxa:webhook/log";

pub(super) use exports::revnoxa::webhook::handler;
pub(super) use revnoxa::webhook::log;
