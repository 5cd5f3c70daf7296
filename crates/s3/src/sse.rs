//! Encryption by the server, as headers ask for it: with its own key (SSE-S3),
//! with a key by name (SSE-KMS), with a key that the customer sends (SSE-C).

use data_encoding::BASE64;
use http::HeaderMap;
use muonic_ports::object_store::{CustomerKey, NewEncryption};
use s3s::crypto::{Checksum as _, Md5};
use s3s::{S3Result, s3_error};

use crate::draft::text;
use crate::errors::{custom, not_implemented};

pub(crate) const SSE: &str = "x-amz-server-side-encryption";

/// How the request wants it encrypted; `None` where it does not say.
pub(crate) fn encryption(headers: &HeaderMap) -> S3Result<Option<NewEncryption>> {
    let customer = customer_key(headers, SSE)?;
    let sse = text(headers, SSE)?;
    let key = text(headers, "x-amz-server-side-encryption-aws-kms-key-id")?;
    if headers.contains_key("x-amz-server-side-encryption-context") {
        return Err(not_implemented("x-amz-server-side-encryption-context"));
    }
    if customer.is_some() && (sse.is_some() || key.is_some()) {
        return Err(s3_error!(
            InvalidArgument,
            "a key of the customer and encryption by the server exclude each other"
        ));
    }
    match (sse, key) {
        (None, None) => Ok(customer.map(|sent| NewEncryption::Customer(sent.key))),
        (Some("AES256"), None) => Ok(Some(NewEncryption::Store)),
        (Some("aws:kms"), key) => Ok(Some(NewEncryption::Named(key.map(str::to_owned)))),
        (Some("aws:kms:dsse"), _) => Err(not_implemented("x-amz-server-side-encryption: aws:kms:dsse")),
        (_, Some(_)) => Err(s3_error!(InvalidArgument, "a key id is for x-amz-server-side-encryption: aws:kms only")),
        (Some(_), None) => Err(s3_error!(InvalidArgument, "x-amz-server-side-encryption is AES256 or aws:kms")),
    }
}

/// A key of the customer, and its MD5 in Base64.
#[derive(Debug)]
pub(crate) struct SentKey {
    pub key: CustomerKey,
    pub md5: String,
}

/// The key that the customer sends; `prefix` tells that of a copy's source.
pub(crate) fn customer_key(headers: &HeaderMap, prefix: &str) -> S3Result<Option<SentKey>> {
    let name = |end: &str| format!("{prefix}-customer-{end}");
    // Most requests have none of them, and look no further.
    if !headers.keys().any(|n| n.as_str().strip_prefix(prefix).is_some_and(|end| end.starts_with("-customer-"))) {
        return Ok(None);
    }
    let field = |end: &str| {
        let missing = || s3_error!(InvalidArgument, "a key of the customer needs the header {}", name(end));
        text(headers, &name(end)).and_then(|value| value.ok_or_else(missing))
    };
    if field("algorithm")? != "AES256" {
        let what = format!("{} must be AES256", name("algorithm"));
        return Err(custom("InvalidEncryptionAlgorithmError", http::StatusCode::BAD_REQUEST, what));
    }
    let key = BASE64.decode(field("key")?.as_bytes()).ok().and_then(|key| <[u8; 32]>::try_from(key).ok());
    let bad = || s3_error!(InvalidArgument, "{} must be the base64 of 32 bytes", name("key"));
    let key = key.ok_or_else(bad)?;
    let md5 = BASE64.encode(&Md5::checksum(&key));
    if field("key-md5")? != md5 {
        return Err(s3_error!(InvalidArgument, "{} is not the MD5 of the key", name("key-md5")));
    }
    Ok(Some(SentKey { key: CustomerKey { key }, md5 }))
}

/// Reads say how bytes come back, not how they lie.
pub(crate) fn refuse_encryption_of_reads(headers: &HeaderMap) -> S3Result<()> {
    if headers.contains_key(SSE) {
        return Err(s3_error!(InvalidArgument, "{SSE} is for writes; leave it out"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn map(headers: &[(&'static str, &[u8])]) -> HeaderMap {
        let value = |value: &[u8]| http::HeaderValue::from_bytes(value).unwrap();
        HeaderMap::from_iter(headers.iter().map(|(name, v)| (name.parse().unwrap(), value(v))))
    }

    fn code(result: S3Result<Option<NewEncryption>>) -> String {
        result.map_or_else(|e| e.code().as_str().to_owned(), |_| "ok".to_owned())
    }

    #[test]
    fn encryption_is_one_way_or_none() {
        let key = BASE64.encode(&[7; 32]);
        let md5 = BASE64.encode(&Md5::checksum(&[7; 32]));
        let customer = |algorithm: &'static str, key: &str, md5: &str| {
            let mut headers = map(&[("x-amz-server-side-encryption-customer-algorithm", algorithm.as_bytes())]);
            for (name, value) in [("key", key), ("key-md5", md5)] {
                let name = format!("x-amz-server-side-encryption-customer-{name}");
                headers.insert(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
            }
            headers
        };
        let good = customer("AES256", &key, &md5);
        assert!(matches!(encryption(&good).unwrap(), Some(NewEncryption::Customer(_))));
        let mut both = good.clone();
        both.insert(SSE, "AES256".parse().unwrap());
        assert_eq!(code(encryption(&both)), "InvalidArgument");
        assert_eq!(code(encryption(&customer("AES192", &key, &md5))), "InvalidEncryptionAlgorithmError");
        assert_eq!(code(encryption(&customer("AES256", "AAAA", &md5))), "InvalidArgument");
        assert_eq!(code(encryption(&customer("AES256", &key, "AAAA"))), "InvalidArgument");
        for (headers, want) in [
            (map(&[(SSE, b"AES256")]), Some(NewEncryption::Store)),
            (map(&[(SSE, b"aws:kms")]), Some(NewEncryption::Named(None))),
            (map(&[]), None),
        ] {
            assert_eq!(encryption(&headers).unwrap(), want);
        }
        assert_eq!(code(encryption(&map(&[(SSE, b"aes:kms")]))), "InvalidArgument");
        let alone = map(&[("x-amz-server-side-encryption-aws-kms-key-id", b"k")]);
        assert_eq!(code(encryption(&alone)), "InvalidArgument");
    }
}
