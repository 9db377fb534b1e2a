-- The `traceparent` (W3C Trace Context) that the attempts of an event go on with. NULL: it was posted without one.
ALTER TABLE events ADD COLUMN trace TEXT;
