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

/// Variable of a replica alone, and of nothing that it starts: glibc's tunables
/// for its heap. On huge pages, with all but the largest pieces in it: a model's
/// weights are copied while it loads, and faulting them in by 4 KiB takes longer
/// than the copy (MiniLM is ready in 164 ms instead of 226).
pub const HEAP_VARIABLE: (&str, &str) =
    ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4194304");
/// Variable that every process of a unit carries: the unit's id.
pub const UNIT_VARIABLE: &str = "MUONIC_UNIT";
/// Variable that every process of a unit carries: the unit's folder. Ids
/// repeat between data folders, folders do not, so this one is what a
/// process is recognised by.
pub const UNIT_DIR_VARIABLE: &str = "MUONIC_UNIT_DIR";
