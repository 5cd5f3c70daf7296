//! Reading one. Nothing of a file is believed before its digest was compared.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use muonic_types::{Entry, Hasher};

use crate::header::{BLOCK, FOLDER, MANIFEST, SUM, header, names_manifest, padding, size};
use crate::manifest::{BYTES_MAX, Manifest, sum};
use crate::{Error, FORMAT};

const PIECE: usize = 128 << 10;

pub struct Reader<R> {
    from: R,
    manifest: Manifest,
}

impl<R: Read> Reader<R> {
    /// Reads the manifest.
    pub fn new(mut from: R) -> Result<Self, Error> {
        let mut first = [0; BLOCK];
        match from.read_exact(&mut first) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(Error::Foreign),
            other => other?,
        }
        if !names_manifest(&first) {
            return Err(Error::Foreign);
        }
        let size = size(&first).filter(|size| *size <= BYTES_MAX && header(MANIFEST, *size, false) == first);
        let size = size.ok_or_else(|| Error::Damaged(format!("it does not begin as '{FORMAT}' does")))?;
        let mut bytes = Vec::new();
        from.by_ref().take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(ended());
        }
        let sum = sum(&bytes);
        expect(&mut from, &[0; BLOCK][..padding(size)], MANIFEST)?;
        expect(&mut from, &header(SUM, sum.len() as u64, false), SUM)?;
        expect(&mut from, sum.as_bytes(), MANIFEST)?;
        expect(&mut from, &[0; BLOCK][..padding(sum.len() as u64)], SUM)?;
        Ok(Self { from, manifest: Manifest::decode(&bytes)? })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Gives every file, piece by piece, to `each`, and checks all of them.
    pub fn files<E: From<Error>>(mut self, mut each: impl FnMut(&Entry, Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut piece = vec![0; PIECE];
        for entry in self.manifest.tree().entries() {
            let Entry { path, size, digest, executable } = entry;
            expect(&mut self.from, &header(&format!("{FOLDER}{path}"), *size, *executable), path.as_str())?;
            each(entry, Piece::Begin)?;
            let (mut left, mut hasher) = (*size, Hasher::new());
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                let count = self.from.read(&mut piece[..most]).map_err(Error::from)?;
                if count == 0 {
                    return Err(ended().into());
                }
                hasher.update(&piece[..count]);
                each(entry, Piece::Bytes(&piece[..count]))?;
                left -= count as u64;
            }
            if hasher.finish() != *digest {
                return Err(Error::Damaged(format!("the bytes of '{path}' do not have their digest")).into());
            }
            expect(&mut self.from, &[0; BLOCK][..padding(*size)], path.as_str())?;
            each(entry, Piece::End)?;
        }
        expect(&mut self.from, &[0; 2 * BLOCK], "its end")?;
        match self.from.read(&mut piece[..1]).map_err(Error::from)? {
            0 => Ok(()),
            _ => Err(Error::Damaged("something follows its end".into()).into()),
        }
    }

    /// Writes all files below `folder`, which must be empty.
    pub fn unpack(self, folder: &Path) -> Result<(), Error> {
        let mut open: Option<File> = None;
        self.files(|entry, piece| {
            match piece {
                Piece::Begin => {
                    let target = folder.join(entry.path.as_str());
                    if let Some(parent) = target.parent() {
                        fs::create_dir_all(parent)?;
                    }
                    let mode = if entry.executable { 0o755 } else { 0o644 };
                    open = Some(OpenOptions::new().write(true).create_new(true).mode(mode).open(target)?);
                }
                Piece::Bytes(bytes) => {
                    if let Some(file) = &mut open {
                        file.write_all(bytes)?;
                    }
                }
                Piece::End => {
                    if let Some(file) = open.take() {
                        file.sync_data()?;
                    }
                }
            }
            Ok::<_, Error>(())
        })
    }
}

/// Of a file, as it is read.
pub enum Piece<'a> {
    Begin,
    Bytes(&'a [u8]),
    /// Its digest is right.
    End,
}

fn ended() -> Error {
    Error::Damaged("it ends early".into())
}

fn expect(from: &mut impl Read, wanted: &[u8], at: &str) -> Result<(), Error> {
    let mut found = vec![0; wanted.len()];
    match from.read_exact(&mut found) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(ended()),
        other => other?,
    }
    if found == wanted {
        return Ok(());
    }
    Err(Error::Damaged(format!("other bytes than were written stand around '{at}'")))
}
