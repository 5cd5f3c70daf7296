//! Percent-encoding of path parts and query values.

use std::fmt::Write;

/// One path part or query value: everything but unreserved characters is encoded.
pub(crate) fn part(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte as char);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A query string of what is present, with its question mark, or nothing.
#[derive(Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn with<T: std::fmt::Display>(mut self, name: &str, value: Option<T>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&part(value));
        }
        self
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encodes_what_would_change_the_path() {
        assert_eq!(part("digits"), "digits");
        assert_eq!(part("a/b c?#%"), "a%2Fb%20c%3F%23%25");
        assert_eq!(part("sha256:00"), "sha256%3A00");
        let query = Query::default().with("name", Some("a&b")).with("state", None::<&str>).with("limit", Some(3));
        assert_eq!(query.to_string(), "?name=a%26b&limit=3");
        assert_eq!(Query::default().to_string(), "");
    }

    proptest! {
        #[test]
        fn is_reversible_and_plain(text in ".{0,40}") {
            let encoded = part(&text);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
            let mut bytes = Vec::new();
            let mut rest = encoded.bytes();
            while let Some(b) = rest.next() {
                if b == b'%' {
                    let hex = [rest.next().unwrap(), rest.next().unwrap()];
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                } else {
                    bytes.push(b);
                }
            }
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }
}
