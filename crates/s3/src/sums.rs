//! Sums over a body as it streams: MD5 for the ETag, and whatever the client
//! has declared, in headers or in a trailer. A body that does not match ends
//! in an error, so the store keeps nothing of it.
//!
//! Hashing runs on a blocking thread, beside the stream and never more than
//! two pieces of work behind it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use muonic_ports::blob_store::ByteStream;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::Checksum;
use s3s::{S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders, s3_error};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::errors::not_implemented;

/// Bytes hashed in one go.
const WORK_BYTES: usize = 512 << 10;
const WORK_PIECES: usize = 1024;
/// Less than this is hashed on the spot.
const SPOT_BYTES: usize = 32 << 10;

const PREFIX: &str = "x-amz-checksum-";
/// Sums by the last part of their header, and their length in bytes.
const KNOWN: [(&str, usize); 5] = [("crc32", 4), ("crc32c", 4), ("crc64nvme", 8), ("sha1", 20), ("sha256", 32)];
/// Headers with that prefix which are not sums.
const OTHERS: [&str; 3] = ["algorithm", "mode", "type"];

/// What a client has said about a body.
#[derive(Default)]
pub(crate) struct Declared {
    md5: Option<[u8; 16]>,
    /// By name, in base64.
    sums: Vec<(&'static str, String)>,
    /// Names of sums that come in the trailer.
    trailing: Vec<&'static str>,
    trailer: Option<TrailingHeaders>,
    length: Option<u64>,
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
            let (name, len) = known(name)?;
            if !BASE64.decode(value.as_bytes()).is_ok_and(|sum| sum.len() == len) {
                return Err(s3_error!(InvalidRequest, "the value of {PREFIX}{name} must be the base64 of {len} bytes"));
            }
            declared.sums.push((name, String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
        for value in headers.get_all("x-amz-trailer") {
            let names = value.to_str().map_err(|_| s3_error!(InvalidRequest, "x-amz-trailer is not text"))?;
            for name in names.split(',').map(|name| name.trim().to_ascii_lowercase()) {
                match name.strip_prefix(PREFIX) {
                    Some(name) => declared.trailing.push(known(name)?.0),
                    // The signature of signed trailers is s3s's to check.
                    None if name == "x-amz-trailer-signature" || name.is_empty() => {}
                    None => return Err(not_implemented(&format!("the trailer {name}"))),
                }
            }
        }
        Ok(declared)
    }

    pub(crate) fn trailer(mut self, trailer: Option<TrailingHeaders>) -> Self {
        self.trailer = trailer;
        self
    }

    pub(crate) fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    fn hashers(&self) -> Hashers {
        let wanted = |name| self.trailing.contains(&name) || self.sums.iter().any(|(sum, _)| *sum == name);
        Hashers {
            bytes: 0,
            md5: Md5::new(),
            sums: ChecksumHasher {
                crc32: wanted("crc32").then(Crc32::new),
                crc32c: wanted("crc32c").then(Crc32c::new),
                sha1: wanted("sha1").then(Sha1::new),
                sha256: wanted("sha256").then(Sha256::new),
                crc64nvme: wanted("crc64nvme").then(Crc64Nvme::new),
            },
        }
    }

    fn check(&self, bytes: u64, md5: [u8; 16], sums: Checksum) -> S3Result<Found> {
        if let Some(length) = self.length.filter(|length| *length != bytes) {
            return Err(s3_error!(IncompleteBody, "{length} bytes were announced and {bytes} came"));
        }
        if self.md5.is_some_and(|declared| declared != md5) {
            return Err(s3_error!(BadDigest, "the MD5 of the bytes received is not that of Content-MD5"));
        }
        let found = [
            ("crc32", sums.checksum_crc32),
            ("crc32c", sums.checksum_crc32c),
            ("crc64nvme", sums.checksum_crc64nvme),
            ("sha1", sums.checksum_sha1),
            ("sha256", sums.checksum_sha256),
        ];
        let found: Vec<_> = found.into_iter().filter_map(|(name, sum)| Some((name, sum?))).collect();
        let matches = |name: &str, declared: &str| found.iter().any(|(n, sum)| *n == name && sum == declared);
        for (name, declared) in &self.sums {
            if !matches(name, declared) {
                return Err(s3_error!(BadDigest, "the {name} of the bytes received is not that of {PREFIX}{name}"));
            }
        }
        let trailer = self.trailer.as_ref().and_then(TrailingHeaders::take).unwrap_or_default();
        for name in &self.trailing {
            match trailer.get(format!("{PREFIX}{name}")).map(|value| value.to_str()) {
                Some(Ok(declared)) if matches(name, declared.trim()) => {}
                Some(_) => {
                    return Err(s3_error!(BadDigest, "the {name} of the bytes received is not that of the trailer"));
                }
                None => {
                    return Err(s3_error!(InvalidRequest, "the trailer {PREFIX}{name} was announced and did not come"));
                }
            }
        }
        let sums = found.into_iter().map(|(name, sum)| (format!("{PREFIX}{name}"), sum)).collect();
        Ok(Found { etag: HEXLOWER.encode(&md5), sums })
    }
}

fn known(name: &str) -> S3Result<(&'static str, usize)> {
    KNOWN.into_iter().find(|(known, _)| *known == name).ok_or_else(|| not_implemented(&format!("{PREFIX}{name}")))
}

/// The sums of a body that matched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub etag: String,
    /// Verified sums, by header.
    pub sums: Vec<(String, String)>,
}

/// Filled when the body has ended.
#[derive(Clone, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<S3Result<Found>>>>);

impl Verdict {
    fn set(&self, verdict: S3Result<Found>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }

