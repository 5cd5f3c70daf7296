//! The client of the native API: blocking, small, quick to start. The CLI,
//! the shim and the replica all speak to the server through it; there is no
//! private door.
//!
//! One file per noun with one method per call; `upload` and `download` move
//! whole folders, `folder` is where a tree lands, and `new_folder` one that
//! has it whole or not at all; `http` holds the connection, `retry` the bounded
//! repetition of what is idempotent.

mod backups;
mod blobs;
mod datasets;
mod download;
mod endpoints;
mod error;
mod folder;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod jobs;
mod keys;
mod models;
mod new_folder;
mod objects;
mod pack;
mod parallel;
mod progress;
mod replica;
mod retry;
mod store;
mod system;
pub mod task;
mod upload;
mod url;
mod walk;

pub use error::{Error, Result};
pub use http::{Body, Client};
pub use jobs::LogRange;
pub use new_folder::NewFolder;
pub use progress::{Progress, Stage};
pub use retry::Retry;
pub use upload::Uploaded;
pub use walk::{NEVER_CODE, UploadRules};
