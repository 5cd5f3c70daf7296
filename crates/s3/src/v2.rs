//! Signatures of version 2 on requests to a bucket by its path. What they
//! sign is `/bucket/`, whatever the path says, and many clients say `/bucket`;
//! s3s compares with the path as it stands.

use data_encoding::BASE64;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Uri};
use ring::hmac;

use crate::access::Access;

/// Parameters that are signed, in their order.
const SIGNED: [&str; 34] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
];

/// Adds the slash to the path of a bucket, where that is what was signed. The
/// signature itself is checked by s3s all the same.
pub(crate) fn with_slash(access: &Access, parts: &mut Parts) {
    let path = parts.uri.path();
    if path.len() < 2 || path[1..].contains('/') {
        return;
    }
    let Some((id, signature, expires)) = signature(parts) else { return };
    let Ok((_, secret)) = access.find(&id) else { return };
    let slashed = format!("{path}/");
    let text = string_to_sign(parts, &slashed, expires.as_deref());
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let Ok(signature) = BASE64.decode(signature.as_bytes()) else { return };
    if hmac::verify(&key, text.as_bytes(), &signature).is_err() {
        return;
    }
    let target = parts.uri.query().map_or(slashed.clone(), |query| format!("{slashed}?{query}"));
    if let Ok(uri) = target.parse::<Uri>() {
        parts.uri = uri;
    }
}

/// Key, signature, and the time a presigned URL ends.
pub(crate) fn signature(parts: &Parts) -> Option<(String, String, Option<String>)> {
    if let Some(header) = parts.headers.get(AUTHORIZATION) {
        let (id, signature) = header.to_str().ok()?.strip_prefix("AWS ")?.split_once(':')?;
        return Some((id.to_owned(), signature.to_owned(), None));
    }
    let query = parts.uri.query()?;
    if !query.contains("AWSAccessKeyId") {
        return None;
    }
    let one = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    };
    Some((one("AWSAccessKeyId")?, one("Signature")?, Some(one("Expires")?)))
}

pub(crate) fn string_to_sign(parts: &Parts, path: &str, expires: Option<&str>) -> String {
    let header = |name: &str| text(&parts.headers, name);
    let date = match expires {
        Some(expires) => expires,
        None if parts.headers.contains_key("x-amz-date") => "",
        None => header("date"),
    };
    let mut out = format!("{}\n{}\n{}\n{date}\n", parts.method, header("content-md5"), header("content-type"));
    let mut names: Vec<&str> = parts.headers.keys().map(|name| name.as_str()).collect();
    names.retain(|name| name.starts_with("x-amz-"));
    names.sort_unstable();
    for name in names {
        let values: Vec<&str> =
            parts.headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default().trim()).collect();
        out.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    out.push_str(path);
    let query: Vec<_> = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).collect();
    let mut join = '?';
    for signed in SIGNED.into_iter().chain(["website"]) {
        let Some((_, value)) = query.iter().find(|(name, _)| name == signed) else { continue };
        out.push(join);
        out.push_str(signed);
        if !value.is_empty() {
            out.push('=');
            out.push_str(value);
        }
        join = '&';
    }
    out
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_follows_s3() {
        let request = http::Request::builder()
            .method("PUT")
            .uri("/b?acl&prefix=x&versionId=7")
            .header("x-amz-date", "Tue, 27 Mar 2007 21:06:08 +0000")
            .header("date", "ignored")
            .header("x-amz-meta-a", " b ");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let text = string_to_sign(&parts, "/b/", None);
        let amz = "x-amz-date:Tue, 27 Mar 2007 21:06:08 +0000\nx-amz-meta-a:b\n";
        assert_eq!(text, format!("PUT\n\n\n\n{amz}/b/?acl&versionId=7"));
        assert!(string_to_sign(&parts, "/b/", Some("99")).starts_with("PUT\n\n\n99\n"));
    }
}
