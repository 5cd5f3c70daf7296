//! Removes snapshots that are no longer kept, and data files that no snapshot
//! names any more. A snapshot's manifest goes first, its data last: killed
//! anywhere, what is left is whole snapshots and files without a name.

use std::collections::HashSet;
use std::path::Path;

use muonic_ports::Result;

use crate::destination::Destination;
use crate::list::{Reader, fetch, shelf};
use crate::manifest::{MANIFEST, folders, in_snapshot, read};

/// Keeps the newest `keep` snapshots. What an interrupted backup left goes
/// too. `stage` is a folder for lists.
pub async fn prune(at: &Destination, keep: usize, stage: &Path) -> Result<()> {
    let folders = folders(at).await?;
    let whole: Vec<&String> = folders.iter().filter(|(_, _, exists)| *exists).map(|(name, ..)| name).collect();
    let kept: HashSet<String> = whole.iter().rev().take(keep.max(1)).map(|name| (*name).clone()).collect();
    // The lists first: if one cannot be read, nothing is removed.
    let mut lists = Vec::new();
    for (number, name) in whole.iter().filter(|name| kept.contains(**name)).enumerate() {
        if let Some(manifest) = read(at, name).await? {
            lists.push(fetch(at, &manifest, &stage.join(format!("kept.{number}"))).await?);
        }
    }
    for (name, files, exists) in &folders {
        if kept.contains(name) {
            continue;
        }
        let manifest = in_snapshot(name, MANIFEST);
        if *exists {
            at.remove(&manifest).await?;
            at.settle().await?;
        }
        for file in files.iter().filter(|file| **file != manifest) {
            at.remove(file).await?;
        }
    }
    for shelf in shelves() {
        sweep(at, &shelf, &mut lists).await?;
    }
    at.settle().await
}

/// In the order of lists.
fn shelves() -> impl Iterator<Item = String> {
    let fans = |name: &'static str| (0..=255u8).map(move |byte| format!("data/{name}/{byte:02x}"));
    fans("blobs").chain(fans("files")).chain(["data/logs".to_owned(), "data/segments".to_owned()])
}

async fn sweep(at: &Destination, folder: &str, lists: &mut [Reader]) -> Result<()> {
    let mut named = HashSet::new();
    for list in lists {
        while let Some(stored) = list.peek().map(|entry| entry.stored())
            && shelf(&stored) <= folder
        {
            if shelf(&stored) == folder {
                named.insert(stored);
            }
            list.take()?;
        }
    }
    for found in at.list(&format!("{folder}/")).await? {
        if !named.contains(&found.name) {
            at.remove(&found.name).await?;
        }
    }
    Ok(())
}
