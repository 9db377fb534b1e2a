-- events.deliveries is -1 while the deliveries of an event are made in several transactions: a start finishes those of a host that
-- was killed meanwhile. It finds them here.
CREATE INDEX events_unfinished ON events (tenant_id, id) WHERE deliveries < 0;

-- As in 0001: rows of the table, then rows for each further column of the index that is given.
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('events', 'events_unfinished', '10 1 1');
