//! A real browser, and its user's words for what is done in it.

mod axe;
mod opening;
mod sent;

pub use axe::axe;
pub use opening::BrowserBuilder;
pub use sent::Sent;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use fantoccini::{
    Client, Locator,
    elements::{self, ElementRef},
    error::CmdError,
    wd::WebDriverCompatibleCommand,
};
use http::Method;
use serde_json::{Value, json};
use tokio::{sync::SemaphorePermit, time::sleep};
use url::{ParseError, Url};

use crate::wait::WAIT;
use opening::Process;

const BUTTONS: &str = "button, summary, input[type=submit], input[type=reset], input[type=button], [role=button]";

const TEXT_FIELDS: &str = "textarea, input:not([type=hidden], [type=checkbox], [type=radio], [type=file], [type=submit], [type=reset], \
     [type=button], [type=image])";

/// The elements that a selector fits and whose name might be the one sought, and all their names as far as a script can tell.
const CANDIDATES: &str = r"
    const [css, name] = arguments;
    const nameOf = element => [
        ...[...element.labels ?? []].map(label => label.textContent),
        ...(element.getAttribute('aria-labelledby') ?? '').split(' ').map(id => document.getElementById(id)?.textContent),
        element.getAttribute('aria-label'),
        element.title,
        element.matches('input[type=submit], input[type=reset], input[type=button]') ? element.value : '',
        element.matches('input, select, textarea') ? '' : element.textContent,
        ...[...element.querySelectorAll('img')].map(image => image.alt),
    ].join(' ').replace(/\s+/g, ' ').trim();
    const all = [...document.querySelectorAll(css)];
    return {elements: all.filter(element => nameOf(element).includes(name)), names: all.map(nameOf)};
";

/// A Chromium of its own, with nothing from before, and what a user does with it. It is gone when dropped, and when this process dies.
///
/// What the user looks for is waited for, by the name that a screen reader says; a name that two things have fails the test.
/// A test opens one at a time.
pub struct Browser {
    driver: Client,
    process: Process,
    _turn: SemaphorePermit<'static>,
}

impl Browser {
    /// With scripts, light colours, 1,280 pixels wide, in UTC; as [`BrowserBuilder::open`] has it.
    pub async fn open() -> Option<Self> {
        Self::builder().open().await
    }

    /// For a user who has it otherwise.
    pub fn builder() -> BrowserBuilder {
        BrowserBuilder::default()
    }

    /// Goes to this address and waits until the page has loaded.
    pub async fn goto(&self, url: &str) {
        self.driver.goto(url).await.unwrap_or_else(|error| panic!("{url} does not load: {error}"));
    }

    /// Where it and its driver keep all that they write; gone with them.
    pub fn dir(&self) -> &Path {
        self.process.dir.path()
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.driver.refresh().await.unwrap();
    }

    /// Where it is.
    pub async fn url(&self) -> Url {
        self.driver.current_url().await.unwrap()
    }

    /// The page's title.
    pub async fn title(&self) -> String {
        self.driver.title().await.unwrap()
    }

    /// What the page shows, white space collapsed.
    pub async fn text(&self) -> String {
        self.shown().await.unwrap()
    }

    /// Waits until the page shows this text, and gives all that it shows.
    pub async fn wait_for_text(&self, text: &str) -> String {
        self.wait(&format!("the text {text:?}"), async || {
            let shown = self.shown().await.map_err(|error| error.to_string())?;
            if shown.contains(text) { Ok(shown) } else { Err(format!("it shows: {shown}")) }
        })
        .await
    }

    /// The one element that a CSS selector fits.
    pub async fn find(&self, css: &str) -> Element {
        let element = self.wait(css, async || {
            let mut found = self.driver.find_all(Locator::Css(css)).await.map_err(|error| error.to_string())?;
            if found.len() == 1 { Ok(found.remove(0)) } else { Err(format!("{} elements fit", found.len())) }
        });
        Element(element.await)
    }

    /// How many elements a CSS selector fits at the moment.
    pub async fn count(&self, css: &str) -> usize {
        self.driver.find_all(Locator::Css(css)).await.unwrap().len()
    }

