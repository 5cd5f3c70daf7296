//! How long work tells a person where it stands. The client draws nothing.

/// What a transfer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading local files to compute their digests.
    Hashing,
    /// Sending what the server lacks.
    Sending,
    /// Fetching and writing files.
    Receiving,
}

/// Called from several threads; must return at once.
pub trait Progress: Sync {
    /// A stage begins, with all that it will move.
    fn begin(&self, _stage: Stage, _files: u64, _bytes: u64) {}
    /// So many bytes more are done.
    fn advance(&self, _bytes: u64) {}
}

/// Tells nobody.
impl Progress for () {}
