//! Settings: a TOML file and the environment; the environment wins.
//!
//! Each field `name` is the key `name` in the file and `REVNOXA_NAME` in the environment; those of the table `[plugins]`
//! are `REVNOXA_PLUGINS_NAME`. Durations are written `500ms`, `30s`, `5m`, `2h`, `5d`, sizes `512KiB`, `64MiB`, `1GiB`, rates
//! `600/1m`. An unknown key, a value of the wrong form and an impossible combination are errors that name the key and the expected form.

mod collector;
mod forms;
mod origin;
mod plugins;
mod rate;
mod secrets;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use collector::{CollectorUrl, InvalidCollectorUrl};
use forms::{addresses, duration, durations, master_keys};
pub use origin::{InvalidOrigin, Origin, Origins};
pub use plugins::PluginSettings;
use rate::rate;
pub use rate::{InvalidRate, Rate};
pub use secrets::{
    DatabaseUrl, InvalidDatabaseUrl, InvalidMasterKey, KeyId, MasterKey, MasterKeys, OperatorToken,
    OperatorTokenTooShort,
};

/// Keys besides the master key at most: more have no place in what hosts tell each other of theirs.
const PREVIOUS_KEYS: usize = 4;

/// All settings of `serve` and `dev`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the API. Default `127.0.0.1:8080`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `sqlite://PATH` for one host, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE` for any number of them; with
    /// `?sslmode=verify-full` and the other parameters of libpq. Default `sqlite://data/revnoxa.db`. The file and its folder are made
    /// when missing, a PostgreSQL database must be there.
    pub database_url: DatabaseUrl,
    /// Base64 of 32 bytes that encrypt the endpoints' secrets at rest. Default: what the file `<data_dir>/master.key`
    /// holds; `dev` makes one, `serve` refuses to start without. A key that the database does not know is refused, unless
    /// `previous_master_keys` has the one it knows.
    pub master_key: Option<MasterKey>,
    /// Keys that `master_key` replaces, until `rekey` has sealed everything under that: values that are sealed under these are read as
    /// well, and new ones are sealed under them, so that hosts without the new key go on. Default none; at most 4.
    #[serde(deserialize_with = "master_keys")]
    pub previous_master_keys: Vec<MasterKey>,
    /// A token accepted as an operator's besides those in the database. At least 32 characters. Default none.
    pub operator_token: Option<OperatorToken>,
    /// Lets endpoints be `http://` and loopback, private or otherwise not public addresses, on any port. For development and tests:
    /// with it a tenant can reach whatever this machine can. Default `false`.
    pub allow_insecure_endpoints: bool,
    /// Delays before the second and later attempts, each counted from the failure before it, up to 10 % longer by jitter.
    /// Default `30s,5m,30m,2h`. At most 20, each 10 ms to 7 days.
    #[serde(deserialize_with = "durations")]
    pub retry_delays: Vec<Duration>,
    /// From the start of the connect to the status line; the response body is read to the same deadline. Default `10s`; 100 ms to 60 s.
    #[serde(deserialize_with = "duration")]
    pub attempt_timeout: Duration,
    /// How long a host keeps a delivery it claimed. A delivery claimed by a host that died waits this long.
    /// Default `60s`; at least `attempt_timeout` and a second.
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    /// PEM file of certificates trusted for receivers besides the platform's. Default none.
    pub extra_ca: Option<PathBuf>,
    /// Folder of the key file and of what `dev` writes. Default `data`.
    pub data_dir: PathBuf,
    /// Attempts at once on this host. Default 256; 1 to 10,000. One tenant gets no more of them than it leaves free, one
    /// half at most, and so do all endpoints together that do not answer promptly.
    pub max_in_flight: usize,
    /// Attempts at once to one endpoint that answers promptly. Default 64; 1 to `max_in_flight`. It starts at 8; each
    /// prompt answer adds one, each failure to answer halves it.
    pub max_in_flight_per_endpoint: usize,
    /// Events of one tenant that are taken on this host, `COUNT/TIME`: so many at once, and then as many as come back evenly. Those
    /// beyond are refused with 429, and lost unless they are posted again. Default `off`: whoever posts is the operator's own.
    #[serde(deserialize_with = "rate")]
    pub event_rate_limit: Option<Rate>,
    /// The same for calls of the API and the settings pages by one tenant's own tokens and people. An open page makes 30 a minute.
    /// Default `6000/1m`; `off`: no limit.
    #[serde(deserialize_with = "rate")]
    pub api_rate_limit: Option<Rate>,
    /// An endpoint that fails this long without one success is disabled. Default `5d`; at least a minute.
    #[serde(deserialize_with = "duration")]
    pub disable_after_failing_for: Duration,
    /// Events and their finished deliveries are deleted when older. Default `30d`; at least a day, because
    /// idempotency keys live with their events.
    #[serde(deserialize_with = "duration")]
    pub retention: Duration,
    /// DNS servers, `ADDRESS:PORT` separated by commas, instead of the system's. Default none.
    #[serde(deserialize_with = "addresses")]
    pub dns_servers: Vec<SocketAddr>,
    /// After SIGTERM running attempts may take this long. Default `12s`; at most 5 minutes.
    #[serde(deserialize_with = "duration")]
    pub shutdown_grace: Duration,
    /// Where browsers reach this host, `https://HOST` or `https://HOST:PORT`: links to the settings pages begin with it, and only forms
    /// of its own pages are taken. `http://` for loopback only. Default `http://` and the address it listens on.
    pub public_url: Option<Origin>,
    /// Origins of pages that may show the settings pages in a frame, `https://HOST` or `https://*.DOMAIN`. They must be of the same site
    /// as `public_url`, or browsers withhold the session's cookie. Default none.
    pub frame_ancestors: Origins,
    /// Base URL of a collector of traces (OTLP over HTTP), `http://HOST:PORT`. What it wants to be sent in headers is in the variable
    /// `OTEL_EXPORTER_OTLP_HEADERS`, further attributes of this host are in `OTEL_RESOURCE_ATTRIBUTES`. Default none: there are no spans,
    /// but the `traceparent` of a post still goes to receivers.
    pub otlp_endpoint: Option<CollectorUrl>,
    /// Of the posts without a `traceparent`, one in so many begins a trace; those with one go by what it says. Default 1; 1 to 1,000,000.
    pub trace_one_in: u32,
    /// Limits of plugins.
    pub plugins: PluginSettings,
}