    /// Replaces what is in the text field of this label.
    pub async fn fill(&self, label: &str, value: &str) {
        self.act("text field", TEXT_FIELDS, label, async |field| {
            field.clear().await?;
            field.send_keys(value).await
        })
        .await;
    }

    /// Chooses the option of this text in the list of this label.
    pub async fn choose(&self, label: &str, option: &str) {
        let option = format!(".//option[normalize-space(.)={}]", xpath_text(option));
        self.act("list", "select", label, async |list| list.select_by(Locator::XPath(&option)).await).await;
    }

    /// Ticks the box, or picks the radio button, of this label.
    pub async fn check(&self, label: &str) {
        self.turn(label, true).await;
    }

    /// Takes the tick out of the box of this label.
    pub async fn uncheck(&self, label: &str) {
        self.turn(label, false).await;
    }

    /// Puts a file into the file field of this label.
    pub async fn attach(&self, label: &str, file: &Path) {
        // The driver takes no path with `..` in it.
        let file = file.canonicalize().expect("a file");
        let path = file.to_str().expect("a readable path");
        self.act("file field", "input[type=file]", label, async |field| field.send_keys(path).await).await;
    }

    /// Presses the button of this name, and waits for the page that follows, if one does.
    pub async fn press(&self, name: &str) {
        self.act("button", BUTTONS, name, async |button| button.click().await).await;
    }

    /// Follows the link of this name, and waits for the page that follows.
    pub async fn follow(&self, name: &str) {
        self.act("link", "a[href]", name, async |link| link.click().await).await;
    }

    /// Types where the focus is; [`fantoccini::key::Key`] has the names of Tab, Enter and the like.
    pub async fn type_keys(&self, keys: &str) {
        self.driver.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    /// The name of what has the focus, as a screen reader says it.
    pub async fn focused(&self) -> String {
        let focused = self.driver.active_element().await.unwrap();
        self.name_of(&focused.element_id()).await.unwrap()
    }

    /// The value of a JavaScript expression, a promise's when it is kept. Works with scripts switched off, too.
    pub async fn eval(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}")).await
    }

    /// What a JavaScript function of this body returns.
    pub(crate) async fn run(&self, body: &str) -> Value {
        match self.driver.execute(body, Vec::new()).await {
            Ok(value) => value,
            Err(error) => panic!("on {}: {error} in {:.200}", self.url().await, body),
        }
    }

