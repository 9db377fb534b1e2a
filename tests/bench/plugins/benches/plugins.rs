//! What a call of a plugin costs: the same code natively, in the host's sandbox with a fresh instance each time, and in Extism with a
//! fresh plugin each time; one thread and two. Ratios from one run are printed at the end, and are what counts.
//!
//! `cargo bench --bench plugins` in this folder; `plugins/build` first, to have JavaScript and Python in the table.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use redact_fields::redact;
use revnoxa_host::clock::Clock;
use revnoxa_host::config::PluginSettings;
use revnoxa_host::domain::header::PluginHeaders;
use revnoxa_host::domain::plugin::Verdict;
use revnoxa_host::plugins::{BUILT_IN, Call, Plugins, Ready, compile_child};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const SIZES: [usize; 2] = [1 << 10, 32 << 10];
const SETTINGS: &str = r#"{"fields":["/data/reporter/email","/data/reporter/phone","/data/attendees/*/email"]}"#;
/// The examples in other languages do another work; what they cost is mostly their engines.
const OTHERS: [(&str, &str); 2] = [
    ("js-example", r#"{"project": "OPS", "priorities": {"1": "Highest", "2": "High"}}"#),
    ("python-example", r#"{"routing_key": "R0123456789", "severities": {"1": "critical", "2": "warning"}}"#),
];
const EVENT: &str = "evt_0198c5f0a6c37e6fb1d7b0c3a9d2e4f1";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // The host runs its own program again to compile; here that is this one.
    if let [_, plugin, compile, memory, seconds] = &arguments[..]
        && (plugin.as_str(), compile.as_str()) == ("plugin", "compile")
    {
        std::process::exit(compile_child(memory.parse().unwrap(), seconds.parse().unwrap()));
    }
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();
    ratios();
}

fn measure(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clock = Clock::system();
    let plugins = Plugins::new(settings(), &std::env::current_exe().unwrap(), None, clock).unwrap();
    let sandbox = Sandbox { plugins: Arc::new(plugins), runtime };
    let (_, rust) = BUILT_IN.into_iter().find(|(name, _)| *name == "redact-fields").unwrap();
    let rust = sandbox.ready(rust);
    let component = |name: &str| std::fs::read(repository().join(format!("target/plugins/{name}.wasm"))).ok();
    let others: Vec<_> = OTHERS
        .into_iter()
        .filter_map(|(name, settings)| Some((name, settings, component(name)?)))
        .map(|(name, settings, component)| (name, settings, sandbox.ready(&component)))
        .collect();
    let extism = extism::CompiledPlugin::new(extism::PluginBuilder::new(extism_guest())).unwrap();

    let mut group = criterion.benchmark_group("redact");
    for size in SIZES {
        let body = body(size);
        let expected = redact(&body, SETTINGS).unwrap().into_owned();
        assert_ne!(expected, body);
        group.bench_function(BenchmarkId::new("native", size), |bencher| bencher.iter(|| redact(&body, SETTINGS)));

        assert_eq!(sandbox.delivered(&rust, &body, SETTINGS), Some(expected.clone()));
        for threads in [1, 2] {
            let id = BenchmarkId::new(format!("sandbox-{threads}-threads"), size);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|calls| sandbox.time(&rust, &body, SETTINGS, calls, threads));
            });
        }
        let input = [SETTINGS.as_bytes(), b"\0", &body].concat();
        let call = || {
            let mut plugin = extism::Plugin::new_from_compiled(&extism).unwrap();
            plugin.call::<&[u8], Vec<u8>>("handle", &input).unwrap()
        };
        assert_eq!(call(), expected);
        group.bench_function(BenchmarkId::new("extism", size), |bencher| bencher.iter(call));
        for (name, settings, ready) in &others {
            assert!(sandbox.delivered(ready, &body, settings).is_some(), "{name}");
            group.bench_function(BenchmarkId::new(*name, size), |bencher| {
                bencher.iter_custom(|calls| sandbox.time(ready, &body, settings, calls, 1));
            });
        }
    }
    group.finish();
}

/// The defaults, but for the time: the slowest language on a busy machine shall not end the benchmark.
fn settings() -> PluginSettings {
    PluginSettings { timeout: Duration::from_secs(5), ..PluginSettings::default() }
}

struct Sandbox {
    plugins: Arc<Plugins>,
    runtime: Runtime,
}

impl Sandbox {
    fn ready(&self, component: &[u8]) -> Arc<Ready> {
        let tenant = "bench".parse().unwrap();
        self.runtime.block_on(self.plugins.check(&tenant, component)).unwrap()
    }

