//! Fetching a version over a link that breaks: what has come is kept, a file
//! goes on where it broke off, and a content that another version in the cache
//! has does not come again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use muonic_client::Client;
use muonic_types::{Digest, Entry, Hasher};

use super::models::{Lease, Models, is_right};

/// What has come of a file; no file of a model is called so beside it.
const PART: &str = ".muonic-part";

pub fn fetch(client: &Client, models: &Models, digest: &Digest, wanted: &[Digest]) -> anyhow::Result<Lease> {
    if let Some(lease) = models.find(digest)? {
        return Ok(lease);
    }
    let unfinished = match models.begin(digest)? {
        Ok(unfinished) => unfinished,
        Err(lease) => return Ok(lease),
    };
    let tree = client.tree(digest)?;
    let here = models.contents();
    for entry in tree.entries() {
        if is_right(&unfinished.folder, entry) {
            continue;
        }
        let target = unfinished.folder.join(entry.path.as_str());
        let made = target.parent().map_or(Ok(()), fs::create_dir_all);
        made.with_context(|| format!("cannot make the folder of {}", target.display()))?;
        let copied = here
            .get(&entry.digest)
            .is_some_and(|from| fs::copy(from, &target).is_ok() && is_right(&unfinished.folder, entry));
        if !copied {
            receive(client, entry, &unfinished.folder).with_context(|| format!("cannot fetch '{}'", entry.path))?;
        }
        let mode = if entry.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", target.display()))?;
    }
    models.keep(unfinished, &tree, wanted)
}

fn receive(client: &Client, entry: &Entry, folder: &Path) -> anyhow::Result<()> {
    let part = folder.join(format!("{PART}-{}", entry.digest.hex()));
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&part)?;
    let (mut hasher, mut have) = already(&mut file, entry.size)?;
    if have < entry.size || entry.size == 0 {
        let mut from = client.blob_from(&entry.digest, have)?.take(entry.size - have);
        let mut piece = vec![0; 128 << 10];
        loop {
            let count = from.read(&mut piece).context("the connection broke")?;
            if count == 0 {
                break;
            }
            hasher.update(&piece[..count]);
            file.write_all(&piece[..count])?;
            have += count as u64;
        }
    }
    if have < entry.size {
        bail!("the connection ended {} bytes early", entry.size - have);
    }
    if hasher.finish() != entry.digest {
        // Nothing of it can be trusted.
        fs::remove_file(&part)?;
        bail!("the bytes that came do not have the digest {}", entry.digest);
    }
    file.sync_data()?;
    fs::rename(&part, folder.join(entry.path.as_str()))?;
    Ok(())
}

