-- As key_check, under the master key before it: values may still be sealed under that; NULL: there are none.
ALTER TABLE installation ADD COLUMN previous_key_check BYTEA;
