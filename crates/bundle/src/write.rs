//! Writing one.

use std::io::{Read, Write};

use muonic_types::{Entry, Hasher};

use crate::header::{BLOCK, FOLDER, MANIFEST, SUM, header, padding};
use crate::manifest::sum;
use crate::{Error, Manifest};

const PIECE: usize = 128 << 10;

/// Takes the files in the order of the manifest's tree.
pub struct Writer<W> {
    to: W,
    manifest: Manifest,
    next: usize,
}

impl<W: Write> Writer<W> {
    pub fn new(mut to: W, manifest: Manifest) -> Result<Self, Error> {
        let bytes = manifest.encode();
        for (name, bytes) in [(MANIFEST, &bytes[..]), (SUM, sum(&bytes).as_bytes())] {
            to.write_all(&header(name, bytes.len() as u64, false))?;
            to.write_all(bytes)?;
            to.write_all(&[0; BLOCK][..padding(bytes.len() as u64)])?;
        }
        Ok(Self { to, manifest, next: 0 })
    }

    /// The file that comes next.
    pub fn wanted(&self) -> Option<&Entry> {
        self.manifest.tree().entries().get(self.next)
    }

    /// Writes that file; `progress` is told of each piece.
    pub fn file(&mut self, from: impl Read, mut progress: impl FnMut(u64)) -> Result<(), Error> {
        let Some(Entry { path, size, digest, executable }) = self.wanted().cloned() else {
            return Err(Error::Wrong("the bundle has all of its files already".into()));
        };
        self.to.write_all(&header(&format!("{FOLDER}{path}"), size, executable))?;
        let (mut from, mut left) = (from.take(size), size);
        let (mut piece, mut hasher) = (vec![0; PIECE], Hasher::new());
        while left > 0 {
            let count = from.read(&mut piece)?;
            if count == 0 {
                return Err(Error::Wrong(format!("'{path}' ended {left} bytes early")));
            }
            hasher.update(&piece[..count]);
            self.to.write_all(&piece[..count])?;
            left -= count as u64;
            progress(count as u64);
        }
        if hasher.finish() != digest {
            return Err(Error::Wrong(format!("the bytes of '{path}' do not have the digest {digest}")));
        }
        self.to.write_all(&[0; BLOCK][..padding(size)])?;
        self.next += 1;
        Ok(())
    }

    /// # Errors
    /// Where files are missing.
    pub fn finish(mut self) -> Result<W, Error> {
        if let Some(missing) = self.wanted() {
            return Err(Error::Wrong(format!("the file '{}' is missing", missing.path)));
        }
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush()?;
        Ok(self.to)
    }
}
