-- Times are integer milliseconds since 1970-01-01 UTC; booleans are 0 and 1; ids are text as shown in the API.
-- Tables lead with tenant_id, so that they can be distributed by tenant. Text is compared by its bytes, as SQLite does.

CREATE TABLE installation (
    one                   INTEGER PRIMARY KEY CHECK (one = 1),
    key_check             BYTEA NOT NULL,                  -- a known text sealed under the master key: another key cannot open it
    created_at            BIGINT NOT NULL,
    moving                TEXT                             -- id of a move from SQLite to here that is not through; NULL: none
);
-- How far that move has come.
CREATE TABLE move_progress (
    table_name            TEXT PRIMARY KEY,
    last_key              TEXT NOT NULL                    -- JSON list: the key of the last row that is here
);

CREATE TABLE tenants (
    id                    TEXT COLLATE "C" PRIMARY KEY,
    name                  TEXT COLLATE "C" NOT NULL,       -- for people; may be empty
    created_at            BIGINT NOT NULL,
    -- Grows with every change to the tenant's endpoints, in the same transaction: what is cached under an older
    -- version is read again.
    endpoints_version     BIGINT NOT NULL,
    deleted_at            BIGINT                           -- being deleted: invisible, its rows go in small batches, then this one
);

CREATE TABLE tokens (
    id                    TEXT COLLATE "C" PRIMARY KEY,
    hash                  BYTEA NOT NULL UNIQUE,           -- SHA-256 of the token
    scope                 TEXT NOT NULL CHECK (scope IN ('operator', 'producer', 'tenant')),
    tenant_id             TEXT COLLATE "C" CHECK ((scope = 'tenant') = (tenant_id IS NOT NULL)),
    created_at            BIGINT NOT NULL
);
CREATE INDEX tokens_of_tenant ON tokens (tenant_id, id);

CREATE TABLE event_types (
    name                  TEXT COLLATE "C" PRIMARY KEY,
    description           TEXT NOT NULL,                   -- may be empty
    retired_at            BIGINT                           -- new events of a retired type are refused
);

