//! The sums of a body, taken while it passes through.
//!
//! Invariant: long runs of bytes are summed off the async threads.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use data_encoding::BASE64;
use md5::Digest as _;
use muonic_ports::object_store::{Algorithm, Sums};

/// Fewer bytes are summed where they are.
const INLINE_MAX: usize = 32 << 10;

pub(crate) struct Summer {
    size: u64,
    md5: md5::Md5,
    others: Vec<(Algorithm, Sum)>,
}

enum Sum {
    Crc(crc_fast::Digest, usize),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
}

fn crc(algorithm: Algorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        Algorithm::Sha1 | Algorithm::Sha256 => None,
    }
}

impl Sum {
    fn new(algorithm: Algorithm) -> Self {
        match (algorithm, crc(algorithm)) {
            (_, Some(crc)) => Self::Crc(crc_fast::Digest::new(crc), algorithm.len()),
            (Algorithm::Sha1, None) => Self::Sha1(Default::default()),
            (_, None) => Self::Sha256(Default::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(digest, _) => digest.update(bytes),
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc(digest, len) => big_endian(digest.finalize(), len),
            Self::Sha1(digest) => digest.finalize().to_vec(),
            Self::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

fn big_endian(sum: u64, len: usize) -> Vec<u8> {
    sum.to_be_bytes()[8 - len..].to_vec()
}

impl Summer {
    pub fn new(algorithms: &BTreeSet<Algorithm>) -> Self {
        let others = algorithms.iter().map(|a| (*a, Sum::new(*a))).collect();
        Self { size: 0, md5: Default::default(), others }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.md5.update(bytes);
        for (_, sum) in &mut self.others {
            sum.update(bytes);
        }
    }

    /// Takes some pieces in. `None` only where the runtime is ending.
    pub async fn update(mut self, pieces: Vec<Bytes>) -> Option<Self> {
        if pieces.iter().map(Bytes::len).sum::<usize>() <= INLINE_MAX {
            pieces.iter().for_each(|piece| self.take(piece));
            return Some(self);
        }
        let summing = tokio::task::spawn_blocking(move || {
            pieces.iter().for_each(|piece| self.take(piece));
            self
        });
        summing.await.ok()
    }

    pub fn finish(self) -> Sums {
        let found =
            self.others.into_iter().map(|(algorithm, sum)| (algorithm, sum.finish())).collect::<BTreeMap<_, _>>();
        Sums { size: self.size, md5: self.md5.finalize().into(), found }
    }
}

/// The sum of all bytes, from the sums (in Base64) and sizes of the parts in
/// order. `None` where the algorithm does not allow it or a sum is malformed.
pub(crate) fn full_object<'a>(algorithm: Algorithm, parts: impl Iterator<Item = (&'a str, u64)>) -> Option<String> {
    let kind = crc(algorithm)?;
    let mut whole: Option<u64> = None;
    for (sum, size) in parts {
        let bytes = BASE64.decode(sum.as_bytes()).ok().filter(|b| b.len() == algorithm.len())?;
        let sum = bytes.iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        whole = Some(whole.map_or(sum, |before| crc_fast::checksum_combine(kind, before, sum, size)));
    }
    Some(BASE64.encode(&big_endian(whole?, algorithm.len())))
}

/// The sum of the sums of the parts, as S3 writes it.
pub(crate) fn composite<'a>(algorithm: Algorithm, parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let (mut sum, mut count) = (Sum::new(algorithm), 0);
    for part in parts {
        sum.update(&BASE64.decode(part.as_bytes()).ok()?);
        count += 1;
    }
    Some(format!("{}-{count}", BASE64.encode(&sum.finish())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sums_are_those_of_the_field() {
        let all = BTreeSet::from(Algorithm::ALL);
        let summer = Summer::new(&all).update(vec![Bytes::from_static(b"1234"), Bytes::from_static(b"56789")]).await;
        let sums = summer.expect("summed").finish();
        assert_eq!((sums.size, sums.md5[..2].to_vec()), (9, vec![0x25, 0xf9]));
        assert_eq!(sums.found[&Algorithm::Crc32], 0xcbf4_3926u32.to_be_bytes());
        assert_eq!(sums.found[&Algorithm::Crc32c], 0xe306_9283u32.to_be_bytes());
        assert_eq!(sums.found[&Algorithm::Crc64Nvme], 0xae8b_1486_0a79_9888u64.to_be_bytes());
        assert_eq!(sums.found[&Algorithm::Sha1][..2], [0xf7, 0xc3]);
        assert_eq!(sums.found[&Algorithm::Sha256][..2], [0x15, 0xe2]);
    }

    #[tokio::test]
    async fn sums_of_parts_become_the_sum_of_the_whole() {
        let parts: [&[u8]; 3] = [&[1; 100_000], &[2; 77], &[3; 50_001]];
        for algorithm in Algorithm::ALL {
            let only = BTreeSet::from([algorithm]);
            let mut sums = Vec::new();
            for part in parts {
                let summer = Summer::new(&only).update(vec![Bytes::copy_from_slice(part)]).await.expect("summed");
                sums.push((BASE64.encode(&summer.finish().found[&algorithm]), part.len() as u64));
            }
            let whole = Summer::new(&only).update(vec![parts.concat().into()]).await.expect("summed").finish();
            let combined = full_object(algorithm, sums.iter().map(|(sum, size)| (sum.as_str(), *size)));
            let expected = crc(algorithm).map(|_| BASE64.encode(&whole.found[&algorithm]));
            assert_eq!(combined, expected, "{algorithm:?}");
            assert!(composite(algorithm, sums.iter().map(|(s, _)| s.as_str())).expect("a sum").ends_with("-3"));
        }
    }
}
