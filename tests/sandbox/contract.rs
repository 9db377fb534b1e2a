//! What is no plugin is refused when it is uploaded, and its author told why.

use revnoxa_host::plugins::Refused::{self, *};

use crate::guest::Guest;
use crate::support::{BODY, Sandbox, body, call};

/// Bytes of an ELF file, as compiled components are.
const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_component_is_refused() {
    let sandbox = Sandbox::new().await;
    let echo = Guest::echo().component();
    for (name, bytes, why) in [
        ("nothing", &[][..], "it does not begin as one does"),
        ("text", b"(component)", "it does not begin as one does"),
        ("four bytes", b"\0asm", "of a version that is not known"),
        ("core module", b"\0asm\x01\0\0\0", "it is a core module; wrap it with `wasm-tools component new`"),
        ("next version", b"\0asm\x0e\0\x01\0", "of a version that is not known"),
        ("compiled", ELF, "it is compiled already"),
    ] {
        assert_eq!(sandbox.refused(bytes).await, NotAComponent(why), "{name}");
    }
    for length in [9, 20, 100, 500, 1_000, echo.len() - 1] {
        let refused = sandbox.refused(&echo[..length]).await;
        assert!(matches!(refused, Invalid(_)), "cut off after {length} bytes: {refused}");
    }
    let refused = sandbox.refused(&[&echo[..], b"more"].concat()).await;
    assert!(matches!(refused, Invalid(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_we_do_not_have_is_refused_by_its_name() {
    let sandbox = Sandbox::new().await;
    for name in [
        "acme:thing/api@1.0.0",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:keyvalue/store@0.2.0",
        "wasi:clocks/monotonic-clock@0.3.0",
        "wasi:cli/shell@0.2.0",
        "wasi:cli/environment@0.2.0",
        "revnoxa:webhook/secrets@1.0.0",
        "revnoxa:webhook/handler@1.0.0",
    ] {
        // Also an interface that we have, when it is asked for a function that it has not.
        let import = format!("(import \"{name}\" (instance (export \"no-such-function\" (func))))");
        assert_eq!(sandbox.refused(&Guest::echo().outside(import).component()).await, Import(name.into()));
    }
    let function = Guest::echo().outside("(import \"function\" (func))").component();
    assert_eq!(sandbox.refused(&function).await, Import("function".into()));
    let log = "(import \"revnoxa:webhook/log@1.0.1\" (instance (export \"log\" (func (param \"message\" string)))))";
    let refused = sandbox.refused(&Guest::echo().outside(log).component()).await;
    assert!(matches!(refused, Contract(_)), "another type: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_of_the_contract_is_refused_and_told_ours() {
    let sandbox = Sandbox::new().await;
    for version in ["2.0.0", "1.1.0", "0.9.0", "1.0.0-rc.1", "11.0.0"] {
        let refused = sandbox.refused(&Guest::echo().version(version).component()).await;
        let found = format!("revnoxa:webhook/log@{version}");
        assert_eq!(refused, ContractVersion { found, runs: "1.0.0" });
    }
    let found = "revnoxa:webhook/log@2.0.0";
    let words = format!("`{found}` is of another version of the contract; this host runs revnoxa:webhook@1.0.0");
    assert_eq!(sandbox.refused(&Guest::echo().version("2.0.0").component()).await.to_string(), words);
    let patch = sandbox.run(&Guest::echo().version("1.0.7")).await;
    assert_eq!(body(&patch), BODY, "a patch of ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_without_the_handler_is_refused() {
    let sandbox = Sandbox::new().await;
    let exporting = |name: &str, parameters: &str| {
        let text = format!(
            "(component
              (core module $M (func (export \"f\") (param {parameters})))
              (core instance $m (instantiate $M))
              (func $f {} (canon lift (core func $m \"f\")))
              (instance $handler (export \"handle\" (func $f)))
              (export \"{name}\" (instance $handler)))",
            parameters.split_whitespace().map(|_| "(param \"number\" u32)").collect::<String>(),
        );
        wat::parse_str(text).unwrap()
    };
    for (case, component) in [
        ("empty", wat::parse_str("(component)").unwrap()),
        ("another interface", exporting("acme:thing/handler@1.0.0", "")),
        ("without a version", exporting("handler", "")),
        ("no parameters", exporting("revnoxa:webhook/handler@1.0.0", "")),
        ("another parameter", exporting("revnoxa:webhook/handler@1.0.0", "i32")),
    ] {
        let refused = sandbox.refused(&component).await;
        assert!(matches!(refused, Contract(_)), "{case}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_too_many_parts_is_refused() {
    let sandbox = Sandbox::new().await;
    let core = |fields: &str, count: usize| Guest::echo().core(fields.repeat(count));
    // With the two instances and the memory and tables of `plugin.wat`.
    let instances = |fields: &str, count: usize| {
        let instance = "(core instance (instantiate $Part))".repeat(count);
        Guest::echo().outside(format!("(core module $Part {fields}) {instance}"))
    };
    let refused: fn(&Refused) -> bool = |refused| matches!(refused, Limits(_));
    for (case, fits, does_not) in [
        ("memory", Guest::echo().memory("1024"), Guest::echo().memory("1025")),
        ("4 GiB of memory", Guest::echo(), Guest::echo().memory("65536")),
        ("memories", instances("(memory 1)", 3), instances("(memory 1)", 4)),
        ("tables", instances("(table 1 funcref)", 8), instances("(table 1 funcref)", 9)),
        ("table", core("(table 20000 funcref)", 1), core("(table 20001 funcref)", 1)),
        ("core instances", instances("", 62), instances("", 63)),
        (
            "globals",
            core("(global (mut v128) (v128.const i64x2 0 0))", 60_000),
            core("(global (mut v128) (v128.const i64x2 0 0))", 70_000),
        ),
    ] {
        assert_eq!(body(&sandbox.run(&fits).await), BODY, "{case}");
        let found = sandbox.refused(&does_not.component()).await;
        assert!(refused(&found), "{case}: {found}");
    }
    let crowd = sandbox.refused(&instances("", 10_000).component()).await;
    assert!(matches!(crowd, Invalid(_)), "{crowd}");
}

#[tokio::test(flavor = "multi_thread")]
async fn features_that_are_off_are_refused() {
    let sandbox = Sandbox::new().await;
    let async_function = "
        (core module $A (func (export \"f\") (result i32) unreachable)
          (func (export \"callback\") (param i32 i32 i32) (result i32) unreachable))
        (core instance $a (instantiate $A))
        (func (export \"f\") async (canon lift (core func $a \"f\") async (callback (core func $a \"callback\"))))";
    for (feature, guest) in [
        ("shared memory", Guest::echo().core("(memory 1 1 shared)")),
        ("atomics", Guest::echo().core("(func (drop (i32.atomic.load (i32.const 0))))")),
        ("memory of 64 bits", Guest::echo().core("(memory i64 1)")),
        ("small pages", Guest::echo().core("(memory 1 (pagesize 1))")),
        ("tail calls", Guest::echo().core("(func $tail return_call $tail)")),
        ("exceptions", Guest::echo().core("(tag $e) (func (throw $e))")),
        ("garbage collection", Guest::echo().core("(type (struct (field i32)))")),
        (
            "wide arithmetic",
            Guest::echo().core("(func (param i64) (i64.mul_wide_s (local.get 0) (local.get 0)) drop drop)"),
        ),
        ("async functions", Guest::echo().outside(async_function)),
        ("waiting", Guest::echo().outside("(core func (canon waitable-set.new))")),
        ("streams", Guest::echo().outside("(type (stream u8))")),
        ("error contexts", Guest::echo().outside("(type error-context)")),
        ("threads", Guest::echo().outside("(core func (canon thread.index))")),
        ("values", Guest::echo().outside("(import \"value\" (value u32))")),
    ] {
        let refused = sandbox.refused(&guest.component()).await;
        assert!(matches!(refused, Invalid(_)), "{feature}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_with_wrong_bytes_is_refused_or_runs_like_any_other() {
    wrong_bytes(0..150).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: cargo test -p revnoxa-tests --test sandbox -- --ignored wrong_bytes"]
async fn many_components_with_wrong_bytes_are_refused_or_run_like_any_other() {
    wrong_bytes(150..20_000).await;
}

async fn wrong_bytes(seeds: std::ops::Range<u64>) {
    let sandbox = Sandbox::new().await;
    let component = Guest::echo().component();
    for seed in seeds {
        // https://en.wikipedia.org/wiki/Xorshift#xorshift*
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
        };
        let mut mutant = component.clone();
        for _ in 0..=random() % 3 {
            let at = 8 + random() as usize % (mutant.len() - 8);
            mutant[at] = random() as u8;
        }
        match sandbox.load(&mutant).await {
            Ok(ready) => drop(sandbox.call(&ready, call("acme")).await),
            Err(Invalid(_) | Import(_) | ContractVersion { .. } | Contract(_) | Limits(_)) => {}
            Err(refused) => panic!("seed {seed}: {refused}"),
        }
    }
    let after = sandbox.run(&Guest::echo()).await;
    assert_eq!(body(&after), BODY);
}
