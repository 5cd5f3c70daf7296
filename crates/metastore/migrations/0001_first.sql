-- Schema version 1.
--
-- Times are microseconds since 1970 in UTC; digests are the 32 bytes of a
-- SHA-256; states are the words of the API. JSON is only what no query looks
-- into. Prices are billionths of a US dollar per second.

-- One row: sums kept up to date, and what a health check writes to.
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    stored_bytes INTEGER NOT NULL,
    checks INTEGER NOT NULL
) STRICT;
INSERT INTO store VALUES (1, 0, 0);

-- Revoked keys stay: a secret is derived from its id, so an id must never
-- come back to life.
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    project TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('admin', 'member', 'viewer', 'invoker', 'task', 'replica')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    attempt TEXT,
    replica TEXT,
    revoked INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_valid ON keys (id) WHERE revoked = 0;

CREATE TABLE blobs (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    size INTEGER NOT NULL CHECK (size >= 0),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE trees (
    digest BLOB PRIMARY KEY REFERENCES blobs (digest),
    files INTEGER NOT NULL CHECK (files >= 0),
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE datasets (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    latest INTEGER NOT NULL CHECK (latest >= 1),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE dataset_versions (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    tree BLOB NOT NULL REFERENCES trees (digest),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project, name, version),
    FOREIGN KEY (project, name) REFERENCES datasets (project, name)
) STRICT, WITHOUT ROWID;

-- Job ids count per name over all projects.
CREATE TABLE job_names (
    name TEXT PRIMARY KEY,
    last INTEGER NOT NULL CHECK (last BETWEEN 1 AND 999999999)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'starting', 'running', 'succeeded', 'failed', 'cancelled')),
    reason TEXT,
    spec TEXT NOT NULL,
    inputs TEXT NOT NULL,
    request_token TEXT,
    cpu_milli INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    gpu INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    time_limit_s INTEGER,
    grace_s INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    not_before INTEGER,
    cancel_requested_at INTEGER,
    model TEXT,
    model_version INTEGER,
    CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled')))
) STRICT;
CREATE UNIQUE INDEX jobs_token ON jobs (project, request_token) WHERE request_token IS NOT NULL;
CREATE INDEX jobs_queue ON jobs (priority DESC, sequence) WHERE state = 'queued';
CREATE INDEX jobs_rest ON jobs (not_before) WHERE state = 'queued' AND not_before IS NOT NULL;
CREATE INDEX jobs_open ON jobs (sequence) WHERE state IN ('starting', 'running');
CREATE INDEX jobs_live ON jobs (sequence, state) WHERE state IN ('queued', 'starting', 'running');
CREATE INDEX jobs_project ON jobs (project, sequence);
CREATE INDEX jobs_name ON jobs (project, name, sequence);
CREATE INDEX jobs_state ON jobs (project, state, sequence);
CREATE INDEX jobs_past ON jobs (name, sequence) WHERE state = 'succeeded';

CREATE TABLE attempts (
    job TEXT NOT NULL REFERENCES jobs (id),
    number INTEGER NOT NULL CHECK (number >= 1),
    state TEXT NOT NULL CHECK (state IN ('launching', 'running', 'finished')),
    phase TEXT CHECK (phase IN ('fetching', 'environment', 'running', 'saving')),
    exit TEXT,
    message TEXT,
    environment BLOB CHECK (length(environment) = 32),
    -- Trees of what it left in its model and output folders.
    model_tree BLOB REFERENCES trees (digest),
    output_tree BLOB REFERENCES trees (digest),
    key TEXT NOT NULL REFERENCES keys (id),
    -- Which supervisor claimed it: the same one may ask again.
    claimant TEXT,
    -- Metric points stored so far.
    points INTEGER NOT NULL DEFAULT 0,
    cpu_milli INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    gpu INTEGER NOT NULL,
    price_nano_usd_per_s INTEGER NOT NULL,
    launched_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    command_started_at INTEGER,
    command_ended_at INTEGER,
    PRIMARY KEY (job, number),
    CHECK ((finished_at IS NOT NULL) = (state = 'finished'))
) STRICT, WITHOUT ROWID;

