-- Requests to endpoints that are answered into a bucket.
CREATE TABLE async_requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    -- Who asked: the result is written with this key's rights.
    key TEXT NOT NULL REFERENCES keys (id),
    -- What is asked, a document.
    request TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'done', 'failed')),
    tries INTEGER NOT NULL DEFAULT 0,
    -- Of what is queued: when it is tried next. Of what has ended and has a
    -- callback that was not yet taken: when that is tried next.
    due_at INTEGER,
    status INTEGER,
    reason TEXT,
    created_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE INDEX async_requests_due ON async_requests (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX async_requests_endpoint ON async_requests (project, endpoint, id);
CREATE INDEX async_requests_ended ON async_requests (ended_at) WHERE ended_at IS NOT NULL;
