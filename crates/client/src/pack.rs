//! The pack on the wire: many blobs in one stream. Format in `muonic_types::blob`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use muonic_types::Digest;
use muonic_types::blob::{PACK_HEAD_MAX, pack_head, parse_pack_head};

use crate::{Error, Progress, Result};

/// A file to send as a blob.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub digest: Digest,
    pub size: u64,
    pub source: PathBuf,
}

/// Writes a pack as it is read; opens one file at a time.
pub(crate) struct PackBody<'a> {
    items: std::slice::Iter<'a, Item>,
    head: io::Cursor<Vec<u8>>,
    /// The open file, what of it is still to come, and where it lies.
    open: Option<(File, u64, &'a Path)>,
    /// What went wrong here, since the transport reports only that something did.
    failed: Option<Error>,
    sent: u64,
    progress: &'a dyn Progress,
    /// Bytes that an earlier try has told the progress already.
    told: &'a mut u64,
}

impl<'a> PackBody<'a> {
    pub(crate) fn new(items: &'a [Item], progress: &'a dyn Progress, told: &'a mut u64) -> Self {
        Self { items: items.iter(), head: io::Cursor::default(), open: None, failed: None, sent: 0, progress, told }
    }

    /// The local reason why sending failed, if it was local.
    pub(crate) fn failure(self) -> Option<Error> {
        self.failed
    }

    fn step(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            let n = self.head.read(buf).unwrap_or(0);
            if n > 0 {
                return Ok(n);
            }
            match &mut self.open {
                Some((file, left, path)) if *left > 0 => {
                    let most = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let n = file.read(&mut buf[..most]).map_err(|e| Error::file(path, e))?;
                    if n == 0 {
                        return Err(changed(path));
                    }
                    *left -= n as u64;
                    self.sent += n as u64;
                    if self.sent > *self.told {
                        self.progress.advance(self.sent - *self.told);
                        *self.told = self.sent;
                    }
                    return Ok(n);
                }
                Some((file, _, path)) => {
                    if file.read(&mut [0]).map_err(|e| Error::file(path, e))? > 0 {
                        return Err(changed(path));
                    }
                    self.open = None;
                }
                None => {
                    let Some(item) = self.items.next() else { return Ok(0) };
                    let file = File::open(&item.source).map_err(|e| Error::file(&item.source, e))?;
                    self.open = Some((file, item.size, &item.source));
                    self.head = io::Cursor::new(pack_head(&item.digest, item.size).into_bytes());
                }
            }
        }
    }
}

impl Read for PackBody<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.step(buf).map_err(|e| {
            let text = e.to_string();
            self.failed = Some(e);
            io::Error::other(text)
        })
    }
}

pub(crate) fn changed(path: &Path) -> Error {
    Error::input(
        format!("'{}' changed while it was being sent", path.display()),
        "wait until nothing writes to it, then send again",
    )
}

/// Reads the records of a pack.
pub(crate) struct PackReader<R> {
    inner: BufReader<R>,
}

/// What a pack could not be read for.
#[derive(Debug)]
pub(crate) enum PackError {
    /// The stream broke off or failed.
    Broken(String),
    /// Not a pack.
    Malformed(String),
}

impl<R: Read> PackReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner: BufReader::with_capacity(128 << 10, inner) }
    }

    /// The next record's head; `None` at the end of the pack.
    pub(crate) fn head(&mut self) -> Result<Option<(Digest, u64)>, PackError> {
        let mut line = Vec::with_capacity(PACK_HEAD_MAX);
        self.inner
            .by_ref()
            .take(PACK_HEAD_MAX as u64)
            .read_until(b'\n', &mut line)
            .map_err(|e| PackError::Broken(e.to_string()))?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => parse_pack_head(&line).map(Some).map_err(|e| PackError::Malformed(e.to_string())),
            Some(_) if line.len() + 1 < PACK_HEAD_MAX => Err(PackError::Broken("the pack ends within a record".into())),
            Some(_) => Err(PackError::Malformed("a pack record's head is too long".into())),
        }
    }

    /// The body of the record whose head was just read, piece by piece.
    pub(crate) fn body<E: From<PackError>>(
        &mut self,
        size: u64,
        mut piece: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = size;
        while left > 0 {
            let buf = self.inner.fill_buf().map_err(|e| PackError::Broken(e.to_string()))?;
            if buf.is_empty() {
                return Err(PackError::Broken("the pack ends within a record".into()).into());
            }
            let n = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            piece(&buf[..n])?;
            self.inner.consume(n);
            left -= n as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(dir: &Path, contents: &[Vec<u8>]) -> Vec<Item> {
        contents
            .iter()
            .enumerate()
            .map(|(n, bytes)| {
                let source = dir.join(n.to_string());
                std::fs::write(&source, bytes).unwrap();
                Item { digest: Digest::of(bytes), size: bytes.len() as u64, source }
            })
            .collect()
    }

    fn write(items: &[Item]) -> Vec<u8> {
        let (mut out, mut told) = (Vec::new(), 0);
        PackBody::new(items, &(), &mut told).read_to_end(&mut out).unwrap();
        assert_eq!(told, items.iter().map(|i| i.size).sum::<u64>());
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_written_is_read_again(contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6)) {
            let dir = tempfile::tempdir().unwrap();
            let items = items(dir.path(), &contents);
            let pack = write(&items);
            let mut reader = PackReader::new(&pack[..]);
            for item in &items {
                prop_assert_eq!(reader.head().unwrap(), Some((item.digest, item.size)));
                let mut bytes = Vec::new();
                reader.body::<PackError>(item.size, |p| { bytes.extend_from_slice(p); Ok(()) }).unwrap();
                prop_assert_eq!(Digest::of(&bytes), item.digest);
            }
            prop_assert_eq!(reader.head().unwrap(), None);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = PackReader::new(&bytes[..]);
            while let Ok(Some((_, size))) = reader.head() {
                if reader.body::<PackError>(size, |_| Ok(())).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_cut_pack_is_broken_not_malformed() {
        let dir = tempfile::tempdir().unwrap();
        let pack = write(&items(dir.path(), &[b"hello".to_vec()]));
        for cut in 1..pack.len() {
            let mut reader = PackReader::new(&pack[..cut]);
            let out = reader.head().and_then(|head| reader.body(head.unwrap().1, |_| Ok(())));
            assert!(matches!(out, Err(PackError::Broken(_))), "cut at {cut}: {out:?}");
        }
    }

    #[test]
    fn a_file_that_shrinks_or_grows_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for new in ["abc", "abcdefgh"] {
            let items = items(dir.path(), &[b"abcde".to_vec()]);
            std::fs::write(&items[0].source, new).unwrap();
            let mut told = 0;
            let mut body = PackBody::new(&items, &(), &mut told);
            assert!(io::copy(&mut body, &mut io::sink()).is_err());
            let error = body.failure().unwrap();
            assert!(error.to_string().ends_with("changed while it was being sent"), "{error}");
        }
    }
}
