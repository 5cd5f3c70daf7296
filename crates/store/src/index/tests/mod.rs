//! The index against what S3 says, and against a naive model.

mod journal;
mod lists;
mod lookups;
mod model;
mod speed;
mod upkeep;
mod uploads;
mod writes;

use std::collections::BTreeMap;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use muonic_ports::object_store::{
    Encryption, LockGuard, NewBucket, NewObject, ObjectVersion, Precondition, Removal, Result, Sums, Target, VersionId,
};
use muonic_types::{ProjectId, Timestamp};

use super::{Index, NewContent};
use crate::content::{Extent, Place};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn new_bucket(name: &str, lock: bool) -> NewBucket {
    NewBucket { name: name.into(), project: ProjectId::default_project(), at: at(0), lock, documents: BTreeMap::new() }
}

async fn memory() -> Index {
    let index = Index::open_in_memory().unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    index
}

fn target(key: &str) -> Target {
    Target { bucket: "b".into(), key: key.into(), condition: Precondition::default(), at: at(1) }
}

fn extent(place: Place, size: u64) -> Extent {
    Extent { id: random(), size, place, seal: None, blocks: vec![7] }
}

fn random() -> [u8; 16] {
    use ring::rand::SecureRandom as _;
    let mut id = [0; 16];
    ring::rand::SystemRandom::new().fill(&mut id).unwrap();
    id
}

fn sums(body: &[u8]) -> Sums {
    Sums { size: body.len() as u64, md5: Md5::digest(body).into(), found: BTreeMap::new() }
}

fn content(body: &[u8]) -> NewContent {
    let extent = extent(Place::Inline(Bytes::copy_from_slice(body)), body.len() as u64);
    NewContent { extent, encryption: Encryption::None, sums: sums(body) }
}

async fn put(index: &Index, key: &str, body: &str) -> Result<ObjectVersion> {
    index.put(target(key), NewObject::default(), content(body.as_bytes())).await
}

fn removal(key: &str, version: Option<&VersionId>) -> Removal {
    Removal {
        key: key.into(),
        version: version.cloned(),
        condition: Precondition::default(),
        guard: LockGuard { now: at(2), bypass: false },
        owner: "me".into(),
        expired: false,
    }
}

fn body(index: &Index, object: &ObjectVersion) -> Vec<u8> {
    let extents = index.extents(object.content, 0..object.size).unwrap().unwrap();
    extents
        .into_iter()
        .flat_map(|(_, extent)| match extent.place {
            Place::Inline(bytes) => bytes.to_vec(),
            place => panic!("not inline: {place:?}"),
        })
        .collect()
}

/// Reclaims all there is, and checks the whole.
async fn sweep(index: &Index) {
    let mark = index.mark().await.unwrap();
    loop {
        let garbage = index.garbage(mark, 3).await.unwrap();
        if garbage.is_empty() {
            break;
        }
        index.garbage_done(garbage).await.unwrap();
    }
    assert_eq!(index.check(true).await.unwrap(), Vec::<String>::new());
}
