-- Times are integer milliseconds since 1970-01-01 UTC; booleans are 0 and 1; ids are text as shown in the API.
-- Tables lead with tenant_id, so that they can be distributed by tenant.

CREATE TABLE installation (
    one            INTEGER PRIMARY KEY CHECK (one = 1),
    key_check      BLOB NOT NULL,       -- a known text sealed under the master key: another key cannot open it
    created_at     BIGINT NOT NULL
);

CREATE TABLE tenants (
    id             TEXT PRIMARY KEY,
    name           TEXT NOT NULL,       -- for people; may be empty
    created_at     BIGINT NOT NULL,
    -- Grows with every change to the tenant's endpoints, in the same transaction: what is cached under an older
    -- version is read again.
    endpoints_version BIGINT NOT NULL,
    deleted_at     BIGINT               -- being deleted: invisible, its rows go in small batches, then this one
) WITHOUT ROWID;

CREATE TABLE tokens (
    id             TEXT PRIMARY KEY,
    hash           BLOB NOT NULL UNIQUE, -- SHA-256 of the token
    scope          TEXT NOT NULL CHECK (scope IN ('operator', 'producer', 'tenant')),
    tenant_id      TEXT CHECK ((scope = 'tenant') = (tenant_id IS NOT NULL)),
    created_at     BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX tokens_of_tenant ON tokens (tenant_id, id);

CREATE TABLE event_types (
    name           TEXT PRIMARY KEY,
    description    TEXT NOT NULL,       -- may be empty
    retired_at     BIGINT               -- new events of a retired type are refused
) WITHOUT ROWID;

CREATE TABLE endpoints (
    tenant_id      TEXT NOT NULL,
    id             TEXT NOT NULL,
    url            TEXT NOT NULL,
    description    TEXT NOT NULL,       -- may be empty
    event_types    TEXT,                -- JSON list of names; NULL: all
    headers        BLOB NOT NULL,       -- sealed JSON list of [name, value]: values are often credentials
    secret         BLOB NOT NULL,       -- sealed
    previous_secret       BLOB,         -- sealed; signs as well until previous_secret_until
    previous_secret_until BIGINT,
    state          TEXT NOT NULL CHECK (state IN ('pending', 'active', 'disabled')),
    state_reason   TEXT,                -- why it is pending or disabled
    failing_since  BIGINT,              -- first failure after the last success; NULL: the last attempt succeeded
    created_at     BIGINT NOT NULL,
    deleted_at     BIGINT,              -- being deleted: invisible, its deliveries go in small batches, then this row
    PRIMARY KEY (tenant_id, id)
) WITHOUT ROWID;

CREATE TABLE events (
    tenant_id      TEXT NOT NULL,
    id             TEXT NOT NULL,
    event_type     TEXT NOT NULL,
    body           BLOB NOT NULL,       -- the request body, final
    fingerprint    BLOB,                -- SHA-256 of the request that posted it, where its id came from the caller
    deliveries     BIGINT NOT NULL,     -- how many were made when it was accepted
    created_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX events_by_id ON events (tenant_id, id);
CREATE INDEX events_by_age ON events (tenant_id, created_at);

CREATE TABLE deliveries (
    tenant_id      TEXT NOT NULL,
    id             TEXT NOT NULL,       -- sorts by creation
    endpoint_id    TEXT NOT NULL,
    event_id       TEXT NOT NULL,
    event_type     TEXT NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed', 'dropped')),
    attempts       BIGINT NOT NULL,     -- made so far
    failures       BIGINT NOT NULL,     -- in the current round of the retry schedule
    next_attempt_at BIGINT,             -- NULL: finished
    claimable_at   BIGINT,              -- next_attempt_at, or the end of the lease if that is later; NULL: finished
    claim          BIGINT NOT NULL,     -- number of the newest lease; what is recorded under an older one is ignored
    finished_at    BIGINT,
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
) WITHOUT ROWID;
CREATE INDEX deliveries_of_endpoint ON deliveries (tenant_id, endpoint_id, id);
CREATE INDEX deliveries_of_event ON deliveries (tenant_id, event_id);
-- Claims read nothing else, so they cost the same however many deliveries are finished.
CREATE INDEX deliveries_claimable ON deliveries (tenant_id, endpoint_id, claimable_at) WHERE state = 'pending';
-- What `recover` looks for.
CREATE INDEX deliveries_failed ON deliveries (tenant_id, endpoint_id, created_at) WHERE state = 'failed';

CREATE TABLE attempts (
    tenant_id      TEXT NOT NULL,
    delivery_id    TEXT NOT NULL,
    number         BIGINT NOT NULL,     -- from 1
    started_at     BIGINT NOT NULL,
    duration_ms    BIGINT NOT NULL,
    request_headers TEXT NOT NULL,      -- one "name: value" a line, as sent; values of custom headers are left out
    status_code    BIGINT,              -- NULL: no answer
    response_body  BLOB,                -- the first 16 KiB; NULL: no answer
    response_truncated BIGINT NOT NULL,
    error          TEXT,                -- NULL: there was an answer
    PRIMARY KEY (tenant_id, delivery_id, number)
) WITHOUT ROWID;

-- The planner's statistics, fixed: without any, SQLite takes a tenant for a few rows and reads all of them where an index
-- leads to one event's or endpoint's. Rows of the table, then rows for each further column of the index that is given.
ANALYZE sqlite_schema;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('events', 'events_by_id', '10000000 100000 1'),
    ('events', 'events_by_age', '10000000 100000 2'),
    ('deliveries', 'deliveries', '10000000 100000 1'),
    ('deliveries', 'deliveries_of_endpoint', '10000000 100000 10000 1'),
    ('deliveries', 'deliveries_of_event', '10000000 100000 2'),
    ('deliveries', 'deliveries_claimable', '100000 10000 1000 2'),
    ('deliveries', 'deliveries_failed', '100000 10000 1000 2'),
    ('attempts', 'attempts', '10000000 100000 2 1');
