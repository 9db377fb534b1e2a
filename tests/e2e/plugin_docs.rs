//! What the plugins' READMEs say is true: their examples and tutorials run, with the author's command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::SystemTime;

use revnoxa_tests::{Host, Receiver, binary, verify};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::plugin_flow::{attach, upload};

const IN_RUST: [&str; 3] = ["only-matching", "redact-fields", "slack-message"];
/// Each takes its engine along, and the compiler ten seconds.
const WITH_ENGINE: [&str; 2] = ["js-example", "python-example"];

/// On a slow machine, or one that builds at the same time, an engine of another language needs more than 100 ms for its start and
/// more than 30 s of CPU time to be compiled.
const PATIENCE: [(&str, &str); 2] = [("REVNOXA_PLUGINS_TIMEOUT", "5s"), ("REVNOXA_PLUGINS_COMPILE_TIME", "5m")];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Runs a program to its end and fails the test unless it succeeds.
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    output
}

/// Every example as a component, built by the one command that the README names, unless none of its files changed since.
fn components() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = repository().join("target/plugins");
        let made =
            |name: &&str| std::fs::metadata(built.join(format!("{name}.wasm"))).and_then(|file| file.modified()).ok();
        let oldest = IN_RUST.iter().chain(&WITH_ENGINE).map(made).min().flatten();
        if oldest.is_none_or(|oldest| newest_source(&repository().join("plugins")) > oldest) {
            run(Command::new("plugins/build").current_dir(repository()));
        }
        built
    })
}

