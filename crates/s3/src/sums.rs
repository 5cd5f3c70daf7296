//! What a client has said about a body, in headers or in a trailer, and the
//! comparison with what the store has found. Nothing is hashed here, but for
//! the small XML bodies that never reach the store.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use muonic_ports::object_store::{Algorithm, Error as StoreError, Sums, Verify};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::{S3Error, S3Result, StdError, TrailingHeaders, s3_error};

use crate::errors::not_implemented;

const PREFIX: &str = "x-amz-checksum-";
/// Headers with that prefix which are not sums.
const OTHERS: [&str; 3] = ["algorithm", "mode", "type"];

/// What a client has said about a body.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    md5: Option<[u8; 16]>,
    sum: Option<(Algorithm, Expected)>,
    trailer: Option<TrailingHeaders>,
    length: Option<u64>,
}

#[derive(Debug)]
enum Expected {
    /// In Base64, as the header says.
    Header(String),
    Trailer,
}

impl Declared {
    pub(crate) fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        let mut declared = Self::default();
        if let Some(value) = headers.get("content-md5") {
            let md5 = BASE64.decode(value.as_bytes()).ok().and_then(|md5| md5.try_into().ok());
            let bad = || s3_error!(InvalidDigest, "Content-MD5 must be the base64 of 16 bytes");
            declared.md5 = Some(md5.ok_or_else(bad)?);
        }
        for (header, value) in headers {
            let Some(name) = header.as_str().strip_prefix(PREFIX).filter(|name| !OTHERS.contains(name)) else {
                continue;
            };
            declared.expect(known(name)?, Expected::Header(String::from_utf8_lossy(value.as_bytes()).into_owned()))?;
        }
        for value in headers.get_all("x-amz-trailer") {
            let names = value.to_str().map_err(|_| s3_error!(InvalidRequest, "x-amz-trailer is not text"))?;
            for name in names.split(',').map(|name| name.trim().to_ascii_lowercase()) {
                match name.strip_prefix(PREFIX) {
                    Some(name) => declared.expect(known(name)?, Expected::Trailer)?,
                    // The signature of signed trailers is s3s's to check.
                    None if name == "x-amz-trailer-signature" || name.is_empty() => {}
                    None => return Err(not_implemented(&format!("the trailer {name}"))),
                }
            }
        }
        Ok(declared)
    }

    fn expect(&mut self, algorithm: Algorithm, expected: Expected) -> S3Result<()> {
        if self.sum.is_some() {
            return Err(s3_error!(InvalidRequest, "a body takes one checksum; more than one is declared"));
        }
        self.sum = Some((algorithm, expected));
        Ok(())
    }

    pub(crate) fn trailer(mut self, trailer: Option<TrailingHeaders>) -> Self {
        self.trailer = trailer;
        self
    }

    pub(crate) fn length(mut self, length: Option<u64>) -> Self {
        self.length = length;
        self
    }

    pub(crate) fn without_sum(mut self) -> Self {
        self.sum = None;
        self
    }

    /// The sum that somebody must compute.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        self.sum.as_ref().map(|(algorithm, _)| *algorithm)
    }

    /// For the store to ask after the last byte.
    pub(crate) fn verify(self) -> Verify {
        Box::new(move |sums| self.check(sums).map_err(|refused| StoreError::Refused(Box::new(refused))))
    }

    fn check(&self, sums: &Sums) -> S3Result<()> {
        if let Some(length) = self.length.filter(|length| *length != sums.size) {
            return Err(s3_error!(IncompleteBody, "{length} bytes were announced and {} came", sums.size));
        }
        if self.md5.is_some_and(|declared| declared != sums.md5) {
            return Err(s3_error!(BadDigest, "the MD5 of the bytes received is not that of Content-MD5"));
        }
        let Some((algorithm, expected)) = &self.sum else { return Ok(()) };
        let name = algorithm.name();
        let found = sums.found.get(algorithm).map(|sum| BASE64.encode(sum));
        let declared = match expected {
            Expected::Header(sum) => Some(sum.clone()),
            Expected::Trailer => self.trailer.as_ref().and_then(|trailer| {
                let sum = trailer.read(|t| t.get(format!("{PREFIX}{name}")).map(|v| v.as_bytes().to_owned()));
                sum.flatten().map(|sum| String::from_utf8_lossy(&sum).trim().to_owned())
            }),
        };
        match (found, declared) {
            (Some(found), Some(declared)) if found == declared => Ok(()),
            (None, Some(_)) => Err(s3_error!(InternalError, "the {name} of the body was not computed")),
            (_, Some(_)) => Err(s3_error!(BadDigest, "the {name} of the bytes received is not the one declared")),
            (_, None) => Err(s3_error!(InvalidRequest, "the trailer {PREFIX}{name} was announced and did not come")),
        }
    }
}

fn known(name: &str) -> S3Result<Algorithm> {
    name.parse().map_err(|()| not_implemented(&format!("{PREFIX}{name}")))
}

/// The sum in the headers of a request without a body of its own.
pub(crate) fn sum_header(headers: &HeaderMap) -> S3Result<Option<(Algorithm, String)>> {
    Ok(match Declared::from_headers(headers)?.sum {
        Some((algorithm, Expected::Header(sum))) => Some((algorithm, sum)),
        _ => None,
    })
}

