-- Ids grow with time: with the id in front, all that is new stands at the end, whoever's it is, and the events of a commit share its
-- pages. With the tenant in front each tenant's newest rows had pages of their own, to be written for each event. Nothing is
-- distributed by tenant here.

DROP INDEX events_by_id;
CREATE UNIQUE INDEX events_by_id ON events (id, tenant_id);

CREATE TABLE new_deliveries (
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
    transformed    BIGINT NOT NULL DEFAULT 0, -- 1: what is sent is in plugin_runs, in the newest row that has headers
    state_reason   TEXT,                -- why it was dropped; NULL otherwise
    PRIMARY KEY (id, tenant_id)
) WITHOUT ROWID;
INSERT INTO new_deliveries (tenant_id, id, endpoint_id, event_id, event_type, state, attempts, failures, next_attempt_at, claimable_at,
    claim, finished_at, created_at, transformed, state_reason)
SELECT tenant_id, id, endpoint_id, event_id, event_type, state, attempts, failures, next_attempt_at, claimable_at,
    claim, finished_at, created_at, transformed, state_reason
FROM deliveries ORDER BY id, tenant_id;
DROP TABLE deliveries;
ALTER TABLE new_deliveries RENAME TO deliveries;
CREATE INDEX deliveries_of_endpoint ON deliveries (tenant_id, endpoint_id, id);
CREATE INDEX deliveries_of_event ON deliveries (event_id, tenant_id);
-- Claims read nothing else, so they cost the same however many deliveries are finished.
CREATE INDEX deliveries_claimable ON deliveries (tenant_id, endpoint_id, claimable_at) WHERE state = 'pending';
-- What `recover` looks for.
CREATE INDEX deliveries_failed ON deliveries (tenant_id, endpoint_id, created_at) WHERE state = 'failed';

CREATE TABLE new_attempts (
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
    PRIMARY KEY (delivery_id, number, tenant_id)
) WITHOUT ROWID;
INSERT INTO new_attempts (tenant_id, delivery_id, number, started_at, duration_ms, request_headers, status_code, response_body,
    response_truncated, error)
SELECT tenant_id, delivery_id, number, started_at, duration_ms, request_headers, status_code, response_body,
    response_truncated, error
FROM attempts ORDER BY delivery_id, number, tenant_id;
DROP TABLE attempts;
ALTER TABLE new_attempts RENAME TO attempts;

DROP INDEX plugin_runs_of_delivery;
CREATE UNIQUE INDEX plugin_runs_of_delivery ON plugin_runs (delivery_id, attempt, tenant_id);

-- As in 0001: rows of the table, then rows for each further column of the index that is given.
DELETE FROM sqlite_stat1 WHERE tbl IN ('deliveries', 'attempts', 'plugin_runs') OR idx = 'events_by_id';
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('events', 'events_by_id', '10000000 1 1'),
    ('deliveries', 'deliveries', '10000000 1 1'),
    ('deliveries', 'deliveries_of_endpoint', '10000000 100000 10000 1'),
    ('deliveries', 'deliveries_of_event', '10000000 2 2'),
    ('deliveries', 'deliveries_claimable', '100000 10000 1000 2'),
    ('deliveries', 'deliveries_failed', '100000 10000 1000 2'),
    ('attempts', 'attempts', '10000000 2 1 1'),
    ('plugin_runs', 'plugin_runs_of_delivery', '10000000 2 1 1');
ANALYZE sqlite_schema;
