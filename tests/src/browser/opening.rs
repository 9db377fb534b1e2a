use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use fantoccini::{ClientBuilder, wd::Capabilities};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::Browser;
use crate::{
    keeper::keep,
    wait::{WAIT, eventually},
};

const HOW_TO_INSTALL: &str =
    "Chromium and its driver are not on this machine (Debian: `apt-get install chromium chromium-driver`)";

/// How many browsers run at once in this process; the next one waits for its turn.
static TURNS: Semaphore = Semaphore::const_new(2);

/// The user of a [`Browser`] before it opens.
#[derive(Default)]
pub struct BrowserBuilder {
    without_script: bool,
    dark: bool,
    width_px: Option<u32>,
    time_zone: Option<String>,
}

impl BrowserBuilder {
    /// Who has switched scripts off.
    pub fn without_script(mut self) -> Self {
        self.without_script = true;
        self
    }

    /// Who prefers dark colours.
    pub fn dark(mut self) -> Self {
        self.dark = true;
        self
    }

    /// Whose window is this wide: 390 for a telephone. 1,280 otherwise.
    pub fn width_px(mut self, width_px: u32) -> Self {
        self.width_px = Some(width_px);
        self
    }

    /// Who lives there, like `Asia/Tokyo`. In UTC otherwise.
    pub fn time_zone(mut self, name: &str) -> Self {
        self.time_zone = Some(name.into());
        self
    }

    /// Opens it. `None`: there is no Chromium on this machine, and the test says so; in CI that is a failure.
    pub async fn open(self) -> Option<Browser> {
        if !is_installed() {
            assert!(env::var_os("CI").is_none(), "{HOW_TO_INSTALL}");
            // Not with `eprintln!`, which is not shown of a test that passes.
            let _ = writeln!(std::io::stderr(), "\n  SKIPPED: a test in the browser. {HOW_TO_INSTALL}.\n");
            return None;
        }
        let turn = TURNS.acquire().await.expect("never closed");
        let dir = TempDir::new().unwrap();
        let mut program = Command::new("chromedriver");
        program.arg("--port=0").env("HOME", dir.path()).env("TMPDIR", dir.path());
        program.env("TZ", self.time_zone.as_deref().unwrap_or("UTC"));
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let keeper = keep(&program, "KILL").stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let process = Process { keeper, dir };
        let log = process.dir.path().join("log");
        let port = eventually("chromedriver to tell its port", async || {
            let log = fs::read_to_string(&log).unwrap();
            let (_, told) = log.split_once("started successfully on port ")?;
            told.split_once('.').map(|(port, _)| port.to_owned())
        })
        .await;
        let driver = ClientBuilder::new(HttpConnector::new())
            .capabilities(self.capabilities(process.dir.path()))
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap_or_else(|error| panic!("Chromium does not open: {error}"));
        // It ends with its keeper; nobody has to be told.
        driver.persist().await.unwrap();
        let browser = Browser { driver, process, _turn: turn };
        if self.dark {
            let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
            browser.devtools("Emulation.setEmulatedMedia", dark).await;
        }
        if let Some(width_px) = self.width_px {
            // A window has a least width of its own; what is in it has not.
            let screen = json!({"width": width_px, "height": 844, "deviceScaleFactor": 1, "mobile": false});
            browser.devtools("Emulation.setDeviceMetricsOverride", screen).await;
        }
        Some(browser)
    }

    fn capabilities(&self, dir: &Path) -> Capabilities {
        let profile = format!("--user-data-dir={}", dir.join("profile").display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--lang=en-US",
            "--window-size=1280,900",
            // With it, Chromium ends when its driver does.
            "--remote-debugging-pipe",
            &profile,
        ];
        let mut options = json!({"args": arguments, "perfLoggingPrefs": {"enableNetwork": true, "enablePage": false}});
        if self.without_script {
            options["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
        }
        let wanted = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "SEVERE", "performance": "ALL"},
            "unhandledPromptBehavior": "ignore",
        });
        wanted.as_object().expect("an object").clone()
    }
}

/// The driver with its browser, and the directory for all that they write.
pub(super) struct Process {
    keeper: Child,
    pub(super) dir: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        // The browser ends after its driver; its directory cannot go as long as it writes there.
        let began = Instant::now();
        while runs_in(self.dir.path()) {
            if began.elapsed() > WAIT {
                assert!(std::thread::panicking(), "the browser outlives its driver");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether a process names this directory in its arguments or its environment.
fn runs_in(dir: &Path) -> bool {
    let dir = dir.to_str().expect("a readable path").as_bytes();
    let names_it = |file: PathBuf| fs::read(file).is_ok_and(|text| text.windows(dir.len()).any(|part| part == dir));
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.map(|process| process.path()).any(|it| names_it(it.join("environ")) || names_it(it.join("cmdline")))
}

fn is_installed() -> bool {
    ["chromium", "chromedriver"].iter().all(|program| Command::new(program).arg("--version").output().is_ok())
}
