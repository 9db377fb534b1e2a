//! Plugins as WebAssembly text.

use std::fmt::Write;

/// A plugin. What a test does not say is as in [`Guest::echo`].
#[derive(Clone)]
pub(crate) struct Guest {
    version: String,
    memory: String,
    realloc: String,
    core: String,
    handle: String,
    post_return: String,
    wasi: bool,
    outside: String,
}

/// A `handle` that delivers the body as it came.
pub(crate) const ECHO: &str = "(call $deliver (local.get $body) (local.get $body_length) (i32.const 0) (i32.const 0))";
/// One that never ends.
pub(crate) const LOOP: &str = "(loop $again (br $again)) (unreachable)";

/// Does this so many times, counting in `$n`.
pub(crate) fn repeat(times: u32, code: &str) -> String {
    format!(
        "(local.set $n (i32.const 0))
        (loop $next
          {code}
          (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {times}))))"
    )
}

/// A bump allocator.
const BUMP: &str = "
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))) (then
      (drop (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))))))
    (local.get $at)";

/// The functions of WASI that guests import: name and type in the main module, instance and name in `wasi.wat`.
const WASI: [(&str, &str, &str, &str); 30] = [
    ("random", "(param i64 i32)", "random", "get-random-bytes"),
    ("random-u64", "(result i64)", "random", "get-random-u64"),
    ("insecure", "(param i64 i32)", "insecure", "get-insecure-random-bytes"),
    ("insecure-u64", "(result i64)", "insecure", "get-insecure-random-u64"),
    ("seed", "(param i32)", "insecure-seed", "insecure-seed"),
    ("ready", "(param i32) (result i32)", "poll", "[method]pollable.ready"),
    ("block", "(param i32)", "poll", "[method]pollable.block"),
    ("poll", "(param i32 i32 i32)", "poll", "poll"),
    ("monotonic", "(result i64)", "monotonic", "now"),
    ("monotonic-resolution", "(result i64)", "monotonic", "resolution"),
    ("at", "(param i64) (result i32)", "monotonic", "subscribe-instant"),
    ("after", "(param i64) (result i32)", "monotonic", "subscribe-duration"),
    ("wall", "(param i32)", "wall", "now"),
    ("wall-resolution", "(param i32)", "wall", "resolution"),
    ("read", "(param i32 i64 i32)", "streams", "[method]input-stream.blocking-read"),
    ("write", "(param i32 i32 i32 i32)", "streams", "[method]output-stream.blocking-write-and-flush"),
    ("write-zeroes", "(param i32 i64 i32)", "streams", "[method]output-stream.write-zeroes"),
    ("stdin", "(result i32)", "stdin", "get-stdin"),
    ("stdout", "(result i32)", "stdout", "get-stdout"),
    ("stderr", "(result i32)", "stderr", "get-stderr"),
    ("exit", "(param i32)", "exit", "exit"),
    ("environment", "(param i32)", "environment", "get-environment"),
    ("arguments", "(param i32)", "environment", "get-arguments"),
    ("directory", "(param i32)", "environment", "initial-cwd"),
    ("directories", "(param i32)", "preopens", "get-directories"),
    ("create-directory", "(param i32 i32 i32 i32)", "filesystem", "[method]descriptor.create-directory-at"),
    ("tcp", "(param i32 i32)", "tcp-create", "create-tcp-socket"),
    ("network", "(result i32)", "instance-network", "instance-network"),
    ("resolve", "(param i32 i32 i32 i32)", "lookup", "resolve-addresses"),
    ("udp", "(param i32 i32)", "udp-create", "create-udp-socket"),
];

impl Guest {
    /// Delivers the body as it came.
    pub(crate) fn echo() -> Self {
        Self {
            version: "1.0.0".into(),
            memory: "1".into(),
            realloc: BUMP.into(),
            core: String::new(),
            handle: ECHO.into(),
            post_return: String::new(),
            wasi: false,
            outside: String::new(),
        }
    }

    /// Does this when it is called; the names of the parameters and helpers are in `plugin.wat`.
    pub(crate) fn handling(handle: impl Into<String>) -> Self {
        Self { handle: handle.into(), ..Self::echo() }
    }

    /// A memory of these pages, `minimum` or `minimum maximum`.
    pub(crate) fn memory(self, memory: impl Into<String>) -> Self {
        Self { memory: memory.into(), ..self }
    }

    /// Allocates like this.
    pub(crate) fn realloc(self, realloc: impl Into<String>) -> Self {
        Self { realloc: realloc.into(), ..self }
    }

    /// More fields of the main module.
    pub(crate) fn core(self, core: impl Into<String>) -> Self {
        Self { core: core.into(), ..self }
    }

    /// Cleans up like this.
    pub(crate) fn post_return(self, post_return: impl Into<String>) -> Self {
        Self { post_return: post_return.into(), ..self }
    }

    /// Imports WASI: the functions of [`WASI`].
    pub(crate) fn wasi(self) -> Self {
        Self { wasi: true, ..self }
    }

    /// More fields of the component.
    pub(crate) fn outside(self, outside: impl Into<String>) -> Self {
        Self { outside: outside.into(), ..self }
    }

    /// For this version of the contract.
    pub(crate) fn version(self, version: impl Into<String>) -> Self {
        Self { version: version.into(), ..self }
    }

    pub(crate) fn component(&self) -> Vec<u8> {
        let mut lowered = String::new();
        let mut exports = String::new();
        let mut core_imports = String::new();
        if self.wasi {
            for (name, ty, instance, function) in WASI {
                writeln!(
                    lowered,
                    "(core func ${name} (canon lower (func ${instance} \"{function}\") (memory $memory) (realloc (core func $realloc))))"
                )
                .unwrap();
                writeln!(exports, "(export \"{name}\" (func ${name}))").unwrap();
                writeln!(core_imports, "(import \"wasi\" \"{name}\" (func ${name} {ty}))").unwrap();
            }
            writeln!(lowered, "(core instance $wasi {exports})").unwrap();
        }
        let (imports, with) =
            if self.wasi { (include_str!("wasi.wat"), "(with \"wasi\" (instance $wasi))") } else { ("", "") };
        let places = [
            ("version", self.version.as_str()),
            ("imports", imports),
            ("memory", &self.memory),
            ("realloc", &self.realloc),
            ("lowered", &lowered),
            ("core_imports", &core_imports),
            ("core", &self.core),
            ("handle", &self.handle),
            ("post_return", &self.post_return),
            ("with", with),
            ("outside", &self.outside),
        ];
        let text = places.iter().fold(include_str!("plugin.wat").to_owned(), |text, (place, filling)| {
            text.replace(&format!("{{{place}}}"), filling)
        });
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Adds a section to a binary.
pub(crate) fn section(binary: &mut Vec<u8>, id: u8, content: &[u8]) {
    binary.push(id);
    let mut length = content.len();
    while length > 0x7f {
        binary.push(length as u8 | 0x80);
        length >>= 7;
    }
    binary.push(length as u8);
    binary.extend_from_slice(content);
}
