//! Rotation: a key gets a new version, all data keys that older ones wrap are
//! wrapped with it, and the older ones go. No content is touched.
//!
//! It may be cut off anywhere: a key with more than one version is one whose
//! rotation has not ended, and the next start goes on with it.
//!
//! Invariant: a version is retired only after all writes that could have used
//! it are named, every row was looked at since, and none is sealed by it.

use muonic_ports::object_store::{Error, Result};
use muonic_types::store::{EncryptionKey, RotationReport};

use super::EmbeddedStore;
use super::task::Turn;
use crate::content::SealedBy;
use crate::data::blocking;
use crate::index::Located;

/// Data keys wrapped in one step.
const STEP: u32 = 256;
/// Rounds over all rows: one more than ever needed, but for faults.
const ROUNDS: u32 = 3;

impl EmbeddedStore {
    /// A new version of the key, and then all that follows, in the background.
    pub(super) async fn rotate(&self, name: Option<&str>) -> muonic_ports::Result<()> {
        let name = name.map(str::to_owned);
        let turn = self.inner.rotation.begin(RotationReport { name: name.clone(), ..RotationReport::default() })?;
        let (keys, key) = (self.inner.keys.clone(), name.clone());
        match blocking(move || keys.rotate(key.as_deref())).await {
            Ok(_) => {
                let store = self.clone();
                tokio::spawn(async move { store.rewrap(turn, name).await });
                Ok(())
            }
            Err(error) => {
                let error = match error {
                    Error::NoSuchEncryptionKey(_) => muonic_ports::Error::NotFound(error.to_string()),
                    error => super::plain(error),
                };
                self.inner.rotation.end(turn, &Err(&error));
                Err(error)
            }
        }
    }

    /// Goes on with rotations that an earlier process did not end.
    pub(super) async fn end_rotations(&self) -> Result<()> {
        let keys = self.inner.keys.clone();
        let open = blocking(move || keys.list()).await?.into_iter().filter(|key| key.versions.len() > 1);
        for EncryptionKey { name, .. } in open {
            let report = RotationReport { name: name.clone(), ..RotationReport::default() };
            // One that was asked for just now comes first: this goes on at the
            // next start, where it is another key's.
            let Ok(turn) = self.inner.rotation.begin(report) else { continue };
            self.rewrap(turn, name).await;
        }
        Ok(())
    }

    async fn rewrap(&self, turn: Turn<RotationReport>, name: Option<String>) {
        let result = self.rewrap_all(name.as_deref()).await;
        self.inner.rotation.end(turn, &result);
    }

    async fn rewrap_all(&self, name: Option<&str>) -> Result<()> {
        let mut report = RotationReport { name: name.map(str::to_owned), ..RotationReport::default() };
        report.version = self.inner.keys.current(name)?;
        self.inner.rotation.set(report.clone());
        self.data().writes_drained().await;
        let mut broken = None;
        for _ in 0..ROUNDS {
            report.extents = 0;
            broken = self.rewrap_round(name, &mut report).await?;
            self.retire_unused(name, &mut report).await?;
            let left = self.versions(name).await?.len() > 1;
            if !left {
                return Ok(());
            }
        }
        Err(broken.unwrap_or_else(|| {
            muonic_ports::Error::bug("an older version of the key is still in use after all was wrapped anew").into()
        }))
    }

    async fn versions(&self, name: Option<&str>) -> Result<Vec<u32>> {
        let keys = self.inner.keys.clone();
        let key = blocking(move || keys.list()).await?.into_iter().find(|key| key.name.as_deref() == name);
        Ok(key.map_or_else(Vec::new, |key| key.versions.into_iter().map(|version| version.version).collect()))
    }

    /// Answers the first failure of those that could not be wrapped anew.
    async fn rewrap_round(&self, name: Option<&str>, report: &mut RotationReport) -> Result<Option<Error>> {
        let (mut after, mut broken) = (0, None);
        loop {
            let page = self.index().all_extents(after, STEP).await?;
            let Some(last) = page.last() else { return Ok(broken) };
            after = last.row;
            report.extents += page.len() as u64;
            let mut seals = Vec::new();
            for Located { row, extent } in page {
                let Some(old) = extent.seal.filter(|seal| is_by(&seal.by, name, report.version)) else { continue };
                match self.data().rewrap(extent.id, &old).await {
                    Ok(Some(new)) => seals.push((row, old, new)),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(%error, "a data key could not be wrapped anew");
                        broken.get_or_insert(error);
                    }
                }
            }
            if !seals.is_empty() {
                let set = self.index().set_seals(seals).await?;
                report.rewrapped += set.into_iter().filter(|set| *set).count() as u64;
            }
            self.inner.rotation.set(report.clone());
        }
    }

    async fn retire_unused(&self, name: Option<&str>, report: &mut RotationReport) -> Result<()> {
        for version in self.versions(name).await?.into_iter().filter(|version| *version != report.version) {
            let by = match name {
                None => SealedBy::Store { version },
                Some(name) => SealedBy::Named { name: name.to_owned(), version },
            };
            if self.index().is_sealed_by(by).await? {
                continue;
            }
            let (keys, key) = (self.inner.keys.clone(), name.map(str::to_owned));
            blocking(move || keys.retire(key.as_deref(), version)).await?;
            report.retired.push(version);
            self.inner.rotation.set(report.clone());
        }
        Ok(())
    }
}

/// Whether it is sealed by this key in an older version.
fn is_by(by: &SealedBy, name: Option<&str>, newest: u32) -> bool {
    match by {
        SealedBy::Store { version } => name.is_none() && *version != newest,
        SealedBy::Named { name: named, version } => name == Some(named) && *version != newest,
        SealedBy::Customer { .. } => false,
    }
}
