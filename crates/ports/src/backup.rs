//! Makes snapshots of everything at a place elsewhere, while it is in use.

use std::sync::Arc;

use async_trait::async_trait;
use muonic_types::backup::{BackupProgress, NewBackup, Snapshot};

use crate::Result;

/// Is told of each step; must not block.
pub type OnProgress = Arc<dyn Fn(BackupProgress) + Send + Sync>;

#[async_trait]
pub trait BackupEngine: Send + Sync + 'static {
    /// Whether the request can be carried out as far as that is known without
    /// asking the destination: `Conflict` with a sentence where not.
    fn check(&self, new: &NewBackup) -> Result<()>;

    /// Makes a snapshot. It exists, durably and whole, when this returns
    /// `Ok`, and not at all else; what was sent before a failure is not sent
    /// again. One at a time.
    async fn run(&self, new: NewBackup, progress: OnProgress) -> Result<Made>;
}

/// A backup that has worked.
#[derive(Debug, Clone)]
pub struct Made {
    pub snapshot: Snapshot,
    /// What could not be done beside it: older snapshots that were to go.
    pub warning: Option<String>,
}
