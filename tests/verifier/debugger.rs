//! The host's signature debugger: what it is made of, without its page.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::{Engine, prelude::BASE64_STANDARD};
use revnoxa_verifier::{Key, StandardKey};
use tempfile::TempDir;

use crate::package::{built, installed, run};

fn host() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host")
}

#[test]
fn the_host_serves_what_the_package_builds_to() {
    installed();
    let served = fs::read(host().join("assets/webhook-verifier.js")).unwrap();
    let is_served = fs::read(built().join("webhook-verifier.js")).unwrap() == served;
    assert!(is_served, "host/assets/webhook-verifier.js is not this package's; renew it: cargo run -p build-npm host");
}

#[test]
fn the_diagnosis_finds_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    for asset in fs::read_dir(host().join("assets")).unwrap() {
        let asset = asset.unwrap();
        fs::copy(asset.path(), folder.path().join(asset.file_name())).unwrap();
    }
    // Node takes a .js file for a module only where a manifest says so.
    fs::write(folder.path().join("package.json"), r#"{"type":"module"}"#).unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier/diagnose.test.mjs");
    run(Command::new("node").arg("--test").arg(tests).env("ASSETS", folder.path()));
}

#[test]
fn the_commands_for_a_terminal_print_both_signatures() {
    let secret = format!("whsec_{}", BASE64_STANDARD.encode([0xfb; 32]));
    let body = "{\"id\":\"evt_1\",\"title\":\"Café\"}\n";
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("body.json"), body).unwrap();
    let page = fs::read_to_string(host().join("templates/settings/debugger.html")).unwrap();
    let commands = page.split("<pre tabindex=\"0\"><code>").skip(1).map(|rest| rest.split("</code>").next().unwrap());
    let printed: Vec<String> = commands
        .map(|command| {
            let mut shell = Command::new("sh");
            shell.args(["-c", command]).current_dir(folder.path());
            let output =
                shell.env("SECRET", &secret).env("ID", "evt_1").env("TIMESTAMP", "1767225600").output().unwrap();
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
        })
        .collect();
    let hex = Key::parse(&secret).unwrap().sign(body.as_bytes());
    let standard = StandardKey::parse(&secret).unwrap().sign("evt_1", 1_767_225_600, body.as_bytes());
    assert_eq!(printed, [hex.as_str(), standard.as_str()]);
}
