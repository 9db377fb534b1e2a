-- What the attempts of each endpoint came to, hour by hour: lists and charts read it instead of the history. Kept for 8 days.

CREATE TABLE endpoint_hours (
    tenant_id             TEXT COLLATE "C" NOT NULL,
    endpoint_id           TEXT COLLATE "C" NOT NULL,
    hour                  BIGINT NOT NULL,                 -- when it begins, UTC; an attempt counts where it began
    succeeded             BIGINT NOT NULL,                 -- attempts with a 2xx answer
    failed                BIGINT NOT NULL,                 -- all others
    ms_10                 BIGINT NOT NULL,                 -- attempts with an answer, any, that took up to 10 ms
    ms_30                 BIGINT NOT NULL,                 -- more than 10 and up to 30 ms
    ms_100                BIGINT NOT NULL,                 -- more than 30 and up to 100 ms
    ms_300                BIGINT NOT NULL,                 -- more than 100 and up to 300 ms
    ms_1000               BIGINT NOT NULL,                 -- more than 300 and up to 1000 ms
    ms_3000               BIGINT NOT NULL,                 -- more than 1000 and up to 3000 ms
    ms_more               BIGINT NOT NULL                  -- more than 3000 ms
);
-- What is too old.
CREATE INDEX endpoint_hours_by_age ON endpoint_hours (tenant_id, hour);
-- The youngest index, as in 0001.
ALTER TABLE endpoint_hours ADD PRIMARY KEY (tenant_id, endpoint_id, hour);