/// What an earlier try has left of it, hashed; the file stands at its end.
fn already(file: &mut File, size: u64) -> io::Result<(Hasher, u64)> {
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    let (mut hasher, mut have, mut piece) = (Hasher::new(), 0, vec![0; 128 << 10]);
    file.rewind()?;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hasher, have)),
            count => {
                hasher.update(&piece[..count]);
                have += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use muonic_types::Tree;
    use muonic_types::system::SERVER_HEADER;
    use serde_json::json;

    use super::*;

    /// A server of trees and blobs whose line breaks after so many bytes.
    #[derive(Clone, Default)]
    struct Fake {
        bodies: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
        asked: Arc<Mutex<Vec<String>>>,
        breaks_after: Arc<Mutex<usize>>,
    }

    impl Fake {
        fn start(&self) -> Client {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()), "k.s");
            let fake = self.clone();
            std::thread::spawn(move || listener.incoming().for_each(|stream| drop(fake.answer(stream.unwrap()))));
            client
        }

        fn answer(&self, stream: TcpStream) -> io::Result<()> {
            let mut lines = BufReader::new(stream.try_clone()?).lines();
            let path = lines.next().unwrap()?.split(' ').nth(1).unwrap().replace("%3A", ":");
            let mut from = 0;
            while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
                if let Some(range) = line.strip_prefix("range: bytes=") {
                    from = range.trim_end_matches('-').parse().unwrap();
                }
            }
            self.asked.lock().unwrap().push(format!("{} {from}", path.rsplit('/').next().unwrap()));
            let body = self.bodies.lock().unwrap()[&path][from..].to_vec();
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            let head = format!(
                "HTTP/1.1 {status}\r\n{SERVER_HEADER}: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            (&stream).write_all(head.as_bytes())?;
            let most = if path.contains("/blobs/") { *self.breaks_after.lock().unwrap() } else { usize::MAX };
            (&stream).write_all(&body[..body.len().min(most)])
        }

        fn put(&self, files: &[(&str, &[u8])]) -> Tree {
            let mut bodies = self.bodies.lock().unwrap();
            let mut entries = Vec::new();
            for (path, bytes) in files {
                let digest = Digest::of(bytes);
                let executable = path.ends_with(".sh");
                entries.push(Entry { path: path.parse().unwrap(), size: bytes.len() as u64, digest, executable });
                bodies.insert(format!("/api/v1/blobs/{digest}"), bytes.to_vec());
            }
            let tree = Tree::new(entries).unwrap();
            let said = json!({ "digest": tree.digest(), "entries": tree.entries() });
            bodies.insert(format!("/api/v1/trees/{}", tree.digest()), said.to_string().into_bytes());
            tree
        }
    }

    #[test]
    fn a_file_goes_on_where_it_broke_off_and_comes_once() {
        let dir = tempfile::tempdir().unwrap();
        let models = Models::at(dir.path().to_owned()).unwrap();
        let fake = Fake::default();
        let client = fake.start();
        let large: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let tree = fake.put(&[("a/large", &large), ("empty", b""), ("run.sh", b"#!/bin/sh\n")]);
        *fake.breaks_after.lock().unwrap() = 150_000;
        let digest = tree.digest();
        for _ in 0..2 {
            let broken = fetch(&client, &models, &digest, &[]).err().expect("the line broke");
            assert!(format!("{broken:#}").starts_with("cannot fetch 'a/large': "), "{broken:#}");
        }
        let lease = fetch(&client, &models, &digest, &[]).unwrap();
        assert_eq!(fs::read(lease.folder.join("a/large")).unwrap(), large);
        assert_eq!(fs::metadata(lease.folder.join("run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
        let of_large = Digest::of(&large);
        let asked: Vec<String> = fake.asked.lock().unwrap().clone();
        let from: Vec<&str> = asked.iter().filter_map(|a| a.strip_prefix(&format!("{of_large} "))).collect();
        assert_eq!(from, ["0", "150000", "300000"]);
        // The next version shares it.
        let next = fake.put(&[("large", &large), ("note", b"2")]);
        fake.asked.lock().unwrap().clear();
        assert!(fetch(&client, &models, &next.digest(), &[]).is_ok());
        assert_eq!(*fake.asked.lock().unwrap(), [format!("{} 0", next.digest()), format!("{} 0", Digest::of(b"2"))]);
        // One that is there is not asked for at all.
        fake.asked.lock().unwrap().clear();
        assert!(fetch(&client, &models, &digest, &[]).is_ok());
        assert!(fake.asked.lock().unwrap().is_empty());
    }

    #[test]
    fn wrong_bytes_are_never_kept() {
        let dir = tempfile::tempdir().unwrap();
        let models = Models::at(dir.path().to_owned()).unwrap();
        let fake = Fake { breaks_after: Arc::new(Mutex::new(usize::MAX)), ..Fake::default() };
        let client = fake.start();
        let tree = fake.put(&[("a", b"right")]);
        let path = format!("/api/v1/blobs/{}", Digest::of(b"right"));
        fake.bodies.lock().unwrap().insert(path.clone(), b"wrong".to_vec());
        let refused = fetch(&client, &models, &tree.digest(), &[]).err().expect("refused");
        assert!(format!("{refused:#}").contains("do not have the digest"), "{refused:#}");
        assert!(models.find(&tree.digest()).unwrap().is_none());
        fake.bodies.lock().unwrap().insert(path, b"right".to_vec());
        assert!(fetch(&client, &models, &tree.digest(), &[]).is_ok());
    }
}
