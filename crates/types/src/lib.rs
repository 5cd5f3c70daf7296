//! The nouns of Muonic: names, ids, resources, states and the bodies of the
//! native API. Everything here is plain data, parsed once at the edge;
//! validity lives in the constructors. No I/O, no clock.

pub mod backup;
pub mod blob;
pub mod cost;
pub mod dataset;
mod digest;
pub mod endpoint;
mod error;
mod id;
pub mod job;
pub mod key;
pub mod lineage;
pub mod model;
mod object;
mod resources;
mod serde_str;
pub mod store;
pub mod system;
pub mod task;
#[cfg(test)]
mod tests;
mod tree;

pub use digest::{Digest, Hasher};
pub use error::{ERROR_CODE_HEADER, ErrorBody, ErrorCode, ErrorDetail, Invalid, grpc_message};
pub use id::{AttemptId, JobId, KeyId, Name, ProjectId, ReplicaId, UnitId, VersionRef, VersionSelector};
pub use jiff::Timestamp;
pub use object::Object;
pub use resources::{Cpu, Memory, Price, Resources};
pub use tree::{Entry, FilePath, Tree};
