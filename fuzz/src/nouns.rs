//! The nouns of the native API.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use muonic_types::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is read is written so that it is read again as the same.
fn round<T: FromStr<Err = Invalid> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().as_ref(), Ok(&value), "{text:?}");
    }
}

pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    round::<Name>(text);
    round::<ProjectId>(text);
    round::<JobId>(text);
    round::<AttemptId>(text);
    round::<ReplicaId>(text);
    round::<UnitId>(text);
    round::<KeyId>(text);
    round::<Digest>(text);
    round::<VersionSelector>(text);
    round::<VersionRef>(text);
    round::<FilePath>(text);
    round::<Cpu>(text);
    round::<Memory>(text);
    let _ = Resources::parse_over(Resources::default(), text);
    if let Ok(id) = text.parse::<JobId>() {
        let _ = id.name();
    }
    if let Ok(id) = text.parse::<AttemptId>() {
        let _ = (id.job().name(), id.number());
    }
    if let Ok(id) = text.parse::<ReplicaId>() {
        let _ = (id.endpoint(), id.revision());
    }
}

/// A tree has one stored form, and all that it names stays below its folder.
pub fn trees(data: &[u8]) {
    let Ok(tree) = Tree::decode(data) else { return };
    let stored = tree.encode();
    assert_eq!(Tree::decode(&stored).as_ref(), Ok(&tree));
    assert_eq!(tree.digest(), Digest::of(&stored));
    for entry in tree.entries() {
        let path = std::path::Path::new(entry.path.as_str());
        assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))), "{path:?}");
    }
}

fn body<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    let Ok(Object(body)) = serde_json::from_slice::<Object<T>>(bytes) else { return };
    let text = serde_json::to_string(&body).expect("what was read can be written");
    let again = serde_json::from_str::<T>(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(serde_json::to_string(&again).expect("and again"), text);
}

pub fn bodies(data: &[u8]) {
    body::<job::NewJob>(data);
    body::<endpoint::NewEndpoint>(data);
    body::<endpoint::NewRevision>(data);
    body::<endpoint::Rollback>(data);
    body::<model::NewModelVersion>(data);
    body::<model::SetAlias>(data);
    body::<dataset::NewDatasetVersion>(data);
    body::<key::NewKey>(data);
    body::<blob::Digests>(data);
    body::<blob::NewTree>(data);
    body::<backup::NewBackup>(data);
    body::<store::NewMount>(data);
    body::<store::NewScrub>(data);
    body::<store::NewRotation>(data);
    body::<store::NewEncryptionKey>(data);
    body::<task::TaskProgress>(data);
    body::<task::NewMetricPoints>(data);
    body::<task::ExitReport>(data);
    body::<task::ReplicaReady>(data);
    body::<task::ReplicaFailed>(data);
}
