//! What receivers get: the npm package as it is packed, in the runtimes and frameworks it is for, the page for
//! languages that have no package, and the host's signature debugger.

mod debugger;
mod other_languages;
mod package;
