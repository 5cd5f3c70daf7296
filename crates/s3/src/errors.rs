//! Where an error of the service becomes S3's: the code clients know, our
//! sentence, and the headers S3 sends with it.

use http::StatusCode;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, RETRY_AFTER};
use muonic_ports::object_store::Error as StoreError;
use muonic_services::buckets::Error;
use muonic_services::buckets::config::Kind;
use s3s::{S3Error, S3ErrorCode};

use crate::body::broken;
use crate::dates::http_date;

/// Marks an answer 500 that the server has made, for `door`: s3s answers 500
/// to some faults of the client too.
pub(crate) const FAULT: HeaderName = HeaderName::from_static("x-muonic-fault");
const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");
const VERSION: HeaderName = HeaderName::from_static("x-amz-version-id");

pub(crate) fn with_headers<const N: usize>(mut error: S3Error, headers: [(HeaderName, HeaderValue); N]) -> S3Error {
    let mut all = error.headers().cloned().unwrap_or_default();
    all.extend(HeaderMap::from_iter(headers));
    // s3s puts these in the place of its own.
    all.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    error.set_headers(all);
    error
}

/// An error whose code s3s does not know, or knows without a status.
pub(crate) fn custom(code: &'static str, status: StatusCode, message: impl Into<String>) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(code, message.into());
    error.set_status_code(status);
    error
}

pub(crate) fn not_implemented(what: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::NotImplemented, format!("not implemented: {what}"))
}

/// What is wrong, where s3s refuses with a code alone. Without characters that
/// XML would want escaped.
pub(crate) fn sentence(code: &str) -> &'static str {
    match code {
        "InvalidBucketName" => {
            "this is not a bucket name; use 3 to 63 of a-z, 0-9, - and ., with a letter or digit at both ends, and \
             nothing like an IP address"
        }
        "InvalidURI" => "the path or the query of the request cannot be read",
        "KeyTooLongError" => "the key is too long, at most 1024 bytes are allowed",
        "MalformedXML" => "the body is not the XML document that belongs to this request",
        "MissingRequestBodyError" => "the request needs a body",
        "IncompleteBody" => "the body ended before it was complete",
        "MethodNotAllowed" => "the method does not go with this path and query",
        "SignatureDoesNotMatch" => {
            "the signature does not match; check the access key, and that nothing was changed on the way"
        }
        "NotImplemented" => "not implemented: this operation",
        _ => "the request cannot be answered as it is",
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

pub(crate) fn answer(error: Error) -> S3Error {
    let text = error.to_string();
    let say = |code: S3ErrorCode| S3Error::with_message(code, text.clone());
    match error {
        Error::Denied(_) => say(S3ErrorCode::AccessDenied),
        Error::Invalid(_) => say(S3ErrorCode::InvalidArgument),
        Error::InvalidRequest(_) | Error::NotLockable => say(S3ErrorCode::InvalidRequest),
        Error::BucketName(_) => say(S3ErrorCode::InvalidBucketName),
        Error::KeyTooLong(_) => say(S3ErrorCode::KeyTooLongError),
        Error::Malformed(_) => say(S3ErrorCode::MalformedXML),
        Error::UnknownEmail(_) => say(S3ErrorCode::UnresolvableGrantByEmailAddress),
        Error::Policy(muonic_policy::Error::AccessDenied(_)) => say(S3ErrorCode::AccessDenied),
        Error::Policy(muonic_policy::Error::NotImplemented(what)) => not_implemented(what),
        Error::Policy(refused) => custom(refused.code(), StatusCode::BAD_REQUEST, text),
        Error::NotImplemented(what) => not_implemented(&what),
        Error::PartNumber { .. } => say(S3ErrorCode::InvalidPart),
        Error::Range { size } => {
            with_headers(say(S3ErrorCode::InvalidRange), [(CONTENT_RANGE, value(&format!("bytes */{size}")))])
        }
        Error::NotModified(object) => {
            let etag = value(&format!("\"{}\"", object.etag));
            let at = value(&http_date(object.modified_at));
            with_headers(say(S3ErrorCode::NotModified), [(ETAG, etag), (LAST_MODIFIED, at)])
        }
        Error::DeleteMarker { version, modified_at, is_named } => {
            let code = if is_named { S3ErrorCode::MethodNotAllowed } else { S3ErrorCode::NoSuchKey };
            let marker = (DELETE_MARKER, HeaderValue::from_static("true"));
            let at = (LAST_MODIFIED, value(&http_date(modified_at)));
            with_headers(say(code), [marker, (VERSION, value(&version.0)), at])
        }
        Error::NoLock(_) => custom("NoSuchObjectLockConfiguration", StatusCode::NOT_FOUND, text),
        Error::NoDocument(kind) => custom(no_document(kind), StatusCode::NOT_FOUND, text),
        Error::NoSuchKey(_) => {
            with_headers(say(S3ErrorCode::NoSuchKey), [(DELETE_MARKER, HeaderValue::from_static("false"))])
        }
        Error::Store(error) => from_store(error),
    }
}

fn no_document(kind: Kind) -> &'static str {
    match kind {
        Kind::Policy => "NoSuchBucketPolicy",
        Kind::Cors => "NoSuchCORSConfiguration",
        Kind::Lifecycle => "NoSuchLifecycleConfiguration",
        Kind::Encryption => "ServerSideEncryptionConfigurationNotFoundError",
        Kind::Lock => "ObjectLockConfigurationNotFoundError",
        Kind::Ownership => "OwnershipControlsNotFoundError",
        Kind::PublicAccessBlock => "NoSuchPublicAccessBlockConfiguration",
        Kind::Tags => "NoSuchTagSet",
        Kind::Acl | Kind::Location | Kind::Notification => "NoSuchConfiguration",
    }
}