    /// Pictures the whole page into `screenshots/{name}.png` of the target directory, and gives that path.
    pub async fn screenshot(&self, name: &str) -> PathBuf {
        let size = &self.devtools("Page.getLayoutMetrics", json!({})).await["cssContentSize"];
        // Above that, Chromium repeats itself.
        let height = size["height"].as_f64().expect("a height").min(16_000.0);
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1});
        let picture = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.devtools("Page.captureScreenshot", picture).await;
        let picture = BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture")).unwrap();
        let test = env::current_exe().unwrap();
        let dir = test.ancestors().nth(3).expect("target/<profile>/deps/<test>").join("screenshots");
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("{name}.png"));
        fs::write(&path, picture).unwrap();
        println!("screenshot: {}", path.display());
        path
    }

    /// What the browser's console has complained of since the last call: errors of scripts, violated policies, refused loads.
    pub async fn logs(&self) -> Vec<String> {
        let entries = self.log("browser").await;
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().expect("a message").to_owned()).collect()
    }

    /// What the pages have sent since the last call, in that order: by their links, forms and scripts, but not by workers.
    pub async fn requests(&self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for entry in self.log("performance").await {
            let message: Value = serde_json::from_str(entry["message"].as_str().expect("a message")).unwrap();
            let (method, about) = (&message["message"]["method"], &message["message"]["params"]);
            if method == "Network.requestWillBeSent" {
                sent.extend(Sent::read(&about["request"]));
            }
        }
        sent
    }

    async fn turn(&self, label: &str, on: bool) {
        self.act("box", "input[type=checkbox], input[type=radio]", label, async |checkable| {
            if checkable.is_selected().await? != on { checkable.click().await } else { Ok(()) }
        })
        .await;
    }

    async fn shown(&self) -> Result<String, CmdError> {
        let text = self.driver.execute("return document.body?.innerText ?? ''", Vec::new()).await?;
        Ok(text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Does something to the one element of this kind and name. Again, if the page changed under the user's hands.
    async fn act(
        &self,
        kind: &str,
        css: &str,
        name: &str,
        act: impl AsyncFn(elements::Element) -> Result<(), CmdError>,
    ) {
        self.wait(&format!("a {kind} {name:?}"), async || {
            let element = self.named(css, name).await?;
            act(element).await.map_err(|error| error.to_string())
        })
        .await;
    }

    async fn named(&self, css: &str, name: &str) -> Result<elements::Element, String> {
        let candidates = self.driver.execute(CANDIDATES, vec![json!(css), json!(name)]).await;
        let candidates = candidates.map_err(|error| error.to_string())?;
        let mut found = Vec::new();
        for candidate in candidates["elements"].as_array().expect("a list") {
            // The member's name is the same in every WebDriver.
            let id = candidate["element-6066-11e4-a52e-4f735466cecf"].as_str().expect("a reference");
            let id = ElementRef::from(id.to_owned());
            if self.name_of(&id).await.map_err(|error| error.to_string())? == name {
                found.push(id);
            }
        }
        match found.len() {
            1 => Ok(elements::Element::from_element_id(self.driver.clone(), found.remove(0))),
            0 => Err(format!("there are only: {}", candidates["names"])),
            many => Err(format!("there are {many}")),
        }
    }

    /// Its name as a screen reader says it; empty when it says none.
    async fn name_of(&self, element: &ElementRef) -> Result<String, CmdError> {
        let path = format!("element/{}/computedlabel", element.as_ref());
        let name = self.driver.issue_cmd(Call { method: Method::GET, path, body: None }).await?;
        Ok(name.as_str().unwrap_or_default().trim().to_owned())
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let call = Call { method: Method::POST, path: "se/log".into(), body: Some(json!({"type": kind})) };
        self.driver.issue_cmd(call).await.unwrap().as_array().expect("a list").clone()
    }

    /// A command of the [DevTools protocol](https://chromedevtools.github.io/devtools-protocol/).
    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        let call = Call { method: Method::POST, path: "goog/cdp/execute".into(), body: Some(body) };
        self.driver.issue_cmd(call).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Tries until it works; fails the test after [`WAIT`] with the last reason why it does not.
    async fn wait<T>(&self, what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
        let began = Instant::now();
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(reason) if began.elapsed() > WAIT => {
                    panic!("waited {WAIT:?} in vain for {what} on {}; {reason}", self.url().await)
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// One element of the page.
pub struct Element(elements::Element);

impl Element {
    /// What it shows, line by line as it is laid out.
    pub async fn text(&self) -> String {
        self.0.text().await.unwrap()
    }

    /// An attribute as it is written in the page.
    pub async fn attribute(&self, name: &str) -> Option<String> {
        self.0.attr(name).await.unwrap()
    }

    /// A property as it is now, like the `value` of a text field.
    pub async fn property(&self, name: &str) -> Option<String> {
        self.0.prop(name).await.unwrap()
    }

    /// Clicks it, and waits for the page that follows, if one does.
    pub async fn press(&self) {
        self.0.click().await.unwrap();
    }
}

/// A command of chromedriver's that the client has no name for; the path is below the session's.
#[derive(Debug)]
struct Call {
    method: Method,
    path: String,
    body: Option<Value>,
}

impl WebDriverCompatibleCommand for Call {
    fn endpoint(&self, base_url: &Url, session_id: Option<&str>) -> Result<Url, ParseError> {
        base_url.join(&format!("session/{}/{}", session_id.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (self.method.clone(), self.body.as_ref().map(Value::to_string))
    }
}

/// A text as XPath writes it, which has no escapes.
fn xpath_text(text: &str) -> String {
    format!("concat('', '{}')", text.replace('\'', r#"', "'", '"#))
}
