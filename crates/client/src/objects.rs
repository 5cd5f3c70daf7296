//! Objects by the S3 door, which takes the same key: as much of S3 as it takes
//! to put a small one.
//!
//! Source of the signature: AWS Signature Version 4, "Authenticating Requests
//! (Authorization header)".

use muonic_types::{Digest, Hasher, Timestamp};
use std::fmt::Write;

use crate::{Client, Error, Result};

/// Any will do.
const REGION: &str = "us-east-1";
const ERROR_BYTES_MAX: u64 = 64 << 10;

impl Client {
    /// Puts an object into a bucket; idempotent. `s3_url` is the S3 door's
    /// address, `now` the time that the request is signed for.
    pub fn object_put(&self, s3_url: &str, bucket: &str, key: &str, bytes: &[u8], now: Timestamp) -> Result<()> {
        let s3_url = s3_url.trim_end_matches('/');
        let host = s3_url.split_once("://").map_or(s3_url, |(_, host)| host);
        let path = format!("/{}/{}", escaped(bucket), key.split('/').map(escaped).collect::<Vec<_>>().join("/"));
        let (id, secret) = self.token.split_once('.').unwrap_or((&self.token, ""));
        let signed = Signed::new(id, secret, host, &path, bytes, now);
        let broken = |e: &dyn std::fmt::Display| Error::Connection { url: s3_url.to_owned(), reason: e.to_string() };
        let request = ureq::http::Request::put(format!("{s3_url}{path}"))
            .header("x-amz-date", signed.time)
            .header("x-amz-content-sha256", signed.content)
            .header("authorization", signed.authorization)
            .body(bytes)
            .map_err(|e| broken(&e))?;
        let mut response = self.agent.run(request).map_err(|e| broken(&e))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let text = response.body_mut().with_config().limit(ERROR_BYTES_MAX).read_to_string().unwrap_or_default();
        let between = |open: &str, close: &str| text.split_once(open)?.1.split_once(close).map(|(said, _)| said);
        let reason = between("<Message>", "</Message>").unwrap_or("it gave no reason");
        let reason = format!("{bucket}/{key} was answered {status}: {reason}");
        Err(if status >= 500 { broken(&reason) } else { Error::Protocol { url: s3_url.to_owned(), reason } })
    }
}

struct Signed {
    time: String,
    content: String,
    authorization: String,
}

impl Signed {
    fn new(id: &str, secret: &str, host: &str, path: &str, bytes: &[u8], now: Timestamp) -> Self {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = time.get(..8).unwrap_or_default();
        let content = Digest::of(bytes).hex();
        let headers = "host;x-amz-content-sha256;x-amz-date";
        let request = format!(
            "PUT\n{path}\n\nhost:{host}\nx-amz-content-sha256:{content}\nx-amz-date:{time}\n\n{headers}\n{content}"
        );
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", Digest::of(request.as_bytes()).hex());
        let mut key = hmac(format!("AWS4{secret}").as_bytes(), day.as_bytes());
        for part in [REGION, "s3", "aws4_request", &text] {
            key = hmac(key.as_bytes(), part.as_bytes());
        }
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={headers}, Signature={}", key.hex());
        Self { time, content, authorization }
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Digest {
    let mut block = [0; 64];
    let hashed = Digest::of(key);
    let key = if key.len() > block.len() { hashed.as_bytes() } else { key };
    block[..key.len()].copy_from_slice(key);
    let keyed = |pad: u8, message: &[u8]| {
        let mut hasher = Hasher::new();
        hasher.update(&block.map(|byte| byte ^ pad));
        hasher.update(message);
        hasher.finish()
    };
    keyed(0x5c, keyed(0x36, message).as_bytes())
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases 1 and 6 of RFC 4231.
    #[test]
    fn a_keyed_hash_is_the_standards() {
        assert_eq!(
            hmac(&[0x0b; 20], b"Hi There").hex(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First").hex(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn names_are_escaped_as_s3_wants() {
        assert_eq!(escaped("a b/ü~1"), "a%20b%2F%C3%BC~1");
    }
}
