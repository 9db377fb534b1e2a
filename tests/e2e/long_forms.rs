//! The README's table of long forms: what its commands name is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_long_form_names_a_test_that_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (_, table) = readme.split_once("| the long form |").expect("a table of long forms");
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 9, "{rows:?}");
    for row in rows {
        let command = row.rsplit('`').nth(1).expect("a command");
        let words: Vec<&str> = command.split(' ').collect();
        let after = |option: &str| words.iter().position(|word| *word == option).map(|at| &words[at + 1..]);
        let (folder, rest) = if let Some(rest) = after("--lib") {
            (root.join("host/src"), rest)
        } else if let Some([_, rest @ ..]) = after("--sanitizer") {
            (root.join("tests/fuzz/fuzz_targets"), rest)
        } else {
            let kind = ["test", "bench"].into_iter().find_map(|kind| Some((kind, after(&format!("--{kind}"))?)));
            let Some((kind, [name, rest @ ..])) = kind else { panic!("what does `{command}` run?") };
            (root.join("tests").join(folder_of(kind, name)), rest)
        };
        let sources = sources(&folder);
        for (variable, _) in words.iter().filter_map(|word| word.split_once('=')) {
            let reads = format!("\"{variable}\"");
            assert!(sources.iter().any(|(_, text)| text.contains(&reads)), "nothing reads {variable} of `{command}`");
        }
        if let Some(filter) = rest.iter().find(|word| !word.starts_with('-')) {
            let ignored = command.contains("ignored");
            let found = sources.iter().any(|(path, text)| has(path, text, filter, ignored));
            assert!(found, "`{command}` finds no test");
        }
    }
}

/// Where the sources of a target of this package are.
fn folder_of(kind: &str, name: &str) -> PathBuf {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let mut targets = manifest[kind].as_array().unwrap().iter();
    let target = targets.find(|target| target["name"].as_str() == Some(name));
    let path = target.unwrap_or_else(|| panic!("there is no {kind} {name}"))["path"].as_str().unwrap();
    Path::new(path).parent().unwrap().to_owned()
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => fs::read_to_string(&path).map(|text| vec![(path, text)]).unwrap_or_default(),
    };
    paths.flat_map(read).collect()
}

/// Whether the filter finds a test in this file, by its module or its name; with `ignored`, one that is left out otherwise. A fuzz target
/// is a file.
fn has(path: &Path, text: &str, filter: &str, ignored: bool) -> bool {
    let is_module = path.with_extension("").iter().any(|part| part == filter);
    if text.contains("fuzz_target!") {
        return is_module;
    }
    let lines: Vec<&str> = text.lines().collect();
    (0..lines.len()).any(|at| {
        let line = lines[at].trim_start_matches("async ");
        let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next()) else { return false };
        let attributes = || lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        let is_test = attributes().any(|line| line.contains("test"));
        let is_ignored = attributes().any(|line| line.starts_with("#[ignore"));
        is_test && (is_module || name.contains(filter)) && (is_ignored || !ignored)
    })
}
