//! Endpoints on the settings pages, as somebody without script uses them.

use std::time::Duration;

use revnoxa_tests::{Host, Receiver, eventually, verify};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_endpoint_is_added_tested_and_shown_with_its_secret() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let reader = acme.sign_in().await;
    let page = reader.get("/settings/webhooks").await.expect(200);
    assert!(page.text().contains("No endpoints yet"), "{}", page.text());
    let form = page.follow("Add your first endpoint").await.form("Save and send a test event");
    let form = form.set("url", &receiver.url()).set("description", "On-call dashboard");
    let form = form.check("types", "chosen").check("event_types", "incident.created");
    let form = form.set("headers", "X-Team: sre\n\nAuthorization: Bearer abc");

    let added = form.submit(&reader).await.expect(201);
    assert!(added.text().contains("The test event was answered with 200"), "{}", added.text());
    let secret = added.one("#secret").text();
    let test = &receiver.tests()[0];
    verify::both_signatures(&secret, test, host.now());
    assert_eq!((test.header("x-team"), test.header("authorization")), (Some("sre"), Some("Bearer abc")));
    let languages: Vec<String> = added.select(".snippets summary").iter().map(|summary| summary.text()).collect();
    assert_eq!(languages, ["Node", "Python", "Rust", "cURL"]);

    let endpoint = added.follow("To the endpoint").await.expect(200);
    assert!(!endpoint.html.contains(&secret) && !endpoint.html.contains("Bearer abc"), "shown once");
    assert_eq!(endpoint.one(".heading .badge").text(), "active");
    let list = reader.get("/settings/webhooks").await;
    assert_eq!(list.select("tbody tr").len(), 1);
    let row = list.one("tbody tr").text();
    for shown in [receiver.url().as_str(), "On-call dashboard", "incident.created", "active", "webhook.test: succeeded"]
    {
        assert!(row.contains(shown), "{shown:?} in {row}");
    }
    let stored = &acme.all("/endpoints").await[0];
    assert_eq!(stored["event_types"], json!(["incident.created"]));
    assert_eq!(stored["headers"], json!({"x-team": "sre", "authorization": "Bearer abc"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_fails_says_why_and_can_be_sent_again() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    receiver.answer_tests(503);
    let reader = host.tenant("acme").await.sign_in().await;
    let form = reader.get("/settings/webhooks/new").await.form("Save and send a test event");
    let added = form.set("url", &receiver.url()).submit(&reader).await.expect(201);
    assert!(added.text().contains("the answer was 503"), "{}", added.text());
    let page = added.follow("To the endpoint").await;
    assert_eq!(page.one(".heading .badge").text(), "pending");
    assert!(page.text().contains("The last one was not: "), "{}", page.text());

    let again = page.form("Send test event").submit(&reader).await.expect(200);
    assert!(again.text().contains("The test event was not delivered: the answer was 503"), "{}", again.text());
    receiver.answer_tests(204);
    let again = again.form("Send test event").submit(&reader).await.expect(200);
    assert!(again.text().contains("The test event was answered with 204"), "{}", again.text());
    assert_eq!(again.one(".heading .badge").text(), "active");
    assert_eq!(receiver.tests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_breaks_a_rule_comes_back_as_it_was_filled_in() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let reader = acme.sign_in().await;
    let empty = reader.get("/settings/webhooks/new").await.form("Save and send a test event");
    let filled = empty.set("url", &receiver.url()).set("description", "a \"b\" <i>").set("headers", "X-A: 1");
    let filled = filled.check("types", "chosen").check("event_types", "incident.resolved");
    let cases = [
        ("url", filled.clone().set("url", "ftp://example.com"), "url", "http"),
        ("url", filled.clone().set("url", ""), "url", ""),
        ("headers", filled.clone().set("headers", "X-A 1"), "headers", "line 1 must be `Name: value`"),
        ("headers", filled.clone().set("headers", "X-A: 1\nx-a: 2"), "headers", "`x-a` is given twice"),
        ("headers", filled.clone().set("headers", "Content-Length: 1"), "headers", "reserved"),
        ("description", filled.clone().set("description", &"d".repeat(513)), "description", "at most 512 bytes"),
    ];
    for (changed, form, field, rule) in cases {
        let again = form.submit(&reader).await.expect(422);
        let error = again.error_of(field).unwrap_or_else(|| panic!("{field}: {}", again.text()));
        assert!(error.contains(rule), "{field}: {error}");
        let kept = again.form("Save and send a test event");
        for name in ["url", "description", "headers", "types", "event_types"] {
            let mended = if name == changed { &form } else { &filled };
            assert_eq!(kept.values(name), mended.values(name), "{name} after a wrong {changed}");
        }
    }
    // No type chosen: the group as a whole is at fault.
    let none = filled.clone().uncheck("event_types", "incident.resolved").submit(&reader).await.expect(422);
    let group = none.one("fieldset[aria-invalid=true]");
    assert!(group.text().contains("must name 1 to 64 types"), "{}", group.text());
    assert!(acme.all("/endpoints").await.is_empty() && receiver.tests().is_empty());
    filled.submit(&reader).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_changed_where_it_is_shown() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let types = json!(["incident.created", "approval.approved"]);
    let endpoint = acme.endpoint_with(json!({"url": receiver.url(), "event_types": types})).await;
    let reader = acme.sign_in().await;
    let page = reader.get(&format!("/settings/webhooks/endpoints/{}", endpoint.id)).await;
    let form = page.follow("Edit").await.form("Save changes");
    assert_eq!(form.values("event_types"), ["approval.approved", "incident.created"]);
    let refused = form.clone().set("url", "no url").submit(&reader).await.expect(422);
    assert!(refused.error_of("url").is_some());

    let form = form.set("url", &receiver.url_at("/new")).check("types", "all").set("description", "moved");
    let page = form.submit(&reader).await.expect(200);
    assert!(page.text().contains(&receiver.url_at("/new")) && page.text().contains("moved"), "{}", page.text());
    let changed = endpoint.read().await;
    assert_eq!((&changed["event_types"], &changed["state"]), (&json!(null), &json!("active")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_with_an_overlap_and_shown_once() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let reader = acme.sign_in().await;
    let path = format!("/settings/webhooks/endpoints/{}", endpoint.id);
    let form = reader.get(&path).await.form("Rotate secret");
    let wrong = form.clone().forge("overlap_seconds", "604801").without("overlap_seconds");
    let wrong = wrong.forge("overlap_seconds", "604801").submit(&reader).await.expect(200);
    assert!(wrong.one("[role=alert]").text().contains("must be 0 to 604800"), "{}", wrong.text());

    let page = form.set("overlap_seconds", "3600").submit(&reader).await.expect(200);
    let secret = page.one("#secret").text();
    assert_ne!(secret, endpoint.secret);
    acme.event("incident.created", json!({})).await;
    let sent = receiver.wait_for(1).await[0].clone();
    assert_eq!(sent.header("webhook-signature").unwrap().split(' ').count(), 2, "both sign");
    assert_eq!(sent.header("x-revnoxa-signature").unwrap(), verify::openssl_hmac(&secret, &sent.body));
    assert!(!reader.get(&path).await.html.contains(&secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_endpoint_holds_and_delivers_or_drops_when_enabled() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let reader = acme.sign_in().await;
    let path = format!("/settings/webhooks/endpoints/{}", endpoint.id);
    for (held, state) in [("deliver", "succeeded"), ("drop", "dropped")] {
        let page = reader.get(&path).await.form("Disable").submit(&reader).await.expect(200);
        assert!(page.text().contains("It is disabled (disabled by request)"), "{}", page.text());
        let event = acme.event("incident.created", json!({})).await;
        let page = reader.get(&path).await;
        assert_eq!(page.select(".deliveries .badge")[0].text(), "held");
        let page = page.form("Enable").set("held", held).submit(&reader).await.expect(200);
        assert_eq!(page.one(".heading .badge").text(), "active");
        endpoint.delivery_in(state, &event).await;
    }
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_deliveries_are_sent_again_since_a_time() {
    let host = Host::builder().with(|config| config.retry_delays = Vec::new()).start().await;
    let receiver = Receiver::answering([500]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let early = acme.event("incident.created", json!({"n": 1})).await;
    endpoint.delivery_in("failed", &early).await;
    host.advance(Duration::from_secs(3_600)).await;
    let late = acme.event("incident.created", json!({"n": 2})).await;
    endpoint.delivery_in("failed", &late).await;
    receiver.answer([200]);
    let reader = acme.sign_in().await;
    let path = format!("/settings/webhooks/endpoints/{}", endpoint.id);
    let form = reader.get(&path).await.form("Send again");
    let wrong = form.clone().set("since", "yesterday").submit(&reader).await.expect(200);
    assert!(wrong.one("[role=alert]").text().contains("must be an RFC 3339 time"), "{}", wrong.text());
    let page = form.set("since", "2026-03-01T12:30").submit(&reader).await.expect(200);
    assert!(page.one("[role=status]").text().contains("1 failed delivery is sent again"), "{}", page.text());
    endpoint.delivery_in("succeeded", &late).await;
    assert_eq!(endpoint.delivery(&early).await["state"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_endpoint_is_gone_with_its_history() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let reader = acme.sign_in().await;
    let path = format!("/settings/webhooks/endpoints/{}", endpoint.id);
    let page = reader.get(&path).await;
    assert_eq!(page.one("form[action$=delete] input[type=checkbox]").attr("required"), Some(""), "asks first");
    let list = page.form("Delete endpoint").submit(&reader).await.expect(200);
    assert!(list.text().contains("No endpoints yet"), "{}", list.text());
    reader.get(&path).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_filtered_and_paged() {
    let host = Host::builder().with(|config| config.retry_delays = Vec::new()).start().await;
    let receiver = Receiver::answering([500, 200]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let failed = acme.event("incident.created", json!({})).await;
    endpoint.delivery_in("failed", &failed).await;
    for _ in 0..27 {
        host.advance(Duration::from_secs(1)).await;
        let event = acme.event("incident.resolved", json!({})).await;
        endpoint.delivery_in("succeeded", &event).await;
    }
    let reader = acme.sign_in().await;
    let path = format!("/settings/webhooks/endpoints/{}", endpoint.id);
    let shown = |page: &revnoxa_tests::Page| -> Vec<String> {
        page.select(".deliveries tbody th").iter().map(|row| row.text()).collect()
    };
    let first = reader.get(&path).await.expect(200);
    assert_eq!(shown(&first), vec!["incident.resolved"; 25]);
    let second = first.follow("Older").await.expect(200);
    assert_eq!(shown(&second), ["incident.resolved", "incident.resolved", "incident.created", "webhook.test"]);
    assert_eq!(shown(&second.follow("Newest").await), vec!["incident.resolved"; 25]);

    let filter = first.form(".filters");
    let failures = filter.clone().set("state", "failed").submit(&reader).await.expect(200);
    assert_eq!(shown(&failures), ["incident.created"]);
    let row = failures.one(".deliveries tbody tr").text();
    for cell in ["Mar 1, 12:00:00 UTC", "failed", "500", "1/1"] {
        assert!(row.contains(cell), "{cell:?} in {row}");
    }
    assert_eq!(failures.form(".filters").value("state"), "failed", "the filter stays as it is");
    let resolved = filter.clone().set("type", "incident.resolved").set("before", "2026-03-01T12:00:03");
    assert_eq!(shown(&resolved.submit(&reader).await), vec!["incident.resolved"; 2]);
    let paged = filter.clone().set("type", "incident.resolved").submit(&reader).await.follow("Older").await;
    assert_eq!(shown(&paged), vec!["incident.resolved"; 2], "pages keep the filter");
    let nothing = filter.clone().set("type", "hijacker.detected").submit(&reader).await;
    assert!(nothing.text().contains("No deliveries like that"), "{}", nothing.text());
    for (field, wrong) in [("after", "soon"), ("type", "no type!")] {
        let page = filter.clone().set(field, wrong).submit(&reader).await.expect(200);
        assert!(page.one(".filters [role=alert]").text().contains(field), "{}", page.text());
        assert_eq!(page.form(".filters").value(field), wrong);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_pages() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    for number in 0..26 {
        acme.endpoint_with(json!({"url": receiver.url_at(&format!("/{number}"))})).await;
    }
    let reader = acme.sign_in().await;
    let first = reader.get("/settings/webhooks").await.expect(200);
    assert_eq!(first.select("tbody tr").len(), 25);
    let second = first.follow("More endpoints").await.expect(200);
    assert!(second.one("tbody tr").text().contains(&receiver.url_at("/25")), "{}", second.text());
    assert_eq!(second.follow("First page").await.select("tbody tr").len(), 25);
    reader.get("/settings/webhooks?cursor=nonsense").await.expect(400);
}

/// What the chart counts comes a moment after the deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn the_success_rate_and_the_chart_show_how_it_goes() {
    let host = Host::start().await;
    let receiver = Receiver::answering([500, 200]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let event = acme.event("incident.created", json!({})).await;
    endpoint.attempted(1, &event).await;
    let other = acme.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &other).await;
    let reader = acme.sign_in().await;
    eventually("the success rate", async || {
        let list = reader.get("/settings/webhooks").await.expect(200);
        // Two of three: the test event counts.
        list.one("tbody tr").text().contains("66.6 %").then_some(())
    })
    .await;
    let page = reader.get(&format!("/settings/webhooks/endpoints/{}", endpoint.id)).await.expect(200);
    let chart = page.select("svg")[0].raw_text();
    assert!(chart.contains("24 hours") && chart.contains('3'), "{chart}");
    let week = page.follow("7 days").await.expect(200);
    assert!(week.select("svg")[0].raw_text().contains("7 days"));
}
