//! Builds the npm package into `target/webhook-verifier/package`, and with the argument `pack` packs it into `target/webhook-verifier`.
//! With `host`, what the host serves of it to its signature debugger is renewed: `host/assets/webhook-verifier.js`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const TARGET: &str = "wasm32-unknown-unknown";
/// The stack's bytes are a part of the module's memory; nothing here recurses.
const STACK_BYTES: u32 = 16 << 10;

fn main() -> Result<()> {
    let (pack, host) = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => (false, false),
        [pack] if pack == "pack" => (true, false),
        [host] if host == "host" => (false, true),
        _ => bail!("usage: cargo run -p build-npm [pack | host]"),
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate is in verifier-wasm")?;
    let workspace = here.parent().context("verifier-wasm is in the workspace")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let npm = target.join("webhook-verifier");
    let package = npm.join("package");

    let compiled = compile(workspace, &target)?;
    if package.exists() {
        fs::remove_dir_all(&package)?;
    }
    fs::create_dir_all(package.join("dist"))?;
    fs::write(package.join("dist/verifier.wasm"), bind(&compiled)?)?;
    run(here, "npm", &["ci", "--ignore-scripts", "--no-audit", "--no-fund"].map(OsString::from))?;
    run(here, "node", &["build.mjs".into(), package.clone().into(), env!("CARGO_PKG_VERSION").into()])?;
    if pack {
        run(&npm, "npm", &["pack", "./package"].map(OsString::from))?;
    }
    if host {
        fs::copy(npm.join("webhook-verifier.js"), workspace.join("host/assets/webhook-verifier.js"))?;
    }
    Ok(())
}

/// The verifier crate as wasm, the same bytes wherever its sources are.
fn compile(workspace: &Path, target: &Path) -> Result<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let registries = cargo_home.context("there is a home folder")?.join("registry/src");
    let mut flags = vec![
        // SHA-256 asks for vectors itself; elsewhere they are only larger.
        "-Ctarget-feature=+simd128".to_owned(),
        "-Cno-vectorize-loops".to_owned(),
        "-Cno-vectorize-slp".to_owned(),
        format!("-Clink-arg=-zstack-size={STACK_BYTES}"),
        format!("--remap-path-prefix={}=revnoxa", workspace.display()),
    ];
    for registry in fs::read_dir(registries)? {
        flags.push(format!("--remap-path-prefix={}=crates", registry?.path().display()));
    }
    let done = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["rustc", "--locked", "--package=revnoxa-verifier", "--lib", "--crate-type=cdylib", "--features=npm"])
        .args(["--profile=npm", "--target", TARGET, "--target-dir"])
        .arg(target)
        .current_dir(workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .status()?;
    ensure!(done.success(), "the verifier does not compile for {TARGET}; is it installed? rustup target add {TARGET}");
    Ok(target.join(TARGET).join("npm/revnoxa_verifier.wasm"))
}

/// What wasm-bindgen makes of it. The exports take and give numbers, so its JavaScript is not needed.
fn bind(compiled: &Path) -> Result<Vec<u8>> {
    let mut output = wasm_bindgen_cli_support::Bindgen::new()
        .input_path(compiled)
        .bundler(true)?
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate_output()?;
    let module = output.wasm_mut();
    // What is for its JavaScript alone goes, and with it all that the module imports.
    let theirs = |name: &str| name.starts_with("__");
    let exports: Vec<_> =
        module.exports.iter().filter(|export| theirs(&export.name)).map(|export| export.id()).collect();
    for export in exports {
        module.exports.delete(export);
    }
    walrus::passes::gc::run(module);
    ensure!(module.imports.iter().next().is_none(), "the module has imports");
    Ok(module.emit_wasm())
}

fn run(folder: &Path, program: &str, arguments: &[OsString]) -> Result<()> {
    let done = Command::new(program).args(arguments).current_dir(folder).status();
    ensure!(done.with_context(|| format!("{program} is not there"))?.success(), "{program} failed");
    Ok(())
}
