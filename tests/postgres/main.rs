//! The end-to-end tests once more, on a throw-away PostgreSQL server: `cargo test --test postgres`. Arguments go to them.

use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use revnoxa_tests::{HOW_TO_INSTALL, POSTGRES, Postgres};

/// What authors of plugins do takes minutes, and is the same whatever the host's database is.
const WITHOUT_DATABASE: &str = "plugin_docs::";

fn main() -> ExitCode {
    let Some(server) = Postgres::start() else {
        eprintln!("\n  SKIPPED: all end-to-end tests on PostgreSQL. {HOW_TO_INSTALL}.\n");
        return ExitCode::SUCCESS;
    };
    let mut tests = Command::new(end_to_end_tests());
    tests.args(["--skip", WITHOUT_DATABASE]).args(std::env::args_os().skip(1)).env(POSTGRES, server.url());
    if tests.status().unwrap().success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The program of the target `e2e`, built now if it is not there as it should be.
fn end_to_end_tests() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile_dir = own.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let mut cargo = Command::new(env!("CARGO"));
    // All packages, so that nothing is compiled once more with other features after `cargo test --workspace`.
    cargo
        .args(["test", "--no-run", "--quiet", "--message-format=json", "--workspace", "--test", "e2e", "--target-dir"])
        .arg(profile_dir.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.stderr(Stdio::inherit()).output().unwrap();
    assert!(built.status.success(), "the end-to-end tests do not build");
    let messages = serde_json::Deserializer::from_slice(&built.stdout).into_iter::<serde_json::Value>();
    let program = |message: serde_json::Value| {
        (message["target"]["name"] == "e2e").then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    messages.filter_map(|message| program(message.unwrap())).last().expect("cargo names the program")
}
