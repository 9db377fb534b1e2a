-- Components in parts of 1 MiB, each written in a transaction of its own: one row of many MiB would keep every other
-- writer waiting.

CREATE TABLE component_parts (
    tenant_id      TEXT NOT NULL,       -- as in plugins
    plugin         TEXT NOT NULL,
    version        TEXT NOT NULL,
    part           BIGINT NOT NULL,     -- from 0
    created_at     BIGINT NOT NULL,     -- parts without their version are of an upload that goes on, or that ended
    bytes          BLOB NOT NULL
);
CREATE UNIQUE INDEX component_parts_of_version ON component_parts (tenant_id, plugin, version, part);

WITH RECURSIVE parts (part) AS (SELECT 0 UNION ALL SELECT part + 1 FROM parts WHERE part < 31)
INSERT INTO component_parts (tenant_id, plugin, version, part, created_at, bytes)
SELECT v.tenant_id, v.plugin, v.version, p.part, v.created_at, substr(v.component, p.part * 1048576 + 1, 1048576)
FROM plugin_versions v JOIN parts p ON p.part * 1048576 < v.size_bytes;

ALTER TABLE plugin_versions DROP COLUMN component;

INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('component_parts', 'component_parts_of_version', '1000000 1000 100 10 1');
