//! One delivery on the settings pages.

use std::process::Command;

use revnoxa_tests::{Answer, Host, Page, Receiver};
use serde_json::{Value, json};

fn path_of(delivery: &Value) -> String {
    format!("/settings/webhooks/deliveries/{}", delivery["id"].as_str().unwrap())
}

/// Name and value of each header that the page shows of its newest attempt.
fn headers(page: &Page) -> Vec<(String, String)> {
    let rows = page.select(".attempt")[0].select(".headers tr");
    rows.iter().map(|row| (row.select("th")[0].text(), row.select("td")[0].text())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_is_shown_with_the_request_exactly_as_it_was_sent() {
    let host = Host::start().await;
    let refusal = Answer::status(503).body(r#"{"error":{"code":"down"}}"#);
    let receiver = Receiver::answering([refusal, Answer::status(200).body("thanks")]).await;
    let acme = host.tenant("acme").await;
    let headers_of_ours = json!({"Authorization": "Bearer abc"});
    let endpoint = acme.endpoint_with(json!({"url": receiver.url(), "headers": headers_of_ours})).await;
    let event = acme.event_raw(r#"{"b": 1.50,  "a":"it's \u00e9 é"}"#).await;
    let waiting = endpoint.attempted(1, &event).await;
    let reader = acme.sign_in().await;
    let page = reader.get(&path_of(&waiting)).await.expect(200);
    assert_eq!(page.one(".heading .badge").text(), "pending");
    assert!(page.text().contains("1 of 5") && page.text().contains("Next attempt"), "{}", page.text());

    host.advance_to(&waiting["next_attempt_at"], 0).await;
    let done = endpoint.delivery_in("succeeded", &event).await;
    let page = reader.get(&path_of(&done)).await.expect(200);
    let sent = &receiver.received()[1];
    let body = sent.text();
    let [pretty, raw] = &page.select("section[aria-labelledby=request-title] pre")[..] else { panic!("{}", page.html) };
    assert_eq!(raw.raw_text(), body);
    assert!(pretty.raw_text().contains("\n    \"b\": 1.50,\n"), "numbers as they are written: {}", pretty.raw_text());
    for (name, value) in headers(&page) {
        match name.to_ascii_lowercase().as_str() {
            "authorization" => assert_ne!(value, "Bearer abc", "a credential is not shown"),
            name => assert_eq!(sent.header(name), Some(value.as_str()), "{name}"),
        }
    }
    let shown = headers(&page);
    for name in ["x-revnoxa-signature", "webhook-id", "webhook-timestamp", "webhook-signature", "content-type"] {
        assert!(shown.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)), "{name} in {shown:?}");
    }
    let summaries: Vec<String> = page.select(".attempt > summary").iter().map(|summary| summary.text()).collect();
    assert!(summaries[0].starts_with("Attempt 2 200") && summaries[1].starts_with("Attempt 1 503"), "{summaries:?}");
    let responses: Vec<String> = page.select("pre[id^=response-]").iter().map(|pre| pre.raw_text()).collect();
    assert_eq!(responses, ["thanks", r#"{"error":{"code":"down"}}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_command_sends_the_same_request() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint_with(json!({"url": receiver.url_at("/hook?a='b'&c=$d")})).await;
    let event = acme.event_raw(r#"{"text": "it's $HOME `id` \"quoted\" \\ é\n", "n": 1}"#).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    let page = acme.sign_in().await.get(&path_of(&delivery)).await.expect(200);
    let command = page.one(".attempt button[data-text^=curl]").attr("data-text").unwrap().to_owned();
    let ran = tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &command]).output().unwrap());
    let ran = ran.await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let [sent, again] = &receiver.wait_for(2).await[..] else { panic!("two requests") };
    assert_eq!((&again.body, &again.path), (&sent.body, &sent.path));
    for name in ["x-revnoxa-signature", "webhook-signature", "webhook-timestamp", "content-type", "user-agent"] {
        assert_eq!(again.header(name), sent.header(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_retried_from_its_page_and_says_when_it_cannot_be() {
    let host = Host::start().await;
    let receiver = Receiver::answering([500, 200]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let event = acme.event("incident.created", json!({})).await;
    let delivery = endpoint.attempted(1, &event).await;
    let reader = acme.sign_in().await;
    let page = reader.get(&path_of(&delivery)).await;
    let retry = page.form("Retry now");
    let page = retry.submit(&reader).await.expect(200);
    assert_eq!((page.path(), page.redirects[0].0), (path_of(&delivery), 303));
    endpoint.delivery_in("succeeded", &event).await;

    endpoint.post("/disable", json!({})).await.expect(200);
    let page = reader.get(&path_of(&delivery)).await.expect(200);
    assert!(page.text().contains("Its endpoint is disabled; enable it first."), "{}", page.text());
    let refused = retry.submit(&reader).await.expect(200);
    assert!(refused.one("[role=alert]").text().contains("the endpoint is not active"), "{}", refused.text());
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_plugins_did_is_on_the_page() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let only_high = json!({"plugin": "only-matching", "settings": {"field": "/data/severity", "one_of": ["high"]}});
    let redact = json!({"plugin": "redact-fields", "settings": {"fields": ["/data/email"]}});
    endpoint.request("PUT", "/plugins").json(&json!({"items": [only_high, redact]})).send().await.expect(200);
    let low = acme.event("incident.created", json!({"severity": "low"})).await;
    let dropped = endpoint.delivery_in("dropped", &low).await;
    let reader = acme.sign_in().await;
    let page = reader.get(&path_of(&dropped)).await.expect(200);
    assert_eq!(page.one(".runs .badge").text(), "drop");
    assert!(page.text().contains("Dropped: ") && page.text().contains("None was made yet."), "{}", page.text());

    let high = acme.event("incident.created", json!({"severity": "high", "email": "a@example.com"})).await;
    let delivered = endpoint.delivery_in("succeeded", &high).await;
    let page = reader.get(&path_of(&delivered)).await.expect(200);
    let verdicts: Vec<String> = page.select(".runs li").iter().map(|run| run.text()).collect();
    assert!(verdicts[0].contains("only-matching") && verdicts[1].contains("redact-fields"), "{verdicts:?}");
    assert!(!page.text().contains("a@example.com"), "the body is the one that was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_debugger_starts_from_a_delivery_and_can_send_nothing() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let (acme, other) = (host.tenant("acme").await, host.tenant("other").await);
    let endpoint = acme.endpoint(&receiver).await;
    let event = acme.event_raw("{\"a\":\n\"</textarea><script>\"}").await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    let reader = acme.sign_in().await;
    let page = reader.get(&path_of(&delivery)).await.follow("Check its signature").await.expect(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("script-src 'self' 'wasm-unsafe-eval'; connect-src 'none'; form-action 'none'"),
        "{policy}"
    );
    let sent = &receiver.received()[0];
    assert_eq!(page.one("#body").raw_text(), sent.text());
    let signature = format!("x-revnoxa-signature: {}", sent.header("x-revnoxa-signature").unwrap());
    assert!(page.one("#headers").raw_text().to_lowercase().lines().any(|line| line == signature), "{}", page.html);
    let fields = page.select("#debugger input, #debugger textarea");
    assert!(fields.iter().all(|field| field.attr("name").is_none()), "a field with a name could be sent");

    let empty = reader.get("/settings/webhooks/debugger").await.expect(200);
    assert_eq!((empty.one("#body").raw_text(), empty.one("#headers").raw_text()), (String::new(), String::new()));
    let theirs = page.path();
    other.sign_in().await.get(&theirs).await.expect(404);
    reader.get("/settings/webhooks/debugger?delivery=x").await.expect(404);
}
