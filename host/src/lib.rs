//! Webhook delivery: events in, signed requests out, retries, history.
//!
//! # Flow
//!
//! 1. `POST /v1/events` becomes a [`ingest::NewEvent`]; [`ingest`] builds the final request body and puts it on the
//!    group-commit writer of [`store`]. One transaction takes the events of many requests, adds one delivery for each
//!    endpoint that wants them, and is committed with fsync; then all are answered 202, and the fresh deliveries, leased
//!    already, are handed over to the [lanes](domain::lanes). A request with many deliveries has several transactions on SQLite,
//!    with others' in between; a start finishes what was begun.
//! 2. [`deliver`] takes them from the lanes: the endpoint's plugins through [`chain`], sign, [`outbound::Outbound::post`], and the pure
//!    [`Delivery::after`](domain::delivery::Delivery::after) tells what follows. The writer records attempt and next
//!    state together.
//! 3. Due retries and leases that ran out are claimed from the table per endpoint, as many as the endpoint's lane has
//!    places, never globally by time: one dead endpoint's backlog stands in nobody's way. A claim carries a number; what
//!    is recorded under an older one is ignored.
//!    An event's `traceparent` goes along, in memory and in the table: an attempt hours later is of its producer's trace.
//! 4. What attempts came to is counted by endpoint and hour, in memory after their commit and in the table once a second, for
//!    whoever looks. A host that dies loses a second of these counts, and nothing else.
//!
//! The deliveries table is the only queue. Kill the process anywhere, and the rows say what is left to do.
//!
//! Any number of hosts share one PostgreSQL and nothing else. Each leases what it attempts and renews the lease while an attempt
//! runs; what it caches of a tenant's endpoints it compares with the database as often as a change waits before it is
//! acknowledged; its clock follows the database's. Notifications only wake: a safety poll finds what they missed.
//!
//! Pages under `/settings/webhooks` ([`http::settings`]) read from the store and change what the API's own handlers change: a rule
//! stands once. Whoever comes from the core product by a one-time link has a session; its forms show that they come from its pages.
//!
//! # Ranks
//!
//! A module uses lower ranks and its own folder, nothing else; a test below reads every `use`.
//!
//! | rank | module | |
//! |---|---|---|
//! | 7 | `main` | arguments to one call per subcommand |
//! | 6 | [`dev`], [`admin`], [`author`] | what the other subcommands do |
//! | 5 | [`app`] | builds the parts, runs and stops them |
//! | 4 | [`http`] | the only axum and askama: routes, who calls, problems, the settings pages, the receiver of `listen` |
//! | 3 | [`ingest`] | accepting events |
//! | 3 | [`deliver`] | dispatcher, attempt, test event |
//! | 3 | [`retention`] | deletes old rows |
//! | 2 | [`chain`] | an endpoint's plugins over an event |
//! | 1 | [`store`] | the only sqlx and rusqlite, on SQLite and PostgreSQL; takes and returns domain types |
//! | 1 | [`outbound`] | the only HTTP client; answers an outcome, never an error |
//! | 1 | [`traces`] | the only OpenTelemetry API: spans of posts and attempts |
//! | 1 | [`plugins`] | the only wasmtime: compiles and runs components in a sandbox |
//! | 1 | [`limits`] | rate limits: what is left to each tenant |
//! | 0 | [`domain`] | words and rules; no I/O, no async |
//! | 0 | [`config`], [`clock`], [`telemetry`] | settings, wall time, logs and metrics |
//!
//! # Invariants
//!
//! * What waits for the database in the background, and whoever posts events, has a limit; whoever posts hears within 2 s.
//! * Rate limits count per tenant and host; a request that is refused takes nothing of anybody's quota.
//! * Transactions lock a tenant before its endpoints, and rows of one table in the order of their keys.
//! * Only [`clock`] reads wall time; durations and time-outs use monotonic time.
//! * No transaction is open across a network or plugin call. No lock is held across an await.
//! * Every await on the outside has a time limit and a size limit; every queue and cache has a bound with a name.
//! * Every statement on tenants' data names the tenant, those apart that look over all tenants for work to do.
//! * Secrets, tokens and payloads reach no log line, error text or `Debug`. Secrets, the values of custom headers and the
//!   settings of plugins are sealed at rest, bound to their row and column; API tokens are stored as hashes.
//! * What is sealed names its key. New values are sealed under the installation's key as the transaction that stores them sees it,
//!   so that after a change of the key nothing more comes under the one before.
//! * A plugin gets nothing but the event and its settings: no file, network, environment, clock or randomness of this machine. Each
//!   call has an instance of its own; memory, time, output and log are bounded.
//! * Outbound connects only to vetted addresses, and to the very address that was vetted.

