-- What was written last to see whether the database takes writes; of no meaning. NULL: there was no need yet.
ALTER TABLE installation ADD COLUMN probe BLOB;
