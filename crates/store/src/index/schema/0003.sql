-- What happened in journaled buckets, in the order of the sequence.
CREATE TABLE changes (
    number  INTEGER PRIMARY KEY,
    bucket  INTEGER NOT NULL,
    what    INTEGER NOT NULL,               -- see journal.rs
    key     BLOB NOT NULL,
    version TEXT NOT NULL,
    size    INTEGER NOT NULL,
    etag    TEXT NOT NULL,
    at      INTEGER NOT NULL
) STRICT;
CREATE INDEX changes_bucket ON changes (bucket);
-- Up to this number they may be gone.
INSERT INTO counters VALUES ('forgotten', 0)
