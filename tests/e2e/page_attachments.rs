//! What is attached to an endpoint, changed on its page as somebody without script does.

use revnoxa_tests::{Endpoint, Form, Host, Page, Reader, Receiver};
use serde_json::{Value, json};

use crate::page_hostile::{SCRIPT, assert_inert};
use crate::plugin_flow::{attach, only, plugin, redact};

async fn page(endpoint: &Endpoint, reader: &Reader) -> Page {
    reader.get(&format!("/settings/webhooks/endpoints/{}/plugins", endpoint.id)).await.expect(200)
}

async fn attached(endpoint: &Endpoint) -> Vec<Value> {
    endpoint.all("/plugins").await
}

fn names(attached: &[Value]) -> Vec<&str> {
    attached.iter().map(|one| one["plugin"].as_str().unwrap()).collect()
}

fn fields(form: &Form) -> Vec<Vec<String>> {
    ["plugin", "version", "settings", "on_error", "percent", "baseline", "order", "remove"]
        .map(|name| form.values(name))
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_attached_with_settings_and_order() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let reader = endpoint.tenant.sign_in().await;
    let empty = reader.get(&format!("/settings/webhooks/endpoints/{}", endpoint.id)).await.follow("Plugins (0)").await;
    let form = empty.form("Save").set("plugin", "redact-fields").set("settings", "{\"fields\":\n [\"/data/name\"]}");
    let saved = form.set("on_error", "drop").submit(&reader).await.expect(200);
    assert!(saved.one(".notice.ok").text().starts_with("Saved."), "{}", saved.text());
    let settings = &attached(&endpoint).await[0];
    assert_eq!((&settings["plugin"], &settings["on_error"]), (&json!("redact-fields"), &json!("drop")));
    assert_eq!(settings["settings"], json!({"fields": ["/data/name"]}));
    assert_eq!(saved.form("Save").values("settings")[0], "{\"fields\":\r\n [\"/data/name\"]}", "as it was typed");

    let filter = r#"{"field": "/data/name", "equals": "Ada"}"#;
    let form = saved.form("Save").set_in_row(1, "plugin", "only-matching").set_in_row(1, "settings", filter);
    let saved = form.set_in_row(1, "order", "1").submit(&reader).await.expect(200);
    assert_eq!(names(&attached(&endpoint).await), ["only-matching", "redact-fields"]);
    let legends: Vec<String> = saved.select("legend").iter().map(|legend| legend.text()).collect();
    assert_eq!(legends, ["only-matching", "redact-fields", "Add a plugin"]);
    // The filter sees the name, the receiver does not.
    let event = endpoint.tenant.event("incident.created", json!({"name": "Ada"})).await;
    endpoint.delivery_in("succeeded", &event).await;
    assert_eq!(receiver.received()[0].json()["data"]["name"], "[redacted]");

    saved.form("Save").set("order", "2").submit(&reader).await.expect(200);
    assert_eq!(names(&attached(&endpoint).await), ["redact-fields", "only-matching"]);
    let form = page(&endpoint, &reader).await.form("Save").check("remove", "0");
    form.submit(&reader).await.expect(200);
    assert_eq!(names(&attached(&endpoint).await), ["only-matching"]);
    page(&endpoint, &reader).await.form("Save").submit(&reader).await.expect(200);
    assert_eq!(attached(&endpoint).await[0]["settings"], json!({"field": "/data/name", "equals": "Ada"}));
    let bare = page(&endpoint, &reader).await.form("Save").check("remove", "0").submit(&reader).await.expect(200);
    assert_eq!((attached(&endpoint).await.len(), bare.select("fieldset").len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_runs_for_some_of_the_events() {
    let host = Host::start().await;
    let endpoint = host.tenant("acme").await.endpoint(&Receiver::answering([200]).await).await;
    let versions = plugin(&endpoint.tenant, "mine", &["redact-fields", "only-matching"]).await;
    attach(&endpoint, json!([{"plugin": "mine", "version": versions[0]}])).await.expect(200);
    let reader = endpoint.tenant.sign_in().await;
    let shown = page(&endpoint, &reader).await;
    let options: Vec<_> =
        shown.select("[name=version] option").iter().map(|option| option.attr("value").unwrap()).collect();
    assert_eq!(options, [&versions[1], &versions[0]], "the newest first");
    assert_eq!(shown.form("Save").values("version")[0], versions[0]);

    let form = shown.form("Save").set("version", &versions[1]).set("percent", "25").set("baseline", &versions[0]);
    let saved = form.submit(&reader).await.expect(200);
    let expected = json!({
        "plugin": "mine", "version": versions[1], "settings": {}, "on_error": "retry", "percent": 25, "baseline": versions[0],
    });
    assert_eq!(attached(&endpoint).await, [expected]);
    assert_eq!(saved.select("details[open] [name=percent]").len(), 1, "what is set is seen");
    let form = saved.form("Save").set("percent", "").set("baseline", "");
    form.submit(&reader).await.expect(200);
    assert_eq!(attached(&endpoint).await[0]["percent"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_breaks_a_rule_comes_back_as_it_was_filled_in() {
    let host = Host::start().await;
    let endpoint = host.tenant("acme").await.endpoint(&Receiver::answering([200]).await).await;
    endpoint.tenant.post("/plugins", json!({"name": "empty"})).await.expect(201);
    attach(&endpoint, json!([redact(&["/data/a"]), only("/data/b", "c")])).await.expect(200);
    let before = endpoint.get("/plugins").await.text;
    let reader = endpoint.tenant.sign_in().await;
    let form = page(&endpoint, &reader).await.form("Save").set_in_row(1, "order", "1").set_in_row(
        2,
        "plugin",
        "slack-message",
    );
    let form = form.set_in_row(0, "settings", "{\"fields\": [\"/typed\"]}").set("on_error", "skip");
    let cases = [
        (form.clone().set_in_row(1, "settings", "{\"field\": }"), "settings", "is not JSON: expected value"),
        (form.clone().set_in_row(2, "settings", "nothing"), "settings", "is not JSON"),
        (
            form.clone().set_in_row(0, "settings", &format!("\"{}\"", "x".repeat(65_536))),
            "settings",
            "at most 65536 bytes",
        ),
        (form.clone().set_in_row(0, "percent", "101"), "percent", "must be 0 to 100"),
        (form.clone().set_in_row(0, "percent", "half"), "percent", "must be 0 to 100"),
        (form.clone().set_in_row(1, "order", "first"), "order", "must be a number"),
    ];
    for (form, field, rule) in cases {
        let refused = form.submit(&reader).await.expect(422);
        let error = refused.error_of(field).unwrap_or_else(|| panic!("{field}: {}", refused.text()));
        assert!(error.contains(rule), "{field}: {error}");
        assert_eq!(refused.select("[aria-invalid]").len(), 1);
        assert_eq!(fields(&refused.form("Save")), fields(&form), "after a wrong {field}");
    }
    // The error is at its own row, wherever the order puts that.
    let refused = form.clone().set_in_row(1, "settings", "{").submit(&reader).await.expect(422);
    assert_eq!(refused.one("[aria-invalid]").attr("id"), Some("settings-1"));
    let baseline = form.clone().set("baseline", &form.values("version")[0]).submit(&reader).await.expect(422);
    assert!(baseline.error_of("baseline").is_some(), "{}", baseline.text());

    let forged = form.clone().set_in_row(1, "plugin", "empty").submit(&reader).await.expect(422);
    assert!(forged.text().contains("no such version of this plugin"), "{}", forged.text());
    let short = form.clone().without("settings").submit(&reader).await.expect(400);
    assert!(short.text().contains("each row must have all of its fields"), "{}", short.text());
    assert_eq!(endpoint.get("/plugins").await.text, before);
    form.submit(&reader).await.expect(200);
    assert_eq!(names(&attached(&endpoint).await), ["only-matching", "redact-fields", "slack-message"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_at_most_and_hostile_settings_are_text() {
    let host = Host::start().await;
    let endpoint = host.tenant("acme").await.endpoint(&Receiver::answering([200]).await).await;
    let hostile = json!({"plugin": "redact-fields", "settings": {"</textarea>": SCRIPT}});
    attach(&endpoint, Value::Array(vec![hostile; 8])).await.expect(200);
    let reader = endpoint.tenant.sign_in().await;
    let full = page(&endpoint, &reader).await;
    assert_inert(&full);
    assert_eq!(full.select("fieldset").len(), 8, "none can be added");
    let shown: Value = serde_json::from_str(&full.form("Save").values("settings")[0]).unwrap();
    assert_eq!(shown, json!({"</textarea>": SCRIPT}));
    let refused = full.form("Save").set("settings", &format!("</textarea>{SCRIPT}")).submit(&reader).await.expect(422);
    assert_inert(&refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_endpoint_is_not_there_and_another_site_changes_nothing() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let theirs = host.tenant("acme").await.endpoint(&receiver).await;
    let own = host.tenant("mallory").await.endpoint(&receiver).await;
    let reader = own.tenant.sign_in().await;
    let form = page(&own, &reader).await.form("Save").set("plugin", "redact-fields");
    for id in [theirs.id.clone(), format!("ep_{:032x}", 1)] {
        reader.get(&format!("/settings/webhooks/endpoints/{id}/plugins")).await.expect(404);
        form.clone().sent_to(|url| url.replace(&own.id, &id)).submit(&reader).await.expect(404);
    }
    form.submit(&reader.from_another_site("https://evil.example")).await.expect(403);
    form.clone().set("csrf", "x").submit(&reader).await.expect(403);
    assert!(attached(&own).await.is_empty() && attached(&theirs).await.is_empty());
    form.submit(&reader).await.expect(200);
    assert_eq!(attached(&own).await.len(), 1);
}
