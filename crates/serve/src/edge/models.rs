//! Models on this machine, by the digest of their tree.
//!
//! ```text
//! models/<hex>/       all files of the tree
//! models/<hex>.tree   the tree, whose digest is its name
//! models/<hex>.part/  what has come of one so far
//! models/<hex>.lock   held: shared while it is served, alone while it is made
//! models/<hex>.seen   what the files' status was when every byte was right
//! ```
//!
//! Only a folder that has all of its tree gets its name, and whoever takes one
//! checks every byte before; on a node, where a replica starts for each request
//! that wakes an endpoint, only where a file's status has changed since (its
//! ctime cannot be set). All of it may be deleted at any time.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use muonic_types::{Digest, Entry, Hasher, Tree};

/// Models kept that nobody serves, where one is followed, and on a node.
const KEPT: usize = 3;
const KEPT_ON_NODE: usize = 100;
/// For another program to make one.
const MAKING_TIME: Duration = Duration::from_secs(60);
const TREE_BYTES_MAX: u64 = 1 << 30;

#[derive(Clone)]
pub struct Models {
    dir: PathBuf,
    on_node: bool,
}

/// A model that is there whole, and stays as long as this is held.
pub struct Lease {
    pub folder: PathBuf,
    _lock: File,
}

/// One that is being made.
pub struct Unfinished {
    pub folder: PathBuf,
    digest: Digest,
    lock: File,
}

