//! The sums of a body, computed once as it passes.

use std::collections::BTreeSet;

use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use muonic_ports::object_store::Algorithm;
use ring::digest::{Context, SHA256};
use sha1::Sha1;

pub(super) struct Md5Sum(Md5);

impl Md5Sum {
    pub(super) fn new() -> Self {
        Self(Md5::new())
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> [u8; 16] {
        self.0.finalize().into()
    }
}

/// Those beside MD5. Boxed: states differ much in size.
pub(super) struct Others(Vec<(Algorithm, Box<Running>)>);

enum Running {
    Crc(crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Context),
}

impl Others {
    pub(super) fn new(algorithms: &BTreeSet<Algorithm>) -> Self {
        let begin = |algorithm| match algorithm {
            Algorithm::Crc32 => Running::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc)),
            Algorithm::Crc32c => Running::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
            Algorithm::Crc64Nvme => Running::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme)),
            Algorithm::Sha1 => Running::Sha1(Sha1::new()),
            Algorithm::Sha256 => Running::Sha256(Context::new(&SHA256)),
        };
        Self(algorithms.iter().map(|&algorithm| (algorithm, Box::new(begin(algorithm)))).collect())
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for (_, running) in &mut self.0 {
            match &mut **running {
                Running::Crc(crc) => crc.update(bytes),
                Running::Sha1(sha) => sha.update(bytes),
                Running::Sha256(sha) => sha.update(bytes),
            }
        }
    }

    pub(super) fn finish(self) -> Vec<(Algorithm, Vec<u8>)> {
        let end = |algorithm: Algorithm, running| match running {
            Running::Crc(crc) => crc.finalize().to_be_bytes()[8 - algorithm.len()..].to_vec(),
            Running::Sha1(sha) => sha.finalize().to_vec(),
            Running::Sha256(sha) => sha.finish().as_ref().to_vec(),
        };
        self.0.into_iter().map(|(algorithm, running)| (algorithm, end(algorithm, *running))).collect()
    }
}
