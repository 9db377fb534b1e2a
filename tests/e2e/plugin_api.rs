//! Plugins as tenants manage them: names, versions, and what is attached to an endpoint.

use revnoxa_tests::{Client, Host, Receiver, Tenant};
use serde_json::{Value, json};

use crate::plugin_flow::{attach, component, upload};

/// A component; that of another number differs from it in a custom section only.
fn numbered(number: u8) -> Vec<u8> {
    let mut component = component("only-matching");
    component.extend([0, 3, 1, b'n', number]);
    component
}

async fn add(tenant: &Tenant, plugin: &str, number: u8) -> String {
    upload(tenant, plugin, numbered(number)).await.expect(201).text_of("version").to_owned()
}

async fn newest(client: &Client, plugin: &str) -> String {
    let versions = client.get(&format!("/plugins/{plugin}/versions?limit=1")).await.expect(200);
    versions["items"][0]["version"].as_str().expect("a version").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_created_listed_read_and_deleted() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let created = acme.post("/plugins", json!({"name": "mine"})).await.expect(201);
    let expected = json!({
        "id": "mine", "name": "mine", "built_in": false, "created_at": "2026-03-01T12:00:00.000Z", "versions": 0,
    });
    assert_eq!(created.json, expected);
    assert_eq!(acme.get("/plugins/mine").await.expect(200).json, expected);
    let version = add(&acme, "mine", 1).await;
    let names: Vec<_> =
        acme.all("/plugins?limit=2").await.iter().map(|one| (one["id"].clone(), one["built_in"].clone())).collect();
    let built_in = |name: &str| (json!(name), json!(true));
    let expected = [
        (json!("mine"), json!(false)),
        built_in("only-matching"),
        built_in("redact-fields"),
        built_in("slack-message"),
    ];
    assert_eq!(names, expected);
    assert_eq!(acme.get("/plugins/mine").await.expect(200)["versions"], 1);

    acme.post("/plugins", json!({"name": "mine"})).await.expect_problem(409, "conflict");
    acme.delete("/plugins/mine").await.expect(204);
    for path in ["/plugins/mine", "/plugins/mine/versions", &format!("/plugins/mine/versions/{version}")] {
        acme.get(path).await.expect_problem(404, "not-found");
    }
    acme.delete("/plugins/mine").await.expect_problem(404, "not-found");
    acme.post("/plugins", json!({"name": "mine"})).await.expect(201);
    assert_eq!(acme.all("/plugins/mine/versions").await, [] as [Value; 0], "the name begins anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_follow_the_rule() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    for name in ["", "-a", "_a", "Mine", "a b", "a/b", "ä", &"a".repeat(64)] {
        let refused = acme.post("/plugins", json!({"name": name})).await.expect_problem(422, "unprocessable");
        assert_eq!(refused.blamed_field(), "name", "{name}");
    }
    acme.post("/plugins", json!({"name": "a", "x": 1})).await.expect_problem(400, "invalid-request");
    acme.post("/plugins", json!({})).await.expect_problem(400, "invalid-request");
    acme.post("/plugins", json!({"name": "a".repeat(63)})).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_a_hundred_plugins_at_most() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    for n in 0..100 {
        acme.post("/plugins", json!({"name": format!("p{n}")})).await.expect(201);
    }
    let crowd = acme.post("/plugins", json!({"name": "one-more"})).await.expect_problem(409, "conflict");
    assert_eq!(crowd["detail"], "a tenant has at most 100 plugins");
    acme.delete("/plugins/p7").await.expect(204);
    acme.post("/plugins", json!({"name": "one-more"})).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_plugins_cannot_be_changed() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let taken = acme.post("/plugins", json!({"name": "redact-fields"})).await.expect_problem(409, "conflict");
    assert_eq!(taken["detail"], "this is the name of a built-in plugin, which cannot be changed");
    let version = newest(&acme, "redact-fields").await;
    acme.delete("/plugins/redact-fields").await.expect_problem(409, "conflict");
    acme.delete(&format!("/plugins/redact-fields/versions/{version}")).await.expect_problem(409, "conflict");
    upload(&acme, "redact-fields", numbered(1)).await.expect_problem(409, "conflict");
    assert_eq!(acme.get("/plugins/redact-fields").await.expect(200)["built_in"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_newest_first_and_found_by_their_digest() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    acme.post("/plugins", json!({"name": "mine"})).await.expect(201);
    let mut versions = Vec::new();
    for number in 0..3 {
        versions.push(add(&acme, "mine", number).await);
    }
    let listed = acme.all("/plugins/mine/versions?limit=2").await;
    let digests: Vec<_> = listed.iter().map(|version| version["version"].as_str().unwrap()).collect();
    assert_eq!(digests, [&versions[2], &versions[1], &versions[0]]);
    assert_eq!(listed[0]["size_bytes"], numbered(2).len());
    assert_eq!(listed[0]["created_at"], "2026-03-01T12:00:00.000Z");

    let bare = versions[0].strip_prefix("sha256:").unwrap();
    for digest in [&versions[0], bare, &versions[0].replace(':', "%3A")] {
        let read = acme.get(&format!("/plugins/mine/versions/{digest}")).await.expect(200);
        assert_eq!((&read["version"], &read["usage"]["calls"]), (&json!(versions[0]), &json!(0)), "{digest}");
    }
    for absent in ["", "sha256:", "latest", &"0".repeat(64), &bare.to_uppercase()] {
        let path = format!("/plugins/mine/versions/{absent}");
        acme.get(&path).await.expect_problem(404, "not-found");
        acme.delete(&path).await.expect_problem(404, "not-found");
    }
    acme.delete(&format!("/plugins/mine/versions/{bare}")).await.expect(204);
    assert_eq!(acme.all("/plugins/mine/versions").await.len(), 2);
    acme.get("/plugins/mine/versions?limit=0").await.expect_problem(400, "invalid-request");
    acme.get("/plugins/mine/versions?cursor=bWluZQ").await.expect_problem(400, "invalid-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_attached_reads_as_it_was_given() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    assert_eq!(endpoint.all("/plugins").await, [] as [Value; 0]);
    acme.post("/plugins", json!({"name": "mine"})).await.expect(201);
    let (old, new) = (add(acme, "mine", 1).await, add(acme, "mine", 2).await);
    let built_in = newest(acme, "redact-fields").await;

    let settings = r#"{ "fields":["/data/a"], "n": 1.0e2, "é": "é\u0041", "n": 2 }"#;
    let body = format!(
        r#"{{"items": [
            {{"plugin": "redact-fields", "settings": {settings}}},
            {{"plugin": "mine", "version": "{old}", "on_error": "drop", "settings": null}},
            {{"plugin": "mine", "percent": 30, "baseline": "{old}", "on_error": "skip", "version": null}}
        ]}}"#
    );
    let replaced = endpoint.request("PUT", "/plugins").body(body).send().await.expect(200);
    assert!(replaced.text.contains(&format!("\"settings\":{settings},")), "byte for byte: {}", replaced.text);
    assert_eq!(endpoint.get("/plugins").await.expect(200).text, replaced.text);
    assert_eq!(replaced["next_cursor"], Value::Null);
    let first = &replaced["items"][0];
    assert_eq!((&first["plugin"], &first["version"]), (&json!("redact-fields"), &json!(built_in)), "the newest");
    assert_eq!(
        (&first["on_error"], &first["percent"], &first["baseline"]),
        (&json!("retry"), &Value::Null, &Value::Null)
    );
    let expected = json!([
        {"plugin": "mine", "version": old, "settings": null, "on_error": "drop", "percent": null, "baseline": null},
        {"plugin": "mine", "version": new, "settings": {}, "on_error": "skip", "percent": 30, "baseline": old},
    ]);
    assert_eq!(replaced["items"].as_array().unwrap()[1..], expected.as_array().unwrap()[..]);

    let bare = attach(&endpoint, json!([{"plugin": "mine", "version": new}])).await.expect(200);
    assert_eq!((bare["items"].as_array().unwrap().len(), &bare["items"][0]["version"]), (1, &json!(new)));
    let again = attach(&endpoint, endpoint.get("/plugins").await["items"].clone()).await.expect(200);
    assert_eq!(again.text, bare.text, "what is read may be written");
    assert_eq!(endpoint.read().await["plugins"], Value::Null, "the endpoint reads as before");
    attach(&endpoint, json!({"items": []})).await.expect(200);
    assert_eq!(endpoint.all("/plugins").await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_breaks_a_rule_names_it_and_nothing_changes() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    let mallory = host.tenant("mallory").await;
    mallory.post("/plugins", json!({"name": "theirs"})).await.expect(201);
    let not_ours = add(&mallory, "theirs", 1).await;
    acme.post("/plugins", json!({"name": "empty"})).await.expect(201);
    let good = json!({"plugin": "redact-fields", "settings": {"fields": ["/data/a"]}});
    let before = attach(&endpoint, json!([good])).await.expect(200).text;

    let version = newest(acme, "redact-fields").await;
    let long = "x".repeat(64 * 1024);
    let (absent, many) = (format!("sha256:{}", "0".repeat(64)), vec![good.clone(); 9]);
    let with = |name: &str, value: Value| {
        let mut item = good.clone();
        item[name] = value;
        json!([good, item])
    };
    let unprocessable = [
        ("items[1].plugin", with("plugin", json!("nowhere"))),
        ("items[1].plugin", with("plugin", json!("No Name"))),
        ("items[1].plugin", with("plugin", json!("theirs"))),
        ("items[1].plugin", with("plugin", json!("empty"))),
        ("items[1].version", with("version", json!(absent))),
        ("items[1].version", with("version", json!(not_ours))),
        ("items[1].version", with("version", json!("latest"))),
        ("items[1].percent", with("percent", json!(101))),
        ("items[1].percent", with("percent", json!(-1))),
        ("items[1].baseline", with("baseline", json!(version))),
        ("items[1].settings", with("settings", json!(long))),
        ("items[0].baseline", json!([{"plugin": "redact-fields", "percent": 1, "baseline": absent}])),
        ("items[0].baseline", json!([{"plugin": "redact-fields", "percent": 1, "baseline": "x"}])),
        ("items", json!(many)),
    ];
    for (field, body) in unprocessable {
        let refused = attach(&endpoint, body).await.expect_problem(422, "unprocessable");
        assert_eq!(refused.blamed_field(), field, "{}", refused.text);
    }
    let unreadable = [
        ("items[1].on_error", with("on_error", json!("ignore"))),
        ("items[1].percent", with("percent", json!(1.5))),
        ("items[1].colour", with("colour", json!("red"))),
        ("items[1].plugin", with("plugin", json!(7))),
        ("items[0].plugin", json!([{}])),
        ("items[0]", json!(["redact-fields"])),
        ("items", json!({"items": "redact-fields"})),
        ("colour", json!({"items": [], "colour": "red"})),
        ("", json!({})),
        ("", json!(7)),
    ];
    for (field, body) in unreadable {
        let wrapped = if body.is_array() { json!({"items": body}) } else { body.clone() };
        for body in [body, wrapped] {
            let refused = attach(&endpoint, body).await.expect_problem(400, "invalid-request");
            // serde blames the object that lacks a field, not the field.
            let blamed = refused.blamed_field();
            assert!(blamed == field || field.starts_with(&format!("{blamed}.")), "{field}: {}", refused.text);
        }
    }
    let text = endpoint.request("PUT", "/plugins").body_of(Some("text/plain"), "[]").send().await;
    text.expect_problem(415, "unsupported-media-type");
    let huge = endpoint.request("PUT", "/plugins").body(vec![b' '; 600 * 1024]).send().await;
    huge.expect_problem(413, "payload-too-large");
    assert_eq!(endpoint.get("/plugins").await.expect(200).text, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_attached_is_not_deleted() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    let other = acme.endpoint(&receiver).await;
    acme.post("/plugins", json!({"name": "mine"})).await.expect(201);
    let (old, new) = (add(acme, "mine", 1).await, add(acme, "mine", 2).await);
    attach(&endpoint, json!([{"plugin": "mine", "percent": 1, "baseline": old}])).await.expect(200);
    attach(&other, json!([{"plugin": "mine"}])).await.expect(200);
    let refused = acme.delete("/plugins/mine").await.expect_problem(409, "conflict");
    assert_eq!(refused["detail"], "it is attached to 2 endpoints; detach it first");
    let refused = acme.delete(&format!("/plugins/mine/versions/{old}")).await.expect_problem(409, "conflict");
    assert_eq!(refused["detail"], "it is attached to 1 endpoint; detach it first");
    other.delete("").await.expect(204);
    attach(&endpoint, json!([{"plugin": "mine", "version": old}])).await.expect(200);
    acme.delete(&format!("/plugins/mine/versions/{new}")).await.expect(204);
    attach(&endpoint, json!([])).await.expect(200);
    acme.delete("/plugins/mine").await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn not_yours_and_not_there_read_the_same() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let theirs = host.tenant("acme").await.endpoint(&receiver).await;
    let mallory = host.tenant("mallory").await;
    theirs.tenant.post("/plugins", json!({"name": "theirs"})).await.expect(201);
    let version = add(&theirs.tenant, "theirs", 1).await;
    let nowhere = format!("ep_{:032x}", 1);
    let pairs = [
        ("GET", "/plugins/theirs".to_owned(), "/plugins/nowhere".to_owned()),
        ("DELETE", "/plugins/theirs".into(), "/plugins/nowhere".into()),
        ("GET", "/plugins/theirs/versions".into(), "/plugins/nowhere/versions".into()),
        ("GET", format!("/plugins/theirs/versions/{version}"), format!("/plugins/nowhere/versions/{version}")),
        ("DELETE", format!("/plugins/theirs/versions/{version}"), format!("/plugins/nowhere/versions/{version}")),
        ("GET", format!("/endpoints/{}/plugins", theirs.id), format!("/endpoints/{nowhere}/plugins")),
        ("PUT", format!("/endpoints/{}/plugins", theirs.id), format!("/endpoints/{nowhere}/plugins")),
    ];
    let as_mallory = host.anyone().with_token(mallory.token());
    for (method, not_hers, not_there) in &pairs {
        let ask = async |at: &Client, path: &str| {
            let request = at.request(method, path);
            let request = if *method == "PUT" { request.json(&json!([])) } else { request };
            request.send().await.expect_problem(404, "not-found").text
        };
        let below_hers = as_mallory.below("/v1/tenants/mallory");
        assert_eq!(ask(&below_hers, not_hers).await, ask(&below_hers, not_there).await, "{method} {not_hers}");
        let (below_theirs, below_nobody) =
            (as_mallory.below("/v1/tenants/acme"), as_mallory.below("/v1/tenants/nobody"));
        assert_eq!(ask(&below_theirs, not_hers).await, ask(&below_nobody, not_hers).await, "{method} {not_hers}");
    }
    for tenant in ["acme", "nobody"] {
        let path = format!("/v1/tenants/{tenant}/plugins");
        as_mallory.get(&path).await.expect_problem(404, "not-found");
        as_mallory.post(&path, json!({"name": "hers"})).await.expect_problem(404, "not-found");
    }
    assert!(mallory.all("/plugins").await.iter().all(|plugin| plugin["built_in"] == true));
    mallory.post("/plugins", json!({"name": "theirs"})).await.expect(201);
    assert_eq!(theirs.tenant.get("/plugins/theirs").await.expect(200)["versions"], 1, "nothing came of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_takes_its_plugins_along() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    acme.post("/plugins", json!({"name": "mine"})).await.expect(201);
    add(&acme, "mine", 1).await;
    host.operator().delete("/v1/tenants/acme").await.expect(204);
    let reborn = host.tenant("acme").await;
    assert!(reborn.all("/plugins").await.iter().all(|plugin| plugin["built_in"] == true));
}
