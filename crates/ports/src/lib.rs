//! The ports: what the services need from the world, as small traits. Every
//! backend lives behind one of them and passes its conformance suite
//! (`muonic_ports::conformance`, feature `conformance`).

pub mod backup;
pub mod blob_store;
mod clock;
pub mod engine;
mod error;
pub mod logs;
pub mod metastore;
pub mod object_store;
pub mod routes;
pub mod store_admin;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use backup::BackupEngine;
pub use blob_store::BlobStore;
pub use clock::{Clock, SystemClock};
pub use engine::Engine;
pub use error::{Error, Result};
pub use logs::Logs;
pub use metastore::Metastore;
pub use object_store::ObjectStore;
pub use store_admin::{Mounting, StoreAdmin};
