//! The log that the delivery's history shows to the tenant: 16 KiB a call by default, what comes later is cut off.
//!
//! Outside Wasm the messages go to standard error.

use crate::bindings::revnoxa::webhook::log::Level;

/// For whoever looks for a fault in the plugin.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Something worth knowing about this event.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// The plugin did its work, but something is not as it should be.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// The plugin could not do its work.
pub fn error(message: &str) {
    write(Level::Error, message);
}

fn write(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::revnoxa::webhook::log::log(level, message);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message}");
}