pub(crate) fn from_store(error: StoreError) -> S3Error {
    let text = error.to_string();
    let code = match error {
        StoreError::Refused(refused) => {
            return match refused.downcast::<S3Error>() {
                Ok(refused) => *refused,
                Err(other) => S3Error::with_source(S3ErrorCode::InternalError, other),
            };
        }
        StoreError::Store(error) => return from_port(error),
        StoreError::NoSuchKey => {
            let error = S3Error::with_message(S3ErrorCode::NoSuchKey, text);
            return with_headers(error, [(DELETE_MARKER, HeaderValue::from_static("false"))]);
        }
        StoreError::NoSuchBucket => S3ErrorCode::NoSuchBucket,
        StoreError::BucketExists => S3ErrorCode::BucketAlreadyExists,
        StoreError::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
        StoreError::NoSuchVersion => S3ErrorCode::NoSuchVersion,
        StoreError::NoSuchUpload => S3ErrorCode::NoSuchUpload,
        StoreError::InvalidPart(_) => S3ErrorCode::InvalidPart,
        StoreError::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
        StoreError::PartTooSmall { .. } => S3ErrorCode::EntityTooSmall,
        StoreError::PreconditionFailed(_) => S3ErrorCode::PreconditionFailed,
        StoreError::BucketState(_) => S3ErrorCode::InvalidBucketState,
        StoreError::LegalHold | StoreError::Retained(_) => S3ErrorCode::AccessDenied,
        StoreError::CustomerKey(_) => S3ErrorCode::InvalidRequest,
        StoreError::NoSuchEncryptionKey(_) => return custom("KMS.NotFoundException", StatusCode::BAD_REQUEST, text),
        StoreError::Checksum(_) => S3ErrorCode::BadDigest,
        StoreError::NotSupported(_) => S3ErrorCode::NotImplemented,
    };
    S3Error::with_message(code, text)
}

