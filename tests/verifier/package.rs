//! The packed tarball, installed in `verifier-wasm/test` beside the frameworks and runtimes that it is tried in.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of the tests in JavaScript, with their npm packages and the tarball installed.
pub(super) fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let test = workspace.join("verifier-wasm/test");
        // The folder is for one run of the tests at a time: until its process ends.
        let turn = std::fs::File::open(&test).unwrap();
        turn.lock().unwrap();
        std::mem::forget(turn);
        // All packages, so that nothing is compiled once more with other features after `cargo test --workspace`.
        let build = ["build", "--quiet", "--workspace", "--bin", "build-npm"];
        run(Command::new(env!("CARGO")).args(build).current_dir(workspace));
        run(Command::new(target().join("debug/build-npm")).arg("pack").current_dir(workspace));
        let lock = test.join("package-lock.json");
        let installed = test.join("node_modules/.package-lock.json");
        let age = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
        if age(&installed) < age(&lock) {
            run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&test));
        }
        let package = test.join("node_modules/@revnoxa/webhook-verifier");
        if package.exists() {
            std::fs::remove_dir_all(&package).unwrap();
        }
        std::fs::create_dir_all(&package).unwrap();
        run(Command::new("tar").arg("xzf").arg(tarball()).arg("--strip-components=1").current_dir(&package));
        test
    })
}

fn tarball() -> PathBuf {
    built().join(format!("revnoxa-webhook-verifier-{}.tgz", env!("CARGO_PKG_VERSION")))
}

/// Where the package is built, and what the host serves of it.
pub(super) fn built() -> PathBuf {
    target().join("webhook-verifier")
}

fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

pub(super) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
}

/// Runs a file's tests in Node; those of the tarball itself find it in `TARBALL`.
fn node_tests(file: &str) {
    run(Command::new("node").args(["--test", file]).current_dir(installed()).env("TARBALL", tarball()));
}

#[test]
fn the_package_keeps_its_promises_in_node() {
    node_tests("core.test.mjs");
}

#[test]
fn no_forgery_is_accepted_and_nothing_genuine_is_refused() {
    node_tests("forgeries.test.mjs");
}

#[test]
fn what_the_npm_page_says_is_true() {
    node_tests("readme.test.mjs");
}

#[test]
fn node_deno_and_bun_verify() {
    node_tests("scripted.test.mjs");
}

#[test]
fn workerd_verifies() {
    node_tests("workerd.test.mjs");
}

#[test]
fn chromium_verifies() {
    if Command::new("chromium").arg("--version").output().is_ok() {
        return node_tests("chromium.test.mjs");
    }
    let skipped = "SKIPPED chromium.test.mjs: no chromium here; apt-get install chromium";
    assert!(std::env::var_os("CI").is_none(), "{skipped}");
    writeln!(std::io::stderr(), "{skipped}").unwrap();
}

#[test]
fn bundlers_keep_what_it_needs() {
    node_tests("bundlers.test.mjs");
}

#[test]
fn node_http_connect_and_express_receive() {
    node_tests("node.test.mjs");
}

#[test]
fn fastify_receives() {
    node_tests("fastify.test.mjs");
}

#[test]
fn hono_receives() {
    node_tests("hono.test.mjs");
}

#[test]
fn next_receives() {
    node_tests("next.test.mjs");
}

#[test]
fn its_types_and_manifest_are_right() {
    node_tests("types.test.mjs");
}

#[test]
fn its_command_verifies_and_signs() {
    node_tests("cli.test.mjs");
}

#[test]
fn the_crate_is_found_where_the_npm_page_says() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(workspace.join("verifier-wasm/README.md")).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (dependencies, _) = rest.split_once("```\n").unwrap();
    // The page takes the repository for a clone of that name beside the receiver.
    let root = tempfile::TempDir::new().unwrap();
    std::os::unix::fs::symlink(workspace, root.path().join("revnoxa")).unwrap();
    let receiver = root.path().join("receiver");
    std::fs::create_dir_all(receiver.join("src")).unwrap();
    std::fs::write(receiver.join("src/lib.rs"), "").unwrap();
    let manifest = format!("[package]\nname = \"receiver\"\nedition = \"2024\"\n\n{dependencies}");
    std::fs::write(receiver.join("Cargo.toml"), manifest).unwrap();
    // What this workspace was built with is there without the network.
    std::fs::copy(workspace.join("Cargo.lock"), receiver.join("Cargo.lock")).unwrap();
    run(Command::new(env!("CARGO")).args(["tree", "--offline"]).current_dir(&receiver));
}

/// With a path in it, the package would not be the same bytes wherever it is built; `verifier-wasm/reproduce` builds two.
#[test]
fn the_package_does_not_tell_where_it_was_built() {
    let dist = installed().join("node_modules/@revnoxa/webhook-verifier/dist");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let home = std::env::home_dir().map(|home| home.join(".cargo"));
    let places: Vec<String> =
        [Some(workspace), target, home].into_iter().flatten().map(|place| place.display().to_string()).collect();
    for file in std::fs::read_dir(dist).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let told = places.iter().find(|place| text.contains(*place));
        assert_eq!(told, None, "{}", path.display());
    }
}
