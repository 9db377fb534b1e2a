-- Set while this database is moved to PostgreSQL and after that: the id of the move. Nobody serves it then.
ALTER TABLE installation ADD COLUMN moving TEXT;