fn from_port(error: muonic_ports::Error) -> S3Error {
    use muonic_ports::Error as Port;
    let error = match error {
        Port::Body(e) => return broken(&e),
        other => muonic_services::Error::from(other),
    };
    let message = match &error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message.clone(),
    };
    use muonic_types::ErrorCode;
    let code = match error.code {
        ErrorCode::DiskFull => return custom("InsufficientStorage", StatusCode::INSUFFICIENT_STORAGE, message),
        ErrorCode::Unavailable | ErrorCode::TooManyRequests => {
            let answer = S3Error::with_message(S3ErrorCode::ServiceUnavailable, message);
            return with_headers(answer, [(RETRY_AFTER, HeaderValue::from_static("1"))]);
        }
        ErrorCode::ChecksumMismatch => S3ErrorCode::BadDigest,
        ErrorCode::InvalidRequest => S3ErrorCode::InvalidRequest,
        ErrorCode::Conflict => S3ErrorCode::OperationAborted,
        _ => {
            let answer = S3Error::with_message(S3ErrorCode::InternalError, message);
            return with_headers(answer, [(FAULT, HeaderValue::from_static("1"))]);
        }
    };
    S3Error::with_message(code, message)
}

#[cfg(test)]
mod tests {
    use muonic_ports::object_store::VersionId;
    use muonic_types::Timestamp;

    use super::*;

    fn response(error: Error) -> http::Response<s3s::Body> {
        answer(error).to_http_response().unwrap()
    }

    #[test]
    fn faults_of_the_server_are_told_from_those_of_others() {
        let port = |error| response(Error::Store(StoreError::Store(error)));
        assert_eq!(port(muonic_ports::Error::DiskFull).status().as_u16(), 507);
        let fault = port(muonic_ports::Error::bug("what"));
        assert_eq!(fault.status().as_u16(), 500);
        assert!(fault.headers().contains_key(FAULT));
        let later = port(muonic_ports::Error::Unavailable("what".to_owned()));
        assert_eq!(later.status().as_u16(), 503);
        assert_eq!(later.headers()[RETRY_AFTER], "1");
        assert_eq!(later.headers()[CONTENT_TYPE], "application/xml");
        let refused = S3Error::with_message(S3ErrorCode::BadDigest, "what");
        let refused = response(Error::Store(StoreError::Refused(Box::new(refused))));
        assert_eq!(refused.status().as_u16(), 400);
    }

    #[test]
    fn each_error_has_its_status() {
        let cases = [
            (Error::Denied(String::new()), 403),
            (Error::Invalid(String::new()), 400),
            (Error::Range { size: 1 }, 416),
            (Error::PartNumber { count: 1 }, 400),
            (Error::NotImplemented("x".to_owned()), 501),
            (Error::NotLockable, 400),
            (Error::NoLock("retention"), 404),
            (StoreError::NoSuchKey.into(), 404),
            (StoreError::NoSuchVersion.into(), 404),
            (StoreError::NoSuchUpload.into(), 404),
            (StoreError::PreconditionFailed("If-Match").into(), 412),
            (StoreError::BucketNotEmpty.into(), 409),
            (StoreError::BucketState(String::new()).into(), 409),
            (StoreError::LegalHold.into(), 403),
            (StoreError::NotSupported("x").into(), 501),
            (StoreError::NoSuchEncryptionKey("x".to_owned()).into(), 400),
        ];
        for (error, status) in cases {
            let text = error.to_string();
            assert_eq!(response(error).status().as_u16(), status, "{text}");
        }
        for kind in [Kind::Policy, Kind::Cors, Kind::Encryption, Kind::Lock, Kind::Tags, Kind::Ownership] {
            assert_eq!(response(Error::NoDocument(kind)).status().as_u16(), 404, "{kind:?}");
        }
    }

    #[test]
    fn delete_markers_are_named() {
        let marker = |is_named| {
            let (version, modified_at) = (VersionId("v1".to_owned()), Timestamp::UNIX_EPOCH);
            response(Error::DeleteMarker { version, modified_at, is_named })
        };
        assert_eq!(marker(true).status().as_u16(), 405);
        let latest = marker(false);
        assert_eq!(latest.status().as_u16(), 404);
        assert_eq!(latest.headers()["x-amz-delete-marker"], "true");
        assert_eq!(latest.headers()["x-amz-version-id"], "v1");
        assert_eq!(latest.headers()["last-modified"], "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
