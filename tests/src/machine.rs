use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::OnceLock,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use crate::{api::Api, client::Server, database_url, postgres::Postgres, sqlite_url, wait::WAIT, wait::eventually};

/// Names another build of the host to run in place of this one, as to compare the two.
const OTHER_BINARY: &str = "TEST_HOST_BINARY";
const OPERATOR_TOKEN: &str = "rvx_operator_of_the_process_tests";

/// Where the real binary runs: a directory and settings that outlive each of its processes.
///
/// Dereferences to the [`Api`] of whichever process listens at the moment.
pub struct Machine {
    api: Api,
    settings: BTreeMap<String, String>,
    dir: TempDir,
}

impl Machine {
    /// As a newcomer has it: every setting has its default, but for port 0.
    pub fn bare() -> Self {
        let nowhere = "127.0.0.1:1".parse().unwrap();
        let machine = Self {
            api: Api::new(Server::new(nowhere), OPERATOR_TOKEN),
            settings: BTreeMap::new(),
            dir: TempDir::new().unwrap(),
        };
        machine.set("REVNOXA_LISTEN", "127.0.0.1:0")
    }

    /// Settings for tests: port 0, own database and key, http and loopback receivers allowed, an operator token, no rate limits.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        Self::with(database_url)
    }

    /// The same on a SQLite file, whatever the other tests run on.
    pub fn on_a_file() -> Self {
        Self::with(sqlite_url)
    }

    /// The same on this database, as one of the hosts that share it.
    pub fn on(database_url: &str) -> Self {
        Self::with(|_| database_url.to_owned())
    }

    fn with(database_url: impl FnOnce(&Path) -> String) -> Self {
        let machine = Self::bare();
        let data = machine.dir().join("data");
        machine
            .set("REVNOXA_DATA_DIR", data.to_str().unwrap())
            .set("REVNOXA_DATABASE_URL", &database_url(&data))
            .set("REVNOXA_MASTER_KEY", &BASE64_STANDARD.encode([9; 32]))
            .set("REVNOXA_OPERATOR_TOKEN", OPERATOR_TOKEN)
            .set("REVNOXA_ALLOW_INSECURE_ENDPOINTS", "true")
            // Tests ask more often than people do.
            .set("REVNOXA_API_RATE_LIMIT", "off")
    }

    /// Sets an environment variable for the processes to come.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// What an environment variable of the processes to come is set to.
    pub fn setting(&self, name: &str) -> String {
        self.settings[name].clone()
    }

    /// Takes an environment variable away.
    pub fn unset(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// All that the database holds, as `pg_dump` writes it, with its name. `None`: it is a file in the directory.
    pub fn database_dump(&self) -> Option<(String, Vec<u8>)> {
        let url = self.settings.get("REVNOXA_DATABASE_URL").filter(|url| url.starts_with("postgres:"))?;
        Some((url.clone(), Postgres::dump(url)))
    }

    /// Runs statements on the database behind the host's back. What a running host has read before, it may go by.
    pub fn sql(&self, statements: &str) {
        let url = self.setting("REVNOXA_DATABASE_URL");
        let Some(file) = url.strip_prefix("sqlite://") else {
            Postgres::sql(&url, statements);
            return;
        };
        let script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
        let run = std::process::Command::new("python3").args(["-c", script, file, statements]).output().unwrap();
        assert!(run.status.success(), "{statements}: {}", String::from_utf8_lossy(&run.stderr));
    }

    /// The directory that the processes run in; its `data` holds the database.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where its host listens that was started last.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Starts `revnoxa-host serve` and waits until it is ready.
    pub async fn serve(&self) -> HostProcess {
        self.start_serving(&["serve"]).await
    }

    /// Starts a subcommand that serves, and waits until it is ready.
    pub async fn start_serving(&self, arguments: &[&str]) -> HostProcess {
        let process = self.spawn(arguments);
        let address = process
            .line("the address it listens on", |line| {
                let (_, address) = line.split_once("listening on http://")?;
                address.trim().parse().ok()
            })
            .await;
        self.server.moved_to(address);
        eventually("the host to be ready", async || {
            let ready = self.anyone().request("GET", "/readyz").try_send().await;
            ready.is_ok_and(|ready| ready.status == 200).then_some(())
        })
        .await;
        process
    }

    /// Starts a subcommand and returns at once.
    pub fn spawn(&self, arguments: &[&str]) -> HostProcess {
        let mut child =
            self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let printed = watch::Sender::default();
        tokio::spawn(collect(child.stdout.take().unwrap(), printed.clone()));
        tokio::spawn(collect(child.stderr.take().unwrap(), printed.clone()));
        HostProcess { child, printed }
    }

    /// Runs a subcommand to its end; fails the test when it has none within the usual time.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        Self::output(self.command(arguments)).await
    }

    /// The same by somebody whom the permissions of files stop, as they do not stop root.
    pub async fn run_within_permissions(&self, arguments: &[&str]) -> Output {
        if !getuid().is_root() {
            return self.run(arguments).await;
        }
        let mut command = Command::new("setpriv");
        command.arg("--bounding-set=-dac_override").arg(binary()).args(arguments);
        Self::output(self.at_home(command)).await
    }

    async fn output(mut command: Command) -> Output {
        let output = command.kill_on_drop(true).output();
        timeout(WAIT, output).await.unwrap_or_else(|_| panic!("{command:?} does not end")).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments);
        self.at_home(command)
    }

    fn at_home(&self, mut command: Command) -> Command {
        command.current_dir(self.dir()).envs(&self.settings).stdin(Stdio::null());
        command
    }
}

