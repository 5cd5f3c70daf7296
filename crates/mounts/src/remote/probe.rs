//! Finds out what an S3 server of unknown make does, by writing small objects
//! under a name that cannot be guessed, and removing them.

use muonic_ports::object_store::{ListQuery, Result};
use object_store::{PutMode, PutOptions, PutPayload};

use super::{ANSWER, Remote, uploads};

/// What was found; nothing is taken for granted where it may not be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// A second create of the same key is refused.
    pub conditions: bool,
    /// Keys are listed in the order of their bytes, not of folders.
    pub lists_by_bytes: bool,
}

impl Remote {
    /// To be asked of a remote that was opened with both taken for granted.
    pub(crate) async fn probe(&self) -> Result<Found> {
        let base = format!(".muonic-mount-{}", uploads::random_id()?);
        let keys = [format!("{base}/1"), format!("{base} 1"), format!("{base}/2"), format!("{base}0")];
        let mut found = Found::default();
        let mut wrote = true;
        for key in &keys {
            wrote &= self.write(key, PutMode::Overwrite).await?.is_ok();
        }
        if wrote {
            let query = ListQuery { prefix: base.clone(), max: 10, ..Default::default() };
            let listed = self.listed_by_bytes(&query).await?;
            let mut sorted = keys.to_vec();
            sorted.sort();
            found.lists_by_bytes = listed.as_ref() == Some(&sorted);
        }
        let key = format!("{base}.once");
        if self.write(&key, PutMode::Create).await?.is_ok() {
            let again = self.write(&key, PutMode::Create).await?;
            found.conditions = matches!(again, Err(object_store::Error::AlreadyExists { .. }));
        }
        for key in keys.iter().chain([&key]) {
            // What may not be written may not be removed either.
            if let Err(e) = self.remove_one(&self.path(key)?).await {
                tracing::debug!(key, "a probe was not removed: {e}");
            }
        }
        Ok(found)
    }

    async fn write(&self, key: &str, mode: PutMode) -> Result<object_store::Result<()>> {
        let path = self.path(key)?;
        let options = PutOptions { mode, ..Default::default() };
        let put = self.backend.store.put_opts(&path, PutPayload::from_static(b"muonic"), options);
        match tokio::time::timeout(ANSWER, put).await {
            Ok(answer) => Ok(answer.map(drop)),
            Err(_) => Err(self.backend.voice.unavailable("did not answer in time")),
        }
    }
}
