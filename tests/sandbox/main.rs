//! Plugins that mean harm, in the sandbox of the host.

mod calls;
mod compiling;
mod contract;
mod guest;
mod hostile;
mod isolation;
mod limits;
mod support;
mod world;