    pub(crate) fn take(&self) -> Option<S3Result<Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// `body`, hashed as it passes and compared at its end.
pub(crate) fn verified<S>(body: S, declared: Declared) -> (ByteStream, Verdict)
where
    S: Stream<Item = Result<Bytes, StdError>> + Send + Unpin + 'static,
{
    let verdict = Verdict::default();
    let work = Work { hashers: Some(Box::new(declared.hashers())), ..Work::default() };
    let state = Some((body, work, declared, verdict.clone()));
    let stream = stream::unfold(state, |state| async {
        let (mut body, mut work, declared, verdict) = state?;
        let refused = match body.next().await {
            Some(Ok(bytes)) => match work.add(bytes.clone()).await {
                Ok(()) => return Some((Ok(bytes), Some((body, work, declared, verdict)))),
                Err(e) => e,
            },
            Some(Err(e)) => broken(&e),
            None => {
                let checked = work.finish().await.and_then(|(bytes, md5, sums)| declared.check(bytes, md5, sums));
                match checked {
                    Ok(found) => {
                        verdict.set(Ok(found));
                        return None;
                    }
                    Err(e) => e,
                }
            }
        };
        let message = refused.message().unwrap_or("the body is not what was announced").to_owned();
        verdict.set(Err(refused));
        Some((Err(io::Error::other(message)), None))
    });
    (Box::pin(stream), verdict)
}

/// What a body that ended in an error means. The error types of s3s cannot be
/// named from outside, their texts can; tests hold them fast.
fn broken(error: &StdError) -> S3Error {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(e) = source {
        if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            return s3_error!(RequestTimeout, "no bytes came for a minute");
        }
        texts.push(e.to_string());
        source = e.source();
    }
    let says = |what: &str| texts.iter().any(|text| text.contains(what));
    if says("no bytes came for a minute") {
        s3_error!(RequestTimeout, "no bytes came for a minute")
    } else if says("Sha256Mismatch") {
        let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
        let mut e =
            S3Error::with_message(code, "the SHA-256 of the bytes received is not that of x-amz-content-sha256");
        e.set_status_code(http::StatusCode::BAD_REQUEST);
        e
    } else if says("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch, "the signature of a chunk of the body does not match")
    } else if says("FormatError") || says("TooLarge") || says("TooMany") {
        s3_error!(InvalidRequest, "the body is not well-formed aws-chunked")
    } else {
        s3_error!(IncompleteBody, "the body ended before it was complete")
    }
}

struct Hashers {
    bytes: u64,
    md5: Md5,
    sums: ChecksumHasher,
}

impl Hashers {
    fn update(&mut self, pieces: &[Bytes]) {
        for piece in pieces {
            self.bytes += piece.len() as u64;
            self.md5.update(piece);
            self.sums.update(piece);
        }
    }
}

/// Hashing beside the stream. The hashers are here or with the task.
#[derive(Default)]
struct Work {
    hashers: Option<Box<Hashers>>,
    task: Option<JoinHandle<Box<Hashers>>>,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
}

impl Work {
    async fn add(&mut self, bytes: Bytes) -> S3Result<()> {
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
        if self.waiting_bytes >= WORK_BYTES || self.waiting.len() >= WORK_PIECES {
            let mut hashers = self.hashers().await?;
            let pieces = std::mem::take(&mut self.waiting);
            self.waiting_bytes = 0;
            self.task = Some(spawn_blocking(move || {
                hashers.update(&pieces);
                hashers
            }));
        }
        Ok(())
    }

    async fn hashers(&mut self) -> S3Result<Box<Hashers>> {
        if let Some(hashers) = self.hashers.take() {
            return Ok(hashers);
        }
        match self.task.take() {
            Some(task) => task.await.map_err(S3Error::internal_error),
            None => Err(s3_error!(InternalError, "the body was hashed twice")),
        }
    }

    async fn finish(&mut self) -> S3Result<(u64, [u8; 16], Checksum)> {
        let mut hashers = self.hashers().await?;
        let pieces = std::mem::take(&mut self.waiting);
        if self.waiting_bytes <= SPOT_BYTES {
            hashers.update(&pieces);
        } else {
            hashers = spawn_blocking(move || {
                hashers.update(&pieces);
                hashers
            })
            .await
            .map_err(S3Error::internal_error)?;
        }
        let Hashers { bytes, md5, sums } = *hashers;
        Ok((bytes, md5.finalize(), sums.finalize()))
    }
}
