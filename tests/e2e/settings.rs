//! Settings of the real binary: what it refuses, and where it takes them from.

use base64::{Engine, prelude::BASE64_STANDARD};
use revnoxa_tests::{Machine, Receiver};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_master_key_refuses_to_start_and_loses_nothing() {
    let machine = Machine::new();
    let receiver = Receiver::answering([200]).await;
    let host = machine.serve().await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    host.kill9().await;

    let wrong = BASE64_STANDARD.encode([1; 32]);
    let machine = machine.set("REVNOXA_MASTER_KEY", &wrong);
    let refused = machine.run(&["serve"]).await;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.to_lowercase().contains("master") && said.to_lowercase().contains("key"), "{said}");
    assert!(!said.contains(&wrong), "{said}");

    let machine = machine.set("REVNOXA_MASTER_KEY", &BASE64_STANDARD.encode([9; 32]));
    let _host = machine.serve().await;
    assert_eq!(endpoint.state().await, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_used_refuse_to_start_and_name_the_key() {
    let cases = [
        ("REVNOXA_LISTEN", "nowhere", "listen"),
        ("REVNOXA_DATABASE_URL", "mysql://x", "database_url"),
        ("REVNOXA_MASTER_KEY", "c2hvcnQ=", "master_key"),
        ("REVNOXA_OPERATOR_TOKEN", "short", "operator_token"),
        ("REVNOXA_ALLOW_INSECURE_ENDPOINTS", "maybe", "allow_insecure_endpoints"),
        ("REVNOXA_RETRY_DELAYS", "30 parsecs", "retry_delays"),
        ("REVNOXA_ATTEMPT_TIMEOUT", "0s", "attempt_timeout"),
        ("REVNOXA_LEASE", "1s", "lease"),
        ("REVNOXA_EXTRA_CA", "/nowhere/ca.pem", "extra_ca"),
        ("REVNOXA_NO_SUCH_SETTING", "1", "no_such_setting"),
    ];
    for (name, value, key) in cases {
        let refused = Machine::new().set(name, value).run(&["serve"]).await;
        assert!(!refused.status.success(), "{name}={value}");
        let said = String::from_utf8_lossy(&refused.stderr).to_lowercase();
        assert!(said.contains(key), "{name}={value}: {said}");
    }
    let refused = Machine::new().unset("REVNOXA_MASTER_KEY").run(&["serve"]).await;
    assert!(!refused.status.success(), "serve makes no key of its own");
    let said = String::from_utf8_lossy(&refused.stderr).to_lowercase();
    assert!(said.contains("master_key"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settings_file_is_read_and_the_environment_wins() {
    let machine = Machine::new().unset("REVNOXA_ALLOW_INSECURE_ENDPOINTS");
    let file = machine.dir().join("revnoxa.toml");
    let path = file.to_str().unwrap().to_owned();
    std::fs::write(&file, "listen = \"not an address\"\nallow_insecure_endpoints = true\nretry_delays = [\"1s\"]\n")
        .unwrap();
    let _host = machine.start_serving(&["serve", "--config", &path]).await;
    let receiver = Receiver::answering([200]).await;
    assert_eq!(machine.tenant("acme").await.endpoint(&receiver).await.created["state"], "active");

    std::fs::write(&file, "allow_insecure_endpoint = true\n").unwrap();
    let refused = machine.run(&["serve", "--config", &path]).await;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("allow_insecure_endpoint"), "{said}");
    let missing = machine.run(&["serve", "--config", "missing.toml"]).await;
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("missing.toml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_on_the_same_file_is_refused_and_the_first_goes_on() {
    let machine = Machine::on_a_file();
    let _host = machine.serve().await;
    let refused = machine.run(&["serve"]).await;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("revnoxa.db"), "it names the file: {said}");
    machine.operator().get("/v1/tenants").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_makes_the_database_and_may_be_repeated() {
    let machine = Machine::on_a_file();
    for _ in 0..2 {
        let migrated = machine.run(&["migrate"]).await;
        assert!(migrated.status.success(), "{migrated:?}");
    }
    assert!(machine.dir().join("data/revnoxa.db").exists());
    let _host = machine.serve().await;
}
