//! ETag and sums of an object from those of its parts.

use md5::{Digest as _, Md5};
use muonic_ports::object_store::{Algorithm, ChecksumType};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// Of the MD5s of the parts.
pub(super) fn md5_of(md5s: &[u8]) -> Vec<u8> {
    Md5::digest(md5s).to_vec()
}

/// A part, as the sum of the whole needs it.
#[derive(Debug, Clone)]
pub(super) struct PartSum {
    pub(super) size: u64,
    pub(super) sum: Vec<u8>,
}

/// `None` where the algorithm has no such sum.
pub(super) fn whole(algorithm: Algorithm, kind: ChecksumType, parts: &[PartSum]) -> Option<Vec<u8>> {
    match (kind, crc(algorithm)) {
        (ChecksumType::FullObject, Some(crc)) => Some(crc.join(parts)),
        (ChecksumType::FullObject, None) => None,
        (ChecksumType::Composite, _) => Some(composite(algorithm, parts)),
    }
}

fn composite(algorithm: Algorithm, parts: &[PartSum]) -> Vec<u8> {
    let all: Vec<u8> = parts.iter().flat_map(|part| part.sum.iter().copied()).collect();
    match crc(algorithm) {
        Some(crc) => crc.of(&all),
        None => {
            let algorithm = if algorithm == Algorithm::Sha1 { &SHA1_FOR_LEGACY_USE_ONLY } else { &SHA256 };
            let mut context = Context::new(algorithm);
            context.update(&all);
            context.finish().as_ref().to_vec()
        }
    }
}

fn crc(algorithm: Algorithm) -> Option<Crc> {
    match algorithm {
        Algorithm::Crc32 => Some(Crc { poly: 0xedb8_8320, bits: 32 }),
        Algorithm::Crc32c => Some(Crc { poly: 0x82f6_3b78, bits: 32 }),
        Algorithm::Crc64Nvme => Some(Crc { poly: 0x9a6c_9329_ac4b_c9b5, bits: 64 }),
        Algorithm::Sha1 | Algorithm::Sha256 => None,
    }
}

/// A reflected CRC that begins and ends with all bits inverted. Polynomials
/// over GF(2) are written with x^0 in the highest bit.
#[derive(Debug, Clone, Copy)]
struct Crc {
    poly: u64,
    bits: u32,
}

impl Crc {
    fn one(self) -> u64 {
        1 << (self.bits - 1)
    }

    fn times(self, a: u64, mut b: u64) -> u64 {
        let mut product = 0;
        let mut bit = self.one();
        while bit != 0 {
            if a & bit != 0 {
                product ^= b;
            }
            b = if b & 1 != 0 { (b >> 1) ^ self.poly } else { b >> 1 };
            bit >>= 1;
        }
        product
    }

    /// x to the power of the bits in `bytes` bytes: what that many bytes that
    /// follow do to a sum.
    fn shift(self, mut bytes: u64) -> u64 {
        let mut square = self.one() >> 8;
        let mut power = self.one();
        while bytes != 0 {
            if bytes & 1 != 0 {
                power = self.times(power, square);
            }
            square = self.times(square, square);
            bytes >>= 1;
        }
        power
    }

    fn join(self, parts: &[PartSum]) -> Vec<u8> {
        let mut known = (0, self.one());
        let mut sum = 0;
        for part in parts {
            // Most parts have one size.
            if part.size != known.0 {
                known = (part.size, self.shift(part.size));
            }
            sum = self.times(known.1, sum) ^ self.number(&part.sum);
        }
        self.bytes(sum)
    }

    fn of(self, data: &[u8]) -> Vec<u8> {
        let all = u64::MAX >> (64 - self.bits);
        let mut sum = all;
        for byte in data {
            sum ^= u64::from(*byte);
            for _ in 0..8 {
                sum = if sum & 1 != 0 { (sum >> 1) ^ self.poly } else { sum >> 1 };
            }
        }
        self.bytes(sum ^ all)
    }

    fn number(self, bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    fn bytes(self, sum: u64) -> Vec<u8> {
        sum.to_be_bytes()[8 - self.bits as usize / 8..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use crc_fast::{CrcAlgorithm, checksum};
    use proptest::prelude::*;

    use super::*;

    const CRCS: [(Algorithm, CrcAlgorithm); 3] = [
        (Algorithm::Crc32, CrcAlgorithm::Crc32IsoHdlc),
        (Algorithm::Crc32c, CrcAlgorithm::Crc32Iscsi),
        (Algorithm::Crc64Nvme, CrcAlgorithm::Crc64Nvme),
    ];

    proptest! {
        #[test]
        fn sums_of_parts_join_to_that_of_the_whole(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12)) {
            for (algorithm, theirs) in CRCS {
                let crc = crc(algorithm).unwrap();
                let sums: Vec<PartSum> = parts
                    .iter()
                    .map(|part| PartSum { size: part.len() as u64, sum: crc.bytes(checksum(theirs, part)) })
                    .collect();
                let whole = parts.concat();
                prop_assert_eq!(crc.join(&sums), crc.bytes(checksum(theirs, &whole)));
                prop_assert_eq!(crc.of(&whole), crc.bytes(checksum(theirs, &whole)));
            }
        }
    }
}
