//! What receivers get: the npm package as it is packed, in the runtimes and frameworks it is for, and the page for
//! languages that have no package.

mod other_languages;
mod package;
