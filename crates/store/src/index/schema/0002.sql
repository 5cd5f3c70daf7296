-- The sums of a version's columns, and of `more`; see guard.rs. Filled in
-- right after this.
ALTER TABLE versions ADD COLUMN guard BLOB
