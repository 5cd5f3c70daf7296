-- A document; none where the key has no limits.
ALTER TABLE keys ADD COLUMN limits TEXT;
