//! External stores behind the port: a bucket whose objects lie in S3, Google
//! Cloud Storage, Azure, HDFS or a local folder.
//!
//! [`Mounts`] wraps the embedded store: it sends what concerns a mounted
//! bucket to the bucket's [`Remote`], and all else through. The record of a
//! mount is a document of the bucket, with its secrets sealed.

mod backend;
mod blocks;
mod body;
mod depot;
mod failure;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod list;
mod mounts;
mod options;
mod record;
mod remote;
mod seal;
mod sums;
mod transport;

pub use depot::{Depot, Found};
pub use mounts::Mounts;
pub use options::{InvalidMount, MountSpec};
pub use record::DOCUMENT;
pub use remote::Remote;
pub use seal::{MasterSealer, SealError, Sealer};

/// What the bodies of all uploads under way may take, in MiB.
pub(crate) const MEMORY_MIB: usize = 256;