/// Why a body of XML was refused, for `door`.
#[derive(Clone, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<S3Error>>>);

impl Verdict {
    pub(crate) fn take(&self) -> Option<S3Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body of XML, hashed as it passes and compared at its end.
pub(crate) fn checked<S>(body: S, declared: Declared) -> (impl Stream<Item = Result<Bytes, StdError>> + Send, Verdict)
where
    S: Stream<Item = Result<Bytes, StdError>> + Send + Unpin + 'static,
{
    let verdict = Verdict::default();
    let wanted = |algorithm| declared.algorithm() == Some(algorithm);
    let sums = ChecksumHasher {
        crc32: wanted(Algorithm::Crc32).then(Crc32::new),
        crc32c: wanted(Algorithm::Crc32c).then(Crc32c::new),
        sha1: wanted(Algorithm::Sha1).then(Sha1::new),
        sha256: wanted(Algorithm::Sha256).then(Sha256::new),
        crc64nvme: wanted(Algorithm::Crc64Nvme).then(Crc64Nvme::new),
    };
    let state = Some((body, sums, declared.md5.map(|_| Md5::new()), 0_u64, declared, verdict.clone()));
    let stream = stream::unfold(state, |state| async {
        let (mut body, mut sums, mut md5, mut size, declared, verdict) = state?;
        match body.next().await {
            Some(Ok(bytes)) => {
                size += bytes.len() as u64;
                sums.update(&bytes);
                if let Some(md5) = &mut md5 {
                    md5.update(&bytes);
                }
                Some((Ok(bytes), Some((body, sums, md5, size, declared, verdict))))
            }
            Some(Err(e)) => {
                *verdict.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(crate::body::broken(&*e));
                Some((Err(e), None))
            }
            None => {
                let sums = sums.finalize();
                let found = [
                    (Algorithm::Crc32, sums.checksum_crc32),
                    (Algorithm::Crc32c, sums.checksum_crc32c),
                    (Algorithm::Crc64Nvme, sums.checksum_crc64nvme),
                    (Algorithm::Sha1, sums.checksum_sha1),
                    (Algorithm::Sha256, sums.checksum_sha256),
                ];
                let decoded = |sum: String| BASE64.decode(sum.as_bytes()).unwrap_or_default();
                let found = found.into_iter().filter_map(|(a, sum)| Some((a, decoded(sum?)))).collect();
                let refused =
                    declared.check(&Sums { size, md5: md5.map(Md5::finalize).unwrap_or_default(), found }).err()?;
                let message = refused.message().unwrap_or("the body is not what was announced").to_owned();
                *verdict.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
                Some((Err(std::io::Error::other(message).into()), None))
            }
        }
    });
    (Box::pin(stream), verdict)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn declared(headers: &[(&'static str, &'static str)]) -> S3Result<Declared> {
        let map = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Declared::from_headers(&HeaderMap::from_iter(map))
    }

    fn code(result: S3Result<()>) -> String {
        result.map_or_else(|e| e.code().as_str().to_owned(), |()| "ok".to_owned())
    }

    #[test]
    fn a_body_must_be_what_its_sender_says() {
        let mut found = BTreeMap::new();
        found.insert(Algorithm::Crc32, vec![0, 0, 0, 1]);
        let sums = Sums { size: 3, md5: [7; 16], found };
        let check = |headers: &[(&'static str, &'static str)], length| {
            code(declared(headers).and_then(|declared| declared.length(length).check(&sums)))
        };
        assert_eq!(check(&[], None), "ok");
        assert_eq!(check(&[], Some(4)), "IncompleteBody");
        assert_eq!(check(&[("content-md5", "BwcHBwcHBwcHBwcHBwcHBw==")], Some(3)), "ok");
        assert_eq!(check(&[("content-md5", "AwcHBwcHBwcHBwcHBwcHBw==")], None), "BadDigest");
        for bad in ["", "x", "BwcH"] {
            assert_eq!(code(declared(&[("content-md5", bad)]).map(drop)), "InvalidDigest");
        }
        assert_eq!(check(&[("x-amz-checksum-crc32", "AAAAAQ==")], None), "ok");
        assert_eq!(check(&[("x-amz-checksum-crc32", "bad")], None), "BadDigest");
        assert_eq!(check(&[("x-amz-trailer", "x-amz-checksum-crc32")], None), "InvalidRequest");
        assert_eq!(check(&[("x-amz-checksum-sha256", "AAAAAQ==")], None), "InternalError");
    }

    #[test]
    fn sums_are_known_and_single() {
        let code = |headers: &[(&'static str, &'static str)]| code(declared(headers).map(drop));
        assert_eq!(code(&[("x-amz-checksum-md4", "x")]), "NotImplemented");
        assert_eq!(code(&[("x-amz-trailer", "x-amz-meta-a")]), "NotImplemented");
        assert_eq!(code(&[("x-amz-checksum-crc32", "a"), ("x-amz-checksum-sha1", "b")]), "InvalidRequest");
        assert_eq!(code(&[("x-amz-checksum-mode", "ENABLED"), ("x-amz-checksum-algorithm", "CRC32")]), "ok");
        let trailing = declared(&[("x-amz-trailer", "X-Amz-Checksum-CRC64NVME, x-amz-trailer-signature")]);
        assert_eq!(trailing.unwrap().algorithm(), Some(Algorithm::Crc64Nvme));
    }
}