impl Models {
    pub fn at(dir: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir, on_node: false })
    }

    /// Those of all replicas of a machine.
    pub fn of_node(dir: PathBuf) -> anyhow::Result<Self> {
        Ok(Self { on_node: true, ..Self::at(dir)? })
    }

    /// `None` where it is not there whole.
    pub fn find(&self, digest: &Digest) -> anyhow::Result<Option<Lease>> {
        let lock = self.lock(digest)?;
        if lock.try_lock_shared().is_err() {
            // Somebody is making it.
            return Ok(None);
        }
        Ok(self.is_whole(digest).then(|| self.lease(digest, lock)))
    }

    /// Takes the place for one, with what an earlier try has left of it;
    /// waits a while for whoever is making it. The model itself where that is
    /// done.
    pub fn begin(&self, digest: &Digest) -> anyhow::Result<Result<Unfinished, Lease>> {
        let (lock, until) = (self.lock(digest)?, Instant::now() + MAKING_TIME);
        while lock.try_lock().is_err() {
            if let Some(lease) = self.find(digest)? {
                return Ok(Err(lease));
            }
            if Instant::now() > until {
                bail!("another program is making the model {}, or serves a damaged copy of it", digest.short());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if self.is_whole(digest) {
            lock.lock_shared().context("cannot lock a model in the cache")?;
            return Ok(Err(self.lease(digest, lock)));
        }
        let folder = self.path(digest, ".part");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Ok(Unfinished { folder, digest: *digest, lock }))
    }

    /// Gives one its name, if all of it has come. Removes others that nobody
    /// serves, but for a few and those in `wanted`.
    pub fn keep(&self, made: Unfinished, tree: &Tree, wanted: &[Digest]) -> anyhow::Result<Lease> {
        let Unfinished { folder, digest, lock } = made;
        for entry in tree.entries() {
            if !is_right(&folder, entry) {
                let _ = fs::remove_file(folder.join(entry.path.as_str()));
                bail!("'{}' in the cache is not what it should be", entry.path);
            }
        }
        let target = self.path(&digest, "");
        let failed = |e: io::Error| format!("cannot keep {}: {e}", target.display());
        let described = self.path(&digest, ".tree");
        remove(&target)
            .and_then(|()| fs::write(&described, tree.encode()))
            .map_err(failed)
            .map_err(anyhow::Error::msg)?;
        fs::rename(&folder, &target).map_err(failed).map_err(anyhow::Error::msg)?;
        lock.lock_shared().context("cannot lock a model in the cache")?;
        self.see(&digest, tree);
        let lease = self.lease(&digest, lock);
        self.prune(wanted);
        Ok(lease)
    }

    /// Every content in the cache, by its digest.
    pub fn contents(&self) -> HashMap<Digest, PathBuf> {
        let mut contents = HashMap::new();
        for digest in self.all() {
            let Some(tree) = self.tree(&digest) else { continue };
            let folder = self.path(&digest, "");
            contents.extend(tree.entries().iter().map(|e| (e.digest, folder.join(e.path.as_str()))));
        }
        contents
    }

    fn path(&self, digest: &Digest, end: &str) -> PathBuf {
        self.dir.join(format!("{}{end}", digest.hex()))
    }

    fn lock(&self, digest: &Digest) -> anyhow::Result<File> {
        let path = self.path(digest, ".lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        opened.with_context(|| format!("cannot open {}", path.display()))
    }

    fn lease(&self, digest: &Digest, lock: File) -> Lease {
        // By age of its last use.
        let _ = lock.set_modified(SystemTime::now());
        Lease { folder: self.path(digest, ""), _lock: lock }
    }

    fn is_whole(&self, digest: &Digest) -> bool {
        let Some(tree) = self.tree(digest) else { return false };
        let folder = self.path(digest, "");
        let seen = || fs::read_to_string(self.path(digest, ".seen")).ok();
        if self.on_node && status(&folder, &tree).is_some_and(|now| seen().as_ref() == Some(&now)) {
            return true;
        }
        let is_whole = tree.entries().iter().all(|entry| is_right(&folder, entry));
        if is_whole {
            self.see(digest, &tree);
        }
        is_whole
    }

    /// Notes that every byte is right. Without the note they are checked again.
    fn see(&self, digest: &Digest, tree: &Tree) {
        if let Some(status) = status(&self.path(digest, ""), tree).filter(|_| self.on_node) {
            let _ = fs::write(self.path(digest, ".seen"), status);
        }
    }

    fn tree(&self, digest: &Digest) -> Option<Tree> {
        let mut bytes = Vec::new();
        File::open(self.path(digest, ".tree")).ok()?.take(TREE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        (Digest::of(&bytes) == *digest).then(|| Tree::decode(&bytes).ok()).flatten()
    }

    fn all(&self) -> Vec<Digest> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let digest = |name: &str| format!("sha256:{}", name.strip_suffix(".lock")?).parse().ok();
        entries.flatten().filter_map(|entry| digest(entry.file_name().to_str()?)).collect()
    }

    fn prune(&self, wanted: &[Digest]) {
        let mut unused = Vec::new();
        for digest in self.all().into_iter().filter(|digest| !wanted.contains(digest)) {
            let Ok(lock) = self.lock(&digest) else { continue };
            if lock.try_lock().is_ok() {
                let used = lock.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                unused.push((used, digest, lock));
            }
        }
        unused.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let kept = if self.on_node { KEPT_ON_NODE } else { KEPT };
        for (_, digest, _lock) in unused.into_iter().skip(kept) {
            for end in [".tree", ".seen", "", ".part", ".lock"] {
                if let Err(e) = remove(&self.path(&digest, end)) {
                    tracing::warn!("{} cannot be removed from the cache: {e}", digest.short());
                    break;
                }
            }
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// Whether a file is there and has the right bytes.
pub fn is_right(folder: &Path, entry: &Entry) -> bool {
    let path = folder.join(entry.path.as_str());
    let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == entry.size);
    is_file && File::open(&path).and_then(hash).is_ok_and(|digest| digest == entry.digest)
}

/// What changes whenever a file's bytes do.
fn status(folder: &Path, tree: &Tree) -> Option<String> {
    let mut status = String::new();
    for entry in tree.entries() {
        let meta = fs::symlink_metadata(folder.join(entry.path.as_str())).ok()?;
        let (inode, size, time) = (meta.ino(), meta.size(), meta.ctime());
        writeln!(status, "{} {inode} {size} {time}.{}", entry.path, meta.ctime_nsec()).ok()?;
    }
    Some(status)
}

fn hash(mut file: File) -> io::Result<Digest> {
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&piece[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let entry = |(path, text): &(&str, &str)| Entry {
            path: path.parse().unwrap(),
            size: text.len() as u64,
            digest: Digest::of(text.as_bytes()),
            executable: false,
        };
        Tree::new(files.iter().map(entry).collect()).unwrap()
    }

    fn make(models: &Models, files: &[(&str, &str)]) -> anyhow::Result<Lease> {
        let tree = tree(files);
        let made = models.begin(&tree.digest())?.unwrap_or_else(|_| panic!("it is there"));
        for (path, text) in files {
            fs::write(made.folder.join(path), text).unwrap();
        }
        models.keep(made, &tree, &[])
    }

    #[test]
    fn only_what_is_whole_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let models = Models::at(dir.path().join("models")).unwrap();
        let digest = tree(&[("a", "one")]).digest();
        assert!(models.find(&digest).unwrap().is_none());
        let made = models.begin(&digest).unwrap().unwrap_or_else(|_| panic!("it is there"));
        assert!(models.keep(made, &tree(&[("a", "one")]), &[]).is_err());
        let lease = make(&models, &[("a", "one")]).unwrap();
        assert_eq!(fs::read_to_string(lease.folder.join("a")).unwrap(), "one");
        assert!(models.begin(&digest).unwrap().is_err());
        assert_eq!(models.contents().len(), 1);
        for damage in ["two", "longer"] {
            fs::write(lease.folder.join("a"), damage).unwrap();
            assert!(models.find(&digest).unwrap().is_none());
        }
        drop(lease);
        assert!(make(&models, &[("a", "one")]).is_ok());
        assert!(models.find(&digest).unwrap().is_some());
    }

    #[test]
    fn on_a_node_bytes_are_checked_again_once_a_file_was_touched() {
        let dir = tempfile::tempdir().unwrap();
        let models = Models::of_node(dir.path().to_owned()).unwrap();
        let digest = tree(&[("a", "one")]).digest();
        let lease = make(&models, &[("a", "one")]).unwrap();
        let file = lease.folder.join("a");
        assert!(models.find(&digest).unwrap().is_some());
        // Right again, though it was written.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&file, "one").unwrap();
        assert!(models.find(&digest).unwrap().is_some());
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&file, "two").unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
        assert!(models.find(&digest).unwrap().is_none());
    }

    #[test]
    fn a_few_are_kept_and_those_that_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let models = Models::at(dir.path().to_owned()).unwrap();
        let served = make(&models, &[("a", "served")]).unwrap();
        for n in 0..6 {
            make(&models, &[("a", &n.to_string())]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(served.folder.join("a").exists());
        // The last was still held when it was made.
        assert_eq!(models.all().len(), 1 + KEPT + 1);
        assert!(models.find(&tree(&[("a", "0")]).digest()).unwrap().is_none());
        assert!(models.find(&tree(&[("a", "5")]).digest()).unwrap().is_some());
    }
}