impl Default for Config {
    fn default() -> Self {
        const S: Duration = Duration::from_secs(1);
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            database_url: "sqlite://data/revnoxa.db".parse().expect("it is valid"),
            master_key: None,
            previous_master_keys: Vec::new(),
            operator_token: None,
            allow_insecure_endpoints: false,
            retry_delays: vec![30 * S, 300 * S, 1_800 * S, 7_200 * S],
            attempt_timeout: 10 * S,
            lease: 60 * S,
            extra_ca: None,
            data_dir: "data".into(),
            max_in_flight: 256,
            max_in_flight_per_endpoint: 64,
            event_rate_limit: None,
            api_rate_limit: Some("6000/1m".parse().expect("it is valid")),
            disable_after_failing_for: Duration::from_hours(5 * 24),
            retention: Duration::from_hours(30 * 24),
            dns_servers: Vec::new(),
            shutdown_grace: 12 * S,
            public_url: None,
            frame_ancestors: Origins::default(),
            otlp_endpoint: None,
            trace_one_in: 1,
            plugins: PluginSettings::default(),
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file of settings or the key file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key is unknown, or its value has the wrong form.
    #[error("settings: {0}")]
    Invalid(String),
    /// A value out of range, or two that contradict each other.
    #[error("setting `{key}` {rule}")]
    Rule {
        /// The setting at fault.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

impl Config {
    /// Reads `file`, if given, then the variables `REVNOXA_…` of `environment`.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?,
            None => String::new(),
        };
        let mut config = Self::read(&text, environment)?;
        if config.master_key.is_none() {
            config.master_key = config.read_key_file()?;
        }
        Ok(config)
    }

    /// Reads the text of a file, then `environment`, and nothing else: no key file.
    pub fn read(text: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        // `message` leaves out the quoted line, which may hold a secret.
        let mut table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| ConfigError::Invalid(error.message().to_owned()))?;
        for (variable, value) in environment {
            let Some(key) = variable.strip_prefix("REVNOXA_").map(str::to_ascii_lowercase) else { continue };
            match key.strip_prefix("plugins_") {
                Some(key) => {
                    let plugins = table.entry("plugins").or_insert_with(|| toml::Table::new().into());
                    let plugins = plugins.as_table_mut().ok_or_else(|| invalid_table("plugins"))?;
                    plugins.insert(key.to_owned(), typed(&value));
                }
                None => drop(table.insert(key, typed(&value))),
            }
        }
        let invalid = |error: toml::de::Error| ConfigError::Invalid(error.to_string().trim().replace('\n', " "));
        let config: Self = toml::Value::Table(table).try_into().map_err(invalid)?;
        config.check()?;
        Ok(config)
    }

