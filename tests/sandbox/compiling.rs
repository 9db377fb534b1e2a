//! Components that are hard to compile harm nobody but their own compiler.

use std::time::Duration;

use revnoxa_host::config::PluginSettings;
use revnoxa_host::plugins::Refused::{self, *};
use revnoxa_tests::eventually;

use self::Fate::{Forbidden, Runs, TooHard};
use crate::guest::{Guest, section};
use crate::support::{BODY, MIB, Sandbox, body, call, children, gather, resident};

#[tokio::test(flavor = "multi_thread")]
async fn bombs_go_off_in_the_compiler_alone() {
    let sandbox = Sandbox::alone(|settings| {
        settings.compile_time = Duration::from_secs(2);
        settings.compile_memory = 192 * MIB;
    })
    .await;
    for (name, fate, refused) in compile_all(&sandbox).await {
        let found = match refused {
            None => Runs,
            Some(CompileMemory(_) | CompileTime(_) | CompilerEnded(_) | Busy) => TooHard,
            Some(Invalid(_) | Limits(_)) => Forbidden,
            Some(refused) => panic!("{name}: {refused}"),
        };
        assert_eq!(found, fate, "{name}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: cargo test -p revnoxa-tests --test sandbox -- --ignored within_the_default_limits"]
async fn bombs_go_off_within_the_default_limits() {
    let sandbox = Sandbox::alone(|_| ()).await;
    for (name, fate, refused) in compile_all(&sandbox).await {
        match (fate, &refused) {
            (_, None) => assert_ne!(fate, Forbidden, "{name}"),
            (TooHard, Some(CompileMemory(_) | CompileTime(_) | CompilerEnded(_) | Busy)) => {}
            (Forbidden, Some(Invalid(_) | Limits(_))) => {}
            _ => panic!("{name}: {refused:?}"),
        }
    }
}

/// Compiles the bombs, calls those that run, and sees that no memory is lost with any of them.
async fn compile_all(sandbox: &Sandbox) -> Vec<(&'static str, Fate, Option<Refused>)> {
    let bombs = bombs();
    let before = resident();
    let compile = |(number, (name, fate, component)): (usize, (&'static str, Fate, Vec<u8>))| {
        let plugins = sandbox.plugins.clone();
        tokio::spawn(async move {
            let tenant = format!("t{number}").parse().unwrap();
            match plugins.check(&tenant, &component).await {
                Ok(ready) => {
                    assert_eq!(body(&plugins.call(&ready, call("acme")).await), BODY, "{name}");
                    (name, fate, None)
                }
                Err(refused) => (name, fate, Some(refused)),
            }
        })
    };
    let fates = gather(bombs.into_iter().enumerate().map(compile).collect()).await;
    let more = resident().saturating_sub(before);
    assert!(more < 64 * MIB, "{} MiB more", more / MIB);
    fates
}

#[tokio::test(flavor = "multi_thread")]
async fn compiling_takes_as_much_memory_as_the_setting_says() {
    let large = Guest::echo().core(counting(60_000));
    let within = async |memory| compiled(&large, |settings| settings.compile_memory = memory).await;
    assert_eq!(within(128 * MIB).await, Err(CompileMemory(128 << 20)));
    assert_eq!(within(1_024 * MIB).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn compiling_takes_as_much_time_as_the_setting_says() {
    let slow = Guest::echo().core("(func)".repeat(50_000));
    let within = async |time| compiled(&slow, |settings| settings.compile_time = time).await;
    assert_eq!(within(Duration::from_secs(1)).await, Err(CompileTime(Duration::from_secs(1))));
    assert_eq!(within(Duration::from_secs(60)).await, Ok(()));
}

/// While no other test takes time away from the compiler, which has the lowest priority.
async fn compiled(guest: &Guest, change: impl FnOnce(&mut PluginSettings)) -> Result<(), Refused> {
    Sandbox::alone(change).await.load(&guest.component()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_that_nobody_waits_for_is_ended() {
    let sandbox = Sandbox::alone(|_| ()).await;
    // Half a minute's work.
    let slow = Guest::echo().core("(func)".repeat(400_000)).component();
    let works = async || children().into_iter().find(|ticks| *ticks >= 20);
    tokio::select! {
        refused = sandbox.refused(&slow) => panic!("{refused}"),
        _ = eventually("its compiler to work", works) => {}
    }
    eventually("the compiler's end", async || children().is_empty().then_some(())).await;
    assert_eq!(body(&sandbox.run(&Guest::echo()).await), BODY);
}

/// Gaps between data are not filled when a component is compiled: this one would be 430 MiB of machine code.
#[tokio::test(flavor = "multi_thread")]
async fn gaps_in_memories_cost_nothing() {
    let sandbox = Sandbox::alone(|_| ()).await;
    let before = resident();
    let module = "(core module (memory 256) (data (i32.const 0) \"a\") (data (i32.const 15000000) \"b\"))";
    assert_eq!(body(&sandbox.run(&Guest::echo().outside(module.repeat(30))).await), BODY);
    let more = resident().saturating_sub(before);
    assert!(more < 64 * MIB, "{} MiB more", more / MIB);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gigabytes: cargo test -p revnoxa-tests --test sandbox -- --ignored machine_code"]
async fn machine_code_that_is_too_large_is_refused_at_once() {
    let sandbox = Sandbox::with(|settings| {
        settings.upload = 256 * MIB;
        settings.compile_memory = 4_096 * MIB;
    })
    .await;
    let data = Guest::echo().core(format!("(data \"{}\")", "a".repeat(140 * MIB)));
    assert_eq!(sandbox.refused(&data.component()).await, ArtifactSize);
}

/// What becomes of a component when compiling it may take 2 s and 192 MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It runs: it only looks dangerous.
    Runs,
    /// Its compiler runs out of memory, time or stack.
    TooHard,
    /// A rule of WebAssembly's own, or of ours, forbids it.
    Forbidden,
}

fn bombs() -> Vec<(&'static str, Fate, Vec<u8>)> {
    let core = |fields: String| Guest::echo().core(fields).component();
    let outside = |fields: String| Guest::echo().outside(fields).component();
    let numbered = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
    let values = |count: usize| "i64 ".repeat(count);
    let add = |to: usize, what: usize| format!("(local.set {to} (i64.add (local.get {to}) (local.get {what})))");
    let function = |locals: usize, code: String| core(format!("(func (param i32) (local {}) {code})", values(locals)));
    let again = "local.get 0 br_if 0 end ";
    vec![
        ("50,000 locals", Runs, core(format!("(func (local {}))", values(50_000)))),
        ("10,000 types", Runs, core(numbered(10_000, &|n| format!("(type (func (param {})))", values(n % 100))))),
        ("200,000 elements", Runs, core(format!("(table 20000 funcref) (func $f) {}", elements(20_000).repeat(10)))),
        ("100 components deep", Runs, nested(100)),
        ("10,000 components deep", TooHard, nested(10_000)),
        ("ten to the tenth instances", TooHard, outside(tree_of_instances(10))),
        ("a million instructions", TooHard, core(counting(250_000))),
        ("100,000 functions", TooHard, core("(func)".repeat(100_000))),
        ("100,000 blocks deep", TooHard, function(1, "block ".repeat(100_000) + &"end ".repeat(100_000))),
        (
            "100,000 branches deep",
            TooHard,
            function(1, "local.get 0 if ".repeat(100_000) + &"else end ".repeat(100_000)),
        ),
        (
            "giant tables of branches",
            TooHard,
            core(format!("(func (param i32) (block (br_table {} (local.get 0))))", "0 ".repeat(60_000)).repeat(60)),
        ),
        (
            "300 loops deep, 300 values each",
            TooHard,
            core(format!(
                "(type $loop (func (param {0}) (result {0}))) (func (param i32) {1} {2} {3} {4})",
                values(300),
                "i64.const 0 ".repeat(300),
                "loop (type $loop) ".repeat(300),
                again.repeat(300),
                "drop ".repeat(300),
            )),
        ),
        (
            "300 loops deep over 2,000 locals",
            TooHard,
            function(2_000, "loop ".repeat(300) + &numbered(2_000, &|n| add(n + 1, n + 1)) + &again.repeat(300)),
        ),
        (
            "500 loops deep, each with locals of its own",
            TooHard,
            function(
                2_000,
                numbered(500, &|n| format!("loop {}", add(n * 4 + 1, n * 37 % 2_000 + 1))) + &again.repeat(500),
            ),
        ),
        (
            "200,000 elements in another module's table",
            TooHard,
            outside(format!(
                "(core module $T (table (export \"t\") 20000 funcref)) (core instance $t (instantiate $T))
                (core module $E (import \"t\" \"t\" (table 20000 funcref)) (func $f) {})
                (core instance (instantiate $E (with \"t\" (instance $t))))",
                elements(20_000).repeat(10)
            )),
        ),
        ("a type of 2⁹⁰ fields", Forbidden, outside(tree_of_types(90, "(tuple $t{n} $t{n})"))),
        ("a list 900 lists deep", Forbidden, outside(tree_of_types(900, "(list $t{n})"))),
        ("50,001 locals", Forbidden, core(format!("(func (local {}))", values(50_001)))),
    ]
}

/// A function that adds one to a global so many times, which is not optimised away.
fn counting(times: usize) -> String {
    let add = "(global.set $g (i32.add (global.get $g) (i32.const 1)))";
    format!("(global $g (mut i32) (i32.const 0)) (func {})", add.repeat(times))
}

fn elements(count: usize) -> String {
    format!("(elem (i32.const 0) func {})", "$f ".repeat(count))
}

/// An echo with empty components one in the other.
fn nested(depth: usize) -> Vec<u8> {
    const HEAD: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
    const COMPONENT: u8 = 4;
    let mut inner = HEAD.to_vec();
    for _ in 0..depth {
        let mut outer = HEAD.to_vec();
        section(&mut outer, COMPONENT, &inner);
        inner = outer;
    }
    [&Guest::echo().component(), &inner[HEAD.len()..]].concat()
}

/// A component that makes ten instances of one that makes ten instances, and so on.
fn tree_of_instances(depth: usize) -> String {
    let ten = "(instance (instantiate $inner))".repeat(10);
    let level = |n| format!("(component $c{n} (alias outer 1 $c{} (component $inner)) {ten})", n - 1);
    let levels: String = (1..=depth).map(level).collect();
    format!("(component $c0) {levels} (instance (instantiate $c{depth}))")
}

/// Types each made of the one before it, `$t{n}`.
fn tree_of_types(depth: usize, made: &str) -> String {
    let level = |n| format!("(type $t{} {})", n + 1, made.replace("{n}", &usize::to_string(&n)));
    "(type $t0 (tuple u8 u8))".to_owned() + &(0..depth).map(level).collect::<String>()
}
