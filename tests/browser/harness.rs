//! What the harness promises about the browser, so that a story can rely on it.

use std::path::Path;

use revnoxa_tests::{Answer, Browser, Host, Receiver, axe};
use serde_json::json;

/// Forbids scripts and styles in the page itself, as the host's own pages do.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'";

const FORM: &str = r#"<!doctype html><html lang="en"><title>Add an endpoint</title>
    <main><h1>Add an endpoint</h1><noscript>Scripts are off.</noscript>
    <form method="post" action="/add"><p><label for="url">Endpoint <b>URL</b></label><input id="url" name="url" value="https://">
    <p><label>Description<textarea name="description"></textarea></label>
    <p><label for="events">Events</label><select id="events" name="events"><option value="all">All<option value="some">Bob's choice</select>
    <p><label><input type="checkbox" name="live">Live</label><label><input type="checkbox" name="loud" checked>Loud</label>
    <p><label><input type="radio" name="keep" value="day" checked>A day</label><label><input type="radio" name="keep" value="week">A week</label>
    <p><button>Save</button><button hidden>Save</button></form>
    <p><a href="/elsewhere?q=1">Go <i>elsewhere</i></a></main></html>"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_shown() {
    let Some(browser) = Browser::open().await else { return };
    let host = Host::start().await;
    browser.goto(&format!("{}/docs", host.url())).await;
    browser.wait_for_text("Revnoxa webhooks").await;
    assert_eq!(browser.title().await, "Swagger UI");
    assert_eq!(browser.logs().await, [""; 0]);
    let picture = std::fs::read(browser.screenshot("docs").await).unwrap();
    assert!(picture.starts_with(b"\x89PNG"), "{} bytes", picture.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_fills_in_a_form() {
    let Some(browser) = Browser::open().await else { return };
    let receiver = pages(FORM).await;
    browser.goto(&receiver.url()).await;
    browser.fill("Endpoint URL", "https://a.example/hook").await;
    browser.fill("Description", "two\nlines").await;
    browser.choose("Events", "Bob's choice").await;
    browser.check("Live").await;
    browser.uncheck("Loud").await;
    browser.check("A week").await;
    browser.press("Save").await;
    let sent = &receiver.received()[1];
    assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/add"));
    let form = "url=https%3A%2F%2Fa.example%2Fhook&description=two%0D%0Alines&events=some&live=on&keep=week";
    assert_eq!(sent.text(), form);
    browser.follow("Go elsewhere").await;
    assert_eq!(browser.url().await.query(), Some("q=1"));
    browser.type_keys("\t").await;
    assert_eq!(browser.focused().await, "Endpoint URL");
    assert_eq!(browser.find("#url").await.property("value").await.as_deref(), Some("https://"));
    assert_eq!(browser.count("option").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_have_it_as_they_like() {
    let receiver = pages(FORM).await;
    let usually = json!([false, "UTC", 1280]);
    let otherwise = json!([true, "Asia/Tokyo", 390]);
    let users = [
        (Browser::builder(), usually.clone(), false),
        (Browser::builder().without_script(), usually, true),
        (Browser::builder().dark().width_px(390).time_zone("Asia/Tokyo"), otherwise, false),
    ];
    for (user, has, without_script) in users {
        let Some(browser) = user.open().await else { return };
        browser.goto(&receiver.url()).await;
        browser.press("Save").await;
        assert_eq!(browser.text().await.contains("Scripts are off."), without_script);
        let dark = "matchMedia('(prefers-color-scheme: dark)').matches";
        let time_zone = "Intl.DateTimeFormat().resolvedOptions().timeZone";
        assert_eq!(browser.eval(&format!("[{dark}, {time_zone}, innerWidth]")).await, has);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_what_a_page_sends_and_complains_of() {
    let Some(browser) = Browser::open().await else { return };
    let leaking = FORM.replace("<main>", "<script src='/leak.js'></script><script>inline()</script><main>");
    let script = "fetch('/lost?what=a%20secret', {method: 'POST', body: JSON.stringify({all: 'whsec_1'})})";
    let receiver = Receiver::answering([html(&leaking), Answer::status(200).body(script), html("")]).await;
    browser.goto(&receiver.url()).await;
    receiver.wait_for(3).await;
    let complaints = browser.logs().await;
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("Content Security Policy"), "{complaints:?}");
    let requests = browser.requests().await;
    let urls: Vec<_> = requests.iter().map(|sent| (sent.method.as_str(), sent.url.clone())).collect();
    let at = |path: &str| receiver.url_at(path);
    assert_eq!(urls, [("GET", at("/hook")), ("GET", at("/leak.js")), ("POST", at("/lost?what=a%20secret"))]);
    let mentions = |text: &str| requests.iter().filter(|sent| sent.mentions(text)).count();
    assert_eq!((mentions("a secret"), mentions("whsec_1"), mentions("whsec_2")), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shuts_people_out_is_found_whatever_the_policy() {
    let Some(browser) = Browser::open().await else { return };
    let receiver = Receiver::answering([html(FORM), html(&FORM.replace("<label for=\"url\">", "<label>"))]).await;
    browser.goto(&receiver.url()).await;
    axe(&browser).await;
    browser.reload().await;
    let found = tokio::spawn(async move { axe(&browser).await }).await.unwrap_err().into_panic();
    let told = found.downcast::<String>().unwrap();
    assert!(told.contains("label (critical)") && told.contains(r#"<input id="url""#), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_browser_is_left() {
    let Some(browser) = Browser::open().await else { return };
    let dir = browser.dir().to_owned();
    assert!(dir.exists() && runs_in(&dir));
    let failed = tokio::spawn(async move {
        browser.goto("data:text/html,<title>A page</title>").await;
        panic!("a test fails");
    });
    failed.await.unwrap_err();
    assert!(!runs_in(&dir) && !dir.exists());
}

/// Whether a process names this directory in its arguments.
fn runs_in(dir: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut arguments = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    arguments.any(|arguments| String::from_utf8_lossy(&arguments).contains(dir.to_str().unwrap()))
}

async fn pages(page: &str) -> Receiver {
    Receiver::answering([html(page)]).await
}

fn html(page: &str) -> Answer {
    Answer::status(200)
        .header("Content-Type", "text/html; charset=utf-8")
        .header("Content-Security-Policy", POLICY)
        .body(page)
}
