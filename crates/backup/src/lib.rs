//! Backup and restore: snapshots of everything at a place elsewhere, made
//! while the server is in use, of which each sends only what is new.
//!
//! ```text
//! DEST/muonic-backup.json              format, and whose backups these are
//! DEST/data/files/ab/<hex32>.<size>    as in the store; shared by all snapshots
//! DEST/data/segments/<hex16>.<size>
//! DEST/data/blobs/ab/<hex64>.<size>
//! DEST/data/logs/<sha256>
//! DEST/snapshots/<time>/index.sqlite   the store's index
//! DEST/snapshots/<time>/metastore.sqlite
//! DEST/snapshots/<time>/keys.sealed    or keys/master.key, keys/store.keys
//! DEST/snapshots/<time>/files.jsonl    the data files, by path, with their hashes
//! DEST/snapshots/<time>/manifest.json  written last
//! ```
//!
//! Invariants:
//! - A snapshot without a manifest does not exist. The manifest is written
//!   when all that it names is durable at the destination.
//! - A data file never changes under its name: in the store it is written
//!   once (a segment is closed first), and what has another length has another
//!   name. So a name that is there need not be sent again.
//! - The metastore is copied before the index: see `muonic_store`'s guard.
//! - Whatever is restored has the hash that was written down when it was sent.
//!
//! It knows the backends, not the services, and speaks no HTTP.

mod copying;
mod destination;
mod engine;
mod folder;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod list;
mod manifest;
mod prune;
mod restore;
mod sending;

pub use destination::Destination;
pub use engine::Backups;
pub use restore::{Restored, UNFINISHED, restore, snapshots};
