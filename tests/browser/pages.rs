//! The settings pages in a real browser: what its script adds, that everybody can use them, and that nothing on them acts.

use revnoxa_tests::{Answer, Browser, BrowserBuilder, Endpoint, Gate, Host, Receiver, Tenant, axe, eventually};
use serde_json::{Value, json};

/// A tenant with an endpoint that has a history, and a browser that is signed in.
struct Scene {
    host: Host,
    receiver: Receiver,
    endpoint: Endpoint,
    browser: Browser,
}

impl Scene {
    async fn open(user: BrowserBuilder) -> Option<Self> {
        let browser = user.open().await?;
        let host = Host::start().await;
        let receiver =
            Receiver::answering([Answer::status(503).body("down"), Answer::status(200).body("thanks")]).await;
        let acme = host.tenant("acme").await;
        let endpoint = acme.endpoint_with(json!({"url": receiver.url(), "description": "On-call dashboard"})).await;
        let event = acme.event("incident.created", json!({"title": "Checkout is down", "severity": 1})).await;
        endpoint.attempted(1, &event).await;
        sign_in(&browser, &acme).await;
        Some(Self { host, receiver, endpoint, browser })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/settings/webhooks{path}", self.host.url())
    }

    fn endpoint_url(&self) -> String {
        self.url(&format!("/endpoints/{}", self.endpoint.id))
    }

    async fn delivery_url(&self) -> String {
        let newest = &self.endpoint.deliveries("").await[0];
        self.url(&format!("/deliveries/{}", newest["id"].as_str().unwrap()))
    }

    /// Nothing was refused by the pages' own policy, and no script failed.
    async fn is_clean(&self) {
        assert_eq!(self.browser.logs().await, [""; 0], "{}", self.browser.url().await);
    }
}

