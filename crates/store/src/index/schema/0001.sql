-- Times are microseconds since 1970. Numbers that name something come from
-- one sequence, so that a later one is always greater.

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('sequence', 0);

CREATE TABLE buckets (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    project    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    versioning INTEGER NOT NULL,            -- 0 off, 1 on, 2 suspended
    lock       INTEGER NOT NULL,
    documents  TEXT NOT NULL                -- JSON
) STRICT;
CREATE INDEX buckets_project ON buckets (project, name);

CREATE TABLE versions (
    bucket       INTEGER NOT NULL,
    key          BLOB NOT NULL,             -- UTF-8
    age          INTEGER NOT NULL,          -- the negated sequence: the latest comes first
    nullness     INTEGER NOT NULL,          -- 0 has an id; 1 null, put while versioning was off; 2 while suspended
    marker       INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    content      INTEGER NOT NULL,          -- 0 for markers
    modified_at  INTEGER NOT NULL,
    etag         BLOB NOT NULL,             -- an MD5, empty for markers
    parts        INTEGER NOT NULL,
    sum          BLOB,                      -- algorithm, type, sum
    owner        TEXT NOT NULL,
    encryption   TEXT,
    retain_mode  INTEGER,                   -- 1 governance, 2 compliance
    retain_until INTEGER,
    legal_hold   INTEGER NOT NULL,
    more         TEXT,                      -- headers, tags and access list in JSON
    PRIMARY KEY (bucket, key, age)
) STRICT, WITHOUT ROWID;
-- A null version of kind 1 is the oldest of its key; one of kind 2 may lie anywhere.
CREATE UNIQUE INDEX versions_null ON versions (bucket, key) WHERE nullness = 2;

-- Only contents that are shared or have parts.
CREATE TABLE contents (
    id      INTEGER PRIMARY KEY,
    refs    INTEGER NOT NULL,
    parts   INTEGER NOT NULL,
    uniform INTEGER,                        -- parts 1, 2, .. of this size each, but for the last
    ends    BLOB                            -- else for each part: number (2 bytes), end (8 bytes)
) STRICT;

CREATE TABLE extents (
    row         INTEGER PRIMARY KEY,        -- content * 16384 + part; part 0 where there are none
    id          BLOB NOT NULL,
    size        INTEGER NOT NULL,
    place       INTEGER NOT NULL,           -- 0 here, 1 segment, 2 file, 3 blob of format 1
    segment     INTEGER,
    offset      INTEGER,
    length      INTEGER NOT NULL,
    etag        BLOB,                       -- of parts: an MD5
    sum         BLOB,
    modified_at INTEGER,
    seal        BLOB,
    digest      BLOB,
    blocks      BLOB NOT NULL,
    data        BLOB
) STRICT;
CREATE INDEX extents_segment ON extents (segment, offset) WHERE place = 1;
CREATE INDEX extents_file ON extents (id) WHERE place = 2;

CREATE TABLE segments (
    id   INTEGER PRIMARY KEY,
    live INTEGER NOT NULL,                  -- bytes that extents name
    used INTEGER NOT NULL                   -- where the last that was ever named ends
) STRICT;

CREATE TABLE uploads (
    bucket     INTEGER NOT NULL,
    key        BLOB NOT NULL,
    content    INTEGER NOT NULL,
    id         TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    encryption TEXT,
    new        TEXT NOT NULL,               -- JSON
    PRIMARY KEY (bucket, key, content)
) STRICT, WITHOUT ROWID;

-- Uploads that became a version lately, for those who ask again.
CREATE TABLE finished (
    content INTEGER PRIMARY KEY,
    id      TEXT NOT NULL,
    bucket  INTEGER NOT NULL,
    key     BLOB NOT NULL,
    age     INTEGER NOT NULL,
    at      INTEGER NOT NULL
) STRICT;

CREATE TABLE blobs (
    digest  BLOB PRIMARY KEY,
    content INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Contents that nothing names any longer, and (negative) buckets that are
-- gone, whose uploads are to follow.
CREATE TABLE garbage (
    number  INTEGER PRIMARY KEY,
    content INTEGER NOT NULL
) STRICT
