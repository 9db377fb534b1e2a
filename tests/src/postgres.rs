use std::{
    env,
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use crate::keeper::keep;

/// Names the server that the tests of this process use instead of SQLite.
pub const POSTGRES: &str = "TEST_POSTGRES_URL";

/// What says where to get it from.
pub const HOW_TO_INSTALL: &str = "PostgreSQL's programs are not on this machine (Debian: `apt-get install postgresql`)";

/// A throw-away PostgreSQL server: its own data, a port of its own. Gone when dropped, and when this process dies.
pub struct Postgres {
    programs: PathBuf,
    port: u16,
    settings: Vec<String>,
    keeper: Option<Child>,
    dir: TempDir,
}

impl Postgres {
    /// Starts one. `None`: there is no PostgreSQL on this machine; in CI that is a failure.
    pub fn start() -> Option<Self> {
        // Processes die in these tests, not machines: what the kernel has is safe.
        Self::start_with(&["fsync=off"])
    }

    /// Starts one with these settings besides the usual ones.
    pub fn start_with(settings: &[&str]) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(env::var_os("CI").is_none(), "{HOW_TO_INSTALL}");
            return None;
        };
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { programs, port: 0, settings, keeper: None, dir };
        server.initialise();
        // Another test may take the port before the server does.
        for _ in 0..10 {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if server.starts() {
                return Some(server);
            }
        }
        panic!("it does not start: {}", server.log());
    }

    /// Its address with the name of a new, empty database.
    pub fn database(&self) -> String {
        new_database(&self.url())
    }

    /// Where it listens, as `postgres://…/`: a socket in its folder, which is there without a network as well.
    pub fn url(&self) -> String {
        let folder = self.dir.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://postgres@{folder}:{}/", self.port)
    }

    /// The port on 127.0.0.1 that it listens on, too.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of its first process, whose children the others are.
    pub fn pid(&self) -> u32 {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    /// The database at `url`, which is one of this server, reached through this port on 127.0.0.1.
    pub fn through(&self, url: &str, port: u16) -> String {
        let name = url.strip_prefix(&self.url()).expect("a database of this server");
        format!("postgres://postgres@127.0.0.1:{port}/{name}")
    }

    /// `pg_ctl stop -m immediate`: ends it as a power cut would.
    pub fn stop_immediately(&mut self) {
        kill_process(Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap(), Signal::QUIT).unwrap();
        self.keeper.take().expect("it runs").wait().unwrap();
    }

    /// Starts it again over the same data.
    pub fn restart(&mut self) {
        assert!(self.starts(), "it does not start: {}", self.log());
    }

    /// `false`: it ended at once.
    fn starts(&mut self) -> bool {
        let mut server = self.as_its_user(&self.programs.join("postgres"));
        server.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path()).args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "max_connections=300"]
            .iter()
            .copied()
            .chain(self.settings.iter().map(String::as_str))
        {
            server.args(["-c", setting]);
        }
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut keeper = keep(&server, "INT").stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let began = Instant::now();
        while !self.answers() {
            if keeper.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "it does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.keeper = Some(keeper);
        true
    }

    /// Runs statements on a database of it, by its URL; gives what they print.
    pub fn sql(url: &str, statements: &str) -> String {
        Self::try_sql(url, statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// The same, where it may fail.
    pub fn try_sql(url: &str, statements: &str) -> Result<String, String> {
        let psql = programs().expect("a server runs").join("psql");
        let output =
            Command::new(psql).args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statements, url]).output();
        let output = output.unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// `pg_dump`, as the documentation has it: the database at `url` into a file.
    pub fn back_up(url: &str, file: &Path) {
        let file = format!("--file={}", file.display());
        run("pg_dump", &["--format=custom", &file, url]);
    }

    /// `pg_restore`, as the documentation has it: the file into the new database at `url`.
    pub fn restore(url: &str, file: &Path) {
        let database = format!("--dbname={url}");
        run("pg_restore", &["--exit-on-error", "--no-owner", &database, file.to_str().unwrap()]);
    }

    /// All that a database holds, by its URL.
    pub(crate) fn dump(url: &str) -> Vec<u8> {
        let output = Command::new(programs().expect("a server runs").join("pg_dump")).arg(url).output().unwrap();
        assert!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn initialise(&self) {
        let initdb = |locale: &[&str]| {
            let mut initdb = self.as_its_user(&self.programs.join("initdb"));
            initdb.arg("-D").arg(self.data()).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]);
            initdb.args(locale).output().unwrap()
        };
        // Not the order of bytes, so that whoever relies on that says so.
        let natural = initdb(&["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"]);
        if !natural.status.success() {
            let plain = initdb(&[]);
            assert!(plain.status.success(), "initdb: {}", String::from_utf8_lossy(&plain.stderr));
        }
    }

    fn answers(&self) -> bool {
        let mut ready = Command::new(self.programs.join("pg_isready"));
        // By its socket: on the port, another server may answer.
        ready.arg("-q").arg("-h").arg(self.dir.path()).args(["-p", &self.port.to_string()]).status().unwrap().success()
    }

    /// PostgreSQL refuses to run as root.
    fn as_its_user(&self, program: &Path) -> Command {
        if !getuid().is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        drop(keeper.stdin.take());
        let _ = keeper.wait();
    }
}

/// A new, empty database on the server at `server`.
pub(crate) fn new_database(server: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Postgres::sql(&format!("{server}postgres"), &format!("CREATE DATABASE {name}"));
    format!("{server}{name}")
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(programs().expect("a server runs").join(program)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where `initdb` and the others are.
fn programs() -> Option<PathBuf> {
    let on_the_path = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let debian =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    let mut debian: Vec<PathBuf> = debian.collect();
    debian.sort();
    on_the_path.chain(debian.into_iter().rev()).find(|folder| {
        ["initdb", "pg_dump", "pg_isready", "pg_restore", "postgres", "psql"]
            .iter()
            .all(|program| folder.join(program).exists())
    })
}