    fn delivered(&self, ready: &Arc<Ready>, body: &[u8], settings: &str) -> Option<Vec<u8>> {
        match self.runtime.block_on(self.plugins.call(ready, call(body, settings))).result.unwrap() {
            Verdict::Deliver(changed) => Some(changed.body.into()),
            Verdict::Drop(_) => None,
        }
    }

    /// Wall time of so many calls, divided among `threads` tasks that make one after the other.
    fn time(&self, ready: &Arc<Ready>, body: &[u8], settings: &str, calls: u64, threads: u64) -> Duration {
        let call = call(body, settings);
        let started = Instant::now();
        let tasks: Vec<_> = (0..threads)
            .map(|thread| {
                let (plugins, ready, call) = (self.plugins.clone(), ready.clone(), call.clone());
                let calls = calls / threads + u64::from(thread < calls % threads);
                self.runtime.spawn(async move {
                    for _ in 0..calls {
                        assert!(plugins.call(&ready, call.clone()).await.result.is_ok());
                    }
                })
            })
            .collect();
        self.runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        started.elapsed()
    }
}

fn call(body: &[u8], settings: &str) -> Call {
    Call {
        event: EVENT.parse().unwrap(),
        event_type: "incident.created".parse().unwrap(),
        tenant: "bench".parse().unwrap(),
        timestamp: "2026-03-01T12:00:00Z".parse().unwrap(),
        body: body.to_vec().into(),
        headers: PluginHeaders::default(),
        settings: settings.into(),
    }
}

/// An event of about this many bytes, one in twenty of them to be redacted.
fn body(size: usize) -> Vec<u8> {
    let mut event = json!({
        "id": EVENT, "type": "incident.created", "timestamp": "2026-03-01T12:00:00.000Z",
        "data": {
            "incident": "inc_1", "title": "Checkout is down", "severity": 1, "affected": 17, "ratio": 0.25, "open": true,
            "reporter": {"name": "Ada Lovelace", "email": "ada@example.com", "phone": "+44 20 7946 0000"},
            "attendees": [], "notes": [],
        }
    });
    let attendees = event["data"]["attendees"].as_array_mut().unwrap();
    attendees
        .extend((0..4).map(|n| json!({"name": format!("Attendee {n}"), "email": format!("attendee{n}@example.com")})));
    let note = |n: usize| json!({"at": "2026-03-01T12:00:00Z", "by": n, "text": format!("Note {n}: \"still\" investigating, é")});
    let mut n = 0;
    while event.to_string().len() < size - 60 {
        event["data"]["notes"].as_array_mut().unwrap().push(note(n));
        n += 1;
    }
    event.to_string().into_bytes()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// Builds the same code as an Extism plugin.
fn extism_guest() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--target",
            "wasm32-unknown-unknown",
            "-p",
            "extism-guest",
            "--target-dir",
            "target",
        ])
        .current_dir(folder)
        .status()
        .unwrap();
    assert!(built.success(), "the Extism plugin does not build");
    std::fs::read(folder.join("target/wasm32-unknown-unknown/release/extism_guest.wasm")).unwrap()
}

/// Prints what this run measured, each against the same code run natively.
fn ratios() {
    println!("\n{:<22}{:>12}{:>12}", "median of one call", "1 KiB", "32 KiB");
    let names = ["native", "sandbox-1-threads", "sandbox-2-threads", "extism", "js-example", "python-example"];
    let all = names.map(|name| (name, SIZES.map(|size| median(name, size))));
    let [(_, native), ..] = all;
    for (name, times) in all {
        let cell = |time: Option<f64>| time.map_or("-".to_owned(), |ns| format!("{:.1} µs", ns / 1e3));
        let times_native = |size: usize| match (times[size], native[size]) {
            (Some(time), Some(native)) => format!("{:.2}", time / native),
            _ => "-".to_owned(),
        };
        println!(
            "{name:<22}{:>12}{:>12}   × native {:>8}{:>8}",
            cell(times[0]),
            cell(times[1]),
            times_native(0),
            times_native(1)
        );
    }
    let ratio = |over: usize, under: usize, size: usize| Some(all[over].1[size]? / all[under].1[size]?);
    for (what, over, under) in [("Extism ÷ sandbox", 3, 1), ("one thread ÷ two", 1, 2)] {
        let cell = |size| ratio(over, under, size).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        println!("{what:<22}{:>12}{:>12}", cell(0), cell(1));
    }
}

/// Nanoseconds, as criterion wrote them down.
fn median(name: &str, size: usize) -> Option<f64> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/criterion/redact/{name}/{size}/new/estimates.json"));
    let estimates: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}
