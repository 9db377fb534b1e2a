//! What a plugin of the Revnoxa webhook host is written with: the types of `webhook.wit`, a log, and the JSON that most
//! plugins need.
//!
//! ```
//! use revnoxa_plugin::{Event, Plugin, Request, Verdict, export, log};
//!
//! struct OnlyIncidents;
//!
//! impl Plugin for OnlyIncidents {
//!     fn handle(event: Event, _settings: String) -> Result<Verdict, String> {
//!         if !event.type_.starts_with("incident.") {
//!             return Ok(Verdict::Drop(format!("{} is not about an incident", event.type_)));
//!         }
//!         log::info(&format!("{} goes on", event.id));
//!         Ok(Verdict::Deliver(Request { body: event.body, headers: Vec::new() }))
//!     }
//! }
//!
//! export!(OnlyIncidents);
//! ```
//!
//! The crate that holds it is a `cdylib`, built for `wasm32-wasip2`. Outside Wasm everything here runs too, so that
//! `cargo test` can call a plugin's functions.
//!
//! Each call gets a fresh instance, so a plugin frees memory for nobody: the feature `bump-allocator`, on by default,
//! makes an allocator that never frees the plugin's global one. Turn it off for a plugin that allocates and frees
//! more than the 64 MiB of a call.

#[cfg(any(test, all(target_arch = "wasm32", feature = "bump-allocator")))]
mod bump;
mod find;
pub mod log;
mod pointer;
mod settings;

pub use bindings::exports::revnoxa::webhook::handler::{Event, Header, Request, Verdict};
pub use find::{Found, find};
pub use pointer::Pointer;
pub use settings::settings;

/// What [`export!`] refers to.
#[doc(hidden)]
#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "plugin",
        pub_export_macro: true,
        export_macro_name: "export_plugin",
    });
}

/// What a plugin does: implemented by one type, which is given to [`export!`].
pub use bindings::exports::revnoxa::webhook::handler::Guest as Plugin;

/// Makes a [`Plugin`] the one that this crate's component exports. Written once in a crate, outside any function.
#[macro_export]
macro_rules! export {
    ($plugin:ident) => {
        // Only Wasm has symbols of such names; elsewhere the plugin is just a type.
        #[cfg(target_family = "wasm")]
        $crate::bindings::export_plugin!($plugin with_types_in $crate::bindings);
        const _: fn($crate::Event, String) -> Result<$crate::Verdict, String> = <$plugin as $crate::Plugin>::handle;
    };
}
