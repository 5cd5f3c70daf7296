-- A document; none where the number of replicas is fixed.
ALTER TABLE revisions ADD COLUMN scale TEXT;
-- A document: how traffic comes to the revision.
ALTER TABLE revisions ADD COLUMN release TEXT NOT NULL DEFAULT '{"kind":"all_at_once"}';
-- The step of its release that it has come to.
ALTER TABLE revisions ADD COLUMN step INTEGER NOT NULL DEFAULT 0;
-- A document of the releaser: when requests come.
ALTER TABLE endpoints ADD COLUMN learned TEXT;
