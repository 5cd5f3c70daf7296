//! Reads what the house rules speak of: the dependency graph and the tracked
//! files. The rules themselves are the tests of this crate, one test a rule,
//! each with a message that says what to do.
//!
//! Only tests use this crate, so it fails loudly.

pub mod graph;
pub mod licence;
pub mod sources;

use std::path::PathBuf;

/// The root of the repository.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the crate lies two folders below the root").to_owned()
}
