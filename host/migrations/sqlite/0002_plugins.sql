-- Plugins: sandboxed components of tenants, what is attached to their endpoints, and what they made of deliveries.

CREATE TABLE plugins (
    tenant_id      TEXT NOT NULL,       -- '': built in, there for every tenant to attach, for none to change
    name           TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, name)
) WITHOUT ROWID;

CREATE TABLE plugin_versions (
    tenant_id      TEXT NOT NULL,       -- as in plugins
    plugin         TEXT NOT NULL,
    version        TEXT NOT NULL,       -- 'sha256:' and the digest of component
    number         BIGINT NOT NULL,     -- from 1 in the order they were added: the greatest is the newest
    size_bytes     BIGINT NOT NULL,     -- of component
    created_at     BIGINT NOT NULL,
    component      BLOB NOT NULL        -- last: what stands before it is read without it, and it may have many MiB
);
CREATE UNIQUE INDEX plugin_versions_by_digest ON plugin_versions (tenant_id, plugin, version);

CREATE TABLE attachments (
    tenant_id      TEXT NOT NULL,
    endpoint_id    TEXT NOT NULL,
    position       BIGINT NOT NULL,     -- from 0: the order they run in
    plugin         TEXT NOT NULL,       -- the tenant's own, else the built-in one of that name
    version        TEXT NOT NULL,
    percent        BIGINT,              -- share of the events that version runs for; NULL: all
    baseline       TEXT,                -- version for the other events; NULL: they pass by
    settings       BLOB NOT NULL,       -- sealed JSON text: settings are often credentials
    on_error       TEXT NOT NULL CHECK (on_error IN ('retry', 'skip', 'drop')),
    PRIMARY KEY (tenant_id, endpoint_id, position)
) WITHOUT ROWID;
-- What must not be deleted.
CREATE INDEX attachments_of_plugin ON attachments (tenant_id, plugin, endpoint_id);

CREATE TABLE plugin_runs (
    tenant_id      TEXT NOT NULL,
    delivery_id    TEXT NOT NULL,
    attempt        BIGINT NOT NULL,     -- number of the attempt they ran for, from 1, also where they kept it from being made
    runs           TEXT NOT NULL,       -- JSON list: each call with its verdict, its cost and its log
    headers        TEXT,                -- JSON list of [name, value] that they added; NULL: nothing is sent
    body           BLOB                 -- what is sent; NULL with headers: the event's own body
);
CREATE UNIQUE INDEX plugin_runs_of_delivery ON plugin_runs (tenant_id, delivery_id, attempt);

CREATE TABLE plugin_usage (
    tenant_id      TEXT NOT NULL,       -- on whose events it ran, also where the plugin is built in
    plugin         TEXT NOT NULL,
    version        TEXT NOT NULL,
    calls          BIGINT NOT NULL,
    cpu_us         BIGINT NOT NULL,     -- all calls together
    memory_peak_bytes BIGINT NOT NULL,  -- the call that took most
    trapped        BIGINT NOT NULL,     -- calls that failed, one column for each kind of failure
    out_of_memory  BIGINT NOT NULL,
    timed_out      BIGINT NOT NULL,
    output_too_large BIGINT NOT NULL,
    bad_header     BIGINT NOT NULL,
    plugin_error   BIGINT NOT NULL,
    over_budget    BIGINT NOT NULL,
    unavailable    BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, plugin, version)
) WITHOUT ROWID;

-- 1: what is sent is in plugin_runs, in the newest row that has headers.
ALTER TABLE deliveries ADD COLUMN transformed BIGINT NOT NULL DEFAULT 0;
-- Why it was dropped; NULL otherwise.
ALTER TABLE deliveries ADD COLUMN state_reason TEXT;

-- As in 0001: rows of the table, then rows for each further column of the index that is given.
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('plugins', 'plugins', '10000 10 1'),
    ('plugin_versions', 'plugin_versions_by_digest', '100000 100 10 1'),
    ('attachments', 'attachments', '100000 100 2 1'),
    ('attachments', 'attachments_of_plugin', '100000 100 10 1'),
    ('plugin_runs', 'plugin_runs_of_delivery', '10000000 100000 2 1'),
    ('plugin_usage', 'plugin_usage', '100000 100 10 1');
