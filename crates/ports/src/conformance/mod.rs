//! The suites every backend must pass, one file per port. Each panics with
//! the expectation that does not hold.

pub mod blob_store;
pub mod engine;
pub mod logs;
pub mod metastore;
pub mod object_store;
