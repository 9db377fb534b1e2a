-- Sign-in to the settings pages. Keys are looked up by their hashes; the keys themselves are not stored.

CREATE TABLE portal_links (
    hash           BLOB PRIMARY KEY,    -- SHA-256 of the key in the link
    tenant_id      TEXT NOT NULL,       -- whose pages it opens
    expires_at     BIGINT NOT NULL      -- the row goes when the link is used, or some time after this
) WITHOUT ROWID;
CREATE INDEX portal_links_of_tenant ON portal_links (tenant_id);

CREATE TABLE sessions (
    hash           BLOB PRIMARY KEY,    -- SHA-256 of the key in the cookie
    tenant_id      TEXT NOT NULL,
    expires_at     BIGINT NOT NULL      -- the row goes at sign-out, or some time after this
) WITHOUT ROWID;
CREATE INDEX sessions_of_tenant ON sessions (tenant_id);