CREATE TABLE endpoints (
    tenant_id             TEXT COLLATE "C" NOT NULL,
    id                    TEXT COLLATE "C" NOT NULL,
    url                   TEXT NOT NULL,
    description           TEXT NOT NULL,                   -- may be empty
    event_types           TEXT,                            -- JSON list of names; NULL: all
    headers               BYTEA NOT NULL,                  -- sealed JSON list of [name, value]: values are often credentials
    secret                BYTEA NOT NULL,                  -- sealed
    previous_secret       BYTEA,                           -- sealed; signs as well until previous_secret_until
    previous_secret_until BIGINT,
    state                 TEXT COLLATE "C" NOT NULL CHECK (state IN ('pending', 'active', 'disabled')),
    state_reason          TEXT,                            -- why it is pending or disabled
    failing_since         BIGINT,                          -- first failure after the last success; NULL: the last attempt succeeded
    created_at            BIGINT NOT NULL,
    deleted_at            BIGINT,                          -- being deleted: invisible, its deliveries go in small batches, then this row
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE events (
    tenant_id             TEXT COLLATE "C" NOT NULL,
    id                    TEXT COLLATE "C" NOT NULL,
    event_type            TEXT COLLATE "C" NOT NULL,
    body                  BYTEA NOT NULL,                  -- the request body, final
    fingerprint           BYTEA,                           -- SHA-256 of the request that posted it, where its id came from the caller
    deliveries            BIGINT NOT NULL,                 -- how many were made when it was accepted
    created_at            BIGINT NOT NULL
);
CREATE INDEX events_by_age ON events (tenant_id, created_at);
CREATE UNIQUE INDEX events_by_id ON events (tenant_id, id);

CREATE TABLE deliveries (
    tenant_id             TEXT COLLATE "C" NOT NULL,
    id                    TEXT COLLATE "C" NOT NULL,       -- sorts by creation
    endpoint_id           TEXT COLLATE "C" NOT NULL,
    event_id              TEXT COLLATE "C" NOT NULL,
    event_type            TEXT COLLATE "C" NOT NULL,
    state                 TEXT COLLATE "C" NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed', 'dropped')),
    attempts              BIGINT NOT NULL,                 -- made so far
    failures              BIGINT NOT NULL,                 -- in the current round of the retry schedule
    next_attempt_at       BIGINT,                          -- NULL: finished
    claimable_at          BIGINT,                          -- next_attempt_at, or the end of the lease if that is later; NULL: finished
    claim                 BIGINT NOT NULL,                 -- number of the newest lease; what is recorded under an older one is ignored
    finished_at           BIGINT,
    created_at            BIGINT NOT NULL,
    transformed           BIGINT NOT NULL DEFAULT 0,       -- 1: what is sent is in plugin_runs, in the newest row that has headers
    state_reason          TEXT                             -- why it was dropped; NULL otherwise
);
-- Of indexes that look equally good, as they all do while the table was not analysed yet, PostgreSQL takes the youngest.
CREATE INDEX deliveries_of_endpoint ON deliveries (tenant_id, endpoint_id, id);
CREATE INDEX deliveries_of_event ON deliveries (tenant_id, event_id);
ALTER TABLE deliveries ADD PRIMARY KEY (tenant_id, id);
-- Claims read nothing else, so they cost the same however many deliveries are finished.
CREATE INDEX deliveries_claimable ON deliveries (tenant_id, endpoint_id, claimable_at) WHERE state = 'pending';
-- What `recover` looks for.
CREATE INDEX deliveries_failed ON deliveries (tenant_id, endpoint_id, created_at) WHERE state = 'failed';

-- Test events whose host died: nobody claims them, they are looked for.
CREATE INDEX deliveries_tests ON deliveries (claimable_at) WHERE state = 'pending' AND event_type = 'webhook.test';

CREATE TABLE attempts (
    tenant_id             TEXT COLLATE "C" NOT NULL,
    delivery_id           TEXT COLLATE "C" NOT NULL,
    number                BIGINT NOT NULL,                 -- from 1
    started_at            BIGINT NOT NULL,
    duration_ms           BIGINT NOT NULL,
    request_headers       TEXT NOT NULL,                   -- one "name: value" a line, as sent; values of custom headers are left out
    status_code           BIGINT,                          -- NULL: no answer
    response_body         BYTEA,                           -- the first 16 KiB; NULL: no answer
    response_truncated    BIGINT NOT NULL,
    error                 TEXT,                            -- NULL: there was an answer
    PRIMARY KEY (tenant_id, delivery_id, number)
);

-- Plugins: sandboxed components of tenants, what is attached to their endpoints, and what they made of deliveries.

CREATE TABLE plugins (
    tenant_id             TEXT COLLATE "C" NOT NULL,       -- '': built in, there for every tenant to attach, for none to change
    name                  TEXT COLLATE "C" NOT NULL,
    created_at            BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE plugin_versions (
    tenant_id             TEXT COLLATE "C" NOT NULL,       -- as in plugins
    plugin                TEXT COLLATE "C" NOT NULL,
    version               TEXT COLLATE "C" NOT NULL,       -- 'sha256:' and the digest of the component
    number                BIGINT NOT NULL,                 -- from 1 in the order they were added: the greatest is the newest
    size_bytes            BIGINT NOT NULL,                 -- of the component
    created_at            BIGINT NOT NULL
);
CREATE UNIQUE INDEX plugin_versions_by_digest ON plugin_versions (tenant_id, plugin, version);

CREATE TABLE attachments (
    tenant_id             TEXT COLLATE "C" NOT NULL,
    endpoint_id           TEXT COLLATE "C" NOT NULL,
    position              BIGINT NOT NULL,                 -- from 0: the order they run in
    plugin                TEXT COLLATE "C" NOT NULL,       -- the tenant's own, else the built-in one of that name
    version               TEXT COLLATE "C" NOT NULL,
    percent               BIGINT,                          -- share of the events that version runs for; NULL: all
    baseline              TEXT,                            -- version for the other events; NULL: they pass by
    settings              BYTEA NOT NULL,                  -- sealed JSON text: settings are often credentials
    on_error              TEXT NOT NULL CHECK (on_error IN ('retry', 'skip', 'drop')),
    PRIMARY KEY (tenant_id, endpoint_id, position)
);
-- What must not be deleted.
CREATE INDEX attachments_of_plugin ON attachments (tenant_id, plugin, endpoint_id);

CREATE TABLE plugin_runs (
    tenant_id             TEXT COLLATE "C" NOT NULL,
    delivery_id           TEXT COLLATE "C" NOT NULL,
    attempt               BIGINT NOT NULL,                 -- number of the attempt they ran for, from 1, also where they kept it from being made
    runs                  TEXT NOT NULL,                   -- JSON list: each call with its verdict, its cost and its log
    headers               TEXT,                            -- JSON list of [name, value] that they added; NULL: nothing is sent
    body                  BYTEA                            -- what is sent; NULL with headers: the event's own body
);
CREATE UNIQUE INDEX plugin_runs_of_delivery ON plugin_runs (tenant_id, delivery_id, attempt);

CREATE TABLE plugin_usage (
    tenant_id             TEXT COLLATE "C" NOT NULL,       -- on whose events it ran, also where the plugin is built in
    plugin                TEXT COLLATE "C" NOT NULL,
    version               TEXT COLLATE "C" NOT NULL,
    calls                 BIGINT NOT NULL,
    cpu_us                BIGINT NOT NULL,                 -- all calls together
    memory_peak_bytes     BIGINT NOT NULL,                 -- the call that took most
    trapped               BIGINT NOT NULL,                 -- calls that failed, one column for each kind of failure
    out_of_memory         BIGINT NOT NULL,
    timed_out             BIGINT NOT NULL,
    output_too_large      BIGINT NOT NULL,
    bad_header            BIGINT NOT NULL,
    plugin_error          BIGINT NOT NULL,
    over_budget           BIGINT NOT NULL,
    unavailable           BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, plugin, version)
);

-- Components in parts of 1 MiB, each written in a transaction of its own: one row of many MiB would keep every other
-- writer waiting.

CREATE TABLE component_parts (
    tenant_id             TEXT COLLATE "C" NOT NULL,       -- as in plugins
    plugin                TEXT COLLATE "C" NOT NULL,
    version               TEXT COLLATE "C" NOT NULL,
    part                  BIGINT NOT NULL,                 -- from 0
    created_at            BIGINT NOT NULL,                 -- parts without their version are of an upload that goes on, or that ended
    bytes                 BYTEA NOT NULL
);
CREATE UNIQUE INDEX component_parts_of_version ON component_parts (tenant_id, plugin, version, part);
