use std::fmt::Write;

use serde_json::Value;

use super::Browser;
use crate::npm;

/// Looks at the page as it is with [axe-core](https://github.com/dequelabs/axe-core); fails the test when something on it is
/// a serious or critical hindrance, and tells what, where and why. It needs a browser with scripts.
pub async fn axe(browser: &Browser) {
    let source = std::fs::read_to_string(npm::directory().join("node_modules/axe-core/axe.min.js")).unwrap();
    // WebDriver runs it whatever the page's policy for scripts is.
    browser.run(&source).await;
    let violations =
        browser.run("return axe.run(document, {resultTypes: ['violations']}).then(run => run.violations)").await;
    let violations = violations.as_array().expect("axe gives a list");
    let hinders = |violation: &&Value| matches!(violation["impact"].as_str(), Some("serious" | "critical"));
    let told: Vec<String> = violations.iter().filter(hinders).map(told).collect();
    assert!(told.is_empty(), "{} shuts people out:\n{}", browser.url().await, told.join("\n"));
}

fn told(violation: &Value) -> String {
    let text = |member: &str| violation[member].as_str().unwrap_or_default();
    let mut told = format!("{} ({}): {}, see {}\n", text("id"), text("impact"), text("help"), text("helpUrl"));
    for node in violation["nodes"].as_array().into_iter().flatten() {
        let why = node["failureSummary"].as_str().unwrap_or_default().replace('\n', "\n      ");
        writeln!(told, "    {} at {}\n      {why}", node["html"].as_str().unwrap_or_default(), node["target"]).unwrap();
    }
    told
}
