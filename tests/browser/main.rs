//! Tests in a real browser. One module a story.

mod harness;
mod pages;
mod plugins;