CREATE TABLE metrics (
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    name TEXT NOT NULL,
    step INTEGER NOT NULL,
    -- NULL is "not a number".
    value REAL,
    at INTEGER NOT NULL,
    PRIMARY KEY (job, attempt, ordinal),
    FOREIGN KEY (job, attempt) REFERENCES attempts (job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE metrics_last (
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL,
    PRIMARY KEY (job, attempt, name),
    FOREIGN KEY (job, attempt) REFERENCES attempts (job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE models (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    latest INTEGER NOT NULL CHECK (latest >= 1),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE model_versions (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    tree BLOB NOT NULL REFERENCES trees (digest),
    source TEXT NOT NULL,
    metrics TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project, name, version),
    FOREIGN KEY (project, name) REFERENCES models (project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE aliases (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    alias TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (project, name, alias),
    FOREIGN KEY (project, name, version) REFERENCES model_versions (project, name, version)
) STRICT, WITHOUT ROWID;

-- The id tells an endpoint from an earlier one of the same name.
CREATE TABLE endpoints (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    active INTEGER,
    target INTEGER,
    -- What its ended replicas cost.
    spent_usd REAL NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    deleting_at INTEGER
) STRICT;
CREATE INDEX endpoints_project ON endpoints (project, name);

CREATE TABLE revisions (
    endpoint INTEGER NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    number INTEGER NOT NULL CHECK (number >= 1),
    model TEXT NOT NULL,
    model_version INTEGER NOT NULL,
    tree BLOB NOT NULL REFERENCES trees (digest),
    replicas INTEGER NOT NULL,
    cpu_milli INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    gpu INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'retired', 'failed')),
    reason TEXT,
    created_at INTEGER NOT NULL,
    activated_at INTEGER,
    PRIMARY KEY (endpoint, number)
) STRICT, WITHOUT ROWID;

-- Rows outlive their endpoint: they are its usage, and they keep replica ids
-- from being used twice. So each repeats what it ran, and `endpoint` is not a
-- foreign key.
CREATE TABLE replicas (
    id TEXT PRIMARY KEY,
    endpoint INTEGER NOT NULL,
    name TEXT NOT NULL,
    project TEXT NOT NULL,
    revision INTEGER NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 1),
    model TEXT NOT NULL,
    model_version INTEGER NOT NULL,
    tree BLOB NOT NULL REFERENCES trees (digest),
    state TEXT NOT NULL CHECK (state IN ('launching', 'ready', 'draining', 'stopped', 'failed')),
    reason TEXT,
    address TEXT,
    key TEXT NOT NULL REFERENCES keys (id),
    cpu_milli INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    gpu INTEGER NOT NULL,
    price_nano_usd_per_s INTEGER NOT NULL,
    launched_at INTEGER NOT NULL,
    ready_at INTEGER,
    ended_at INTEGER,
    CHECK ((ended_at IS NOT NULL) = (state IN ('stopped', 'failed')))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX replicas_number ON replicas (name, revision, number);
CREATE INDEX replicas_ended ON replicas (endpoint, ended_at);
CREATE INDEX replicas_live ON replicas (name, revision, number) WHERE ended_at IS NULL;
CREATE INDEX replicas_project ON replicas (project);

CREATE TABLE buckets (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (project, name)
) STRICT;

-- Keys are UTF-8 kept as bytes, so that their order is byte order and a
-- prefix's end can be any byte string.
CREATE TABLE objects (
    bucket INTEGER NOT NULL REFERENCES buckets (id),
    key BLOB NOT NULL,
    digest BLOB NOT NULL REFERENCES blobs (digest),
    size INTEGER NOT NULL CHECK (size >= 0),
    etag TEXT NOT NULL,
    headers TEXT NOT NULL,
    modified_at INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
