//! Bodies that do not say how long they are (`Transfer-Encoding: chunked`).
//! s3s asks for a length of each body whose hash is signed, and reports a
//! shorter one as incomplete. So it is told one that no body has; how much
//! came, and whether it has the hash that was signed, is checked here.

use std::io;

use data_encoding::HEXLOWER;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use muonic_ports::object_store::ByteStream;
use s3s::crypto::{Checksum as _, Sha256};
use s3s::{S3Error, s3_error};

use crate::errors::custom;

/// What s3s says of a body that ended properly before the length it was told.
const ENDED: &str = "UploadStreamError: Incomplete";

/// Among the extensions of such a request.
#[derive(Debug, Clone)]
pub(crate) struct Unmeasured {
    /// In hexadecimal, where it is signed.
    sha256: Option<String>,
}

/// For requests whose body is the bytes of an object.
pub(crate) fn mark(parts: &mut Parts) {
    let said = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_chunked = said(TRANSFER_ENCODING.as_str()).to_ascii_lowercase().ends_with("chunked");
    let sha256 = said("x-amz-content-sha256");
    if !is_chunked || parts.headers.contains_key(CONTENT_LENGTH) || sha256.starts_with("STREAMING-") {
        return;
    }
    let sha256 = Some(sha256).filter(|sum| sum.len() == 64).map(str::to_ascii_lowercase);
    parts.extensions.insert(Unmeasured { sha256 });
    announce(&mut parts.headers);
}

fn announce(headers: &mut HeaderMap) {
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("1152921504606846976"));
}

impl Unmeasured {
    /// The body, ended in an error where it is longer than `max` bytes or has
    /// another hash.
    pub fn checked(self, body: ByteStream, max: u64) -> ByteStream {
        let state = Some((body, Sha256::new(), 0_u64, self.sha256));
        Box::pin(stream::unfold(state, move |state| async move {
            let (mut body, mut hash, mut size, wanted) = state?;
            let refused = match body.next().await {
                Some(Ok(bytes)) => {
                    size += bytes.len() as u64;
                    if size <= max {
                        hash.update(&bytes);
                        return Some((Ok(bytes), Some((body, hash, size, wanted))));
                    }
                    s3_error!(EntityTooLarge, "one body has at most {max} bytes; larger objects go in parts")
                }
                Some(Err(e)) if !e.to_string().contains(ENDED) => return Some((Err(e), None)),
                Some(Err(_)) | None => match wanted {
                    Some(wanted) if wanted != HEXLOWER.encode(&hash.finalize()) => other_hash(),
                    _ => return None,
                },
            };
            Some((Err(io::Error::other(refused)), None))
        }))
    }
}

fn other_hash() -> S3Error {
    let what = "the SHA-256 of the bytes received is not that of x-amz-content-sha256";
    custom("XAmzContentSHA256Mismatch", http::StatusCode::BAD_REQUEST, what)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::body::broken;

    fn marked(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method("PUT").uri("/b/k");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        mark(&mut parts);
        parts
    }

    async fn read(sha256: Option<&str>, end: Option<&'static str>, max: u64) -> Result<usize, String> {
        let pieces = [Ok(Bytes::from_static(b"ab")), Ok(Bytes::from_static(b"c"))];
        let end = end.map(|text| Err(io::Error::other(text)));
        let body: ByteStream = Box::pin(stream::iter(pieces.into_iter().chain(end)));
        let mut body = Unmeasured { sha256: sha256.map(str::to_owned) }.checked(body, max);
        let mut size = 0;
        while let Some(piece) = body.next().await {
            size += piece.map_err(|e| broken(&e).code().as_str().to_owned())?.len();
        }
        Ok(size)
    }

    #[test]
    fn only_bodies_without_a_length_are_marked() {
        let has = |headers: &[(&str, &str)]| marked(headers).extensions.get::<Unmeasured>().is_some();
        assert!(has(&[("transfer-encoding", "chunked")]));
        assert!(!has(&[("content-length", "3")]));
        assert!(!has(&[("transfer-encoding", "chunked"), ("content-length", "3")]));
        assert!(!has(&[
            ("transfer-encoding", "chunked"),
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        ]));
    }

    #[tokio::test]
    async fn hash_and_length_are_checked_at_the_end() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for end in [None, Some(ENDED)] {
            assert_eq!(read(Some(abc), end, 3).await, Ok(3));
            assert_eq!(read(None, end, 3).await, Ok(3));
            assert_eq!(read(Some(&abc.replace('b', "c")), end, 3).await, Err("XAmzContentSHA256Mismatch".to_owned()));
        }
        assert_eq!(read(None, None, 2).await, Err("EntityTooLarge".to_owned()));
        assert_eq!(read(Some(abc), Some("cut off"), 3).await, Err("IncompleteBody".to_owned()));
    }
}