    /// Where the master key stands when it is not a setting; `dev` makes it.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.data_dir.join("master.key")
    }

    /// All keys of values at rest. `None`: there is no `master_key`.
    #[must_use]
    pub fn master_keys(&self) -> Option<MasterKeys> {
        let current = self.master_key.clone()?;
        Some(MasterKeys { current, previous: self.previous_master_keys.clone() })
    }

    fn read_key_file(&self) -> Result<Option<MasterKey>, ConfigError> {
        let path = self.key_file();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let rule = |error| ConfigError::Invalid(format!("{}: {error}", path.display()));
                text.parse().map(Some).map_err(rule)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::Unreadable { path, source }),
        }
    }

    /// Refuses values out of range and combinations that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let s = Duration::from_secs;
        let delay = s(7 * 24 * 3_600);
        let delays = &self.retry_delays;
        let rules = [
            (
                delays.len() <= 20 && delays.iter().all(|d| (Duration::from_millis(10)..=delay).contains(d)),
                "retry_delays",
                "must be at most 20 durations of 10ms to 7d",
            ),
            (
                (Duration::from_millis(100)..=s(60)).contains(&self.attempt_timeout),
                "attempt_timeout",
                "must be 100ms to 60s",
            ),
            (self.lease >= self.attempt_timeout + s(1), "lease", "must be at least `attempt_timeout` and 1s"),
            (self.lease <= s(3_600), "lease", "must be at most 1h"),
            (self.previous_master_keys.len() <= PREVIOUS_KEYS, "previous_master_keys", "must be at most 4 keys"),
            ((1..=10_000).contains(&self.max_in_flight), "max_in_flight", "must be 1 to 10000"),
            (
                (1..=self.max_in_flight).contains(&self.max_in_flight_per_endpoint),
                "max_in_flight_per_endpoint",
                "must be 1 to `max_in_flight`",
            ),
            (self.disable_after_failing_for >= s(60), "disable_after_failing_for", "must be at least 1m"),
            (self.retention >= s(24 * 3_600), "retention", "must be at least 1d"),
            (
                self.public_url.as_ref().is_none_or(|url| !url.is_wildcard() && (url.is_https() || url.is_loopback())),
                "public_url",
                "must be `https://HOST`, or `http://` with a loopback address or `localhost`",
            ),
            (self.shutdown_grace <= s(300), "shutdown_grace", "must be at most 5m"),
            ((1..=1_000_000).contains(&self.trace_one_in), "trace_one_in", "must be 1 to 1000000"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, rule)) => Err(ConfigError::Rule { key, rule }),
            None => self.plugins.check(),
        }
    }
}

fn invalid_table(name: &str) -> ConfigError {
    ConfigError::Invalid(format!("`{name}` must be a table"))
}

