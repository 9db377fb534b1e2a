//! What others put into payloads, responses, names and headers is shown as text and does nothing.

use revnoxa_tests::{Answer, Host, Page, Receiver};
use serde_json::json;

pub(crate) const SCRIPT: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>";
pub(crate) const ACTING: &str = "\u{202e}gnp.exe\u{2066}\u{200b}\u{feff}\u{9b}";

/// Fails the test if anything of it became markup, or acts on what stands around it.
pub(crate) fn assert_inert(page: &Page) {
    let ours = ["/settings/assets/settings.js", "/settings/assets/"];
    for script in page.select("script") {
        let source = script.attr("src").unwrap_or_else(|| panic!("an inline script on {}", page.url));
        assert!(ours.iter().any(|known| source.starts_with(known)), "{source} on {}", page.url);
    }
    for css in ["img", "iframe", "object", "embed", "style", "base", "svg[onload]", "[onerror]", "[style]", "b.hostile"]
    {
        assert!(page.select(css).is_empty(), "{css} on {}", page.url);
    }
    for link in page.select("a[href], form[action]") {
        let target = link.attr("href").or(link.attr("action")).unwrap();
        assert!(target.starts_with(['/', '#', '?']), "{target} on {}", page.url);
    }
    // Copied exactly, where it is an attribute; shown with its name.
    let shown = page.text();
    let acts = |c: char| c.is_control() || "\u{202e}\u{2066}\u{200b}\u{feff}".contains(c);
    assert!(!shown.contains(acts), "{:?} on {}", shown.chars().filter(|c| acts(*c)).collect::<String>(), page.url);
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_responses_and_names_are_text() {
    let host = Host::start().await;
    let response = [SCRIPT.as_bytes(), b"\x1b[2J\x1b]0;title\x07\xff\xfe\x00\r", ACTING.as_bytes()].concat();
    let receiver =
        Receiver::answering([Answer::status(500).body(response), Answer::status(200).body("x".repeat(1 << 20))]).await;
    host.operator()
        .post("/v1/tenants", json!({"id": "acme", "name": format!("{SCRIPT}\u{202e}\u{2066}\u{200b}")}))
        .await
        .expect(201);
    let acme = host.known_tenant("acme").await;
    let url = receiver.url_at("/%22%3E%3Cscript%3E?q=<script>alert(1)</script>");
    let description = format!("{SCRIPT}\u{202e}\u{2066}<b class=hostile>");
    let endpoint = acme.endpoint_with(json!({"url": url, "description": description})).await;
    let data = json!({SCRIPT: format!("{SCRIPT}{ACTING}\u{1b}[31m"), "n": 1});
    let event = acme.event("incident.created", data).await;
    let delivery = endpoint.attempted(1, &event).await;
    let reader = acme.sign_in().await;
    let at = format!("/settings/webhooks/endpoints/{}", endpoint.id);
    let delivery_at = format!("/settings/webhooks/deliveries/{}", delivery["id"].as_str().unwrap());
    let query = "?state=%3Cscript%3E&type=%22%3E%3Cimg%20src=x%3E&after=%3Cb%20class=hostile%3E";
    for path in ["/settings/webhooks".to_owned(), at.clone(), format!("{at}/edit"), delivery_at, format!("{at}{query}")]
    {
        let page = reader.get(&path).await.expect(200);
        assert_inert(&page);
    }
    let list = reader.get("/settings/webhooks").await;
    assert!(list.text().contains("<script>alert(1)</script>") && list.text().contains("⟨U+202E⟩"), "{}", list.text());
    assert_eq!(reader.get(&format!("{at}/edit")).await.form("Save changes").value("description"), description);
    let shown = reader.get(&at).await.select(".deliveries .excerpt")[0].text();
    assert!(shown.contains("⟨U+001B⟩[2J") && shown.contains('\u{fffd}'), "{shown}");

    // A megabyte of response: the first 16 KiB are kept, the list shows its beginning.
    let event = acme.event("incident.created", json!({"text": "y".repeat(250_000)})).await;
    let large = endpoint.delivery_in("succeeded", &event).await;
    let page =
        reader.get(&format!("/settings/webhooks/deliveries/{}", large["id"].as_str().unwrap())).await.expect(200);
    assert!(page.text().contains("Only the first 16 KiB are kept."));
    assert_eq!(page.one("pre[id^=response-]").raw_text(), "x".repeat(16 * 1024));
    assert!(reader.get(&at).await.select(".deliveries .excerpt")[0].text().len() <= 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_form_comes_back_as_text() {
    let host = Host::start().await;
    let reader = host.tenant("acme").await.sign_in().await;
    let form = reader.get("/settings/webhooks/new").await.form("Save and send a test event");
    let url = format!("javascript:{SCRIPT}");
    let form =
        form.set("url", &url).set("description", SCRIPT).set("headers", "</textarea><script>alert(1)</script>: x");
    let again = form.submit(&reader).await.expect(422);
    assert_inert(&again);
    let kept = again.form("Save and send a test event");
    assert_eq!((kept.value("url"), kept.value("description")), (url, SCRIPT.to_owned()));
    assert_eq!(kept.value("headers"), "</textarea><script>alert(1)</script>: x");
}
