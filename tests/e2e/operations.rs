//! What operators are given: metrics and their dashboard, logs, the files to install it with, all as they are said to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use revnoxa_host::config::Config;
use revnoxa_tests::{Answer, Gate, Machine, Receiver, eventually, on_postgres};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Type and meaning of each metric, by name.
type Described = BTreeMap<String, (String, String)>;

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_every_documented_metric_is_served() {
    let machine = Machine::new().set("REVNOXA_EVENT_RATE_LIMIT", "1/1h");
    let _host = machine.serve().await;
    let receiver = Receiver::answering([500, 200]).await;
    let acme = machine.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    // A plugin that fails, and a delivery that does.
    let broken = json!({"items": [{"plugin": "redact-fields", "settings": {"felds": []}, "on_error": "skip"}]});
    endpoint.request("PUT", "/plugins").json(&broken).send().await.expect(200);
    let event = acme.event("incident.created", json!({})).await;
    endpoint.attempted(1, &event).await;
    let beyond = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    machine.producer().await.post("/v1/events", beyond).await.expect_problem(429, "rate-limited");

    let documented = documented();
    let mut wanted = documented.clone();
    if !on_postgres() {
        wanted.remove("revnoxa_clock_skew_seconds").expect("documented");
    }
    let mut served = Described::new();
    // What is due is counted soon after the start, not at it.
    eventually("every documented metric", async || {
        served = described(&machine.anyone().get("/metrics").await.expect(200).text);
        wanted.keys().all(|name| served.contains_key(name)).then_some(())
    })
    .await;
    assert_eq!(served, wanted);
}

/// The table of the documentation.
fn documented() -> Described {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let (name, kind) = (cells.next()?.strip_suffix('`')?, cells.next()?);
        let meaning = cells.next()?.strip_suffix(" |")?;
        Some((name.to_owned(), (kind.to_owned(), meaning.to_owned())))
    };
    let text = text("host/operations/README.md");
    let (_, table) = text.split_once("| metric | type | meaning |").expect("a table of metrics");
    let documented: Described = table.lines().skip(2).map_while(row).collect();
    assert!(documented.len() > 30, "does this test still read the documentation? {documented:?}");
    documented
}

/// What `/metrics` says of each metric that it shows.
fn described(metrics: &str) -> Described {
    let of = |mark: &str| {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(mark)?.split_once(' '));
        lines.map(|(name, what)| (name.to_owned(), what.to_owned())).collect::<BTreeMap<String, String>>()
    };
    let (kinds, meanings) = (of("# TYPE "), of("# HELP "));
    kinds
        .into_iter()
        .map(|(name, kind)| {
            let meaning = meanings.get(&name).cloned().unwrap_or_default();
            (name, (kind, meaning))
        })
        .collect()
}

