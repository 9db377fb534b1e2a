//! Plugins on the settings pages, as somebody without script uses them: created, uploaded, tried.

use revnoxa_tests::{Host, Page, Reader, Receiver, Reply, Tenant};
use serde_json::{Value, json};

use crate::page_hostile::{ACTING, SCRIPT, assert_inert};
use crate::plugin_flow::{attach, component, plugin, redact};

const PLUGINS: &str = "/settings/webhooks/plugins";

async fn newest(tenant: &Tenant, name: &str) -> String {
    tenant.all(&format!("/plugins/{name}/versions")).await[0]["version"].as_str().unwrap().to_owned()
}

/// The page of a plugin's newest version.
async fn version_page(tenant: &Tenant, reader: &Reader, name: &str) -> Page {
    reader.get(&format!("{PLUGINS}/{name}/versions/{}", newest(tenant, name).await)).await.expect(200)
}

/// What the comparison on a page marks as removed and as added.
fn marked(page: &Page) -> (Vec<String>, Vec<String>) {
    let texts = |css: &str| page.select(css).iter().map(|part| part.text()).collect();
    (texts(".diff del"), texts(".diff ins"))
}

/// A plugin that logs this and leaves the body as it is.
fn logging(text: &str) -> Vec<u8> {
    let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let handle = format!(
        "(call $log (i32.const 1) (i32.const 64) (i32.const {}))
         (call $deliver (local.get $body) (local.get $body_length) (i32.const 0) (i32.const 0))",
        text.len()
    );
    let allocate = "(local $at i32)
        (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
        (global.set $free (i32.add (local.get $at) (local.get $size)))
        (local.get $at)";
    let places = [
        ("version", "1.0.0"),
        ("memory", "4"),
        ("realloc", allocate),
        ("core", &format!("(data (memory 0) (i32.const 64) \"{bytes}\")")),
        ("handle", &handle),
        ("imports", ""),
        ("lowered", ""),
        ("core_imports", ""),
        ("post_return", ""),
        ("with", ""),
        ("outside", ""),
    ];
    let text = places.iter().fold(include_str!("../sandbox/plugin.wat").to_owned(), |text, (place, filling)| {
        text.replace(&format!("{{{place}}}"), filling)
    });
    wat::parse_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_created_and_gets_its_first_version() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let reader = acme.sign_in().await;
    let list = reader.get("/settings/webhooks").await.follow("Plugins").await.expect(200);
    assert_eq!(list.title(), "Plugins · Revnoxa");
    assert!(list.text().contains("No plugins of your own yet"), "{}", list.text());
    let rows: Vec<String> = list.select("tbody th").iter().map(|row| row.text()).collect();
    assert_eq!(rows, ["only-matching built-in", "redact-fields built-in", "slack-message built-in"]);

    for (name, rule) in [("Not A Name", "must be 1 to 63 of"), ("redact-fields", "the name of a built-in plugin")] {
        let refused = list.form("Add plugin").set("name", name).submit(&reader).await.expect(422);
        assert!(refused.error_of("name").unwrap().contains(rule), "{}", refused.text());
        assert_eq!(refused.form("Add plugin").value("name"), name);
    }
    let page = list.form("Add plugin").set("name", "mine").submit(&reader).await.expect(200);
    assert_eq!(page.path(), format!("{PLUGINS}/mine"));
    assert!(page.text().contains("No version yet") && page.text().contains("No endpoint."), "{}", page.text());

    let bytes = component("redact-fields");
    let form = page.form("Upload and check");
    let uploaded = form.clone().attach("component", "p.wasm", bytes.clone()).submit(&reader).await.expect(200);
    let version = newest(&acme, "mine").await;
    let notice = uploaded.one(".notice.ok");
    assert!(notice.text().contains("It passed all checks") && notice.text().contains(" KiB"), "{}", notice.text());
    assert_eq!(notice.select("code")[0].attr("title"), Some(version.as_str()));
    let again = form.clone().attach("component", "p.wasm", bytes).submit(&reader).await.expect(200);
    assert!(again.one(".notice.ok").text().contains("the same component"), "{}", again.text());
    assert_eq!(again.select(".versions tbody tr").len(), 1);
    assert_eq!(again.one(".versions .copy").attr("data-text"), Some(version.as_str()));
    form.clone().attach("component", "p.wasm", component("only-matching")).submit(&reader).await.expect(200);

    let page = reader.get(&format!("{PLUGINS}/mine")).await;
    let newest = newest(&acme, "mine").await;
    let digests: Vec<_> = page.select(".versions code").iter().map(|code| code.attr("title").unwrap()).collect();
    assert_eq!(digests, [newest.as_str(), &version], "the newest first");
    let list = reader.get(PLUGINS).await;
    assert_eq!(list.select("tbody tr")[0].text(), format!("mine 2 {} –", &newest[..19]));

    // Both go again.
    let page = page.follow(&version[..19]).await.form("Delete version").submit(&reader).await.expect(200);
    assert_eq!(page.select(".versions tbody tr").len(), 1);
    let list = page.form("Delete plugin").submit(&reader).await.expect(200);
    assert_eq!((list.path().as_str(), list.select("tbody tr").len()), (PLUGINS, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plugin_is_refused_on_its_page_with_the_reason() {
    let host = Host::builder().with(|config| config.plugins.upload = 65_536).start().await;
    let acme = host.tenant("acme").await;
    plugin(&acme, "mine", &[]).await;
    let reader = acme.sign_in().await;
    let form = reader.get(&format!("{PLUGINS}/mine")).await.form("Upload and check");
    let cases = [
        (b"\0asm\x01\0\0\0".to_vec(), "core module"),
        (b"\0asm\x0d\0\x01\0".to_vec(), "does not export `revnoxa:webhook/handler@1.0.0`"),
        (component("redact-fields"), "must be at most 65536 bytes"),
        (Vec::new(), "does not begin as one does"),
    ];
    for (bytes, reason) in cases {
        let refused = form.clone().attach("component", "p.wasm", bytes).submit(&reader).await.expect(200);
        let notice = refused.one(".notice.failed").text();
        assert!(notice.contains("It is not taken") && notice.contains(reason), "{reason}: {notice}");
    }
    assert_eq!(acme.all("/plugins/mine/versions").await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_attached_is_not_deleted_and_the_page_says_where_it_is() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    let version = plugin(acme, "mine", &["redact-fields"]).await.remove(0);
    let attached = json!([{"plugin": "mine", "settings": {"fields": ["/data/a"]}}]);
    attach(&endpoint, attached).await.expect(200);
    let reader = acme.sign_in().await;
    assert!(reader.get(PLUGINS).await.select("tbody tr")[0].text().ends_with(" 1 endpoint"));
    let page = reader.get(&format!("{PLUGINS}/mine")).await;
    let refused = page.form("Delete plugin").submit(&reader).await.expect(200);
    assert!(refused.text().contains("Not deleted: it is attached to 1 endpoint"), "{}", refused.text());
    let there = refused.follow(&receiver.url()).await.expect(200);
    assert_eq!(there.path(), format!("/settings/webhooks/endpoints/{}/plugins", endpoint.id));
    let page = reader.get(&format!("{PLUGINS}/mine/versions/{version}")).await;
    let refused = page.form("Delete version").submit(&reader).await.expect(422);
    assert!(refused.text().contains("Not deleted: it is attached to 1 endpoint"), "{}", refused.text());

    let event = acme.event("incident.created", json!({"a": 1})).await;
    endpoint.delivery_in("succeeded", &event).await;
    let page = reader.get(&format!("{PLUGINS}/mine/versions/{version}")).await;
    let facts = page.one(".facts").text();
    assert!(facts.contains("Calls 1 ") && facts.contains("Failures none"), "{facts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_body_before_and_after() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    let reader = acme.sign_in().await;
    let page = version_page(acme, &reader, "redact-fields").await;
    // The example it is filled in with works as it is.
    let run = page.form("Run").submit(&reader).await.expect(200);
    let result = run.one(".result").text();
    for shown in ["deliver", "The event goes on.", "Time", "Memory", "It logged nothing."] {
        assert!(result.contains(shown), "{shown}: {result}");
    }
    let (removed, added) = marked(&run);
    assert_eq!(removed, [r#""email": "ada@example.com""#]);
    assert_eq!(added, [r#""email": "[redacted]""#]);
    assert_eq!(run.one(".diff del mark").text(), "ada@example.com");
    assert!(run.one(".diff tbody").text().contains("⋯ unchanged lines:"), "{}", run.text());

    let event = acme.event("incident.created", json!({"a": 1, "b": [true]})).await;
    endpoint.delivery_in("succeeded", &event).await;
    let form = page.form("Run").check("on", "past").set("event_id", &event.id);
    let form = form.set("settings", r#"{"fields": ["/data/b"], "replacement": null}"#);
    let run = form.submit(&reader).await.expect(200);
    assert_eq!(marked(&run).1, [r#""b": null"#]);
    let kept = run.form("Run");
    assert_eq!((kept.value("on"), kept.value("event_id")), ("past".to_owned(), event.id.clone()));

    let failed = form.clone().set("settings", r#"{"felds": []}"#).submit(&reader).await.expect(200);
    assert!(failed.one(".result").text().contains("failed plugin_error: "), "{}", failed.text());
    let same = form.set("settings", r#"{"fields": ["/data/nothing"]}"#).submit(&reader).await.expect(200);
    assert!(same.one(".result").text().contains("The body stays the same."), "{}", same.text());
    let filter = version_page(acme, &reader, "only-matching").await.form("Run");
    let dropped = filter.set("data", r#"{"severity": "low"}"#).submit(&reader).await.expect(200);
    assert!(dropped.one(".result").text().contains(r#"It is not sent: /data/severity is not "high""#));
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(
        acme.get(&format!("/plugins/redact-fields/versions/{}", newest(acme, "redact-fields").await)).await["usage"]["calls"],
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_breaks_a_rule_comes_back_as_it_was_filled_in() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    acme.endpoint(&Receiver::answering([200]).await).await;
    let reader = acme.sign_in().await;
    let page = version_page(&acme, &reader, "redact-fields").await;
    let run = page.form("Run").set("data", r#"{"x": 1}"#).set("settings", "{}").set("event_id", "evt_typed");
    let cases = [
        (run.clone().set("data", "{\"x\": ]"), "data", "is not JSON: expected value at line 1 column 7"),
        (run.clone().set("data", "  "), "data", "must be JSON"),
        (run.clone().set("settings", "fields: a"), "settings", "is not JSON"),
        (run.clone().check("on", "past"), "event_id", "must be the id of one of your events"),
        (
            run.clone().set("settings", &format!("\"{}\"", "x".repeat(65_536))),
            "settings",
            "must be at most 65536 bytes",
        ),
    ];
    for (form, field, rule) in cases {
        let refused = form.submit(&reader).await.expect(422);
        let error = refused.error_of(field).unwrap_or_else(|| panic!("{field}: {}", refused.text()));
        assert!(error.contains(rule), "{field}: {error}");
        let kept = refused.form("Run");
        for name in ["on", "type", "data", "event_id", "settings"] {
            assert_eq!(kept.value(name), form.value(name), "{name} after a wrong {field}");
        }
    }
    let replay = page.form("Replay").set("settings", r#"{"a": 1}"#).set("last", "7");
    for (form, field, rule) in [
        (replay.clone().set("last", "1001"), "last", "must be 1 to 1000"),
        (replay.clone().set("last", "many"), "last", "must be a number from 1 to 1000"),
        (replay.clone().set("settings", "{"), "settings", "is not JSON"),
    ] {
        let refused = form.submit(&reader).await.expect(422);
        let error = refused.select(".error").iter().map(|error| error.text()).collect::<String>();
        assert!(error.contains(rule), "{field}: {error}");
        let kept = refused.form("Replay");
        for name in ["endpoint", "last", "settings"] {
            assert_eq!(kept.value(name), form.value(name), "{name} after a wrong {field}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_shows_what_a_version_would_change() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    attach(&endpoint, json!([redact(&["/data/a"])])).await.expect(200);
    let mut events = Vec::new();
    for data in [json!({"a": 1}), json!({"b": 2}), json!({"c": 3})] {
        let event = acme.event("incident.created", data).await;
        endpoint.delivery_in("succeeded", &event).await;
        events.push(event.id);
    }
    let reader = acme.sign_in().await;
    let attachments = reader.get(&format!("/settings/webhooks/endpoints/{}/plugins", endpoint.id)).await;
    let page = attachments.follow("this one").await.expect(200);
    let form = page.form("Replay");
    assert_eq!((form.value("endpoint"), form.value("last")), (endpoint.id.clone(), "100".to_owned()));
    assert_eq!(
        page.form("Run").value("settings").replace("\r\n", "\n"),
        "{\n  \"fields\": [\n    \"/data/a\"\n  ]\n}",
        "as attached"
    );
    let same = form.submit(&reader).await.expect(200);
    let result = same.one(".result").text();
    assert!(result.contains("3 unchanged") && result.contains("Nothing would be different."), "{result}");

    let changed = form.clone().set("settings", r#"{"fields": ["/data/b"]}"#).submit(&reader).await.expect(200);
    let result = changed.one(".result").text();
    assert!(result.contains("2 changed") && result.contains("1 unchanged"), "{result}");
    let named: Vec<String> = changed.select(".result summary code").iter().map(|code| code.text()).collect();
    assert_eq!(named, [events[1].as_str(), &events[0]], "the newest first");
    let (removed, added) = marked(&changed);
    assert_eq!(removed, [r#""b": 2"#, r#""a": "[redacted]""#]);
    assert_eq!(added, [r#""b": "[redacted]""#, r#""a": 1"#]);

    let failed = form.clone().set("settings", "[]").set("last", "1").submit(&reader).await.expect(200);
    let result = failed.one(".result").text();
    assert!(
        result.contains("1 failed") && result.contains("With this version: plugin `redact-fields` failed"),
        "{result}"
    );
    let filter = version_page(acme, &reader, "only-matching").await.form("Replay");
    let drops = filter.set("settings", r#"{"field": "/data/b", "exists": true}"#).submit(&reader).await.expect(200);
    let result = drops.one(".result").text();
    assert!(result.contains("2 dropped") && result.contains("With this version: plugin `only-matching`: "), "{result}");
    assert_eq!(receiver.received().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_many_shows_the_first_fifty() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    for n in 0..60 {
        let event = acme.event("incident.created", json!({"n": n})).await;
        endpoint.delivery_in("succeeded", &event).await;
    }
    let reader = acme.sign_in().await;
    let form =
        version_page(acme, &reader, "redact-fields").await.form("Replay").set("settings", r#"{"fields": ["/data/n"]}"#);
    let replayed = form.submit(&reader).await.expect(200);
    assert_eq!(replayed.select(".result details").len(), 50);
    let result = replayed.one(".result").text();
    assert!(
        result.contains("60 changed") && result.contains("The newest 50 that differ are shown; 10 more do."),
        "{result}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_plugins_say_is_text() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    acme.post("/plugins", json!({"name": "talks"})).await.expect(201);
    let hostile = format!("{SCRIPT}{ACTING}\u{1b}[31m\0</pre>");
    let reader = acme.sign_in().await;
    let form = reader.get(&format!("{PLUGINS}/talks")).await.form("Upload and check");
    let uploaded = form.attach("component", "<script>.wasm", logging(&hostile)).submit(&reader).await.expect(200);
    assert!(uploaded.text().contains("It passed all checks"), "{}", uploaded.text());

    let settings = serde_json::to_string(&json!({"</textarea><script>": hostile})).unwrap();
    let data = serde_json::to_string(&json!({SCRIPT: hostile, "long": "x".repeat(100_000)})).unwrap();
    let form = version_page(acme, &reader, "talks").await.form("Run").set("settings", &settings).set("data", &data);
    let run = form.submit(&reader).await.expect(200);
    assert_inert(&run);
    let log = run.one("pre.log").raw_text();
    assert!(log.contains("info: <script>alert(1)</script>") && log.contains("⟨U+202E⟩"), "{log}");
    assert_eq!(run.form("Run").value("settings"), settings);

    let form = version_page(acme, &reader, "redact-fields").await.form("Run").set("data", &data);
    let form = form.set("settings", &json!({"fields": ["/data/long"], "replacement": hostile}).to_string());
    let run = form.submit(&reader).await.expect(200);
    assert_inert(&run);
    assert!(run.one(".diff ins").text().contains("<script>alert(1)</script>"), "{}", run.text());
    assert!(run.one(".diff del").text().len() < 1_000, "long lines are cut");
    let filter = json!({"field": "/data/severity", "equals": hostile}).to_string();
    let form = version_page(acme, &reader, "only-matching").await.form("Run").set("settings", &filter);
    let dropped = form.submit(&reader).await.expect(200);
    assert_inert(&dropped);
    assert!(dropped.one(".result").text().contains("<script>alert(1)</script>"), "{}", dropped.text());

    let event = acme.event("incident.created", json!({"a": hostile})).await;
    endpoint.delivery_in("succeeded", &event).await;
    let form = version_page(acme, &reader, "only-matching").await.form("Replay").set("settings", &filter);
    assert_inert(&form.submit(&reader).await.expect(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn not_yours_and_not_there_look_the_same() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let version = plugin(&acme, "theirs", &["redact-fields"]).await.remove(0);
    let foreign = acme.endpoint(&receiver).await;
    let event = acme.event("incident.created", json!({"a": 1})).await;
    foreign.delivery_in("succeeded", &event).await;
    let mallory = host.tenant("mallory").await;
    let own = plugin(&mallory, "own", &["redact-fields"]).await.remove(0);
    let reader = mallory.sign_in().await;
    let absent = format!("sha256:{}", "0".repeat(64));
    for path in ["theirs", "nowhere", "%3Cb%3E"] {
        reader.get(&format!("{PLUGINS}/{path}")).await.expect(404);
        reader.get(&format!("{PLUGINS}/{path}/versions/{version}")).await.expect(404);
    }
    reader.get(&format!("{PLUGINS}/own/versions/{absent}")).await.expect(404);
    reader.get(&format!("{PLUGINS}/own/versions/latest")).await.expect(404);

    let page = reader.get(&format!("{PLUGINS}/own/versions/{own}?endpoint={}", foreign.id)).await.expect(200);
    assert!(!page.html.contains(&receiver.url()), "whose endpoint it is is not told");
    let past = page.form("Run").check("on", "past").set("event_id", &event.id).submit(&reader).await.expect(422);
    assert_eq!(past.error_of("event_id").unwrap(), "must be the id of one of your events");
    mallory.endpoint(&receiver).await;
    let page = reader.get(&format!("{PLUGINS}/own/versions/{own}")).await;
    let replay =
        page.form("Replay").without("endpoint").forge("endpoint", &foreign.id).submit(&reader).await.expect(422);
    assert!(replay.text().contains("must be the id of one of your endpoints"), "{}", replay.text());
    for button in ["Run", "Replay", "Delete version"] {
        let form = page.form(button).sent_to(|url| url.replace("/own/", "/theirs/"));
        form.submit(&reader).await.expect(404);
    }
    let page = reader.get(&format!("{PLUGINS}/own")).await;
    let upload = page.form("Upload and check").attach("component", "p.wasm", component("only-matching"));
    upload.sent_to(|url| url.replace("/own/", "/theirs/")).submit(&reader).await.expect(404);
    page.form("Delete plugin").sent_to(|url| url.replace("/own/", "/theirs/")).submit(&reader).await.expect(404);
    assert_eq!(acme.all("/plugins/theirs/versions").await.len(), 1);
    let built_in = page.form("Upload and check").attach("component", "p.wasm", component("only-matching"));
    built_in.sent_to(|url| url.replace("/own/", "/redact-fields/")).submit(&reader).await.expect(409);
}

/// As the page's script sends it.
async fn send(host: &Host, reader: &Reader, origin: Option<&str>, token: Option<&str>, component: Vec<u8>) -> Reply {
    let request = host.anyone().request("POST", &format!("{PLUGINS}/mine/versions"));
    let mut request = request.header("accept", "application/x-ndjson");
    for cookie in reader.cookies() {
        request = request.header("cookie", &format!("{}={}", cookie.name, cookie.value));
    }
    for (name, value) in [("origin", origin), ("x-csrf-token", token)] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    request.body_of(Some("application/wasm"), component).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_from_elsewhere_are_refused_and_nothing_is_stored() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    plugin(&acme, "mine", &[]).await;
    let (reader, other) = (acme.sign_in().await, host.tenant("other").await.sign_in().await);
    let page = reader.get(&format!("{PLUGINS}/mine")).await;
    let form = page.form("Upload and check").attach("component", "p.wasm", component("redact-fields"));
    let token = form.value("csrf");
    let foreign = other.get(PLUGINS).await.form("Sign out").value("csrf");

    form.clone().without("csrf").submit(&reader).await.expect(400);
    form.clone().without("csrf").forge("csrf", &token).submit(&reader).await.expect(400);
    for wrong in ["", "x", &foreign] {
        form.clone().set("csrf", wrong).submit(&reader).await.expect(403);
    }
    form.submit(&reader.from_another_site("https://evil.example")).await.expect(403);
    form.submit(&host.reader()).await.expect(401);

    let origin = host.url();
    let large = || component("redact-fields").repeat(20);
    for (origin, token) in [
        (Some(origin.as_str()), None),
        (Some(&origin), Some("")),
        (Some(&origin), Some(&*foreign)),
        (None, Some(&*token)),
        (Some("https://evil.example"), Some(&*token)),
        (Some("null"), Some(&*token)),
    ] {
        send(&host, &reader, origin, token, large()).await.expect_problem(403, "forbidden");
    }
    send(&host, &host.reader(), Some(&origin), Some(&token), large()).await.expect_problem(401, "unauthorized");
    assert_eq!(acme.all("/plugins/mine/versions").await, [] as [Value; 0]);

    let told = send(&host, &reader, Some(&origin), Some(&token), component("redact-fields")).await.expect(200);
    let last: Value = serde_json::from_str(told.text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["created"]), (&json!("ready"), &json!(true)));
    form.submit(&reader).await.expect(200);
    assert_eq!(acme.all("/plugins/mine/versions").await.len(), 1);
}
