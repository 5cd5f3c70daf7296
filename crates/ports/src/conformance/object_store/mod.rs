//! What every object store must do, as far as it says that it can. Run it on
//! a store whose bucket [`BUCKET`] exists, is empty and keeps no versions.

mod journal;
mod lists;
mod locks;
mod objects;
mod races;
mod uploads;
mod versions;
mod world;

use std::sync::Arc;

use crate::ObjectStore;
use crate::object_store::NewBucket;
use muonic_types::ProjectId;

pub const BUCKET: &str = "conformance";

/// The bucket that the suite asks for, where the store can make it itself.
pub fn new_bucket(name: &str, lock: bool) -> NewBucket {
    let project = ProjectId::default_project();
    NewBucket { name: name.to_owned(), project, at: world::at(0), lock, documents: Default::default() }
}

/// Which keys a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// All that S3 takes.
    Any,
    /// Those that are paths: with something between any two slashes and at
    /// both ends.
    Paths,
    /// Paths of which none is a folder of another.
    Files,
}

/// What holds of a store that takes all that S3 takes.
pub async fn suite(store: Arc<dyn ObjectStore>) {
    suite_with(store, Keys::Any, true).await;
}

/// What holds of any bucket, a mounted one too. `gaps`: the numbers of the
/// parts of an upload may leave some out.
pub async fn suite_with(store: Arc<dyn ObjectStore>, keys: Keys, gaps: bool) {
    let abilities = store.abilities(BUCKET);
    objects::all(&*store).await;
    lists::all(&*store, keys).await;
    if abilities.conditions {
        races::all(store.clone()).await;
    }
    if abilities.multipart {
        uploads::all(&*store, gaps).await;
    }
    if abilities.attributes {
        objects::attributes(&*store).await;
    }
    world::empty(&*store).await;
}

/// What only a store with buckets of its own does.
pub async fn buckets(store: Arc<dyn ObjectStore>) {
    versions::all(&*store).await;
    locks::all(&*store).await;
    journal::all(store).await;
}
