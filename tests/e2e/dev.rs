//! A newcomer's two commands: `dev` and `listen`.

use std::{os::unix::fs::PermissionsExt, process::Command};

use revnoxa_tests::{HostProcess, Machine, Reply, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn dev_prints_a_curl_that_posts_an_incident_and_listen_shows_it_verified() {
    let machine = Machine::bare();
    let dev = machine.start_serving(&["dev"]).await;
    let curl = curl_in(&dev).await;
    let mut listen = machine.spawn(&["listen"]);
    listen.line("the test event", |line| line.contains("webhook.test").then_some(())).await;

    let event = run_curl(&machine, &curl).await.expect(202);
    assert_eq!(event["deliveries"], 1);
    listen.line("the incident", |line| line.contains("incident.created").then_some(())).await;
    let id = event.text_of("id").to_owned();
    eventually("listen to show the event whole", async || {
        let printed = listen.printed();
        let (_, incident) = printed.split_once(&id)?;
        (incident.contains("X-Revnoxa-Signature ok, webhook-signature ok") && incident.contains('}')).then_some(())
    })
    .await;
    assert!(!listen.printed().contains("WRONG"), "{}", listen.printed());

    listen.terminate();
    assert!(listen.exit().await.success(), "{}", listen.printed());
    assert_eq!(run_curl(&machine, &curl).await.expect(202)["deliveries"], 0, "it took its endpoint along");
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_keeps_its_key_to_itself_and_shows_tokens_once() {
    let machine = Machine::bare();
    let mut dev = machine.start_serving(&["dev"]).await;
    let curl = curl_in(&dev).await;
    let key = machine.dir().join("data/master.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let printed = dev.printed();
    // The producer's is in the curl command, which is printed at every start.
    let shown_once = ["rvx_operator_", "rvx_tenant_"]
        .map(|kind| printed.split_whitespace().find(|word| word.starts_with(kind)).expect("a token"));
    dev.terminate();
    let status = dev.exit().await;
    assert!(status.success(), "{status}:\n{}", dev.printed());

    let again = machine.start_serving(&["dev"]).await;
    assert!(again.printed().contains("curl "));
    run_curl(&machine, &curl).await.expect(202);
    for token in shown_once {
        machine.anyone().with_token(token).get("/v1/event-types").await.expect(200);
        assert!(!again.printed().contains(token), "shown again:\n{}", again.printed());
    }
}

/// The copyable command that `dev` prints.
async fn curl_in(dev: &HostProcess) -> String {
    eventually("a whole curl command", async || {
        let printed = dev.printed();
        let (_, command) = printed.split_once("curl ")?;
        let mut whole = String::from("curl ");
        for line in command.lines() {
            whole += line;
            whole += "\n";
            if !line.trim_end().ends_with('\\') {
                return Some(whole);
            }
        }
        None
    })
    .await
}

/// What the command would do, done without curl: a shell splits its words, the harness sends them.
async fn run_curl(machine: &Machine, command: &str) -> Reply {
    let words = format!(r#"curl() {{ for word in "$@"; do printf '%s\0' "$word"; done; }}; {command}"#);
    let split = Command::new("sh").args(["-c", &words]).output().unwrap();
    let words = String::from_utf8(split.stdout).unwrap();
    let mut words = words.split_terminator('\0');
    let (mut path, mut headers, mut body) = (None, Vec::new(), None);
    while let Some(word) = words.next() {
        match word {
            "-X" | "--request" => assert_eq!(words.next(), Some("POST")),
            "-H" | "--header" => headers.push(words.next().unwrap().split_once(": ").unwrap()),
            "-d" | "--data" | "--json" | "--data-raw" => body = words.next(),
            option if option.starts_with('-') => {}
            url => path = Some(url.splitn(4, '/').nth(3).expect("a path").to_owned()),
        }
    }
    let path = format!("/{}", path.expect("a URL"));
    let mut request = machine.anyone().request("POST", &path);
    for (name, value) in headers.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type")) {
        request = request.header(name, value);
    }
    request.body(body.expect("a body")).send().await
}
