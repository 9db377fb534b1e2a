//! Signature checks that share no code with the host: OpenSSL and the npm package `standardwebhooks`.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{npm, receiver::Received};

/// Fails the test unless both signatures of the request are the ones of this secret.
#[track_caller]
pub fn both_signatures(secret: &str, request: &Received, now: Timestamp) {
    let signature = request.header("x-revnoxa-signature").expect("it is signed");
    assert_eq!(signature, openssl_hmac(secret, &request.body));
    standard_webhooks(secret, request, now).unwrap();
}

/// What `openssl dgst -sha256 -hmac "$SECRET"` prints for these bytes: lowercase hex.
///
/// Where the `openssl` command is missing, Node's `crypto` (also OpenSSL) answers instead.
pub fn openssl_hmac(secret: &str, body: &[u8]) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-hmac", secret]);
    let printed = run(&mut openssl, body).unwrap_or_else(|_| {
        let script = "process.stdout.write(require('crypto').createHmac('sha256', \
                      process.argv[1]).update(require('fs').readFileSync(0)).digest('hex'))";
        run(Command::new("node").args(["-e", script, secret]), body)
            .expect("the signature checks need openssl or Node.js on the PATH")
    });
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    printed.split_whitespace().last().unwrap().to_owned()
}

/// Whether the npm package `standardwebhooks` accepts the request, as a receiver whose clock shows `now`.
pub fn standard_webhooks(secret: &str, request: &Received, now: Timestamp) -> Result<(), String> {
    let headers: Map<String, Value> =
        request.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let input = json!({
        "secret": secret,
        "headers": headers,
        "body": BASE64_STANDARD.encode(&request.body),
        "now_ms": now.as_millisecond(),
    });
    let mut node = Command::new("node");
    node.arg(npm::directory().join("js/standard-webhooks.mjs"));
    let checked =
        run(&mut node, input.to_string().as_bytes()).expect("the signature checks need Node.js (>= 20) on the PATH");
    match checked.status.code() {
        Some(0) => Ok(()),
        _ => Err(String::from_utf8_lossy(&checked.stderr).into_owned()),
    }
}

fn run(command: &mut Command, input: &[u8]) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().unwrap().write_all(input)?;
    child.wait_with_output()
}