fn newest_source(folder: &Path) -> SystemTime {
    const MADE: [&str; 4] = ["node_modules", "dist", ".venv", "__pycache__"];
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let sources = entries.filter(|entry| MADE.iter().all(|made| entry.file_name() != *made));
    let newest = |path: PathBuf| match path.is_dir() {
        true => newest_source(&path),
        false => std::fs::metadata(path).unwrap().modified().unwrap(),
    };
    sources.map(|entry| newest(entry.path())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn component(name: &str) -> PathBuf {
    components().join(format!("{name}.wasm"))
}

/// A fenced block of a README: its language, its file's name if it has one, its text.
struct Block {
    language: String,
    file: Option<String>,
    text: String,
}

/// The fenced blocks of a part of a README; `heading` is its line, and all of it when that is empty.
fn blocks(readme: &Path, heading: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(readme).unwrap();
    let part = match heading {
        "" => text.as_str(),
        heading => {
            let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no `{heading}`"));
            rest.split("\n## ").next().unwrap()
        }
    };
    let mut blocks = Vec::new();
    let mut lines = part.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let (language, file) =
            info.split_once(" file=").map_or((info, None), |(language, file)| (language, Some(file)));
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(Block {
            language: language.to_owned(),
            file: file.map(str::to_owned),
            text: text.join("\n") + "\n",
        });
    }
    blocks
}

fn named(blocks: &[Block], file: &str) -> Option<String> {
    blocks.iter().find(|block| block.file.as_deref() == Some(file)).map(|block| block.text.clone())
}

/// `plugin run` with an event and settings given as text; what it printed.
fn plugin_run(component: &Path, event: &str, settings: &str) -> Value {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (event, settings) = (write("event.json", event), write("settings.json", settings));
    let mut command = Command::new(binary());
    command.args(["plugin", "run"]).arg(component).arg("--event").arg(event).arg("--settings").arg(settings);
    command.envs(PATIENCE);
    serde_json::from_slice(&run(&mut command).stdout).unwrap()
}

#[test]
fn each_example_does_what_its_readme_shows() {
    for name in IN_RUST {
        let blocks = blocks(&repository().join("plugins").join(name).join("README.md"), "");
        let settings = named(&blocks, "settings.json").unwrap();
        if let (Some(before), Some(after)) = (named(&blocks, "before.json"), named(&blocks, "after.json")) {
            let ran = plugin_run(&component(name), &before, &settings);
            let sent: Value = serde_json::from_str(ran["request"]["body"].as_str().expect("a request")).unwrap();
            assert_eq!(sent, serde_json::from_str::<Value>(&after).unwrap(), "{name}");
        } else {
            let delivered = plugin_run(&component(name), &named(&blocks, "delivered.json").unwrap(), &settings);
            assert_eq!(delivered["verdict"], "deliver", "{name}");
            let dropped = plugin_run(&component(name), &named(&blocks, "dropped.json").unwrap(), &settings);
            assert_eq!(dropped["reason"], named(&blocks, "reason").unwrap().trim(), "{name}");
        }
    }
}

#[test]
fn the_examples_in_other_languages_pass_their_own_tests() {
    components();
    run(Command::new("npm").arg("test").current_dir(repository().join("plugins/js-example")));
    let python = ["-m", "unittest", "discover", "test"];
    let folder = repository().join("plugins/python-example");
    run(Command::new("python3").args(python).env("PYTHONPATH", "src").current_dir(folder));
}

#[test]
fn the_built_in_plugins_are_built_from_their_sources() {
    run(Command::new("plugins/build").arg("--check").current_dir(repository()));
}

/// Writes the blocks of a tutorial into an empty folder beside the contract and runs its commands.
fn follow(heading: &str) {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("my-plugin");
    let plugins = repository().join("plugins");
    std::fs::create_dir_all(folder.join("src")).unwrap();
    std::os::unix::fs::symlink(plugins.join("wit"), root.path().join("wit")).unwrap();
    // The tutorials take the repository for a clone of that name beside them.
    std::os::unix::fs::symlink(repository(), root.path().join("revnoxa")).unwrap();
    let mut commands = String::from("set -eu\n");
    for block in blocks(&plugins.join("README.md"), heading) {
        match (&block.file, block.language.as_str()) {
            (Some(file), _) => std::fs::write(folder.join(file), block.text).unwrap(),
            (None, "sh") => commands += &block.text,
            (None, _) => {}
        }
    }
    assert!(commands.contains("plugin run"), "{heading} has no commands");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", binary().parent().unwrap().display());
    let mut shell = Command::new("bash");
    shell.args(["-c", &commands]).current_dir(&folder).env("PATH", path).envs(PATIENCE);
    // Cargo tells its children about the package it runs for; theirs is another.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") && name != "CARGO_HOME") {
        shell.env_remove(name);
    }
    let output = run(&mut shell);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("is a plugin") && printed.contains(r#""verdict": "deliver""#), "{heading}: {printed}");
}

#[test]
fn the_rust_tutorial_works() {
    follow("## In Rust: your first plugin in 20 lines");
}

#[test]
fn the_javascript_tutorial_works() {
    follow("## In JavaScript");
}

#[test]
fn the_python_tutorial_works() {
    follow("## In Python");
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_in_javascript_and_python_transform_deliveries() {
    // As `PATIENCE`.
    let patient = |config: &mut revnoxa_host::config::Config| {
        config.plugins.timeout = std::time::Duration::from_secs(5);
        config.plugins.compile_time = std::time::Duration::from_secs(300);
    };
    let host = Host::builder().with(patient).start().await;
    // The event of both has the same id; `acme` is what the Python example's README shows.
    for (name, tenant) in WITH_ENGINE.into_iter().zip(["other", "acme"]) {
        let customer = host.tenant(tenant).await;
        let blocks = blocks(&repository().join("plugins").join(name).join("README.md"), "");
        let read = |file: &str| serde_json::from_str::<Value>(&named(&blocks, file).unwrap()).unwrap();
        let (settings, before, after) = (read("settings.json"), read("before.json"), read("after.json"));
        customer.post("/plugins", json!({"name": name})).await.expect(201);
        upload(&customer, name, std::fs::read(component(name)).unwrap()).await.expect(201);
        let receiver = Receiver::answering([200]).await;
        let endpoint = customer.endpoint(&receiver).await;
        attach(&endpoint, json!([{"plugin": name, "settings": settings}])).await.expect(200);
        let mut event = before.clone();
        event["tenant"] = json!(tenant);
        let posted = host.producer().await.post("/v1/events", event).await.expect(202);
        assert_eq!(posted["deliveries"], 1);
        let request = &receiver.wait_for(1).await[0];
        assert_eq!(request.json(), after, "{name}");
        verify::both_signatures(&endpoint.secret, request, host.now());
        endpoint.delete("").await.expect(204);
    }
}
