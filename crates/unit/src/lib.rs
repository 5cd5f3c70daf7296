//! What the local engine, the shim and the replica agree on: the unit's
//! folder, the limits of its processes, and how every one of them is found
//! and ended.

mod folder;
mod leftovers;
pub mod limits;
pub mod processes;
mod remove;
mod socket;
mod variables;

pub use folder::{Folder, Launch, Lock};
pub use leftovers::end_leftovers;
pub use limits::Limiter;
pub use remove::remove_tree;
pub use socket::socket_path;
pub use variables::is_for_all;

/// Variable that every process of a unit carries: the unit's id.
pub const UNIT_VARIABLE: &str = "MUONIC_UNIT";
/// Variable that every process of a unit carries: the unit's folder. Ids
/// repeat between data folders, folders do not, so this one is what a
/// process is recognised by.
pub const UNIT_DIR_VARIABLE: &str = "MUONIC_UNIT_DIR";
