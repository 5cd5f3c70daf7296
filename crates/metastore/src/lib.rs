//! The metastore on SQLite: one file in the data folder, WAL, every commit
//! synced. It implements `muonic_ports::Metastore`, one source file per noun.
//!
//! One connection writes (see `writer`), a few others read. Each method is
//! one transaction. All SQL is static text with bound values.

mod attempts;
mod blobs;
mod datasets;
mod deferred;
mod endpoints;
mod fault;
mod former;
mod jobs;
mod keys;
mod metrics;
mod models;
mod replicas;
mod revisions;
mod row;
mod store;
mod writer;

pub use store::{Sqlite, check_copy, in_memory, open};
