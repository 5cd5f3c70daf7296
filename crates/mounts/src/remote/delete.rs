//! Deleting, many keys in a request where the store takes them.

use futures_util::{StreamExt, stream};
use muonic_ports::object_store::{Deleted, Error, Precondition, Removal, Result};
use object_store::path::Path;

use super::Remote;

impl Remote {
    pub(super) async fn delete_objects(&self, bucket: &str, removals: Vec<Removal>) -> Result<Vec<Result<Deleted>>> {
        self.ours(bucket)?;
        let mut answers: Vec<Result<Deleted>> = Vec::with_capacity(removals.len());
        // Where the store is to be asked, and for which answer.
        let mut asked: Vec<(usize, Path)> = Vec::new();
        for (n, removal) in removals.iter().enumerate() {
            answers.push(match self.removable(removal).await {
                Ok(path) => {
                    asked.extend(path.map(|path| (n, path)));
                    Ok(Deleted::default())
                }
                Err(e) => Err(e),
            });
        }
        for chunk in asked.chunks(self.backend.kind.delete_batch()) {
            let paths: Vec<Path> = chunk.iter().map(|(_, path)| path.clone()).collect();
            for ((n, _), answer) in chunk.iter().zip(self.remove(paths).await) {
                // Most stores do not tell whether there was anything.
                answers[*n] = answer.map(|found| Deleted { found, ..Default::default() });
            }
        }
        Ok(answers)
    }

    /// Where it lies; `None` where nothing can lie under such a key.
    async fn removable(&self, removal: &Removal) -> Result<Option<Path>> {
        if removal.condition != Precondition::default() {
            return Err(Error::NotSupported("conditions on deletes in a mounted bucket"));
        }
        if removal.version.as_ref().is_some_and(|version| !version.is_null()) {
            return Err(Error::NotSupported("versions in a mounted bucket"));
        }
        let Ok(path) = self.path(&removal.key) else { return Ok(None) };
        self.inside(&path).await?;
        Ok(Some(path))
    }

    pub(super) async fn remove_one(&self, path: &Path) -> Result<bool> {
        self.remove(vec![path.clone()]).await.pop().unwrap_or(Ok(false))
    }

    /// One answer for each: whether it was there.
    async fn remove(&self, paths: Vec<Path>) -> Vec<Result<bool>> {
        let locations = stream::iter(paths.clone().into_iter().map(Ok)).boxed();
        let answers = self.backend.store.delete_stream(locations).collect::<Vec<_>>();
        let answers = match tokio::time::timeout(super::ANSWER, answers).await {
            Ok(answers) => answers,
            Err(_) => {
                Vec::from([Err(object_store::Error::Generic { store: "mount", source: "no answer in time".into() })])
            }
        };
        if answers.len() == paths.len() {
            let mut removed = Vec::with_capacity(paths.len());
            for (path, answer) in paths.iter().zip(answers) {
                removed.push(match answer {
                    Ok(_) => self.sync_folder(path).await.map(|()| true),
                    Err(object_store::Error::NotFound { .. }) => Ok(false),
                    Err(e) => Err(self.backend.voice.error(e)),
                });
            }
            return removed;
        }
        // The request failed as a whole.
        let said = answers.iter().find_map(|a| a.as_ref().err()).map(|e| self.backend.voice.detail(e));
        let said = format!("could not be asked to delete: {}", said.unwrap_or_else(|| "it gave no answer".to_owned()));
        paths.iter().map(|_| Err(self.backend.voice.unavailable(&said))).collect()
    }

    /// A name that is removed from a local folder stays so after a power loss.
    async fn sync_folder(&self, path: &Path) -> Result<()> {
        let Some(folder) = self.backend.folder.clone() else { return Ok(()) };
        let path = path.clone();
        let syncing = tokio::task::spawn_blocking(move || {
            let mut at = folder;
            let parts: Vec<_> = path.parts().collect();
            for part in &parts[..parts.len().saturating_sub(1)] {
                let next = at.join(part.as_ref());
                // Empty folders went with the last file in them.
                if !next.is_dir() {
                    break;
                }
                at = next;
            }
            std::fs::File::open(&at)?.sync_all()
        });
        match syncing.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(Error::Store(muonic_ports::Error::internal(
                "a mounted folder could not be synced after a delete",
                e,
            ))),
            Err(_) => Err(self.backend.voice.unavailable("is not asked: the server is stopping")),
        }
    }
}
