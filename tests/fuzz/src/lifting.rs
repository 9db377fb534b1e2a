use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use revnoxa_host::clock::Clock;
use revnoxa_host::config::PluginSettings;
use revnoxa_host::domain::header::PluginHeaders;
use revnoxa_host::domain::plugin::{Changed, FailureKind, Verdict};
use revnoxa_host::plugins::{Call, Plugins, Ready};
use tokio::runtime::Runtime;

/// Where the guest puts its input, and gives it as its answer.
const ANSWER: usize = 16;
/// Below this the guest's memory holds the input and zeroes; above are the arguments it was called with.
const KNOWN: usize = 4_096;
/// Bytes of a reason or an error text that the host keeps.
const TEXT: usize = 1_024;
/// So many bytes of strings are within every limit; by pointing to the same ones an answer can have more than its own size.
const FEW: usize = 1 << 20;

/// The second to fourth byte, which are no part of the answer, say whether and what it logs.
const HANDLE: &str = "
    (memory.copy (i32.const 16) (local.get $body) (local.get $body_length))
    (if (i32.load8_u (i32.const 18)) (then
      (call $log (i32.load8_u (i32.const 17)) (i32.const 16) (i32.load8_u (i32.const 19)))))
    (i32.const 16)";
const REALLOC: &str = "
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (local.get $at)";

/// A plugin whose answer, as it lies in its memory, is the input.
pub struct Lifting {
    runtime: Runtime,
    plugins: Plugins,
    guest: Arc<Ready>,
}

impl Lifting {
    /// `program` is the host's, which compiles the plugin.
    pub fn new(program: &Path) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        // So long that no machine is too slow.
        let settings = PluginSettings { timeout: Duration::from_secs(5), ..PluginSettings::default() };
        let plugins = Plugins::new(settings, program, None, Clock::system()).expect("the sandbox");
        let tenant = "acme".parse().expect("a tenant");
        let guest = runtime.block_on(plugins.check(&tenant, &component())).expect("a plugin");
        Self { runtime, plugins, guest }
    }

    /// What the host makes of the answer is what it says, read by the canonical ABI; what cannot be read is the plugin's failure.
    pub fn lift(&self, input: &[u8]) {
        if input.len() > KNOWN - ANSWER {
            return;
        }
        let call = Call {
            event: "evt_1".parse().expect("an id"),
            event_type: "incident.created".parse().expect("a type"),
            tenant: "acme".parse().expect("a tenant"),
            timestamp: Timestamp::UNIX_EPOCH,
            body: Bytes::copy_from_slice(input),
            headers: PluginHeaders::default(),
            settings: "{}".into(),
        };
        let report = self.runtime.block_on(self.plugins.call(&self.guest, call));
        assert!(report.log.len() <= 1, "{report:?}");
        if let Err(failure) = &report.result {
            assert!(!failure.message.is_empty() || failure.kind == FailureKind::PluginError, "{report:?}");
            assert!(failure.message.len() <= TEXT, "{report:?}");
        }
        if let Some(expected) = expected(input) {
            assert_eq!(report.result.map_err(|failure| failure.kind), expected);
        }
    }
}

/// `None`: what the answer points to is not known here.
fn expected(input: &[u8]) -> Option<Result<Verdict, FailureKind>> {
    let mut memory = [0; KNOWN];
    memory[ANSWER..][..input.len()].copy_from_slice(input);
    let trapped = Some(Err(FailureKind::Trapped));
    let byte = |at: usize| memory[ANSWER + at];
    let (level, logs, message) = (byte(1), byte(2) != 0, &memory[ANSWER..][..usize::from(byte(3))]);
    if logs && (level > 3 || std::str::from_utf8(message).is_err()) {
        return trapped;
    }
    let word = |at: usize| {
        let bytes = memory[ANSWER + at..].first_chunk().expect("within what is known");
        u32::from_le_bytes(*bytes) as usize
    };
    let known = |at: usize, length: usize| memory.get(at..at.checked_add(length)?);
    match (byte(0), byte(4)) {
        (0, 0) => {
            let body = known(word(8), word(12))?;
            let (at, count) = (word(16), word(20));
            if !at.is_multiple_of(4) {
                return trapped;
            }
            let mut headers = Vec::new();
            let mut size = 0;
            for header in known(at, count.checked_mul(16)?)?.chunks_exact(16) {
                for place in header.chunks_exact(8) {
                    let (at, length) = place.split_at(4);
                    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | *byte as usize);
                    let Ok(text) = std::str::from_utf8(known(number(at), number(length))?) else { return trapped };
                    size += text.len();
                    headers.push(text);
                }
            }
            if size > FEW {
                return None;
            }
            let pairs = headers.chunks_exact(2).map(|pair| (pair[0], pair[1]));
            let parsed = PluginHeaders::parse(pairs, PluginSettings::default().headers);
            let changed = parsed.map(|headers| Changed { body: Bytes::copy_from_slice(body), headers });
            Some(changed.map(Verdict::Deliver).map_err(|_| FailureKind::BadHeader))
        }
        (0, 1) => Some(match std::str::from_utf8(known(word(8), word(12))?) {
            Ok(reason) => Ok(Verdict::Drop(reason[..reason.floor_char_boundary(TEXT)].replace('\0', " "))),
            Err(_) => Err(FailureKind::Trapped),
        }),
        (1, _) => Some(Err(match std::str::from_utf8(known(word(4), word(8))?) {
            Ok(_) => FailureKind::PluginError,
            Err(_) => FailureKind::Trapped,
        })),
        _ => trapped,
    }
}

/// The plugin of the sandbox's own tests.
fn component() -> Vec<u8> {
    let places = [
        ("version", "1.0.0"),
        ("memory", "1"),
        ("realloc", REALLOC),
        ("handle", HANDLE),
        ("imports", ""),
        ("lowered", ""),
        ("core_imports", ""),
        ("core", ""),
        ("post_return", ""),
        ("with", ""),
        ("outside", ""),
    ];
    let text = places.iter().fold(include_str!("../../sandbox/plugin.wat").to_owned(), |text, (place, filling)| {
        text.replace(&format!("{{{place}}}"), filling)
    });
    wat::parse_str(text).expect("it is WebAssembly text")
}
