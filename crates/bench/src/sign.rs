//! Signature version 4 in the Authorization header.
//!
//! Signed are host, x-amz-content-sha256 and x-amz-date, and nothing else. A
//! signature is good for 15 minutes, so that one made beforehand can be sent many times.

use data_encoding::HEXLOWER;
use ring::{digest, hmac};

pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

pub struct Signer {
    key_id: String,
    key: hmac::Key,
    host: String,
    date: String,
    scope: String,
}

impl Signer {
    /// A signer for requests at `date`, such as `20260131T235959Z`.
    pub fn new(key_id: &str, secret: &str, host: &str, date: &str) -> Self {
        let day = date.get(..8).unwrap_or(date);
        let mut key = hmac::sign(&hmac_key(format!("AWS4{secret}").as_bytes()), day.as_bytes());
        for part in ["us-east-1", "s3", "aws4_request"] {
            key = hmac::sign(&hmac_key(key.as_ref()), part.as_bytes());
        }
        Self {
            key_id: key_id.to_owned(),
            key: hmac_key(key.as_ref()),
            host: host.to_owned(),
            date: date.to_owned(),
            scope: format!("{day}/us-east-1/s3/aws4_request"),
        }
    }

    /// The Authorization header. `path` is encoded already, `query` sorted and encoded, `payload` a SHA-256 in hex
    /// or [`UNSIGNED`].
    pub fn authorization(&self, method: &str, path: &str, query: &str, payload: &str) -> String {
        const HEADERS: &str = "host;x-amz-content-sha256;x-amz-date";
        let request = format!(
            "{method}\n{path}\n{query}\nhost:{}\nx-amz-content-sha256:{payload}\nx-amz-date:{}\n\n{HEADERS}\n{payload}",
            self.host, self.date
        );
        let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{}\n{}\n{hash}", self.date, self.scope);
        let signature = HEXLOWER.encode(hmac::sign(&self.key, text.as_bytes()).as_ref());
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={HEADERS}, Signature={signature}",
            self.key_id, self.scope
        )
    }
}

/// Encodes as signature version 4 wants it: all but unreserved characters.
pub fn encode(text: &str, keep_slash: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slash && byte == b'/') {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn hmac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published example "GET Bucket Lifecycle", whose signed headers are ours.
    #[test]
    fn signs_as_the_published_example() {
        let signer = Signer::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "examplebucket.s3.amazonaws.com",
            "20130524T000000Z",
        );
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let header = signer.authorization("GET", "/", "lifecycle=", empty);
        assert!(
            header.ends_with("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            "{header}"
        );
    }

    #[test]
    fn encodes_all_but_the_unreserved() {
        assert_eq!(encode("a/b c+~", true), "a/b%20c%2B~");
        assert_eq!(encode("a/b", false), "a%2Fb");
    }
}
