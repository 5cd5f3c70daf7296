//! Where a service's error becomes S3's: the code clients know, our sentence.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use muonic_services::Error;
use muonic_types::ErrorCode;
use s3s::{S3Error, S3ErrorCode};

/// Marks an answer 500 that the server has made, for `door`: s3s answers 500
/// to some faults of the client too.
pub(crate) const FAULT: HeaderName = HeaderName::from_static("x-muonic-fault");

pub(crate) fn with_headers<const N: usize>(mut error: S3Error, headers: [(HeaderName, HeaderValue); N]) -> S3Error {
    let mut all = HeaderMap::from_iter(headers);
    // s3s puts these in the place of its own.
    all.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    error.set_headers(all);
    error
}

pub(crate) fn not_implemented(what: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::NotImplemented, format!("not implemented: {what}"))
}

/// `NotFound` is about the bucket: services answer `None` for a key.
pub(crate) fn from_service(error: Error) -> S3Error {
    let code = match error.code {
        ErrorCode::InvalidRequest => S3ErrorCode::InvalidArgument,
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => S3ErrorCode::AccessDenied,
        ErrorCode::NotFound => S3ErrorCode::NoSuchBucket,
        ErrorCode::Conflict => S3ErrorCode::OperationAborted,
        ErrorCode::PreconditionFailed => S3ErrorCode::PreconditionFailed,
        ErrorCode::TooLarge => S3ErrorCode::KeyTooLongError,
        ErrorCode::ChecksumMismatch => S3ErrorCode::BadDigest,
        ErrorCode::NotImplemented => S3ErrorCode::NotImplemented,
        ErrorCode::TooManyRequests => S3ErrorCode::SlowDown,
        ErrorCode::Unavailable | ErrorCode::NoReplica | ErrorCode::DeadlineExceeded => S3ErrorCode::ServiceUnavailable,
        ErrorCode::DiskFull => S3ErrorCode::Custom("InsufficientStorage".into()),
        _ => S3ErrorCode::InternalError,
    };
    renamed(error, code)
}

/// The service's sentence under a code that fits the operation better.
pub(crate) fn renamed(error: Error, code: S3ErrorCode) -> S3Error {
    let message = match &error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message.clone(),
    };
    let status = error.code;
    let retry = HeaderValue::from_static("1");
    let mut answer = S3Error::with_message(code.clone(), message);
    match (status, code) {
        (ErrorCode::DiskFull, _) => {
            answer.set_status_code(http::StatusCode::INSUFFICIENT_STORAGE);
            answer
        }
        (_, S3ErrorCode::InternalError) => with_headers(answer, [(FAULT, HeaderValue::from_static("1"))]),
        (_, S3ErrorCode::SlowDown | S3ErrorCode::ServiceUnavailable) => with_headers(answer, [(RETRY_AFTER, retry)]),
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_server_are_told_from_those_of_others() {
        let answer = |code| from_service(Error::new(code, "what").hint("do this")).to_http_response().unwrap();
        let full = answer(ErrorCode::DiskFull);
        assert_eq!(full.status().as_u16(), 507);
        let fault = answer(ErrorCode::Internal);
        assert_eq!(fault.status().as_u16(), 500);
        assert!(fault.headers().contains_key(FAULT));
        let later = answer(ErrorCode::Unavailable);
        assert_eq!(later.status().as_u16(), 503);
        assert_eq!(later.headers()[RETRY_AFTER], "1");
        assert_eq!(later.headers()[CONTENT_TYPE], "application/xml");
        for code in [ErrorCode::InvalidRequest, ErrorCode::Forbidden, ErrorCode::NotFound, ErrorCode::TooLarge] {
            assert!(answer(code).status().is_client_error(), "{code:?}");
        }
        let error = from_service(Error::new(ErrorCode::Forbidden, "what").hint("do this"));
        assert_eq!(error.message(), Some("what; do this"));
    }
}