impl Deref for Machine {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

/// One process of the real binary; killed when dropped.
pub struct HostProcess {
    child: Child,
    printed: watch::Sender<Vec<String>>,
}

impl HostProcess {
    /// `kill -9`: ends it without a word, as a power cut would.
    pub async fn kill9(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM: asks it to stop.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: it stands still, and does not notice.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("still running")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; fails the test when it does not come.
    pub async fn exit(&mut self) -> ExitStatus {
        match timeout(WAIT, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("the process does not end; it printed:\n{}", self.printed()),
        }
    }

    /// Waits for a line, printed or logged, that `found` makes something of.
    pub async fn line<T>(&self, what: &str, mut found: impl FnMut(&str) -> Option<T>) -> T {
        let mut lines = self.printed.subscribe();
        let waited = timeout(WAIT, async {
            let mut seen = 0;
            loop {
                let new = lines.borrow_and_update()[seen..].to_vec();
                seen += new.len();
                if let Some(found) = new.iter().find_map(|line| found(line)) {
                    return found;
                }
                lines.changed().await.expect("self holds a sender");
            }
        });
        waited.await.unwrap_or_else(|_| panic!("waited in vain for {what}; it printed:\n{}", self.printed()))
    }

    /// All that it has printed and logged so far.
    pub fn printed(&self) -> String {
        self.printed.borrow().join("\n")
    }
}

async fn collect(stream: impl AsyncRead + Unpin, printed: watch::Sender<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        printed.send_modify(|printed| printed.push(line));
    }
}

/// The real binary of this build, built at the first use.
///
/// Cargo hands a test only the binaries of its own package, so this asks for it: same target directory and profile, and all
/// packages with the dependencies of their tests, so that nothing is compiled once more with other features after
/// `cargo test --workspace`.
///
/// Where `TEST_HOST_BINARY` is set, it is that one instead.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BINARY.get_or_init(|| {
        if let Some(other) = env::var_os(OTHER_BINARY) {
            return Ok(other.into());
        }
        let profile_dir = profile_dir();
        let target_dir = profile_dir.parent().unwrap();
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo
            // Without a test, the dependencies of tests would not count; this is the smallest.
            .args(["build", "--quiet", "--workspace", "--bin", "revnoxa-host", "--test", "postgres", "--target-dir"])
            .arg(target_dir)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile_dir.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo.output().unwrap();
        match built.status.success() {
            true => Ok(profile_dir.join("revnoxa-host")),
            false => Err(String::from_utf8_lossy(&built.stderr).into_owned()),
        }
    });
    built.as_deref().unwrap_or_else(|error| panic!("the binary does not build: {error}"))
}

/// Where this build puts its programs.
pub(crate) fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).expect("target/<profile>/deps/<test>").to_owned()
}