async fn sign_in(browser: &Browser, tenant: &Tenant) {
    browser.goto(&tenant.portal_link().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_added_and_its_secret_copied() {
    let Some(scene) = Scene::open(Browser::builder()).await else { return };
    let browser = &scene.browser;
    browser.follow("Add endpoint").await;
    browser.fill("URL", "not a url").await;
    browser.check("Only these").await;
    browser.check("incident.created An incident was created").await;
    browser.press("Save and send a test event").await;
    browser.wait_for_text("must not contain spaces").await;
    axe(browser).await;
    browser.screenshot("add-endpoint-refused").await;
    // The browser complains of any answer like that.
    let refused = browser.logs().await;
    assert!(refused.iter().all(|line| line.ends_with("(Unprocessable Entity)")), "{refused:?}");
    browser.fill("URL", &scene.receiver.url_at("/second")).await;
    browser.press("Save and send a test event").await;
    browser.wait_for_text("The test event was answered with 200").await;
    axe(browser).await;
    browser.screenshot("endpoint-added").await;

    let secret = browser.find("#secret").await.text().await;
    // A page has no leave to read what was copied: it is taken down on the way.
    browser.eval("(navigator.clipboard.writeText = async (text) => { window.copied = text; }, null)").await;
    browser.find("button[data-copy=secret]").await.press().await;
    browser.wait_for_text("Copied").await;
    assert_eq!(browser.eval("window.copied").await, secret.as_str());
    // A reload shows the endpoint, and adds no second one.
    browser.reload().await;
    browser.wait_for_text("Send test event").await;
    assert!(!browser.text().await.contains(&secret));
    assert_eq!(scene.endpoint.tenant.all("/endpoints").await.len(), 2);
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_updates_while_one_looks_and_times_are_the_readers() {
    let Some(scene) = Scene::open(Browser::builder().time_zone("Asia/Tokyo")).await else { return };
    let browser = &scene.browser;
    browser.goto(&scene.endpoint_url()).await;
    let shown = browser.wait_for_text("503").await;
    assert!(shown.contains("Mar 1, 21:00:00") && !shown.contains("UTC incident"), "{shown}");
    let exact = browser.find(".deliveries tbody tr:last-child time").await.attribute("title").await;
    assert_eq!(exact.as_deref(), Some("2026-03-01T12:00:00.000Z"));

    browser.eval("(window.mark = 'the same page', null)").await;
    let event = scene.endpoint.tenant.event("hijacker.detected", json!({})).await;
    scene.endpoint.delivery_in("succeeded", &event).await;
    browser.wait_for_text("hijacker.detected").await;
    assert_eq!(browser.eval("window.mark").await, "the same page");
    assert_eq!(browser.eval("document.getElementById('announcements').textContent").await, "One new delivery");
    // The one that failed succeeds when it is tried again.
    let waiting = scene.endpoint.deliveries("?state=pending").await;
    scene.host.advance_to(&waiting[0]["next_attempt_at"], 0).await;
    browser.wait_for_text("2/5").await;
    axe(browser).await;
    browser.screenshot("endpoint").await;
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_read_and_retried() {
    let Some(scene) = Scene::open(Browser::builder()).await else { return };
    let browser = &scene.browser;
    browser.goto(&scene.delivery_url().await).await;
    browser.wait_for_text("Attempt 1").await;
    axe(browser).await;
    browser.screenshot("delivery").await;
    browser.press("Retry now").await;
    browser.wait_for_text("Attempt 2").await;
    browser.wait_for_text("succeeded").await;
    scene.is_clean().await;
}

/// Each page for each kind of user: pictured, and looked at by axe.
#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_for_everybody_light_dark_and_narrow() {
    let users = [
        ("light", Browser::builder()),
        ("dark", Browser::builder().dark()),
        ("narrow", Browser::builder().width_px(390)),
    ];
    for (user, builder) in users {
        let Some(scene) = Scene::open(builder).await else { return };
        let delivery = scene.delivery_url().await;
        let pages = [
            ("endpoints", scene.url("")),
            ("add-endpoint", scene.url("/new")),
            ("endpoint", scene.endpoint_url()),
            ("edit-endpoint", format!("{}/edit", scene.endpoint_url())),
            ("delivery", delivery),
            ("not-found", scene.url("/nothing")),
        ];
        for (name, url) in pages {
            scene.browser.goto(&url).await;
            axe(&scene.browser).await;
            scene.browser.screenshot(&format!("{name}-{user}")).await;
            let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(scene.browser.eval(overflow).await, 0, "{name} is wider than the window ({user})");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_work_without_script() {
    let Some(scene) = Scene::open(Browser::builder().without_script()).await else { return };
    let browser = &scene.browser;
    browser.follow("Add endpoint").await;
    browser.fill("URL", &scene.receiver.url_at("/second")).await;
    browser.press("Save and send a test event").await;
    browser.wait_for_text("The test event was answered with 200").await;
    browser.screenshot("endpoint-added-without-script").await;
    browser.follow("To the endpoint").await;
    browser.press("Send test event").await;
    browser.wait_for_text("The test event was answered with 200").await;
    browser.goto(&scene.delivery_url().await).await;
    browser.press("Retry now").await;
    eventually("the retry", async || (scene.receiver.received().len() == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_will_do() {
    let Some(scene) = Scene::open(Browser::builder()).await else { return };
    let browser = &scene.browser;
    browser.goto(&scene.url("")).await;
    browser.type_keys("\t").await;
    assert_eq!(browser.focused().await, "Skip to the content");
    browser.type_keys("\u{e007}").await;
    browser.type_keys("\t").await;
    assert_eq!(browser.focused().await, "Add endpoint");
    browser.type_keys("\u{e007}").await;
    browser.wait_for_text("Where we send the events").await;
    browser.fill("URL", &scene.receiver.url_at("/second")).await;
    browser.type_keys("\u{e007}").await;
    browser.wait_for_text("The test event was answered with 200").await;
}

/// Pressed twice before the answer came.
#[tokio::test(flavor = "multi_thread")]
async fn a_button_pressed_twice_acts_once() {
    let Some(scene) = Scene::open(Browser::builder()).await else { return };
    let gate = Gate::closed();
    scene.receiver.answer_tests(Answer::status(200).behind(&gate));
    let browser = &scene.browser;
    browser.goto(&scene.url("/new")).await;
    browser.fill("URL", &scene.receiver.url_at("/second")).await;
    let form = "document.querySelector('form.sheet')";
    let twice = format!("({form}.requestSubmit(), {form}.requestSubmit(), null)");
    let pressed = browser.eval(&twice);
    // The browser tells what became of the script only once the page has been answered.
    let answered = async {
        eventually("the test event", async || (scene.receiver.tests().len() == 2).then_some(())).await;
        gate.open();
    };
    tokio::join!(pressed, answered);
    browser.wait_for_text("The test event was answered with 200").await;
    assert_eq!(scene.endpoint.tenant.all("/endpoints").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_content_runs_nothing_and_the_layout_holds() {
    let Some(browser) = Browser::builder().width_px(800).open().await else { return };
    let script = "\"'><script>window.ran=1</script><img src=x onerror='window.ran=2'><svg onload='window.ran=3'>";
    let hostile = format!("{script}\u{202e}\u{1b}[31m{}", "wide".repeat(2_000));
    let host = Host::start().await;
    let receiver = Receiver::answering([Answer::status(500).body(hostile.clone().into_bytes())]).await;
    host.operator()
        .post("/v1/tenants", json!({"id": "acme", "name": format!("{script}{}", "n".repeat(100))}))
        .await
        .expect(201);
    let acme = host.known_tenant("acme").await;
    let url = receiver.url_at(&format!("/{}?<script>window.ran=4</script>", "long".repeat(200)));
    let description = format!("{script}{}", "d".repeat(300));
    let endpoint = acme.endpoint_with(json!({"url": url, "description": description})).await;
    let event = acme.event("incident.created", json!({script: [hostile, {"deep": {"er": "x".repeat(100_000)}}]})).await;
    let delivery = endpoint.attempted(1, &event).await;
    sign_in(&browser, &acme).await;
    let at = |path: &str| format!("{}/settings/webhooks{path}", host.url());
    let pages = [
        at(""),
        at(&format!("/endpoints/{}", endpoint.id)),
        at(&format!("/endpoints/{}/edit", endpoint.id)),
        at(&format!("/deliveries/{}", delivery["id"].as_str().unwrap())),
    ];
    for (number, page) in pages.iter().enumerate() {
        browser.goto(page).await;
        assert_eq!(browser.eval("window.ran ?? null").await, Value::Null, "{page}");
        assert_eq!(browser.logs().await, [""; 0], "{page}");
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        browser.screenshot(&format!("hostile-{number}")).await;
        assert_eq!(browser.eval(overflow).await, 0, "{page} is wider than the window");
        axe(&browser).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_debugger_verifies_in_the_page_and_the_secret_never_leaves_it() {
    let Some(scene) = Scene::open(Browser::builder()).await else { return };
    let (browser, secret) = (&scene.browser, scene.endpoint.secret.clone());
    browser.goto(&scene.delivery_url().await).await;
    browser.follow("Check its signature").await;
    browser.fill("Secret", &secret).await;
    browser.press("Verify").await;
    let told = browser.wait_for_text("✓ Fits").await;
    assert!(!told.contains("✗"), "{told}");
    axe(browser).await;
    browser.screenshot("debugger-fits").await;

    let body = browser.find("#body").await.property("value").await.unwrap();
    let cases = [
        (format!("{body}\n"), secret.clone(), "line break"),
        (body.replace("\":", "\": "), secret.clone(), "JSON"),
        (body.clone(), format!("whsec_{}=", "A".repeat(43)), "another secret"),
        (body.clone(), "rvx_tenant_abc".to_owned(), "token"),
    ];
    for (number, (body, secret, explained)) in cases.into_iter().enumerate() {
        // Typed keys would be corrected and indented on the way; pasted text is not.
        let pasted = json!(body);
        browser.eval(&format!("(document.getElementById('body').value = {pasted}, null)")).await;
        browser.fill("Secret", &secret).await;
        browser.press("Verify").await;
        browser.wait_for_text("✗ Problem").await;
        let told = browser.wait_for_text(explained).await;
        assert!(told.contains(explained), "{told}");
        axe(browser).await;
        browser.screenshot(&format!("debugger-problem-{number}")).await;
    }
    let random = secret.strip_prefix("whsec_").unwrap();
    let sent = browser.requests().await;
    assert!(!sent.is_empty() && !sent.iter().any(|sent| sent.mentions(random)), "the secret was sent");
    let kept =
        browser.eval("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])").await;
    assert!(!kept.as_str().unwrap().contains(random), "{kept}");
    scene.is_clean().await;
}
