//! Backups.

use muonic_types::backup::{Backup, NewBackup};

use crate::{Client, Result, url::part};

impl Client {
    /// Starts a backup. Not repeated: one runs at a time.
    pub fn backup_create(&self, new: &NewBackup) -> Result<Backup> {
        self.post("/api/v1/store/backups", new)
    }

    pub fn backup(&self, id: &str) -> Result<Backup> {
        self.get(&format!("/api/v1/store/backups/{}", part(id)))
    }
}