#[test]
fn the_dashboard_shows_every_metric_and_asks_for_no_other_and_so_do_the_alerts() {
    let documented = documented();
    let dashboard: Value = serde_json::from_str(&text("host/operations/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let expressions = panel["targets"].as_array().map_or(&[][..], |targets| &targets[..]);
        assert!(!expressions.is_empty() || panel["type"] == "row", "{title} asks for nothing");
        for target in expressions {
            let names = names(target["expr"].as_str().expect("an expression"));
            assert!(!names.is_empty(), "{title}: {target}");
            asked.extend(names);
        }
    }
    let shown: BTreeSet<&str> = asked.iter().filter_map(|name| metric_of(name, &documented)).collect();
    let unseen: Vec<&String> = documented.keys().filter(|name| !shown.contains(name.as_str())).collect();
    assert!(unseen.is_empty(), "no panel shows {unseen:?}");
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        asked.extend(names(variable["query"]["query"].as_str().unwrap_or_default()));
    }
    let unknown: Vec<&String> = asked.iter().filter(|name| metric_of(name, &documented).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for file in ["host/operations/README.md", "README.md"] {
        let named = names(&text(file));
        let unknown: Vec<&String> = named.iter().filter(|name| !documented.contains_key(*name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| ["revnoxa_", "process_"].iter().any(|prefix| word.starts_with(prefix));
    // The crate, as `RUST_LOG` has it.
    words.filter(ours).filter(|word| *word != "revnoxa_host").map(str::to_owned).collect()
}

/// The metric that a query for this series finds: of histograms there are three series each.
fn metric_of<'n>(name: &'n str, documented: &Described) -> Option<&'n str> {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    match documented.get(name) {
        Some((kind, _)) => (kind != "histogram").then_some(name),
        None => of_histogram.filter(|name| documented.get(*name).is_some_and(|(kind, _)| kind == "histogram")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_shows() {
    let machine = Machine::new()
        .set("REVNOXA_MAX_IN_FLIGHT", "1")
        .set("REVNOXA_MAX_IN_FLIGHT_PER_ENDPOINT", "1")
        .set("REVNOXA_ATTEMPT_TIMEOUT", "60s")
        .set("REVNOXA_LEASE", "90s");
    let _host = machine.serve().await;
    let gate = Gate::closed();
    let receiver = Receiver::answering([Answer::status(200).behind(&gate)]).await;
    let acme = machine.tenant("acme").await;
    acme.endpoint(&receiver).await;
    for _ in 0..20 {
        acme.event("incident.created", json!({})).await;
    }
    let value = async |name: &str| -> f64 {
        let metrics = machine.anyone().get("/metrics").await.expect(200);
        let line = metrics.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.map_or(0.0, |value| value.parse().unwrap())
    };
    eventually("what is due to be counted", async || {
        let due = value("revnoxa_deliveries_due").await;
        (due > 0.0 && value("revnoxa_deliveries_oldest_due_seconds").await > 0.0).then_some(())
    })
    .await;
    let waiting = value("revnoxa_deliveries_due").await + value("revnoxa_deliveries_leased_waiting").await;
    assert!((10.0..=20.0).contains(&waiting), "all but the one under way: {waiting}");
    assert_eq!(value("revnoxa_attempts_running").await, 1.0);
    assert_eq!(value("revnoxa_attempts_running_limit").await, 1.0);
    assert_eq!(value("revnoxa_endpoints_with_due_deliveries").await, 1.0);
    assert_eq!(value("revnoxa_events_total").await, 20.0);
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_json_lines_that_read_alone() {
    let machine = Machine::new().set("RUST_LOG", "info,revnoxa_host=debug");
    let mut host = machine.serve().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    host.terminate();
    assert!(host.exit().await.success());
    let printed = host.printed();
    let logged: Vec<Value> = printed
        .lines()
        .filter(|line| !line.starts_with("listening on "))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    // Libraries have their own ways, but JSON it is.
    for line in logged.iter().filter(|line| line["target"].as_str().is_some_and(|at| at.starts_with("revnoxa_host"))) {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
    }
    let attempted = logged.iter().find(|line| line["delivery.id"] == delivery["id"]).expect("a line on the attempt");
    assert_eq!(attempted["endpoint.id"], endpoint.id.as_str());
    assert_eq!(attempted["status_code"], 200);
    assert!(attempted["duration_ms"].is_u64(), "{attempted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unit_starts_what_there_is_and_gives_it_the_time_it_takes() {
    let unit = text("host/operations/revnoxa-host.service");
    let setting = |name: &str| {
        let mut values = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values.next().unwrap_or_else(|| panic!("the unit has no {name}"))
    };
    let mut command = setting("ExecStart").split(' ');
    assert!(command.next().unwrap().ends_with("/revnoxa-host"));
    accepts(&command.collect::<Vec<_>>()).await;
    assert_eq!(setting("WorkingDirectory"), format!("/var/lib/{}", setting("StateDirectory")));
    // What is not absolute in the defaults is below it.
    let defaults = Config::default();
    assert!(defaults.data_dir.is_relative() && defaults.database_url.reveal() == "sqlite://data/revnoxa.db");
    let stop = Duration::from_secs(setting("TimeoutStopSec").parse().unwrap());
    assert!(stop > defaults.shutdown_grace + Duration::from_secs(5), "{stop:?}");
    for (name, value) in [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("UMask", "0077"),
    ] {
        assert_eq!(setting(name), value, "{name}");
    }
    assert!(setting("LimitNOFILE").parse::<u32>().unwrap() >= 65_536);
    // Wasmtime makes pages executable that it has written.
    assert!(!unit.lines().any(|line| line.starts_with("MemoryDenyWriteExecute")));
    for (name, value) in variables(&unit) {
        is_setting(&name, &value);
    }
    verify_unit(&unit);
}

/// As systemd reads it, where that is there.
fn verify_unit(unit: &str) {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("revnoxa-host.service");
    fs::write(&file, unit.replace("/usr/bin/revnoxa-host", "/bin/true")).unwrap();
    let verify = std::process::Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output();
    let Ok(verify) = verify else { return };
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains("revnoxa-host")).collect();
    assert!(about_it.is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_is_built_from_what_there_is_with_the_pinned_toolchain() {
    let dockerfile = text("host/operations/Dockerfile");
    let toolchain: toml::Table = text("rust-toolchain.toml").parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    assert!(dockerfile.contains(&format!("\nFROM rust:{channel}-")), "{channel}");
    assert!(dockerfile.contains(&format!("\nENV RUSTUP_TOOLCHAIN={channel}\n")));
    assert!(dockerfile.contains("--file host/operations/Dockerfile "), "its own place");
    let manifest: toml::Table = text("host/Cargo.toml").parse().unwrap();
    let (package, binary) = (&manifest["package"]["name"], &manifest["bin"][0]["name"]);
    assert!(dockerfile.contains(&format!("--package {} ", package.as_str().unwrap())));
    assert!(dockerfile.contains(&format!(" target/release/{} ", binary.as_str().unwrap())));
    let list = |instruction: &str| -> Vec<String> {
        let line = dockerfile.lines().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' ')).next_back();
        serde_json::from_str(line.unwrap_or_else(|| panic!("no {instruction}"))).unwrap()
    };
    assert_eq!(list("ENTRYPOINT"), [binary.as_str().unwrap()]);
    accepts(&list("CMD").iter().map(String::as_str).collect::<Vec<_>>()).await;
    let user = dockerfile.lines().filter_map(|line| line.strip_prefix("USER ")).next_back().expect("a user");
    assert!(user.parse::<u32>().is_ok_and(|user| user > 0), "a number, for runAsNonRoot: {user}");
    let variables = variables(&dockerfile);
    assert!(!variables.is_empty());
    for (name, value) in variables {
        is_setting(&name, &value);
    }
}

/// The binary takes these arguments.
async fn accepts(arguments: &[&str]) {
    let help = Machine::bare().run(&[arguments, &["--help"]].concat()).await;
    assert!(help.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&help.stderr));
}

/// Variables of ours in a file: those that are named, and those that are set.
fn variables(text: &str) -> Vec<(String, Option<String>)> {
    let words =
        text.split(|c: char| c.is_whitespace() || "(),…".contains(c)).filter(|word| word.starts_with("REVNOXA_"));
    words
        .map(|word| match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned()).filter(|value| !value.is_empty())),
            None => (word.trim_end_matches([':', '.', ';']).to_owned(), None),
        })
        .collect()
}

fn is_setting(name: &str, value: &Option<String>) {
    let given = value.as_deref().unwrap_or("x");
    let loaded = Config::load(None, [(name.to_owned(), given.to_owned())]);
    let said = loaded.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(!said.contains("unknown field"), "{name}: {said}");
    assert!(value.is_none() || said.is_empty(), "{name}={given}: {said}");
}

#[test]
fn the_documentation_names_files_and_settings_that_there_are() {
    for file in ["host/operations/README.md", ".github/SECURITY.md"] {
        let text = text(file);
        let folder = root().join(file).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let path = link.split('#').next().unwrap();
            assert!(link.starts_with("https://") || folder.join(path).exists(), "{file}: {link}");
        }
        for (name, _) in variables(&text.replace('`', " ")) {
            is_setting(&name, &None);
        }
    }
}