pub mod admin;
pub mod app;
pub mod author;
pub mod chain;
pub mod clock;
pub mod config;
pub mod deliver;
pub mod dev;
pub mod domain;
pub mod http;
pub mod ingest;
pub mod limits;
pub mod outbound;
pub mod plugins;
pub mod retention;
pub mod store;
pub mod telemetry;
pub mod traces;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    /// Rank by module, read from the table above.
    fn ranks() -> BTreeMap<String, u32> {
        let map = include_str!("lib.rs");
        let rows = map.lines().filter_map(|line| line.strip_prefix("//! | "));
        let row = |row: &str| {
            let mut cells = row.split('|');
            let rank = cells.next()?.trim().parse().ok()?;
            let modules = cells.next()?.split(',').map(|name| name.trim().trim_matches(['[', ']', '`']).to_owned());
            Some(modules.map(move |module| (module, rank)).collect::<Vec<_>>())
        };
        rows.filter_map(row).flatten().collect()
    }

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .collect()
    }

    fn code(path: &Path) -> String {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn modules_use_lower_ranks_only() {
        let ranks = ranks();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut uses = 0;
        for path in sources(&root) {
            let within = path.strip_prefix(&root).unwrap().with_extension("");
            let module = within.iter().next().unwrap().to_str().unwrap().to_owned();
            if module == "lib" {
                continue;
            }
            let rank = ranks.get(&module).unwrap_or_else(|| panic!("the map lacks `{module}`"));
            let text = code(&path);
            for part in text.split("crate::").skip(1).chain(text.split("revnoxa_host::").skip(1)) {
                let names: Vec<&str> = match part.strip_prefix('{') {
                    Some(list) => list.split('}').next().unwrap().split(',').map(str::trim).collect(),
                    None => vec![part],
                };
                for name in names.into_iter().filter(|name| !name.is_empty()) {
                    let used = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                    let Some(used_rank) = ranks.get(used) else { panic!("{path:?} uses unknown `{used}`") };
                    assert!(used == module || used_rank < rank, "{path:?} (rank {rank}) uses `{used}` ({used_rank})");
                    uses += 1;
                }
            }
        }
        assert!(uses > 50, "found {uses} uses only: does this test still read the code?");
    }

    #[test]
    fn the_libraries_of_one_room_stay_in_it() {
        let rooms = [
            ("sqlx::", "store"),
            ("rusqlite", "store"),
            ("axum::", "http"),
            ("askama", "http"),
            ("reqwest::", "outbound"),
            ("hyper_util::", "outbound"),
            ("hyper_rustls::", "outbound"),
            ("wasmtime", "plugins"),
            ("opentelemetry::", "traces"),
            ("opentelemetry_sdk", "traces"),
        ];
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for path in sources(&root) {
            let within = path.strip_prefix(&root).unwrap();
            let text = code(&path);
            for (library, room) in rooms {
                // The server is built where it is run.
                let built = library == "axum::" && within == Path::new("app.rs");
                let outside = !within.starts_with(room) && !built && within != Path::new("lib.rs");
                assert!(!(outside && text.contains(library)), "{path:?} uses {library}");
            }
        }
    }

    /// A tenant's address is vetted where the connection to it is made; so nobody else makes any, but to the database.
    #[test]
    fn nothing_connects_but_outbound() {
        let ways_out = [
            "reqwest",
            "hyper",
            "hickory",
            "rustls",
            "h2::",
            "socket2",
            "rustix::net",
            "TcpStream",
            "TcpSocket",
            "UdpSocket",
            "UnixStream",
            "UnixDatagram",
            "ToSocketAddrs",
            "lookup_host",
            ".connect(",
            "::connect(",
        ];
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut read = 0;
        for path in sources(&root) {
            let within = path.strip_prefix(&root).unwrap();
            if within.starts_with("outbound") || within == Path::new("lib.rs") {
                continue;
            }
            let text = code(&path);
            for way in ways_out {
                let to_the_database = way.ends_with("connect(") && within.starts_with("store");
                assert!(to_the_database || !text.contains(way), "{path:?} uses `{way}`: only `outbound` may");
            }
            read += 1;
        }
        assert!(read > 50, "found {read} files only: does this test still read the code?");
    }

    /// Nor may a library bring a client of its own. By the names in `Cargo.lock`, so for all platforms at once.
    #[test]
    fn no_library_brings_another_http_client() {
        /// Each with who may use it.
        const CLIENTS: [(&str, &[&str]); 12] = [
            ("reqwest", &["revnoxa-host"]),
            ("hyper-rustls", &["reqwest", "revnoxa-host"]),
            // axum serves with another part of it.
            ("hyper-util", &["axum", "hyper-rustls", "reqwest", "revnoxa-host"]),
            ("hickory-resolver", &["revnoxa-host"]),
            ("attohttpc", &[]),
            ("awc", &[]),
            ("curl", &[]),
            ("isahc", &[]),
            ("minreq", &[]),
            ("surf", &[]),
            ("tonic", &[]),
            ("ureq", &[]),
        ];
        let lock = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock")).unwrap();
        let lock: toml::Table = lock.parse().unwrap();
        let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for package in lock["package"].as_array().unwrap() {
            let dependencies = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
            let names = dependencies.map(|dependency| dependency.as_str().unwrap().split(' ').next().unwrap());
            uses.entry(package["name"].as_str().unwrap()).or_default().extend(names);
        }
        let (mut found, mut unread) = (BTreeSet::new(), vec!["revnoxa-host"]);
        while let Some(package) = unread.pop() {
            if found.insert(package) {
                unread.extend(&uses[package]);
            }
        }
        assert!(found.contains("reqwest"), "does this test still read the lock file?");
        for package in found {
            for (client, users) in CLIENTS {
                let brings = uses[package].contains(client) && !users.contains(&package);
                assert!(!brings, "`{package}` brings the HTTP client `{client}`, whose connections nobody vets");
            }
        }
    }
}