/// An environment variable is text; numbers and booleans are given their TOML type. What only looks like a number
/// (a token) is not one in TOML's spelling unless it reads back the same.
fn typed(value: &str) -> toml::Value {
    match value {
        "true" => true.into(),
        "false" => false.into(),
        _ => match value.parse::<i64>() {
            Ok(number) if number.to_string() == value => number.into(),
            _ => value.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::load(None, environment).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_promised_ones() {
        let config = load(&[]).unwrap();
        let seconds: Vec<u64> = config.retry_delays.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [30, 300, 1_800, 7_200]);
        assert_eq!(config.attempt_timeout, Duration::from_secs(10));
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert!(!config.allow_insecure_endpoints);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let folder = std::env::temp_dir().join(format!("revnoxa-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.toml");
        std::fs::write(&file, "max_in_flight = 8\nmax_in_flight_per_endpoint = 2\nlease = \"30s\"\n").unwrap();
        let environment = [("REVNOXA_LEASE", "90s"), ("REVNOXA_RETRY_DELAYS", "1s, 2m,3h,1d"), ("HOME", "x")];
        let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = Config::load(Some(&file), environment).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((config.max_in_flight, config.lease), (8, Duration::from_secs(90)));
        let seconds: Vec<u64> = config.retry_delays.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 120, 10_800, 86_400]);
    }

    #[test]
    fn the_example_file_holds_every_setting_with_its_default() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
        let config = Config::load(Some(&file), []).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
        let text = std::fs::read_to_string(file).unwrap();
        let named = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let shown = format!("{:#?}", Config::default());
        // Those of tables as well, whose own names have no value.
        let fields = shown.lines().filter_map(|line| line.split_once(": ")).filter(|(_, value)| !value.ends_with(" {"));
        let fields: BTreeSet<&str> = fields.map(|(field, _)| field.trim_start()).filter(|field| named(field)).collect();
        let keys = text.lines().filter_map(|line| line.trim_start_matches("# ").split_once(" = "));
        let keys: BTreeSet<&str> = keys.map(|(key, _)| key).filter(|key| named(key)).collect();
        assert!(fields.len() > 30, "does this test still read the settings? {fields:?}");
        assert_eq!(keys, fields);
    }

    #[test]
    fn refusals_name_the_key_and_the_form() {
        let cases = [
            ("REVNOXA_LISTN", "x", "listn"),
            ("REVNOXA_LEASE", "soon", "not a duration such as"),
            ("REVNOXA_LEASE", "5s", "`lease` must be at least `attempt_timeout`"),
            ("REVNOXA_DATABASE_URL", "mysql://x", "`database_url` must be `sqlite://PATH` or `postgres://"),
            ("REVNOXA_DATABASE_URL", "postgres://", "`database_url` must be"),
            ("REVNOXA_MASTER_KEY", "c2hvcnQ=", "must be base64 of 32 bytes"),
            ("REVNOXA_PREVIOUS_MASTER_KEYS", "c2hvcnQ=", "must be base64 of 32 bytes"),
            ("REVNOXA_OPERATOR_TOKEN", "short", "must have at least 32 characters"),
            ("REVNOXA_MAX_IN_FLIGHT", "0", "`max_in_flight` must be 1 to 10000"),
            ("REVNOXA_EVENT_RATE_LIMIT", "0/1m", "COUNT at least 1"),
            ("REVNOXA_EVENT_RATE_LIMIT", "2000000/1s", "at most 1000000 a second"),
            ("REVNOXA_API_RATE_LIMIT", "0", "must be `off` or COUNT/TIME"),
            ("REVNOXA_API_RATE_LIMIT", "10/10ms", "TIME 1s to 1d"),
            ("REVNOXA_ALLOW_INSECURE_ENDPOINTS", "yes", "expected a boolean"),
            ("REVNOXA_RETENTION", "1h", "`retention` must be at least 1d"),
            ("REVNOXA_DNS_SERVERS", "localhost", "is not ADDRESS:PORT"),
            ("REVNOXA_PUBLIC_URL", "https://hooks.example.com/x", "`https://HOST`"),
            ("REVNOXA_PUBLIC_URL", "http://hooks.example.com", "`public_url` must be `https://HOST`, or"),
            ("REVNOXA_FRAME_ANCESTORS", "https://a.example; script-src *", "`https://HOST`"),
            ("REVNOXA_OTLP_ENDPOINT", "collector:4317", "must be `http://HOST:PORT`"),
            ("REVNOXA_TRACE_ONE_IN", "0", "`trace_one_in` must be 1 to 1000000"),
            ("REVNOXA_PLUGINS", "7", "plugins"),
            ("REVNOXA_PLUGINS_MEMROY", "64MiB", "memroy"),
            ("REVNOXA_PLUGINS_MEMORY", "64MB", "is not a size such as"),
            ("REVNOXA_PLUGINS_MEMORY", "5GiB", "`plugins.memory` must be 1MiB to 1GiB"),
        ];
        for (key, value, expected) in cases {
            let error = load(&[(key, value)]).unwrap_err();
            assert!(error.contains(expected), "{key}={value}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let key = STANDARD.encode([7_u8; 32]);
        let token = "operator-token-operator-token-1234";
        let before = [8_u8, 9].map(|byte| STANDARD.encode([byte; 32]));
        let previous = before.join(", ");
        let environment = [
            ("REVNOXA_MASTER_KEY", key.as_str()),
            ("REVNOXA_PREVIOUS_MASTER_KEYS", previous.as_str()),
            ("REVNOXA_OPERATOR_TOKEN", token),
        ];
        let config = load(&environment).unwrap();
        let shown = format!("{config:?}");
        assert!(before.iter().all(|key| !shown.contains(key)), "{shown}");
        let database = load(&[("REVNOXA_DATABASE_URL", "postgres://revnoxa:hunter2@db/revnoxa")]).unwrap();
        assert!(!format!("{database:?}").contains("hunter2"));
        assert!(!shown.contains(&key) && !shown.contains(token), "{shown}");
        for variable in ["REVNOXA_MASTER_KEY", "REVNOXA_PREVIOUS_MASTER_KEYS"] {
            let error = load(&[(variable, "hunter2hunter2")]).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn keys_that_are_replaced_are_a_list_of_four_at_most() {
        let key = |byte: u8| STANDARD.encode([byte; 32]);
        let load = |previous: &[String]| {
            load(&[("REVNOXA_MASTER_KEY", &key(0)), ("REVNOXA_PREVIOUS_MASTER_KEYS", &previous.join(","))])
        };
        let keys = load(&[key(1), key(2)]).unwrap().master_keys().unwrap();
        let bytes: Vec<u8> = keys.iter().map(|key| key.as_bytes()[0]).collect();
        assert_eq!(bytes, [0, 1, 2], "the current one first");
        let ids: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
        assert_eq!(keys.ids(), ids.join(","));
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids.iter().all(|id| id.len() == 8), "{ids:?}");
        let error = load(&[1, 2, 3, 4, 5].map(key)).unwrap_err();
        assert!(error.contains("`previous_master_keys` must be at most 4 keys"), "{error}");
    }
}
