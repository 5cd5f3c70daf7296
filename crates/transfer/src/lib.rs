//! Buckets as plain files, and plain files as buckets: for those who leave, who
//! move, and who want to see their data with no program of ours.
//!
//! An export of a bucket is a folder:
//!
//! ```text
//! FOLDER/objects/..       keys as paths
//! FOLDER/escaped/..       keys that cannot be paths, by other names
//! FOLDER/manifest.jsonl   a line for each object, by key: where it lies, and
//!                         what is known of it
//! ```
//!
//! Invariants:
//! - A line of the manifest says that its file is on the disk, whole.
//! - What is copied is verified: by the store as it is read, and by its MD5.
//! - Both may be cut off anywhere and run again: what is there is not copied
//!   twice.
//! - No file of the user's is ever removed.

mod error;
mod export;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod import;
mod manifest;
mod names;
mod report;

pub use error::{Error, Result};
pub use export::export;
pub use import::import;
pub use report::{LeftOut, Report};
