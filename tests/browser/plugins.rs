//! The pages for plugins in a real browser: uploads that show how far they are, comparisons, attachments that move.

use std::path::PathBuf;

use revnoxa_tests::{Browser, Host, Receiver, Tenant, axe};
use serde_json::json;

fn component(name: &str) -> PathBuf {
    format!("{}/../host/built-in/{name}.wasm", env!("CARGO_MANIFEST_DIR")).into()
}

async fn open(browser: &Browser, host: &Host, tenant: &Tenant, path: &str) {
    browser.goto(&tenant.portal_link().await).await;
    browser.goto(&format!("{}/settings/webhooks{path}", host.url())).await;
}

/// Nothing was refused by the pages' own policy, no script failed, and the page is as wide as the window.
async fn is_clean(browser: &Browser) {
    assert_eq!(browser.logs().await, [""; 0], "{}", browser.url().await);
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.eval(overflow).await, 0, "{} is wider than the window", browser.url().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_uploaded_where_its_form_stands() {
    let Some(browser) = Browser::open().await else { return };
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    open(&browser, &host, &acme, "/plugins").await;
    axe(&browser).await;
    browser.screenshot("plugins").await;
    browser.fill("Name", "mine").await;
    browser.press("Add plugin").await;
    browser.wait_for_text("No version yet").await;
    browser.eval("(window.mark = 'the same page', null)").await;
    // Each phase, as somebody who watches or listens gets it.
    browser
        .eval(
            "(window.phases = [], new MutationObserver(() => phases.push(document.querySelector('.uploading span').textContent))
                .observe(document.querySelector('.uploading'), {childList: true, subtree: true}), null)",
        )
        .await;
    browser.attach("Component", &component("redact-fields")).await;
    browser.press("Upload and check").await;
    let shown = browser.wait_for_text("It passed all checks").await;
    assert!(shown.contains(" KiB"), "{shown}");
    let phases = browser.eval("[...new Set(phases)].filter(Boolean)").await;
    assert_eq!(phases, json!(["Uploading…", "Compiling and checking…"]));
    browser.wait_for_text("newest").await;
    assert_eq!(browser.eval("window.mark").await, "the same page");
    assert_eq!(acme.all("/plugins/mine/versions").await.len(), 1);
    axe(&browser).await;
    browser.screenshot("plugin-uploaded").await;

    browser.attach("Component", &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).await;
    browser.press("Upload and check").await;
    browser.wait_for_text("It is not taken, for this reason: not a WebAssembly component").await;
    browser.screenshot("plugin-refused").await;
    // Once more: the form is as good as new.
    browser.attach("Component", &component("only-matching")).await;
    browser.press("Upload and check").await;
    browser.wait_for_text("It passed all checks").await;
    assert_eq!(acme.all("/plugins/mine/versions").await.len(), 2);
    is_clean(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_tried_before_it_is_attached() {
    for (user, builder) in [
        ("light", Browser::builder()),
        ("dark", Browser::builder().dark()),
        ("narrow", Browser::builder().width_px(390)),
    ] {
        let Some(browser) = builder.open().await else { return };
        let host = Host::start().await;
        let receiver = Receiver::answering([200]).await;
        let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
        let acme = &endpoint.tenant;
        for title in ["Checkout is down", "Checkout is up"] {
            let event = acme.event("incident.created", json!({"title": title, "severity": "high"})).await;
            endpoint.delivery_in("succeeded", &event).await;
        }
        open(&browser, &host, acme, "/plugins/slack-message").await;
        axe(&browser).await;
        browser.screenshot(&format!("plugin-{user}")).await;
        browser.eval("(document.querySelector('.versions th a').click(), null)").await;
        browser.wait_for_text("Try it on one event").await;
        browser.press("Run").await;
        browser.wait_for_text("The event goes on.").await;
        axe(&browser).await;
        browser.screenshot(&format!("dry-run-{user}")).await;
        is_clean(&browser).await;
        browser.press("Replay").await;
        browser.wait_for_text("2 changed").await;
        browser.eval("(document.querySelectorAll('.result details').forEach(one => { one.open = true }), null)").await;
        axe(&browser).await;
        browser.screenshot(&format!("replay-{user}")).await;
        is_clean(&browser).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_move_up_and_down() {
    let Some(browser) = Browser::open().await else { return };
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let both = json!([{"plugin": "only-matching", "settings": {"field": "/type", "exists": true}}, {"plugin": "redact-fields", "settings": {"fields": ["/data/a"]}}]);
    endpoint.request("PUT", "/plugins").json(&both).send().await.expect(200);
    open(&browser, &host, &endpoint.tenant, &format!("/endpoints/{}/plugins", endpoint.id)).await;
    axe(&browser).await;
    browser.screenshot("attachments").await;
    browser.press("Move up redact-fields").await;
    assert_eq!(
        browser.eval("document.querySelector('form.attachments [role=status]').textContent").await,
        "redact-fields is at place 1 now"
    );
    assert_eq!(browser.focused().await, "Move up redact-fields");
    // What is removed is the one that was ticked, wherever it stands.
    browser.eval("(document.querySelector('[name=remove][value=\"0\"]').click(), null)").await;
    browser.press("Move down redact-fields").await;
    browser.press("Move up redact-fields").await;
    browser.eval("(document.querySelector('[name=remove][value=\"0\"]').click(), null)").await;
    browser.press("Save").await;
    browser.wait_for_text("Saved.").await;
    let attached = endpoint.all("/plugins").await;
    assert_eq!((&attached[0]["plugin"], &attached[1]["plugin"]), (&json!("redact-fields"), &json!("only-matching")));
    browser.eval("(document.querySelector('[name=remove][value=\"1\"]').click(), null)").await;
    browser.press("Move down redact-fields").await;
    browser.press("Save").await;
    browser.wait_for_text("Saved.").await;
    let attached = endpoint.all("/plugins").await;
    assert_eq!((attached.len(), &attached[0]["plugin"]), (1, &json!("redact-fields")));
    is_clean(&browser).await;
}
