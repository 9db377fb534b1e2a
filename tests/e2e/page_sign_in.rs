//! Signing in to the settings pages, and who is kept out.

use std::time::Duration;

use revnoxa_tests::{Host, Machine, Receiver, Tenant};
use serde_json::json;

const MIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_the_pages_once() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let made = host.operator().post("/v1/tenants/acme/portal-links", json!({})).await.expect(201);
    assert_eq!(made["expires_at"], "2026-03-01T12:05:00.000Z");
    let link = made.text_of("url");
    assert!(link.starts_with(&format!("{}/settings/sign-in/", host.url())), "{link}");

    host.anyone().request("HEAD", &link[host.url().len()..]).send().await.expect(204);
    let reader = host.reader();
    let page = reader.get(link).await.expect(200);
    assert_eq!((page.path().as_str(), page.redirects[0].0), ("/settings/webhooks", 303));
    assert_eq!(page.title(), "Endpoints · Revnoxa");
    let [cookie] = &reader.cookies()[..] else { panic!("{:?}", reader.cookies()) };
    assert!(cookie.http_only && !cookie.secure, "loopback speaks no TLS: {cookie:?}");
    assert_eq!((cookie.same_site.as_deref(), cookie.path.as_deref()), (Some("Lax"), Some("/")));
    assert_eq!(cookie.max_age_s, Some(12 * 3_600));

    let again = host.reader().get(link).await.expect(401);
    assert!(again.text().contains("A link to these pages works once"), "{}", again.text());
    let unknown = format!("{}x", acme.portal_link().await);
    host.reader().get(&unknown).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_expires_after_five_minutes_and_a_session_after_twelve_hours() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let (in_time, late) = (acme.portal_link().await, acme.portal_link().await);
    host.advance(5 * MIN - Duration::from_millis(1)).await;
    let reader = host.reader();
    reader.get(&in_time).await.expect(200);
    host.advance(Duration::from_millis(1)).await;
    host.reader().get(&late).await.expect(401);

    host.advance(12 * 60 * MIN - Duration::from_millis(2)).await;
    reader.get("/settings/webhooks").await.expect(200);
    host.advance(Duration::from_millis(1)).await;
    reader.get("/settings/webhooks").await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_begins_a_new_session_and_ends_the_one_before() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let reader = acme.sign_in().await;
    let before = reader.cookies()[0].clone();
    reader.get(&acme.portal_link().await).await.expect(200);
    assert_ne!(reader.cookies()[0].value, before.value);
    let thief = host.reader();
    thief.set_cookie(&before.name, &before.value);
    thief.get("/settings/webhooks").await.expect(401);

    let stolen = reader.cookies()[0].clone();
    let page = reader.get("/settings/webhooks").await.expect(200);
    let out = page.form("Sign out").submit(&reader).await.expect(401);
    assert!(out.text().contains("You are signed out"), "{}", out.text());
    assert!(reader.cookie(&stolen.name).is_none_or(|cookie| cookie.value.is_empty()));
    thief.set_cookie(&stolen.name, &stolen.value);
    thief.get("/settings/webhooks").await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tls_is_spoken_the_cookie_is_for_this_host_alone() {
    let url = "https://hooks.example.com";
    let host = Host::builder()
        .with(|config| {
            config.public_url = Some(url.parse().unwrap());
            config.frame_ancestors.0 = vec!["https://app.example.com".parse().unwrap()];
        })
        .start()
        .await;
    let acme = host.tenant("acme").await;
    let link = acme.portal_link().await;
    let path = link.strip_prefix(url).expect("links begin with the public URL");
    let reader = host.reader();
    let page = reader.get(path).await.expect(200);
    let cookie = reader.cookie("__Host-revnoxa-session").expect("a cookie with the prefix");
    assert!(cookie.secure && cookie.http_only && cookie.domain.is_none(), "{cookie:?}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors https://app.example.com"), "{policy}");

    // The form's own origin is the address that the operator named, and no other.
    let form = page.form("Sign out");
    form.submit(&reader).await.expect(403);
    form.submit(&reader.from_another_site(url)).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_run_nothing_and_are_framed_by_nobody_unless_told() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let reader = acme.sign_in().await;
    for path in ["/settings/webhooks", "/settings/webhooks/new", "/settings/nothing", "/settings/sign-in/x"] {
        let page = reader.get(path).await;
        let policy = page.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self';", "style-src 'self';"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(page.header("referrer-policy"), Some("same-origin"), "{path}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

/// Every form of the pages, each with a field that would change something.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_not_from_a_page_of_this_session_changes_nothing() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let event = acme.event("incident.created", json!({})).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    let (tests, secret) = (receiver.tests().len(), endpoint.secret.clone());
    let reader = acme.sign_in().await;
    let foreign = acme.sign_in().await;
    let foreign_token = foreign.get("/settings/webhooks/new").await.form("Sign out").value("csrf");

    let endpoint_page = format!("/settings/webhooks/endpoints/{}", endpoint.id);
    let page = reader.get(&endpoint_page).await.expect(200);
    let delivery_page = format!("/settings/webhooks/deliveries/{}", delivery["id"].as_str().unwrap());
    let new = reader.get("/settings/webhooks/new").await;
    let edit = reader.get(&format!("{endpoint_page}/edit")).await;
    let forms = [
        new.form("Save and send a test event").set("url", &receiver.url_at("/other")),
        edit.form("Save changes").set("description", "mine now"),
        page.form("Send test event"),
        page.form("Disable"),
        page.form("Rotate secret"),
        page.form("Send again").set("since", "2026-01-01T00:00"),
        page.form("Delete endpoint"),
        reader.get(&delivery_page).await.form("Retry now"),
        page.form("Sign out"),
    ];
    for form in forms {
        form.clone().without("csrf").submit(&reader).await.expect(403);
        form.clone().set("csrf", "").submit(&reader).await.expect(403);
        form.clone().set("csrf", &foreign_token).submit(&reader).await.expect(403);
        for origin in ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1"] {
            form.submit(&reader.from_another_site(origin)).await.expect(403);
        }
        // A stranger with a token of somebody's page, but without the session.
        form.submit(&host.reader()).await.expect(401);
    }
    let now = endpoint.read().await;
    assert_eq!((&now["state"], &now["description"]), (&json!("active"), &json!("")));
    assert_eq!(acme.all("/endpoints").await.len(), 1);
    assert_eq!((receiver.tests().len(), receiver.received().len()), (tests, 1));
    acme.event("incident.created", json!({})).await;
    revnoxa_tests::verify::both_signatures(&secret, &receiver.wait_for(2).await[1], host.now());
    reader.get("/settings/webhooks").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_without_an_origin_is_refused() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let reader = acme.sign_in().await;
    let (cookie, token) =
        (reader.cookies()[0].clone(), reader.get("/settings/webhooks").await.form("Sign out").value("csrf"));
    let post = || {
        let post = host.anyone().request("POST", "/settings/sign-out");
        let post = post.header("cookie", &format!("{}={}", cookie.name, cookie.value));
        post.body_of(Some("application/x-www-form-urlencoded"), format!("csrf={token}"))
    };
    post().send().await.expect(403);
    post().header("origin", &host.url()).send().await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenants_links_and_sessions_are_void() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let (reader, link) = (acme.sign_in().await, acme.portal_link().await);
    host.operator().delete("/v1/tenants/acme").await.expect(204);
    reader.get("/settings/webhooks").await.expect(401);
    host.reader().get(&link).await.expect(401);
    host.operator().post("/v1/tenants/acme/portal-links", json!({})).await.expect_problem(404, "not-found");
    let _again: Tenant = host.tenant("acme").await;
    reader.get("/settings/webhooks").await.expect(401);
    host.reader().get(&link).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_make_links() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let path = "/v1/tenants/acme/portal-links";
    acme.post("/portal-links", json!({})).await.expect_problem(403, "forbidden");
    host.producer().await.post(path, json!({})).await.expect_problem(403, "forbidden");
    host.anyone().post(path, json!({})).await.expect_problem(401, "unauthorized");
    host.operator().post(path, json!({"tenant": "x"})).await.expect_problem(400, "invalid-request");
    host.operator().post_empty(path).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_prints_a_link_to_the_pages() {
    let machine = Machine::bare();
    let dev = machine.start_serving(&["dev"]).await;
    let link = dev.line("a link", |line| line.contains("/settings/sign-in/").then(|| line.trim().to_owned())).await;
    let page = machine.reader().get(&link[link.find("http").unwrap()..]).await.expect(200);
    assert!(page.text().contains("Development"), "{}", page.text());
    assert!(page.text().contains("No endpoints yet"), "{}", page.text());
}
